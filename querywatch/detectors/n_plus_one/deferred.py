"""Columns that were left out of a SELECT and are then read for one object after the other.

In:  a closed scope.
Out: advice for each attribute: `undefer`, or the subclasses to load with the SELECT of their base.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from querywatch.detectors.n_plus_one.evidence import Advice, count_calls, find_most
from querywatch.detectors.n_plus_one.lazy_load import write_options

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from querywatch.records import ScopeQuery, ScopeRecord


def group(scope: ScopeRecord) -> Iterable[list[ScopeQuery]]:
    """Return the late loads of each attribute."""
    groups: dict[object, list[ScopeQuery]] = defaultdict(list)
    for query in scope.queries:
        if query.kind == "deferred" and query.attribute is not None:
            groups[query.attribute].append(query)
    return groups.values()


def advise(scope: ScopeRecord, queries: Sequence[ScopeQuery]) -> Advice | None:
    """Say which option loads the attribute with its object; None if it was one object.

    Args:
        scope: What ran.
        queries: The late loads of one attribute, over the limit.
    """
    most = find_most(queries)
    if most.same_parameters is True:
        return None
    attribute = str(most.attribute)
    class_ = attribute.partition(".")[0]
    base = str(most.entity_base)
    before = write_options(most.path, most.to_one)
    message = f"{attribute} is loaded one object at a time: {count_calls(queries)} statements."
    if most.cause == "polymorphic":
        classes = {str(each.attribute).partition(".")[0]: None for each in scope.queries if _is_sibling(each, most)}
        # In a chain the base class is the one that the option before leads to.
        listed = f"[{', '.join(sorted(classes))}]"
        option = f"selectin_polymorphic({listed})" if before else f"selectin_polymorphic({base}, {listed})"
        fix_kind = "selectin_polymorphic"
    else:
        option, fix_kind = f"undefer({attribute})", "undefer"
    options = f"{before}.{option}" if before else option
    root = most.path[0].partition(".")[0] if most.path else (base if fix_kind == "selectin_polymorphic" else class_)
    where = most.parent_site if most.parent_site is not None else f"that loads each {root}"
    at = "at " if most.parent_site is not None else ""
    fix = f"Add .options({options}) to the select {at}{where}."
    return Advice("deferred", attribute, message, fix_kind, fix, (*most.path, attribute), options)


def _is_sibling(query: ScopeQuery, most: ScopeQuery) -> bool:
    return query.cause == "polymorphic" and query.entity_base == most.entity_base and query.attribute is not None
