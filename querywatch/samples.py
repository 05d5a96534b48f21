"""What the hot path writes and the background reads: open scopes, their samples, and sightings of who asked.

In:  durations appended on the application's threads.
Out: plain lists that `scope` and `aggregate` fold later.

A statement's samples *are* a list of seconds: `list.append` needs no lock and loses nothing under threads, while
`total += elapsed` does. What is needed only now and then hangs on that list as attributes.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from types import CodeType

    from sqlalchemy import Engine

    from querywatch.records import Database, Fingerprint

#: Samples of one statement in one scope after which a new list is begun, so that the old one can be let go.
SAMPLES_LIMIT = 10_000


class Asker(NamedTuple):
    """Who asked for an execution: hashable, cheap to build, holds no object of the application but code.

    Args:
        code: Code object of the application's line, None where the stack holds none.
        line: Its line number, 0 with no code.
        relationship: Such as `User.orders`.
        kind: `lazy_load`, `refresh`, `deferred`, or None.
        parent: Name of the mapped class whose attribute was read; finds the line that loaded it.
        to_one: True if the relationship leads to one object.
    """

    code: CodeType | None
    line: int
    relationship: str | None = None
    kind: str | None = None
    parent: str | None = None
    to_one: bool | None = None


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
    """

    ended_at: float
    elapsed_s: float
    statement: str
    parameters: Any
    failure: Failure | None
    asker: Asker | None
    trace: Any


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
        "contexts",
        "failures",
        "folded",
        "inspected",
        "next_look",
        "occurrences",
        "parameters",
        "rows",
        "same_parameters",
        "select_entity",
        "shape",
        "source",
        "statement",
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
        #: Who asked, and how many inspected executions they asked for.
        self.askers: dict[Asker, int] = {}
        #: Executions looked at closely; the first `inspected` ones and some of the later ones.
        self.inspected = 0
        #: Of those, how many had an execution context not seen before.
        self.contexts = 0
        self.same_parameters: bool | None = None
        #: Length at which the hot path looks closely again.
        self.next_look = 1
        #: Name of the mapped class an ORM SELECT loads, None for anything else.
        self.select_entity: str | None = None
        #: How many samples, rows and failures have been added to the totals.
        self.folded = Folded()


class Folded:
    """How far the background has read one `Samples`."""

    __slots__ = ("failures", "max_s", "rows", "samples", "total_s")

    def __init__(self) -> None:
        self.samples = 0
        self.rows = 0
        self.failures = 0
        self.total_s = 0.0
        self.max_s = 0.0


class Source(Protocol):
    """Where samples come from: one engine of one monitor."""

    #: Key of its samples in a scope; unique in the process, never used again.
    number: int
    database: Database
    monitor: Sink


class Sink(Protocol):
    """Who takes a scope that ended: a monitor."""

    def take_scope(self, scope: OpenScope) -> None:
        """Keep *scope* for the background thread. Called on the application's thread; must not block or raise."""


class OpenScope:
    """One request, job, test or checkout while it runs.

    Args:
        name: Low-cardinality name, None for an implicit scope. May be set until the scope is closed.
        kind: As in `records.ScopeRecord`.
    """

    __slots__ = ("__weakref__", "closed", "ended_at", "kind", "name", "reported", "slots", "started_at")

    def __init__(self, name: str | None, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.started_at = time.time()
        self.ended_at: float | None = None
        self.closed = False
        #: Source number -> key of the statement -> samples.
        self.slots: dict[int, dict[str, Samples]] = {}
        #: What findings already said of this scope, so that a second look adds only what is new.
        self.reported: dict[Any, tuple[int, float]] = {}


#: The scope that the code running now belongs to, None outside of every scope.
current_scope: ContextVar[OpenScope | None] = ContextVar("querywatch_scope", default=None)


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
