"""Flask: the WSGI middleware in the application, with the name taken from Flask's URL rule.

Flask matches the route inside `wsgi_app` and leaves the request in the environ until the response has started, so
nothing of Flask is imported. Where no response was started, because an exception passed through, the path is matched
once more.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from querywatch.integrations.recognition import is_instance_of
from querywatch.integrations.routes import format_name
from querywatch.integrations.wsgi import WSGIMiddleware

if TYPE_CHECKING:
    from flask import Flask


def name_request(app: Flask, environ: dict[str, Any]) -> str:
    """Name a request by the rule that took it, as it is written in the code: `GET /orders/<int:order_id>`.

    Args:
        app: The application.
        environ: Of the request, after Flask has matched it.
    """
    request = environ.get("werkzeug.request")
    rule = _match(app, environ) if request is None else request.url_rule
    return format_name(environ.get("REQUEST_METHOD", ""), getattr(rule, "rule", None))


def recognizes(app: object) -> bool:
    """Tell whether *app* is a Flask application."""
    return is_instance_of(app, "flask.app", "Flask")


def wrap(app: Flask) -> Flask:
    """Put the middleware around *app*'s `wsgi_app`, and return *app*."""
    if not isinstance(app.wsgi_app, WSGIMiddleware):
        # Flask documents this assignment as the way to add a middleware.
        app.wsgi_app = WSGIMiddleware(app.wsgi_app, partial(name_request, app))  # type: ignore[method-assign]
    return app


def _match(app: Flask, environ: dict[str, Any]) -> object:
    try:
        rule, _ = app.url_map.bind_to_environ(environ).match(return_rule=True)
    except Exception:  # noqa: BLE001  werkzeug tells "no route" and "redirect" by exceptions of its own
        return None
    return rule
