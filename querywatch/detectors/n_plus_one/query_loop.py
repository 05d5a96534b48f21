"""A SELECT of the application's own that runs once for each key (`get_loop`) or for each other value (`core_loop`).

In:  a closed scope.
Out: advice for each statement and line: one SELECT for all of them.

Two lines that run the same statement once each are no loop, and neither are five lines that call one function. Pages of
one result, a queue's polls and retries repeat a statement too: a loop looks rows up by equality, with changing values.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from querywatch.detectors.n_plus_one.evidence import Advice, count_calls, find_most
from querywatch.dialects import is_system_table
from querywatch.predicates import StatementFacts, TablePredicates, parse_facts, parse_predicates
from querywatch.timeline import is_from_many_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from querywatch.records import ScopeQuery, ScopeRecord

_WINDOW = re.compile(r"\bOVER\s*\(", re.IGNORECASE)
_KINDS = frozenset({None, "get"})
# Rows for each key on average from which one SELECT for all keys is no better.
_CHUNK_ROWS = 1_000


def group(scope: ScopeRecord) -> Iterable[list[ScopeQuery]]:
    """Return the SELECTs of the application, by statement and line."""
    groups: dict[object, list[ScopeQuery]] = defaultdict(list)
    for query in scope.queries:
        if query.kind in _KINDS and query.call_site is not None and query.fingerprint.operation == "SELECT":
            groups[query.kind, query.fingerprint.id, query.call_site].append(query)
    return groups.values()


def advise(scope: ScopeRecord, queries: Sequence[ScopeQuery]) -> Advice | None:  # noqa: ARG001 - the signature of all kinds
    """Say how to read all rows at once; None if this is no loop over keys.

    Args:
        scope: What ran.
        queries: The executions of one statement from one line, over the limit.
    """
    most = find_most(queries)
    contexts = sum(query.contexts for query in queries)
    facts = parse_facts(most.statement, most.dialect)
    if not most.looked_up or facts is None or _is_tried_again(queries, contexts):
        return None
    if facts.locks_rows or most.locks_rows or facts.written or _reads_chunks(most):
        return None
    if not facts.tables or all(is_system_table(most.dialect, table) for table in facts.tables):
        return None
    if is_from_many_lines(most, contexts):
        return None
    instance = _find_instance(most)
    table = instance.table if instance is not None else facts.tables[0]
    columns, before = " and ".join(most.looked_up), f"before the loop at {most.call_site}"
    calls = count_calls(queries)
    message = f"The same SELECT on {table} runs once for each {columns}: {calls} times."
    if _is_by_key(most, facts, instance, calls):
        fix = f"Run one SELECT with {columns} IN (...) {before}, and look the rows up in a dict."
        message = f"{table} is read one key at a time: {calls} SELECTs by {columns}."
        return Advice("get_loop", table, message, "in_query", fix)
    if facts.is_aggregate:
        fix_kind, fix = (
            "aggregate",
            f"Run one SELECT with GROUP BY {columns} {before}, and look the results up in a dict.",
        )
    elif facts.has_limit and instance is not None and instance.order:
        fix_kind = "window"
        fix = (
            f"Run one SELECT {before} with row_number() OVER (PARTITION BY {columns} ORDER BY "
            f"{', '.join(instance.order)}) in a subquery, and keep the first rows of each."
        )
    else:
        fix_kind, fix = "in_query", f"Run one SELECT with {columns} IN (...) {before}, and look the rows up in a dict."
        if _WINDOW.search(most.statement):
            # Else the rows of one key would be numbered among those of the others.
            fix = (
                f"Run one SELECT with {columns} IN (...) {before}, and {columns} in the PARTITION BY of each OVER "
                "(...); then look the rows up in a dict."
            )
    return Advice("core_loop", table, message, fix_kind, fix)


def _reads_chunks(query: ScopeQuery) -> bool:
    """Tell the pieces of a whole that is too large to be read at once from the rows of a few keys."""
    return query.rows is not None and query.rows >= _CHUNK_ROWS * query.calls


def _find_instance(query: ScopeQuery) -> TablePredicates | None:
    """Return the table whose columns are looked up."""
    instances = parse_predicates(query.statement, query.dialect)
    return next((each for each in instances if not _fold(query.looked_up).isdisjoint(_compared(each))), None)


def _compared(instance: TablePredicates) -> set[str]:
    # A list is of one value here: with more, nothing would be looked up.
    return _fold((*instance.equality, *instance.listed))


def _fold(columns: Iterable[str]) -> set[str]:
    # As they are written, names of one column may differ in case.
    return {column.lower() for column in columns}


def _is_by_key(query: ScopeQuery, facts: StatementFacts, instance: TablePredicates | None, calls: int) -> bool:
    if query.kind == "get":
        return True
    if facts.is_aggregate or instance is None or (query.rows is not None and query.rows > calls):
        return False
    # Of a text no table is known, nor are the keys of a `table()`; and `id` is what most call their key.
    keys = query.keys or ((("id",),) if len(facts.tables) == 1 else ())
    compared, looked_up = _compared(instance), _fold(query.looked_up)
    return any(compared.issuperset(_fold(key)) and not looked_up.isdisjoint(_fold(key)) for key in keys)


def _is_tried_again(queries: Sequence[ScopeQuery], contexts: int) -> bool:
    return 2 * sum(query.errors for query in queries) >= contexts
