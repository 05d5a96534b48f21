"""Around each test's call: one scope, a look at what it did, and the verdict.

In:  pytest's items, before and after their call.
Out: failures or warnings, and `report.querywatch`: rows for the summary, also from a worker of pytest-xdist.

The scope is opened by a wrapper around the test function and not by the hook around it, because an async test runs in a
task whose context was copied before the hook could set anything. So fixtures are not counted; `setUp` of a
`unittest.TestCase` is not either. A Hypothesis test opens a scope for each example: a hundred examples are no loop.
"""

from __future__ import annotations

import unittest
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import querywatch
from querywatch.plugins.judging import Judge, describe
from querywatch.plugins.proving import add_proofs
from querywatch.plugins.pytest import FindingWarning
from querywatch.plugins.request_scopes import RequestScopes
from querywatch.plugins.watched_test import WatchedTest
from querywatch.scope import watch

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from querywatch.monitor import Monitor
    from querywatch.plugins.baseline import Baseline
    from querywatch.plugins.judging import Verdict
    from querywatch.plugins.pytest import Options
    from querywatch.records import Finding, ScopeRecord
    from querywatch.samples import OpenScope

_TEST = pytest.StashKey[WatchedTest]()
_VERDICT = pytest.StashKey["Verdict"]()

#: What depends on how busy the machine is must not fail a test, and a test needs no plans, ports, spans and log events.
_SETTINGS: dict[str, Any] = {
    "explain": False,
    "prometheus_port": None,
    "spans": "none",
    "log_findings": False,
    "slow_query_s": float("inf"),
    "long_transaction_s": float("inf"),
    "pool_wait_s": float("inf"),
    "sample_scopes": 1.0,
    "unused_eager_loads": 1.0,
}


def start_monitor() -> Monitor:
    """Watch every engine of the process; the same monitor again, unless somebody closed it."""
    return querywatch.install(**_SETTINGS)


class Watcher:
    """Watches the tests of this process; judges them once `judge_by` was called.

    Args:
        config: Of the session.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._judge: Judge | None = None
        self._proves = False
        self._running: WatchedTest | None = None
        self._requests = RequestScopes()
        self._monitor = self._start()

    def judge_by(self, options: Options, baseline: Baseline) -> None:
        """From now on let findings have consequences.

        Args:
            options: What becomes of a test with findings.
            baseline: The findings that are known.
        """
        self._judge = Judge(self._config, options, baseline)
        self._proves = options.prove

    def test_of(self, item: pytest.Item) -> WatchedTest:
        """Return what is seen of *item*; it sees nothing before the call begins."""
        return item.stash.setdefault(_TEST, WatchedTest(item.nodeid))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Watch the call; fail it if it passed and caused a finding that nobody knows or allows."""
        # An application that was given this monitor by install() may close it when it shuts down.
        if self._monitor.closed:
            self._monitor = self._start()
        if _VERDICT in item.stash:  # from the run before, where a failed test is run again
            del item.stash[_VERDICT]
        test = self.test_of(item)
        try:
            with self._watching(test), _scope_around(item):
                result = yield
        except pytest.xfail.Exception:
            raise
        except (Exception, pytest.fail.Exception):
            # It failed by itself: the findings are shown beside its own traceback.
            self._weigh(item, test, passed=False)
            raise
        verdict = self._weigh(item, test, passed=True)
        if verdict is not None and verdict.fails:
            pytest.fail(describe(verdict), pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put the rows on the report, and the text where the test failed for a reason of its own."""
        report = yield
        verdict = item.stash.get(_VERDICT, None) if call.when == "call" else None
        if verdict is not None:
            # Extra attributes of a report travel from worker to controller, if they are plain values.
            rows = [list(row) for row in verdict.rows]
            report.querywatch = {"finished": verdict.finished and verdict.complete, "rows": rows}  # type: ignore[attr-defined]
            if verdict.new and report.failed and not verdict.finished:
                report.sections.append(("querywatch", describe(verdict)))
        return report

    def pytest_unconfigure(self) -> None:
        """Leave every engine as it was."""
        self._requests.restore()
        querywatch.uninstall()

    def _start(self) -> Monitor:
        monitor = start_monitor()
        monitor.on_scope(self._take)
        return monitor

    @contextmanager
    def _watching(self, test: WatchedTest) -> Iterator[None]:
        self._requests.watch_imported()
        test.begin(self._monitor)
        self._running = test
        try:
            yield
        finally:
            test.end()
            self._running = None

    def _take(self, scope: OpenScope, record: ScopeRecord, added: Sequence[Finding]) -> None:
        if self._running is not None:
            self._running.take(scope, record, added)

    def _weigh(self, item: pytest.Item, test: WatchedTest, *, passed: bool) -> Verdict | None:
        if self._judge is None:
            return None
        verdict = self._judge.judge(item, test, passed=passed)
        if self._proves and (verdict.fails or verdict.warns):
            verdict = verdict._replace(new=add_proofs(item, verdict.new))
        item.stash[_VERDICT] = verdict
        if verdict.warns:
            _warn(item, describe(verdict))
        return verdict


@contextmanager
def _scope_around(item: pytest.Item) -> Iterator[None]:
    """Let the test function of *item* run in a scope that has the test's name."""
    scope = watch(item.nodeid, "test")
    if not isinstance(item, pytest.Function):
        with scope:
            yield
        return
    inner = getattr(item.obj, "hypothesis", None)
    with pytest.MonkeyPatch.context() as patch:
        if inner is not None:
            patch.setattr(inner, "inner_test", scope(inner.inner_test))
        elif isinstance(item.instance, unittest.IsolatedAsyncioTestCase):
            # pytest leaves an async method to unittest, which looks for it on the instance.
            patch.setattr(item.instance, item.name, scope(item.obj))
        else:
            patch.setattr(item, "obj", scope(item.obj))
        yield


def _warn(item: pytest.Item, text: str) -> None:
    path, line, _ = item.reportinfo()
    try:
        warnings.warn_explicit(FindingWarning(text), None, str(path), (line or 0) + 1)
    except FindingWarning:
        # The project turns warnings into errors; who says --querywatch=warn wants no failure. The summary shows it.
        return
