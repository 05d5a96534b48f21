"""Watch an engine for the length of a test, and ask what was counted."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import querywatch
from querywatch.fingerprint import take_fingerprint
from querywatch.samples import OpenScope, current_scope
from querywatch.scope_record import build_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from querywatch import Monitor, QueryStats
    from querywatch.records import ScopeRecord

FLUSH_LIMIT_S = 60.0


@contextlib.contextmanager
def watching(engine: Any, **settings: Any) -> Iterator[Monitor]:
    """Install a monitor that only works when it is asked to, and see that it made no error of its own."""
    monitor = querywatch.install(engine, **{"explain": False, "interval_s": 3600.0, "slow_query_s": 3600.0, **settings})
    try:
        yield monitor
        assert dict(monitor.internal_errors) == {}
    finally:
        monitor.close()


def count(monitor: Monitor, beginning: str = "") -> int:
    """Return how often statements that begin so were executed."""
    return sum(stats.calls for stats in read(monitor) if stats.fingerprint.sql.startswith(beginning))


def find(monitor: Monitor, beginning: str) -> QueryStats:
    """Return the one statement that begins so."""
    found = [stats for stats in read(monitor) if stats.fingerprint.sql.startswith(beginning)]
    assert len(found) == 1, [stats.fingerprint.sql for stats in read(monitor)]
    return found[0]


def read(monitor: Monitor) -> list[QueryStats]:
    """Return the statistics of everything that was executed so far."""
    assert monitor.flush(FLUSH_LIMIT_S)
    return monitor.queries()


def describe(scope: OpenScope, monitor: Monitor) -> ScopeRecord:
    """Return what the detectors would see of a scope."""
    assert monitor.flush(FLUSH_LIMIT_S)
    return build_record(scope, monitor, take_fingerprint)


@contextlib.contextmanager
def scoped(name: str = "test") -> Iterator[OpenScope]:
    """Open a scope and give it to the test."""
    with querywatch.watch(name):
        scope = current_scope.get()
        assert scope is not None
        yield scope
