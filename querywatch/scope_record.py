"""What a scope did, once it ended or while it runs: for the detectors, for the totals, and for the memory it takes.

In:  the samples of a scope, folded.
Out: a `ScopeRecord`; totals by name; fewer samples, of a scope that lasts as long as its program.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from querywatch.callsite import describe_caller
from querywatch.compiled import locks_rows, read_keys
from querywatch.dialects import is_system_table
from querywatch.eager_loads import list_eager_loads
from querywatch.holding import Holding, IdleTime, Wait
from querywatch.lineage import Lineage
from querywatch.lookups import find_looked_up
from querywatch.records import (
    OUTER_SITES_LIMIT,
    CallSite,
    Fingerprint,
    Idle,
    PoolWait,
    ScopeQuery,
    ScopeRecord,
    ScopeStats,
    Step,
)
from querywatch.samples import NOBODY, Asker, OpenScope, Samples, Sink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import CodeType

    from querywatch.config import Config
    from querywatch.samples import Line

_WRITES = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE"})
# What a function that polls calls between two looks.
_WAITS = frozenset({"sleep", "wait"})
# What the ORM does with one parent after the other, and loads its children for.
_LOOPING_ACTS = frozenset({"cascade", "flush", "merge"})
# What the ORM loads more for than it was asked to.
_LOADING_ACTS = frozenset({"cascade", "immediate", "merge"})
# A thread that was about to append has long been given the processor by then.
_STRAGGLER_LIMIT_S = 5.0


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
            # By identity: samples are lists, and all that were let go of are equal. Others only append to these.
            del scope.evicted[next(place for place, each in enumerate(scope.evicted) if each is samples)]


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
    known.batches += more.batches
    for outer, times in more.outers.items():
        known.outers[outer] = known.outers.get(outer, 0) + times
    if more.changed is not None:
        known.changed = (known.changed or frozenset()) | more.changed
    for asker, (asked, contexts) in more.askers.items():
        counts = known.askers.setdefault(asker, [0, 0])
        counts[0] += asked
        counts[1] += contexts


def is_interesting(scope: OpenScope, samples: list[Samples], config: Config) -> bool:
    """Tell cheaply whether a detector could find anything: most scopes are let go without a further look.

    Args:
        scope: Its connections are looked at.
        samples: Those of one monitor in it, folded.
        config: Settings of that monitor.
    """
    holding = scope.holding
    max_queries = scope.max_queries or config.max_queries
    max_db_s = scope.max_db_s or config.max_db_s
    return (
        any(each.folded.samples > 1 or each.folded.slow_calls for each in samples)
        or any((each.folded.max_rows or 0) >= config.large_result_rows for each in samples)
        or any("*" in each.shape.replace("(*)", "") for each in samples)
        or (max_queries is not None and len(samples) > max_queries)
        or (max_db_s is not None and sum(each.folded.total_s for each in samples) > max_db_s)
        or (holding is not None and bool(holding.idle or holding.pool_waits or holding.pool_timeouts))
        or (scope.reads is not None and bool(scope.reads.selects))
    )


def find_asker_site(asker: Asker) -> CallSite | None:
    """Return the application's line of *asker*, None where the stack held none."""
    return _describe_line(asker.code, asker.line)


def build_record(scope: OpenScope, sink: Sink, find_fingerprint: Callable[[str, str], Fingerprint]) -> ScopeRecord:
    """Describe what *scope* sent to the databases of one monitor. Its samples must have been folded.

    Args:
        scope: Open or closed.
        sink: The monitor; statements of other monitors' engines are left out.
        find_fingerprint: From shape and SQLAlchemy dialect name to fingerprint.
    """
    samples = [each for each in scope.list_samples() if each.source.monitor is sink]
    lineage = Lineage(samples)
    by_shape: dict[str, list[Samples]] = {}
    for each in samples:
        by_shape.setdefault(each.shape, []).append(each)
    queries: list[ScopeQuery] = []
    for shape, group in by_shape.items():
        fingerprint = find_fingerprint(shape, group[0].source.database.dialect)
        queries.extend(_describe_group(shape, fingerprint, group, lineage))
    holding = scope.holding or Holding()
    return ScopeRecord(
        name=scope.name,
        kind=scope.kind,
        started_at=scope.started_at,
        duration_s=(scope.ended_at or time.time()) - scope.started_at,
        queries=tuple(queries),
        checkouts=holding.checkouts,
        steps=tuple(_list_steps(scope, sink)),
        commits=scope.commits,
        rollbacks=scope.rollbacks,
        idle=tuple(map(_describe_idle, holding.idle)),
        pool_wait_s=holding.wait.seconds if holding.wait is not None else 0.0,
        pool_waits=holding.pool_waits,
        pool_timeouts=holding.pool_timeouts,
        longest_wait=_describe_wait(holding.wait) if holding.wait is not None else None,
        max_queries=scope.max_queries,
        max_db_s=scope.max_db_s,
        eager_loads=tuple(list_eager_loads(scope, sink, find_fingerprint)),
    )


def _describe_idle(idle: IdleTime) -> Idle:
    return Idle(
        seconds=idle.seconds,
        call_site=_describe_line(idle.code, idle.line),
        statement=idle.shape or "",
        end_site=_describe_line(idle.end_code, idle.end_line),
        in_transaction=idle.in_transaction,
        is_repeated=idle.is_repeated,
    )


def _describe_wait(wait: Wait) -> PoolWait:
    return PoolWait(wait.seconds, wait.database, wait.size, wait.overflow, _describe_line(wait.code, wait.line))


def _describe_line(code: CodeType | None, line: int) -> CallSite | None:
    return describe_caller(code, line) if code is not None else None


def _list_steps(scope: OpenScope, sink: Sink) -> Iterator[Step]:
    for each in list(scope.trail):
        if isinstance(each, str):
            yield Step("commit" if each == "commit" else "rollback")
        elif each.source.monitor is sink:
            yield Step("statement", each.shape, each.source.database.name)


def _describe_group(
    shape: str, fingerprint: Fingerprint, group: list[Samples], lineage: Lineage
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
    known_rows = [each.folded.total_rows for each in group if each.folded.total_rows is not None]
    largest = [each.folded.max_rows for each in group if each.folded.max_rows is not None]
    ways = list(dict.fromkeys(way for each in group for way in list(each.outers)))
    compiled = next((each.compiled for each in group if each.compiled is not None), None)
    for asker in {**askers, **failed, **slow}:
        asked, contexts = askers.get(asker, (0, 0))
        mark = asker.mark
        origin = lineage.find_parents(mark, contexts)
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
            outer_sites=_list_outer_sites(ways) if asker is most else (),
            parent_site=origin.site,
            parent_entity=origin.entity,
            parent_rows=origin.rows,
            relationship=mark.path[-1] if mark.path else None,
            kind=_find_kind(asker),
            act=_find_act(asker.acts),
            is_orm_load=asker.attribute is not None or not _LOADING_ACTS.isdisjoint(asker.acts),
            path=origin.path + mark.path[-1:],
            to_one=origin.to_one + mark.to_one[-1:],
            entity=mark.entity,
            entity_base=mark.entity_base,
            parent_base=mark.parent,
            attribute=_find_attribute(asker),
            lazy=mark.lazy,
            deletes=mark.deletes,
            cause=mark.cause,
            same_parameters=not any(each.changed for each in compared) if compared else None,
            looked_up=tuple(looked_up),
            keys=read_keys(compiled),
            locks_rows=locks_rows(compiled),
            batches=sum(each.batches for each in group),
            max_rows=max(largest) if largest else None,
            rows=sum(known_rows) if known_rows else None,
            streamed=any(each.streamed for each in group),
            is_text=group[0].is_text,
            columns=next((each.columns for each in group if each.columns is not None), None),
            is_housekeeping=_is_housekeeping(fingerprint, database.dialect),
            waits=_waits(asker.code) or any(_waits(way[0][0]) for way in ways),
        )


def _list_outer_sites(ways: Sequence[tuple[Line, ...]]) -> tuple[CallSite, ...]:
    """Return the lines that led to a statement, at the distance at which they differ most."""
    longest = max(map(len, ways), default=0)
    by_distance = [dict.fromkeys(way[distance] for way in ways if len(way) > distance) for distance in range(longest)]
    # Where none differ, those next to it: `max` keeps the first.
    lines = max(by_distance, key=len, default={})
    return tuple(describe_caller(*line) for line in list(lines)[:OUTER_SITES_LIMIT])


def _find_kind(asker: Asker) -> str | None:
    """Tell a read of the application from a loop of the ORM's own, and a look-up by key from other SELECTs."""
    kind = asker.mark.kind
    if kind == "lazy_load":
        if asker.acts[:1] == ("immediate",):
            # Reading an expired object loads again what its SELECT had loaded with it: the refresh is what is told.
            return "eager_loop" if asker.attribute is None or asker.mark.lazy == "immediate" else "eager"
        is_loop = asker.attribute is None and not _LOOPING_ACTS.isdisjoint(asker.acts)
        return "eager_loop" if is_loop else kind
    if kind == "select":
        return "get" if "get" in asker.acts else None
    if kind == "deferred" and asker.acts[:1] == ("refresh",):
        return "refresh"
    return kind


def _find_act(acts: tuple[str, ...]) -> str | None:
    """Return the act that says most: why there was a flush, or a look-up."""
    return next((act for act in ("autoflush", "merge", "cascade") if act in acts), acts[0] if acts else None)


def _find_attribute(asker: Asker) -> str | None:
    """Return the column attribute whose late load was asked for, such as `User.bio`."""
    attributes = asker.mark.attributes
    read = next((each for each in attributes if each.partition(".")[2] == asker.attribute), None)
    return read or (attributes[0] if attributes else None)


def _is_housekeeping(fingerprint: Fingerprint, dialect: str) -> bool:
    return fingerprint.operation not in _WRITES and all(is_system_table(dialect, each) for each in fingerprint.tables)


def _waits(code: CodeType | None) -> bool:
    return code is not None and not _WAITS.isdisjoint(code.co_names)


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
