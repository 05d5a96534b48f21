"""What the HTML page shows, in the order it shows it; the templates only write it down.

In:  a snapshot.
Out: a `Page`: findings joined to their statement and advice, statements to their plan, numbers ready to be worded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from querywatch.report import charts, facts, plan_tree, wording
from querywatch.report.query_view import QueryView, Segment, divide_time, view_queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from querywatch.records import Finding, IndexAdvice, ScopeStats, Snapshot

#: What can be typed as it stands in a fix: a loader option, or a statement up to the end.
_TYPED = re.compile(r"\.options\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)|\b(?:CREATE (?:UNIQUE )?|DROP |RE)INDEX\b[^;]*")
#: How a proof's text begins where the database has costs.
_COSTS = re.compile(r"^cost [\d.,]+ -> [\d.,]+: ")


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
    to_mend: int
    advice: Sequence[AdviceView]
    queries: Sequence[QueryView]
    ticks: Sequence[charts.Tick]
    scopes: Sequence[ScopeView]
    notes: Sequence[str]


def build_page(snapshot: Snapshot) -> Page:
    """Arrange *snapshot* for reading: the worst finding first, the statement with the most time first."""
    found = facts.by_weight(snapshot.findings)
    axis = charts.shared_axis(query.histogram for query in snapshot.queries)
    queries = view_queries(snapshot, found, axis)
    return Page(
        snapshot=snapshot,
        version=wording.installed_version(),
        calls=sum(query.calls for query in snapshot.queries),
        database_s=sum(query.total_s for query in snapshot.queries),
        errors=sum(error.count for query in snapshot.queries for error in query.errors),
        found_ratio=sum(query.share_ratio for query in queries if query.findings),
        segments=divide_time(queries),
        findings=[_finding_view(number, finding, snapshot, queries) for number, finding in enumerate(found, start=1)],
        to_mend=len(facts.to_mend(found)),
        advice=[
            _advice_view(number, advice, snapshot, queries) for number, advice in enumerate(snapshot.advice, start=1)
        ],
        queries=queries,
        ticks=charts.draw_ticks(axis),
        scopes=[_scope_view(scope, found) for scope in sorted(snapshot.scopes, key=lambda scope: -scope.database_s)],
        notes=_notes(snapshot, len(snapshot.queries) - len(queries)),
    )


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
