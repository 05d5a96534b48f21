"""Every kind of application is recognized, and anything else is refused with a sentence."""

from __future__ import annotations

import functools

import pytest
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.testclient import TestClient

from querywatch.errors import ConfigError
from querywatch.integrations import wrap_app
from querywatch.integrations.asgi import ASGIMiddleware
from querywatch.integrations.wsgi import WSGIMiddleware


async def asgi_function(scope, receive, send):
    pass


def wsgi_function(environ, start_response):
    return [b""]


class AsgiObject:
    async def __call__(self, scope, receive, send):
        pass


class AsgiPassingOn:
    def __call__(self, scope, receive, send):
        return asgi_function(scope, receive, send)


class WsgiObject:
    def __call__(self, environ, start_response):
        return [b""]


class OwnFastAPI(FastAPI):
    pass


@pytest.mark.parametrize("make", [FastAPI, OwnFastAPI, Starlette], ids=lambda make: make.__name__)
def test_starlette_applications_are_changed_in_place_and_once(make):
    app = make()
    assert wrap_app(app) is app
    assert wrap_app(app) is app
    assert [middleware.cls for middleware in app.user_middleware] == [ASGIMiddleware]


def test_flask_is_changed_in_place_and_once():
    app = Flask("shop")
    assert wrap_app(app) is app
    assert wrap_app(app) is app
    assert isinstance(app.wsgi_app, WSGIMiddleware)
    assert not isinstance(app.wsgi_app.app, WSGIMiddleware)


@pytest.mark.parametrize(
    ("app", "wrapper"),
    [
        pytest.param(asgi_function, ASGIMiddleware, id="asgi-function"),
        pytest.param(AsgiObject(), ASGIMiddleware, id="asgi-object"),
        pytest.param(AsgiPassingOn(), ASGIMiddleware, id="asgi-not-a-coroutine-function"),
        pytest.param(functools.partial(asgi_function), ASGIMiddleware, id="asgi-partial"),
        pytest.param(CORSMiddleware(Starlette()), ASGIMiddleware, id="starlette-inside-a-middleware"),
        pytest.param(wsgi_function, WSGIMiddleware, id="wsgi-function"),
        pytest.param(WsgiObject(), WSGIMiddleware, id="wsgi-object"),
        pytest.param(WsgiObject().__call__, WSGIMiddleware, id="wsgi-method"),
    ],
)
def test_plain_callables_are_wrapped_once(app, wrapper):
    wrapped = wrap_app(app)
    assert type(wrapped) is wrapper
    assert wrapped.app is app
    assert wrap_app(wrapped) is wrapped


@pytest.mark.parametrize(
    ("app", "seen"),
    [
        pytest.param("shop:app", "an object of class str", id="text"),
        pytest.param(FastAPI, "the class FastAPI", id="class-instead-of-object"),
        pytest.param(lambda: None, "an object of class function", id="factory"),
        pytest.param(object(), "an object of class object", id="object"),
        pytest.param(print, "an object of class builtin_function_or_method", id="builtin"),
    ],
)
def test_anything_else_is_refused(app, seen):
    with pytest.raises(ConfigError) as caught:
        wrap_app(app)
    assert str(caught.value) == (
        f"app must be a FastAPI, Starlette, Flask or Celery application or an ASGI or WSGI callable, got {seen}. "
        "For anything else open a scope around each job: with querywatch.watch(name)."
    )


def test_an_application_that_has_started_is_refused():
    app = Starlette()
    TestClient(app).get("/")
    with pytest.raises(ConfigError, match=r"^app, an object of class Starlette, has started already, .* where the app"):
        wrap_app(app)
