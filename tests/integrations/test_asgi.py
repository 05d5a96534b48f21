"""ASGI: a scope is as long as its request, holds its own statements alone, and changes nothing."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from integration_shop import USERS, Order, User
from sqlalchemy import select, text
from sqlalchemy.orm import Session
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient

import querywatch
from querywatch.integrations.asgi import ASGIMiddleware
from querywatch.samples import current_scope, open_scopes


def lazy_load(engine, limit=USERS):
    with Session(engine) as session:
        for user in session.scalars(select(User).limit(limit)):
            len(user.orders)


def scopes_of(monitor):
    monitor.flush()
    return {scope.name: (scope.scopes, scope.calls) for scope in monitor.snapshot().scopes if scope.kind == "request"}


def every_scope_of(monitor):
    assert monitor.flush()
    assert dict(monitor.internal_errors) == {}
    return {(scope.name, scope.kind): (scope.scopes, scope.calls) for scope in monitor.snapshot().scopes}


class PassingOn(BaseHTTPMiddleware):
    """Runs the application inside of it in another task."""

    async def dispatch(self, request, call_next):
        return await call_next(request)


async def background_in_the_loop(engine):
    await asyncio.sleep(0)
    lazy_load(engine)
    await asyncio.sleep(0)


@pytest.mark.parametrize("middleware", [[], [Middleware(PassingOn)]], ids=["plain", "BaseHTTPMiddleware"])
@pytest.mark.parametrize("task", [lazy_load, background_in_the_loop], ids=["in-a-thread", "in-the-loop"])
def test_a_streaming_response_is_inside_and_a_background_task_is_a_scope_of_its_own(engine, middleware, task):
    def pages():
        yield "first "
        lazy_load(engine)
        yield "last"

    async def stream(request):
        return StreamingResponse(pages(), background=BackgroundTask(task, engine))

    app = Starlette(routes=[Route("/stream/{n}", stream)], middleware=middleware)
    monitor = querywatch.install(engine, app=app)
    for _ in range(3):
        assert TestClient(app).get("/stream/7").text == "first last"
    assert every_scope_of(monitor) == {
        ("GET /stream/{n}", "request"): (3, 3 * (1 + USERS)),
        ("background:GET /stream/{n}", "task"): (3, 3 * (1 + USERS)),
    }
    findings = [one for one in monitor.findings() if one.code == "n-plus-one"]
    assert [(one.subject, one.count) for one in findings] == [("User.orders", 3 * USERS)] * 2
    assert {one.scope for one in findings} == {"GET /stream/{n}", "background:GET /stream/{n}"}


def test_a_background_task_that_is_a_loop_is_examined_as_one(engine):
    """Not each of its sessions by itself, in whatever task it runs."""

    async def send_mails():
        for _ in range(8):
            lazy_load(engine, 1)
            await asyncio.sleep(0)

    async def answer(request):
        return PlainTextResponse("yes", background=BackgroundTask(send_mails))

    app = Starlette(routes=[Route("/", answer)], middleware=[Middleware(PassingOn)])
    monitor = querywatch.install(engine, app=app)
    TestClient(app).get("/")
    assert every_scope_of(monitor) == {("background:GET /", "task"): (1, 16)}


def test_an_error_in_a_background_task_passes_and_ends_its_scope(engine):
    def fail():
        lazy_load(engine, 1)
        raise RuntimeError("theirs")

    async def answer(request):
        lazy_load(engine, 2)
        return PlainTextResponse("yes", background=BackgroundTask(fail))

    app = Starlette(routes=[Route("/", answer)])
    monitor = querywatch.install(engine, app=app)
    with pytest.raises(RuntimeError, match="theirs"):
        TestClient(app).get("/")
    assert every_scope_of(monitor) == {("GET /", "request"): (1, 3), ("background:GET /", "task"): (1, 2)}


def test_a_connection_that_a_background_task_lets_lie_is_told_as_its_own(engine):
    """As after a FastAPI dependency whose session closes behind the background tasks."""

    async def answer(scope, receive, send):
        connection = engine.connect()
        connection.execute(text("SELECT 1"))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})
        told.append(current_scope.get())
        connection.close()

    told = []
    monitor = querywatch.install(engine, app=answer, long_transaction_s=1e-9)
    asyncio.run(monitor.app({"type": "http", "method": "GET"}, None, take))
    assert every_scope_of(monitor)["background:GET (unmatched)", "task"] == (1, 0)
    assert {idle.shape for idle in told[0].holding.idle} == {"SELECT ?"}
    assert told[0].holding.held == 0


async def take(message):
    """Send nothing to nobody."""


def test_a_client_that_goes_away_ends_its_request(engine):
    left = asyncio.Event()

    async def answer(scope, receive, send):
        lazy_load(engine, 1)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await asyncio.Event().wait()

    async def send(message):
        if message["type"] == "http.response.body":
            left.set()

    monitor = querywatch.install(engine, app=answer)

    async def ask():
        # As a server does it: the task that serves the request is cancelled.
        task = asyncio.create_task(monitor.app({"type": "http", "method": "GET"}, None, send))
        await left.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(ask())
    assert every_scope_of(monitor) == {("GET (unmatched)", "request"): (1, 2)}


def test_a_client_that_goes_away_while_it_is_sent_to(engine):
    async def answer(scope, receive, send):
        lazy_load(engine, 1)
        try:
            await send({"type": "http.response.body"})
        finally:
            lazy_load(engine, 2)

    async def send(message):
        raise OSError("gone")

    monitor = querywatch.install(engine, app=answer)
    with pytest.raises(OSError, match="gone"):
        asyncio.run(monitor.app({"type": "http", "method": "GET"}, None, send))
    assert every_scope_of(monitor) == {("GET (unmatched)", "request"): (1, 5)}


def test_a_mounted_application_with_a_watch_of_its_own_is_one_scope(engine):
    async def answer(request):
        lazy_load(engine, 1)
        return PlainTextResponse("yes", background=BackgroundTask(lazy_load, engine, 2))

    inner = Starlette(routes=[Route("/items/{n}", answer)])
    app = Starlette(routes=[Mount("/shop", inner)])
    monitor = querywatch.install(engine, app=inner)
    querywatch.install(engine, app=app)
    TestClient(app).get("/shop/items/7")
    assert every_scope_of(monitor) == {
        ("GET /shop/items/{n}", "request"): (1, 2),
        ("background:GET /shop/items/{n}", "task"): (1, 3),
    }


def test_a_synchronous_endpoint_in_a_thread_is_inside(engine):
    def answer(request):
        lazy_load(engine)
        return PlainTextResponse("yes")

    app = Starlette(routes=[Route("/", answer)], middleware=[Middleware(PassingOn)])
    monitor = querywatch.install(engine, app=app)
    TestClient(app).get("/")
    assert every_scope_of(monitor) == {("GET /", "request"): (1, 1 + USERS)}


def test_a_stream_has_its_name_while_it_lasts(engine):
    names = []

    def pages():
        yield "first"
        names.extend(scope.name for scope in open_scopes.values() if scope.kind == "request")
        yield "last"

    async def stream(request):
        return StreamingResponse(pages())

    app = Starlette(routes=[Route("/stream/{n}", stream)])
    querywatch.install(engine, app=app)
    with Session(engine) as session:
        session.scalar(select(User.id))
    TestClient(app).get("/stream/7")
    assert current_scope.get() is None
    assert names in ([], ["GET /stream/{n}"])


def test_a_websocket_connection_is_one_scope(engine):
    async def chat(websocket):
        await websocket.accept()
        async for _ in websocket.iter_text():
            lazy_load(engine, 2)
            await websocket.send_text("done")

    app = Starlette(routes=[WebSocketRoute("/chat/{room}", chat)])
    monitor = querywatch.install(engine, app=app)
    with TestClient(app).websocket_connect("/chat/7") as client:
        for _ in range(2):
            client.send_text("go")
            assert client.receive_text() == "done"
    assert scopes_of(monitor) == {"WEBSOCKET /chat/{room}": (1, 6)}


def test_what_a_websocket_wastes_is_told_while_it_is_open(engine):
    async def chat(websocket):
        await websocket.accept()
        lazy_load(engine)
        await websocket.send_text("done")
        await websocket.receive_text()

    app = Starlette(routes=[WebSocketRoute("/chat/{room}", chat)])
    monitor = querywatch.install(engine, app=app)
    with TestClient(app).websocket_connect("/chat/7") as client:
        assert client.receive_text() == "done"
        assert every_scope_of(monitor) == {}
        [finding] = [one for one in monitor.findings() if one.code == "n-plus-one"]
        assert (finding.scope, finding.count) == ("WEBSOCKET /chat/{room}", USERS)
        client.send_text("bye")
    assert every_scope_of(monitor) == {("WEBSOCKET /chat/{room}", "request"): (1, 1 + USERS)}
    assert [one.count for one in monitor.findings() if one.code == "n-plus-one"] == [USERS]


def test_a_websocket_that_is_cut_off_ends_its_scope(engine):
    async def chat(websocket):
        await websocket.accept()
        lazy_load(engine, 1)
        raise RuntimeError("theirs")

    app = Starlette(routes=[WebSocketRoute("/chat", chat)])
    monitor = querywatch.install(engine, app=app)
    with pytest.raises(RuntimeError, match="theirs"), TestClient(app).websocket_connect("/chat"):
        pass
    assert every_scope_of(monitor) == {("WEBSOCKET /chat", "request"): (1, 2)}


def test_lifespan_is_untouched_and_no_scope(engine):
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, receive, send, current_scope.get()))

    call = ({"type": "lifespan"}, object(), object())
    asyncio.run(ASGIMiddleware(app)(*call))
    assert seen == [(*call, None)]


@pytest.mark.parametrize("kind", [ValueError, asyncio.CancelledError, SystemExit], ids=lambda kind: kind.__name__)
def test_an_exception_passes_untouched_and_ends_the_scope(engine, kind):
    error = kind("as it was")
    inside = []

    async def app(scope, receive, send):
        inside.append(current_scope.get())
        raise error

    async def ask():
        with pytest.raises(kind) as caught:
            await ASGIMiddleware(app)({"type": "http", "method": "GET"}, None, None)
        assert caught.value is error
        assert current_scope.get() is None

    asyncio.run(ask())
    [scope] = inside
    assert scope.closed
    assert scope.name == "GET (unmatched)"


def test_an_error_500_is_what_it_was_and_is_counted(engine):
    async def fail(request):
        lazy_load(engine)
        raise RuntimeError("broken")

    app = Starlette(routes=[Route("/fail/{n}", fail)])
    monitor = querywatch.install(engine, app=app)
    response = TestClient(app, raise_server_exceptions=False).get("/fail/7")
    assert (response.status_code, response.text) == (500, "Internal Server Error")
    assert scopes_of(monitor) == {"GET /fail/{n}": (1, 1 + USERS)}


def test_interleaved_requests_do_not_mix(engine):
    turns = [asyncio.Event() for _ in range(2 * USERS)]

    async def take_turns(request):
        mine = int(request.path_params["mine"])
        for number in range(USERS):
            await turns[2 * number + mine].wait()
            with Session(engine) as session:
                session.scalars(select(Order.id).where(Order.user_id == number)).all()
            if 2 * number + mine + 1 < len(turns):
                turns[2 * number + mine + 1].set()
        return PlainTextResponse("done")

    # As many statements as two requests would make an N+1 of, but each of the routes runs its own share.
    app = Starlette(routes=[Route("/a/{mine}", take_turns), Route("/b/{mine}", take_turns)])
    monitor = querywatch.install(engine, app=app)

    async def ask():
        turns[0].set()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example") as client:
            await asyncio.gather(client.get("/a/0"), client.get("/b/1"))

    asyncio.run(ask())
    assert scopes_of(monitor) == {"GET /a/{mine}": (1, USERS), "GET /b/{mine}": (1, USERS)}


def test_requests_below_the_limit_do_not_add_up(engine):
    async def answer(request):
        lazy_load(engine, 3)
        return PlainTextResponse("yes")

    app = Starlette(routes=[Route("/", answer)])
    monitor = querywatch.install(engine, app=app)
    client = TestClient(app)
    for _ in range(5):
        client.get("/")
    assert scopes_of(monitor) == {"GET /": (5, 20)}
    assert monitor.findings() == []


def test_two_layers_are_one_scope(engine):
    async def answer(request):
        lazy_load(engine, 1)
        return PlainTextResponse("yes")

    app = Starlette(routes=[Route("/", answer)])
    monitor = querywatch.install(engine, app=app)
    TestClient(ASGIMiddleware(app)).get("/")
    assert scopes_of(monitor) == {"GET /": (1, 2)}


def test_a_scope_outside_goes_on_after_the_request(engine):
    async def app(scope, receive, send):
        lazy_load(engine, 1)

    async def ask():
        with querywatch.watch("a test"):
            outer = current_scope.get()
            await ASGIMiddleware(app)({"type": "http", "method": "GET"}, None, None)
            assert current_scope.get() is outer

    asyncio.run(ask())


def test_a_name_of_the_hosts_own(engine):
    async def app(scope, receive, send):
        lazy_load(engine, 1)

    monitor = querywatch.install(engine)
    asyncio.run(
        ASGIMiddleware(app, lambda scope: scope["handler"])({"type": "http", "handler": "orders.list"}, None, None)
    )
    assert scopes_of(monitor) == {"orders.list": (1, 2)}
