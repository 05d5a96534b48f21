"""A call that took longer than the limit.

In:  a closed scope.
Out: one finding for each statement with a slow call.

Whether an index would help is not known here: the fix says where to look, and the proven index takes its place once
there is one. Nor is it known here whether the statement is always slow: `weigh` is told.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from querywatch.records import Finding, Habit, ScopeQuery, ScopeRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from querywatch.config import Config

CODE = "slow-query"

_LOOK = "Look at its plan: no index has been proven to help."
_NO_PLAN = "No index can help it: run it where nobody waits for it, or in smaller pieces."
_PLANNED = frozenset({"SELECT", "UPDATE", "DELETE"})
# Of so many calls at least, at most this share: a call that is slow so seldom was not slow by its plan.
_HABIT_CALLS = 20
_OUTLIER_RATIO = 0.05


@dataclass(frozen=True, slots=True)
class SlowQueryEvidence:
    """What a scope showed.

    Args:
        sql: The statement, literals as `?`.
        max_s: Its slowest call in seconds.
        limit_s: `slow_query_s` in seconds.
    """

    sql: str
    max_s: float
    limit_s: float

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def detect(scope: ScopeRecord, config: Config) -> Iterator[Finding]:
    """Yield the slow statements of one scope.

    Args:
        scope: What ran.
        config: `slow_query_s` is used.
    """
    seen_at = scope.started_at + scope.duration_s
    # Texts that differ in white space or aliases only are one statement.
    groups: dict[object, list[ScopeQuery]] = defaultdict(list)
    for query in scope.queries:
        # What a dialect asks on its first connection is nobody's statement.
        if query.slow_calls and query.act != "connect":
            groups[query.fingerprint.id, query.database, query.call_site].append(query)
    for queries in groups.values():
        query = max(queries, key=lambda each: each.max_s)
        yield Finding(
            code=CODE,
            kind=None,
            severity="warning",
            message=f"{query.fingerprint.summary} took {query.max_s * 1000:,.0f} ms.",
            fix=_LOOK if query.fingerprint.operation in _PLANNED and query.fingerprint.tables else _NO_PLAN,
            fix_kind="none",
            subject=query.fingerprint.tables[0] if query.fingerprint.tables else query.fingerprint.summary,
            database=query.database,
            fingerprint=query.fingerprint.id,
            call_site=query.call_site,
            scope=scope.name,
            count=sum(each.slow_calls for each in queries),
            total_s=sum(each.slow_total_s for each in queries),
            first_seen_at=seen_at,
            last_seen_at=seen_at,
            evidence=SlowQueryEvidence(sql=query.fingerprint.sql, max_s=query.max_s, limit_s=config.slow_query_s),
        )


def weigh(finding: Finding, habit: Habit) -> Finding | None:
    """Tell a slow statement from a fast one that once had to wait: only the first is something to mend.

    Args:
        finding: A `slow-query`.
        habit: How its statement usually runs.

    Returns:
        The finding with another severity and fix; None if it stands as it is.
    """
    outlier = habit.calls >= _HABIT_CALLS and habit.slow_calls <= _OUTLIER_RATIO * habit.calls
    if finding.fix_kind == "index" or outlier == (finding.severity == "info"):
        return None
    if not outlier:
        return replace(finding, severity="warning", fix=_LOOK)
    typical_ms = (habit.typical_s or 0.0) * 1000
    fix = f"It usually takes {typical_ms:,.2g} ms: this call had to wait, for a lock, the processor or the disk."
    return replace(finding, severity="info", fix=fix)
