"""A fresh shop for each program: made once, then made fresh again.

A SQLite file is copied for each program; in PostgreSQL's database the tables that a program wrote are filled again.
"""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, Any, Protocol, Self

import psycopg
import sqlalchemy as sa

from accuracy.models import Base
from accuracy.rows import write_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servers import Postgres

_NAME = "accuracy_shop"
_NEXT_TRANSACTION = "SELECT pg_snapshot_xmax(pg_current_snapshot())"


class Shops(Protocol):
    """Where fresh shops come from."""

    name: str

    def open_shop(self, mode: str) -> contextlib.AbstractContextManager[str]:
        """Give the URL of a fresh shop, with the driver for `sync` or `async`."""


class SqliteShops:
    """Copies of one file."""

    name = "sqlite"
    _drivers = {"sync": "pysqlite", "async": "aiosqlite"}  # noqa: RUF012 - a constant

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._template = folder / "template.db"
        engine = sa.create_engine(f"sqlite:///{self._template}")
        write_rows(engine)
        engine.dispose()

    @contextlib.contextmanager
    def open_shop(self, mode: str) -> Iterator[str]:
        """Give the URL of a fresh shop."""
        path = self._folder / "shop.db"
        shutil.copyfile(self._template, path)
        try:
            yield f"sqlite+{self._drivers[mode]}:///{path}"
        finally:
            path.unlink()


class PostgresShops:
    """One database, mended after each program that wrote: making a new one takes 300 ms, this takes 10.

    A program wrote if the next transaction number moved; which tables, their rows' transaction numbers tell.
    """

    name = "postgresql"
    _drivers = {"sync": "psycopg", "async": "asyncpg"}  # noqa: RUF012 - a constant

    def __init__(self, server: Postgres) -> None:
        self._server = server
        with psycopg.connect(**self._address("postgres")) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {_NAME} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {_NAME}")
        engine = sa.create_engine(server.url(_NAME))
        write_rows(engine)
        engine.dispose()
        self._tables = list(Base.metadata.tables)
        self._connection = psycopg.connect(**self._address(_NAME))
        copies = [f"CREATE TABLE fresh.{table} AS TABLE public.{table}" for table in self._tables]
        self._run("CREATE SCHEMA fresh", *copies)
        self._rows = self._read_rows()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @contextlib.contextmanager
    def open_shop(self, mode: str) -> Iterator[str]:
        """Give the URL of a fresh shop."""
        before = self._run(_NEXT_TRANSACTION)
        try:
            yield self._server.url(_NAME, driver=self._drivers[mode])
        finally:
            if self._run(_NEXT_TRANSACTION) != before:
                self._mend()

    def _mend(self) -> None:
        now = self._read_rows()
        changed = [table for table in self._tables if now[table] != self._rows[table]]
        mending = [
            statement
            for table in changed
            for statement in (f"DELETE FROM {table}", f"INSERT INTO {table} SELECT * FROM fresh.{table}")
        ]
        # As a replica does it: without foreign keys, which hold again once all tables are mended.
        self._run("SET session_replication_role = replica", *mending)
        self._rows = self._read_rows()

    def _read_rows(self) -> dict[str, tuple[int, int]]:
        """Return how many rows each table has, and the number of the latest transaction that wrote one."""
        each = (f"SELECT '{t}', count(*), coalesce(max(xmin::text::bigint), 0) FROM {t}" for t in self._tables)
        return {table: (count, latest) for table, count, latest in self._run(" UNION ALL ".join(each))}

    def _run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements beside the program's own, and return the rows of the last one."""
        for statement in statements:
            cursor = self._connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []

    def _address(self, database: str) -> dict[str, Any]:
        return {
            "port": self._server.port,
            "host": "127.0.0.1",
            "user": "postgres",
            "dbname": database,
            "autocommit": True,
        }
