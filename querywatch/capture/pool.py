"""Connections that are out of their pool: who holds each of them, and the scope of a checkout that nobody else holds.

In:  SQLAlchemy's pool events and execution contexts.
Out: one scope from a checkout's first statement to its check-in; what each scope holds.

What belongs to a checkout is kept in the connection record's `info`, not in a contextvar: with an async session the
check-in runs in another task than the statements.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from sqlalchemy.pool import _ConnectionFairy

from querywatch.capture.idle import note_idle
from querywatch.holding import Holding
from querywatch.samples import OpenScope, begin_scope, current_scope, end_scope, open_scopes

if TYPE_CHECKING:
    from querywatch.holding import Wait
    from querywatch.samples import Sink

_SCOPE_KEY = "querywatch_scope"
# The scope that holds the connection; as long as there is none, when the connection was taken.
_HOLDER_KEY = "querywatch_holder"
_WAIT_KEY = "querywatch_wait"
_END_KEY = "querywatch_end"


class Checkouts:
    """Checkouts and check-ins of one engine.

    Args:
        monitor: Who is told of waits.
        long_s: `long_transaction_s`.
        wait_s: `pool_wait_s`.
    """

    def __init__(self, monitor: Sink, long_s: float, wait_s: float) -> None:
        self._monitor = monitor
        self._long_s = long_s
        self._wait_s = wait_s

    def take_checkout(self, connection_record: Any) -> None:
        """Note that a connection left its pool.

        Args:
            connection_record: SQLAlchemy's, as its `checkout` event gives it.
        """
        now = perf_counter()
        info = connection_record.info
        if _HOLDER_KEY in info:
            _release(info)  # a StaticPool gives one connection to several, and tells of one check-in
        wait: Wait | None = connection_record.record_info.pop(_WAIT_KEY, None)
        scope = current_scope.get()
        if scope is None or scope.closed:
            info[_HOLDER_KEY] = now
            if wait is None or wait.seconds < self._wait_s:
                return
            scope = info[_SCOPE_KEY] = begin_scope(None, "checkout")
        holding = _hold(scope, info, now)
        if wait is not None:
            # Waiting for one connection, with another in hand, is told as waiting.
            if holding.ended >= scope.last_started:
                holding.ended += wait.seconds
            scope.last_started += wait.seconds
            holding.note_wait(wait, self._wait_s, self._monitor, in_vain=False)

    def take_checkin(self, connection_record: Any) -> None:
        """Note that a connection goes back to its pool, and end the scope that ends with it.

        Args:
            connection_record: SQLAlchemy's, as its `checkin` event gives it.
        """
        info = connection_record.info
        connection_record.record_info.pop(_WAIT_KEY, None)
        holder = info.get(_HOLDER_KEY)
        # With another connection in hand the time goes on: the scope may be waiting for this one.
        if isinstance(holder, OpenScope) and holder.holding is not None and holder.holding.held == 1:
            note_idle(holder, perf_counter(), self._long_s)
        _release(info)
        scope = info.pop(_SCOPE_KEY, None)
        if scope is not None:
            end_scope(scope)

    def take_detach(self, connection_record: Any) -> None:
        """Note that a connection left its pool for good: nobody will tell of its check-in.

        Args:
            connection_record: SQLAlchemy's, as its `detach` event gives it.
        """
        _release(connection_record.info)
        scope = connection_record.info.pop(_SCOPE_KEY, None)
        if scope is not None:
            end_scope(scope)

    def take_end(self, kind: str, connection: Any, started: float) -> None:
        """Note that a transaction ended just now.

        Args:
            kind: `commit` or `rollback`.
            connection: SQLAlchemy's proxy of the driver's connection.
            started: When that began, by `perf_counter`.
        """
        if not isinstance(connection, _ConnectionFairy):
            return  # what SQLAlchemy sends itself, when it first meets a server, belongs to nobody
        scope = current_scope.get()
        if scope is None or scope.closed:
            scope = connection.info.get(_SCOPE_KEY)
            if scope is None or scope.closed:
                return
        note_idle(scope, started, self._long_s)
        scope.note_end(kind)
        scope.last_started = perf_counter()
        if scope.holding is not None:
            scope.holding.ended = scope.last_started

    def take_wait(self, connection_record: Any, wait: Wait) -> None:
        """Keep a wait for the checkout that it was for.

        Args:
            connection_record: What was waited for.
            wait: How long.
        """
        connection_record.record_info[_WAIT_KEY] = wait

    def take_timeout(self, wait: Wait) -> None:
        """Note a wait in vain."""
        scope = current_scope.get()
        is_own = scope is None or scope.closed
        if scope is None or scope.closed:
            scope = begin_scope(None, "checkout")
        holding = scope.holding = scope.holding or Holding()
        holding.note_wait(wait, self._wait_s, self._monitor, in_vain=True)
        if is_own:
            end_scope(scope)


def find_checkout_scope(context: Any) -> OpenScope:
    """Return the scope of the connection's checkout; it begins with its first statement.

    Args:
        context: SQLAlchemy's execution context.
    """
    info = _find_info(context.root_connection)
    scope: OpenScope | None = info.get(_SCOPE_KEY)
    if scope is None or scope.closed:
        scope = info[_SCOPE_KEY] = begin_scope(None, "checkout")
        holder = info.get(_HOLDER_KEY)
        _release(info)
        _hold(scope, info, holder if isinstance(holder, float) else perf_counter())
        connection = context.root_connection.connection
        if isinstance(connection, _ConnectionFairy) and connection.is_detached:
            info[_END_KEY] = _ScopeEnd(scope)
    return scope


def _find_info(connection: Any) -> dict[str, Any]:
    try:
        info: dict[str, Any] = connection.info
    except NotImplementedError:
        # What a dialect asks on an engine's first connection goes through a stand-in, before there is a checkout.
        info = connection.connection._connection_record.info
    return info


def end_checkout_scopes(number: int) -> None:
    """End the scopes of the connections of one engine that are out of its pool; nobody will tell of their check-in.

    Args:
        number: Of the engine's samples.
    """
    for scope in list(open_scopes.values()):
        if scope.kind == "checkout" and number in scope.slots:
            end_scope(scope)


class _ScopeEnd:
    """Ends a scope when it is let go, with the `info` of a detached connection: no event tells whose is closed."""

    def __init__(self, scope: OpenScope) -> None:
        self._scope = scope

    def __del__(self) -> None:
        end_scope(self._scope)


def _hold(scope: OpenScope, info: dict[str, Any], since: float) -> Holding:
    """Let *scope* hold a connection since then."""
    holding = scope.holding
    if holding is None:
        holding = scope.holding = Holding()
    holding.checkouts += 1
    if holding.held <= 0:
        holding.held = 0
        scope.last_started, scope.last_samples = since, None
    holding.held += 1
    info[_HOLDER_KEY] = scope
    return holding


def _release(info: dict[str, Any]) -> None:
    """Let nobody hold a connection."""
    holder = info.pop(_HOLDER_KEY, None)
    if isinstance(holder, OpenScope) and holder.holding is not None:
        holder.holding.held -= 1
