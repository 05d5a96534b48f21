# ruff: noqa: S608 -- names come from the catalog or the parser, and are quoted
"""PostgreSQL: EXPLAIN in a read-only transaction of our own, what-ifs with HypoPG.

In:  a DBAPI connection of our own, made ready by `open_reader`.
Out: plan trees, existing indexes, statistics.

Every EXPLAIN stands in a savepoint that is rolled back at once: that gives back its table locks, so that a series of
what-ifs never keeps an ALTER TABLE waiting, and a refused one does not end the transaction.
"""

from __future__ import annotations

import contextlib
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from querywatch.dialects import postgres_plan
from querywatch.dialects.connection import NoProofError
from querywatch.errors import ExplainError, ExplainTimeoutError
from querywatch.records import IndexSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy import Dialect, Engine

    from querywatch.records import PlanNode, Proof

PROOF: Final[Proof] = "hypopg"

#: A plan must not stand in the queue behind ALTER TABLE: whatever comes later would queue behind the plan.
_LOCK_TIMEOUT_MS = 100
#: query_canceled (statement_timeout) and lock_not_available (lock_timeout).
_LIMIT_STATES = frozenset({"57014", "55P03"})
_DRIVERS_WITH_ROWCOUNT = frozenset({"psycopg", "psycopg2", "asyncpg"})

# A unit of cost took 3 to 5 us where it was measured (a sequential scan of a million rows, warm); three times that
# leaves room for a slow disk. A row sent to the client and read by the driver is not in the cost.
_LONGEST_COST_UNIT_S = 15e-6
_LONGEST_ROW_S = 5e-6
_LONGEST_ROUND_TRIP_S = 0.1


def fetches_lazily(dialect: Dialect) -> bool:  # noqa: ARG001 -- the protocol's signature
    """All drivers receive the whole result in execute."""
    return False


def find_row_counter(dialect: Dialect) -> Callable[[Any], int] | None:
    """Most drivers give the rows of a SELECT as `rowcount`."""
    return attrgetter("rowcount") if dialect.driver in _DRIVERS_WITH_ROWCOUNT else None


def describe_obstacle(engine: Engine) -> str | None:  # noqa: ARG001 -- the protocol's signature
    """None: a server takes a second connection."""
    return None


@contextlib.contextmanager
def open_reader(connection: Any, engine: Engine, *, timeout_s: float) -> Iterator[None]:
    """Open a read-only transaction with limits, and roll it back at the end."""
    # A `connect` listener may have left a transaction open, with a SET in it that has to hold for our plans too.
    connection.commit()
    # Autocommit at the driver, BEGIN by hand: the same for all drivers, and SET LOCAL holds behind PgBouncer too.
    engine.dialect.set_isolation_level(connection, "AUTOCOMMIT")
    _run(connection, "BEGIN READ ONLY")
    try:
        _run(connection, f"SET LOCAL statement_timeout = {max(1, round(timeout_s * 1000))}")
        _run(connection, f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}")
        if _run(connection, "SELECT current_setting('auto_explain.log_min_duration', true)")[0][0] is not None:
            # Logging a plan that holds a hypothetical index fails inside auto_explain (hypopg 1.3), and our EXPLAINs
            # have no place in the server's log. Only a superuser may set it: without, the what-if may be refused.
            with contextlib.suppress(ExplainError):
                _ask(connection, "SET LOCAL auto_explain.log_min_duration = -1", keep=True)
        yield
    finally:
        _run(connection, "ROLLBACK")


def take_plan(
    connection: Any,
    statement: str,
    parameters: Any,
    aliases: Mapping[str, str],  # noqa: ARG001 -- PostgreSQL names the table itself
) -> PlanNode:
    """Plan one statement; see `DialectModule.take_plan`."""
    # VERBOSE for the schema of each table.
    rows = _ask(connection, f"EXPLAIN (FORMAT JSON, VERBOSE) {statement}", parameters)
    visible = _ask(connection, "SELECT current_schemas(false)::text[]")[0][0]
    return postgres_plan.parse_plan(rows[0][0], frozenset(visible))


def reads_whole_table(node: PlanNode) -> bool:
    """A sequential scan, or an index read from end to end without a condition."""
    if node.table is None:
        return False
    return node.kind == "Seq Scan" or (
        node.kind in {"Index Scan", "Index Only Scan"} and not node.detail.startswith("Index Cond")
    )


def sorts(root: PlanNode) -> bool:
    """Whether the plan sorts, whole or in parts."""
    return any(node.kind in {"Sort", "Incremental Sort"} for node in root.walk())


def longest_run_s(root: PlanNode, rows_scanned: float) -> float:  # noqa: ARG001 -- the cost knows the rows
    """Seconds that a plan of this cost takes at most without waiting."""
    return _LONGEST_ROUND_TRIP_S + (root.cost or 0) * _LONGEST_COST_UNIT_S + (root.rows_estimated or 0) * _LONGEST_ROW_S


def count_rows(connection: Any, table: str) -> float | None:
    """The planner's own estimate: right also for a table never analyzed, and for a partitioned one."""
    try:
        root = take_plan(connection, f"SELECT FROM {_quote_table(table)}", None, {})
    except ExplainTimeoutError:
        raise
    except ExplainError:
        return None
    return root.rows_estimated


def list_indexes(connection: Any, table: str) -> tuple[IndexSpec, ...]:
    """Return the valid indexes of a table with key columns, INCLUDE columns and predicate."""
    rows = _ask(
        connection,
        f"""
        SELECT i.relname, x.indisunique, a.amname, pg_get_expr(x.indpred, x.indrelid), x.indnkeyatts,
               k.position, pg_get_indexdef(x.indexrelid, k.position::int, false), x.indkey[k.position - 1] = 0,
               k.position <= x.indnkeyatts AND (x.indoption[k.position - 1]::int & 1) = 1, att.attname
          FROM pg_index x
          JOIN pg_class i ON i.oid = x.indexrelid
          JOIN pg_am a ON a.oid = i.relam
         CROSS JOIN LATERAL generate_series(1, x.indnatts) AS k(position)
          LEFT JOIN pg_attribute att ON att.attrelid = x.indrelid AND att.attnum = x.indkey[k.position - 1]
                AND att.attnum > 0
         WHERE x.indrelid = to_regclass({_literal(_quote_table(table))}) AND x.indisvalid AND x.indisready
         ORDER BY i.relname, k.position
        """,
    )
    found: dict[str, dict[str, Any]] = {}
    for name, unique, method, where, keys, position, definition, is_expression, descending, column in rows:
        index = found.setdefault(
            name, {"unique": unique, "method": method, "where": where, "columns": [], "expressions": [], "include": []}
        )
        if position > keys:
            index["include"].append(column or definition)
        elif is_expression:
            index["expressions"].append(definition)
        else:
            index["columns"].append(f"{column} DESC" if descending else column)
    return tuple(
        IndexSpec(
            table=table,
            columns=tuple(index["columns"]),
            expressions=tuple(index["expressions"]),
            include=tuple(index["include"]),
            where=index["where"],
            unique=index["unique"],
            method=index["method"],
            name=name,
        )
        for name, index in found.items()
    )


def list_names(connection: Any, table: str) -> frozenset[str]:
    """Return the names of the relations in the table's schema: indexes share them with tables."""
    rows = _ask(
        connection,
        "SELECT r.relname FROM pg_class r JOIN pg_class t ON t.relnamespace = r.relnamespace "
        f"WHERE t.oid = to_regclass({_literal(_quote_table(table))})",
    )
    return frozenset(name for (name,) in rows)


def estimate_selectivity(connection: Any, table: str, columns: Sequence[str]) -> float | None:
    """Multiply the columns' shares as pg_stats has them; columns that hang together select more than that."""
    rows = _ask(
        connection,
        f"""
        SELECT s.attname, s.n_distinct, s.null_frac, t.reltuples
          FROM pg_class t
          JOIN pg_namespace n ON n.oid = t.relnamespace
          JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = t.relname
         WHERE t.oid = to_regclass({_literal(_quote_table(table))})
        """,
    )
    shares = {
        name: (1 - nulls) / max(1.0, distinct if distinct > 0 else -distinct * max(1.0, tuples))
        for name, distinct, nulls, tuples in rows
    }
    selectivity = 1.0
    for column in columns:
        if column not in shares:
            return None
        selectivity *= shares[column]
    return selectivity


@contextlib.contextmanager
def open_what_if(
    connection: Any,
    engine: Engine,
    aliases: Mapping[str, str],  # noqa: ARG001 -- PostgreSQL names the table itself
    filters: Mapping[str, Sequence[str]],  # noqa: ARG001 -- and knows what they leave
    *,
    has_limit: bool,  # noqa: ARG001 -- and knows what a LIMIT saves
) -> Iterator[_HypoPG]:
    """Plan with hypothetical indexes; see `DialectModule.open_what_if`."""
    rows = _ask(
        connection,
        "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'hypopg'",
    )
    if not rows:
        offered = _ask(connection, "SELECT 1 FROM pg_available_extensions WHERE name = 'hypopg'")
        raise NoProofError(
            "to have index suggestions proven, run CREATE EXTENSION hypopg in it"
            if offered
            else "to have index suggestions proven, install HypoPG on its server and run CREATE EXTENSION hypopg in it"
        )
    hypopg = _HypoPG(connection, engine, _quote(rows[0][0]))
    try:
        yield hypopg
    finally:
        hypopg.reset()


def is_system_table(table: str) -> bool:
    """Tell whether a table is of the catalog, which nobody has to qualify with its schema."""
    schema, _, name = table.rpartition(".")
    return schema == "pg_catalog" or (not schema and name.startswith("pg_"))


def write_ddl(engine: Engine, index: IndexSpec) -> str:
    """Return a CREATE INDEX CONCURRENTLY: reads and writes of the table go on while it is built."""
    return f"CREATE INDEX CONCURRENTLY {_quote_if_needed(engine, index.name or '')} ON {_write_target(engine, index)}"


class _HypoPG:
    """Hypothetical indexes of one connection."""

    def __init__(self, connection: Any, engine: Engine, schema: str) -> None:
        self._connection = connection
        self._engine = engine
        self._schema = schema

    def plan(self, statement: str, parameters: Any, indexes: Sequence[IndexSpec]) -> PlanNode:
        """Plan with *indexes*; see `WhatIf.plan`."""
        names: dict[str, str] = {}
        try:
            for index in indexes:
                ddl = _literal(f"CREATE INDEX ON {_write_target(self._engine, index)}")
                rows = _ask(self._connection, f"SELECT indexname FROM {self._schema}.hypopg_create_index({ddl})")
                names[rows[0][0]] = index.name or index.subject
            return postgres_plan.rename_indexes(take_plan(self._connection, statement, parameters, {}), names)
        finally:
            self.reset()

    def weigh(self, root: PlanNode) -> float:
        """Return the planner's cost."""
        return root.cost or 0.0

    def reset(self) -> None:
        """Drop them all: a pooled server connection (PgBouncer) outlives our use of it."""
        with contextlib.suppress(ExplainError):
            _ask(self._connection, f"SELECT {self._schema}.hypopg_reset()")


def _ask(connection: Any, sql: str, parameters: Any = None, *, keep: bool = False) -> list[Any]:
    """Run one statement in a savepoint of its own; *keep* its effect and its locks until the transaction ends.

    Raises:
        ExplainTimeoutError: A limit was reached.
        ExplainError: It failed. What the driver said may hold the application's values and is left out.
    """
    _run(connection, "SAVEPOINT querywatch")
    try:
        rows = _run(connection, sql, parameters)
    except Exception as error:  # noqa: BLE001 -- each driver has classes of its own
        _run(connection, "ROLLBACK TO SAVEPOINT querywatch")
        state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        if state in _LIMIT_STATES:
            raise ExplainTimeoutError(f"the server stopped it at a time limit (SQLSTATE {state})") from None
        raise ExplainError(f"the database refused it ({type(error).__name__}, SQLSTATE {state})") from None
    if not keep:
        _run(connection, "ROLLBACK TO SAVEPOINT querywatch")
    _run(connection, "RELEASE SAVEPOINT querywatch")
    return rows


def _run(connection: Any, sql: str, parameters: Any = None) -> list[Any]:
    cursor = connection.cursor()
    try:
        # With no parameters at all psycopg takes `%` as it stands; with an empty tuple it does not.
        if parameters is None:
            cursor.execute(sql)
        else:
            cursor.execute(sql, parameters)
        return list(cursor.fetchall()) if cursor.description else []
    finally:
        cursor.close()


def _write_target(engine: Engine, index: IndexSpec) -> str:
    table = ".".join(_quote_if_needed(engine, part) for part in index.table.split("."))
    keys = [_write_key(engine, column) for column in index.columns] + [f"({text})" for text in index.expressions]
    method = "" if index.method == "btree" else f" USING {index.method}"
    include = ", ".join(_quote_if_needed(engine, column) for column in index.include)
    return (
        f"{table}{method} ({', '.join(keys)})"
        + (f" INCLUDE ({include})" if include else "")
        + (f" WHERE {index.where}" if index.where else "")
    )


def _write_key(engine: Engine, column: str) -> str:
    name, separator, direction = column.partition(" ")
    return _quote_if_needed(engine, name) + separator + direction


def _quote_if_needed(engine: Engine, name: str) -> str:
    return engine.dialect.identifier_preparer.quote(name)


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quote_table(table: str) -> str:
    return ".".join(_quote(part) for part in table.split("."))


def _literal(text: str) -> str:
    # E'' where a backslash would mean something else under standard_conforming_strings = off.
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'" if "\\" in text else f"'{escaped}'"
