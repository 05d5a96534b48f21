"""Reads of relationships, which SQLAlchemy has no event for, and the objects that are loaded with them.

In:  SELECTs of the ORM in scopes whose reads are watched.
Out: `reading.EagerSelect` of each, and what was read of its objects.

Nothing is changed before an eager load is seen. Then the relationship's attribute on the mapped class is given a class
of ours, made from its own, whose `__get__` notes the read first; and the mapped class's manager and mapper are given
methods that mark loaded objects and notice pickling and cascades. Attributes of instances, not events: a listener that
is added or removed while another thread goes through the list of them raises there. `unwatch_reads` takes all of it
back.

Private attributes of SQLAlchemy are read in `_read_facts` and `_find_relationship` (the same ones in 2.0 and 2.1); what
is missing there means that nothing is said of a SELECT.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy.orm import InstrumentedAttribute

from querywatch.reading import ANY, EagerRelationship, EagerSelect, read_shares
from querywatch.samples import current_scope

if TYPE_CHECKING:
    from querywatch.reading import ScopeReads
    from querywatch.samples import Asker, OpenScope, Samples

# On SQLAlchemy's state of an object. It is not pickled with it.
_MARK = "_querywatch_token"
_STRATEGIES = frozenset({"joined", "selectin", "subquery", "immediate", False})
# Kinds of a load mark whose statements load one object each, known to the application already.
_RELOADS = frozenset({None, "refresh", "deferred"})

_lock = threading.RLock()
# Mapped class -> keys of its relationships whose attributes are ours now.
_attributes: WeakKeyDictionary[type[Any], set[str]] = WeakKeyDictionary()
# Mapped classes whose managers and mappers have methods of ours.
_classes: weakref.WeakSet[type[Any]] = weakref.WeakSet()


class _Thread(threading.local):
    #: The checkout in which this thread ran its latest watched SELECT: no contextvar leads from an object to it.
    checkout: weakref.ref[OpenScope] | None = None


_thread = _Thread()


class _Facts(NamedTuple):
    """What a SELECT loads, read from its compile state.

    Args:
        mappers: Of all objects that its rows are made into.
        joined: Relationships that it joins to load them.
        strategies: Relationship -> strategy, of those that an option names.
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


# -- on and off


def watch_reads(owner: int, share: float) -> None:
    """Watch a share of the scopes that begin from now on.

    Args:
        owner: Number of the monitor that wants it.
        share: Of the scopes, 0 to 1.
    """
    with _lock:
        read_shares.set_share(owner, share)


def unwatch_reads(owner: int) -> None:
    """Take a monitor's wish back; with the last one, leave every class as it was. Twice does nothing more."""
    with _lock:
        read_shares.set_share(owner, 0.0)
        if read_shares.share > 0:
            return
        for cls, keys in list(_attributes.items()):
            for key in keys:
                _give_back(vars(cls).get(key))
        _attributes.clear()
        for cls in list(_classes):
            _leave_class(cls)
        _classes.clear()


# -- a SELECT


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
    if "merge" in asker.acts:
        reads.names.add(ANY)  # what is merged is read from the given object by SQLAlchemy itself
    if scope.kind == "checkout":
        _thread.checkout = weakref.ref(scope)
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
        _note_joins(select, facts.joined)
    _expect_objects(reads, facts.mappers, select)


def _note_joins(select: EagerSelect, joined: tuple[Any, ...]) -> None:
    for relationship in joined:
        if _watch_relationship(relationship):
            is_mapped = relationship not in select.strategies and relationship.lazy in _STRATEGIES
            _note_relationship(select, relationship, "joined", is_mapped=is_mapped)


def _expect_objects(reads: ScopeReads, mappers: tuple[Any, ...], select: EagerSelect | None) -> None:
    """Let the objects that are made next be those of *select*; of None, of no SELECT that matters."""
    for mapper in mappers:
        for each in mapper.self_and_descendants:
            if select is None:
                reads.loading.pop(each.class_, None)
            else:
                _watch_class(each)
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
    if select is None or not _watch_relationship(relationship):
        return select
    strategy = select.strategies.get(relationship)
    is_mapped = strategy is None and relationship.lazy in _STRATEGIES
    if not is_eager:
        strategy = "immediate"
    elif strategy is None:
        strategy = str(relationship.lazy) if is_mapped else "selectin"
    _note_relationship(select, relationship, strategy, is_mapped=is_mapped).samples[id(samples)] = samples
    return select


def _makes(reads: ScopeReads, select: EagerSelect, cls: type[Any]) -> bool:
    return any(
        known is select and (issubclass(each, cls) or issubclass(cls, each))
        for each, known in list(reads.loading.items())
    )


def _note_relationship(select: EagerSelect, relationship: Any, strategy: str, *, is_mapped: bool) -> EagerRelationship:
    name = _name(relationship)
    known = select.eager.get(name)
    if known is None:
        known = select.eager[name] = EagerRelationship(name, relationship.parent.class_, strategy, is_mapped=is_mapped)
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
        steps = [step for step in path if getattr(step, "is_property", False)]
        if not steps or not hasattr(steps[-1], "mapper"):
            continue
        # Of a join that the application wrote (`contains_eager`) the key is another one.
        if what == "eager_row_processor":
            joined.append(steps[-1])
        elif what == "loader" and value.strategy:
            strategy = dict(value.strategy).get("lazy")
            if strategy in _STRATEGIES and "eager_from_alias" not in value.local_opts:
                strategies[steps[-1]] = str(strategy or "joined")
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


def _name(relationship: Any) -> str:
    return f"{relationship.parent.class_.__name__}.{relationship.key}"


# -- the attribute


def _watch_relationship(relationship: Any) -> bool:
    """Let reads of *relationship* be noted; return False if there are reads that could not be."""
    with _lock:
        for mapper in relationship.parent.self_and_descendants:
            cls = mapper.class_
            if relationship.key in _attributes.get(cls, ()):
                continue
            attribute = vars(cls).get(relationship.key)
            if attribute is None:
                continue  # its parent's stands for it
            if not isinstance(attribute, InstrumentedAttribute):
                return False  # something of the application's stands in its place
            if mapper.attrs.get(relationship.key) is relationship:
                watched = _build_watched(type(attribute), _name(relationship))
                _set_class(attribute, watched)
                _attributes.setdefault(cls, set()).add(relationship.key)
    return True


def _give_back(attribute: Any) -> None:
    original = getattr(type(attribute), "_querywatch_original", None)
    if original is not None:
        _set_class(attribute, original)


# Around the property below, which a watched attribute has in its place.
_set_class: Any = object.__dict__["__class__"].__set__


def _build_watched(original: type[Any], name: str) -> type[Any]:
    """Return a class that does what *original* does, and notes what is read and written."""
    original_get, original_set, original_delete = original.__get__, original.__set__, original.__delete__
    get_scope = current_scope.get

    class WatchedAttribute(original):  # type: ignore[misc]  # of the attribute at hand
        __slots__ = ()
        inherit_cache = True
        _querywatch_original = original

        @property  # type: ignore[misc]  # as unittest.mock does it
        def __class__(self) -> Any:
            # SQLAlchemy keys its cache of compiled statements by it, and makes attributes of aliases from it.
            return original

        def __get__(self, instance: Any, owner: Any) -> Any:
            if instance is not None:
                try:
                    token = getattr(instance._sa_instance_state, _MARK, None)
                    if token is not None:
                        token.names.add(name)
                    scope = get_scope()
                    if scope is not None and scope.reads is not None:
                        scope.reads.names.add(name)
                except Exception:  # noqa: BLE001, S110 - what is wrong with the instance is SQLAlchemy's to say
                    pass
            return original_get(self, instance, owner)

        def __set__(self, instance: Any, value: Any) -> None:
            # A collection that is replaced is compared with the old one: that would be loaded now.
            _note_any_use(instance, name)
            original_set(self, instance, value)

        def __delete__(self, instance: Any) -> None:
            _note_any_use(instance, name)
            original_delete(self, instance)

    return WatchedAttribute


def _note_any_use(instance: Any, name: str) -> None:
    """Note that *name* was used, as far as *instance* is a mapped object."""
    state = getattr(instance, "_sa_instance_state", None)
    if state is not None:
        _note_use(state, name)


def _note_use(state: Any, name: str) -> None:
    token = getattr(state, _MARK, None)
    if token is not None:
        token.names.add(name)
    scope = current_scope.get()
    if scope is not None and scope.reads is not None:
        scope.reads.names.add(name)


# -- the objects


def _watch_class(mapper: Any) -> None:
    """Mark the objects of a class that are loaded from now on, and notice what reads them without their attributes."""
    cls = mapper.class_
    if cls in _classes:
        return
    with _lock:
        if cls in _classes:
            return
        manager = mapper.class_manager
        vars(manager)["new_instance"] = _build_new_instance(manager, cls)
        vars(manager)["_serialize"] = _build_serialize(manager)
        vars(mapper)["cascade_iterator"] = _build_cascade_iterator(mapper)
        _classes.add(cls)


def _leave_class(cls: type[Any]) -> None:
    mapper = getattr(cls, "__mapper__", None)
    manager = vars(cls).get("_sa_class_manager")
    for target, names in ((manager, ("new_instance", "_serialize")), (mapper, ("cascade_iterator",))):
        for name in names if target is not None else ():
            if hasattr(vars(target).get(name), "_querywatch"):
                del vars(target)[name]


def _build_new_instance(manager: Any, cls: type[Any]) -> Any:
    """Return a method in the place of SQLAlchemy's that makes an empty object for a row."""
    original, get_scope, thread = manager.new_instance, current_scope.get, _thread

    def new_instance(state: Any = None) -> Any:
        instance = original(state)
        try:
            scope = get_scope()
            if scope is None or scope.closed:
                scope = None if thread.checkout is None else thread.checkout()
            if scope is not None and scope.reads is not None and not scope.closed:
                select = scope.reads.loading.get(cls)
                if select is not None:
                    setattr(instance._sa_instance_state, _MARK, select.count(cls))
        except Exception:  # noqa: BLE001, S110 - the application's object has been made
            pass
        return instance

    new_instance._querywatch = True  # type: ignore[attr-defined]
    return new_instance


def _build_serialize(manager: Any) -> Any:
    """Return a method in the place of SQLAlchemy's that takes part when an object is pickled or copied deeply."""
    original = manager._serialize

    def serialize(state: Any, state_dict: Any) -> Any:
        _note_use(state, ANY)
        return original(state, state_dict)

    serialize._querywatch = True  # type: ignore[attr-defined]
    return serialize


def _build_cascade_iterator(mapper: Any) -> Any:
    """Return a method in the place of SQLAlchemy's that goes along relationships: those of an object to delete."""
    original = mapper.cascade_iterator

    def cascade_iterator(type_: str, state: Any, *arguments: Any, **keywords: Any) -> Any:
        if type_ == "delete":
            _note_use(state, ANY)
        return original(type_, state, *arguments, **keywords)

    cascade_iterator._querywatch = True  # type: ignore[attr-defined]
    return cascade_iterator
