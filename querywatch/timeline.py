"""What happened between two runs of a statement: which tells a loop from a worker, a poll and a retry.

In:  the steps of a closed scope, in their order.
Out: the runs of a statement by unit of work; what stood between two of them.

A worker takes a job, does it and commits, again and again in one scope. Each job is a unit of work of its own: what
runs once for each job is no loop that could be one statement. So there, runs are counted within each transaction.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING

from querywatch.predicates import parse_facts
from querywatch.records import OUTER_SITES_LIMIT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from querywatch.records import ScopeQuery, ScopeRecord, Step

# Jobs from which a scope is a worker's: fewer are not worth telling apart.
_JOBS = 3
# Share of the turns that have to look alike.
_MOST = 0.8
# Kinds of a query that the application wrote itself.
_ASKED = frozenset({None, "get"})
_CHANGES = frozenset({"UPDATE", "DELETE"})
_INSERTS = frozenset({"INSERT"})
# A row is looked for by a SELECT, or by an UPDATE that tells how many rows it changed.
_IGNORES = re.compile(r"\bDO\s+NOTHING\b|\bINSERT\s+(?:OR\s+)?IGNORE\b", re.IGNORECASE)
_LOOKS = frozenset({"SELECT", "UPDATE"})
_WRITES = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE"})
# What only reads tables or writes to the one it names, or marks a place in the transaction: the rest may change what a
# SELECT gives. Rows that are deleted may take rows of other tables along.
_PLAIN = _WRITES - {"DELETE"} | {"SELECT", "SAVEPOINT", "RELEASE", "ROLLBACK", "EXPLAIN"}


class Timeline:
    """The order of things in one scope.

    Args:
        scope: Closed, or as it stands.
    """

    def __init__(self, scope: ScopeRecord) -> None:
        self._scope = scope
        self._queries: dict[str, list[ScopeQuery]] = {}
        for query in scope.queries:
            self._queries.setdefault(query.statement, []).append(query)

    def list_turns(self, statements: Collection[str]) -> list[tuple[Step, ...]]:
        """Return what stood between each run of one of *statements* and the next; empty if there was one run or none.

        Args:
            statements: Texts, as in `ScopeQuery.statement`.
        """
        turns: list[tuple[Step, ...]] = []
        turn: list[Step] | None = None
        for step in self._scope.steps:
            if step.kind == "statement" and step.statement in statements:
                if turn is not None:
                    turns.append(tuple(turn))
                turn = []
            elif turn is not None:
                turn.append(step)
        return turns

    def count_in_unit(self, statements: Collection[str]) -> int | None:
        """Return how often *statements* ran within one unit of work at most; None if the scope is no worker's.

        Args:
            statements: Texts, as in `ScopeQuery.statement`.
        """
        if not self.is_worker:
            return None
        most = count = 0
        for step in self._scope.steps:
            count = 0 if step.kind == "commit" else count + (step.statement in statements)
            most = max(most, count)
        return most

    @cached_property
    def is_worker(self) -> bool:
        """Whether the scope does one job after the other: takes a row, changes it, commits."""
        if self._scope.commits < _JOBS:
            return False
        return any(self._is_claim(statement, queries) for statement, queries in self._queries.items())

    def writes(self, turn: Collection[Step], tables: Collection[str]) -> bool:
        """Tell whether one of *tables* was written in a turn."""
        return any(not set(tables).isdisjoint(written) for written in self._list_written(turn, _WRITES))

    def resets(self, turn: Collection[Step]) -> bool:
        """Tell whether a turn did what lets a SELECT give other rows: another schema, another role, a function."""
        for step in turn:
            for query in self._queries.get(step.statement, ())[:1]:
                operation = query.fingerprint.operation
                calls_function = operation == "SELECT" and not query.fingerprint.tables and "(" in query.statement
                if operation not in _PLAIN or calls_function:
                    return True
        return False

    def looks_up(self, turn: Collection[Step], table: str) -> bool:
        """Tell whether the application looked for a row of *table* in a turn, by a SELECT or an UPDATE."""
        return any(
            query.kind in _ASKED
            and query.looked_up
            and query.fingerprint.operation in _LOOKS
            and table in query.fingerprint.tables
            for step in turn
            for query in self._queries.get(step.statement, ())
        )

    def inserts(self, turn: Collection[Step], table: str) -> bool:
        """Tell whether a row was inserted into *table* in a turn."""
        return any(table in written for written in self._list_written(turn, _INSERTS))

    def _is_claim(self, statement: str, queries: list[ScopeQuery]) -> bool:
        query = queries[0]
        if query.kind not in _ASKED or not query.fingerprint.tables:
            return False
        operation = query.fingerprint.operation
        if operation in _CHANGES:
            # Takes the row that a subquery chooses, in one statement.
            facts = parse_facts(statement, query.dialect)
            if facts is None or not (facts.locks_rows or "(SELECT" in statement.upper()):
                return False
        elif operation == "INSERT":
            # Notes a message as seen, and then does what it asks for: a second delivery of it changes nothing.
            if not _IGNORES.search(statement):
                return False
        elif operation != "SELECT":
            return False
        turns = self.list_turns({statement})
        # The last turn has no end: a worker looks once more and finds nothing.
        alike = [turn for turn in turns if _ends(turn) and (operation in _CHANGES or self._does_job(turn, query))]
        return len(alike) + 1 >= _JOBS and len(alike) >= _MOST * len(turns)

    def _does_job(self, turn: Collection[Step], query: ScopeQuery) -> bool:
        tables = set(query.fingerprint.tables)
        if query.fingerprint.operation == "INSERT":
            return any(not tables.issuperset(written) for written in self._list_written(turn, _WRITES))
        changed = list(self._list_written(turn, _CHANGES))
        # A message is looked for, noted as seen, and then changes something else.
        noted = any(not tables.isdisjoint(inserted) for inserted in self._list_written(turn, _INSERTS))
        return bool(changed) if noted else any(not tables.isdisjoint(each) for each in changed)

    def _list_written(self, turn: Collection[Step], operations: Collection[str]) -> Iterator[tuple[str, ...]]:
        for step in turn:
            for query in self._queries.get(step.statement, ())[:1]:
                operation = query.fingerprint.operation
                facts = parse_facts(query.statement, query.dialect) if operation in {*operations, "SELECT"} else None
                if facts is not None and facts.written:
                    yield facts.written
                elif operation in operations:
                    yield query.fingerprint.tables[:1]


def is_from_many_lines(query: ScopeQuery, contexts: int) -> bool:
    """Tell a function that is called once from each of so many lines from one that is called in a loop.

    Args:
        query: Of the function.
        contexts: How often it was called.
    """
    return min(contexts, OUTER_SITES_LIMIT) - 1 <= len(query.outer_sites) > 1


def count_between(turn: Collection[Step]) -> Counter[str]:
    """Count the statements of a turn by text."""
    return Counter(step.statement for step in turn if step.kind == "statement")


def _ends(turn: Collection[Step]) -> bool:
    return any(step.kind == "commit" for step in turn)
