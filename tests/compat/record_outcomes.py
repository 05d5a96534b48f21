"""A pytest plugin: write every test's outcome to the file that QUERYWATCH_COMPAT_OUTCOMES names, as JSON.

Loaded in both runs of run.py, so that it cannot be the difference between them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

# A test reports once a phase (set-up, call, teardown): the worst of them is what happened to it.
_WORST_FIRST = ("failed", "skipped", "passed")

_outcomes: dict[str, dict[str, str]] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the outcome; of a failure its traceback, of a skip nothing but the fact."""
    outcome = report.outcome if not hasattr(report, "wasxfail") else "xfailed"
    earlier = _outcomes.setdefault(report.nodeid, {"outcome": "passed", "text": ""})
    if _rank(outcome) < _rank(earlier["outcome"]):
        earlier["outcome"] = outcome
    if outcome == "failed":
        earlier["text"] += f"[{report.when}]\n{report.longreprtext}\n"


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A file that cannot be imported is a failure by its own name."""
    if report.failed:
        _outcomes[report.nodeid] = {"outcome": "failed", "text": report.longreprtext}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the file, in the process that all reports reach (under pytest-xdist not in a worker)."""
    if not hasattr(session.config, "workerinput"):
        Path(os.environ["QUERYWATCH_COMPAT_OUTCOMES"]).write_text(json.dumps(_outcomes))


def _rank(outcome: str) -> int:
    return _WORST_FIRST.index(outcome) if outcome in _WORST_FIRST else 1
