"""Where the shop's tables live while the demo runs: a temporary SQLite file, or a place of their own in a database.

In:  the URL the user gave, or none.
Out: the URL of a database that holds the filled tables, which are gone when the block ends.

On PostgreSQL that place is a schema, and the URL says so (search_path), so that statements and suggestions name the
tables as any shop's would. Tables that the demo did not make are never touched: it refuses to begin.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import URL, create_engine, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from querywatch.demo.data import fill_tables
from querywatch.demo.shop import Model
from querywatch.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

SCHEMA = "querywatch_demo"
_MARK = "made by querywatch demo, dropped when it ends"
_EXAMPLE = "Give one such as postgresql+psycopg://user@localhost/shop or sqlite:///shop.db."


@contextmanager
def open_database(given: str | None) -> Iterator[URL]:
    """Make the shop's tables, and drop them when the block ends.

    Args:
        given: URL of a PostgreSQL or SQLite database; None for a temporary SQLite file.

    Raises:
        ConfigError: The URL cannot be used, or the database holds tables or a schema of the same name.
    """
    if given is None:
        with tempfile.TemporaryDirectory(prefix="querywatch-demo-") as folder:
            url = URL.create("sqlite", database=str(Path(folder) / "shop.db"))
            _create_tables(url)
            yield url
        return
    url = _parse(given)
    with _open_schema(url) if url.get_backend_name() == "postgresql" else _open_file(url) as own:
        yield own


def _parse(given: str) -> URL:
    # The text may hold a password, so an error shows no part of what could not be parsed.
    try:
        url = make_url(given)
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):  # ValueError: of a port that is no number
        raise ConfigError(f"--database-url is not a URL that SQLAlchemy can read. {_EXAMPLE}") from None
    if backend not in {"postgresql", "sqlite"}:
        raise ConfigError(f"--database-url: the demo runs on PostgreSQL and SQLite, not on {backend!r}. {_EXAMPLE}")
    if backend == "sqlite" and url.database in {None, "", ":memory:"}:
        raise ConfigError(
            f"--database-url: the demo needs a file, SQLite in memory has no second connection. {_EXAMPLE}"
        )
    return url


@contextmanager
def _open_file(url: URL) -> Iterator[URL]:
    file = Path(str(url.database))
    was_there = file.exists()
    try:
        _refuse_foreign_tables(url)
        try:
            _create_tables(url)
            yield url
        finally:
            with _administer(url) as connection, connection.begin():
                Model.metadata.drop_all(connection)
    finally:
        if not was_there:
            file.unlink(missing_ok=True)


def _refuse_foreign_tables(url: URL) -> None:
    with _administer(url) as connection:
        taken = sorted(set(inspect(connection).get_table_names()) & set(Model.metadata.tables))
    if taken:
        raise ConfigError(
            f"the database {url.database!r} has a table {taken[0]!r} already, and the demo touches no table "
            "that it did not make. Give another database with --database-url, or leave it out."
        )


@contextmanager
def _open_schema(url: URL) -> Iterator[URL]:
    own = url.update_query_dict({"options": f"-csearch_path={SCHEMA}"})
    with _administer(url) as connection:
        # Held until this connection closes: a second demo would drop the tables of the first.
        if not connection.scalar(text("SELECT pg_try_advisory_lock(hashtext(:name))"), {"name": SCHEMA}):
            raise ConfigError(f"another querywatch demo runs on the database {url.database!r}. Wait until it ends.")
        _refuse_foreign_schema(connection, url)
        try:
            with connection.begin():
                connection.execute(text(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"))
                connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
                connection.execute(text(f"COMMENT ON SCHEMA {SCHEMA} IS '{_MARK}'"))
            _create_tables(own)
            _analyze(own)
            yield own
        finally:
            with connection.begin():
                connection.execute(text(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"))


def _refuse_foreign_schema(connection: Connection, url: URL) -> None:
    found = connection.execute(
        text("SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = :name"), {"name": SCHEMA}
    ).first()
    connection.rollback()
    # What a killed demo left behind carries the mark and may go.
    if found is not None and found[0] != _MARK:
        raise ConfigError(
            f"the database {url.database!r} has a schema {SCHEMA!r} that the demo did not make. "
            "Rename it, or give another database with --database-url."
        )


def _analyze(url: URL) -> None:
    """Tell the planner what is in the tables, as autovacuum does within a minute."""
    with _administer(url) as connection, connection.begin():
        for table in Model.metadata.tables:
            connection.execute(text(f"ANALYZE {table}"))


def _create_tables(url: URL) -> None:
    with _administer(url) as connection, connection.begin():
        Model.metadata.create_all(connection)
        fill_tables(connection)


@contextmanager
def _administer(url: URL) -> Iterator[Connection]:
    """Connect with an engine of our own, which querywatch does not watch.

    Raises:
        ConfigError: There is no driver, it is an async one, there is no connection, or the database refuses what is
            asked of it.
    """
    try:
        engine = create_engine(url)
    except (ImportError, NoSuchModuleError, ArgumentError) as error:
        raise ConfigError(
            f"--database-url: no driver for {url.drivername!r} ({error}). "
            'For PostgreSQL run: pip install "querywatch[postgres]" and write postgresql+psycopg://'
        ) from None
    if engine.dialect.is_async:
        raise ConfigError(
            f"--database-url: the demo needs a driver that is not async, not {url.drivername!r}. {_EXAMPLE}"
        )
    try:
        try:
            connection = engine.connect()
        except SQLAlchemyError as error:
            raise ConfigError(f"--database-url: no connection to {_show(url)}: {_first_line(error, url)}.") from None
        with connection:
            try:
                yield connection
            except DBAPIError as error:
                raise ConfigError(f"--database-url: {_show(url)} cannot be used: {_first_line(error, url)}.") from None
    finally:
        engine.dispose()


def _show(url: URL) -> str:
    # A password may stand among the options, too.
    return url.set(query={}).render_as_string(hide_password=True)


def _first_line(error: SQLAlchemyError, url: URL) -> str:
    """Say why, as the driver does first; SQLAlchemy would add a link, and neither may show the password."""
    reason = str(getattr(error, "orig", None) or error).splitlines()[0].rstrip(".")
    return reason.replace(str(url.password), "***") if url.password else reason
