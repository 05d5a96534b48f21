"""What differs between databases, one module each: whether the driver works while fetching, EXPLAIN, catalog, DDL.

A database without a module here is measured like any other and gets no plans: `find_dialect` returns None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from querywatch.dialects import postgres, sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import Dialect, Engine

    from querywatch.records import IndexSpec, PlanNode, Proof


class WhatIf(Protocol):
    """The database planning with indexes that do not exist."""

    def plan(self, statement: str, parameters: Any, indexes: Sequence[IndexSpec]) -> PlanNode:
        """Plan *statement* as if *indexes* (each with a name) existed.

        Raises:
            ExplainError: The database refused.
        """

    def weigh(self, root: PlanNode) -> float:
        """Return the plan's work: its cost, or a figure made from statistics that is only good to compare two plans."""


class DialectModule(Protocol):
    """What a module offers. *connection* is a DBAPI connection that `open_reader` made ready."""

    @property
    def PROOF(self) -> Proof:  # noqa: N802 -- a module's constant
        """How a what-if of this database proves an index."""

    def fetches_lazily(self, dialect: Dialect) -> bool:
        """Whether the driver does the work of a SELECT while its rows are fetched, outside server-side cursors."""

    def find_row_counter(self, dialect: Dialect) -> Callable[[Any], int] | None:
        """Return what tells, right after the execution, how many rows a driver's cursor has; None if nothing does."""

    def describe_obstacle(self, engine: Engine) -> str | None:
        """Say why this engine's plans cannot be taken (ends a sentence that begins with its name); None if they can."""

    def open_reader(self, connection: Any, engine: Engine, *, timeout_s: float) -> AbstractContextManager[None]:
        """Make a connection of our own read-only, with limits; at the end roll back whatever it did."""

    def take_plan(self, connection: Any, statement: str, parameters: Any, aliases: Mapping[str, str]) -> PlanNode:
        """Ask how the database would run *statement*, without running it.

        Args:
            connection: Ready to read.
            statement: One statement, in the driver's paramstyle.
            parameters: As given to the driver's `execute`; None for a statement sent without any.
            aliases: Name in the statement (lower case) to table, for a database whose plans show only the alias.

        Raises:
            ExplainTimeoutError: A limit was reached.
            ExplainError: The database refused. The message holds no part of the statement.
        """

    def reads_whole_table(self, node: PlanNode) -> bool:
        """Whether this step reads every row of its table (or of an index of it)."""

    def sorts(self, root: PlanNode) -> bool:
        """Whether the plan sorts."""

    def longest_run_s(self, root: PlanNode, rows_scanned: float) -> float:
        """Seconds that this plan takes at most when nothing holds it up: beyond that, it waited."""

    def count_rows(self, connection: Any, table: str) -> float | None:
        """Estimate the rows of a table, cheaply; None if there is no such table."""

    def list_indexes(self, connection: Any, table: str) -> tuple[IndexSpec, ...]:
        """Return the usable indexes of a table, its primary key among them."""

    def list_names(self, connection: Any, table: str) -> frozenset[str]:
        """Return the names that an index of *table* cannot have, because something has them."""

    def estimate_selectivity(self, connection: Any, table: str, columns: Sequence[str]) -> float | None:
        """Estimate the share (0 to 1) of rows that equal one value in *columns*; None if nothing is known."""

    def open_what_if(
        self,
        connection: Any,
        engine: Engine,
        aliases: Mapping[str, str],
        filters: Mapping[str, Sequence[str]],
        *,
        has_limit: bool,
    ) -> AbstractContextManager[WhatIf]:
        """Plan one statement with hypothetical indexes until the block ends; none is left behind.

        Args:
            connection: Ready to read.
            engine: Of the application.
            aliases: Name in the statement (lower case) to table, of all its tables.
            filters: Table to the columns that the statement compares with one value.
            has_limit: Whether the statement stops early.

        Raises:
            NoProofError: This database cannot; the message is a sentence for people that says how to enable it.
        """

    def is_system_table(self, table: str) -> bool:
        """Tell whether a table (in lower case, with its schema if one is written) is of the catalog."""

    def write_ddl(self, engine: Engine, index: IndexSpec) -> str:
        """Return the CREATE INDEX to type in production; *index* has a name."""


#: By SQLAlchemy's name of the dialect.
DIALECTS: dict[str, DialectModule] = {"postgresql": postgres, "sqlite": sqlite}


def find_dialect(name: str) -> DialectModule | None:
    """Return the module for SQLAlchemy's name of a dialect, None if there is none."""
    return DIALECTS.get(name)


def is_system_table(name: str, table: str) -> bool:
    """Tell whether a table belongs to the database itself: a catalog, a statistics view.

    Args:
        name: SQLAlchemy's name of the dialect.
        table: As written, with its schema if it has one there.
    """
    schema = table.lower().rpartition(".")[0]
    module = DIALECTS.get(name)
    return schema == "information_schema" or (module is not None and module.is_system_table(table.lower()))
