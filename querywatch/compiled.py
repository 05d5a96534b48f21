"""What a compiled statement says of itself, without parsing its text.

In:  SQLAlchemy's compiled statement.
Out: OpenTelemetry's operation and collection; the primary key of the table that is read.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table


def read_operation(compiled: Any) -> tuple[str | None, str | None]:
    """Return the operation (`SELECT`) and the one table of a compiled statement.

    Args:
        compiled: SQLAlchemy's compiled statement, None for a text that was sent as it is.

    Returns:
        None for what the statement does not say: a text says neither, a join has no one table.
    """
    statement = getattr(compiled, "statement", None)
    if statement is None or getattr(statement, "is_text", True):
        return None, None
    try:
        if statement.is_select:
            froms = statement.get_final_froms()
            table = froms[0] if len(froms) == 1 else None
        elif statement.is_dml:
            table = statement.table
        else:
            return None, None
        return str(statement.__visit_name__).upper(), table.name if isinstance(table, Table) else None
    except Exception:  # noqa: BLE001 - a construct of the application's own: not known
        return None, None


def read_primary_key(compiled: Any) -> tuple[str, ...]:
    """Return the columns of the primary key of the one table that a compiled SELECT reads; empty if it is not one.

    Args:
        compiled: SQLAlchemy's compiled statement, None for a text that was sent as it is.
    """
    statement = getattr(compiled, "statement", None)
    if statement is None or not getattr(statement, "is_select", False):
        return ()
    try:
        froms = statement.get_final_froms()
        if len(froms) != 1:
            return ()
        # Of a joined-table hierarchy, whose key has one name in all of its tables.
        table = froms[0] if isinstance(froms[0], Table) else getattr(froms[0], "left", None)
        return tuple(column.name for column in table.primary_key) if isinstance(table, Table) else ()
    except Exception:  # noqa: BLE001 - as above
        return ()
