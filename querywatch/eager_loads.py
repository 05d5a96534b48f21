"""What a scope loaded eagerly, once nobody can read it any more.

In:  the reads of a scope that ended, and its samples, folded.
Out: `EagerLoad` records.

While an object of a SELECT is still there, somebody may read it: nothing is said then. Of a script that ended nobody
reads anything. Reads of an object's `__dict__` are seen by nobody: where a function that the SELECT was sent from or a
method of the class takes it, all that was loaded counts as read.
"""

from __future__ import annotations

import inspect
from types import CodeType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from querywatch.callsite import describe_caller, is_application
from querywatch.records import EagerLoad

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from querywatch.reading import EagerRelationship, EagerSelect
    from querywatch.records import Fingerprint
    from querywatch.samples import OpenScope, Samples, Sink

# What takes the values of an object around its attributes.
_ASIDE = frozenset({"__dict__", "vars", "loaded_value", "instance_dict", "get_attribute"})

# Mapped class -> whether a method of its own, or of a base of the application's, does.
_classes: WeakKeyDictionary[type[Any], bool] = WeakKeyDictionary()


def list_eager_loads(
    scope: OpenScope, sink: Sink, find_fingerprint: Callable[[str, str], Fingerprint]
) -> Iterator[EagerLoad]:
    """Yield what was loaded eagerly on the engines of one monitor; nothing of a scope that is open or was not watched.

    Args:
        scope: Its samples have been folded.
        sink: The monitor.
        find_fingerprint: From shape and SQLAlchemy dialect name to fingerprint.
    """
    if scope.reads is None or not scope.closed:
        return
    for select in list(scope.reads.selects.values()):
        if select.samples.source.monitor is not sink:
            continue
        for relationship in list(select.eager.values()):
            is_read = scope.reads.was_read(select, relationship) or _may_be_read_aside(select, relationship)
            if is_read or scope.kind == "script" or not select.has_living(relationship):
                yield _describe(select, relationship, find_fingerprint, is_read=is_read)


def _may_be_read_aside(select: EagerSelect, relationship: EagerRelationship) -> bool:
    if any(map(_takes_aside, select.callers)):
        return True
    known = _classes.get(relationship.parent)
    if known is None:
        known = _classes[relationship.parent] = any(map(_takes_aside, _list_methods(relationship.parent)))
    return known


def _list_methods(cls: type[Any]) -> Iterator[CodeType]:
    """Yield the code of the methods and properties that the application wrote for a class."""
    for each in cls.__mro__:
        for member in list(vars(each).values()):
            function = getattr(member, "fget", None) or getattr(member, "__func__", None) or member
            if inspect.isfunction(function) and is_application(function.__code__):
                yield function.__code__


def _takes_aside(code: CodeType) -> bool:
    return not _ASIDE.isdisjoint(code.co_names) or any(
        _takes_aside(each) for each in code.co_consts if isinstance(each, CodeType)
    )


def _describe(
    select: EagerSelect,
    relationship: EagerRelationship,
    find_fingerprint: Callable[[str, str], Fingerprint],
    *,
    is_read: bool,
) -> EagerLoad:
    own: list[Samples] = list(relationship.samples.values())
    samples: Samples = own[0] if own else select.samples
    return EagerLoad(
        relationship=relationship.name,
        strategy=relationship.strategy,
        is_mapped=relationship.is_mapped,
        objects=select.count_parents(relationship),
        read=is_read,
        call_site=describe_caller(select.code, select.line) if select.code is not None else None,
        database=samples.source.database.name,
        fingerprint=find_fingerprint(samples.shape, samples.source.database.dialect).id,
        statements=sum(each.folded.samples for each in own),
        total_s=sum(each.folded.total_s for each in own),
    )
