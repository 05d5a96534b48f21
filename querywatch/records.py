"""Every value that crosses a stage: frozen, built once, stdlib only.

A field without a suffix is a count or a text; `_s` is seconds, `_ratio` 0 to 1, `_bytes` bytes, `_at` Unix
time in seconds, `cost` the planner's units. None means "not known"; 0 means zero.

No record holds a literal, a parameter or a password: SQL text in a record always has `?` in their places.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Severity = Literal["info", "warning", "error"]

#: How an advice was shown to help: planned with a hypothetical index, planned on a scratch copy, or only estimated.
Proof = Literal["hypopg", "scratch", "estimated"]


@dataclass(frozen=True, slots=True)
class CallSite:
    """One line of the application.

    Args:
        file: Path as Python knows it, relative to the working directory where it lies below it.
        line: Line number, from 1.
        function: Qualified name of the function.
    """

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What all executions of one statement share.

    Args:
        id: 16 hexadecimal digits, stable across processes, hash seeds and SQLAlchemy versions.
        version: Version of the rules that made the id; ids of two versions are not comparable.
        sql: The statement with literals as `?`, for reading; not necessarily runnable.
        summary: Low-cardinality name, such as `SELECT users`; OpenTelemetry's `db.query.summary`.
        operation: First keyword in upper case: `SELECT`, `INSERT`, ...
        tables: Names of the tables, in order of appearance, each once; a schema is kept as written.
    """

    id: str
    version: int
    sql: str
    summary: str
    operation: str
    tables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Database:
    """Where statements are sent, without credentials.

    Args:
        name: Label for people and metrics: the database's name, or the file's name on SQLite.
        system: OpenTelemetry's `db.system.name`: `postgresql`, `mysql`, `mariadb`, `sqlite`, ...
        dialect: SQLAlchemy's name of the dialect, such as `postgresql`.
        server_address: Host name, None for a file or where unknown.
        server_port: Port, None where unknown.
    """

    name: str
    system: str
    dialect: str
    server_address: str | None = None
    server_port: int | None = None


#: Executions of a statement of which it is known who called the function that sent it.
OUTER_SITES_LIMIT = 20


@dataclass(frozen=True, slots=True)
class ScopeQuery:
    """One statement of a scope, run from one line (or for one relationship).

    Args:
        statement: Text with literals as `?`; equal texts are one statement.
        fingerprint: Of that text.
        database: Where it ran; the first one, if the scope spread it over several.
        dialect: SQLAlchemy's name of that database's dialect.
        calls: Executions by the driver.
        contexts: Statements the application asked for; a flush of 600 rows may be one context and 600 calls.
        total_s: Time in the driver, in seconds.
        max_s: The slowest call, in seconds.
        errors: Calls that raised.
        slow_calls: Calls that took at least `slow_query_s`.
        slow_total_s: Time of those calls, in seconds.
        call_site: The application's line, None where it was not recorded (ran once, or the stack held no line of it).
        outer_sites: Lines that called the function of `call_site`, or its caller's where those differ more, each once;
            at most `OUTER_SITES_LIMIT`; empty where they were not recorded.
        parent_site: The line that loaded the objects whose attribute was read, None where unknown.
        parent_entity: Mapped class of the SELECT at that line, None where unknown.
        parent_rows: Rows of the statements that loaded those objects, None where unknown.
        relationship: Such as `User.orders`, None where no relationship asked.
        kind: What asked: `lazy_load`, `eager_loop`, `eager`, `refresh`, `deferred`, `get`, or None for the rest.
        act: What the application asked of the ORM that led here, such as `flush` or `merge`; None for nothing.
        is_orm_load: Whether it was sent while the ORM loaded an attribute, a cascade or a merge.
        path: Relationships from the class of the application's SELECT to what is loaded: `("User.orders",)`.
        to_one: For each relationship of `path`, whether it leads to one object.
        entity: Mapped class that is loaded or refreshed, None where the ORM did not ask.
        entity_base: Base of its inheritance hierarchy; the class itself where there is none.
        parent_base: The same of the class whose attribute was read, None for anything else.
        attribute: Column attribute that was read, such as `User.bio`; None where no such read asked.
        lazy: Strategy of the relationship as mapped, such as `select` or `dynamic`; None where no relationship asked.
        deletes: Whether the objects of the relationship are deleted with their parent.
        cause: Of a refresh: `expired` or `defaults`; of a deferred load: `polymorphic`; else None.
        same_parameters: True if every inspected call had equal parameters, None if only one was inspected.
        looked_up: Columns compared by `=` with a value that changed from one call to the next.
        keys: Columns of each key of the one table that is read, primary and unique; empty where not known.
        locks_rows: Whether it was written as FOR UPDATE, which not every database has.
        batches: Calls that carried several rows (executemany, insertmanyvalues).
        max_rows: Rows of the largest result that was fetched as a whole, None where not known.
        rows: Rows returned or changed by all calls, None where not known.
        streamed: Whether results were read row by row (`yield_per`, `stream_results`).
        is_text: Whether the application wrote the text itself (`text()`, `exec_driver_sql`).
        columns: Columns of the result, None where not known.
        is_housekeeping: Whether it reads no table of the application: the catalog, a setting, `SELECT 1`.
        waits: Whether the function of `call_site` or the one that called it sleeps, as loops that poll do.
    """

    statement: str
    fingerprint: Fingerprint
    database: str
    dialect: str
    calls: int
    contexts: int
    total_s: float
    max_s: float
    errors: int = 0
    slow_calls: int = 0
    slow_total_s: float = 0.0
    call_site: CallSite | None = None
    outer_sites: tuple[CallSite, ...] = ()
    parent_site: CallSite | None = None
    parent_entity: str | None = None
    parent_rows: int | None = None
    relationship: str | None = None
    kind: str | None = None
    act: str | None = None
    is_orm_load: bool = False
    path: tuple[str, ...] = ()
    to_one: tuple[bool, ...] = ()
    entity: str | None = None
    entity_base: str | None = None
    parent_base: str | None = None
    attribute: str | None = None
    lazy: str | None = None
    deletes: bool = False
    cause: str | None = None
    same_parameters: bool | None = None
    looked_up: tuple[str, ...] = ()
    keys: tuple[tuple[str, ...], ...] = ()
    locks_rows: bool = False
    batches: int = 0
    max_rows: int | None = None
    rows: int | None = None
    streamed: bool = False
    is_text: bool = False
    columns: int | None = None
    is_housekeeping: bool = False
    waits: bool = False


#: What a `Step` is.
StepKind = Literal["statement", "commit", "rollback"]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened in a scope, in the order it happened.

    Args:
        kind: A statement, or the end of a transaction.
        statement: Text of the statement, as in `ScopeQuery.statement`; empty for the end of a transaction.
        database: Where it ran; empty for the end of a transaction.
    """

    kind: StepKind
    statement: str = ""
    database: str = ""


@dataclass(frozen=True, slots=True)
class Idle:
    """A time in which connections were held and no statement ran.

    Args:
        seconds: How long.
        call_site: The line that sent the statement before it, None where not recorded.
        statement: That statement, as in `ScopeQuery.statement`; empty where none was sent since the checkout.
        end_site: The line that ended it: that sent the next statement, committed, or gave the connection back; None
            where not known.
        in_transaction: Whether a transaction was open, as far as SQLAlchemy says.
        is_repeated: Whether the statement that ended it is the one before it, as in a loop that polls.
    """

    seconds: float
    call_site: CallSite | None
    statement: str = ""
    end_site: CallSite | None = None
    in_transaction: bool = True
    is_repeated: bool = False


@dataclass(frozen=True, slots=True)
class PoolWait:
    """The longest time that a scope waited for a connection.

    Args:
        seconds: How long.
        database: Name of the database.
        size: Connections that its pool keeps.
        overflow: How many more it may open; -1 for any number.
        call_site: The line that asked for the connection, None where not recorded.
    """

    seconds: float
    database: str
    size: int
    overflow: int
    call_site: CallSite | None


@dataclass(frozen=True, slots=True)
class EagerLoad:
    """A relationship that was loaded eagerly in a scope whose attribute reads were watched.

    Args:
        relationship: Such as `User.orders`.
        strategy: `selectin`, `joined`, `subquery` or `immediate`.
        is_mapped: Whether the mapping asks for it, and not an option of the SELECT.
        objects: Parents it was loaded for, None where not known.
        read: Whether anything read it.
        call_site: The line of the SELECT, None where not recorded.
        database: Where it ran.
        fingerprint: Id of the statement that loaded it.
        statements: Statements that loaded nothing else; 0 for a join.
        total_s: Seconds of those.
    """

    relationship: str
    strategy: str
    objects: int | None
    read: bool
    call_site: CallSite | None
    database: str
    fingerprint: str
    is_mapped: bool = False
    statements: int = 0
    total_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ScopeRecord:
    """What one request, job, test or checkout sent to the databases.

    Args:
        name: Low-cardinality name such as `GET /users`, None for an implicit scope.
        kind: `request`, `task`, `test`, `watch`, `script`, `span` or `checkout`.
        started_at: Unix time in seconds.
        duration_s: Seconds; up to now, for a scope that is still open.
        queries: Its statements.
        checkouts: Connections taken from a pool.
        dropped: Calls that are counted in no query, because a limit was reached.
        steps: What happened in which order: each statement's first twenty executions and some later ones, and the ends
            of transactions in between; up to a limit.
        commits: Transactions that were committed.
        rollbacks: Transactions that were rolled back, those of a connection's return included.
        idle: The longest times of at least `long_transaction_s` in which a connection was held and nothing ran.
        pool_wait_s: Longest time in seconds that the scope waited for a connection of its pool.
        pool_waits: Times it waited for at least `pool_wait_s`.
        pool_timeouts: Times it waited in vain.
        longest_wait: The time of `pool_wait_s`, None where it waited for less than a millisecond.
        max_queries: Executions it may have by a limit of its own, None where the settings' holds.
        max_db_s: Seconds it may spend in the databases by a limit of its own, None where the settings' holds.
        eager_loads: What was loaded eagerly, as far as nobody can read it any more; empty for a scope that is open, or
            whose attribute reads were not watched.
    """

    name: str | None
    kind: str
    started_at: float
    duration_s: float
    queries: tuple[ScopeQuery, ...]
    checkouts: int = 0
    dropped: int = 0
    steps: tuple[Step, ...] = ()
    commits: int = 0
    rollbacks: int = 0
    idle: tuple[Idle, ...] = ()
    pool_wait_s: float = 0.0
    pool_waits: int = 0
    pool_timeouts: int = 0
    longest_wait: PoolWait | None = None
    max_queries: int | None = None
    max_db_s: float | None = None
    eager_loads: tuple[EagerLoad, ...] = ()

    @property
    def calls(self) -> int:
        """Executions in the whole scope."""
        return sum(query.calls for query in self.queries)

    @property
    def total_s(self) -> float:
        """Seconds in the databases' drivers in the whole scope."""
        return sum(query.total_s for query in self.queries)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations in base-2 exponential buckets of scale 3, as OpenTelemetry's exponential histogram.

    Bucket *i* holds values v with 2**(i/8) < v <= 2**((i+1)/8) seconds. Two histograms merge without loss.

    Args:
        counts: Bucket index to count; empty buckets are absent.
        zeros: Values that were 0 or less.
    """

    counts: Mapping[int, int] = field(default_factory=dict)
    zeros: int = 0


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """How often a statement failed in one way.

    Args:
        error_type: Name of the driver's exception class, such as `IntegrityError`; OpenTelemetry's `error.type`.
        sqlstate: Five-character SQLSTATE, None where the driver gives none.
        count: Calls that failed so.
    """

    error_type: str
    sqlstate: str | None
    count: int


@dataclass(frozen=True, slots=True)
class QueryStats:
    """The executions of one fingerprint on one database since the monitor was installed.

    Args:
        fingerprint: The statement.
        database: Name of the database.
        calls: Executions, failed ones included.
        errors: Failures by class and SQLSTATE.
        total_s: Seconds in the driver: execute, and fetch where the driver works while fetching.
        max_s: The slowest call in seconds.
        histogram: Distribution of the durations.
        rows: Rows returned or changed, None where the driver does not tell.
        last_seen_at: Unix time of the fold that saw the latest call.
        call_sites: Lines that were recorded for it, most recent last, at most a few.
    """

    fingerprint: Fingerprint
    database: str
    calls: int
    errors: tuple[ErrorCount, ...]
    total_s: float
    max_s: float
    histogram: Histogram
    rows: int | None
    last_seen_at: float
    call_sites: tuple[CallSite, ...] = ()

    @property
    def mean_s(self) -> float:
        """Mean duration in seconds."""
        return self.total_s / self.calls if self.calls else 0.0


@dataclass(frozen=True, slots=True)
class Habit:
    """How a statement usually runs.

    Args:
        calls: Executions so far.
        slow_calls: Of those, the ones that took at least `slow_query_s`.
        typical_s: Median duration in seconds, None without calls.
    """

    calls: int
    slow_calls: int
    typical_s: float | None


@dataclass(frozen=True, slots=True)
class PlanNode:
    """One step of a plan.

    Args:
        kind: The database's own name of the step, such as `Seq Scan`, `SCAN`, `SEARCH`.
        table: Table it reads, None if none.
        index: Index it uses, None if none.
        rows_estimated: The planner's guess of the rows it returns, None where the database gives none.
        rows_actual: Rows really returned, None unless the statement was run for the plan.
        cost: Total cost in planner units with its children, None where the database has none (SQLite).
        detail: Conditions and keys, literals as `?`, as one line for people.
        children: The steps that feed it.
    """

    kind: str
    table: str | None = None
    index: str | None = None
    rows_estimated: float | None = None
    rows_actual: float | None = None
    cost: float | None = None
    detail: str = ""
    children: tuple[PlanNode, ...] = ()

    def walk(self) -> Iterator[PlanNode]:
        """Yield this step and all below it, each before those that feed it."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, slots=True)
class Plan:
    """How the database would run a statement.

    Args:
        fingerprint: Id of the statement's fingerprint.
        dialect: SQLAlchemy's name of the dialect.
        database: Name of the database.
        captured_at: Unix time in seconds.
        shape: 16 hexadecimal digits: hash of kinds, tables and indexes of the tree, not of costs and rows.
        root: The top step.
    """

    fingerprint: str
    dialect: str
    database: str
    captured_at: float
    shape: str
    root: PlanNode


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """An index, existing or proposed.

    Args:
        table: Table, with its schema where that is not the default one.
        columns: Column names in order; a direction may follow: `created_at DESC`.
        expressions: Indexed expressions, as SQL.
        include: Columns stored and not searched (PostgreSQL's INCLUDE).
        where: Predicate of a partial index as SQL, None for a full one.
        unique: Whether it enforces uniqueness.
        method: `btree` unless said otherwise.
        name: Name of the index, None where it has none yet.
    """

    table: str
    columns: tuple[str, ...]
    expressions: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    where: str | None = None
    unique: bool = False
    method: str = "btree"
    name: str | None = None

    @property
    def subject(self) -> str:
        """Table and columns, such as `orders(user_id, created_at)`."""
        return f"{self.table}({', '.join(self.columns + self.expressions)})"


@dataclass(frozen=True, slots=True)
class IndexAdvice:
    """An index that the database itself says would help.

    Args:
        index: What to create.
        ddl: The statement to type.
        reason: Why, as a sentence for people: the scan, the rows, the share of time.
        fingerprints: Ids of the statements it helps.
        database: Name of the database.
        cost_before: Planner cost without it, None where the database has no cost (SQLite).
        cost_after: Planner cost measured with it, None where the database has no cost or nothing was measured.
        proof: How it was shown.
        proof_text: What the proof saw, for people: the plan's step before and after.
        size_bytes: Estimated size, None where unknown.
        write_cost: Planner units that writes pay for it, None where unknown.
    """

    index: IndexSpec
    ddl: str
    reason: str
    fingerprints: tuple[str, ...]
    database: str
    cost_before: float | None
    cost_after: float | None
    proof: Proof
    proof_text: str
    size_bytes: int | None = None
    write_cost: float | None = None


class Evidence(Protocol):
    """What a finding's code saw; each code has a small frozen record of its own."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""


@runtime_checkable
class CountsScopes(Evidence, Protocol):
    """Evidence that says in how many scopes its finding was seen."""

    @property
    def scopes(self) -> int:
        """How many; 0 for a further look at a scope that was counted."""

    def with_scopes(self, scopes: int) -> Evidence:
        """Return the same evidence with another number of scopes."""


@dataclass(frozen=True, slots=True)
class SavedEvidence:
    """Evidence of a finding that was read back from a file."""

    values: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dict(self.values)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to mend, with the line it comes from and what to type.

    Args:
        code: Such as `n-plus-one`; also the detector's module and the README's anchor.
        kind: Refines the code, such as `lazy_load`; None where the code has one kind only.
        severity: How much it matters.
        message: What was seen, as a sentence for people.
        fix: What to do, as a sentence for people; it names the option and the line.
        fix_kind: The same for programs, such as `selectinload`.
        subject: `User.orders`, a table, an index or a scope: what an allow-list names.
        database: Name of the database, None where it concerns none.
        fingerprint: Id of the statement, None where it concerns none.
        call_site: The application's line, None where unknown.
        scope: Name of the scope, None for an implicit one.
        count: Executions (or occurrences) that were wasteful, over all scopes so far.
        total_s: Seconds they took, None where time is not the matter.
        first_seen_at: Unix time.
        last_seen_at: Unix time.
        evidence: Record of the code's own.
    """

    code: str
    kind: str | None
    severity: Severity
    message: str
    fix: str
    fix_kind: str
    subject: str
    database: str | None
    fingerprint: str | None
    call_site: CallSite | None
    scope: str | None
    count: int
    total_s: float | None
    first_seen_at: float
    last_seen_at: float
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class ScopeStats:
    """All scopes of one name since the monitor was installed.

    Args:
        name: Such as `GET /users`, None for all implicit scopes together.
        kind: As in `ScopeRecord`.
        scopes: How many ended.
        calls: Executions in them.
        database_s: Seconds in the drivers.
        total_s: Seconds from begin to end.
        max_calls: Executions of the busiest one.
    """

    name: str | None
    kind: str
    scopes: int
    calls: int
    database_s: float
    total_s: float
    max_calls: int


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """One statement, or one burst of it, that is worth a span in the caller's trace.

    Args:
        fingerprint: Of the statement.
        database: Where it ran.
        started_at: Unix time in seconds; of the first call of a burst.
        ended_at: Unix time in seconds; of the last call of a burst.
        error_type: Name of the driver's exception class, None if it succeeded.
        sqlstate: Five-character SQLSTATE of the failure, None where there is none.
        calls: 1, or the size of the burst.
        batch_size: Parameter sets of one executemany, None for a plain execute.
        kind: Why it is worth a span.
        call_site: The application's line, None where unknown.
        parent: The caller's OpenTelemetry `SpanContext` or `Context`, None where there was none.
        total_s: Seconds in the driver of the whole burst, None for one call.
        operation: Such as `SELECT`, as the compiled statement says it; None for a text, which is never parsed for it.
        collection: Name of the one table, as the compiled statement says it; None for a text and for several tables.
    """

    fingerprint: Fingerprint
    database: Database
    started_at: float
    ended_at: float
    error_type: str | None
    sqlstate: str | None
    calls: int
    batch_size: int | None
    kind: Literal["slow", "failed", "n-plus-one"]
    call_site: CallSite | None
    parent: Any
    total_s: float | None = None
    operation: str | None = None
    collection: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a monitor knows at one moment.

    Args:
        taken_at: Unix time in seconds.
        started_at: Unix time of `install`.
        databases: The databases seen.
        queries: By total time, highest first.
        findings: Newest last.
        plans: The latest plan of each statement that has one.
        advice: Proven suggestions, best first.
        scopes: Per scope name, by database time, highest first.
        dropped: Reason to count of what was left out because a limit was reached.
        notes: Sentences for people about what could not be done, such as a database that cannot be asked for plans.
    """

    taken_at: float
    started_at: float
    databases: tuple[Database, ...] = ()
    queries: tuple[QueryStats, ...] = ()
    findings: tuple[Finding, ...] = ()
    plans: tuple[Plan, ...] = ()
    advice: tuple[IndexAdvice, ...] = ()
    scopes: tuple[ScopeStats, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
