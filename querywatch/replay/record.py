"""What a replay showed: each proposed fix, before and after.

In:  counts and times of the runs.
Out: a `Replay`, and its sentences for people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from querywatch.records import Finding

# Two runs of the same code differ by so much on a busy machine.
_NOISE_RATIO = 1.5
_NOISE_S = 0.02


@dataclass(frozen=True, slots=True)
class Cost:
    """What one way to run the callable took.

    Args:
        statements: Statements sent to databases, by the latest run.
        seconds: From call to return, by the fastest of its runs.
    """

    statements: int
    seconds: float

    def takes_longer_than(self, other: Cost) -> bool:
        """Whether the difference is more than two runs of the same code may have."""
        return self.seconds > max(other.seconds * _NOISE_RATIO, other.seconds + _NOISE_S)

    def __str__(self) -> str:
        noun = "query" if self.statements == 1 else "queries"
        return f"{self.statements:,} {noun}, {_format_ms(self.seconds)}"


@dataclass(frozen=True, slots=True)
class ReplayedFix:
    """One proposed fix, tried.

    Args:
        finding: The finding that proposes it.
        options: The loader options as typed, such as `selectinload(User.orders)`.
        path: Attributes from the class of the SELECT to the one that is loaded, such as `("User.orders",)`.
        parent_site: Line of the SELECT that got them, as `file:line`; None: every SELECT of the class.
        before: As the code is.
        after: With these options alone.
        selects: SELECTs that took the options.
        same_result: Whether the callable returned the same; None if what it returns cannot be compared.
        error: Class of the exception that the callable raised with the options, None if it raised none.
    """

    finding: Finding
    options: str
    path: tuple[str, ...]
    parent_site: str | None
    before: Cost
    after: Cost
    selects: int
    same_result: bool | None
    error: str | None = None

    @property
    def subject(self) -> str:
        """What the finding is about, such as `User.orders`."""
        return self.finding.subject

    @property
    def helps(self) -> bool:
        """Whether it saves statements, takes no longer, and the callable still works and returns the same."""
        return self.problem is None

    @property
    def problem(self) -> str | None:
        """Why the fix does not help, as a sentence for people; None if it does."""
        if self.error is not None:
            return f"With it the callable raises {self.error}."
        if not self.selects:
            where = f" at {self.parent_site}" if self.parent_site is not None else ""
            return f"No SELECT{where} took it."
        if self.same_result is False:
            return "With it the callable returns something else."
        if self.after.statements >= self.before.statements:
            return "It saves no query."
        return "It saves queries, but takes longer." if self.after.takes_longer_than(self.before) else None

    def __str__(self) -> str:
        verdict = f"  {self.problem}" if self.problem is not None else ""
        return f"{_format_change(self.before, self.after)}  {self.options}{verdict}"


@dataclass(frozen=True, slots=True)
class Replay:
    """What `querywatch.prove` returns. `str(replay)` is its proof line, and one line for each thing to know.

    Args:
        name: Name of the callable.
        before: As the code is.
        after: With every fix that helps; equal to `before` where none does.
        fixes: Each proposed fix, tried alone.
        not_replayed: N+1 findings whose fix is no loader option: somebody has to write it first.
        same_result: Whether the callable returned the same with every fix that helps; None if that cannot be compared.
    """

    name: str
    before: Cost
    after: Cost
    fixes: tuple[ReplayedFix, ...]
    not_replayed: tuple[Finding, ...]
    same_result: bool | None

    @property
    def helps(self) -> bool:
        """Whether any fix helps."""
        return any(fix.helps for fix in self.fixes)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The N+1 findings of the callable as it is."""
        return (*(fix.finding for fix in self.fixes), *self.not_replayed)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> list[str]:
        if not self.findings:
            return [f"replayed: {self.before}: no N+1, nothing to fix"]
        if self.helps:
            lines = [f"replayed: {_format_change(self.before, self.after)}"]
        elif self.fixes:
            lines = [f"replayed: {self.before}: no proposed fix helps"]
        else:
            lines = [f"replayed: {self.before}: no loader option to try"]
        # One fix that helps is the first line already.
        lines += [f"  {fix.options}" if self.helps and len(self.fixes) == 1 else f"  {fix}" for fix in self.fixes]
        if self.helps and self.same_result is None:
            lines.append("  What it returned cannot be compared; whether it is the same is for you to see.")
        if self.not_replayed:
            lines.append("  Only loader options can be replayed. Not replayed:")
            lines += [f"    {finding.subject}: {finding.fix}" for finding in self.not_replayed]
        return lines


def _format_change(before: Cost, after: Cost) -> str:
    queries = f"{before.statements:,} -> {after.statements:,} queries"
    return f"{queries}, {_format_ms(before.seconds)} -> {_format_ms(after.seconds)}"


def _format_ms(seconds: float) -> str:
    milliseconds = seconds * 1000
    return f"{milliseconds:,.0f} ms" if milliseconds >= 10 else f"{milliseconds:.2g} ms"  # noqa: PLR2004 - two digits
