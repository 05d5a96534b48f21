"""What a compiled statement says of itself, without parsing its text.

In:  SQLAlchemy's compiled statement.
Out: OpenTelemetry's operation and collection; the keys of the table that is read; whether rows are locked.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Alias, Join, Table, UniqueConstraint


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


def read_keys(compiled: Any) -> tuple[tuple[str, ...], ...]:
    """Return the columns of each key of the one table that a compiled SELECT reads: its primary key, and unique ones.

    Args:
        compiled: SQLAlchemy's compiled statement, None for a text that was sent as it is.

    Returns:
        Empty if it reads no table or several, or that is not known.
    """
    statement = getattr(compiled, "statement", None)
    if statement is None or not getattr(statement, "is_select", False):
        return ()
    try:
        froms = statement.get_final_froms()
        if len(froms) != 1:
            return ()
        table = _find_keyed(froms[0])
        if table is None:
            return ()
        keys = [table.primary_key.columns]
        keys += [each.columns for each in table.constraints if isinstance(each, UniqueConstraint)]
        keys += [each.columns for each in table.indexes if each.unique]
        return tuple(tuple(column.name for column in key) for key in keys if key)
    except Exception:  # noqa: BLE001 - as above
        return ()


def _find_keyed(element: Any) -> Table | None:
    """Return the table whose keys are those of a whole join: one of them finds the rows of one object."""
    if isinstance(element, Alias):
        element = element.element
    if not isinstance(element, Join):
        return element if isinstance(element, Table) else None
    table, right = _find_keyed(element.left), element.right
    if table is None or element.isouter or not isinstance(right, Table):
        return table  # an option's join has an alias on its right
    # Of a joined-table hierarchy, whose tables share one key.
    shared = all(any(each.column.table is table for each in key.foreign_keys) for key in right.primary_key.columns)
    return table if shared and len(right.primary_key.columns) else None


def locks_rows(compiled: Any) -> bool:
    """Tell whether a compiled SELECT is FOR UPDATE, also on a database that has no such thing and reads it as plain.

    Args:
        compiled: As above.
    """
    return getattr(getattr(compiled, "statement", None), "_for_update_arg", None) is not None
