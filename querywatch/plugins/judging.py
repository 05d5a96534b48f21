"""Which findings of a test count against it.

In:  what a test did, its mark, the baseline.
Out: a verdict: what is new, what is known, and whether the test fails.

A test must not fail on a busy machine and pass on an idle one, so only codes that depend on what the code did count.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from querywatch.allowance import matches
from querywatch.plugins.baseline import Key, Row
from querywatch.plugins.limits import check_limits, read_limits
from querywatch.report.text import render_finding

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from querywatch.plugins.baseline import Baseline
    from querywatch.plugins.pytest import Options
    from querywatch.plugins.watched_test import WatchedTest
    from querywatch.records import CallSite, Finding

#: Codes that come out the same on every machine.
COUNTED = frozenset({
    "duplicate-query",
    "large-result",
    "n-plus-one",
    "scope-budget",
    "select-star",
    "unused-eager-load",
    "write-loop",
})  # fmt: skip

#: Findings that the first line of a failure names.
_NAMED = 3


class Verdict(NamedTuple):
    """What a test's findings mean.

    Args:
        new: Findings that count, each line of the application once.
        rows: The same and those that the baseline knows, for the summary.
        finished: Whether the test passed by itself, and so came to its end.
        complete: Whether all it did was looked at; False if the application closed the monitor while the test ran.
        fails: Whether it is to fail for its findings.
        warns: Whether to warn of them.
    """

    new: tuple[Finding, ...]
    rows: tuple[Row, ...]
    finished: bool
    complete: bool
    fails: bool
    warns: bool


class Judge:
    """Weighs what tests did.

    Args:
        config: Of the session.
        options: What becomes of a test with findings.
        baseline: The findings that are known.
    """

    def __init__(self, config: pytest.Config, options: Options, baseline: Baseline) -> None:
        self._options = options
        self._baseline = baseline
        self._started_in = config.invocation_params.dir
        self._root = config.rootpath
        self._test_folders = [config.rootpath / name for name in config.getini("testpaths")]

    def judge(self, item: pytest.Item, test: WatchedTest, *, passed: bool) -> Verdict:
        """Weigh the findings of a test that has ended.

        Raises:
            pytest.fail.Exception: The test's mark is wrong.
        """
        limits = read_limits(item)
        findings = [
            finding
            for finding in (*test.findings, *check_limits(test, limits))
            if finding.code in COUNTED
            and finding.severity != "info"
            and not matches(finding, limits.allow)
            and not self._is_arrangement(finding, item)
        ]
        merged: dict[Key, Finding] = {}
        for finding in findings:
            key = self._key(finding, test)
            known = merged.get(key)
            # Three requests that run into the same line are one thing to mend.
            merged[key] = finding if known is None else replace(known, count=known.count + finding.count)
        new = tuple(finding for key, finding in merged.items() if key not in self._baseline)
        rows = tuple(self._row(key, finding) for key, finding in merged.items())
        counts = bool(new) and not self._options.update
        mode = self._options.mode
        return Verdict(
            new,
            rows,
            passed,
            test.complete,
            fails=counts and passed and mode == "fail",
            warns=counts and mode == "warn",
        )

    def _row(self, key: Key, finding: Finding) -> Row:
        line = "" if finding.call_site is None else f"{self._place(finding.call_site)}:{finding.call_site.line}"
        return Row(*key, finding.count, line, finding.fix, key in self._baseline)

    def _key(self, finding: Finding, test: WatchedTest) -> Key:
        site = finding.call_site
        where = test.name if site is None else f"{self._place(site)}::{site.function}"
        return Key(finding.code, finding.kind or "", finding.subject, where)

    def _place(self, site: CallSite) -> str:
        """Return the file as every machine calls it: from the project's folder, or from the installed packages."""
        path = self._path(site)
        if path.is_relative_to(self._root):
            return path.relative_to(self._root).as_posix()
        _, installed, rest = path.as_posix().rpartition("/site-packages/")
        return rest if installed else path.as_posix()

    def _path(self, site: CallSite) -> Path:
        return self._started_in / site.file

    def _is_arrangement(self, finding: Finding, item: pytest.Item) -> bool:
        """Tell whether a test writes the rows that it needs one by one: that is how it prepares, not what it tests."""
        if finding.code != "write-loop" or finding.call_site is None:
            return False
        path = self._path(finding.call_site)
        return (
            path.name == "conftest.py"
            or path == item.path
            or any(path.is_relative_to(folder) for folder in self._test_folders)
        )


def describe(verdict: Verdict) -> str:
    """Return the new findings as text: a line of names, then the block of each as everywhere."""
    parts = (f"querywatch: {_name(verdict.new)}", *map(render_finding, verdict.new), _hint(verdict.new))
    return "\n\n".join(part for part in parts if part)


def _name(findings: tuple[Finding, ...]) -> str:
    names = list(dict.fromkeys(_describe(finding) for finding in findings))
    further = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {further} more" if further > 0 else "")


def _describe(finding: Finding) -> str:
    # The test's own name stands before it already.
    return finding.code if finding.code == "scope-budget" else f"{finding.code} {finding.subject}"


def _hint(findings: tuple[Finding, ...]) -> str:
    patterns = sorted({f'"{finding.code}:{finding.subject}"' for finding in findings if finding.code != "scope-budget"})
    return f"If this is meant so: @pytest.mark.querywatch(allow=[{', '.join(patterns)}])" if patterns else ""
