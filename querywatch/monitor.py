"""The order of the stages, and what a user asks of it.

In:  engines to watch, scopes that ended.
Out: statistics, findings, plans, advice, and exporters that are told of them.

This is the only file that knows the order: fold, fingerprint, plan, advise, detect, export. All of it runs in the
background thread; a snapshot folds on the caller's thread what is new, so that it is exact.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import Counter, deque
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from querywatch.aggregate import Aggregate
from querywatch.background import Background
from querywatch.capture.engine import EngineCapture
from querywatch.capture.watched_classes import unwatch_reads, watch_reads
from querywatch.examiner import Examiner, Listeners
from querywatch.fingerprint import take_fingerprint
from querywatch.planning import Planning
from querywatch.records import (
    Database,
    Finding,
    Habit,
    IndexAdvice,
    Plan,
    QueryStats,
    Snapshot,
    SpanRecord,
)
from querywatch.samples import OpenScope, Samples, open_scopes
from querywatch.sampling import Sampler
from querywatch.scope_record import ScopeTotals, compact

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine

    from querywatch.aggregate import StatementTotals
    from querywatch.config import Config
    from querywatch.examiner import Exporter
    from querywatch.records import ScopeRecord

_log = logging.getLogger("querywatch")
_log.addHandler(logging.NullHandler())

_FINGERPRINTS_LIMIT = 20_000
# How long one pass names new statements, in seconds.
_FINGERPRINTS_S = 2.0
# How long a thread may take between finding its scope open and appending to it.
_STRAGGLERS_S = 1.0
# A websocket or a script may last for hours: what it does is looked at as often as this, in seconds.
_LONG_OPEN_S = 30.0
# Scopes that ended and wait to be read; with more the background does not rest.
_BACKLOG_LIMIT = 2_000
# With so many they are no longer kept: they are counted, but not examined.
_ENDED_LIMIT = 10_000


class Monitor:
    """What `querywatch.install` returns.

    Args:
        config: Settings.
        app: The wrapped application, None where none was given; serve this one if it is a plain ASGI or WSGI callable.
    """

    def __init__(self, config: Config, app: Any = None) -> None:
        self.config = config
        self.app = app
        #: Errors of our own by stage; each stage's first one is logged.
        self.internal_errors: Counter[str] = Counter()
        self._captures: weakref.WeakValueDictionary[int, EngineCapture] = weakref.WeakValueDictionary()
        self._listeners = Listeners(self._guard)
        self._background = Background(self._run_pass, config.interval_s)
        self._paused = False
        self._closed = False
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Forget everything seen; also after a fork, where it is the parent's."""
        self._lock = threading.RLock()
        self._started_at = time.time()
        self._aggregate = Aggregate(self.config.max_statements, self.config.slow_query_s)
        self._ended: deque[OpenScope] = deque()
        # Scopes that ended before the last pass: a slow thread may still have appended to them.
        self._late: list[OpenScope] = []
        self._dropped_scopes = 0
        self._scopes = ScopeTotals()
        self._sampler = Sampler(self.config.sample_scopes)
        self._fingerprint = lru_cache(_FINGERPRINTS_LIMIT)(take_fingerprint)
        self._planning = Planning(self.config)
        self._examiner = Examiner(self.config, self._planning, self._fingerprint, self._describe_habit, self._listeners)

    # -- what a user asks

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until everything seen so far is counted, examined, planned and told.

        Args:
            timeout_s: Limit in seconds.

        Returns:
            False if it was not done in time, or the monitor is closed.
        """
        return self._background.flush(timeout_s)

    async def aflush(self, timeout_s: float = 5.0) -> bool:
        """`flush` that does not block the event loop."""
        # Whoever awaits has it; a program that does not should not pay 25 ms for it.
        import asyncio  # noqa: PLC0415

        return await asyncio.get_running_loop().run_in_executor(None, self.flush, timeout_s)

    def pause(self) -> None:
        """Stop counting; what was counted stays."""
        self._set_paused(paused=True)

    def resume(self) -> None:
        """Go on counting."""
        self._set_paused(paused=False)

    def findings(self) -> list[Finding]:
        """Return the findings, newest last, each once, the latest `max_findings` of them."""
        return list(self._examiner.findings.list())

    def queries(self) -> list[QueryStats]:
        """Return the statistics of each statement whose fingerprint is known, by total time, highest first."""
        with self._lock:
            self._fold_all()
            return self._aggregate.query_stats()

    def plans(self) -> list[Plan]:
        """Return the latest plan of each statement that has one."""
        return self._planning.list_plans()

    def advice(self) -> list[IndexAdvice]:
        """Return the indexes that would help, best first."""
        return self._planning.list_advice()

    def snapshot(self) -> Snapshot:
        """Return everything known at this moment as one frozen record."""
        with self._lock:
            queries = self.queries()
            dropped = {
                "statements": self._aggregate.dropped,
                "scopes": self._dropped_scopes,
                "unexamined_scopes": self._sampler.skipped,
                "findings": self._examiner.findings.dropped,
                "plans": self._planning.errors,
                "internal_errors": self.internal_errors.total(),
            }
            return Snapshot(
                taken_at=time.time(),
                started_at=self._started_at,
                databases=self._list_databases(),
                queries=tuple(queries),
                findings=self._examiner.findings.list(),
                plans=tuple(self.plans()),
                advice=tuple(self.advice()),
                scopes=self._scopes.list(),
                dropped={reason: count for reason, count in dropped.items() if count},
                notes=self._notes(),
            )

    def on_finding(self, callback: Callable[[Finding], None]) -> None:
        """Call *callback* with each new finding, in the background thread. An exception of its own is counted."""
        self._listeners.callbacks.append(callback)

    def on_scope(self, callback: Callable[[OpenScope, ScopeRecord, Sequence[Finding]], None]) -> None:
        """Call *callback* with each scope that is looked at, what it did so far, and what this look found.

        Not only what is new to the monitor: the same line is found again in each scope. A scope that `flush` finds open
        is looked at once more when it ends, and only what was added is found then. In the background thread.
        """
        self._listeners.scope_callbacks.append(callback)

    def close(self, timeout_s: float = 5.0) -> None:
        """Finish the work, leave every engine as it was, stop the thread and the exporters. Twice does nothing more.

        Args:
            timeout_s: Limit in seconds for finishing the work.
        """
        if self._closed:
            return
        self._closed = True
        for capture in list(self._captures.values()):
            capture.detach()
        ends_at = time.monotonic() + timeout_s
        self._background.flush(timeout_s)
        self._background.stop(max(0.0, ends_at - time.monotonic()))
        # Not before: what ended last was looked at just now, and may have been read until then.
        unwatch_reads(id(self))
        self._captures.clear()
        self._listeners.close()

    # -- what the stages below ask

    def start(self) -> None:
        """Make sure that the background thread runs."""
        self._background.start()

    def take_scope(self, scope: OpenScope) -> None:
        """Keep a scope that ended for the next pass."""
        self._ended.append(scope)
        self._background.start()
        if len(self._ended) > _ENDED_LIMIT:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Count a scope here and now and never examine it: the background is stuck, waiting for a database."""
        try:
            with self._lock:
                self._fold_scope(self._ended[0])
                self._ended.popleft()
                self._dropped_scopes += 1
        except Exception as error:  # noqa: BLE001 - called on the application's thread
            self.note_error("fold", error)

    def note_error(self, stage: str, error: BaseException) -> None:
        """Count an error of our own; log the first one of each stage. Raises nothing, whatever the log does.

        Args:
            stage: Such as `capture`.
            error: The exception. Its text may hold a literal, so only its class is logged.
        """
        self.internal_errors[stage] += 1
        if self.internal_errors[stage] > 1:
            return
        # A filter or handler of the application may raise; this is called while its query runs.
        with suppress(Exception):
            _log.warning(
                "querywatch.internal_error stage=%s error_type=%s (the application is unaffected; repeats only count)",
                stage,
                type(error).__name__,
            )

    # -- what bootstrap asks

    @property
    def metrics_address(self) -> str | None:
        """Address of the Prometheus endpoint, None if there is none."""
        return next((url for exporter in self._listeners.exporters if (url := getattr(exporter, "url", None))), None)

    @property
    def watches_any(self) -> bool:
        """Whether an engine is watched that the application still has."""
        return bool(self._captures)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def begin(self) -> None:
        """Begin to watch the reads of as many scopes as the settings ask for."""
        watch_reads(id(self), self.config.unused_eager_loads)

    def watch_engine(self, engine: Engine) -> EngineCapture:
        """Begin to count the statements of *engine*."""
        capture = EngineCapture(engine, self, self.config, self.note_error)
        capture.attach()
        capture.active = not self._paused
        self._captures[capture.accounting.number] = capture
        return capture

    def forget_engine(self, capture: EngineCapture) -> None:
        """Leave an engine as it was; what was counted stays."""
        capture.detach()
        self._captures.pop(capture.accounting.number, None)

    def add_exporter(self, exporter: Exporter) -> None:
        """Tell *exporter* from now on what is found."""
        self._listeners.exporters.append(exporter)

    def forget_parent(self) -> None:
        """In a forked child: what was seen so far is the parent's, and the thread was not copied."""
        self._background.forget_thread()
        self._begin_anew()

    # -- one pass

    def _run_pass(self) -> None:
        for stage, work in (
            ("fold", self._fold_pass),
            ("fingerprint", self._take_fingerprints),
            ("plan", self._plan_pass),
            ("detect", self._examine_pass),
        ):
            self._guard(stage, work)

    def _fold_pass(self) -> None:
        self._to_examine: list[OpenScope] = []
        # Each scope is folded before it leaves its list: a snapshot taken in between must find it in one or the other.
        now = time.time()
        for scope in self._late:
            self._guard("fold", self._fold_scope, scope)
        self._late = [scope for scope in self._late if abs(now - (scope.ended_at or 0.0)) < _STRAGGLERS_S]
        # Not until there are none: under load there would always be one more, and no other stage would have its turn.
        for _ in range(len(self._ended)):
            with self._lock:
                if not self._ended:
                    break
                scope = self._ended[0]
                self._guard("fold", self._fold_scope, scope)
                self._late.append(scope)
                self._to_examine.append(self._ended.popleft())
            self._rest()
        for scope in list(open_scopes.values()):
            self._guard("fold", self._fold_open_scope, scope)
            self._rest()

    def _fold_open_scope(self, scope: OpenScope) -> None:
        self._fold_scope(scope)
        with self._lock:
            compact(scope)

    def _fold_all(self) -> None:
        for scope in (*list(self._ended), *self._late, *list(open_scopes.values())):
            self._fold_scope(scope)

    def _fold_scope(self, scope: OpenScope) -> None:
        with self._lock:
            for samples in scope.list_samples():
                if samples.source.monitor is self:
                    self._aggregate.fold(samples)

    def _take_fingerprints(self) -> None:
        ends_at = time.monotonic() + _FINGERPRINTS_S
        pending = self._aggregate.pending
        # A thousand new statements take a minute with rests: the other stages have their turn in between.
        while pending and (self._background.is_urgent or time.monotonic() < ends_at):
            with self._lock:
                totals = pending.pop(next(iter(pending)))
            self._guard("fingerprint", self._name_statement, totals)
            self._rest()

    def _name_statement(self, totals: StatementTotals) -> None:
        totals.fingerprint = self._fingerprint(totals.shape, totals.database.dialect)

    def _examine_pass(self) -> None:
        spans: list[SpanRecord] = []
        # Whoever waits for `flush` wants them all.
        waiting = 0 if self._background.is_urgent else len(self._to_examine) + len(self._ended)
        for scope in self._to_examine:
            self._scopes.add(scope, self._own_samples(scope))
            if self._sampler.choose(scope.name, waiting):
                self._guard("detect", self._examine, scope, spans)
            self._rest()
        now = time.time()
        for scope in list(open_scopes.values()):
            if not self._background.is_urgent and now - max(scope.started_at, scope.examined_at) < _LONG_OPEN_S:
                continue
            # A request has no name until it is routed: what it did is told when it ends.
            if scope.name is not None or scope.kind != "request":
                scope.examined_at = now
                self._guard("detect", self._examine, scope, spans)
        self._listeners.end_pass(spans)

    def _examine(self, scope: OpenScope, spans: list[SpanRecord]) -> None:
        spans.extend(self._examiner.examine(scope, self, self._own_samples(scope)))

    def _own_samples(self, scope: OpenScope) -> list[Samples]:
        return [samples for samples in scope.list_samples() if samples.source.monitor is self]

    def _plan_pass(self) -> None:
        if not self._background.is_urgent and not self._planning.is_due():
            return
        with self._lock:
            statements = self._aggregate.statements()
        self._examiner.take_plan_findings(self._planning.run(statements, self._rest))

    def _describe_habit(self, fingerprint: str, database: str) -> Habit:
        with self._lock:
            return self._aggregate.describe_habit(fingerprint, database)

    # -- small things

    def _rest(self) -> None:
        """Keep out of the application's way, unless its scopes end faster than they are read: they wait in memory."""
        if len(self._ended) < _BACKLOG_LIMIT:
            self._background.rest()

    def _list_databases(self) -> tuple[Database, ...]:
        """Return the databases that are watched, and those that were while statements ran on them."""
        watched = (capture.accounting.database for capture in list(self._captures.values()))
        return tuple(dict.fromkeys((*watched, *self._aggregate.databases())))

    def _notes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self._planning.notes, *self._listeners.notes)))

    def _set_paused(self, *, paused: bool) -> None:
        self._paused = paused
        for capture in list(self._captures.values()):
            capture.active = not paused

    def _guard(self, stage: str, work: Callable[..., object], *arguments: object) -> None:
        try:
            work(*arguments)
        # Not even SystemExit, which a callback may raise, may end the thread that the other stages need.
        except BaseException as error:  # noqa: BLE001 - see above
            self.note_error(stage, error)
