"""SQLite: EXPLAIN QUERY PLAN on a second connection to the file, what-ifs on a scratch copy in memory.

In:  a DBAPI connection of our own, made ready by `open_reader`.
Out: plan trees, existing indexes, statistics.

SQLite has no cost, so what an index is worth is told by the shape of the plan and by a bounded sample of the rows.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from querywatch.dialects import sqlite_plan, sqlite_statistics
from querywatch.dialects.connection import NoPlansError, NoProofError, has_own_creator
from querywatch.dialects.sqlite_scratch import Scratch
from querywatch.errors import ExplainError, ExplainTimeoutError
from querywatch.records import IndexSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy import Dialect, Engine

    from querywatch.records import PlanNode, Proof

PROOF: Final[Proof] = "scratch"

_IN_MEMORY = "in-memory SQLite has no second connection, so its plans cannot be taken"
_GONE = "its file is gone, so its plans cannot be taken"
_LOCK_TIMEOUT_MS = 100
#: Virtual machine steps between two looks at the clock.
_STEPS_PER_LOOK = 1_000

# A row read and filtered took 0.04 to 0.1 us where it was measured; ten times that leaves room for a slow disk.
_LONGEST_ROW_S = 1e-6
_LONGEST_STATEMENT_S = 0.05


def fetches_lazily(dialect: Dialect) -> bool:
    """The C library steps through the rows as they are fetched; aiosqlite's adapter fetches all of them at once."""
    return not dialect.is_async


def find_row_counter(dialect: Dialect) -> Callable[[Any], int] | None:
    """The library does not know how many rows will come; aiosqlite's adapter has them all."""
    return _count_buffered if dialect.is_async else None


def _count_buffered(cursor: Any) -> int:
    rows: int = cursor.rowcount if cursor.description is None else len(cursor._rows)  # noqa: SLF001 - SQLAlchemy's adapter
    return rows


def describe_obstacle(engine: Engine) -> str | None:
    """Say that a database in memory belongs to its one connection, or that a file was removed; None for a file."""
    # With a creator of the application's own the URL says nothing; `open_reader` looks at the connection.
    if has_own_creator(engine):
        return None
    if _is_in_memory(engine):
        return _IN_MEMORY
    return _GONE if _is_gone(engine) else None


def _is_gone(engine: Engine) -> bool:
    # To connect would make the file again, empty. A relative path was read where the program was at that time.
    path = Path(engine.url.database or "")
    return path.is_absolute() and not path.exists()


def _is_in_memory(engine: Engine) -> bool:
    database = engine.url.database or ""
    shared = "cache=shared" in database or engine.url.query.get("cache") == "shared"
    in_memory = ":memory:" in database or "mode=memory" in database or engine.url.query.get("mode") == "memory"
    return not database or (in_memory and not shared)


@contextlib.contextmanager
def open_reader(connection: Any, engine: Engine, *, timeout_s: float) -> Iterator[None]:
    """Allow reading only, never wait long for a lock, stop at a time limit.

    Raises:
        NoPlansError: The connection leads to a new, empty database in memory.
    """
    files = [row[2] for row in _run(connection, "PRAGMA database_list") if row[1] == "main"]
    if not files[0] and not _run(connection, "SELECT 1 FROM sqlite_master LIMIT 1"):
        raise NoPlansError(_IN_MEMORY)
    _run(connection, f"PRAGMA busy_timeout = {_LOCK_TIMEOUT_MS}")
    _run(connection, "PRAGMA query_only = ON")
    deadline = time.monotonic() + timeout_s
    _limit(connection, engine, lambda: time.monotonic() > deadline)
    try:
        yield
    finally:
        _limit(connection, engine, None)
        connection.rollback()


def _limit(connection: Any, engine: Engine, is_over: Callable[[], bool] | None) -> None:
    if engine.dialect.is_async:
        from sqlalchemy.util import await_only  # noqa: PLC0415 -- needs greenlet, which an async engine has

        await_only(connection.driver_connection.set_progress_handler(is_over, _STEPS_PER_LOOK))
    else:
        connection.set_progress_handler(is_over, _STEPS_PER_LOOK)


def take_plan(connection: Any, statement: str, parameters: Any, aliases: Mapping[str, str]) -> PlanNode:
    """Plan one statement; see `DialectModule.take_plan`."""
    return sqlite_plan.parse_plan(_ask(connection, f"EXPLAIN QUERY PLAN {statement}", parameters), aliases)


def reads_whole_table(node: PlanNode) -> bool:
    """A SCAN, with or without an index, or an index that SQLite builds for one run of the statement."""
    return node.table is not None and node.kind in {"SCAN", sqlite_plan.AUTOMATIC}


def sorts(root: PlanNode) -> bool:
    """Whether the plan sorts into a temporary b-tree."""
    return any(node.kind.startswith("USE TEMP B-TREE") and "ORDER BY" in node.kind for node in root.walk())


def longest_run_s(root: PlanNode, rows_scanned: float) -> float:
    """Seconds that the scan takes at most without waiting; infinite where one scan may run once per row of another."""
    steps = [node for node in root.walk() if node.table is not None]
    return _LONGEST_STATEMENT_S + rows_scanned * _LONGEST_ROW_S if len(steps) == 1 else float("inf")


def count_rows(connection: Any, table: str) -> float | None:
    """Rows as ANALYZE or the range of the row ids tells; exact for a small table."""
    return sqlite_statistics.count_rows(_asker(connection), table)


def list_indexes(connection: Any, table: str) -> tuple[IndexSpec, ...]:
    """Return the indexes of a table; an integer primary key, which is the table itself, among them."""
    key = [
        row[1]
        for row in sorted(
            _ask(connection, f"PRAGMA table_info({sqlite_statistics.quote(table)})"), key=lambda row: row[5]
        )
        if row[5]
    ]
    found = [IndexSpec(table=table, columns=tuple(key), unique=True)] if key else []
    for row in _ask(connection, f"PRAGMA index_list({sqlite_statistics.quote(table)})"):
        name, unique = row[1], bool(row[2])
        keys = [part for part in _ask(connection, f"PRAGMA index_xinfo({sqlite_statistics.quote(name)})") if part[5]]
        # Only that an index is partial or on an expression is told here: enough to see that it covers nothing.
        found.append(
            IndexSpec(
                table=table,
                columns=tuple(f"{part[2]} DESC" if part[3] else part[2] for part in keys if part[2] is not None),
                expressions=tuple("expression" for part in keys if part[2] is None),
                where="partial" if row[4] else None,
                unique=unique,
                name=name,
            )
        )
    return tuple(found)


def list_names(connection: Any, table: str) -> frozenset[str]:  # noqa: ARG001 -- one schema has them all
    """Return the names of tables, views and indexes."""
    return frozenset(name for (name,) in _ask(connection, "SELECT name FROM sqlite_master"))


def estimate_selectivity(connection: Any, table: str, columns: Sequence[str]) -> float | None:
    """Estimate from a sample of at most 10,000 rows."""
    return sqlite_statistics.estimate_selectivity(_asker(connection), table, columns)


@contextlib.contextmanager
def open_what_if(
    connection: Any,
    engine: Engine,
    aliases: Mapping[str, str],
    filters: Mapping[str, Sequence[str]],
    *,
    has_limit: bool,
) -> Iterator[Scratch]:
    """Plan on a scratch copy of schema and statistics; see `DialectModule.open_what_if`."""
    dbapi: Any = engine.dialect.dbapi
    try:
        # The adapter of an async driver hides the module that has the library in it.
        scratch = Scratch(getattr(dbapi, "sqlite", dbapi).connect(":memory:"), aliases, filters, has_limit=has_limit)
    except Exception as error:  # noqa: BLE001 -- each driver has classes of its own
        raise NoProofError(f"a scratch copy cannot be made ({type(error).__name__})") from None
    try:
        scratch.copy(_asker(connection))
        yield scratch
    finally:
        scratch.close()


def is_system_table(table: str) -> bool:
    """Tell whether a table is of the catalog; a pragma may be read like a table too."""
    return table.rpartition(".")[2].startswith(("sqlite_", "pragma_"))


def write_ddl(engine: Engine, index: IndexSpec) -> str:
    """Return the CREATE INDEX; SQLite builds it in one transaction that holds writers up."""
    quote = engine.dialect.identifier_preparer.quote
    keys = (quote(name) + rest for name, rest in sqlite_plan.split_keys(index.columns))
    table = ".".join(quote(part) for part in index.table.split("."))
    return f"CREATE INDEX {quote(index.name or '')} ON {table} ({', '.join(keys)})"


def _asker(connection: Any) -> sqlite_statistics.Ask:
    def ask(sql: str, parameters: Any = None) -> list[Any]:
        return _ask(connection, sql, parameters)

    return ask


def _ask(connection: Any, sql: str, parameters: Any = None) -> list[Any]:
    """Run one query.

    Raises:
        ExplainTimeoutError: A limit was reached.
        ExplainError: It failed. What the driver said may hold the application's values and is left out.
    """
    try:
        return _run(connection, sql, parameters)
    except Exception as error:  # noqa: BLE001 -- each driver has classes of its own
        name = getattr(error, "sqlite_errorname", None) or "no error code"
        if name.startswith(("SQLITE_INTERRUPT", "SQLITE_BUSY", "SQLITE_LOCKED")):
            raise ExplainTimeoutError(f"it was stopped at a time limit ({name})") from None
        raise ExplainError(f"the database refused it ({type(error).__name__}, {name})") from None


def _run(connection: Any, sql: str, parameters: Any = None) -> list[Any]:
    cursor = connection.cursor()
    try:
        if parameters is None:
            cursor.execute(sql)
        else:
            cursor.execute(sql, parameters)
        return list(cursor.fetchall()) if cursor.description else []
    finally:
        cursor.close()
