"""Compare what was found in a program with what must be.

Each finding stands for one expectation at most. One of the right code with another kind or subject counts as found and
as not named exactly; whatever is left over is a false alarm, the same thing told twice too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from accuracy.expectation import Expected, Place, Program, name_row

if TYPE_CHECKING:
    from querywatch.records import Finding


@dataclass
class Match:
    """One expectation and the finding that stands for it.

    Args:
        expected: What must be found.
        finding: What was; None if it was missed.
        wrong: What is not as expected, as sentences; empty if all is right.
        named, line, fix: Whether each is right; None where the program does not tell the line.
    """

    expected: Expected
    finding: Finding | None
    wrong: list[str] = field(default_factory=list)
    named: bool = False
    line: bool | None = None
    fix: bool = False


@dataclass
class Verdict:
    """What one run of a program showed.

    Args:
        program: What was run.
        where: Database and mode, such as `sqlite sync`.
        matches: One for each expectation.
        false_alarms: Findings that must not be.
        error: What the program raised, None if it ran.
    """

    program: Program
    where: str
    matches: list[Match]
    false_alarms: list[Finding]
    error: str | None = None

    def list_differences(self) -> list[str]:
        """Return what is not as it must be, a sentence each."""
        sentences = [self.error] if self.error else []
        sentences += [text for match in self.matches for text in match.wrong]
        return sentences + [f"false alarm: {describe(finding)}" for finding in self.false_alarms]


def judge(program: Program, where: str, findings: list[Finding], error: str | None = None) -> Verdict:
    """Compare what was found in one run of *program* with what must be."""
    left = list(findings)
    chosen: dict[int, Finding] = {}
    for exactly in (True, False):
        for number, expected in enumerate(program.expected):
            if number in chosen:
                continue
            fits = [f for f in left if (_is_named(program, expected, f) if exactly else f.code == expected.code)]
            # Of two lines that do the same, each expectation takes the finding of its own line.
            fits.sort(key=lambda f, e=expected: not _is_at(f.call_site, program.find_marker(e.line)))  # type: ignore[misc]
            if fits:
                chosen[number] = fits[0]
                left.remove(fits[0])
    matches = [
        _compare(program, expected, chosen.get(n))
        for n, expected in enumerate(program.expected)
        if n in chosen or not expected.optional
    ]
    return Verdict(program, where, matches, left, error)


def describe_differences(verdicts: list[Verdict]) -> list[str]:
    """Return all differences, a line each; what differs in several places in the same way is one line."""
    places: dict[tuple[str, str], list[str]] = {}
    for verdict in verdicts:
        for sentence in verdict.list_differences():
            places.setdefault((verdict.program.name, sentence), []).append(verdict.where)
    return [f"{name} ({', '.join(where)}): {sentence}" for (name, sentence), where in places.items()]


def describe(finding: Finding) -> str:
    """Return a finding in one line."""
    row = name_row(finding.code, finding.kind)
    return f"{row} {finding.subject} x{finding.count} at {finding.call_site}, {finding.fix_kind}: {finding.fix}"


def _compare(program: Program, expected: Expected, finding: Finding | None) -> Match:
    match = Match(expected, finding)
    subject = expected.subject or program.name
    if finding is None:
        match.wrong.append(f"missed: {expected.row} {subject}")
        return match
    match.named = _is_named(program, expected, finding)
    if not match.named:
        match.wrong.append(f"named wrongly, not {expected.row} {subject}: {describe(finding)}")
    match.fix = finding.fix_kind in expected.fixes
    if not match.fix:
        match.wrong.append(f"fix is {finding.fix_kind}, not {' or '.join(expected.fixes)}: {describe(finding)}")
    if expected.options is not None and expected.options not in finding.fix:
        match.fix = False
        match.wrong.append(f"fix does not spell {expected.options}: {finding.fix}")
    parent_site = getattr(finding.evidence, "parent_site", None)
    for name, seen in ((expected.line, finding.call_site), (expected.parents, parent_site)):
        wanted = program.find_marker(name)
        if not wanted:
            continue
        right = _is_at(seen, wanted)
        match.line = right if match.line is None else match.line and right
        if not right:
            lines = " or ".join(f"{place.file.name}:{place.line}" for place in sorted(wanted))
            match.wrong.append(f"line of `{name}` is {seen}, not {lines}")
    return match


def _is_named(program: Program, expected: Expected, finding: Finding) -> bool:
    kinds = expected.kinds or (None,)
    subject = expected.subject or program.name
    return finding.code == expected.code and finding.kind in kinds and finding.subject == subject


def _is_at(site: object, places: set[Place]) -> bool:
    """Tell whether a call site, or its `file:line`, is one of *places*."""
    if site is None:
        return False
    file, _, line = str(site).rpartition(":")
    return Place(Path(file).resolve(), int(line)) in places
