"""A fresh shop for each program: made once, then copied.

A SQLite file is copied for each program. On PostgreSQL a program's database is used again unless the program wrote in
it: the next transaction number tells.
"""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, Protocol

import psycopg
import sqlalchemy as sa

from accuracy.rows import write_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servers import Postgres

_TEMPLATE, _COPY = "accuracy_template", "accuracy_shop"


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
    """Copies of one database of a server."""

    name = "postgresql"
    _drivers = {"sync": "psycopg", "async": "asyncpg"}  # noqa: RUF012 - a constant

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._fresh = False
        self._run(f"DROP DATABASE IF EXISTS {_TEMPLATE} WITH (FORCE)", f"CREATE DATABASE {_TEMPLATE}")
        engine = sa.create_engine(server.url(_TEMPLATE))
        write_rows(engine)
        engine.dispose()

    @contextlib.contextmanager
    def open_shop(self, mode: str) -> Iterator[str]:
        """Give the URL of a fresh shop."""
        if not self._fresh:
            self._run(f"DROP DATABASE IF EXISTS {_COPY} WITH (FORCE)", f"CREATE DATABASE {_COPY} TEMPLATE {_TEMPLATE}")
        before = self._run("SELECT pg_snapshot_xmax(pg_current_snapshot())")
        try:
            yield self._server.url(_COPY, driver=self._drivers[mode])
        finally:
            self._fresh = self._run("SELECT pg_snapshot_xmax(pg_current_snapshot())") == before

    def _run(self, *statements: str) -> object:
        """Run statements beside the programs' database, and return the first value of the last one."""
        with psycopg.connect(port=self._server.port, host="127.0.0.1", user="postgres", autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None
