"""What SELECTs of the ORM load eagerly, in scopes whose reads are watched.

In:  execution contexts of such SELECTs.
Out: `reading.EagerSelect` of each that loads, or may load, relationships beside its own rows.

Joins are read from SQLAlchemy's compile state; every other strategy sends statements of its own, which say what they
load. A join that the application wrote itself (`contains_eager`) is not counted: it may be there for its WHERE.

Private attributes of SQLAlchemy are read in `_read_facts` and `_find_relationship` (the same ones in 2.0 and 2.1); what
is missing there means that nothing is said of a SELECT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from querywatch.callsite import find_caller, find_outer
from querywatch.capture.watched_classes import expect_in_thread, name_relationship, watch_class, watch_relationship
from querywatch.reading import EagerRelationship, EagerSelect, read_shares

if TYPE_CHECKING:
    from types import CodeType

    from querywatch.callsite import Caller
    from querywatch.reading import ScopeReads
    from querywatch.samples import Asker, OpenScope, Samples

# As relationships and options name them; False is an older name of `joined`.
_STRATEGIES = frozenset({"joined", "selectin", "subquery", "immediate", False})
# Kinds of a load mark whose statements load one object each, known to the application already.
_RELOADS = frozenset({None, "refresh", "deferred"})
# Functions of one stack; who reads what it gets from farther away asks a helper to load it.
_CALLERS_LIMIT = 8


class _Facts(NamedTuple):
    """What a SELECT loads, read from its compile state.

    Args:
        mappers: Of all objects that its rows are made into.
        joined: Relationships that it joins to load them.
        strategies: Relationship -> strategy, of those that an option names; None stands for all others (`"*"`).
    """

    mappers: tuple[Any, ...]
    joined: tuple[Any, ...]
    strategies: dict[Any, str]

    @property
    def may_load_eagerly(self) -> bool:
        return bool(self.joined or self.strategies) or any(
            relationship.lazy in _STRATEGIES
            for mapper in self.mappers
            for each in mapper.self_and_descendants
            for relationship in each.relationships
        )


def note_select(scope: OpenScope, samples: Samples, asker: Asker, context: Any) -> None:
    """Note what an ORM SELECT loads eagerly. Called between its execution and the making of objects.

    Args:
        scope: Whose `reads` are not None.
        samples: Of the statement.
        asker: Who sent it.
        context: SQLAlchemy's execution context.
    """
    reads, mark = scope.reads, asker.mark
    if reads is None or mark.kind in _RELOADS or read_shares.share == 0:
        return
    if scope.kind == "checkout":
        expect_in_thread(scope)
    parent = None
    if mark.kind == "eager" or asker.acts[:1] == ("immediate",):
        parent = _note_relationship_statement(reads, samples, context, mark.kind == "eager")
    state = context.compiled.compile_state
    facts = None if state is None else _find_facts(state)
    if facts is None:
        return
    select = reads.selects.get(state)
    if select is None and not reads.is_full and facts.may_load_eagerly:
        # What an eager load loads eagerly in turn was asked for by the same line.
        origin = asker if parent is None else parent
        select = reads.selects[state] = EagerSelect(samples, origin.code, origin.line, facts.strategies)
        select.callers = _list_callers()
        _note_joins(reads, select, facts.joined)
    _expect_objects(reads, facts.mappers, select)


def _list_callers() -> tuple[CodeType, ...]:
    """Return the application's functions on the running stack, innermost first, at most a few."""
    codes: list[CodeType] = []
    caller: Caller | None = find_caller()
    while caller is not None and caller.code is not None and len(codes) < _CALLERS_LIMIT:
        codes.append(caller.code)
        caller = find_outer(caller)
    return tuple(codes)


def _note_joins(reads: ScopeReads, select: EagerSelect, joined: tuple[Any, ...]) -> None:
    for relationship in joined:
        if watch_relationship(relationship):
            is_mapped = _find_strategy(select, relationship) is None and relationship.lazy in _STRATEGIES
            _note_relationship(reads, select, relationship, "joined", is_mapped=is_mapped)


def _expect_objects(reads: ScopeReads, mappers: tuple[Any, ...], select: EagerSelect | None) -> None:
    """Let the objects that are made next be those of *select*; of None, of no SELECT that matters."""
    for mapper in mappers:
        for each in mapper.self_and_descendants:
            if select is None:
                reads.loading.pop(each.class_, None)
            else:
                watch_class(each)
                reads.loading[each.class_] = select


def _note_relationship_statement(
    reads: ScopeReads,
    samples: Samples,
    context: Any,
    is_eager: bool,  # noqa: FBT001 - called in one place
) -> EagerSelect | None:
    """Note a statement that loads a relationship of the objects of another SELECT, and return that SELECT."""
    relationship = _find_relationship(context)
    if relationship is None:
        return None
    cls = relationship.parent.class_
    # The latest one whose rows may be objects with this relationship: its objects are being made now.
    select = next((each for each in reversed(list(reads.selects.values())) if _makes(reads, each, cls)), None)
    if select is None or not watch_relationship(relationship):
        return select
    strategy = _find_strategy(select, relationship)
    is_mapped = strategy is None and relationship.lazy in _STRATEGIES
    if not is_eager:
        strategy = "immediate"
    elif strategy is None:
        strategy = str(relationship.lazy) if is_mapped else "selectin"
    _note_relationship(reads, select, relationship, strategy, is_mapped=is_mapped).samples[id(samples)] = samples
    return select


def _find_strategy(select: EagerSelect, relationship: Any) -> str | None:
    """Return the strategy that an option of *select* asks for, None if none does."""
    return select.strategies.get(relationship) or select.strategies.get(None)


def _makes(reads: ScopeReads, select: EagerSelect, cls: type[Any]) -> bool:
    return any(
        known is select and (issubclass(each, cls) or issubclass(cls, each))
        for each, known in list(reads.loading.items())
    )


def _note_relationship(
    reads: ScopeReads, select: EagerSelect, relationship: Any, strategy: str, *, is_mapped: bool
) -> EagerRelationship:
    name = name_relationship(relationship)
    known = select.eager.get(name)
    if known is None:
        target = relationship.mapper.base_mapper.class_
        known = select.eager[name] = EagerRelationship(
            name,
            relationship.parent.class_,
            strategy,
            is_mapped=is_mapped,
            target=target,
            lookups=reads.lookups.get(target, 0),
        )
    return known


# -- what SQLAlchemy says of a SELECT

_facts: WeakKeyDictionary[Any, _Facts | None] = WeakKeyDictionary()


def _find_facts(state: Any) -> _Facts | None:
    """Return what the SELECT of a compile state loads, None where that cannot be read."""
    try:
        return _facts[state]
    except KeyError:
        pass
    try:
        facts = _read_facts(state)
    except Exception:  # noqa: BLE001 - private attributes of another version: not known
        facts = None
    _facts[state] = facts
    return facts


def _read_facts(state: Any) -> _Facts:
    joined, strategies = [], {}
    for (what, path), value in list(state.attributes.items()):
        last = next((step for step in reversed(path) if getattr(step, "is_property", False)), None)
        if last is not None and not hasattr(last, "mapper"):
            continue  # a column
        # Of a join that the application wrote (`contains_eager`) the key is another one.
        if what == "eager_row_processor" and last is not None:
            joined.append(last)
        elif what == "loader" and value.strategy:
            strategy = dict(value.strategy).get("lazy")
            if strategy in _STRATEGIES and "eager_from_alias" not in value.local_opts:
                strategies[last] = str(strategy or "joined")
    # Of columns and bundles no object is made; this attribute is that of an entity.
    mappers = [entity.mapper for entity in state._entities if hasattr(entity, "_with_polymorphic_mappers")]
    mappers += [relationship.mapper for relationship in joined]
    return _Facts(tuple(dict.fromkeys(mappers)), tuple(dict.fromkeys(joined)), strategies)


def _find_relationship(context: Any) -> Any:
    """Return the relationship that a statement loads, None where that cannot be read."""
    try:
        path = context.invoked_statement._compile_options._current_path.path
        return [step for step in path if getattr(step, "is_property", False)][-1]
    except Exception:  # noqa: BLE001 - as above
        return None
