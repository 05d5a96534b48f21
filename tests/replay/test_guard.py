"""Nothing of a replay stays: what is refused, what is rolled back, and that everything is as it was afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from counted import count, watching
from replay_shop import USERS, Base, User, fill, list_users
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool, Pool, StaticPool
from sqlalchemy.pool.base import _ConnectionFairy

import querywatch
from querywatch import ConfigError, ReplayError

COUNT = sa.select(sa.func.count()).select_from(User)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request, tmp_path):
    url = f"sqlite:///{tmp_path}/shop.db" if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    engine = sa.create_engine(url)
    fill(engine)
    yield engine
    engine.dispose()


def count_users(engine):
    with engine.connect() as connection:
        return connection.scalar(COUNT)


def describe(engine):
    """Return what a replay could leave behind."""
    return (
        {name: value for name, value in vars(engine.dialect).items() if name.startswith(("do_", "_querywatch"))},
        sorted(vars(engine)),
        engine.pool,
        sa.Engine._has_events,
        [bool(sa.Engine.dispatch.engine_connect._clslevel.get(sa.Engine))],
        bool(Pool.dispatch.checkout._clslevel.get(Pool)),
        [
            bool(getattr(Session.dispatch, name)._clslevel.get(Session))
            for name in ("do_orm_execute", "before_commit", "after_transaction_create")
        ],
        "commit" in vars(_ConnectionFairy),
        engine.pool.checkedout(),
    )


def new_user():
    return User(name="new", bio="")


# -- what is refused


def commit_session(engine):
    with Session(engine) as session:
        session.add(new_user())
        session.commit()


def begin_session(engine):
    with sessionmaker(engine).begin() as session:
        session.add(new_user())


def commit_after_flush(engine):
    with Session(engine) as session:
        session.add(new_user())
        session.flush()
        session.commit()


def swallow(engine):
    with contextlib.suppress(Exception):
        begin_session(engine)
    return list(range(3))


def swallow_and_go_on(engine):
    with Session(engine) as session:
        for _ in range(2):
            session.add(new_user())
            with contextlib.suppress(Exception):
                session.commit()
                session.rollback()


def begin_connection(engine):
    with engine.begin() as connection:
        connection.execute(sa.insert(User).values(name="new", bio=""))


def commit_connection(engine):
    with engine.connect() as connection:
        connection.execute(sa.insert(User).values(name="new", bio=""))
        connection.commit()


def commit_in_thread(engine):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(commit_session, engine).exception()


def commit_by_text(engine):
    with engine.connect() as connection:
        connection.execute(sa.insert(User).values(name="new", bio=""))
        connection.execute(sa.text("/* so */ commit"))


def commit_by_driver_text(engine):
    with engine.connect() as connection:
        connection.execute(sa.insert(User).values(name="new", bio=""))
        connection.exec_driver_sql("END")


def rollback_by_text(engine):
    with engine.connect() as connection:
        connection.exec_driver_sql("ROLLBACK")
        connection.execute(sa.insert(User).values(name="new", bio=""))


def run_autocommit(engine):
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.insert(User).values(name="new", bio=""))


def run_on_autocommit_engine(engine):
    with Session(engine.execution_options(isolation_level="AUTOCOMMIT")) as session:
        session.add(new_user())
        session.flush()


def take_raw_connection(engine):
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("INSERT INTO users (name, bio) VALUES ('new', '')")
        connection.commit()
    finally:
        connection.close()


def commit_the_proxy(engine):
    with engine.connect() as connection:
        connection.execute(sa.insert(User).values(name="new", bio=""))
        connection.connection.commit()


def drop_table(engine):
    with engine.connect() as connection:
        Base.metadata.tables["logins"].drop(connection)


def create_table(engine):
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE TABLE more (id INTEGER)"))


@pytest.mark.parametrize(
    ("function", "why"),
    [
        pytest.param(commit_session, "commits", id="session"),
        pytest.param(begin_session, "commits", id="sessionmaker-begin"),
        pytest.param(commit_after_flush, "commits", id="after-a-flush"),
        pytest.param(swallow, "commits", id="swallowed"),
        pytest.param(swallow_and_go_on, "commits", id="swallowed-twice"),
        pytest.param(begin_connection, "commits", id="engine-begin"),
        pytest.param(commit_connection, "commits", id="connection"),
        pytest.param(commit_in_thread, "commits", id="thread"),
        pytest.param(commit_by_text, "ends its transaction", id="text"),
        pytest.param(commit_by_driver_text, "ends its transaction", id="driver-text"),
        pytest.param(rollback_by_text, "ends its transaction", id="rollback-text"),
        pytest.param(run_autocommit, "runs statements in AUTOCOMMIT", id="autocommit"),
        pytest.param(run_on_autocommit_engine, "runs statements in AUTOCOMMIT", id="autocommit-engine"),
        pytest.param(take_raw_connection, "takes a raw connection", id="raw-connection"),
        pytest.param(commit_the_proxy, "commits", id="past-sqlalchemy"),
        pytest.param(drop_table, "changes the schema", id="drop-table"),
        pytest.param(create_table, "changes the schema", id="create-table"),
    ],
)
def test_refuses_what_would_stay(engine, function, why):
    before = describe(engine)
    with pytest.raises(ReplayError, match=f"<lambda> cannot be replayed: it {why}.* at .*test_guard.py:"):
        querywatch.prove(lambda: function(engine))
    assert count_users(engine) == USERS
    assert set(sa.inspect(engine).get_table_names()) == set(Base.metadata.tables)
    assert describe(engine) == before


def test_an_engine_that_always_commits_is_refused(tmp_path):
    fill(sa.create_engine(f"sqlite:///{tmp_path}/shop.db", poolclass=NullPool))
    engine = sa.create_engine(f"sqlite:///{tmp_path}/shop.db", isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with pytest.raises(ReplayError, match="AUTOCOMMIT"):
        querywatch.prove(list_users, engine=engine)


def test_says_what_to_do(engine):
    def save_user(session):
        session.add(new_user())
        session.commit()

    with pytest.raises(ReplayError) as raised:
        querywatch.prove(save_user, engine=engine)
    said = str(raised.value)
    assert said.startswith("save_user cannot be replayed: it commits at ")
    assert said.endswith(". Nothing of it was kept. Replay the part of it that comes before the commit.")


def test_says_that_something_may_have_stayed_where_the_driver_itself_committed(engine):
    def commit_driver(session):
        session.add(new_user())
        session.flush()
        session.connection().connection.driver_connection.commit()

    with pytest.raises(ReplayError, match="through the driver, so that what it wrote may have stayed"):
        querywatch.prove(commit_driver, engine=engine)


@pytest.mark.parametrize("reset", ["rollback", "commit", None])
@pytest.mark.parametrize("function", [commit_session, begin_connection, swallow_and_go_on])
def test_a_pool_that_does_not_roll_back_keeps_nothing_either(tmp_path, reset, function):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/shop.db", pool_reset_on_return=reset)
    fill(engine)
    with pytest.raises(ReplayError):
        querywatch.prove(lambda: function(engine))
    assert count_users(engine) == USERS
    engine.dispose()


def test_two_phase_commits_are_refused(postgres_database):
    engine = sa.create_engine(postgres_database)
    fill(engine)

    def prepare(session):
        session.add(new_user())
        session.prepare()

    with pytest.raises(ReplayError, match="commits"):
        querywatch.prove(prepare, session=sessionmaker(engine, twophase=True))
    assert count_users(engine) == USERS
    engine.dispose()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        pytest.param(lambda session: session.get(User, 1), "was in use before", id="holds-objects"),
        pytest.param(lambda session: session.execute(COUNT), "was in use before", id="in-transaction"),
    ],
)
def test_a_session_that_is_in_use_is_refused_and_left_alone(engine, make, why):
    with Session(engine) as session:
        kept = make(session)
        session.add(new_user())
        with pytest.raises(ReplayError, match=why):
            querywatch.prove(lambda: list_users(session))
        session.commit()
        assert kept is not None
    assert count_users(engine) == USERS + 1


def test_a_connection_that_is_in_use_is_refused_and_left_alone(engine):
    with engine.connect() as connection:
        connection.execute(sa.insert(User).values(name="new", bio=""))
        with pytest.raises(ReplayError, match="uses a connection whose transaction began before"):
            querywatch.prove(lambda: connection.execute(COUNT).all())
        connection.commit()
    assert count_users(engine) == USERS + 1


# -- what is rolled back


def flush(session):
    session.add(new_user())
    session.flush()
    return list_users(session)


def release_savepoint(session):
    with session.begin_nested():
        session.add(new_user())
    return list_users(session)


def insert_after_savepoint(session):
    with session.begin_nested():
        session.execute(sa.insert(User).values(name="new", bio=""))
    session.execute(sa.update(User).values(name="changed"))
    return list_users(session)


def roll_back(session):
    session.add(new_user())
    session.flush()
    session.rollback()
    session.add(new_user())
    return list_users(session)


def use_temporary_table(session):
    session.execute(sa.text("CREATE TEMPORARY TABLE chosen (id INTEGER)"))
    session.execute(sa.text("INSERT INTO chosen VALUES (1)"))
    return list_users(session)


@pytest.mark.parametrize("function", [flush, release_savepoint, insert_after_savepoint, roll_back, use_temporary_table])
def test_writes_without_a_commit_are_rolled_back(engine, function):
    before = describe(engine)
    replay = querywatch.prove(function, engine=engine)
    assert replay.helps
    assert count_users(engine) == USERS
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).where(User.name == "changed")) == 0
    assert describe(engine) == before


def test_what_is_left_open_is_rolled_back(engine):
    kept = []

    def leave_open():
        connection = engine.connect()
        kept.append(connection)
        connection.execute(sa.insert(User).values(name="new", bio=""))
        session = Session(engine)
        kept.append(session)
        session.execute(COUNT)

    querywatch.prove(leave_open)
    connection, session = kept
    assert not connection.in_transaction()
    assert not session.in_transaction()
    connection.commit()
    session.commit()
    connection.close()
    assert count_users(engine) == USERS


def test_the_documented_recipe_for_sqlite_keeps_working(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/shop.db")

    @sa.event.listens_for(engine, "connect")
    def connect(dbapi_connection, _record):
        dbapi_connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def begin(connection):
        connection.exec_driver_sql("BEGIN")

    fill(engine)
    assert querywatch.prove(insert_after_savepoint, engine=engine).helps
    assert count_users(engine) == USERS
    engine.dispose()


@pytest.mark.parametrize("pool", [None, StaticPool], ids=["of-a-thread", "static"])
def test_the_rows_of_a_database_in_memory_stay(pool):
    engine = sa.create_engine("sqlite://", poolclass=pool)
    fill(engine)
    assert querywatch.prove(release_savepoint, engine=engine).helps
    with pytest.raises(ReplayError):
        querywatch.prove(lambda: commit_session(engine))
    assert count_users(engine) == USERS
    engine.dispose()


# -- errors and afterwards


def test_an_error_of_the_callable_is_its_own(engine):
    before = describe(engine)

    def fail(session):
        session.add(new_user())
        session.flush()
        raise LookupError("no such user")

    with pytest.raises(LookupError, match="no such user"):
        querywatch.prove(fail, engine=engine)
    assert describe(engine) == before
    assert count_users(engine) == USERS


@pytest.mark.parametrize("capture", ["methods", "events"])
def test_a_watched_engine_is_watched_as_before(engine, capture):
    with watching(engine, capture=capture) as monitor:
        count_users(engine)
        before = describe(engine)
        assert querywatch.prove(flush, engine=engine).before.statements == USERS + 3
        with pytest.raises(ReplayError):
            querywatch.prove(lambda: commit_session(engine))
        assert describe(engine) == before
        count_users(engine)
        assert count(monitor) == 2


def test_a_paused_monitor_stays_paused(engine):
    with watching(engine) as monitor:
        monitor.pause()
        assert querywatch.prove(list_users, engine=engine).helps
        count_users(engine)
        assert count(monitor) == 0


def test_listeners_of_the_application_stay(engine):
    heard = []

    def hear(connection):
        heard.append(connection)

    sa.event.listen(sa.Engine, "commit", hear)
    try:
        querywatch.prove(list_users, engine=engine)
        assert sa.Engine._has_events
        begin_connection(engine)
        assert len(heard) == 1
    finally:
        sa.event.remove(sa.Engine, "commit", hear)
        sa.Engine._has_events = False


def test_one_replay_at_a_time(engine):
    with pytest.raises(ReplayError, match="cannot be replayed while another replay runs"):
        querywatch.prove(lambda session: querywatch.prove(list_users, engine=engine), engine=engine)
    assert querywatch.prove(list_users, engine=engine).helps


def test_another_thread_cannot_commit_meanwhile_and_can_afterwards(engine):
    refused = []

    def meanwhile():
        with pytest.raises(ReplayError):
            commit_session(engine)
        refused.append(True)

    def read(session):
        thread = threading.Thread(target=meanwhile)
        thread.start()
        thread.join()
        return list_users(session)

    with pytest.raises(ReplayError):
        querywatch.prove(read, engine=engine)
    assert refused
    commit_session(engine)
    assert count_users(engine) == USERS + 1


# -- async


@pytest.mark.parametrize("driver", ["aiosqlite", "asyncpg", "psycopg"])
def test_an_async_callable_is_refused_and_rolled_back_too(request, tmp_path, driver):
    if driver == "aiosqlite":
        plain, url = f"sqlite:///{tmp_path}/shop.db", f"sqlite+aiosqlite:///{tmp_path}/shop.db"
    else:
        plain = request.getfixturevalue("postgres_database")
        url = plain.replace("+psycopg", f"+{driver}")
    engine = sa.create_engine(plain)
    fill(engine)

    async def save(session):
        session.add(new_user())
        await session.commit()

    async def flush_only(session):
        async with session.begin_nested():
            session.add(new_user())
        return await session.run_sync(list_users)

    kept = []

    async def leave_open(session):
        other = AsyncSession(session.bind)
        kept.append(other)
        other.add(new_user())
        await other.flush()

    async def main():
        async_engine = create_async_engine(url)
        with pytest.raises(ReplayError, match=r"save cannot be replayed: it commits at .*test_guard.py:"):
            await querywatch.aprove(save, engine=async_engine)
        assert (await querywatch.aprove(flush_only, engine=async_engine)).helps
        await querywatch.aprove(leave_open, engine=async_engine)
        await kept[0].commit()
        assert async_engine.pool.checkedout() == 0
        await async_engine.dispose()

    asyncio.run(main())
    assert count_users(engine) == USERS
    engine.dispose()


# -- how it is called


async def read_async(session):
    return session


@pytest.mark.parametrize(
    ("function", "given", "message"),
    [
        pytest.param(read_async, {}, "read_async is async. Write: await querywatch.aprove", id="async-function"),
        pytest.param(
            lambda: asyncio.sleep(0),
            {},
            "<lambda> returns an awaitable. Write: await querywatch.aprove",
            id="awaitable",
        ),
        pytest.param(lambda session, limit: 1, {}, "takes 2 arguments.*functools.partial", id="two-arguments"),
        pytest.param(lambda: 1, {"session": sessionmaker()}, "takes no argument", id="session-for-nobody"),
        pytest.param(lambda session: 1, {}, "takes a session, and 0 engines are watched", id="no-engine"),
        pytest.param(lambda session: 1, {"engine": "sqlite://"}, "must be a SQLAlchemy Engine, got str", id="url"),
        pytest.param(lambda session: 1, {"session": 1}, "must make a new session each time.*got int", id="no-factory"),
        pytest.param(lambda: 1, {"slow_query": 1}, "slow_query", id="unknown-setting"),
    ],
)
def test_says_how_it_is_called(function, given, message):
    with pytest.raises(ConfigError, match=message):
        querywatch.prove(function, **given)


def test_an_async_engine_belongs_to_aprove(tmp_path):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/shop.db")
    with pytest.raises(ConfigError, match=r"got AsyncEngine. Write: await querywatch.aprove"):
        querywatch.prove(list_users, engine=engine)
    with pytest.raises(ConfigError, match="must be a SQLAlchemy AsyncEngine, got Engine"):
        asyncio.run(querywatch.aprove(read_async, engine=sa.create_engine("sqlite://")))


def test_a_scoped_session_that_was_left_in_use_is_refused(engine):
    registry = scoped_session(sessionmaker(engine))
    assert registry.get(User, 1) is not None
    with pytest.raises(ReplayError, match="was in use before"):
        querywatch.prove(lambda: list_users(registry))
    registry.remove()
