"""A pytest plugin: watch every engine of the process, and open a scope around every test.

At the end it writes how many calls querywatch counted, one line a process, to the file that
QUERYWATCH_COMPAT_CALLS names: a run in which nothing was watched would prove nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import querywatch

if TYPE_CHECKING:
    from collections.abc import Generator

_monitors = []


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """Install before SQLAlchemy's own plugin makes its first engine."""
    _monitors.append(querywatch.install(**_SETTINGS))


# Every statement of this suite is a stranger that runs once or twice: the low limits make all code take part.
_SETTINGS = {"slow_query_s": 0.001, "n_plus_one_threshold": 2, "interval_s": 0.05, "large_table_rows": 1}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """One scope a test, its fixtures included."""
    with querywatch.watch(item.name):
        return (yield)


def pytest_sessionfinish() -> None:
    """Count what was seen."""
    for monitor in _monitors:
        monitor.flush(timeout_s=30)
        calls = sum(query.calls for query in monitor.queries())
        with Path(os.environ["QUERYWATCH_COMPAT_CALLS"]).open("a") as file:
            file.write(f"{calls}\n")
