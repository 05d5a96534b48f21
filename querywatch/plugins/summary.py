"""The end of the run: a table of what was found, what is stale in the baseline, and the baseline itself.

In:  the tests' reports; with pytest-xdist those of all workers, in the controller.
Out: a section of the terminal's summary, and the file, both made once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from querywatch.plugins.baseline import Baseline, Row, Run, read_baseline
from querywatch.report import wording

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from querywatch.plugins.baseline import Key
    from querywatch.plugins.pytest import Options

# More findings than this are counted only: the failures show each.
_SHOWN = 50
_HEADER = ("test", "code", "subject", "count", "line", "fix")
_NUMBER = 3

_ENDED = {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}
#: Options that choose among the tests there are.
_CHOICES = ("keyword", "markexpr", "lf", "deselect", "stepwise", "ignore", "ignore_glob")


class Summary:
    """Collects what the tests' reports tell.

    Args:
        config: Of the session.
        options: Where the baseline is, and whether to write it.
    """

    def __init__(self, config: pytest.Config, options: Options) -> None:
        self._config = config
        self._options = options
        self._is_worker = hasattr(config, "workerinput")
        #: The findings that are known. An update may begin with no file.
        self.baseline = Baseline()
        if options.baseline is not None and (options.baseline.exists() or not options.update):
            self.baseline = read_baseline(options.baseline)
        self._rows: dict[Key, dict[str, Row]] = {}
        self._existing: set[str] = set()
        self._finished: set[str] = set()
        self._run: Run | None = None
        self._notes: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what the watcher wrote on a report, here or in a worker."""
        self._existing.add(report.nodeid)
        told = getattr(report, "querywatch", None)
        if told is None:
            return
        if told["finished"]:
            self._finished.add(report.nodeid)
        for row in (Row(*values) for values in told["rows"]):
            self._rows.setdefault(row.key, {})[report.nodeid] = row

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the baseline, if that was asked for."""
        if self._is_worker:
            return
        is_whole = exitstatus in _ENDED and _is_whole(session)
        self._run = Run(self._rows, self._finished, self._existing if is_whole else None)
        if not self._options.update or self._options.baseline is None:
            return
        name = f"baseline {_shorten(self._options.baseline, self._config)}"
        known = self.baseline.update(self._run)
        try:
            known.write(self._options.baseline)
        except OSError as error:
            self._notes.append(f"{name} cannot be written ({error.strerror})")
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
            return
        self._notes.append(f"{name} written: {wording.counted(len(known), 'known finding')}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the table."""
        new = [shown for shown in self._rows.values() if not _first(shown).is_known]
        known = len(self._rows) - len(new)
        stale = [] if self._run is None or self._options.update else self.baseline.list_stale(self._run)
        if not (new or known or stale or self._notes):
            return
        title = f"querywatch: {wording.counted(len(new), 'finding')}"
        terminalreporter.write_sep("=", f"{title}, {known} known" if known else title)
        if new:
            terminalreporter.write_line(_table(new))
        if stale:
            terminalreporter.write_line(
                "No longer found, though in the baseline (--querywatch-update-baseline takes it out):"
            )
        for key, test in stale:
            terminalreporter.write_line(f"  {key.code}  {key.subject}  {key.where}  shown before by {test}")
        for note in self._notes:
            terminalreporter.write_line(note)


def _is_whole(session: pytest.Session) -> bool:
    """Tell whether every test there is was run: one that was not may still show what it showed."""
    config = session.config
    chosen = any(getattr(config.option, name, None) for name in _CHOICES)
    stopped = bool(session.shouldstop or session.shouldfail)
    return not chosen and not stopped and config.args_source is not pytest.Config.ArgsSource.ARGS


def _first(shown: dict[str, Row]) -> Row:
    return shown[min(shown)]


def _table(findings: Sequence[dict[str, Row]]) -> str:
    """Lay out one line for each finding: the fix, a sentence, comes last and is not cut."""
    rows = [_HEADER, *sorted(_cells(shown) for shown in findings)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER) - 1)]
    lines = []
    for row in rows[: _SHOWN + 1]:
        cells = [
            cell.rjust(width) if column == _NUMBER else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    if len(rows) > _SHOWN + 1:
        lines.append(f"and {len(rows) - _SHOWN - 1} more")
    return "\n".join(lines)


def _cells(shown: dict[str, Row]) -> tuple[str, ...]:
    test, row = min(shown), _first(shown)
    others = f" and {wording.counted(len(shown) - 1, 'other')}" if len(shown) > 1 else ""
    subject = "" if row.subject == test else row.subject
    count = wording.count(max(each.times for each in shown.values()))
    return tuple(map(wording.one_line, (test + others, row.code, subject, count, row.line, row.fix)))


def _shorten(path: Path, config: pytest.Config) -> str:
    return path.relative_to(config.rootpath).as_posix() if path.is_relative_to(config.rootpath) else str(path)
