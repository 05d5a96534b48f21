"""What is changed on mapped classes so that reads of relationships are seen, for which SQLAlchemy has no event.

In:  mapped classes and relationships of which an eager load was seen.
Out: names of relationships that were read, in `reading.ScopeReads` and on the tokens of objects; objects, counted.

The relationship's attribute on the class is given a class of ours, made from its own, whose `__get__` notes the read
first; and the relationship, the class's manager and the mappers are given methods that mark loaded objects and notice
what reads without the attribute: pickling, merging, deleting, looking up by key an object that is already there. They
are attributes of instances, not events: a listener that is added or removed while another thread goes through the list
of them raises there. FastAPI's `jsonable_encoder`, which takes `vars()` of an object, is the one function that is
changed elsewhere. `unwatch_reads` takes all of it back.
"""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sqlalchemy.orm import InstrumentedAttribute

from querywatch.reading import ANY, read_shares
from querywatch.samples import current_scope

if TYPE_CHECKING:
    from querywatch.samples import OpenScope

# On SQLAlchemy's state of an object. It is not pickled with it.
_MARK = "_querywatch_token"

_lock = threading.RLock()
# Mapped class -> keys of its relationships whose attributes are ours now.
_attributes: WeakKeyDictionary[type[Any], set[str]] = WeakKeyDictionary()
# Mapped classes whose objects are marked.
_classes: weakref.WeakSet[type[Any]] = weakref.WeakSet()
# What has functions of ours -> name -> ours, and what was there (None: the class's method).
_replaced: WeakKeyDictionary[Any, dict[str, tuple[Any, Any]]] = WeakKeyDictionary()


class _Thread(threading.local):
    checkout: weakref.ref[OpenScope] | None = None


_thread = _Thread()


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
        for target, functions in list(_replaced.items()):
            _put_back(target, functions)
        _attributes.clear()
        _classes.clear()
        _replaced.clear()


def expect_in_thread(scope: OpenScope) -> None:
    """Let the objects that this thread makes next, outside of every other scope, be those of a checkout.

    No contextvar leads from an object to the connection that its row came from.
    """
    _thread.checkout = weakref.ref(scope)


# -- the attribute


def name_relationship(relationship: Any) -> str:
    """Return the name of a relationship, such as `User.orders`."""
    return f"{relationship.parent.class_.__name__}.{relationship.key}"


def watch_relationship(relationship: Any) -> bool:
    """Let reads of *relationship* be noted; return False if there are reads that could not be."""
    with _lock:
        if read_shares.share == 0:
            return False  # the last monitor has taken everything back meanwhile
        if relationship not in _replaced:
            _replace(relationship, merge=_build_merge(relationship))
            for mapper in relationship.mapper.base_mapper.self_and_descendants:
                if "identity_key_from_primary_key" not in vars(mapper):
                    _replace(mapper, identity_key_from_primary_key=_build_identity_key(mapper))
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
                watched = _build_watched(type(attribute), name_relationship(relationship))
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


def watch_class(mapper: Any) -> None:
    """Mark the objects of a class that are loaded from now on, and notice what reads them without their attributes."""
    cls = mapper.class_
    if cls in _classes:
        return
    with _lock:
        if cls in _classes or read_shares.share == 0:
            return
        manager = mapper.class_manager
        _replace(manager, new_instance=_build_new_instance(manager, cls), _serialize=_build_serialize(manager))
        _replace(mapper, cascade_iterator=_build_cascade_iterator(mapper))
        _watch_encoder()
        _classes.add(cls)


def _replace(target: Any, **functions: Any) -> None:
    """Give *target* functions of its own, in front of those of its class."""
    known = _replaced.setdefault(target, {})
    for name, ours in functions.items():
        known[name] = ours, vars(target).get(name)
        vars(target)[name] = ours


def _put_back(target: Any, functions: dict[str, tuple[Any, Any]]) -> None:
    for name, (ours, before) in functions.items():
        if vars(target).get(name) is not ours:
            continue  # replaced by somebody later: ours only passes calls on from now
        if before is None:
            del vars(target)[name]
        else:
            vars(target)[name] = before


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

    return new_instance


def _build_serialize(manager: Any) -> Any:
    """Return a method in the place of SQLAlchemy's that takes part when an object is pickled or copied deeply."""
    original = manager._serialize

    def serialize(state: Any, state_dict: Any) -> Any:
        _note_use(state, ANY)
        return original(state, state_dict)

    return serialize


def _build_cascade_iterator(mapper: Any) -> Any:
    """Return a method in the place of SQLAlchemy's that goes along relationships: those of an object to delete."""
    original = mapper.cascade_iterator

    def cascade_iterator(type_: str, state: Any, *arguments: Any, **keywords: Any) -> Any:
        if type_ == "delete":
            _note_use(state, ANY)
        return original(type_, state, *arguments, **keywords)

    return cascade_iterator


def _build_identity_key(mapper: Any) -> Any:
    """Return a method in the place of SQLAlchemy's that looks for an object in the session: one that a join brought."""
    original, base, get_scope = mapper.identity_key_from_primary_key, mapper.base_mapper.class_, current_scope.get

    def identity_key_from_primary_key(*arguments: Any, **keywords: Any) -> Any:
        scope = get_scope()
        if scope is not None and scope.reads is not None:
            lookups = scope.reads.lookups
            lookups[base] = lookups.get(base, 0) + 1
        return original(*arguments, **keywords)

    return identity_key_from_primary_key


def _watch_encoder() -> None:
    """Notice objects that FastAPI turns into JSON without a response model, or the application by the same function.

    It comes back to the name in its module for what is inside of each object, whoever called it by another name.
    """
    module = sys.modules.get("fastapi.encoders")
    original = getattr(module, "jsonable_encoder", None)
    if module is None or original is None or module in _replaced:
        return

    @functools.wraps(original)
    def jsonable_encoder(obj: Any, *arguments: Any, **keywords: Any) -> Any:
        state = obj.get("_sa_instance_state") if type(obj) is dict else None
        if state is not None:
            _note_use(state, ANY)
        return original(obj, *arguments, **keywords)

    _replace(module, jsonable_encoder=jsonable_encoder)


def _build_merge(relationship: Any) -> Any:
    """Return a method in the place of SQLAlchemy's that copies what *relationship* leads to, from a merged object."""
    original, name = relationship.merge, name_relationship(relationship)

    def merge(session: Any, source_state: Any, *arguments: Any, **keywords: Any) -> Any:
        _note_use(source_state, name)
        return original(session, source_state, *arguments, **keywords)

    return merge
