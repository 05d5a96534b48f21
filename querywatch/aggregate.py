"""Samples -> totals of each statement, in bounded memory.

In:  `samples.Samples`, open or ended, any number of times.
Out: `QueryStats` by fingerprint and database.

Each samples remembers how far it was read, so folding it again adds only what is new; that makes a snapshot of a
running scope exact, and a sample that a slow thread appends to an ended scope is still found by the next pass.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from querywatch import histogram
from querywatch.callsite import describe_caller
from querywatch.histogram import HistogramBuilder
from querywatch.records import CallSite, Database, ErrorCount, Fingerprint, Habit, QueryStats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from querywatch.samples import Failure, Samples, Source

_CALL_SITES_LIMIT = 5
_OTHER = "other"
# A text or a parameter list beyond this is not kept for planning.
_EXAMPLE_TEXT_LENGTH = 100_000
_EXAMPLE_PARAMETERS = 1_000


class StatementExample(NamedTuple):
    """A statement as it was sent. Never leaves the process."""

    source: Source
    statement: str
    parameters: Any
    elapsed_s: float


class StatementTotals:
    """All executions of one shape on one database."""

    __slots__ = (
        "call_sites",
        "calls",
        "database",
        "errors",
        "example",
        "fingerprint",
        "histogram",
        "last_seen_at",
        "max_s",
        "rows",
        "shape",
        "slow_calls",
        "total_s",
    )

    def __init__(self, database: Database, shape: str) -> None:
        self.database = database
        self.shape = shape
        self.fingerprint: Fingerprint | None = None
        self.calls = 0
        self.slow_calls = 0
        self.total_s = 0.0
        self.max_s = 0.0
        self.rows: int | None = None
        self.last_seen_at = 0.0
        self.errors: Counter[Failure] = Counter()
        self.histogram = HistogramBuilder()
        self.call_sites: dict[CallSite, None] = {}
        self.example: StatementExample | None = None


class Aggregate:
    """Totals of every statement of one monitor. One thread at a time: the monitor holds its lock.

    Args:
        max_statements: Statements with totals of their own; further ones are counted as `other`.
        slow_s: Seconds from which a call is slow.
        clock: Gives Unix time in seconds.
    """

    def __init__(self, max_statements: int, slow_s: float, clock: Callable[[], float] = time.time) -> None:
        self._max_statements = max_statements
        self._slow_s = slow_s
        self._clock = clock
        self._statements: dict[tuple[Database, str], StatementTotals] = {}
        #: Statements whose fingerprint is not known yet, oldest first.
        self.pending: dict[tuple[Database, str], StatementTotals] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._statements)

    def statements(self) -> Iterable[StatementTotals]:
        """Return the totals of each statement."""
        return list(self._statements.values())

    def databases(self) -> Iterable[Database]:
        """Return the databases that statements ran on, each once, in the order of their first statement."""
        return dict.fromkeys(database for database, _shape in self._statements)

    def fold(self, samples: Samples) -> StatementTotals | None:
        """Add what is new in *samples* to the totals.

        Returns:
            The statement's totals, None if there was nothing new.
        """
        folded = samples.folded
        end, failures, rows = folded.released + len(samples), len(samples.failures), len(samples.rows)
        late = len(samples.late)
        if end == folded.samples and failures == folded.failures and rows == folded.rows and not late:
            return None
        new = samples[folded.samples - folded.released : end - folded.released]
        folded.samples = end
        totals = self._find(samples.source.database, samples.shape)
        if new:
            total_s, max_s = sum(new), max(new)
            folded.max_s = max(folded.max_s, max_s)
            totals.max_s = max(totals.max_s, max_s)
            if max_s >= self._slow_s:
                slow = [value for value in new if value >= self._slow_s]
                folded.slow_calls += len(slow)
                folded.slow_total_s += sum(slow)
                totals.slow_calls += len(slow)
            totals.histogram.add(new)
            totals.calls += len(new)
            folded.total_s += total_s
            totals.total_s += total_s
        for index, elapsed_s in samples.late[:late]:
            self._add_late(totals, samples, index - folded.released, elapsed_s)
        del samples.late[:late]
        totals.last_seen_at = self._clock()
        totals.errors.update(samples.failures[folded.failures : failures])
        folded.failures = failures
        known = [count for count in samples.rows[folded.rows : rows] if count >= 0]
        folded.rows = rows
        if known:
            totals.rows = (totals.rows or 0) + sum(known)
            folded.total_rows = (folded.total_rows or 0) + sum(known)
            folded.max_rows = max(folded.max_rows or 0, *known)
        self._note_call_sites(totals, samples)
        self._note_example(totals, samples)
        return totals

    def _add_late(self, totals: StatementTotals, samples: Samples, position: int, elapsed_s: float) -> None:
        """Add the time of a fetch to a sample that was read before."""
        folded = samples.folded
        folded.total_s += elapsed_s
        totals.total_s += elapsed_s
        if not 0 <= position < len(samples):
            return  # let go meanwhile: only the sum can still be right
        before_s = samples[position]
        samples[position] = after_s = before_s + elapsed_s
        totals.histogram.move(before_s, after_s)
        folded.max_s = max(folded.max_s, after_s)
        totals.max_s = max(totals.max_s, after_s)
        if after_s >= self._slow_s:
            was_slow = before_s >= self._slow_s
            folded.slow_calls += not was_slow
            folded.slow_total_s += elapsed_s if was_slow else after_s
            totals.slow_calls += not was_slow

    def query_stats(self) -> list[QueryStats]:
        """Return the statistics by fingerprint and database, by total time, highest first."""
        groups: dict[tuple[str, str], list[StatementTotals]] = {}
        for totals in self._statements.values():
            if totals.fingerprint is not None:
                groups.setdefault((totals.fingerprint.id, totals.database.name), []).append(totals)
        return sorted(map(_merge, groups.values()), key=lambda stats: stats.total_s, reverse=True)

    def describe_habit(self, fingerprint: str, database: str) -> Habit:
        """Return how a statement usually runs.

        Args:
            fingerprint: Id of its fingerprint.
            database: Name of the database.
        """
        group = [
            totals
            for totals in self._statements.values()
            if totals.fingerprint is not None
            and totals.fingerprint.id == fingerprint
            and totals.database.name == database
        ]
        return Habit(
            calls=sum(totals.calls for totals in group),
            slow_calls=sum(totals.slow_calls for totals in group),
            typical_s=histogram.quantile(histogram.merge(totals.histogram.build() for totals in group), 0.5),
        )

    def _find(self, database: Database, shape: str) -> StatementTotals:
        key = (database, shape)
        totals = self._statements.get(key)
        if totals is None:
            if len(self._statements) >= self._max_statements:
                return self._find_other(database)
            totals = self._statements[key] = self.pending[key] = StatementTotals(database, shape)
        return totals

    def _find_other(self, database: Database) -> StatementTotals:
        """Return the totals of the statements that have none of their own, so that the sums stay right."""
        self.dropped += 1
        key = (database, _OTHER)
        totals = self._statements.get(key)
        if totals is None:
            totals = self._statements[key] = StatementTotals(database, _OTHER)
            totals.fingerprint = Fingerprint(_OTHER, 0, "(statements beyond max_statements)", _OTHER, _OTHER, ())
        return totals

    def _note_call_sites(self, totals: StatementTotals, samples: Samples) -> None:
        for asker in list(samples.askers):
            if asker.code is None:
                continue
            site = describe_caller(asker.code, asker.line)
            totals.call_sites.pop(site, None)
            totals.call_sites[site] = None
            if len(totals.call_sites) > _CALL_SITES_LIMIT:
                del totals.call_sites[next(iter(totals.call_sites))]

    def _note_example(self, totals: StatementTotals, samples: Samples) -> None:
        """Keep the slowest call's values for planning; the values of the first call where none was slow."""
        best = totals.example
        for occurrence in samples.occurrences:
            if occurrence.failure is None and (best is None or occurrence.elapsed_s >= best.elapsed_s):
                best = StatementExample(
                    samples.source, occurrence.statement, occurrence.parameters, occurrence.elapsed_s
                )
        if best is None and samples.parameters is not None and not samples.failures:
            best = StatementExample(samples.source, samples.statement, samples.parameters, 0.0)
        if best is not totals.example and best is not None and _is_plannable(best):
            totals.example = best


def _is_plannable(example: StatementExample) -> bool:
    return (
        example.parameters is not None
        and len(example.parameters) <= _EXAMPLE_PARAMETERS
        and len(example.statement) <= _EXAMPLE_TEXT_LENGTH
    )


def _merge(group: list[StatementTotals]) -> QueryStats:
    """Add up the shapes of one fingerprint."""
    first = group[0]
    assert first.fingerprint is not None
    errors: Counter[Failure] = Counter()
    for totals in group:
        errors.update(totals.errors)
    known_rows = [totals.rows for totals in group if totals.rows is not None]
    sites = {site: None for totals in group for site in totals.call_sites}
    return QueryStats(
        fingerprint=first.fingerprint,
        database=first.database.name,
        calls=sum(totals.calls for totals in group),
        errors=tuple(ErrorCount(f.error_type, f.sqlstate, count) for f, count in sorted(errors.items(), key=repr)),
        total_s=sum(totals.total_s for totals in group),
        max_s=max(totals.max_s for totals in group),
        histogram=histogram.merge(totals.histogram.build() for totals in group),
        rows=sum(known_rows) if known_rows else None,
        last_seen_at=max(totals.last_seen_at for totals in group),
        call_sites=tuple(sites)[-_CALL_SITES_LIMIT:],
    )
