"""From plans to index advice: only for scans of large tables, only what the database itself says would help.

In:  statements with their plans.
Out: index advice, each with the statements it helps.

One index may serve several statements: one that is proven already is tried first for the next statement, and a wider
one takes the place of a narrower one that it covers.
"""

from __future__ import annotations

import dataclasses
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, NamedTuple

from querywatch.advisor.candidates import propose
from querywatch.advisor.existing import covers
from querywatch.advisor.naming import name_index
from querywatch.advisor.waiting import has_waited
from querywatch.advisor.what_if import Proven, prove
from querywatch.dialects import find_dialect
from querywatch.dialects.connection import NoProofError, converse
from querywatch.errors import ExplainError, ExplainTimeoutError
from querywatch.predicates import parse_predicates
from querywatch.records import IndexAdvice, IndexSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from querywatch.config import Config
    from querywatch.dialects import DialectModule
    from querywatch.predicates import TablePredicates
    from querywatch.records import Plan, PlanNode
    from querywatch.samples import Example

#: Time for one call; what is left waits for the next one.
_BUDGET_S = 5.0
_WAITING_KEPT = 100
_TRIED_KEPT = 10_000
_ADVICE_KEPT = 200
_NOTES_KEPT = 20
#: Share of the rows that an equality leaves at most, to be worth advice that rests on statistics alone.
_CLEARLY_USEFUL_RATIO = 0.01


class _Case(NamedTuple):
    """One statement on its way through the advisor."""

    example: Example
    plan: Plan
    dialect: DialectModule
    predicates: tuple[TablePredicates, ...]


class Advisor:
    """Proposes indexes, and remembers what it tried and what it proposed.

    Args:
        config: `large_table_rows`, `slow_query_s` and `explain_timeout_s` count.
        clock: Monotonic seconds.
    """

    def __init__(self, config: Config, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._waiting: deque[tuple[Example, Plan]] = deque(maxlen=_WAITING_KEPT)
        self._tried: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        self._advice: dict[tuple[str, IndexSpec], IndexAdvice] = {}
        self._notes: dict[str, None] = {}
        #: Statements that could not be examined because the database did not answer or refused.
        self.errors = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for people about proofs that cannot be had, oldest first; at most 20."""
        return tuple(self._notes)

    @property
    def advice(self) -> tuple[IndexAdvice, ...]:
        """All that holds now: without what a wider index covers, or what has been created since."""
        return tuple(self._advice.values())

    def advise(self, planned: Sequence[tuple[Example, Plan]]) -> list[IndexAdvice]:
        """Look for indexes that help these statements. Never raises; takes about 5 s at most.

        Args:
            planned: Statements with their plans. A statement whose plan was examined before costs nothing.

        Returns:
            Advice that is new or helps a further statement now.
        """
        self._waiting.extend(planned)
        deadline = self._clock() + _BUDGET_S
        changed: dict[tuple[str, IndexSpec], None] = {}
        while self._waiting and self._clock() < deadline:
            example, plan = self._waiting.popleft()
            key = (plan.database, plan.fingerprint, plan.shape)
            if key in self._tried:
                continue
            self._tried[key] = None
            if len(self._tried) > _TRIED_KEPT:
                self._tried.popitem(last=False)
            try:
                changed.update(dict.fromkeys(self._examine(example, plan, deadline)))
            except ExplainTimeoutError:
                # A lock or a busy server says nothing about the statement.
                self.errors += 1
                self._tried.pop(key, None)
            except ExplainError as error:
                self.errors += 1
                self._note(f"{plan.database}: no index was looked for for {example.fingerprint.summary}: {error}.")
            except Exception as error:  # noqa: BLE001 -- none may reach the monitor's thread
                self.errors += 1
                self._note(f"{plan.database}: looking for indexes failed ({type(error).__name__}).")
        return [self._advice[key] for key in changed if key in self._advice]

    def _examine(self, example: Example, plan: Plan, deadline: float) -> list[tuple[str, IndexSpec]]:
        dialect = find_dialect(plan.dialect)
        if dialect is None:
            return []
        case = _Case(example, plan, dialect, parse_predicates(example.statement, plan.dialect))
        if not _find_scans(case):
            return []

        def work(connection: Any) -> list[IndexAdvice]:
            with dialect.open_reader(connection, example.engine, timeout_s=self._config.explain_timeout_s):
                return self._find(case, connection, deadline)

        return [self._keep(advice) for advice in converse(example.engine, work)]

    def _find(self, case: _Case, connection: Any, deadline: float) -> list[IndexAdvice]:
        example, plan, dialect, predicates = case
        tables = _count_large_tables(case, connection, self._config.large_table_rows)
        scanned = sum(tables.get(table, 0.0) for table in {node.table or "" for node in _find_scans(case)})
        if not scanned:
            return []
        longest_s = dialect.longest_run_s(plan.root, scanned)
        if has_waited(example, slow_query_s=self._config.slow_query_s, longest_run_s=longest_s):
            return []
        candidates = self._list_candidates(case, connection, tables)
        if not candidates:
            return []
        aliases = {instance.alias.lower(): instance.table for instance in predicates}
        filters = {instance.table: instance.equality for instance in predicates}
        has_limit = any(instance.has_limit for instance in predicates)
        preferred = {advice.index for advice in self._advice.values() if advice.proof != "estimated"}
        try:
            with dialect.open_what_if(connection, example.engine, aliases, filters, has_limit=has_limit) as what_if:
                proven = prove(
                    what_if, example, candidates, preferred=preferred, is_over=lambda: self._clock() > deadline
                )
        except NoProofError as reason:
            self._note(f"{plan.database}: {reason}.")
            return _estimate(case, connection, candidates, tables, str(reason))
        return [_write_proven(case, one, tables) for one in proven]

    def _list_candidates(self, case: _Case, connection: Any, tables: Mapping[str, float]) -> list[IndexSpec]:
        """Candidates for the large tables, none that exists; those proven before come first.

        Also for a table that is not scanned now: with an index on the other one, it may be read first.
        """
        candidates: list[IndexSpec] = []
        for table in tables:
            existing = case.dialect.list_indexes(connection, table)
            self._forget_created(case.plan.database, existing)
            known = [advice.index for advice in self._advice.values() if _is_of(advice, case.plan.database, table)]
            taken = set(case.dialect.list_names(connection, table)) | {index.name or "" for index in known}
            wanted = dict.fromkeys(
                columns
                for instance in case.predicates
                if instance.table.lower() == table.lower()
                for columns in propose(instance)
            )
            candidates += known
            for columns in wanted:
                index = IndexSpec(table=table, columns=columns)
                if any(covers(other, index) for other in existing) or any(i.columns == columns for i in known):
                    continue
                index = dataclasses.replace(index, name=name_index(table, columns, taken))
                taken.add(index.name or "")
                candidates.append(index)
        return candidates

    def _forget_created(self, database: str, existing: Sequence[IndexSpec]) -> None:
        for key, advice in list(self._advice.items()):
            same_table = [index for index in existing if index.table == advice.index.table]
            if advice.database == database and any(covers(index, advice.index) for index in same_table):
                del self._advice[key]

    def _keep(self, advice: IndexAdvice) -> tuple[str, IndexSpec]:
        """Keep one advice, joined with what it covers; return its key."""
        fingerprints = dict.fromkeys(advice.fingerprints)
        for key, other in list(self._advice.items()):
            if _is_of(other, advice.database, advice.index.table) and covers(advice.index, other.index):
                if covers(other.index, advice.index):
                    # The same index: the proof stays that of the statement it was found for.
                    advice = other
                fingerprints = dict.fromkeys((*other.fingerprints, *fingerprints))
                del self._advice[key]
        key = (advice.database, advice.index)
        self._advice[key] = dataclasses.replace(advice, fingerprints=tuple(fingerprints))
        if len(self._advice) > _ADVICE_KEPT:
            del self._advice[next(iter(self._advice))]
        return key

    def _note(self, sentence: str) -> None:
        if len(self._notes) < _NOTES_KEPT:
            self._notes[sentence] = None


def _is_of(advice: IndexAdvice, database: str, table: str) -> bool:
    return advice.database == database and advice.index.table == table


def _find_scans(case: _Case) -> list[PlanNode]:
    return [node for node in case.plan.root.walk() if case.dialect.reads_whole_table(node)]


def _count_large_tables(case: _Case, connection: Any, least_rows: int) -> dict[str, float]:
    """Rows of each large table in the plan; those that are scanned first, because their indexes are tried first."""
    nodes = [*_find_scans(case), *case.plan.root.walk()]
    counts = {
        table: case.dialect.count_rows(connection, table)
        for table in dict.fromkeys(node.table for node in nodes)
        if table
    }
    return {table: rows for table, rows in counts.items() if rows is not None and rows >= least_rows}


def _write_proven(case: _Case, proven: Proven, tables: Mapping[str, float]) -> IndexAdvice:
    index, before, after = proven.index, proven.before, proven.after
    used = next(node for node in after.walk() if node.index == index.name)
    step = f"{used.kind} using {index.name}" if after.cost is not None else used.detail
    costs = [_write_cost(root.cost) for root in (before, after) if root.cost is not None]
    cost = f"cost {' -> '.join(costs)}: " if costs else ""
    return IndexAdvice(
        index=index,
        ddl=case.dialect.write_ddl(case.example.engine, index),
        reason=_write_reason(before, index.table, tables[index.table]),
        fingerprints=(case.plan.fingerprint,),
        database=case.plan.database,
        cost_before=before.cost,
        cost_after=after.cost,
        proof=case.dialect.PROOF,
        proof_text=f"{cost}{step}",
    )


def _write_reason(root: PlanNode, table: str, rows: float) -> str:
    kind = next((node.kind for node in root.walk() if node.table == table), "Scan")
    returned = root.rows_estimated
    figures = "" if returned is None else f", {returned:,.0f} returned"
    return f"{kind} on {table}, {rows:,.0f} rows estimated{figures}"


def _write_cost(cost: float) -> str:
    return f"{cost:.0f}" if cost >= 100 else f"{cost:.1f}"  # noqa: PLR2004 -- three digits are enough to compare


def _estimate(
    case: _Case,
    connection: Any,
    candidates: Sequence[IndexSpec],
    tables: Mapping[str, float],
    reason: str,
) -> list[IndexAdvice]:
    """Without a proof: the index whose columns are all compared by `=`, if statistics say that it leaves few rows."""
    best: tuple[float, IndexSpec] | None = None
    for index in candidates:
        if not any(
            instance.table.lower() == index.table.lower() and set(index.columns) <= set(instance.equality)
            for instance in case.predicates
        ):
            continue
        share = case.dialect.estimate_selectivity(connection, index.table, index.columns)
        # A further column must leave far fewer rows to be worth its place.
        if share is not None and share <= _CLEARLY_USEFUL_RATIO and (best is None or share < best[0] / 10):
            best = (share, index)
    if best is None:
        return []
    share, index = best
    rows = share * tables[index.table]
    return [
        IndexAdvice(
            index=index,
            ddl=case.dialect.write_ddl(case.example.engine, index),
            reason=_write_reason(case.plan.root, index.table, tables[index.table]),
            fingerprints=(case.plan.fingerprint,),
            database=case.plan.database,
            cost_before=case.plan.root.cost,
            cost_after=None,
            proof="estimated",
            proof_text=f"statistics say that about {max(1, rows):,.0f} rows are left; {reason}",
        )
    ]
