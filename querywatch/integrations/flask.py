"""Flask: the WSGI middleware in the application, with the name taken from Flask's URL rule.

Flask matches the route inside `wsgi_app`, where it leaves the request in the environ; so the name is read from there
afterwards, and nothing of Flask is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from querywatch.integrations.recognition import is_instance_of
from querywatch.integrations.routes import format_name
from querywatch.integrations.wsgi import WSGIMiddleware

if TYPE_CHECKING:
    from flask import Flask


def name_request(environ: dict[str, Any]) -> str:
    """Name a request by the rule that took it, as it is written in the code: `GET /orders/<int:order_id>`."""
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    return format_name(environ.get("REQUEST_METHOD", ""), getattr(rule, "rule", None))


def recognizes(app: object) -> bool:
    """Tell whether *app* is a Flask application."""
    return is_instance_of(app, "flask.app", "Flask")


def wrap(app: Flask) -> Flask:
    """Put the middleware around *app*'s `wsgi_app`, and return *app*."""
    if not isinstance(app.wsgi_app, WSGIMiddleware):
        # Flask documents this assignment as the way to add a middleware.
        app.wsgi_app = WSGIMiddleware(app.wsgi_app, name_request)  # type: ignore[method-assign]
    return app
