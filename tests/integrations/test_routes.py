"""A request is named by its route's template, whichever way the application is put together."""

from __future__ import annotations

import asyncio
import uuid

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router
from starlette.staticfiles import StaticFiles

from querywatch.integrations.asgi import ASGIMiddleware
from querywatch.integrations.fastapi import wrap
from querywatch.integrations.routes import format_name, name_request, name_safely


async def answer(request):
    return PlainTextResponse("yes")


def name_of(app, path, method="GET"):
    """Send one request through *app* and return the name that the middleware gave it."""
    names = []

    def note(scope):
        names.append(name_request(scope))
        return names[-1]

    async def ask():
        transport = httpx.ASGITransport(ASGIMiddleware(app, note), root_path="/proxied")
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
            await client.request(method, f"/proxied{path}")

    asyncio.run(ask())
    return names[-1]


def starlette_app():
    def shop(path):
        return Mount(
            path, routes=[Route("/orders/{order_id:int}", answer), Mount("/deep", app=Router([Route("/x", answer)]))]
        )

    return Starlette(
        routes=[
            Route("/", answer),
            Route("/orders/{order_id:int}", answer, methods=["GET", "POST"]),
            Route("/files/{rest:path}", answer),
            shop("/api"),
            shop("/shops/{shop_id:int}"),
            shop("/keys/{key:uuid}"),
            Mount("/static", app=StaticFiles(directory="/")),
            Host("{name}.example.org", app=Router([Route("/orders", answer)])),
        ]
    )


def fastapi_app():
    app = FastAPI()
    inner, outer, sub, mounted_in_router = APIRouter(), APIRouter(prefix="/v1"), FastAPI(), FastAPI()

    for each in (app, inner, sub, mounted_in_router):
        each.get("/users/{user_id}")(lambda user_id: user_id)
    inner.add_route("/plain/{x}", answer)
    outer.include_router(inner, prefix="/team/{team_id}")
    outer.mount("/below", mounted_in_router)
    app.include_router(outer, prefix="/api")
    app.mount("/sub", sub)
    app.mount("/tenants/{tenant}", Starlette(routes=[Route("/bills/{bill_id}", answer)]))
    app.add_route("/plain/{x}", answer)
    return app


@pytest.mark.parametrize(
    ("path", "name"),
    [
        pytest.param("/", "GET /", id="root"),
        pytest.param("/orders/7", "GET /orders/{order_id}", id="convertor-is-left-out"),
        pytest.param("/files/a/b/c", "GET /files/{rest}", id="path-convertor"),
        pytest.param("/api/orders/7", "GET /api/orders/{order_id}", id="mount"),
        pytest.param("/api/deep/x", "GET /api/deep/x", id="mount-in-mount"),
        pytest.param("/shops/007/orders/7", "GET /shops/{shop_id}/orders/{order_id}", id="mount-with-parameter"),
        pytest.param("/shops/7/deep/x", "GET /shops/{shop_id}/deep/x", id="mount-with-parameter-in-mount"),
        pytest.param(f"/keys/{uuid.uuid4()}/deep/x", "GET /keys/{key}/deep/x", id="mount-with-uuid"),
        pytest.param("/api/nothing/7", "GET /api/{path}", id="unknown-below-a-mount"),
        pytest.param("/static/etc/nothing.txt", "GET /static/{path}", id="static-files"),
        pytest.param("/nothing/7", "GET (unmatched)", id="unknown"),
    ],
)
def test_starlette(path, name):
    assert name_of(starlette_app(), path) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        pytest.param("/users/7", "GET /users/{user_id}", id="route"),
        pytest.param("/api/v1/team/3/users/7", "GET /api/v1/team/{team_id}/users/{user_id}", id="router-in-router"),
        pytest.param("/api/v1/team/3/plain/7", "GET /api/v1/team/{team_id}/plain/{x}", id="plain-route-in-router"),
        pytest.param("/sub/users/7", "GET /sub/users/{user_id}", id="mounted-application"),
        pytest.param("/sub/nothing", "GET /sub/{path}", id="unknown-in-mounted-application"),
        pytest.param("/tenants/acme/bills/7", "GET /tenants/{tenant}/bills/{bill_id}", id="mounted-starlette"),
        pytest.param("/plain/7", "GET /plain/{x}", id="plain-route"),
        pytest.param("/openapi.json", "GET /openapi.json", id="own-documents"),
        pytest.param("/nothing/7", "GET (unmatched)", id="unknown"),
    ],
)
def test_fastapi(path, name):
    assert name_of(fastapi_app(), path) == name


def test_a_method_no_route_takes_keeps_the_template():
    assert name_of(starlette_app(), "/orders/7", "DELETE") == "DELETE /orders/{order_id}"


def test_an_invented_method_is_one_name():
    assert format_name("BREW7", "/coffee") == "OTHER /coffee"
    assert name_of(starlette_app(), "/orders/7", "BREW7") == "OTHER /orders/{order_id}"


def test_the_middleware_inside_the_application_sees_the_same():
    app = wrap(fastapi_app())
    assert name_of(app, "/sub/users/7") == "GET /sub/users/{user_id}"


@pytest.mark.parametrize(
    "scope",
    [
        pytest.param({"type": "http"}, id="empty"),
        pytest.param({"type": "http", "method": "GET", "route": 5, "endpoint": 5, "router": None}, id="numbers"),
        pytest.param(
            {"type": "http", "method": "GET", "fastapi": {"effective_route_context": 1}}, id="foreign-fastapi"
        ),
    ],
)
def test_a_foreign_scope_has_a_name_without_a_route(scope):
    assert name_request(scope).endswith(" (unmatched)")


def test_a_function_that_fails_gives_no_name():
    assert name_safely(lambda _: 1 / 0, {}) is None
