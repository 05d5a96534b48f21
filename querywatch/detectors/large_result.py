"""A result that is fetched as a whole though it has very many rows.

In:  a closed scope.
Out: one finding for each statement.

Rows that are read as they are needed (`yield_per`, `stream_results`, pages) are what the fix asks for. A scope knows
the largest result of a statement and not which of several lines fetched it; then the finding names none.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from querywatch.records import Finding, ScopeQuery, ScopeRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from querywatch.config import Config

CODE = "large-result"


@dataclass(frozen=True, slots=True)
class LargeResultEvidence:
    """What a scope showed.

    Args:
        sql: The statement, literals as `?`.
        rows: Rows of its largest result.
        limit: `large_result_rows`.
        scopes: Scopes that had it so far.
    """

    sql: str
    rows: int
    limit: int
    scopes: int = 1

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    def with_scopes(self, scopes: int) -> LargeResultEvidence:
        """Return the same with another number of scopes."""
        return replace(self, scopes=scopes)


def detect(scope: ScopeRecord, config: Config) -> Iterator[Finding]:
    """Yield the statements of one scope with a large result.

    Args:
        scope: What ran.
        config: `large_result_rows` is used.
    """
    groups: dict[object, list[ScopeQuery]] = defaultdict(list)
    for query in scope.queries:
        is_read = query.fingerprint.operation == "SELECT" and not query.streamed
        if is_read and query.max_rows is not None and query.max_rows >= config.large_result_rows:
            groups[query.fingerprint.id, query.database].append(query)
    for queries in groups.values():
        yield _build(scope, queries, config.large_result_rows)


def _build(scope: ScopeRecord, queries: list[ScopeQuery], limit: int) -> Finding:
    query = max(queries, key=lambda each: each.max_rows or 0)
    rows = query.max_rows or 0
    sites = {each.call_site for each in queries}
    call_site = query.call_site if len(sites) == 1 else None
    summary = query.fingerprint.summary
    where = f"the select at {call_site}" if call_site is not None else summary
    seen_at = scope.started_at + scope.duration_s
    return Finding(
        code=CODE,
        kind=None,
        severity="warning",
        message=f"{summary} returned {rows:,} rows at once.",
        fix=f"Page {where}: add .order_by() on the key and .limit(), and go on after the last key. Where every row is "
        "needed, as in an export, add .execution_options(yield_per=1000) and read the rows as they come.",
        fix_kind="paginate",
        subject=query.fingerprint.tables[0] if query.fingerprint.tables else summary,
        database=query.database,
        fingerprint=query.fingerprint.id,
        call_site=call_site,
        scope=scope.name,
        count=1,
        total_s=query.max_s,
        first_seen_at=seen_at,
        last_seen_at=seen_at,
        evidence=LargeResultEvidence(sql=query.fingerprint.sql, rows=rows, limit=limit),
    )
