"""Each request that a test sends to its own application is a scope, also where the application has no querywatch.

In:  the classes of Starlette (and so FastAPI) and Flask, once a test has imported them.
Out: the same classes with the integrations' middleware around their call, until the session ends.

Without it all requests of a test would be one scope, and a test that looks at five users one after the other would seem
to be a loop in the view.
"""

from __future__ import annotations

import sys
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import pytest

from querywatch.integrations.asgi import ASGIMiddleware
from querywatch.integrations.flask import name_request
from querywatch.integrations.wsgi import WSGIMiddleware

if TYPE_CHECKING:
    from collections.abc import Callable


class RequestScopes:
    """Wraps the frameworks that are there."""

    def __init__(self) -> None:
        self._patch = pytest.MonkeyPatch()
        self._missing = dict(_FRAMEWORKS)

    def watch_imported(self) -> None:
        """Wrap what has been imported since the last call."""
        for (module, name), wrap in list(self._missing.items()):
            framework = getattr(sys.modules.get(module), name, None)
            if framework is not None:
                del self._missing[module, name]
                self._patch.setattr(framework, "__call__", wrap(framework.__call__))

    def restore(self) -> None:
        """Leave the classes as they were."""
        self._patch.undo()


def _wrap_asgi(call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    async def call_in_scope(app: Any, scope: Any, receive: Any, send: Any) -> None:
        await ASGIMiddleware(partial(call, app))(scope, receive, send)

    return call_in_scope


def _wrap_wsgi(call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    def call_in_scope(app: Any, environ: Any, start_response: Any) -> Any:
        return WSGIMiddleware(partial(call, app), partial(name_request, app))(environ, start_response)

    return call_in_scope


#: Module and class of an application -> how its call is wrapped. A request that has a scope already gets no second one.
_FRAMEWORKS: dict[tuple[str, str], Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    ("starlette.applications", "Starlette"): _wrap_asgi,
    ("flask.app", "Flask"): _wrap_wsgi,
}
