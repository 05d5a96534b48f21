"""What the hot path writes and the background reads: open scopes, their samples, and sightings of who asked.

In:  durations appended on the application's threads.
Out: plain lists that `scope` and `aggregate` fold later.

A statement's samples *are* a list of seconds: `list.append` needs no lock and loses nothing under threads, while
`total += elapsed` does. What is needed only now and then hangs on that list as attributes.
"""

from __future__ import annotations

import math
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from querywatch.reading import read_shares

if TYPE_CHECKING:
    from types import CodeType

    from sqlalchemy import Engine

    from querywatch.holding import Holding
    from querywatch.reading import ScopeReads
    from querywatch.records import Database, Fingerprint

#: A bind of a statement: its place from 0, or its name.
Bind = int | str

#: Stands among the changed binds for values that the text itself holds.
TEXT = "(the text)"
#: Stands among the changed binds for another number of values: an IN list of another length.
LENGTH = "(the number of values)"

#: Samples of one statement in one scope after which a new list is begun, so that the old one can be let go.
SAMPLES_LIMIT = 10_000


#: Steps of one scope that are kept in their order.
TRAIL_LIMIT = 600


class LoadMark(NamedTuple):
    """What the ORM knows of a statement it sends: hashable, plain names.

    Args:
        kind: `select` for the application's own SELECT, `lazy_load`, `eager` (by an option or the mapping), `refresh`,
            `deferred`, or None for what is no ORM SELECT.
        path: Relationships from the class of the application's SELECT to what is loaded, such as `("User.orders",)`.
        to_one: For each of them, whether it leads to one object.
        entity: Mapped class that is loaded.
        entity_base: Base of its inheritance hierarchy.
        parent: Base of the hierarchy of the class whose attribute was read; finds the line that loaded it.
        attributes: Columns that are loaded late, such as `("User.bio",)`, at most a few.
        lazy: Strategy of the last relationship as mapped.
        deletes: Whether its objects are deleted with their parent.
        joined: Relationships that the SELECT joins because they are mapped so: name, whether to one, base class.
        cause: Of a refresh: `expired`, or `defaults` for values that the database made; of a deferred load:
            `polymorphic` where a subclass's own columns were not selected.
        package: Top-level package of the mapped class.
    """

    kind: str | None = None
    path: tuple[str, ...] = ()
    to_one: tuple[bool, ...] = ()
    entity: str | None = None
    entity_base: str | None = None
    parent: str | None = None
    attributes: tuple[str, ...] = ()
    lazy: str | None = None
    deletes: bool = False
    joined: tuple[tuple[str, bool, str], ...] = ()
    cause: str | None = None
    package: str | None = None


#: What is not the ORM's, or not known to be.
NO_MARK = LoadMark()


class Asker(NamedTuple):
    """Who asked for an execution: hashable, cheap to build, holds no object of the application but code.

    Args:
        code: Code object of the application's line, None where the stack holds none.
        line: Its line number, 0 with no code.
        mark: What the ORM says.
        acts: What the application asked of the session on the way, such as `flush`; innermost first.
        attribute: Name of the attribute whose read led here, None for anything else.
    """

    code: CodeType | None
    line: int
    mark: LoadMark = NO_MARK
    acts: tuple[str, ...] = ()
    attribute: str | None = None


#: The asker of an execution whose stack was not read.
NOBODY = Asker(None, 0)

#: A line: its code object and number.
Line = tuple["CodeType", int]


class Failure(NamedTuple):
    """One call that raised."""

    error_type: str
    sqlstate: str | None


class Occurrence(NamedTuple):
    """One call worth a span or a plan of its own: slow or failed.

    Args:
        ended_at: Unix time in seconds.
        elapsed_s: Seconds.
        statement: Text as sent. Stays in the process.
        parameters: As given to the driver. Stay in the process; None for executemany.
        failure: None if the call succeeded.
        asker: Who asked.
        trace: The OpenTelemetry context of the caller, None where there is none.
        batch_size: Parameter sets of an executemany, None for a plain execute.
        compiled: SQLAlchemy's compiled statement, None for a text that was sent as it is.
    """

    ended_at: float
    elapsed_s: float
    statement: str
    parameters: Any
    failure: Failure | None
    asker: Asker
    trace: Any
    batch_size: int | None
    compiled: Any


class Samples(list[float]):
    """Durations in seconds of one statement of one engine in one scope.

    Args:
        source: The capture that made it: which engine, which monitor.
        shape: The statement with literals as `?`.
        statement: The first text really sent. Stays in the process.
        parameters: Of that first call; None for executemany. Stay in the process.
    """

    __slots__ = (
        "askers",
        "batches",
        "changed",
        "columns",
        "compiled",
        "failures",
        "fetch",
        "folded",
        "inspected",
        "is_text",
        "last_asker",
        "late",
        "looked_at",
        "next_look",
        "occurrences",
        "outers",
        "parameters",
        "repeated_at",
        "rows",
        "shape",
        "source",
        "statement",
        "stream_ended",
        "streamed",
        "streams",
        "trace",
    )

    def __init__(self, source: Source, shape: str, statement: str, parameters: Any) -> None:
        super().__init__()
        self.source = source
        self.shape = shape
        self.statement = statement
        self.parameters = parameters
        self.rows: list[int] = []
        self.failures: list[Failure] = []
        self.occurrences: list[Occurrence] = []
        #: A fetch strategy that is free to be used again, None if there is none.
        self.fetch: Any = None
        #: Fetches that ended after their sample was read: which sample, and seconds.
        self.late: list[tuple[int, float]] = []
        #: Who asked -> [executions, execution contexts]; each look speaks for all executions since the one before.
        self.askers: dict[Asker, list[int]] = {}
        self.last_asker = NOBODY
        #: How many executions the looks so far speak for.
        self.inspected = 0
        #: Binds whose values differed from those of the first execution, None before any were compared.
        self.changed: frozenset[Bind] | None = None
        #: The caller's OpenTelemetry context at the second execution, None where there is none.
        self.trace: Any = None
        #: SQLAlchemy's compiled statement of the second execution.
        self.compiled: Any = None
        #: Unix time of the second execution and of the latest look, None before.
        self.repeated_at: float | None = None
        self.looked_at: float | None = None
        #: How many samples there must be before the one that the hot path looks at closely.
        self.next_look = 0
        #: Lines that led to the asker's function, innermost first -> how often, at most a few ways.
        self.outers: dict[tuple[Line, ...], int] = {}
        #: Executions that carried several rows.
        self.batches = 0
        #: Columns of the result, None where not known.
        self.columns: int | None = None
        #: Whether the application wrote the text.
        self.is_text = False
        #: Whether rows are fetched as the application asks for them.
        self.streamed = False
        #: Results that are being read so now, and when the last one came to its end, by `perf_counter`.
        self.streams = 0
        self.stream_ended = 0.0
        #: How many samples, rows and failures have been added to the totals.
        self.folded = Folded()


class Folded:
    """How far the background has read one `Samples`."""

    __slots__ = (
        "absorbed_failures",
        "failures",
        "max_rows",
        "max_s",
        "occurrences",
        "released",
        "released_at",
        "rows",
        "samples",
        "slow_calls",
        "slow_total_s",
        "total_rows",
        "total_s",
    )

    def __init__(self) -> None:
        self.samples = 0
        #: Of the samples that were read, how many are no longer in the list.
        self.released = 0
        #: When that was, by a monotonic clock in seconds.
        self.released_at = 0.0
        #: Failures of other samples of the statement that were made one with these.
        self.absorbed_failures = 0
        self.occurrences = 0
        self.rows = 0
        self.failures = 0
        self.slow_calls = 0
        self.slow_total_s = 0.0
        self.total_s = 0.0
        self.max_s = 0.0
        #: Rows of all results and of the largest one, None before any were known.
        self.total_rows: int | None = None
        self.max_rows: int | None = None


class Source(Protocol):
    """Where samples come from: one engine of one monitor."""

    #: Key of its samples in a scope; unique in the process, never used again.
    number: int
    database: Database
    monitor: Sink
    #: Seconds from which an execution with its fetches is slow.
    slow_s: float

    @property
    def engine(self) -> Engine | None:
        """The engine, None once the application let it go."""

    def take_slow_fetch(self, samples: Samples, context: Any, elapsed: float) -> None:
        """Note an execution that its fetches made slow. Must not raise."""

    def note_error(self, error: Exception) -> None:
        """Count an error of our own. Must not raise."""

    def take_failed_fetch(self, samples: Samples, context: Any, error: BaseException) -> None:
        """Count a fetch that raised. Must not raise itself."""


class Sink(Protocol):
    """Who takes a scope that ended: a monitor."""

    def start(self) -> None:
        """Make sure that the background thread runs. Called on the application's thread; must not block or raise."""

    def take_scope(self, scope: OpenScope) -> None:
        """Keep *scope* for the background thread. Called on the application's thread; must not block or raise."""


class OpenScope:
    """One request, job, test or checkout while it runs.

    Args:
        name: Low-cardinality name, None for an implicit scope. May be set until the scope is closed.
        kind: As in `records.ScopeRecord`.
    """

    __slots__ = (
        "__weakref__",
        "closed",
        "commits",
        "ended_at",
        "evicted",
        "examined_at",
        "holding",
        "inner",
        "kind",
        "last_samples",
        "last_started",
        "max_db_s",
        "max_queries",
        "name",
        "reads",
        "reported",
        "rollbacks",
        "slots",
        "started_at",
        "trail",
    )

    def __init__(self, name: str | None, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.started_at = time.time()
        self.ended_at: float | None = None
        #: Unix time of the latest look for findings while it was open, 0 before.
        self.examined_at = 0.0
        self.closed = False
        #: Source number -> text -> samples. Several texts may lead to the same samples.
        self.slots: dict[int, dict[str, Samples]] = {}
        #: Samples that were full and gave their slot to new ones.
        self.evicted: list[Samples] = []
        #: Finding's key -> (count, seconds) already told, so that a second look adds only what is new.
        self.reported: dict[Any, tuple[int, float]] = {}
        #: What happened in which order: samples that were looked at, and "commit" or "rollback".
        self.trail: list[Samples | str] = []
        self.commits = 0
        self.rollbacks = 0
        #: When the last statement began, or a transaction ended, by `perf_counter`: tells how long nothing ran.
        self.last_started = math.inf
        #: Of that statement, None before the first since connections are held.
        self.last_samples: Samples | None = None
        #: Connections it held and waited for, None where it did neither.
        self.holding: Holding | None = None
        #: Limits of its own, None where those of the settings hold.
        self.max_queries: int | None = None
        self.max_db_s: float | None = None
        #: The latest scope that began inside of this one: its statements may run on this one's connections.
        self.inner: OpenScope | None = None
        #: Relationships that were loaded eagerly and read, None where reads are not watched.
        self.reads: ScopeReads | None = None

    def note_end(self, kind: str) -> None:
        """Note that a transaction ended.

        Args:
            kind: `commit` or `rollback`.
        """
        if kind == "commit":
            self.commits += 1
        else:
            self.rollbacks += 1
        # Ends with nothing in between say nothing more, and a loop of them must not fill the trail.
        if self.trail and self.trail[-1] != kind and len(self.trail) < TRAIL_LIMIT:
            self.trail.append(kind)

    def find_latest(self) -> tuple[float, Samples | None]:
        """Return `last_started` and `last_samples` of this scope or of the one inside of it, whichever is later."""
        started, samples = (math.inf, None) if self.inner is None else self.inner.find_latest()
        if samples is None or started <= self.last_started:
            return self.last_started, self.last_samples
        return started, samples

    def list_samples(self) -> list[Samples]:
        """Return every samples of the scope once, in the order of their first execution."""
        unique = {id(samples): samples for samples in list(self.evicted)}
        for by_text in list(self.slots.values()):
            unique.update((id(samples), samples) for samples in list(by_text.values()))
        return list(unique.values())


#: The scope that the code running now belongs to, None outside of every scope.
current_scope: ContextVar[OpenScope | None] = ContextVar("querywatch_scope", default=None)

#: Every scope that was begun and not ended, oldest first; read by the background.
open_scopes: dict[int, OpenScope] = {}

#: Scopes that are never ended must not pile up: beyond this many, the oldest is ended.
OPEN_SCOPES_LIMIT = 20_000


def begin_scope(name: str | None, kind: str) -> OpenScope:
    """Begin a scope, without making it the current one.

    Args:
        name: Low-cardinality name, None for an implicit scope.
        kind: As in `records.ScopeRecord`.
    """
    scope = OpenScope(name, kind)
    if read_shares.share:
        scope.reads = read_shares.choose()
    outer = current_scope.get()
    if outer is not None and not outer.closed:
        outer.last_started, outer.last_samples = outer.find_latest()
        outer.inner = scope
    open_scopes[id(scope)] = scope
    if len(open_scopes) > OPEN_SCOPES_LIMIT:
        oldest = next(iter(list(open_scopes.values())), None)
        if oldest is not None:
            end_scope(oldest)
    return scope


def end_scope(scope: OpenScope) -> None:
    """End a scope and hand it to the monitors whose engines it used. Ending it twice does nothing."""
    if scope.closed:
        return
    scope.closed = True
    scope.ended_at = time.time()
    open_scopes.pop(id(scope), None)
    for sink in find_sinks(scope):
        sink.take_scope(scope)


def forget_samples() -> None:
    """In a forked child: what open scopes hold is the parent's and will be counted there."""
    for scope in list(open_scopes.values()):
        scope.slots = {}
        scope.evicted = []
        scope.holding = scope.last_samples = scope.inner = None
        # What was told of the parent's statements says nothing of the child's.
        scope.reported = {}


def find_sinks(scope: OpenScope) -> list[Sink]:
    """Return the monitors whose engines ran statements in *scope*, or whose connections it waited for or let lie."""
    sinks = {}
    for by_text in list(scope.slots.values()):
        for samples in list(by_text.values())[:1]:
            sinks[id(samples.source.monitor)] = samples.source.monitor
    for samples in list(scope.evicted):
        sinks[id(samples.source.monitor)] = samples.source.monitor
    if scope.holding is not None:
        sinks.update((id(monitor), monitor) for monitor in list(scope.holding.monitors))
        if scope.holding.idle and scope.last_samples is not None:
            # A scope that was handed a connection may let it lie and send nothing.
            monitor = scope.last_samples.source.monitor
            sinks[id(monitor)] = monitor
    return list(sinks.values())


class Example(NamedTuple):
    """A statement with values that can be planned. Never leaves the process.

    Args:
        engine: The engine it ran on (the sync engine of an async one).
        database: Of that engine.
        fingerprint: Of the statement.
        statement: Text as sent to the driver, in its paramstyle.
        parameters: As given to the driver's `execute`.
        calls: Executions so far.
        total_s: Seconds of all of them.
        typical_s: Median seconds of one.
        max_s: Seconds of the slowest.
    """

    engine: Engine
    database: Database
    fingerprint: Fingerprint
    statement: str
    parameters: Any
    calls: int
    total_s: float
    typical_s: float
    max_s: float
