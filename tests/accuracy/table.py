"""The verdicts as a table: a row for each kind, and one for all."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from accuracy.expectation import name_row

if TYPE_CHECKING:
    from collections.abc import Iterable

    from accuracy.verdict import Verdict

_HEADINGS = (
    "kind", "programs", "look-alikes", "expected", "found", "missed", "false alarms",
    "named", "line", "fix", "precision", "recall",
)  # fmt: skip


@dataclass
class Row:
    """Counts of one kind: of programs, then of what all their runs showed."""

    programs: int = 0
    look_alikes: int = 0
    expected: int = 0
    found: int = 0
    false_alarms: int = 0
    named: int = 0
    lines: int = 0
    lines_told: int = 0
    fixes: int = 0

    @property
    def precision(self) -> float:
        """Of what was found, the share that is there."""
        return self.found / (self.found + self.false_alarms) if self.found + self.false_alarms else 1.0

    @property
    def recall(self) -> float:
        """Of what is there, the share that was found."""
        return self.found / self.expected if self.expected else 1.0

    def add(self, other: Row) -> None:
        """Add the counts of another row."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def cells(self, name: str) -> tuple[str, ...]:
        """Return the row as text."""
        return (
            name,
            *map(str, (self.programs, self.look_alikes, self.expected, self.found)),
            str(self.expected - self.found),
            str(self.false_alarms),
            f"{self.named}/{self.found}",
            f"{self.lines}/{self.lines_told}",
            f"{self.fixes}/{self.found}",
            f"{self.precision:.2f}",
            f"{self.recall:.2f}",
        )


def count_rows(verdicts: Iterable[Verdict]) -> dict[str, Row]:
    """Return the rows by name, and the sum of all as `all`.

    A program counts once in each row that it expects, however often it was run; everything else counts by run.
    """
    rows: dict[str, Row] = defaultdict(Row)
    total = Row()
    counted: set[str] = set()
    for verdict in verdicts:
        program = verdict.program
        if program.name not in counted:
            counted.add(program.name)
            for name in {expected.row for expected in program.expected}:
                rows[name].programs += 1
            if program.near is not None:
                rows[program.near].look_alikes += 1
            total.programs += program.near is None
            total.look_alikes += program.near is not None
        for match in verdict.matches:
            row = rows[match.expected.row]
            row.expected += 1
            if match.finding is not None:
                row.found += 1
                row.named += match.named
                row.fixes += match.fix
                row.lines += bool(match.line)
                row.lines_told += match.line is not None
        for finding in verdict.false_alarms:
            rows[name_row(finding.code, finding.kind)].false_alarms += 1
    for row in rows.values():
        total.add(Row(**(vars(row) | {"programs": 0, "look_alikes": 0})))
    return dict(sorted(rows.items())) | {"all": total}


def render(title: str, verdicts: list[Verdict]) -> str:
    """Return the table as text."""
    lines = [_HEADINGS, *(row.cells(name) for name, row in count_rows(verdicts).items())]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
    texts = [
        "  ".join(cell.ljust(width) if not column else cell.rjust(width) for column, (cell, width) in pairs)
        for pairs in (list(enumerate(zip(line, widths, strict=True))) for line in lines)
    ]
    rule = "-" * len(texts[0])
    return "\n".join([title, texts[0], rule, *texts[1:-1], rule, texts[-1]])
