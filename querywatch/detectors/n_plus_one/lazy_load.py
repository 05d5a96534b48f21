"""A relationship that is loaded one parent at a time: by reading it (`lazy_load`), or by the ORM's own loop.

In:  a closed scope.
Out: advice for each relationship: the loader option as it must be typed, and the line of the select it belongs to.

A relationship that is loaded with the same values again and again is that of one parent, expired in between: no option
of the select would end that.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from querywatch.detectors.n_plus_one.evidence import Advice, count_calls, find_most
from querywatch.predicates import parse_facts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from querywatch.records import ScopeQuery, ScopeRecord

_KINDS = frozenset({"lazy_load", "eager_loop"})
_QUERIED_LAZY = frozenset({"dynamic", "write_only"})
_WRITING_ACTS = frozenset({"cascade", "flush", "autoflush"})


def group(scope: ScopeRecord) -> Iterable[list[ScopeQuery]]:
    """Return the loads of each relationship, however many statements and lines they have."""
    groups: dict[object, list[ScopeQuery]] = defaultdict(list)
    for query in scope.queries:
        if query.kind in _KINDS and query.relationship is not None:
            groups[query.relationship, query.kind].append(query)
    return groups.values()


def advise(scope: ScopeRecord, queries: Sequence[ScopeQuery]) -> Advice | None:
    """Say how to load a relationship for all parents at once; None if there was one parent.

    Args:
        scope: What ran.
        queries: The loads of one relationship, over the limit.
    """
    most = find_most(queries)
    if most.same_parameters is True:
        return None
    relationship = str(most.relationship)
    where = f"the select at {most.parent_site}" if most.parent_site is not None else _describe_unknown(most)
    selects = [query for query in scope.queries if most.parent_site is not None and query.call_site == most.parent_site]
    message = f"{relationship} is loaded one parent at a time: {count_calls(queries)} statements."
    if _is_walk(most, sum(query.contexts for query in queries)):
        options = f"selectinload({relationship}, recursion_depth=-1)"
        add = _say_add(options, where, selects)
        return Advice(
            str(most.kind),
            relationship,
            f"{relationship} is followed one step at a time: {count_calls(queries)} statements.",
            "recursion",
            f"{add[0].upper()}{add[1:]}, or read the whole way with one recursive CTE.",
            (relationship,),
            options,
        )
    to_one = (False,) * len(most.path) if any(map(_takes_no_join, selects)) else most.to_one
    options = write_options(most.path, to_one)
    subclass = relationship.partition(".")[0]
    if len(most.path) == 1 and most.parent_entity == most.parent_base != subclass:
        # The SELECT of a base class takes options of a subclass only where it loads the subclass too.
        options = f"selectin_polymorphic({most.parent_base}, [{subclass}]), {options}"
    fix_kind = "joinedload" if to_one[-1] else "selectinload"
    add = _say_add(options, where, selects)
    fix = f"{add}."
    if most.lazy in _QUERIED_LAZY:
        fix = (
            f"No loader option fills a collection of lazy={most.lazy!r}: map {relationship} with lazy='select' too and "
            f"{add}, or run one SELECT with IN for all parents."
        )
    elif most.kind == "eager_loop" and most.act in _WRITING_ACTS:
        fix_kind = "passive_deletes"
        # Without a delete cascade the rows stay, and CASCADE in the database would delete them.
        passive, action = ("True", "CASCADE") if most.deletes else ("'all'", "SET NULL")
        fix = (
            f"Map {relationship} with passive_deletes={passive} and its foreign key with ondelete='{action}', so that "
            f"the database does it; or {add}."
        )
    elif most.kind == "eager_loop" and most.act == "merge" and most.parent_site in {None, most.call_site}:
        fix = (
            f"Load the objects first, with one select({most.path[0].partition('.')[0]}).where(...in_(...))"
            f".options({options}), and keep them until the merges at {most.call_site} are done."
        )
    elif most.kind == "eager_loop" and most.act == "immediate":
        fix = f"Put {options} in the place of immediateload({relationship}) at {where}."
        if most.lazy == "immediate":
            strategy = "joined" if most.to_one[-1] else "selectin"
            fix = f"Map {relationship} with lazy={strategy!r} instead of 'immediate'."
    return Advice(str(most.kind), relationship, message, fix_kind, fix[0].upper() + fix[1:], most.path, options)


def write_options(path: Sequence[str], to_one: Sequence[bool]) -> str:
    """Return the chained loader options of a path, as they are typed.

    Args:
        path: Relationships, such as `("User.orders", "Order.items")`.
        to_one: For each of them, whether it leads to one object: those are joined.
    """
    return ".".join(
        f"{'joinedload' if one else 'selectinload'}({relationship})"
        for relationship, one in zip(path, to_one, strict=True)
    )


def _say_add(options: str, where: str, selects: Sequence[ScopeQuery]) -> str:
    """Say where the options go: a look-up by key takes them as an argument."""
    if any(select.kind == "get" and select.act == "get" for select in selects):
        return f"pass options=[{options}] to the get() at {selects[0].call_site}"
    return f"add .options({options}) to {where}"


def _takes_no_join(query: ScopeQuery) -> bool:
    """Tell whether joinedload would fail, as where rows are locked, or do nothing, as where the text is given."""
    facts = parse_facts(query.statement, query.dialect)
    return query.locks_rows or query.is_text or facts is None or facts.locks_rows or facts.operation != "SELECT"


def _is_walk(most: ScopeQuery, contexts: int) -> bool:
    """Tell a way along a tree from one step taken for each row of a list."""
    if any(before == after for before, after in pairwise(most.path)):
        return True
    is_self_referential = most.entity_base is not None and most.entity_base == most.parent_base
    return is_self_referential and most.parent_rows is not None and contexts > most.parent_rows


def _describe_unknown(query: ScopeQuery) -> str:
    return f"the select that loads each {query.path[0].partition('.')[0]}"
