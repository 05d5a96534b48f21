"""FastAPI and Starlette: the ASGI middleware among the application's own.

Inside the application rather than around it, so that `app` stays the object that the host serves, mounts and tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from querywatch.errors import ConfigError
from querywatch.integrations.asgi import ASGIMiddleware
from querywatch.integrations.recognition import is_instance_of

if TYPE_CHECKING:
    from starlette.applications import Starlette


def recognizes(app: object) -> bool:
    """Tell whether *app* is a Starlette application, which FastAPI's are too."""
    return is_instance_of(app, "starlette.applications", "Starlette")


def wrap(app: Starlette) -> Starlette:
    """Add the middleware to *app*, and return *app*.

    Raises:
        ConfigError: *app* has started: its middleware cannot change any more.
    """
    if any(getattr(middleware, "cls", None) is ASGIMiddleware for middleware in app.user_middleware):
        return app
    if app.middleware_stack is not None:
        raise ConfigError(
            f"app, an object of class {type(app).__qualname__}, has started already, so no middleware can be added. "
            "Call querywatch.install(engine, app=app) where the application is made, before its first request."
        )
    app.add_middleware(ASGIMiddleware)
    return app
