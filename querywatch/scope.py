"""Which request, task, job or test a statement belongs to.

In:  `watch()` or an integration, around the application's work.
Out: the scope that its statements are counted in; what they did is in `scope_record`.

A scope inside a scope stands for itself: its statements are its own and not the outer one's, so nothing is counted
twice. The contextvar is set back only where it still holds the scope, because an async framework may end a scope in
another task than the one that began it.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Self, TypeVar

from querywatch.samples import (
    OpenScope,
    begin_scope,
    current_scope,
    end_scope,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


_Function = TypeVar("_Function", bound="Callable[..., Any]")


def open_scope(name: str | None, kind: str) -> OpenScope:
    """Begin a scope and make it the current one of this thread or task.

    Args:
        name: Low-cardinality name such as `GET /users`; may still be changed until the scope is closed.
        kind: `request`, `task`, `test`, `watch`, `script` or `span`.
    """
    scope = begin_scope(name, kind)
    current_scope.set(scope)
    return scope


def close_scope(scope: OpenScope, name: str | None = None, outer: OpenScope | None = None) -> None:
    """End a scope. May be called twice, and from any thread or task.

    Args:
        scope: What `open_scope` returned.
        name: Better name, known only now; None keeps the one it has.
        outer: The scope that becomes the current one again; None for none.
    """
    if name is not None and not scope.closed:
        scope.name = name
    if current_scope.get() is scope:
        current_scope.set(outer if outer is not None and not outer.closed else None)
    end_scope(scope)


class watch:  # noqa: N801 - reads as a statement: with watch("GET /users")
    """One scope around a block or a function: `with`, `async with` or decorator.

    Args:
        name: Low-cardinality name, such as `GET /users` or `nightly-invoices`. No ids in it.
        kind: What it is to the reports.
    """

    def __init__(self, name: str, kind: str = "watch") -> None:
        self.name = name
        self.kind = kind
        # A stack, because one object may be entered again while it is entered.
        self._entered: list[tuple[OpenScope, OpenScope | None]] = []

    def __enter__(self) -> Self:
        outer = current_scope.get()
        self._entered.append((open_scope(self.name, self.kind), outer))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._entered:
            return
        # The innermost one, unless threads or tasks share this object: then the one that is current here.
        current = current_scope.get()
        entered = next((pair for pair in reversed(self._entered) if pair[0] is current), self._entered[-1])
        self._entered.remove(entered)
        scope, outer = entered
        close_scope(scope, outer=outer)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: _Function) -> _Function:
        """Open a scope of this name around each call of *function*, which may be async."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_async(*args: Any, **kwargs: Any) -> Any:
                with watch(self.name, self.kind):
                    return await function(*args, **kwargs)

            return run_async  # type: ignore[return-value]

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with watch(self.name, self.kind):
                return function(*args, **kwargs)

        return run  # type: ignore[return-value]
