"""From scopes to findings, and from findings to those who want to know.

In:  scopes that ended, or are looked at while they run.
Out: findings in a log, each told once to callbacks and exporters; spans of what was slow, failed, or ran too often.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from querywatch.allowance import is_allowed
from querywatch.detectors import DETECTORS, slow_query
from querywatch.findings import FindingLog, key_in_scope
from querywatch.records import CountsScopes, Finding, Fingerprint, Habit, SpanRecord
from querywatch.scope_record import build_record, is_interesting
from querywatch.spans import describe_burst, describe_occurrences

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from querywatch.config import Config
    from querywatch.planning import Planning
    from querywatch.records import ScopeRecord
    from querywatch.samples import OpenScope, Samples, Sink


class Exporter(Protocol):
    """One way out of what was found. Called in the background thread only; must not raise."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for people about what could not be exported; each once."""

    def on_finding(self, finding: Finding) -> None:
        """Take a finding that is new. A repeat is not announced again."""

    def on_pass(self, spans: Sequence[SpanRecord]) -> None:
        """Take what is worth a span: slow and failed statements, and bursts. Called each pass, also with none."""

    def close(self) -> None:
        """Let go of ports and threads. May be called twice; nothing is exported afterwards."""


class Listeners:
    """Who is told of findings. They outlive a fork; what was found does not.

    Args:
        guard: Calls a function and counts what it raises, by stage.
    """

    def __init__(self, guard: Callable[..., None]) -> None:
        self._guard = guard
        self.callbacks: list[Callable[[Finding], None]] = []
        self.scope_callbacks: list[Callable[[OpenScope, ScopeRecord, Sequence[Finding]], None]] = []
        self.exporters: list[Exporter] = []

    def tell(self, finding: Finding) -> None:
        """Tell everybody of a finding that is new."""
        for callback in self.callbacks:
            self._guard("callback", callback, finding)
        for exporter in self.exporters:
            self._guard("export", exporter.on_finding, finding)

    def tell_scope(self, scope: OpenScope, record: ScopeRecord, added: Sequence[Finding]) -> None:
        """Tell who asked for every scope what it did, and what this look at it found."""
        for callback in self.scope_callbacks:
            self._guard("callback", callback, scope, record, added)

    def end_pass(self, spans: Sequence[SpanRecord]) -> None:
        """Hand over what one pass found worth a span."""
        for exporter in self.exporters:
            self._guard("export", exporter.on_pass, spans)

    def close(self) -> None:
        """Let every exporter go."""
        for exporter in self.exporters:
            self._guard("export", exporter.close)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the exporters could not do."""
        return tuple(note for exporter in self.exporters for note in exporter.notes)


class Examiner:
    """Looks for findings. Belongs to the background thread; `findings` may be read from any.

    Args:
        config: Settings.
        planning: Knows the index that ends a slow query.
        find_fingerprint: From shape and SQLAlchemy dialect name to fingerprint.
        describe_habit: From fingerprint id and database name to how the statement usually runs.
        listeners: Who is told.
    """

    def __init__(
        self,
        config: Config,
        planning: Planning,
        find_fingerprint: Callable[[str, str], Fingerprint],
        describe_habit: Callable[[str, str], Habit],
        listeners: Listeners,
    ) -> None:
        self._config = config
        self._planning = planning
        self._find_fingerprint = find_fingerprint
        self._describe_habit = describe_habit
        self._listeners = listeners
        self.findings = FindingLog(config.max_findings)

    def examine(self, scope: OpenScope, sink: Sink, samples: list[Samples]) -> list[SpanRecord]:
        """Look for findings in a scope; in one that is still open, for what is new since the last look.

        Args:
            scope: Whose samples have been folded.
            sink: The monitor whose engines are looked at.
            samples: Those of that monitor.

        Returns:
            What is worth a span.
        """
        spans = list(describe_occurrences(samples, self._find_fingerprint))
        if not is_interesting(scope, samples, self._config) and not self._listeners.scope_callbacks:
            return spans
        found: list[Finding] = []
        record = build_record(scope, sink, self._find_fingerprint)
        for detector in DETECTORS:
            for finding in detector.detect(record, self._config):
                if is_allowed(finding, self._config.allow):
                    continue
                added = self._add(scope, finding)
                if added is not None:
                    found.append(added)
                if added is not None and added.code == "n-plus-one":
                    spans.extend(describe_burst(added, samples, self._find_fingerprint))
        self._listeners.tell_scope(scope, record, found)
        return spans

    def take_plan_findings(self, found: Sequence[Finding]) -> None:
        """Put what planning found in place of what it found before, and mend the findings that it explains.

        Args:
            found: Every `missing-index` that holds now.
        """
        self.findings.remove(self._planning.is_obsolete)
        self.findings.revise(self._explain)
        for finding in found:
            if not is_allowed(finding, self._config.allow) and self.findings.put(finding):
                self._listeners.tell(finding)

    def _add(self, scope: OpenScope, finding: Finding) -> Finding | None:
        """Log what *finding* adds to what was told of this scope before, and return it; None if it adds nothing."""
        key = key_in_scope(finding)
        told, told_s = scope.reported.get(key, (0, 0.0))
        if finding.count <= told:
            return None
        scope.reported[key] = (finding.count, finding.total_s or 0.0)
        added_s = None if finding.total_s is None else max(0.0, finding.total_s - told_s)
        evidence = finding.evidence
        if told and isinstance(evidence, CountsScopes):
            evidence = evidence.with_scopes(0)
        added = replace(finding, count=finding.count - told, total_s=added_s, evidence=evidence)
        added = self._explain(added) or added
        if self.findings.add(added):
            self._listeners.tell(added)
        return added

    def _explain(self, finding: Finding) -> Finding | None:
        """Return a `slow-query` with the index that ends it, or weighed by its habit; None for what stands."""
        if finding.code != slow_query.CODE or finding.fingerprint is None or finding.database is None:
            return None
        named = self._planning.name_index(finding)
        return named or slow_query.weigh(finding, self._describe_habit(finding.fingerprint, finding.database))
