"""What one test sends to the databases, and what is wrong with it: the value of the fixture `querywatch`.

In:  the scopes that a monitor looks at while the test's call runs.
Out: its statements and findings, so far.

A request that an integration opens inside the test is a scope of its own, with findings of its own, and belongs to the
test too, in whichever thread or task it runs: everything that begins while the call runs is the test's, because a
process runs one test at a time. What began before is a fixture's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from querywatch.samples import open_scopes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from querywatch.monitor import Monitor
    from querywatch.records import Finding, ScopeQuery, ScopeRecord
    from querywatch.samples import OpenScope

#: One test may have run tens of thousands of statements that nobody has named yet.
_FLUSH_LIMIT_S = 60.0


class WatchedTest:
    """The queries and findings of one test's call.

    Args:
        name: The test's id.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        #: False if the monitor did not get through, or was closed by the application: findings may be missing.
        self.complete = True
        self._monitor: Monitor | None = None
        # Scopes that were open when the call began. Kept by reference: an id may be used again.
        self._outside: dict[int, OpenScope] = {}
        self._records: dict[int, tuple[OpenScope, ScopeRecord]] = {}
        self._findings: list[Finding] = []

    @property
    def queries(self) -> list[ScopeQuery]:
        """Each statement (`statement` and `fingerprint.sql` have `?` for values) with its `calls` and its line."""
        self._look()
        return [query for record in self._list_records() for query in record.queries]

    @property
    def findings(self) -> list[Finding]:
        """Everything found, also what the test's mark allows and what a baseline knows."""
        self._look()
        return list(self._findings)

    @property
    def calls(self) -> int:
        """Executions by the drivers in all scopes of the test."""
        return sum(query.calls for query in self.queries if not query.is_housekeeping)

    @property
    def total_s(self) -> float:
        """Seconds in the drivers in all scopes of the test."""
        return sum(query.total_s for query in self.queries)

    def begin(self, monitor: Monitor) -> None:
        """Forget what the fixtures did; the call begins."""
        monitor.flush(_FLUSH_LIMIT_S)
        self._outside = {id(scope): scope for scope in list(open_scopes.values())}
        # Of the run before, where a failed test is run again.
        self._records, self._findings, self.complete = {}, [], True
        self._monitor = monitor

    def end(self) -> None:
        """Take what is left; the call has ended."""
        self._look()
        self._monitor = None

    def take(self, scope: OpenScope, record: ScopeRecord, added: Sequence[Finding]) -> None:
        """Take what the monitor saw. Called in its background thread, while `flush` waits or the test runs."""
        if self._monitor is None or id(scope) in self._outside:
            return
        self._records[id(scope)] = (scope, record)
        self._findings.extend(added)

    def _look(self) -> None:
        if self._monitor is not None:
            self.complete = self._monitor.flush(_FLUSH_LIMIT_S) and self.complete

    def _list_records(self) -> list[ScopeRecord]:
        return [record for _, record in list(self._records.values())]
