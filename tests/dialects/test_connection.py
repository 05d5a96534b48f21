from __future__ import annotations

import sqlite3

import pytest
import sqlalchemy as sa

from querywatch.dialects.connection import NoPlansError, converse

POOLS = [sa.pool.QueuePool, sa.pool.NullPool, sa.pool.StaticPool, sa.pool.SingletonThreadPool]


def ask_one(connection):
    return connection.cursor().execute("SELECT count(*) FROM orders").fetchone()[0]


@pytest.fixture
def path(tmp_path):
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    connection.close()
    return tmp_path / "shop.db"


@pytest.mark.parametrize("poolclass", POOLS, ids=lambda pool: pool.__name__)
def test_takes_no_connection_from_the_applications_pool(path, poolclass):
    opened = []
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=poolclass)
    with engine.connect() as connection:
        theirs = connection.connection.dbapi_connection
        before = engine.pool.status()
        converse(engine, lambda ours: opened.append(ours) or ask_one(ours))
        assert engine.pool.status() == before
        assert opened[0] is not theirs
        assert connection.scalar(sa.text("SELECT count(*) FROM orders")) == 0
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].cursor()
    engine.dispose()


def test_closes_the_connection_when_the_work_fails(path):
    opened = []
    engine = sa.create_engine(f"sqlite:///{path}")
    with pytest.raises(ZeroDivisionError):
        converse(engine, lambda ours: opened.append(ours) or 1 / 0)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].cursor()


def test_a_creator_of_the_applications_own_is_used(path):
    made = []

    def creator():
        made.append(sqlite3.connect(path))
        return made[-1]

    engine = sa.create_engine("sqlite://", creator=creator)
    assert converse(engine, ask_one) == 0
    assert converse(engine, ask_one) == 0
    # Two to see that they differ, once; then one for each piece of work.
    assert len(made) == 4
    for connection in made:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.cursor()


def test_one_shared_connection_is_left_alone(path):
    shared = sqlite3.connect(path)
    engine = sa.create_engine("sqlite://", creator=lambda: shared)
    shared.execute("INSERT INTO orders VALUES (1)")
    with pytest.raises(NoPlansError, match="one shared connection"):
        converse(engine, ask_one)
    assert shared.in_transaction
    shared.rollback()
    shared.close()


def test_listeners_that_prepare_connections_hold_for_ours(path):
    engine = sa.create_engine(f"sqlite:///{path}")
    sa.event.listen(engine, "connect", lambda connection, _record: connection.create_function("shop", 0, lambda: 7))
    assert converse(engine, lambda ours: ours.execute("SELECT shop()").fetchone()[0]) == 7


def test_credentials_from_a_do_connect_listener_hold_for_ours(postgres_database, postgres_server):
    wrong = sa.make_url(postgres_database).set(username="nobody_here")
    engine = sa.create_engine(wrong)
    sa.event.listen(engine, "do_connect", lambda _dialect, _record, _args, kwargs: kwargs.update(user="postgres"))

    def ask_user(connection):
        return connection.execute("SELECT current_user").fetchone()[0]

    assert converse(engine, ask_user) == "postgres"


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_async_engines_of_postgresql(postgres_database, driver):
    engine = pytest.importorskip("sqlalchemy.ext.asyncio").create_async_engine(
        sa.make_url(postgres_database).set(drivername=f"postgresql+{driver}")
    )

    def ask(connection):
        cursor = connection.cursor()
        cursor.execute("SELECT 7")
        return cursor.fetchone()[0]

    assert converse(engine.sync_engine, ask) == 7
