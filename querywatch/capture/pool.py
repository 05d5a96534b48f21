"""The scope of a connection's checkout, for statements outside of every other scope.

In:  SQLAlchemy's pool events and execution contexts.
Out: one scope from a checkout's first statement to its check-in.

The scope is kept in the connection record's `info`, not in a contextvar: with an async session the check-in runs in
another task than the statements.
"""

from __future__ import annotations

from typing import Any

from querywatch.samples import OpenScope, begin_scope, end_scope, open_scopes

_INFO_KEY = "querywatch_scope"


def find_checkout_scope(context: Any) -> OpenScope:
    """Return the scope of the connection's checkout; it begins with its first statement.

    Args:
        context: SQLAlchemy's execution context.
    """
    info = context.root_connection.info
    scope: OpenScope | None = info.get(_INFO_KEY)
    if scope is None or scope.closed:
        scope = info[_INFO_KEY] = begin_scope(None, "checkout")
    return scope


def end_checkout_scope(connection_record: Any) -> None:
    """End the scope of a connection that goes back to its pool.

    Args:
        connection_record: SQLAlchemy's, as its `checkin` event gives it.
    """
    scope = connection_record.info.pop(_INFO_KEY, None)
    if scope is not None:
        end_scope(scope)


def end_checkout_scopes(number: int) -> None:
    """End the scopes of the connections of one engine that are out of its pool; nobody will tell of their check-in.

    Args:
        number: Of the engine's samples.
    """
    for scope in list(open_scopes.values()):
        if scope.kind == "checkout" and number in scope.slots:
            end_scope(scope)
