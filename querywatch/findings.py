"""The findings of one monitor: each told once, then counted, in bounded number.

In:  findings of detectors and of the advisor, the same ones again and again.
Out: one `Finding` for each code, subject and line.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from querywatch.records import CountsScopes, Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


_BY_STATEMENT = frozenset({"slow-query", "duplicate-query", "write-loop"})
_LOOPS = frozenset({"core_loop", "get_loop"})


def key_of(finding: Finding) -> Hashable:
    """Return what makes two findings one."""
    # One line may run many statements on one table (a helper that takes the text); a relationship, a class or an
    # attribute is one thing to mend.
    statement = finding.fingerprint if finding.code in _BY_STATEMENT or finding.kind in _LOOPS else None
    return (
        finding.code, finding.kind, finding.subject, finding.database, finding.call_site, finding.scope, statement
    )  # fmt: skip


def key_in_scope(finding: Finding) -> Hashable:
    """Return what makes two findings of one scope one, from one look at it to the next.

    A scope may get its name between two looks. And of a relationship's many lines another may have become the busiest.
    """
    if finding.code == "n-plus-one" and finding.kind not in _LOOPS:
        return finding.code, finding.kind, finding.subject
    return finding.code, finding.kind, finding.subject, finding.database, finding.call_site, finding.fingerprint


class FindingLog:
    """Findings by key, oldest first. Safe under threads.

    Args:
        max_findings: How many are kept; the one that was first told leaves first.
    """

    def __init__(self, max_findings: int) -> None:
        self._max_findings = max_findings
        self._findings: dict[Hashable, Finding] = {}
        self._lock = threading.Lock()
        self.dropped = 0

    def add(self, finding: Finding) -> bool:
        """Keep a finding, or count it where it is known.

        Returns:
            True if it is new.
        """
        key = key_of(finding)
        with self._lock:
            known = self._findings.get(key)
            if known is not None:
                self._findings[key] = _join(known, finding)
                return False
            self._findings[key] = finding
            if len(self._findings) > self._max_findings:
                del self._findings[next(iter(self._findings))]
                self.dropped += 1
            return True

    def put(self, finding: Finding) -> bool:
        """Keep a finding whose figures are the whole truth so far: where it is known, they replace the known ones.

        Returns:
            True if it is new.
        """
        key = key_of(finding)
        with self._lock:
            known = self._findings.get(key)
            if known is not None:
                self._findings[key] = replace(finding, first_seen_at=known.first_seen_at)
                return False
        return self.add(finding)

    def revise(self, change: Callable[[Finding], Finding | None]) -> None:
        """Replace each finding by what *change* returns for it; None leaves it."""
        with self._lock:
            for key, finding in self._findings.items():
                changed = change(finding)
                if changed is not None:
                    self._findings[key] = changed

    def remove(self, is_obsolete: Callable[[Finding], bool]) -> None:
        """Forget the findings that hold no longer."""
        with self._lock:
            self._findings = {key: each for key, each in self._findings.items() if not is_obsolete(each)}

    def list(self) -> tuple[Finding, ...]:
        """Return all findings, newest last."""
        with self._lock:
            return tuple(self._findings.values())


def _join(known: Finding, again: Finding) -> Finding:
    """Count *again* to *known*; the latest evidence stays, because it is what the next look would show."""
    total_s = None if known.total_s is None or again.total_s is None else known.total_s + again.total_s
    evidence = again.evidence
    if isinstance(evidence, CountsScopes) and isinstance(known.evidence, CountsScopes):
        evidence = evidence.with_scopes(known.evidence.scopes + evidence.scopes)
    return replace(
        known,
        count=known.count + again.count,
        total_s=total_s,
        last_seen_at=max(known.last_seen_at, again.last_seen_at),
        evidence=evidence,
    )
