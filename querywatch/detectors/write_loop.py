"""Rows that are inserted, changed or deleted one statement at a time.

In:  a closed scope.
Out: one finding for each statement and line over the limit, with the way to send all rows at once.

What one flush sends is one act of the application, however many statements that takes; executions that carry several
rows are batches. A change that is only made if a row is still as it was read, and a row in a savepoint of its own, have
to be sent one by one. In a worker's scope each job is judged by itself.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from querywatch.dialects import is_system_table
from querywatch.predicates import StatementFacts, parse_facts, parse_predicates
from querywatch.records import Finding, ScopeQuery, ScopeRecord
from querywatch.timeline import Timeline, is_from_many_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from querywatch.config import Config
    from querywatch.records import Step

CODE = "write-loop"

_OPERATIONS = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE"})
_CHANGES = frozenset({"UPDATE", "DELETE"})
_UPSERTS = frozenset({"MERGE", "REPLACE"})
_FLUSHES = frozenset({"flush", "autoflush"})
_ALL_OBJECTS = {"INSERT": "Add all objects, with add_all() or relationships", "DELETE": "Delete all objects"}
# Share of the turns of a loop that have to look alike.
_MOST = 0.8


@dataclass(frozen=True, slots=True)
class WriteLoopEvidence:
    """What a scope showed.

    Args:
        sql: The statement, literals as `?`.
        calls: Executions of it in the scope that was seen last.
        scope_calls: Executions of any statement in that scope.
        scopes: Scopes that had it so far.
        commits: Commits in the scope that was seen last.
    """

    sql: str
    calls: int
    scope_calls: int
    scopes: int = 1
    commits: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    def with_scopes(self, scopes: int) -> WriteLoopEvidence:
        """Return the same with another number of scopes."""
        return replace(self, scopes=scopes)


def detect(scope: ScopeRecord, config: Config) -> Iterator[Finding]:
    """Yield the writes of one scope that could have been sent together.

    Args:
        scope: What ran.
        config: `n_plus_one_threshold` is used.
    """
    groups: dict[object, list[ScopeQuery]] = defaultdict(list)
    for query in scope.queries:
        if query.fingerprint.operation in _OPERATIONS and query.call_site is not None:
            groups[query.fingerprint.id, query.database, query.call_site].append(query)
    timeline = Timeline(scope)
    for queries in groups.values():
        contexts = sum(query.contexts for query in queries)
        if contexts < config.n_plus_one_threshold:
            continue
        in_unit = timeline.count_in_unit({query.statement for query in queries})
        if in_unit is not None and in_unit < config.n_plus_one_threshold:
            continue
        most = max(queries, key=lambda query: query.calls)
        facts = parse_facts(most.statement, most.dialect)
        turns = timeline.list_turns({query.statement for query in queries})
        if facts is not None and _could_be_one(most, facts, contexts, turns, timeline):
            yield _build(scope, queries, facts, turns, timeline)


def _could_be_one(
    query: ScopeQuery,
    facts: StatementFacts,
    contexts: int,
    turns: Sequence[tuple[Step, ...]],
    timeline: Timeline,
) -> bool:
    if not facts.tables or is_system_table(query.dialect, facts.tables[0]) or facts.copies_rows or query.waits:
        return False
    table, operation = facts.tables[0], query.fingerprint.operation
    if (
        2 * query.batches >= contexts
        # Each flush sends several rows, which this statement takes one by one.
        or (query.act in _FLUSHES and query.calls >= 2 * contexts)
        or 2 * query.errors >= contexts
        or is_from_many_lines(query, contexts)
        or _in_most(turns, _has_savepoint)
        or _in_most(turns, _is_tried_again)
        # The load that flushes is what loops, and is told.
        or (query.act == "autoflush" and query.is_orm_load)
        # Tried before an INSERT, which is told.
        or (operation == "UPDATE" and _in_most(turns, lambda turn: timeline.inserts(turn, table)))
    ):
        return False
    if operation not in _CHANGES:
        return True
    return bool(query.looked_up) and (query.act in _FLUSHES or not _is_guarded(query, facts))


def _is_guarded(query: ScopeQuery, facts: StatementFacts) -> bool:
    """Tell whether a change asks for the old value of what it sets: then its row count is the answer."""
    instances = parse_predicates(query.statement, query.dialect)
    compared = {column for each in instances for column in (*each.equality, *each.listed, *each.is_null, *each.range)}
    return not compared.isdisjoint(facts.assigned)


def _in_most(turns: Sequence[tuple[Step, ...]], is_such: Any) -> bool:
    return bool(turns) and sum(map(is_such, turns)) >= _MOST * len(turns)


def _has_savepoint(turn: tuple[Step, ...]) -> bool:
    return any(step.statement.startswith("SAVEPOINT") for step in turn)


def _commits(turn: tuple[Step, ...]) -> bool:
    return any(step.kind == "commit" for step in turn)


def _is_tried_again(turn: tuple[Step, ...]) -> bool:
    return any(step.kind == "rollback" for step in turn) and not _commits(turn)


def _build(
    scope: ScopeRecord,
    queries: Sequence[ScopeQuery],
    facts: StatementFacts,
    turns: Sequence[tuple[Step, ...]],
    timeline: Timeline,
) -> Finding:
    most = max(queries, key=lambda query: query.calls)
    calls = sum(query.calls for query in queries)
    seen_at = scope.started_at + scope.duration_s
    table, operation = facts.tables[0], most.fingerprint.operation
    fix_kind, fix = _advise(most, facts, turns, timeline)
    return Finding(
        code=CODE,
        kind=None,
        severity="warning",
        message=f"{operation} on {table} runs once for each row: {calls} statements.",
        fix=fix,
        fix_kind=fix_kind,
        subject=table,
        database=most.database,
        fingerprint=most.fingerprint.id,
        call_site=most.call_site,
        scope=scope.name,
        count=calls,
        total_s=sum(query.total_s for query in queries),
        first_seen_at=seen_at,
        last_seen_at=seen_at,
        evidence=WriteLoopEvidence(
            sql=most.fingerprint.sql, calls=calls, scope_calls=scope.calls, commits=scope.commits
        ),
    )


def _advise(
    query: ScopeQuery, facts: StatementFacts, turns: Sequence[tuple[Step, ...]], timeline: Timeline
) -> tuple[str, str]:
    """Return the fix for programs and for people."""
    table, where = facts.tables[0], f"after the loop at {query.call_site}"
    if facts.is_upsert or query.fingerprint.operation in _UPSERTS:
        return "upsert", f"Collect the rows and run the upsert once {where}, with a list of all rows as its parameters."
    if query.fingerprint.operation == "INSERT" and _in_most(turns, lambda turn: timeline.looks_up(turn, table)):
        return "upsert", (
            f"Collect the rows and run one INSERT with ON CONFLICT for all of them {where}, instead of looking for "
            "each of them first."
        )
    if _in_most(turns, _commits):
        return "single_commit", f"Commit once {where}: each commit waits for the disk."
    return _advise_one_transaction(query, where)


def _advise_one_transaction(query: ScopeQuery, where: str) -> tuple[str, str]:
    """The same for rows that are already committed together."""
    if query.act == "autoflush":
        return "no_autoflush", (
            f"A statement in the loop flushes what is pending each time: put the loop at {query.call_site} into "
            "`with session.no_autoflush:`, or read before it."
        )
    if query.act == "flush":
        return (
            "bulk_add",
            f"{_ALL_OBJECTS.get(query.fingerprint.operation, 'Change all objects')}, and flush once {where}.",
        )
    if query.fingerprint.operation == "DELETE":
        column = query.looked_up[0]
        return "executemany", f"Run one DELETE with {column} IN (...) {where}."
    return "executemany", f"Pass a list of all rows to one execute() {where}: the driver sends them together."
