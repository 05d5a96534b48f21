"""Frameworks that know where a request or a task begins, ends, and what it is called: they open scopes.

In:  an application object.
Out: the same object with the middleware in it, or the middleware around it.

An application is recognized by the module its classes come from: no framework is imported that the host has not.
"""

from __future__ import annotations

from typing import Any, Protocol

from querywatch.errors import ConfigError
from querywatch.integrations import asgi, celery, fastapi, flask, wsgi


class Integration(Protocol):
    """What a module of this folder offers."""

    def recognizes(self, app: object) -> bool:
        """Tell whether *app* is of the kind this module wraps."""

    def wrap(self, app: Any) -> Any:
        """Return *app* with a scope around each request or task; *app* itself if it is wrapped already."""


#: Asked in this order: a Flask application is also a plain WSGI callable.
INTEGRATIONS: tuple[Integration, ...] = (celery, flask, fastapi, asgi, wsgi)


def wrap_app(app: object) -> Any:
    """Open a scope around each request of *app*, or around each run of its tasks.

    Args:
        app: A FastAPI, Starlette, Flask or Celery application, which is changed in place, or a plain ASGI or WSGI
            callable.

    Returns:
        *app* itself where it was changed in place, else the callable to serve instead of it.

    Raises:
        ConfigError: *app* is no application, or it has started already.
    """
    for integration in INTEGRATIONS:
        if integration.recognizes(app):
            return integration.wrap(app)
    # Not repr(): an application's own repr may show its configuration.
    seen = f"the class {app.__qualname__}" if isinstance(app, type) else f"an object of class {type(app).__qualname__}"
    raise ConfigError(
        f"app must be a FastAPI, Starlette, Flask or Celery application or an ASGI or WSGI callable, got {seen}. "
        "For anything else open a scope around each job: with querywatch.watch(name)."
    )
