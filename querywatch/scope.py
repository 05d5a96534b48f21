"""Which request, task, job or test a statement belongs to.

In:  `watch()` or an integration, around the application's work.
Out: the scope that its statements are counted in; what they did is in `scope_record`.

A scope inside a scope stands for itself: its statements are its own and not the outer one's, so nothing is counted
twice. The contextvar is set back only where it still holds the scope, because an async framework may end a scope in
another task than the one that began it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

from querywatch.decoration import decorate, describe
from querywatch.errors import ConfigError
from querywatch.holding import Holding
from querywatch.reading import read_shares
from querywatch.samples import (
    OpenScope,
    begin_scope,
    current_scope,
    end_scope,
    open_scopes,
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


def split_scope(scope: OpenScope, name: str, kind: str) -> None:
    """End what a scope did so far, and let the same object go on as a new one.

    The object stays, because other tasks and threads hold it as their current scope: what they do from now on is the
    new one's too.

    Args:
        scope: What `open_scope` returned. One that is closed stays as it is.
        name: Of the new scope.
        kind: Of the new scope.
    """
    if scope.closed:
        return
    ended, fresh = OpenScope(scope.name, scope.kind), OpenScope(name, kind)
    fresh.reads = read_shares.choose() if read_shares.share else None
    if scope.holding is not None and scope.holding.held > 0:
        # The connections it holds go on with it, and so does the time in which they lie idle.
        fresh.last_started, fresh.last_samples = scope.last_started, scope.last_samples
        fresh.holding = Holding()
        fresh.holding.held, fresh.holding.ended = scope.holding.held, scope.holding.ended
    # Listed until the end: a snapshot taken in between finds the samples in one of the two, and counts none twice.
    open_scopes[id(ended)] = ended
    for field in OpenScope.__slots__:
        if field != "__weakref__":
            setattr(ended, field, getattr(scope, field))
            setattr(scope, field, getattr(fresh, field))
    end_scope(ended)


class SuspendedScope:
    """An open scope whose code runs in pieces, such as a generator's: current only inside of `with`.

    What runs in between is the caller's. The scope ends with `end`, or when nobody refers to this object any more.

    Args:
        scope: Open; the current one or not.
    """

    __slots__ = ("_around", "_inside", "_scope")

    def __init__(self, scope: OpenScope) -> None:
        self._scope = scope
        self._around: OpenScope | None = None
        # What the code itself left as the current one: it may open scopes in one piece and close them in a later one.
        self._inside: OpenScope | None = scope

    def __enter__(self) -> Self:
        self._around = current_scope.get()
        current_scope.set(self._inside)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._inside = current_scope.get()
        current_scope.set(self._around)

    def end(self, name: str | None = None) -> None:
        """End the scope. May be called twice.

        Args:
            name: Better name, known only now; None keeps the one it has.
        """
        close_scope(self._scope, name)

    def __del__(self) -> None:
        self.end()


class watch:  # noqa: N801 - reads as a statement: with watch("GET /users")
    """One scope around a block or a function: `with`, `async with` or decorator.

    Args:
        name: Low-cardinality name, such as `GET /users` or `nightly-invoices`. No ids in it.
        kind: What it is to the reports.
        max_queries: Statements it may send, None for the setting `max_queries`. At least 1.
        max_db_s: Seconds it may spend in the databases, None for the setting `max_db_s`. Above 0.

    Raises:
        ConfigError: Used as a decorator without a name, or a limit is out of its range.
    """

    def __init__(
        self, name: str, kind: str = "watch", *, max_queries: int | None = None, max_db_s: float | None = None
    ) -> None:
        if callable(name):
            raise ConfigError(
                f"watch needs a name for the scope, got {describe(name)}. "
                f'Write it above the function as @querywatch.watch("{getattr(name, "__name__", "name")}").'
            )
        for limit, value in (("max_queries", max_queries), ("max_db_s", max_db_s)):
            if value is not None and not value > 0:
                raise ConfigError(f"{limit} must be above 0, got {value!r}. For no limit, leave it out.")
        self.name = name
        self.kind = kind
        self.max_queries = max_queries
        self.max_db_s = max_db_s
        # A stack, because one object may be entered again while it is entered.
        self._entered: list[tuple[OpenScope, OpenScope | None]] = []

    def __enter__(self) -> Self:
        outer = current_scope.get()
        self._entered.append((self._limit(open_scope(self.name, self.kind)), outer))
        return self

    def _limit(self, scope: OpenScope) -> OpenScope:
        scope.max_queries, scope.max_db_s = self.max_queries, self.max_db_s
        return scope

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
        """Open a scope of this name around each call of *function*.

        It may be async. The scope of a generator begins with its first step and ends with it, is closed or let go;
        in between, it is the current one only while the generator's own code runs.

        Args:
            function: A function, method, static or class method, or another object that can be called.

        Returns:
            A function of the same kind.

        Raises:
            ConfigError: *function* is a class, or cannot be called.
        """
        return decorate(function, self._repeat, self._suspend)

    def _repeat(self) -> watch:
        return watch(self.name, self.kind, max_queries=self.max_queries, max_db_s=self.max_db_s)

    def _suspend(self) -> SuspendedScope:
        return SuspendedScope(self._limit(begin_scope(self.name, self.kind)))
