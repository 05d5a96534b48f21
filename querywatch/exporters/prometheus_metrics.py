"""A snapshot -> the metric families on the Prometheus page.

In:  `Snapshot`, at each scrape.
Out: families with cleaned labels and a bounded number of series, in which no counter goes backwards.

Of thousands of statements only the busiest have a series; the others are summed as `fingerprint="other"`, so that the
sum over all series is exact. Bucket bounds are powers of two because the histogram's own are: nothing is interpolated.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from querywatch.exporters.cleaning import clean
from querywatch.exporters.places import OTHER, Places
from querywatch.exporters.version import read_version
from querywatch.histogram import BUCKETS_PER_DOUBLING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from querywatch.records import (
        CallSite,
        Finding,
        Fingerprint,
        Histogram,
        IndexAdvice,
        QueryStats,
        ScopeStats,
        Snapshot,
    )

#: Statements with series of their own; 200 histograms render in 40 ms, 2,000 in half a second.
QUERY_PLACES = 200
#: Names of scopes, of kinds of findings, and of exception classes.
NAME_PLACES = 200
DATABASE_PLACES = 50
LABEL_LIMIT = 250
#: Scope label of what ran outside of every named scope; an empty label would be no label.
IMPLICIT = "(implicit)"

#: Upper bounds of the buckets are 2**exponent seconds: from about a microsecond to 64 s.
LEAST_EXPONENT, HIGHEST_EXPONENT = -20, 6
_BOUNDS = (*(str(2.0**n) for n in range(LEAST_EXPONENT, HIGHEST_EXPONENT + 1)), "+Inf")


@dataclass(slots=True)
class _Series:
    """What one (database, fingerprint) pair of labels shows."""

    calls: int = 0
    total_s: float = 0.0
    rows: int | None = None
    buckets: list[int] = field(default_factory=lambda: [0] * len(_BOUNDS))

    def add(self, stats: QueryStats) -> None:
        self.calls += stats.calls
        self.total_s += stats.total_s
        if stats.rows is not None:
            self.rows = (self.rows or 0) + stats.rows
        self._add_histogram(stats.histogram)

    def _add_histogram(self, histogram: Histogram) -> None:
        self.buckets[0] += histogram.zeros
        for index, count in histogram.counts.items():
            exponent = index // BUCKETS_PER_DOUBLING + 1
            position = min(max(exponent - LEAST_EXPONENT, 0), len(self.buckets) - 1)
            self.buckets[position] += count

    def cumulative(self) -> list[tuple[str, float]]:
        counts: list[float] = list(accumulate(self.buckets))
        # A call is counted before its duration is folded; the page must agree with itself.
        counts[-1] = max(counts[-1], self.calls)
        return list(zip(_BOUNDS, counts, strict=True))


# Part of what tells one finding from another; its count grows as long as it is kept.
_FindingKey = tuple[str, str | None, str, str | None, str | None, "CallSite | None", str | None]


class MetricsPage:
    """The families of one monitor. One thread at a time.

    Args:
        query_places: Statements with series of their own.
    """

    def __init__(self, query_places: int = QUERY_PLACES) -> None:
        self._queries = Places(query_places)
        self._databases = Places(DATABASE_PLACES)
        self._error_types = Places(NAME_PLACES)
        self._scopes = Places(NAME_PLACES)
        self._subjects = Places(NAME_PLACES)
        self._findings: Counter[tuple[str, str, str]] = Counter()
        self._findings_seen: Counter[_FindingKey] = Counter()
        self._seconds: dict[tuple[str, ...], float] = {}

    def families(self, snapshot: Snapshot) -> Iterator[Metric]:
        """Yield every family, also those without a series yet.

        Args:
            snapshot: Later than that of the last call.
        """
        yield from self._query_families(snapshot.queries)
        yield from self._scope_families(snapshot.scopes)
        yield self._finding_family(snapshot.findings)
        yield _advice_family(snapshot.advice)
        yield _counter(
            "querywatch_dropped",
            "What was left out because a limit was reached, by reason.",
            ("reason",),
            (((clean(reason, LABEL_LIMIT),), count) for reason, count in snapshot.dropped.items()),
        )
        yield InfoMetricFamily("querywatch_build", "The querywatch that runs here.", {"version": read_version()})

    def _query_families(self, queries: Sequence[QueryStats]) -> Iterator[Metric]:
        series: dict[tuple[str, str], _Series] = {}
        errors: Counter[tuple[str, str, str]] = Counter()
        placed: dict[str, Fingerprint] = {}
        # The snapshot names the busiest first: they get the places, for ever.
        for stats in queries:
            labels = self._query_labels(stats)
            series.setdefault(labels, _Series()).add(stats)
            if labels[1] != OTHER:
                placed[labels[1]] = stats.fingerprint
            for error in stats.errors:
                errors[(*labels, self._error_label(error.error_type))] += error.count

        durations = HistogramMetricFamily(
            "querywatch_query_duration_seconds",
            "Time in the database driver per execution.",
            labels=("database", "fingerprint"),
        )
        for labels, shown in series.items():
            durations.add_metric(labels, shown.cumulative(), self._rise(labels, shown.total_s))
        yield durations
        yield _counter(
            "querywatch_query_errors",
            "Executions that raised, by exception class of the driver.",
            ("database", "fingerprint", "error_type"),
            errors.items(),
        )
        yield _counter(
            "querywatch_query_rows",
            "Rows returned or changed, where the driver tells.",
            ("database", "fingerprint"),
            ((labels, shown.rows) for labels, shown in series.items() if shown.rows is not None),
        )
        yield _query_info(placed)

    def _query_labels(self, stats: QueryStats) -> tuple[str, str]:
        database = clean(stats.database, LABEL_LIMIT)
        if not self._databases.holds(database):
            return (OTHER, OTHER)
        fingerprint = stats.fingerprint.id
        # The statistics are bounded too, and call what exceeds their own limit by the same name.
        if fingerprint == OTHER or not self._queries.holds((database, fingerprint)):
            return (database, OTHER)
        return (database, fingerprint)

    def _error_label(self, error_type: str) -> str:
        label = clean(error_type, LABEL_LIMIT)
        return label if self._error_types.holds(label) else OTHER

    def _rise(self, labels: tuple[str, ...], seconds: float) -> float:
        """Return *seconds*, never less than before: floats added in another order differ in the last digit.

        Statements have two labels and scopes one, so their keys differ.
        """
        self._seconds[labels] = risen = max(seconds, self._seconds.get(labels, 0.0))
        return risen

    def _scope_families(self, scopes: Iterable[ScopeStats]) -> Iterator[Metric]:
        ended: Counter[tuple[str]] = Counter()
        queries: Counter[tuple[str]] = Counter()
        seconds: dict[tuple[str], float] = {}
        for stats in scopes:
            label = _scope_label(stats.name)
            labels = (label if self._scopes.holds(label) else OTHER,)
            ended[labels] += stats.scopes
            queries[labels] += stats.calls
            seconds[labels] = seconds.get(labels, 0.0) + stats.database_s
        names = ("scope",)
        yield _counter("querywatch_scopes", "Requests, jobs and tests that ended, by name.", names, ended.items())
        yield _counter("querywatch_scope_queries", "Executions in those scopes.", names, queries.items())
        yield _counter(
            "querywatch_scope_db_seconds",
            "Time in the database drivers in those scopes.",
            names,
            ((labels, self._rise(labels, total_s)) for labels, total_s in seconds.items()),
        )

    def _finding_family(self, findings: Iterable[Finding]) -> Metric:
        seen: Counter[_FindingKey] = Counter()
        for finding in findings:
            seen[_finding_key(finding)] += finding.count
        for key, count in seen.items():
            before = self._findings_seen[key]
            # Old findings are dropped at a limit, and one that comes back starts again; the counter goes on.
            self._findings[self._finding_labels(key)] += count - before if count >= before else count
        self._findings_seen = seen
        return _counter(
            "querywatch_findings",
            "Wasteful executions (or other occurrences) that findings counted.",
            ("code", "scope", "subject"),
            self._findings.items(),
        )

    def _finding_labels(self, key: _FindingKey) -> tuple[str, str, str]:
        code, _, subject, _, _, _, scope = key
        labels = (code, _scope_label(scope), clean(subject, LABEL_LIMIT))
        return labels if self._subjects.holds(labels) else (code, OTHER, OTHER)


def _finding_key(finding: Finding) -> _FindingKey:
    return (
        finding.code,
        finding.kind,
        finding.subject,
        finding.database,
        finding.fingerprint,
        finding.call_site,
        finding.scope,
    )


def _scope_label(name: str | None) -> str:
    return IMPLICIT if name is None else clean(name, LABEL_LIMIT)


def _query_info(fingerprints: Mapping[str, Fingerprint]) -> Metric:
    family = InfoMetricFamily(
        "querywatch_query",
        "What a fingerprint stands for.",
        labels=("fingerprint",),
    )
    for label, fingerprint in fingerprints.items():
        family.add_metric(
            (label,),
            {
                "operation": clean(fingerprint.operation, LABEL_LIMIT),
                "tables": clean(", ".join(fingerprint.tables), LABEL_LIMIT),
                "summary": clean(fingerprint.summary, LABEL_LIMIT),
            },
        )
    return family


def _advice_family(advice: Iterable[IndexAdvice]) -> Metric:
    family = GaugeMetricFamily(
        "querywatch_index_advice_gain_ratio",
        "Share of the planner's cost that a suggested index saves, 0 to 1; absent where the database has no cost.",
        labels=("database", "index"),
    )
    gains: dict[tuple[str, str], float] = {}
    for one in advice:
        if one.cost_before and one.cost_after is not None:
            labels = (clean(one.database, LABEL_LIMIT), clean(one.index.subject, LABEL_LIMIT))
            gains[labels] = max(gains.get(labels, 0.0), 1.0 - one.cost_after / one.cost_before)
    for labels, gain in gains.items():
        family.add_metric(labels, gain)
    return family


def _counter(
    name: str, documentation: str, labels: tuple[str, ...], values: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family
