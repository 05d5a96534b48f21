"""ASGI: one scope around each request and each websocket connection.

In:  an ASGI application.
Out: an ASGI application that does the same.

A request ends with the last part of its response, so a streaming response is inside it. What the application does
after that (background tasks, the end of a FastAPI dependency) keeps no client waiting and is a scope of its own:
`background:GET /users`. A request gets its name with the first message sent, because a stream may last for hours and
its findings should not wait for a name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from querywatch.integrations.recognition import is_asynchronous, list_arguments
from querywatch.integrations.routes import UNMATCHED, name_request, name_safely
from querywatch.samples import current_scope
from querywatch.scope import close_scope, open_scope, split_scope

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Scope = dict[str, Any]
    Receive = Callable[[], Awaitable[Any]]
    Send = Callable[[Any], Awaitable[None]]
    ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Begins the name of what a request's application does after the response.
AFTER_RESPONSE = "background:"
#: Marks the ASGI scope of a request that has a scope already, from a middleware further out.
_MARK = "querywatch.open"
_ARGUMENTS = 3


class ASGIMiddleware:
    """Wraps an ASGI application: every request and websocket connection is one scope of the kind `request`.

    What runs after the response is one of the kind `task`.

    Args:
        app: The application.
        name_request: Returns the scope's name from the ASGI scope after routing; called once per message until it
            gives one. Reads the route of Starlette and FastAPI unless set.
    """

    def __init__(self, app: ASGIApp, name_request: Callable[[Scope], str | None] = name_request) -> None:
        self.app = app
        self._name_request = name_request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application inside a scope; its exceptions pass untouched."""
        if scope["type"] not in {"http", "websocket"} or _MARK in scope:
            await self.app(scope, receive, send)
            return
        scope[_MARK] = True
        outer = current_scope.get()
        opened = open_scope(None, "request")

        async def send_and_name(message: Any) -> None:
            if opened.name is None:
                opened.name = name_safely(self._name_request, scope)
            await send(message)
            if _ends_response(message):
                split_scope(opened, f"{AFTER_RESPONSE}{opened.name or UNMATCHED}", "task")

        try:
            await self.app(scope, receive, send_and_name)
        finally:
            close_scope(opened, opened.name or name_safely(self._name_request, scope), outer)


def _ends_response(message: Any) -> bool:
    kind = message["type"]
    # The second one hands the server a file to send, instead of a body.
    return (kind == "http.response.body" and not message.get("more_body")) or kind == "http.response.pathsend"


def recognizes(app: object) -> bool:
    """Tell whether *app* is an ASGI 3 callable."""
    return isinstance(app, ASGIMiddleware) or (
        len(list_arguments(app)) == _ARGUMENTS and (is_asynchronous(app) or _names_asgi(app))
    )


def wrap(app: ASGIApp) -> ASGIMiddleware:
    """Return *app* inside the middleware."""
    return app if isinstance(app, ASGIMiddleware) else ASGIMiddleware(app)


def _names_asgi(app: object) -> bool:
    """Tell whether a synchronous callable passes an ASGI call on, as a middleware that returns the coroutine does."""
    return list_arguments(app) == ["scope", "receive", "send"]
