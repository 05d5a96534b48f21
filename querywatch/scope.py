"""Which request, task, job or test a statement belongs to, and what it did once it ended.

In:  `watch()` or an integration, around the application's work; the samples of a scope.
Out: a `ScopeRecord` for the detectors.

A scope inside a scope stands for itself: its statements are its own and not the outer one's, so nothing is counted
twice. The contextvar is set back only where it still holds the scope, because an async framework may end a scope in
another task than the one that began it.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

from querywatch.callsite import describe_caller
from querywatch.lookups import find_looked_up
from querywatch.records import CallSite, Fingerprint, ScopeQuery, ScopeRecord, ScopeStats
from querywatch.samples import (
    NOBODY,
    Asker,
    OpenScope,
    Samples,
    Sink,
    begin_scope,
    current_scope,
    end_scope,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

# A thread that was about to append has long been given the processor by then.
_STRAGGLER_LIMIT_S = 5.0

_Function = TypeVar("_Function", bound="Callable[..., Any]")


def open_scope(name: str | None, kind: str) -> OpenScope:
    """Begin a scope and make it the current one of this thread or task.

    Args:
        name: Low-cardinality name such as `GET /users`; may still be changed until the scope is closed.
        kind: `request`, `task`, `test`, `watch`, `script` or `span`.
    """
    scope = begin_scope(name, kind)
    current_scope.set(scope)
    return scope


def close_scope(scope: OpenScope, name: str | None = None, outer: OpenScope | None = None) -> None:
    """End a scope. May be called twice, and from any thread or task.

    Args:
        scope: What `open_scope` returned.
        name: Better name, known only now; None keeps the one it has.
        outer: The scope that becomes the current one again; None for none.
    """
    if name is not None and not scope.closed:
        scope.name = name
    if current_scope.get() is scope:
        current_scope.set(outer if outer is not None and not outer.closed else None)
    end_scope(scope)


class watch:  # noqa: N801 - reads as a statement: with watch("GET /users")
    """One scope around a block or a function: `with`, `async with` or decorator.

    Args:
        name: Low-cardinality name, such as `GET /users` or `nightly-invoices`. No ids in it.
        kind: What it is to the reports.
    """

    def __init__(self, name: str, kind: str = "watch") -> None:
        self.name = name
        self.kind = kind
        # A stack, because one object may be entered again while it is entered.
        self._entered: list[tuple[OpenScope, OpenScope | None]] = []

    def __enter__(self) -> Self:
        outer = current_scope.get()
        self._entered.append((open_scope(self.name, self.kind), outer))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._entered:
            return
        # The innermost one, unless threads or tasks share this object: then the one that is current here.
        current = current_scope.get()
        entered = next((pair for pair in reversed(self._entered) if pair[0] is current), self._entered[-1])
        self._entered.remove(entered)
        scope, outer = entered
        close_scope(scope, outer=outer)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: _Function) -> _Function:
        """Open a scope of this name around each call of *function*, which may be async."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_async(*args: Any, **kwargs: Any) -> Any:
                with watch(self.name, self.kind):
                    return await function(*args, **kwargs)

            return run_async  # type: ignore[return-value]

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with watch(self.name, self.kind):
                return function(*args, **kwargs)

        return run  # type: ignore[return-value]


class ScopeTotals:
    """Scopes that ended, by name, in bounded number. One thread at a time adds."""

    _LIMIT = 1_000

    def __init__(self) -> None:
        self._by_name: dict[tuple[str | None, str], ScopeStats] = {}

    def add(self, scope: OpenScope, samples: list[Samples]) -> None:
        """Count a scope that ended; its samples must have been folded."""
        key = (scope.name, scope.kind)
        if key not in self._by_name and len(self._by_name) >= self._LIMIT:
            key = ("other", scope.kind)
        known = self._by_name.get(key) or ScopeStats(*key, scopes=0, calls=0, database_s=0.0, total_s=0.0, max_calls=0)
        calls = sum(each.folded.samples for each in samples)
        self._by_name[key] = replace(
            known,
            scopes=known.scopes + 1,
            calls=known.calls + calls,
            database_s=known.database_s + sum(each.folded.total_s for each in samples),
            total_s=known.total_s + (scope.ended_at or scope.started_at) - scope.started_at,
            max_calls=max(known.max_calls, calls),
        )

    def list(self) -> tuple[ScopeStats, ...]:
        """Return the totals by database time, highest first."""
        return tuple(sorted(self._by_name.values(), key=lambda stats: stats.database_s, reverse=True))


def compact(scope: OpenScope, clock: Callable[[], float] = time.monotonic) -> None:
    """Let go of what was read of full samples, and make one of those that are of one statement.

    A scope that lasts as long as its program would grow for ever otherwise. Samples are let go a while after they
    were read, and not a pass, because a thread may still append to them and `flush` makes passes follow at once.

    Args:
        scope: Open; the application may add to `evicted` at the same time, so nothing is replaced here, only removed.
        clock: Gives monotonic seconds.
    """
    now = clock()
    first: dict[tuple[int, str], Samples] = {}
    for samples in list(scope.evicted):
        if samples.folded.released < samples.folded.samples:
            del samples[: samples.folded.samples - samples.folded.released]
            samples.folded.released = samples.folded.samples
            samples.folded.released_at = now
            continue
        if now - samples.folded.released_at < _STRAGGLER_LIMIT_S:
            continue
        known = first.setdefault((samples.source.number, samples.shape), samples)
        if known is not samples:
            _absorb(known, samples)
            scope.evicted.remove(samples)


def _absorb(known: Samples, more: Samples) -> None:
    known.folded.samples += more.folded.samples
    known.folded.released += more.folded.samples
    known.folded.total_s += more.folded.total_s
    known.folded.max_s = max(known.folded.max_s, more.folded.max_s)
    known.folded.slow_calls += more.folded.slow_calls
    known.folded.slow_total_s += more.folded.slow_total_s
    known.folded.absorbed_failures += more.folded.failures + more.folded.absorbed_failures
    # A result that is still being read goes on counting its rows and its time here.
    known.rows += more.rows[more.folded.rows :]
    known.failures += more.failures[more.folded.failures :]
    known.late += more.late
    more.rows, more.failures, more.late, more.folded = known.rows, known.failures, known.late, known.folded
    if more.changed is not None:
        known.changed = (known.changed or frozenset()) | more.changed
    for asker, (asked, contexts) in more.askers.items():
        counts = known.askers.setdefault(asker, [0, 0])
        counts[0] += asked
        counts[1] += contexts


def is_interesting(samples: Iterable[Samples]) -> bool:
    """Tell cheaply whether a detector could find anything: a statement that ran twice or was slow.

    Args:
        samples: Of one scope, folded.
    """
    return any(each.folded.samples > 1 or each.folded.slow_calls for each in samples)


def find_asker_site(asker: Asker) -> CallSite | None:
    """Return the application's line of *asker*, None where the stack held none."""
    return describe_caller(asker.code, asker.line) if asker.code is not None else None


def build_record(scope: OpenScope, sink: Sink, find_fingerprint: Callable[[str, str], Fingerprint]) -> ScopeRecord:
    """Describe what *scope* sent to the databases of one monitor. Its samples must have been folded.

    Args:
        scope: Open or closed.
        sink: The monitor; statements of other monitors' engines are left out.
        find_fingerprint: From shape and SQLAlchemy dialect name to fingerprint.
    """
    samples = [each for each in scope.list_samples() if each.source.monitor is sink]
    parents = _find_parent_sites(samples)
    by_shape: dict[str, list[Samples]] = {}
    for each in samples:
        by_shape.setdefault(each.shape, []).append(each)
    queries: list[ScopeQuery] = []
    for shape, group in by_shape.items():
        fingerprint = find_fingerprint(shape, group[0].source.database.dialect)
        queries.extend(_describe_group(shape, fingerprint, group, parents))
    return ScopeRecord(
        name=scope.name,
        kind=scope.kind,
        started_at=scope.started_at,
        duration_s=(scope.ended_at or time.time()) - scope.started_at,
        queries=tuple(queries),
    )


def _describe_group(
    shape: str, fingerprint: Fingerprint, group: list[Samples], parents: dict[str, CallSite]
) -> Iterable[ScopeQuery]:
    """Yield one query for each asker of a statement, time and errors shared out by calls."""
    calls = sum(each.folded.samples for each in group)
    total_s = sum(each.folded.total_s for each in group)
    database = group[0].source.database
    askers = _merge_askers(group, calls)
    most = max(askers, key=lambda asker: askers[asker][0])
    failed, slow = _find_culprits(group, most)
    slow_mean_s = sum(each.folded.slow_total_s for each in group) / (slow.total() or 1)
    compared = [each for each in group if each.changed is not None]
    looked_up = {
        column: None
        for each in compared
        for column in find_looked_up(each.statement, shape, database.dialect, each.changed or frozenset())
    }
    for asker in {**askers, **failed, **slow}:
        asked, contexts = askers.get(asker, (0, 0))
        yield ScopeQuery(
            statement=shape,
            fingerprint=fingerprint,
            database=database.name,
            dialect=database.dialect,
            calls=asked,
            contexts=contexts,
            total_s=total_s * asked / calls if calls else 0.0,
            max_s=max(each.folded.max_s for each in group),
            errors=failed[asker],
            slow_calls=slow[asker],
            slow_total_s=slow_mean_s * slow[asker],
            call_site=find_asker_site(asker),
            parent_site=parents.get(asker.parent) if asker.parent is not None else None,
            relationship=asker.relationship,
            kind=asker.kind,
            same_parameters=not any(each.changed for each in compared) if compared else None,
            looked_up=tuple(looked_up),
            to_one=asker.to_one,
        )


def _find_culprits(group: list[Samples], most: Asker) -> tuple[Counter[Asker], Counter[Asker]]:
    """Count failed and slow calls by asker; those that no occurrence was kept of go to *most*."""
    failed: Counter[Asker] = Counter()
    slow: Counter[Asker] = Counter()
    for each in group:
        for occurrence in list(each.occurrences):
            (slow if occurrence.failure is None else failed)[occurrence.asker] += 1
    missing_failed = sum(each.folded.failures + each.folded.absorbed_failures for each in group) - failed.total()
    missing_slow = sum(each.folded.slow_calls for each in group) - slow.total()
    if missing_failed > 0:
        failed[most] += missing_failed
    if missing_slow > 0:
        slow[most] += missing_slow
    return failed, slow


def _merge_askers(group: list[Samples], calls: int) -> dict[Asker, tuple[int, int]]:
    """Add up who asked for how many executions, so that the sum is *calls*."""
    merged: dict[Asker, list[int]] = {}
    for each in group:
        for asker, (asked, contexts) in list(each.askers.items()):
            counts = merged.setdefault(asker, [0, 0])
            counts[0] += asked
            counts[1] += contexts
    known = {asker: counts for asker, counts in merged.items() if asker != NOBODY}
    if not known:
        # A statement that ran once has no recorded line, unless it was slow or failed.
        seen = (occurrence.asker for each in group for occurrence in list(each.occurrences))
        return {next(seen, NOBODY): (calls, merged.get(NOBODY, [calls, calls])[1] or calls)}
    # What no look speaks for went on as it began: it belongs to the one that asked most, in its proportion of contexts.
    most = max(known, key=lambda asker: known[asker][0])
    rest = calls - sum(counts[0] for counts in known.values())
    ratio = known[most][1] / known[most][0] if known[most][0] else 1.0
    known[most][1] += round(rest * ratio)
    known[most][0] += rest
    return {asker: (asked, contexts) for asker, (asked, contexts) in known.items()}


def _find_parent_sites(samples: list[Samples]) -> dict[str, CallSite]:
    """Map the name of each class that an ORM SELECT of the scope loaded to the first line that did."""
    sites: dict[str, CallSite] = {}
    for each in samples:
        for asker in list(each.askers):
            if each.select_entity is not None and asker.kind is None and asker.code is not None:
                sites.setdefault(each.select_entity, describe_caller(asker.code, asker.line))
    return sites
