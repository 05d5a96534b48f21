"""Who asked for a statement, as the ORM knows it: which relationship, of which class.

In:  SQLAlchemy's execution context.
Out: plain names.

This is the one place that reads private attributes of SQLAlchemy (the same ones in 2.0 and 2.1). Whatever is missing
there means "not known", never an error.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class LoadMark(NamedTuple):
    """What the ORM wrote on a statement.

    Args:
        relationship: Such as `User.orders`, None where no relationship asked.
        kind: `lazy_load`, `refresh`, `deferred` or None.
        parent: Name of the class whose attribute was read, or of the base of its inheritance hierarchy.
        to_one: True if the relationship leads to one object, None where no relationship asked.
    """

    relationship: str | None = None
    kind: str | None = None
    parent: str | None = None
    to_one: bool | None = None


_NO_MARK = LoadMark()


def read_load_mark(context: Any) -> LoadMark:
    """Read why the ORM sent a statement.

    Args:
        context: SQLAlchemy's execution context.
    """
    try:
        options = context.execution_options.get("_sa_orm_load_options")
        if options is None:
            return _NO_MARK
        if options._lazy_loaded_from is not None:
            relationship = context.invoked_statement._compile_options._current_path.path[-1]
            name = f"{relationship.parent.class_.__name__}.{relationship.key}"
            parent = options._lazy_loaded_from.mapper.base_mapper.class_.__name__
            return LoadMark(name, "lazy_load", parent, not relationship.uselist)
        state = options._refresh_state
        if state is not None:
            # Loading an attribute that was never there is a deferred column; one that was expired is a refresh.
            kind = "refresh" if state.expired or state.expired_attributes else "deferred"
            return LoadMark(None, kind, state.mapper.base_mapper.class_.__name__)
    except Exception:  # noqa: BLE001 - private attributes of another version: not known
        return _NO_MARK
    return _NO_MARK


def read_select_entity(context: Any) -> str | None:
    """Return the name of the mapped class (the base of its hierarchy) that an ORM SELECT loads, else None.

    Args:
        context: SQLAlchemy's execution context.
    """
    statement = context.invoked_statement
    if statement is None or not getattr(statement, "is_select", False):
        return None
    try:
        subject = statement._propagate_attrs.get("plugin_subject")
        return None if subject is None else str(subject.mapper.base_mapper.class_.__name__)
    except Exception:  # noqa: BLE001 - as above
        return None
