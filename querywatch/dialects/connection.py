"""A connection of our own to an application's database: never from its pool, closed when the work is done.

In:  an engine, sync or async, and what to do with a connection.
Out: what that returned.

The pool is rebuilt with `Pool.recreate()` rather than the connection made by hand: so a custom `creator`, a
`do_connect` listener with credentials that expire, and `connect` listeners that set a search_path all hold for us too.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from querywatch.errors import ExplainError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

Result = TypeVar("Result")

#: Engines whose `creator` was tried: True if it makes a new connection each time.
_creators: weakref.WeakKeyDictionary[Engine, bool] = weakref.WeakKeyDictionary()


class NoPlansError(ExplainError):
    """No plan can be had from this database at all. The message is a sentence for people."""


class NoProofError(ExplainError):
    """No what-if can be had from this database. The message is a sentence for people: why, and how to enable it."""


def converse(engine: Engine, work: Callable[[Any], Result]) -> Result:
    """Run *work* with a new DBAPI connection, and close that connection.

    On an async engine *work* runs in an event loop of its own on this thread, so this thread must not run one.

    Args:
        engine: Its pool is left alone.
        work: Gets the DBAPI connection (SQLAlchemy's adapted one, for an async driver). It commits nothing: what it
            leaves open is rolled back.

    Raises:
        NoPlansError: The engine has no second connection to give.
        Exception: Whatever the driver raises when it cannot connect, and whatever *work* raises.
    """
    if not engine.dialect.is_async:
        return _converse(engine, work)
    # Only a program with an async engine pays for these imports.
    import asyncio  # noqa: PLC0415

    from sqlalchemy.util import greenlet_spawn  # noqa: PLC0415

    with asyncio.Runner() as runner:
        result: Result = runner.run(greenlet_spawn(_converse, engine, work))
        return result


def _converse(engine: Engine, work: Callable[[Any], Result]) -> Result:
    if not _makes_new_connections(engine):
        raise NoPlansError("its creator hands out one shared connection, so its plans cannot be taken")
    pool = engine.pool.recreate()
    try:
        # The fairy closes itself when it is collected; close() returns it, dispose() closes it for good.
        pooled = pool.connect()
        try:
            return work(pooled.dbapi_connection)
        finally:
            pooled.close()
    finally:
        pool.dispose()


def has_own_creator(engine: Engine) -> bool:
    """Whether the application makes the connections itself (`creator=` or a pool of its own)."""
    module = getattr(getattr(engine.pool, "_creator", None), "__module__", None) or ""
    return not module.startswith("sqlalchemy.")


def _makes_new_connections(engine: Engine) -> bool:
    # `creator=lambda: connection` is a usual way to share one connection in tests. To give that one a transaction of
    # ours, or to close it, would break the application; so a creator must first show that it makes two.
    if engine not in _creators:
        _creators[engine] = not has_own_creator(engine) or _makes_two(engine.pool)
    return _creators[engine]


def _makes_two(pool: Any) -> bool:
    # The pool knows whether the creator takes a connection record or nothing.
    first, second = pool._invoke_creator(None), pool._invoke_creator(None)  # noqa: SLF001
    if first is second:
        return False
    first.close()
    second.close()
    return True
