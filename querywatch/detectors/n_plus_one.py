"""N+1: one statement run many times from one line of application code.

In:  a closed scope.
Out: one finding for each relationship, or for each statement and line, over the limit.

Two lines that run the same statement once each are not an N+1, so where no relationship is known the call site is part
of the key. Pages of one result, a queue's polls and retries repeat a statement too and are no N+1: a loop is reported
only if it looks rows up by equality, with changing values. A relationship that is loaded with the same values again and
again is that of one parent, expired in between: no option of the select would end that.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from querywatch.predicates import parse_facts, parse_predicates
from querywatch.records import Finding, ScopeQuery, ScopeRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from querywatch.config import Config

CODE = "n-plus-one"


@dataclass(frozen=True, slots=True)
class NPlusOneEvidence:
    """What a scope showed.

    Args:
        sql: The repeated statement, literals as `?`.
        calls: Executions of it in the scope that was seen last.
        scope_calls: Executions of any statement in that scope.
        scopes: Scopes that had it so far.
        parent_site: The line that loaded the parents, as `file:line`; None where unknown.
    """

    sql: str
    calls: int
    scope_calls: int
    scopes: int = 1
    parent_site: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    def with_scopes(self, scopes: int) -> NPlusOneEvidence:
        """Return the same with another number of scopes."""
        return replace(self, scopes=scopes)


def detect(scope: ScopeRecord, config: Config) -> Iterator[Finding]:
    """Yield the N+1s of one scope.

    Args:
        scope: What ran.
        config: `n_plus_one_threshold` is used.
    """
    for queries in _group(scope).values():
        contexts = sum(query.contexts for query in queries)
        if contexts < config.n_plus_one_threshold:
            continue
        most = max(queries, key=lambda query: query.calls)
        if most.kind == "lazy_load" and most.same_parameters is not True:
            yield _describe_lazy_load(scope, queries, most)
        elif most.kind is None:
            yield from _describe_loop(scope, queries, most)


def _group(scope: ScopeRecord) -> dict[object, list[ScopeQuery]]:
    groups: dict[object, list[ScopeQuery]] = defaultdict(list)
    for query in scope.queries:
        where = query.relationship or (query.kind, query.fingerprint.id, query.call_site)
        groups[where].append(query)
    return groups


def _describe_lazy_load(scope: ScopeRecord, queries: list[ScopeQuery], most: ScopeQuery) -> Finding:
    option = "joinedload" if most.to_one else "selectinload"
    typed = f".options({option}({most.relationship}))"
    if most.parent_site is not None:
        fix = f"Add {typed} to the select at {most.parent_site}."
    else:
        fix = f"Add {typed} to the select that loads each {(most.relationship or '').split('.')[0]}."
    calls = sum(query.calls for query in queries)
    message = f"{most.relationship} is loaded one parent at a time: {calls} statements."
    return _build(scope, queries, most, str(most.relationship), message, _Advice(option, fix))


def _describe_loop(scope: ScopeRecord, queries: list[ScopeQuery], most: ScopeQuery) -> Iterator[Finding]:
    if most.call_site is None or not most.looked_up or most.fingerprint.operation != "SELECT":
        return
    facts = parse_facts(most.statement, most.dialect)
    if facts is None or facts.locks_rows:
        return
    calls = sum(query.calls for query in queries)
    table = _find_table(most)
    columns, before = " and ".join(most.looked_up), f"before the loop at {most.call_site}"
    if facts.is_aggregate:
        advice = _Advice(
            "aggregate", f"Run one SELECT with GROUP BY {columns} {before}, and look the results up in a dict."
        )
    else:
        advice = _Advice(
            "in_query", f"Run one SELECT with {columns} IN (...) {before}, and look the rows up in a dict."
        )
    message = f"The same SELECT on {table} runs once for each {columns}: {calls} times."
    yield replace(_build(scope, queries, most, table, message, advice), kind="core_loop")


def _find_table(query: ScopeQuery) -> str:
    """Return the table whose columns are looked up."""
    for instance in parse_predicates(query.statement, query.dialect):
        if set(query.looked_up) & set(instance.equality):
            return instance.table
    return query.fingerprint.tables[0] if query.fingerprint.tables else query.fingerprint.summary


class _Advice(NamedTuple):
    fix_kind: str
    fix: str


def _build(  # noqa: PLR0913, PLR0917 - the parts of one finding
    scope: ScopeRecord, queries: list[ScopeQuery], most: ScopeQuery, subject: str, message: str, advice: _Advice
) -> Finding:
    calls = sum(query.calls for query in queries)
    seen_at = scope.started_at + scope.duration_s
    return Finding(
        code=CODE,
        kind=most.kind,
        severity="warning",
        message=message,
        fix=advice.fix,
        fix_kind=advice.fix_kind,
        subject=subject,
        database=most.database,
        fingerprint=most.fingerprint.id,
        call_site=most.call_site,
        scope=scope.name,
        count=calls,
        total_s=sum(query.total_s for query in queries),
        first_seen_at=seen_at,
        last_seen_at=seen_at,
        evidence=NPlusOneEvidence(
            sql=most.fingerprint.sql,
            calls=calls,
            scope_calls=scope.calls,
            parent_site=str(most.parent_site) if most.parent_site is not None else None,
        ),
    )
