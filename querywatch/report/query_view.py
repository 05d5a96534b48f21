"""The statements of the page, by total time, each with all that is known of it.

In:  a snapshot.
Out: a `QueryView` for each statement shown, and the bar that divides all database time among them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from querywatch.histogram import quantile
from querywatch.report import charts, plan_tree, sql_layout, wording

if TYPE_CHECKING:
    from collections.abc import Sequence

    from querywatch.records import Finding, Histogram, IndexAdvice, QueryStats, Snapshot

#: A page of more statements is slow to open, and the rest takes no time worth a look.
_MOST_QUERIES = 500
#: The bar of all database time: statements with less than this share, or beyond the number, are one segment.
_LEAST_SEGMENT = 0.01
_MOST_SEGMENTS = 12


@dataclass(frozen=True, slots=True)
class QueryView:
    """One statement on one database.

    Args:
        anchor: Its id on the page.
        stats: The record.
        share_ratio: Its part of all database time.
        p50_s: Seconds; None where nothing was measured. So are `p95_s` and `p99_s`.
        p95_s: See `p50_s`.
        p99_s: See `p50_s`.
        errors: Calls that failed.
        preview: The statement on one line, cut.
        sql: The statement in lines of words.
        bars: Its latency as an SVG path.
        marks: Where p50 and p95 lie on the chart, with their names.
        plan: Top steps of its plan, empty where none was taken.
        plan_taken_at: Unix time, None where none was taken.
        findings: Numbers of the findings about it, from 1.
        severity: The worst of them, None where there is none.
        advice: Numbers of the advice that helps it, from 1.
    """

    anchor: str
    stats: QueryStats
    share_ratio: float
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    errors: int
    preview: str
    sql: Sequence[sql_layout.Line]
    bars: str
    marks: Sequence[charts.Tick]
    plan: Sequence[plan_tree.Step]
    plan_taken_at: float | None
    findings: Sequence[int]
    severity: str | None
    advice: Sequence[int]


class Segment(NamedTuple):
    """A part of all database time: one statement's, or that of all the rest where `query` is None."""

    left: float
    ratio: float
    text: str
    query: QueryView | None


def view_queries(snapshot: Snapshot, found: Sequence[Finding], axis: charts.Axis) -> list[QueryView]:
    """Return the statements with the most time first, 500 at most.

    Args:
        snapshot: What a monitor knew.
        found: Its findings, the worst first; a statement names them by their place in it, from 1.
        axis: Of the latency charts.
    """
    shown = sorted(snapshot.queries, key=lambda query: -query.total_s)[:_MOST_QUERIES]
    database_s = sum(query.total_s for query in snapshot.queries)
    plans = {(plan.fingerprint, plan.database): plan for plan in snapshot.plans}
    seen: Counter[str] = Counter()
    views = []
    for stats in shown:
        name = stats.fingerprint.id
        # The same statement on a second database is a row of its own.
        seen[name] += 1
        anchor = f"query-{name}" if seen[name] == 1 else f"query-{name}-{seen[name]}"
        plan = plans.get((name, stats.database))
        findings = [number for number, finding in enumerate(found, start=1) if _is_about(finding, stats)]
        p50_s, p95_s, p99_s = (_quantile(stats.histogram, q, stats.max_s) for q in (0.5, 0.95, 0.99))
        marks = (("p50", p50_s), ("p95", p95_s))
        sql = wording.visible(stats.fingerprint.sql)
        views.append(
            QueryView(
                anchor=anchor,
                stats=stats,
                share_ratio=stats.total_s / database_s if database_s > 0 else 0.0,
                p50_s=p50_s,
                p95_s=p95_s,
                p99_s=p99_s,
                errors=sum(error.count for error in stats.errors),
                preview=wording.one_line(sql[:400])[:200],
                sql=sql_layout.lay_out(sql),
                bars=charts.draw_bars(stats.histogram, axis),
                marks=[charts.Tick(axis.position(value), text) for text, value in marks if value is not None],
                plan=plan_tree.build_tree(plan) if plan else (),
                plan_taken_at=plan.captured_at if plan else None,
                findings=findings,
                # `found` has the worst first.
                severity=found[findings[0] - 1].severity if findings else None,
                advice=[number for number, advice in enumerate(snapshot.advice, start=1) if _helps(advice, stats)],
            )
        )
    return views


def divide_time(queries: Sequence[QueryView]) -> list[Segment]:
    """Return the parts of all database time, the largest first and the rest at the end; none where no time passed."""
    segments: list[Segment] = []
    left = 0.0
    for query in queries[:_MOST_SEGMENTS]:
        if query.share_ratio < _LEAST_SEGMENT:
            break
        segments.append(Segment(left, query.share_ratio, query.stats.fingerprint.summary, query))
        left += query.share_ratio
    # What is left of 1 after rounding is no statement.
    if segments and left < 1 - 1e-6:
        segments.append(Segment(left, 1 - left, "everything else", None))
    return segments


def _helps(advice: IndexAdvice, stats: QueryStats) -> bool:
    return advice.database == stats.database and stats.fingerprint.id in advice.fingerprints


def _quantile(histogram: Histogram, q: float, max_s: float) -> float | None:
    value = quantile(histogram, q)
    # The middle of the slowest bucket may lie above the slowest call.
    return None if value is None else min(value, max_s)


def _is_about(finding: Finding, stats: QueryStats) -> bool:
    return finding.fingerprint == stats.fingerprint.id and finding.database in {None, stats.database}
