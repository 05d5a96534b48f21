"""A copy in memory of a SQLite file's schema and statistics, without its rows, to plan with indexes that do not exist.

In:  a function that asks the file.
Out: plans. An index counts as used only if SQLite picks it twice: with the statistics the file has today (that is what
     the application will get after CREATE INDEX) and with statistics sampled from its rows (that is whether it helps).
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

from querywatch.dialects import sqlite_plan, sqlite_statistics
from querywatch.dialects.sqlite_statistics import quote
from querywatch.errors import ExplainError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from querywatch.dialects.sqlite_statistics import Ask
    from querywatch.records import IndexSpec, PlanNode

#: Functions and collations of the application's own that one statement may need.
_MISSING_LIMIT = 50
_MISSING = re.compile(r"no such (?P<kind>function|collation sequence): (?P<name>\S+)|unknown function: (?P<other>\w+)")

#: SQLite's own guess of the share of rows that one bound of a range leaves.
_RANGE_RATIO = 0.25
_SEEK_WEIGHT = 5.0
#: Share of the rows that a LIMIT lets it read, where no sort needs them all.
_STOPPED_RATIO = 0.01
_UNKNOWN_ROWS = 1_000.0
_EQUAL = re.compile(r"(\w+)=\?")
_BOUND = re.compile(r"\w+[<>]\?")


class Scratch:
    """The copy.

    Args:
        connection: To an empty database in memory; the copy owns it.
        aliases: Name in the statement, in lower case, to table, of all its tables.
        filters: Table to the columns that the statement compares with one value.
        has_limit: Whether the statement stops early.
    """

    def __init__(
        self, connection: Any, aliases: Mapping[str, str], filters: Mapping[str, Sequence[str]], *, has_limit: bool
    ) -> None:
        self._connection = connection
        # Transactions are begun by hand below.
        connection.isolation_level = None
        self._aliases = aliases
        self._filters = filters
        self._has_limit = has_limit
        self._sampled: list[tuple[str, str | None, str]] = []
        self._selectivities: dict[tuple[str, tuple[str, ...]], float | None] = {}
        self._rows: dict[str, float] = {}
        self._ask: Ask | None = None

    def copy(self, ask: Ask) -> None:
        """Copy the schema and the statistics; sample those of the statement's tables."""
        self._ask = ask
        for (sql,) in ask(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite@_%' ESCAPE '@' "
            "AND type IN ('table', 'view', 'index') ORDER BY type = 'index', type = 'view', rowid"
        ):
            # A virtual table whose module is not here is left out: a statement that reads it is then refused.
            with contextlib.suppress(ExplainError):
                self._run(sql)
        # This is how an empty sqlite_stat1 is made.
        self._run("ANALYZE")
        statistics: list[Any] = []
        with contextlib.suppress(ExplainError):
            statistics = ask("SELECT tbl, idx, stat FROM sqlite_stat1")
        self._run("DELETE FROM sqlite_stat1")
        for row in statistics:
            self._run("INSERT INTO sqlite_stat1 VALUES (?, ?, ?)", tuple(row))
        self._run("ANALYZE sqlite_master")
        known = {(row[0], row[1]) for row in statistics}
        for table in dict.fromkeys(self._aliases.values()):
            self._sample(ask, table, known)

    def plan(self, statement: str, parameters: Any, indexes: Sequence[IndexSpec]) -> PlanNode:
        """Plan with *indexes*; see `WhatIf.plan`."""
        today = self._plan(statement, parameters, indexes, [])
        names = {index.name for index in indexes}
        if not names <= {node.index for node in today.walk()}:
            return today
        return self._plan(statement, parameters, indexes, self._sampled + [self._statistics_of(i) for i in indexes])

    def weigh(self, root: PlanNode) -> float:
        """Estimate the rows read, loops within loops; SQLite itself has no such figure."""
        loops, work = 1.0, 0.0
        for node in root.walk():
            if node.table is not None:
                read = max(1.0, self._rows_read(node))
                # Each entry of an index leads to a row elsewhere in the file, unless the index has all that is asked.
                seeks = node.kind == "SEARCH" and "COVERING" not in node.detail and node.index != "PRIMARY KEY"
                work += loops * read * (_SEEK_WEIGHT if seeks else 1.0)
                loops *= max(1.0, min(read, self._rows_left(node.table)))
        if any(node.kind.startswith("USE TEMP B-TREE") for node in root.walk()):
            return work + loops
        return max(1.0, work * _STOPPED_RATIO) if self._has_limit else work

    def _rows_left(self, table: str) -> float:
        columns = tuple(self._filters.get(table, ()))
        share = self._selectivity(table, columns) if columns else None
        return self._rows.get(table, _UNKNOWN_ROWS) * (1.0 if share is None else share)

    def _rows_read(self, node: PlanNode) -> float:
        table = node.table or ""
        rows = self._rows.get(table, _UNKNOWN_ROWS)
        if node.kind != "SEARCH":
            return rows
        if node.index == "PRIMARY KEY":
            return 1.0
        columns = tuple(_EQUAL.findall(node.detail))
        share = (self._selectivity(table, columns) if columns else None) or 1.0
        return rows * share * _RANGE_RATIO ** len(_BOUND.findall(node.detail))

    def close(self) -> None:
        """Drop the copy."""
        self._connection.close()

    def _plan(
        self, statement: str, parameters: Any, indexes: Sequence[IndexSpec], statistics: Sequence[tuple[Any, ...]]
    ) -> PlanNode:
        with self._undone():
            for index in indexes:
                keys = ", ".join(quote(name) + rest for name, rest in sqlite_plan.split_keys(index.columns))
                self._run(f"CREATE INDEX {quote(index.name or '')} ON {quote(index.table)} ({keys})")
            for row in statistics:
                self._run("INSERT INTO sqlite_stat1 VALUES (?, ?, ?)", row)
            self._run("ANALYZE sqlite_master")
            return sqlite_plan.parse_plan(self._run(f"EXPLAIN QUERY PLAN {statement}", parameters), self._aliases)

    @contextlib.contextmanager
    def _undone(self) -> Iterator[None]:
        self._run("BEGIN")
        try:
            yield
        finally:
            self._run("ROLLBACK")
            # The planner keeps what it loaded until it is told to look again.
            self._run("ANALYZE sqlite_master")

    def _sample(self, ask: Ask, table: str, known: set[tuple[str, str | None]]) -> None:
        rows = sqlite_statistics.count_rows(ask, table)
        if rows is None:
            return
        self._rows[table] = rows
        if not any(name.lower() == table.lower() for name, _ in known):
            self._sampled.append((table, None, str(round(rows))))
        for index in self._run(f"PRAGMA index_list({quote(table)})"):
            keys = [part[2] for part in self._run(f"PRAGMA index_info({quote(index[1])})")]
            if (table, index[1]) not in known and None not in keys:
                self._sampled.append((table, index[1], self._write_statistics(table, keys)))

    def _statistics_of(self, index: IndexSpec) -> tuple[str, str | None, str]:
        keys = [name for name, _ in sqlite_plan.split_keys(index.columns)]
        return index.table, index.name, self._write_statistics(index.table, keys)

    def _write_statistics(self, table: str, keys: Sequence[str]) -> str:
        # "1000000 20 1": rows, then how many rows share the first column, the first two columns, ...
        rows = self._rows.get(table, 0.0)
        shares = [self._selectivity(table, tuple(keys[: length + 1])) for length in range(len(keys))]
        return " ".join([str(round(rows)), *(str(max(1, round(rows * (share or 0)))) for share in shares)])

    def _selectivity(self, table: str, columns: tuple[str, ...]) -> float | None:
        if (table, columns) not in self._selectivities and self._ask is not None:
            self._selectivities[table, columns] = sqlite_statistics.estimate_selectivity(self._ask, table, columns)
        return self._selectivities.get((table, columns))

    def _run(self, sql: str, parameters: Any = None) -> list[Any]:
        """Run one statement; what the application defined itself and is not here is defined as a stand-in.

        Raises:
            ExplainError: It failed. What the library said may hold the application's values and is left out.
        """
        for _ in range(_MISSING_LIMIT):
            try:
                cursor = self._connection.cursor()
                cursor.execute(sql) if parameters is None else cursor.execute(sql, parameters)
                return list(cursor.fetchall())
            except Exception as error:  # noqa: BLE001 -- an error class of the application's driver
                missing = _MISSING.search(str(error))
                if missing is None:
                    raise ExplainError(f"the scratch copy refused it ({type(error).__name__})") from None
                self._stand_in(missing)
        raise ExplainError("the scratch copy refused it (too many functions are missing)")

    def _stand_in(self, missing: re.Match[str]) -> None:
        # No row is ever read here, so they are never called.
        if missing["kind"] == "collation sequence":
            self._connection.create_collation(missing["name"], lambda _left, _right: 0)
        else:
            self._connection.create_function(
                missing["name"] or missing["other"], -1, lambda *_: None, deterministic=True
            )
