"""The demo's tables: in a place of their own, gone afterwards, and never in somebody else's."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, func, inspect, make_url, select, text

from querywatch.demo.data import ITEMS, ORDERS, PRODUCTS, USERS
from querywatch.demo.database import SCHEMA, open_database
from querywatch.demo.shop import Item, Order, Product, User
from querywatch.errors import ConfigError

ROWS = [USERS, PRODUCTS, ORDERS, ITEMS]


@contextmanager
def connected(url):
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def count_rows(url):
    with connected(url) as connection:
        return [connection.scalar(select(func.count()).select_from(model)) for model in (User, Product, Order, Item)]


def refuse(url):
    with pytest.raises(ConfigError) as caught, open_database(url):
        pass
    return str(caught.value)


def test_a_temporary_file_is_gone_afterwards():
    with open_database(None) as url:
        assert count_rows(url) == ROWS
    assert not Path(url.database).parent.exists()


def test_a_file_that_was_not_there_is_gone_afterwards(tmp_path):
    def stop_in_between():
        with open_database(f"sqlite:///{tmp_path}/shop.db") as url:
            assert count_rows(url) == ROWS
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_in_between()
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_other_tables_keeps_them(tmp_path):
    url = f"sqlite:///{tmp_path}/mine.db"
    with connected(url) as connection:
        connection.execute(text("CREATE TABLE mine (x)"))
    with open_database(url) as own:
        assert count_rows(own) == ROWS
    with connected(url) as connection:
        assert inspect(connection).get_table_names() == ["mine"]


def test_a_file_with_a_table_of_that_name_is_refused_and_untouched(tmp_path):
    url = f"sqlite:///{tmp_path}/mine.db"
    with connected(url) as connection:
        connection.execute(text("CREATE TABLE orders (mine)"))
    assert refuse(url) == (
        f"the database '{tmp_path}/mine.db' has a table 'orders' already, and the demo touches no table that it did "
        "not make. Give another database with --database-url, or leave it out."
    )
    with connected(url) as connection:
        assert inspect(connection).get_table_names() == ["orders"]


def test_on_postgresql_a_schema_of_its_own_beside_tables_of_the_same_name(postgres_database):
    with connected(postgres_database) as connection:
        connection.execute(text("CREATE TABLE orders (mine int)"))
        with open_database(postgres_database) as own:
            assert count_rows(own) == ROWS
            assert refuse(postgres_database).startswith("another querywatch demo runs on the database 'test_")
        assert inspect(connection).get_schema_names() == ["information_schema", "public"]
        assert connection.scalar(text("SELECT count(*) FROM orders")) == 0


def test_on_postgresql_what_a_killed_demo_left_is_replaced(postgres_database):
    with connected(postgres_database) as connection:
        with open_database(postgres_database):
            mark = connection.scalar(text(f"SELECT obj_description('{SCHEMA}'::regnamespace, 'pg_namespace')"))
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        connection.execute(text(f"COMMENT ON SCHEMA {SCHEMA} IS '{mark}'"))
        connection.execute(text(f"CREATE TABLE {SCHEMA}.orders (old int)"))
        with open_database(postgres_database) as own:
            assert count_rows(own) == ROWS


def test_on_postgresql_a_foreign_schema_of_that_name_is_refused_and_untouched(postgres_database):
    with connected(postgres_database) as connection:
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        message = refuse(postgres_database)
        assert f"has a schema {SCHEMA!r} that the demo did not make. Rename it, or give another database" in message
        assert SCHEMA in inspect(connection).get_schema_names()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param("not a url:s3cret", "--database-url is not a URL that SQLAlchemy can read.", id="no-url"),
        pytest.param("postgresql://a:s3cret@b:port/c", "is not a URL that SQLAlchemy can read.", id="port"),
        pytest.param("oracle://a:s3cret@b/c", "the demo runs on PostgreSQL and SQLite, not on 'oracle'.", id="oracle"),
        pytest.param("sqlite://", "the demo needs a file, SQLite in memory has no second connection.", id="memory"),
        pytest.param("postgresql+nothing://a:s3cret@b/c", "no driver for 'postgresql+nothing'", id="no-driver"),
        pytest.param(
            "postgresql+psycopg://a:s3cret@127.0.0.1:1/c",
            "no connection to postgresql+psycopg://a:***@127.0.0.1:1/c: connection failed:",
            id="no-server",
        ),
        pytest.param(
            "postgresql+psycopg://127.0.0.1:1/c?password=s3cret",
            "no connection to postgresql+psycopg://127.0.0.1:1/c: connection failed:",
            id="password-as-option",
        ),
        pytest.param(
            "sqlite+aiosqlite:///a.db", "needs a driver that is not async, not 'sqlite+aiosqlite'.", id="async"
        ),
        pytest.param(
            "sqlite:////nowhere/at/all.db", "no connection to sqlite:////nowhere/at/all.db: unable to", id="path"
        ),
    ],
)
def test_a_database_that_cannot_be_used_is_one_sentence_without_the_password(url, message):
    said = refuse(url)
    assert message in said
    assert "\n" not in said
    assert "s3cret" not in said


def test_a_file_that_is_no_database_is_one_sentence_and_untouched(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("not a database " * 100)
    assert refuse(f"sqlite:///{file}") == f"--database-url: sqlite:///{file} cannot be used: file is not a database."
    assert file.read_text() == "not a database " * 100


def test_on_postgresql_a_role_that_may_not_create_is_one_sentence(postgres_database):
    with connected(postgres_database) as connection:
        connection.execute(text("CREATE ROLE visitor LOGIN PASSWORD 's3cret'"))
        try:
            visitor = make_url(postgres_database).set(username="visitor", password="s3cret")
            said = refuse(visitor.render_as_string(hide_password=False))
        finally:
            connection.execute(text("DROP ROLE visitor"))
    assert "cannot be used: permission denied for database" in said
    assert "s3cret" not in said
