"""One SELECT that is sent again and again with the same values, while nothing it reads was changed.

In:  a closed scope.
Out: one finding for each statement over the limit.

A poll repeats a statement too: it ends its transaction between two looks, to see what others wrote, and does nothing
else meanwhile, or it sleeps. So does a worker that asks for the next job, which changes what it reads. And so does what
reads the rows of one tenant after the other, by schema or by role. All are silent.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from querywatch.dialects import is_system_table
from querywatch.predicates import parse_facts
from querywatch.records import Finding, ScopeQuery, ScopeRecord
from querywatch.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from querywatch.config import Config
    from querywatch.records import Step

CODE = "duplicate-query"

_KINDS = frozenset({None, "get"})
# Functions that give another value each time.
_VOLATILE = re.compile(
    r"\b(?:random|rand|newid|uuid|gen_random_uuid|uuid_generate_v\w+|nextval|clock_timestamp)\s*\(|\bTABLESAMPLE\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class DuplicateQueryEvidence:
    """What a scope showed.

    Args:
        sql: The statement, literals as `?`.
        calls: Executions of it in the scope that was seen last.
        scope_calls: Executions of any statement in that scope.
        scopes: Scopes that had it so far.
        lines: The lines that sent it, as `file:line`.
    """

    sql: str
    calls: int
    scope_calls: int
    scopes: int = 1
    lines: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self) | {"lines": list(self.lines)}

    def with_scopes(self, scopes: int) -> DuplicateQueryEvidence:
        """Return the same with another number of scopes."""
        return replace(self, scopes=scopes)


def detect(scope: ScopeRecord, config: Config) -> Iterator[Finding]:
    """Yield the SELECTs of one scope that could have been sent once.

    Args:
        scope: What ran.
        config: `n_plus_one_threshold` is used.
    """
    groups: dict[object, list[ScopeQuery]] = defaultdict(list)
    for query in scope.queries:
        if query.kind in _KINDS and query.same_parameters is True and query.fingerprint.operation == "SELECT":
            groups[query.fingerprint.id, query.database].append(query)
    timeline = Timeline(scope)
    for queries in groups.values():
        if sum(query.contexts for query in queries) < config.n_plus_one_threshold or not _may_be_kept(queries):
            continue
        if _count_repeats(timeline, queries) + 1 >= config.n_plus_one_threshold:
            yield _build(scope, queries)


def _may_be_kept(queries: Sequence[ScopeQuery]) -> bool:
    first = queries[0]
    facts = parse_facts(first.statement, first.dialect)
    if facts is None or not facts.tables or any(query.waits or query.locks_rows for query in queries):
        return False
    if facts.written or facts.locks_rows or _VOLATILE.search(first.statement):
        return False
    if all(is_system_table(first.dialect, table) for table in facts.tables):
        return False
    return 2 * sum(query.errors for query in queries) < sum(query.contexts for query in queries)


def _count_repeats(timeline: Timeline, queries: Sequence[ScopeQuery]) -> int:
    """Return how many executions gave what the one before had given, judged by the first ones of them."""
    statements = {query.statement for query in queries}
    contexts = sum(query.contexts for query in queries)
    in_unit = timeline.count_in_unit(statements)
    if in_unit is not None:
        return in_unit - 1
    turns = timeline.list_turns(statements)
    if not turns:
        return 0
    tables = queries[0].fingerprint.tables
    repeats = [turn for turn in turns if not (timeline.writes(turn, tables) or timeline.resets(turn) or _is_poll(turn))]
    return round(len(repeats) / len(turns) * (contexts - 1))


def _is_poll(turn: Collection[Step]) -> bool:
    """Tell whether a turn only ended the transaction, which is how a poll gets to see what others wrote."""
    return any(step.kind != "statement" for step in turn) and all(step.kind != "statement" for step in turn)


def _build(scope: ScopeRecord, queries: Sequence[ScopeQuery]) -> Finding:
    most = max(queries, key=lambda query: query.calls)
    calls = sum(query.calls for query in queries)
    seen_at = scope.started_at + scope.duration_s
    table = most.fingerprint.tables[0]
    lines = tuple(dict.fromkeys(str(query.call_site) for query in queries if query.call_site is not None))
    return Finding(
        code=CODE,
        kind=None,
        severity="warning",
        message=f"The same SELECT on {table} runs {calls} times with the same values.",
        fix=f"Run it once{f' at {lines[0]}' if lines else ''}, and keep its result until the end of the scope.",
        fix_kind="cache",
        subject=table,
        database=most.database,
        fingerprint=most.fingerprint.id,
        call_site=most.call_site,
        scope=scope.name,
        count=calls,
        total_s=sum(query.total_s for query in queries),
        first_seen_at=seen_at,
        last_seen_at=seen_at,
        evidence=DuplicateQueryEvidence(sql=most.fingerprint.sql, calls=calls, scope_calls=scope.calls, lines=lines),
    )
