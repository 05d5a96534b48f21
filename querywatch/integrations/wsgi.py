"""WSGI: one scope around each request, until its response has been sent.

In:  a WSGI application.
Out: a WSGI application that does the same.

A response that streams runs queries while the server iterates over it, so the scope ends with the iterable's
`close()`. In between it is the current one only while the application's code runs: a test client may never close a
response, and what the test does next is not the request's. Lists and file wrappers are handed over as they are: servers
treat them in a way of their own (Content-Length, sendfile), and nothing of the application runs in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from querywatch.integrations.recognition import list_arguments
from querywatch.integrations.routes import format_name, name_safely
from querywatch.samples import current_scope
from querywatch.scope import SuspendedScope, close_scope, open_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Environ = dict[str, Any]
    WSGIApp = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

#: Marks the environ of a request that has a scope already, from a middleware further out.
_MARK = "querywatch.open"
_ARGUMENTS = 2


def name_request(environ: Environ) -> str:
    """Name a request of an application whose routes are not known: by its method alone."""
    return format_name(environ.get("REQUEST_METHOD", ""), None)


class WSGIMiddleware:
    """Wraps a WSGI application: every request is one scope of the kind `request`.

    Args:
        app: The application.
        name_request: Returns the scope's name from the environ. Called when the application starts its response, and
            again at the end if that gave none. Without it a request is named by its method alone, since WSGI does not
            know of routes.
    """

    def __init__(self, app: WSGIApp, name_request: Callable[[Environ], str | None] = name_request) -> None:
        self.app = app
        self._name_request = name_request

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Run the application inside a scope; its exceptions pass untouched."""
        if _MARK in environ:
            return self.app(environ, start_response)
        environ[_MARK] = True
        outer = current_scope.get()
        opened = open_scope(None, "request")

        def name_and_start(*arguments: Any, **keywords: Any) -> Any:
            opened.name = name_safely(self._name_request, environ)
            return start_response(*arguments, **keywords)

        def end() -> None:
            close_scope(opened, opened.name or name_safely(self._name_request, environ), outer)

        try:
            response = self.app(environ, name_and_start)
        except BaseException:
            end()
            raise
        if isinstance(response, list | tuple) or _is_file(response, environ):
            end()
            return response
        current_scope.set(outer)
        return _Response(response, SuspendedScope(opened), end)


class _Response:
    """The application's iterable, which ends the scope when it is closed, or let go."""

    def __init__(self, response: Iterable[bytes], scope: SuspendedScope, end: Callable[[], None]) -> None:
        self._response = response
        self._iterator: Iterator[bytes] | None = None
        self._scope = scope
        self._end = end

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._scope:
            # Begun here and not before: iter() may already run the application's code, and a server may never ask.
            if self._iterator is None:
                self._iterator = iter(self._response)
            return next(self._iterator)

    def close(self) -> None:
        try:
            with self._scope:
                close = getattr(self._response, "close", None)
                if close is not None:
                    close()
        finally:
            self._end()

    def __del__(self) -> None:
        self._end()


def _is_file(response: object, environ: Environ) -> bool:
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(response, wrapper)


def recognizes(app: object) -> bool:
    """Tell whether *app* is a WSGI callable."""
    return isinstance(app, WSGIMiddleware) or len(list_arguments(app)) == _ARGUMENTS


def wrap(app: WSGIApp) -> WSGIMiddleware:
    """Return *app* inside the middleware."""
    return app if isinstance(app, WSGIMiddleware) else WSGIMiddleware(app)
