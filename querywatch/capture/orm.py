"""What the ORM knows of a statement that it sends: why, along which relationships, of which class.

In:  SQLAlchemy's execution context.
Out: plain names.

This is the one place that reads private attributes of SQLAlchemy (the same ones in 2.0 and 2.1). Whatever is missing
there means "not known", never an error.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy.sql.expression import FromClause, FunctionElement

from querywatch.samples import NO_MARK, LoadMark

# Of a row's columns that are loaded late; a table may have hundreds.
_ATTRIBUTES_LIMIT = 8
# A walk along a tree, with options, makes a path as long as the tree is deep.
_PATH_LIMIT = 6
# Marks of one relationship that are kept: building one takes longer than all else of a look.
_MARKS_LIMIT = 100
_MARKS_KEY = "_querywatch_marks"
# No loader option fills these: each use of the collection is a SELECT.
_QUERIED_LAZY = frozenset({"dynamic", "write_only"})
_JOINED_LAZY = frozenset({"joined", False})
_joined: WeakKeyDictionary[Any, tuple[tuple[str, bool, str], ...]] = WeakKeyDictionary()
# Mapper -> whether such a relationship leads to it: few applications have one, and looking for it takes time.
_queried: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def read_load_mark(context: Any) -> LoadMark:
    """Read why the ORM sent a statement; `NO_MARK` for what is no SELECT of the ORM.

    Args:
        context: SQLAlchemy's execution context.
    """
    try:
        statement = context.invoked_statement
        if statement is None or not (statement.is_select or getattr(statement, "is_from_statement", False)):
            return NO_MARK
        options = context.execution_options.get("_sa_orm_load_options")
        if options is not None:
            if options._lazy_loaded_from is not None:
                parent = options._lazy_loaded_from.mapper.base_mapper.class_.__name__
                return _describe_path("lazy_load", statement, parent)
            if options._refresh_state is not None:
                return _describe_refresh(statement, options._refresh_state)
            if statement._compile_options._current_path:
                return _describe_path("eager", statement, None)
        return _describe_select(statement)
    except Exception:  # noqa: BLE001 - private attributes of another version: not known
        return NO_MARK


def _describe_path(kind: str, statement: Any, parent: str | None) -> LoadMark:
    path = statement._compile_options._current_path.path
    # Kept on the relationship, whose mappers the path holds: all of them are let go together.
    marks: dict[Any, LoadMark] = getattr(path[-1], "__dict__", {}).setdefault(_MARKS_KEY, {})
    mark = marks.get((kind, path, parent))
    if mark is None:
        mark = _build_path_mark(kind, path, parent)
        if len(marks) < _MARKS_LIMIT:
            marks[kind, path, parent] = mark
    return mark


def _build_path_mark(kind: str, path: tuple[Any, ...], parent: str | None) -> LoadMark:
    steps = [step for step in path if getattr(step, "is_property", False)]
    last = steps[-1]
    kept = steps[-_PATH_LIMIT:] if len(steps) > _PATH_LIMIT else steps
    target = last.mapper
    return LoadMark(
        kind=kind,
        path=tuple(_name_attribute(step) for step in kept),
        to_one=tuple(not step.uselist for step in kept),
        entity=target.class_.__name__,
        entity_base=target.base_mapper.class_.__name__,
        parent=parent,
        lazy=str(last.lazy),
        deletes=bool(last.cascade.delete),
        package=last.parent.class_.__module__.partition(".")[0],
    )


def _describe_refresh(statement: Any, state: Any) -> LoadMark:
    mapper = state.mapper
    only = statement._compile_options._only_load_props
    names = sorted(name for name in only or () if name in mapper.column_attrs)
    if only and not state.expired and not set(names).difference(_list_key(mapper)):
        return LoadMark(kind="eager")  # refresh(user, ["orders"]): only sent to load the relationship
    if state.expired:
        kind, cause, attributes = "refresh", "expired", []
    elif not state.expired_attributes.intersection(names):
        # Loading an attribute that was never there is a deferred column.
        kind, cause, attributes = "deferred", None, names
    else:
        own = [name for name in names if not _is_inherited(mapper, name)] if mapper.inherits is not None else []
        kind, cause = ("deferred", "polymorphic") if own else ("refresh", "defaults")
        attributes = own
    return LoadMark(
        kind=kind,
        entity=mapper.class_.__name__,
        entity_base=mapper.base_mapper.class_.__name__,
        parent=mapper.base_mapper.class_.__name__,
        attributes=tuple(
            f"{_find_declarer(mapper, name).class_.__name__}.{name}" for name in attributes[:_ATTRIBUTES_LIMIT]
        ),
        cause=cause,
        package=mapper.class_.__module__.partition(".")[0],
    )


def _describe_select(statement: Any) -> LoadMark:
    subject = statement._propagate_attrs.get("plugin_subject")
    if subject is None:
        return NO_MARK
    mapper = subject.mapper
    relationship = _find_queried_relationship(statement, mapper)
    # Of columns alone no object is made, and so none is loaded that could lack something.
    loads = any(
        isinstance(each, FromClause) and not isinstance(each, FunctionElement) for each in statement._raw_columns
    )
    return LoadMark(
        kind="select" if relationship is None else "lazy_load",
        path=() if relationship is None else (_name_attribute(relationship),),
        to_one=() if relationship is None else (False,),
        entity=mapper.class_.__name__ if loads else None,
        entity_base=mapper.base_mapper.class_.__name__ if loads else None,
        parent=None if relationship is None else relationship.parent.base_mapper.class_.__name__,
        lazy=None if relationship is None else str(relationship.lazy),
        joined=_list_joined(mapper) if loads else (),
        package=mapper.class_.__module__.partition(".")[0],
    )


def _list_key(mapper: Any) -> list[str]:
    return [mapper.get_property_by_column(column).key for column in mapper.primary_key]


def _list_joined(mapper: Any) -> tuple[tuple[str, bool, str], ...]:
    """Return the relationships that each SELECT of a class joins, as it is mapped: name, to one, base class."""
    known = _joined.get(mapper)
    if known is None:
        known = _joined[mapper] = tuple(
            (_name_attribute(each), not each.uselist, each.mapper.base_mapper.class_.__name__)
            for each in mapper.relationships
            if each.lazy in _JOINED_LAZY
        )
    return known


def _find_queried_relationship(statement: Any, mapper: Any) -> Any:
    """Return the dynamic or write-only relationship whose rows of one parent a SELECT reads, None for any other."""
    if not _is_queried(mapper.base_mapper):
        return None
    for criterion in getattr(_innermost(statement), "_where_criteria", ()):
        for bind in _list_binds(criterion):
            names = bind.callable.__code__.co_freevars
            cells = dict(zip(names, bind.callable.__closure__ or (), strict=False))
            state = cells["state"].cell_contents if "state" in cells else None
            for relationship in getattr(getattr(state, "mapper", None), "relationships", ()):
                if relationship.lazy in _QUERIED_LAZY and relationship.mapper.base_mapper is mapper.base_mapper:
                    return relationship
    return None


def _is_queried(mapper: Any) -> bool:
    known = _queried.get(mapper)
    if known is None:
        known = _queried[mapper] = any(
            relationship.lazy in _QUERIED_LAZY and relationship.mapper.base_mapper is mapper
            for each in mapper.registry.mappers
            for relationship in each.relationships
        )
    return known


def _innermost(statement: Any) -> Any:
    """Return the SELECT that `Query.count()` puts into a subquery with an alias."""
    while not statement._where_criteria and statement._from_obj:
        inner = statement._from_obj[0]
        while inner is not None and not hasattr(inner, "_where_criteria"):
            inner = getattr(inner, "element", None)
        if inner is None:
            break
        statement = inner
    return statement


def _list_binds(criterion: Any) -> list[Any]:
    """Return the parameters of a condition whose values are read from an object when it runs."""
    found, waiting = [], [criterion]
    # A condition written by hand can be a tree of any size; that of a relationship is small.
    for _ in range(20):
        if not waiting:
            break
        element = waiting.pop()
        if getattr(element, "callable", None) is not None and hasattr(element.callable, "__code__"):
            found.append(element)
        waiting.extend(element.get_children())
    return found


def _name_attribute(attribute: Any) -> str:
    return f"{attribute.parent.class_.__name__}.{attribute.key}"


def _is_inherited(mapper: Any, name: str) -> bool:
    return mapper.inherits is not None and name in mapper.inherits.attrs


def _find_declarer(mapper: Any, name: str) -> Any:
    """Return the mapper of the class that has an attribute first."""
    while _is_inherited(mapper, name):
        mapper = mapper.inherits
    return mapper
