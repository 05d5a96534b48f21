"""How long checkouts wait for a connection of a pool that is at its limit.

In:  the calls of SQLAlchemy's pool.
Out: each wait and each time-out to `pool.Checkouts`.

SQLAlchemy has no event before a checkout, so one method of the pool *instance* is wrapped: the one that waits. Another
is wrapped to find the pool that takes its place after `engine.dispose()`. Pools without a limit are left alone.
"""

from __future__ import annotations

import time
import weakref
from time import perf_counter
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from querywatch.callsite import find_caller
from querywatch.holding import Wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from querywatch.capture.pool import Checkouts

# Shorter than this is the work of the pool itself, or of the interpreter.
_NOTICEABLE_S = 0.001


class PoolWaits:
    """The waits for one engine's pool, and for those that follow it.

    Args:
        checkouts: Who takes them.
        database: Name of the database.
        limit_s: `pool_wait_s`: a wait that long is told with its line.
        is_active: Tells whether waits are counted now.
        on_error: Called with the stage and an exception of our own; must not raise.
    """

    def __init__(
        self,
        checkouts: Checkouts,
        database: str,
        limit_s: float,
        is_active: Callable[[], bool],
        on_error: Callable[[str, Exception], None],
    ) -> None:
        self._is_active = is_active
        self._checkouts = checkouts
        self._database = database
        self._limit_s = limit_s
        self._on_error = on_error
        self._wrapped: list[_Wrapped] = []
        # A pool asks itself again where another thread was quicker: a time-out of that call passes this one too.
        self._told: weakref.WeakSet[BaseException] = weakref.WeakSet()

    def attach(self, pool: Any) -> None:
        """Begin to measure.

        Args:
            pool: SQLAlchemy's; nothing is done for one that never waits.
        """
        if isinstance(pool, QueuePool):
            self._wrapped = [each for each in self._wrapped if each.pool() is not None]
            self._wrapped.append(_Wrapped(pool, {"_do_get": self._wrap_get, "recreate": self._wrap_recreate}))

    def detach(self) -> None:
        """Stop measuring and leave every pool as it was."""
        for wrapped in self._wrapped:
            wrapped.restore()
        self._wrapped.clear()

    def _wrap_get(self, reference: weakref.ref[Any], original: Callable[[Any], Any]) -> Callable[[], Any]:
        def _do_get() -> Any:
            pool = reference()
            began = perf_counter()
            try:
                record = original(pool)
            except PoolTimeoutError as error:
                self._take_timeout(pool, perf_counter() - began, error)
                raise
            elapsed = perf_counter() - began
            if elapsed >= _NOTICEABLE_S and self._is_active():
                self._take_wait(pool, record, elapsed)
            return record

        return _do_get

    def _wrap_recreate(self, reference: weakref.ref[Any], original: Callable[[Any], Any]) -> Callable[[], Any]:
        def recreate() -> Any:
            successor = original(reference())
            # Also while counting is paused; after `detach` ours may still be called by who wrapped it.
            if any(each.pool is reference for each in self._wrapped):
                self.attach(successor)
            return successor

        return recreate

    def _take_wait(self, pool: Any, record: Any, elapsed: float) -> None:
        try:
            # Up to when a connection was opened: that takes its time, but is no waiting.
            waited_s = min(elapsed, record.starttime - (time.time() - elapsed)) if _is_new(record, elapsed) else elapsed
            if waited_s >= _NOTICEABLE_S:
                self._checkouts.take_wait(record, self._describe(pool, waited_s))
        except Exception as error:  # noqa: BLE001 - the application gets its connection
            self._on_error("capture", error)

    def _take_timeout(self, pool: Any, elapsed: float, timeout: PoolTimeoutError) -> None:
        try:
            if self._is_active() and timeout not in self._told:
                self._told.add(timeout)
                self._checkouts.take_timeout(self._describe(pool, elapsed))
        except Exception as error:  # noqa: BLE001 - the application gets its time-out
            self._on_error("capture", error)

    def _describe(self, pool: Any, seconds: float) -> Wait:
        caller = find_caller() if seconds >= self._limit_s else None
        return Wait(
            seconds=seconds,
            database=self._database,
            size=pool.size(),
            overflow=pool._max_overflow,
            code=caller.code if caller is not None else None,
            line=caller.line if caller is not None else 0,
        )


def _is_new(record: Any, elapsed: float) -> bool:
    """Tell whether the connection of *record* was opened in the last *elapsed* seconds."""
    return bool(record.starttime > time.time() - elapsed)


class _Wrapped:
    """One pool with methods of ours."""

    def __init__(self, pool: Any, wrappers: dict[str, Callable[..., Any]]) -> None:
        #: Weak, as in the wrappers: a pool that was disposed of is let go when its last connection is.
        self.pool = weakref.ref(pool)
        # Method -> what we put there, and what was there as an attribute of the instance (None: the class's method).
        self._replaced: dict[str, tuple[Any, Any]] = {}
        for name, wrap in wrappers.items():
            before = vars(pool).get(name)
            original = getattr(type(pool), name) if before is None else _ignore_pool(before)
            ours = wrap(self.pool, original)
            self._replaced[name] = (ours, before)
            setattr(pool, name, ours)

    def restore(self) -> None:
        """Give the methods back, unless somebody wrapped ours since: then ours only passes calls on."""
        pool = self.pool()
        for name, (ours, before) in self._replaced.items():
            if pool is None or vars(pool).get(name) is not ours:
                continue
            if before is None:
                delattr(pool, name)
            else:
                setattr(pool, name, before)


def _ignore_pool(method: Callable[[], Any]) -> Callable[[Any], Any]:
    """Return a bound method as one that is given its pool."""
    return lambda _pool: method()
