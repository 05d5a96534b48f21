"""A finding as the few facts that every report shows in the same order.

In:  a finding, or an index advice.
Out: what, where it hurts, where it comes from, what to type, how we know: texts that are safe to show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from querywatch.report import wording

if TYPE_CHECKING:
    from collections.abc import Iterable

    from querywatch.records import Finding, IndexAdvice, Severity, Snapshot

_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")

_CALLERS_SHOWN = 2

#: How an advice was shown to help, in a few words.
PROOFS: dict[str, str] = {
    "hypopg": "re-planned with a hypothetical index",
    "scratch": "re-planned on a copy",
    "estimated": "estimated, not proven",
}


class Facts(NamedTuple):
    """One block of a report.

    Args:
        code: What it is, such as `n-plus-one`.
        scope: Where it hurts, None where no scope has a name.
        subject: What it concerns, such as `User.orders`.
        impact: How much of the scope it is: `51 queries, 50 of them this one`; None where nothing was counted so.
        why: What was seen, as one sentence.
        at: The application's line with its function, None where unknown.
        fix: What to do or type.
        proof: How we know; what was counted, where nothing else was shown.
    """

    code: str
    scope: str | None
    subject: str
    impact: str | None
    why: str
    at: str | None
    fix: str
    proof: str


def facts_of_finding(finding: Finding, advice: IndexAdvice | None = None) -> Facts:
    """Return the facts of *finding*.

    Args:
        finding: Any finding. A sentence `proof` in its evidence is how we know.
        advice: The index it asks for, where there is one: its measured proof stands for the finding.
    """
    site = finding.call_site
    loop = loop_of(finding)
    return Facts(
        code=wording.one_line(finding.code),
        scope=wording.one_line(finding.scope) if finding.scope else None,
        subject=wording.one_line(finding.subject),
        impact=f"{wording.counted(loop[1], 'query', 'queries')}, {wording.count(loop[0])} of them this one"
        if loop
        else None,
        why=wording.one_line(finding.message),
        at=_place(finding) if site else None,
        fix=wording.one_line(finding.fix),
        proof=wording.one_line(_proof_of_finding(finding, advice)),
    )


def _place(finding: Finding) -> str:
    """Return the application's line; where a function of its own sends the statement, with the lines that call it."""
    site = finding.call_site
    assert site is not None
    place = f"{wording.one_line(str(site))}  in {wording.function_name(site.function)}"
    callers = finding.evidence.as_dict().get("called_from")
    if isinstance(callers, list) and callers:
        more = f" and {len(callers) - _CALLERS_SHOWN} more" if len(callers) > _CALLERS_SHOWN else ""
        shown = ", ".join(wording.one_line(str(caller)) for caller in callers[:_CALLERS_SHOWN])
        place += f", called from {shown}{more}"
    return place


def facts_of_advice(advice: IndexAdvice) -> Facts:
    """Return the facts of an index advice that no finding speaks of."""
    return Facts(
        code="missing-index",
        scope=None,
        subject=wording.one_line(advice.index.subject),
        impact=None,
        why=wording.one_line(advice.reason),
        at=None,
        fix=wording.one_line(advice.ddl),
        proof=wording.one_line(proof_of_advice(advice)),
    )


def proof_of_advice(advice: IndexAdvice) -> str:
    """Return how an advice was shown to help, as one line: the way, and what the proof saw."""
    return f"{PROOFS[advice.proof]}: {advice.proof_text}" if advice.proof_text else PROOFS[advice.proof]


def to_mend(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that ask for a change, the worst first: all but those that only inform."""
    return [finding for finding in by_weight(findings) if finding.severity != "info"]


def by_weight(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with the worst first: by severity, then by time, then by count."""
    return sorted(
        findings, key=lambda finding: (_SEVERITIES.index(finding.severity), -(finding.total_s or 0.0), -finding.count)
    )


def advice_for(finding: Finding, snapshot: Snapshot) -> IndexAdvice | None:
    """Return the index advice that *finding* is about, None if there is none."""
    for advice in snapshot.advice:
        if (finding.subject, finding.database) == (advice.index.subject, advice.database):
            return advice
    return None


def loop_of(finding: Finding) -> tuple[int, int] | None:
    """Return how many statements of one scope were this one, and how many there were; None where nothing tells.

    Evidence may come from a file, so its shape is looked at and not assumed.
    """
    seen = finding.evidence.as_dict()
    calls, scope_calls = seen.get("calls"), seen.get("scope_calls")
    if isinstance(calls, int) and isinstance(scope_calls, int) and 0 < calls <= scope_calls:
        return calls, scope_calls
    return None


def _proof_of_finding(finding: Finding, advice: IndexAdvice | None) -> str:
    seen = finding.evidence.as_dict()
    proof = seen.get("proof")
    # An index's evidence names the way it was proven; other evidence holds a sentence.
    way = PROOFS.get(proof) if isinstance(proof, str) else None
    if isinstance(proof, str) and way is None:
        return proof
    if advice is not None:
        return proof_of_advice(advice)
    if way is not None:
        return f"{way}: {seen['proof_text']}" if seen.get("proof_text") else way
    return _what_was_counted(finding)


def _what_was_counted(finding: Finding) -> str:
    scopes = finding.evidence.as_dict().get("scopes")
    times = wording.counted(finding.count, "time")
    places = f" in {wording.counted(scopes, 'scope')}" if isinstance(scopes, int) and scopes > 1 else ""
    spent = "" if finding.total_s is None else f", {wording.duration(finding.total_s)} in all"
    return f"counted {times}{places}{spent}, last at {wording.moment(finding.last_seen_at, '%H:%M:%S')} UTC"
