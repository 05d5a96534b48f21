"""What the HTML page shows, in the order it shows it; the templates only write it down.

In:  a snapshot.
Out: a `Page`: findings joined to their statement and advice, statements to their plan, numbers ready to be worded.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from querywatch.histogram import quantile
from querywatch.report import charts, facts, plan_tree, sql_layout, wording

if TYPE_CHECKING:
    from collections.abc import Sequence

    from querywatch.records import Finding, Histogram, IndexAdvice, QueryStats, ScopeStats, Snapshot

#: A page of more statements is slow to open, and the rest takes no time worth a look.
_MOST_QUERIES = 500
#: The bar of all database time: statements with less than this share, or beyond the number, are one segment.
_LEAST_SEGMENT = 0.01
_MOST_SEGMENTS = 12

#: What can be typed as it stands in a fix: a loader option, or a statement up to the end.
_TYPED = re.compile(r"\.options\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)|\b(?:CREATE (?:UNIQUE )?|DROP |RE)INDEX\b[^;]*")
#: How a proof's text begins where the database has costs.
_COSTS = re.compile(r"^cost [\d.,]+ -> [\d.,]+: ")


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


@dataclass(frozen=True, slots=True)
class FindingView:
    """One finding.

    Args:
        number: From 1; its id on the page.
        finding: The record.
        facts: What every report says of it.
        fix: The fix in three parts: before what is to be typed, what is to be typed, after it. Where nothing is, the
            second is empty and the first is the whole.
        strip: The statements of one scope, the others and these, as two SVG paths; None where nothing was counted so.
        query: The statement it is about, None where that is not shown.
        advice_number: Of the index it asks for, None where there is none.
    """

    number: int
    finding: Finding
    facts: facts.Facts
    fix: tuple[str, str, str]
    strip: tuple[str, str] | None
    query: QueryView | None
    advice_number: int | None


@dataclass(frozen=True, slots=True)
class AdviceView:
    """One index advice, with the statements it helps.

    Args:
        number: From 1.
        advice: The record.
        proof: How it was shown, in a few words.
        gain: How many times cheaper, None where the database has no cost.
        after_ratio: Cost with the index as part of the cost without, None likewise.
        steps: The plan's step before and after; None where nothing was planned again, or the plan is not there.
        queries: Of the statements that it helps, those that are shown.
    """

    number: int
    advice: IndexAdvice
    proof: str
    gain: str | None
    after_ratio: float | None
    steps: tuple[str, str] | None
    queries: Sequence[QueryView]


@dataclass(frozen=True, slots=True)
class ScopeView:
    """All requests, tasks or tests of one name."""

    stats: ScopeStats
    calls_each: float
    database_each_s: float
    database_ratio: float | None
    findings: Sequence[int]


class Segment(NamedTuple):
    """A part of all database time: one statement's, or that of all the rest where `query` is None."""

    left: float
    ratio: float
    text: str
    query: QueryView | None


@dataclass(frozen=True, slots=True)
class Page:
    """Everything on the page."""

    snapshot: Snapshot
    version: str
    calls: int
    database_s: float
    errors: int
    found_ratio: float
    segments: Sequence[Segment]
    findings: Sequence[FindingView]
    advice: Sequence[AdviceView]
    queries: Sequence[QueryView]
    ticks: Sequence[charts.Tick]
    scopes: Sequence[ScopeView]
    notes: Sequence[str]


def build_page(snapshot: Snapshot) -> Page:
    """Arrange *snapshot* for reading: the worst finding first, the statement with the most time first."""
    found = facts.by_weight(snapshot.findings)
    stats = sorted(snapshot.queries, key=lambda query: -query.total_s)
    database_s = sum(query.total_s for query in stats)
    shown = stats[:_MOST_QUERIES]
    axis = charts.shared_axis(query.histogram for query in shown)
    queries = _query_views(snapshot, shown, found, axis, database_s)
    return Page(
        snapshot=snapshot,
        version=wording.installed_version(),
        calls=sum(query.calls for query in stats),
        database_s=database_s,
        errors=sum(error.count for query in stats for error in query.errors),
        found_ratio=sum(query.share_ratio for query in queries if query.findings),
        segments=_segments(queries),
        findings=[_finding_view(number, finding, snapshot, queries) for number, finding in enumerate(found, start=1)],
        advice=[
            _advice_view(number, advice, snapshot, queries) for number, advice in enumerate(snapshot.advice, start=1)
        ],
        queries=queries,
        ticks=charts.draw_ticks(axis),
        scopes=[_scope_view(scope, found) for scope in sorted(snapshot.scopes, key=lambda scope: -scope.database_s)],
        notes=_notes(snapshot, len(stats) - len(shown)),
    )


def _query_views(
    snapshot: Snapshot, shown: Sequence[QueryStats], found: Sequence[Finding], axis: charts.Axis, database_s: float
) -> list[QueryView]:
    """Return the statements with all that is known of them."""
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


def _segments(queries: Sequence[QueryView]) -> list[Segment]:
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


def _finding_view(number: int, finding: Finding, snapshot: Snapshot, queries: Sequence[QueryView]) -> FindingView:
    advice = facts.advice_for(finding, snapshot)
    loop = facts.loop_of(finding)
    said = facts.facts_of_finding(finding, advice)
    return FindingView(
        number=number,
        finding=finding,
        facts=said,
        fix=_split_fix(said.fix),
        strip=charts.draw_strip(*loop) if loop else None,
        query=next((query for query in queries if number in query.findings), None),
        advice_number=snapshot.advice.index(advice) + 1 if advice else None,
    )


def _split_fix(fix: str) -> tuple[str, str, str]:
    match = _TYPED.search(fix)
    return (fix[: match.start()], match[0], fix[match.end() :]) if match else (fix, "", "")


def _advice_view(number: int, advice: IndexAdvice, snapshot: Snapshot, queries: Sequence[QueryView]) -> AdviceView:
    before, after = advice.cost_before, advice.cost_after
    measured = before is not None and after is not None and before > 0 and after > 0
    return AdviceView(
        number=number,
        advice=advice,
        proof=facts.PROOFS[advice.proof],
        gain=wording.count(before / after) if measured and before and after else None,
        after_ratio=min(after / before, 1.0) if measured and before and after else None,
        steps=_steps(advice, snapshot),
        queries=[query for query in queries if number in query.advice],
    )


def _steps(advice: IndexAdvice, snapshot: Snapshot) -> tuple[str, str] | None:
    # The costs stand in columns of their own.
    after = _COSTS.sub("", advice.proof_text)
    if advice.proof == "estimated" or not after:
        return None
    for plan in snapshot.plans:
        if plan.database == advice.database and plan.fingerprint in advice.fingerprints:
            before = plan_tree.describe_access(plan.root, advice.index.table, but_not=advice.index.name)
            if before is not None:
                return before, after
    return None


def _scope_view(stats: ScopeStats, found: Sequence[Finding]) -> ScopeView:
    times = max(stats.scopes, 1)
    return ScopeView(
        stats=stats,
        calls_each=stats.calls / times,
        database_each_s=stats.database_s / times,
        database_ratio=min(stats.database_s / stats.total_s, 1.0) if stats.total_s > 0 else None,
        findings=[
            number
            for number, finding in enumerate(found, start=1)
            if finding.scope is not None and finding.scope == stats.name
        ],
    )


def _notes(snapshot: Snapshot, hidden: int) -> list[str]:
    notes = list(snapshot.notes)
    if hidden:
        notes.append(f"{wording.counted(hidden, 'statement')} with less time not shown; the JSON report holds them.")
    notes += [f"Left out: {wording.count(number)} ({reason})." for reason, number in snapshot.dropped.items() if number]
    return notes
