"""ASGI: a scope is as long as its request, holds its own statements alone, and changes nothing."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from integration_shop import USERS, Order, User
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
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


def test_a_streaming_response_and_background_tasks_are_inside(engine):
    def pages():
        yield "first "
        lazy_load(engine)
        yield "last"

    async def stream(request):
        return StreamingResponse(pages(), background=BackgroundTask(lazy_load, engine, 3))

    app = Starlette(routes=[Route("/stream", stream)])
    monitor = querywatch.install(engine, app=app)
    assert TestClient(app).get("/stream").text == "first last"
    assert scopes_of(monitor) == {"GET /stream": (1, 1 + USERS + 1 + 3)}
    [finding] = monitor.findings()
    assert (finding.code, finding.subject, finding.scope) == ("n-plus-one", "User.orders", "GET /stream")


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
