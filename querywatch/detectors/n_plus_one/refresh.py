"""Objects whose columns are read again one by one: after a commit, a rollback, `expire()`, `refresh()` or a flush.

In:  a closed scope.
Out: advice for each class: how to keep what was known, or to read it again at once.

One object that is refreshed again and again is waited for, an object that is locked has to be read, and values that a
flush reads back are its own business.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from querywatch.detectors.n_plus_one.evidence import Advice, count_calls, find_most

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from querywatch.records import ScopeQuery, ScopeRecord

_FLUSHES = frozenset({"flush", "autoflush"})
_WRITES = frozenset({"INSERT", "UPDATE"})
# With as many commits, each refresh follows one.
_MOST = 0.8


def group(scope: ScopeRecord) -> Iterable[list[ScopeQuery]]:
    """Return the refreshes of each hierarchy of classes."""
    groups: dict[object, list[ScopeQuery]] = defaultdict(list)
    for query in scope.queries:
        if query.kind == "refresh" and query.act not in _FLUSHES:
            groups[query.entity_base].append(query)
    return groups.values()


def advise(scope: ScopeRecord, queries: Sequence[ScopeQuery]) -> Advice | None:
    """Say how to read the objects at once, or not again; None if it was one object.

    Args:
        scope: What ran.
        queries: The refreshes of one hierarchy of classes, over the limit.
    """
    most = find_most(queries)
    if all(query.same_parameters is True for query in queries) or most.waits or most.locks_rows:
        return None
    entities = {query.entity for query in queries}
    subject = str(most.entity_base if len(entities) > 1 else most.entity)
    calls = count_calls(queries)
    message = f"Each {subject} is read again by a SELECT of its own: {calls} statements."
    if most.cause == "defaults" and _was_written(scope, most):
        fix = (
            f"Map {subject} with __mapper_args__ = {{'eager_defaults': True}}, so that the flush brings back what the "
            "database made; or do not read it."
        )
        return Advice("refresh", subject, message, "eager_defaults", fix)
    after_commit = most.act != "refresh" or scope.commits >= _MOST * sum(query.contexts for query in queries)
    if scope.commits and after_commit:
        # What is asked for is read whether it was forgotten or not.
        and_ask = f" and leave out the refresh at {most.call_site}" if most.act == "refresh" else ""
        fix = (
            f"A commit forgets what was loaded: make the session with expire_on_commit=False{and_ask}, or commit once "
            f"after the loop at {most.call_site}."
        )
        return Advice("refresh", subject, message, "expire_on_commit", fix)
    fix = (
        f"Read them again at once: one select({subject}).where(...in_(...)).execution_options(populate_existing=True) "
        f"before the loop at {most.call_site}."
    )
    return Advice("refresh", subject, message, "in_query", fix)


def _was_written(scope: ScopeRecord, query: ScopeQuery) -> bool:
    tables = set(query.fingerprint.tables)
    return any(
        each.fingerprint.operation in _WRITES and not tables.isdisjoint(each.fingerprint.tables)
        for each in scope.queries
    )
