"""A scope that sent more statements, or spent more time in the databases, than it is allowed to.

In:  a closed scope.
Out: one finding for the scope.

What reads no table of the application (the catalog, a setting, `SELECT 1`) is not counted: a driver asks such things on
the first connection. A limit of the scope's own goes before that of the settings, which are for requests and jobs and
not for whole programs.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from querywatch.records import Finding, ScopeQuery, ScopeRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from querywatch.config import Config

CODE = "scope-budget"

_NAMED = 3


@dataclass(frozen=True, slots=True)
class ScopeBudgetEvidence:
    """What a scope showed.

    Args:
        calls: Statements it sent.
        max_queries: How many it may send, None for any number.
        db_s: Seconds in the databases.
        max_db_s: How many it may spend, None for any.
        costliest: The statements that took most of the time, for people.
        scopes: Scopes that broke it so far.
    """

    calls: int
    max_queries: int | None
    db_s: float
    max_db_s: float | None
    costliest: tuple[str, ...]
    scopes: int = 1

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self) | {"costliest": list(self.costliest)}

    def with_scopes(self, scopes: int) -> ScopeBudgetEvidence:
        """Return the same with another number of scopes."""
        return replace(self, scopes=scopes)


def detect(scope: ScopeRecord, config: Config) -> Iterator[Finding]:
    """Yield the broken budget of one scope.

    Args:
        scope: What ran; its own `max_queries` and `max_db_s` are used.
        config: `max_queries` and `max_db_s` are used where the scope has none.
    """
    is_limited = scope.kind != "script"
    max_queries = scope.max_queries or (config.max_queries if is_limited else None)
    max_db_s = scope.max_db_s or (config.max_db_s if is_limited else None)
    broken = []
    calls = _count([query for query in scope.queries if not query.is_housekeeping])
    if max_queries is not None and calls > max_queries:
        broken.append(f"{calls:,} statements where {max_queries:,} are allowed")
    if max_db_s is not None and scope.total_s > max_db_s:
        broken.append(f"{scope.total_s:,.2f} s in the database where {max_db_s:g} s are allowed")
    if not broken:
        return
    costliest = tuple(map(_describe, _rank(scope, by_time=max_db_s is not None and scope.total_s > max_db_s)))
    databases = {query.database for query in scope.queries}
    database = databases.pop() if len(databases) == 1 else None
    seen_at = scope.started_at + scope.duration_s
    yield Finding(
        code=CODE,
        kind=None,
        severity="warning",
        message=f"{' and '.join(broken)}. Most of it: {'; '.join(costliest)}.",
        fix=f"Begin with {costliest[0]}.",
        fix_kind="none",
        subject=scope.name or str(database or scope.kind),
        database=database,
        fingerprint=None,
        call_site=None,
        scope=scope.name,
        count=1,
        total_s=scope.total_s,
        first_seen_at=seen_at,
        last_seen_at=seen_at,
        evidence=ScopeBudgetEvidence(
            calls=calls, max_queries=max_queries, db_s=scope.total_s, max_db_s=max_db_s, costliest=costliest
        ),
    )


def _rank(scope: ScopeRecord, *, by_time: bool) -> list[list[ScopeQuery]]:
    """Return the statements that cost most of what there is too much of, each with its queries from any line."""
    groups: dict[object, list[ScopeQuery]] = defaultdict(list)
    for query in scope.queries:
        if query.calls and (by_time or not query.is_housekeeping):
            groups[query.fingerprint.id, query.database].append(query)
    cost = _sum_time if by_time else _count
    return sorted(groups.values(), key=cost, reverse=True)[:_NAMED]


def _describe(queries: list[ScopeQuery]) -> str:
    most = max(queries, key=lambda query: query.calls)
    calls = _count(queries)
    times = "once" if calls == 1 else f"{calls:,} times"
    site = f" at {most.call_site}" if most.call_site is not None else ""
    return f"{most.fingerprint.summary}{site} ({times}, {_sum_time(queries) * 1000:,.0f} ms)"


def _count(queries: list[ScopeQuery]) -> int:
    return sum(query.calls for query in queries)


def _sum_time(queries: list[ScopeQuery]) -> float:
    return sum(query.total_s for query in queries)
