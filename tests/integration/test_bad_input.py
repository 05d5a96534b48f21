"""What applications do wrong: every statement is counted once, where it belongs, and nothing of ours raises or stays.

Each test ends with no scope open, no internal error, and the exact number of calls of each scope.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading

import pytest
import sqlalchemy as sa
from counted import watching
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.orm.exc import DetachedInstanceError

import querywatch
from querywatch.samples import current_scope, open_scopes
from querywatch.scope import close_scope, open_scope

USERS = 8

# psycopg complains of what is abandoned, which is what some of these applications do wrong.
pytestmark = pytest.mark.filterwarnings("ignore:<psycopg.:ResourceWarning")


class Model(DeclarativeBase):
    pass


class User(Model):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    orders: Mapped[list[Order]] = relationship()


class Order(Model):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"), index=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'shop.db'}"
    else:
        url = request.getfixturevalue("postgres_database")
    engine = sa.create_engine(url)
    Model.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(User(orders=[Order(), Order()]) for _ in range(USERS))
        session.commit()
    engine.dispose()
    return url


@pytest.fixture
def engine(url):
    engine = sa.create_engine(url)
    with engine.connect():
        pass  # SQLAlchemy asks a server that it meets for its version and more; what follows is about the application
    yield engine
    engine.dispose()


@pytest.fixture
def monitor(engine):
    with watching(engine) as monitor:
        yield monitor


@pytest.fixture(autouse=True)
def nothing_stays():
    before = list(open_scopes.values())
    yield
    gc.collect()
    assert current_scope.get() is None
    assert [scope for scope in open_scopes.values() if scope not in before] == []


def scopes_of(monitor):
    """Return scopes and calls by name and kind, and see that statistics by statement have the same sum."""
    assert monitor.flush(60)
    scopes = {(stats.name, stats.kind): (stats.scopes, stats.calls) for stats in monitor.snapshot().scopes}
    assert sum(calls for _, calls in scopes.values()) == sum(stats.calls for stats in monitor.queries())
    return scopes


def findings_of(monitor):
    return [(one.code, one.subject, one.scope, one.count) for one in monitor.findings() if one.code == "n-plus-one"]


def ask(bind, times=1):
    with bind.connect() as connection:
        for number in range(times):
            connection.execute(sa.select(User.id).where(User.id == number)).all()


# -- sessions and instances


def test_a_session_that_is_closed_while_it_is_read(engine, monitor):
    with querywatch.watch("job"):
        session = Session(engine)
        read = 0
        with pytest.raises((sa.exc.InvalidRequestError, sa.exc.DBAPIError)):  # noqa: PT012 - the loop is what is tested
            for _ in session.scalars(select_users(yield_per=2)):
                read += 1
                session.close()
        ask(engine)
    assert read < USERS
    assert scopes_of(monitor) == {("job", "watch"): (1, 2)}


def select_users(**options):
    return sa.select(User).order_by(User.id).execution_options(**options)


def test_a_result_that_is_read_by_halves(engine, monitor):
    with querywatch.watch("job"), Session(engine) as session:
        result = session.scalars(select_users(yield_per=2))
        assert next(result).id == 1
    with querywatch.watch("next"):
        ask(engine)
    del result
    assert scopes_of(monitor) == {("job", "watch"): (1, 1), ("next", "watch"): (1, 1)}


def test_a_lazy_load_that_fails(engine, monitor):
    with querywatch.watch("job"), Session(engine) as session:
        users = session.scalars(select_users()).all()
        len(users[0].orders)
        session.execute(sa.text("ALTER TABLE orders RENAME TO sold"))
        for _ in range(2):
            # The second one finds the transaction of a PostgreSQL aborted.
            with pytest.raises(sa.exc.DBAPIError):
                len(users[1].orders)
        session.rollback()
        mend(engine.url)
        # The rollback has expired them: this one and each one after it is read again first.
        assert len(users[1].orders) == 2
    assert scopes_of(monitor) == {("job", "watch"): (1, 7)}
    failed = [sum(one.count for one in stats.errors) for stats in monitor.queries() if stats.errors]
    assert failed == [2]


def mend(url):
    """Give the table its name back where no rollback did, over a connection that nobody watches."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        if sa.inspect(connection).has_table("sold"):
            connection.execute(sa.text("ALTER TABLE sold RENAME TO orders"))


def test_instances_that_are_detached(engine, monitor):
    with querywatch.watch("job"):
        with Session(engine) as session:
            users = session.scalars(select_users()).all()
        for user in users:
            with pytest.raises(DetachedInstanceError):
                len(user.orders)
    assert scopes_of(monitor) == {("job", "watch"): (1, 1)}
    assert findings_of(monitor) == []


def test_a_lazy_load_behind_the_end_of_the_scope_is_not_the_scopes(engine, monitor):
    session = Session(engine)
    with querywatch.watch("job"):
        users = session.scalars(select_users()).all()
    for user in users:
        len(user.orders)
    session.close()
    assert scopes_of(monitor) == {("job", "watch"): (1, 1), (None, "checkout"): (1, USERS)}
    assert findings_of(monitor) == [("n-plus-one", "User.orders", None, USERS)]


# -- connections


def test_a_connection_that_is_detached_ends_its_checkout(engine, monitor):
    with engine.connect() as connection:
        connection.execute(sa.select(User.id)).all()
        connection.detach()
        assert scopes_of(monitor) == {(None, "checkout"): (1, 1)}
        connection.execute(sa.select(User.id)).all()
        connection.execute(sa.select(User.id)).all()
    del connection
    assert scopes_of(monitor) == {(None, "checkout"): (2, 3)}
    ask(engine)
    assert scopes_of(monitor) == {(None, "checkout"): (3, 4)}


def test_a_connection_that_is_detached_in_a_scope_stays_the_scopes(engine, monitor):
    with querywatch.watch("job"):
        connection = engine.connect()
        connection.execute(sa.select(User.id)).all()
        connection.detach()
        connection.execute(sa.select(User.id)).all()
        connection.close()
        ask(engine)
    assert scopes_of(monitor) == {("job", "watch"): (1, 3)}


def test_a_connection_that_is_detached_and_forgotten(engine, monitor):
    connection = engine.connect()
    driver = connection.connection.dbapi_connection
    connection.detach()
    connection.execute(sa.select(User.id)).all()
    del connection
    gc.collect()
    driver.close()
    assert scopes_of(monitor) == {(None, "checkout"): (1, 1)}


@pytest.mark.parametrize("is_in_scope", [False, True], ids=["no-scope", "in-a-scope"])
def test_a_connection_that_is_invalidated_begins_anew(engine, monitor, is_in_scope):
    scope = querywatch.watch("job") if is_in_scope else None
    if scope is not None:
        scope.__enter__()
    with engine.connect() as connection:
        connection.execute(sa.select(User.id)).all()
        connection.rollback()
        connection.invalidate()
        connection.execute(sa.select(User.id)).all()
        connection.execute(sa.select(User.id)).all()
    if scope is not None:
        scope.__exit__(None, None, None)
    assert scopes_of(monitor) == ({("job", "watch"): (1, 3)} if is_in_scope else {(None, "checkout"): (2, 3)})


def test_connections_that_nobody_gives_back(engine, monitor):
    for _ in range(3):
        connection = engine.connect()
        connection.execute(sa.select(User.id)).all()
        del connection
        gc.collect()
    assert scopes_of(monitor) == {(None, "checkout"): (3, 3)}


def test_a_pool_that_is_disposed_of_while_its_connections_are_out(engine, monitor):
    with engine.connect() as connection:
        connection.execute(sa.select(User.id)).all()
        engine.dispose()
        connection.execute(sa.select(User.id)).all()
    ask(engine)
    assert scopes_of(monitor) == {(None, "checkout"): (2, 3)}


# -- scopes


def test_scopes_in_scopes_hold_their_own(engine, monitor):
    with querywatch.watch("outer"):
        ask(engine, 1)
        with querywatch.watch("inner"):
            ask(engine, 2)
            with querywatch.watch("innermost"):
                ask(engine, 3)
            ask(engine, 2)
        ask(engine, 1)
    assert scopes_of(monitor) == {
        ("outer", "watch"): (1, 2),
        ("inner", "watch"): (1, 4),
        ("innermost", "watch"): (1, 3),
    }
    assert findings_of(monitor) == []


def test_a_session_that_goes_on_through_several_scopes(engine, monitor):
    with Session(engine) as session:
        for number in range(4):
            with querywatch.watch(f"request {number % 2}"):
                for user in session.scalars(select_users().offset(2 * number).limit(2)):
                    len(user.orders)
    assert scopes_of(monitor) == {("request 0", "watch"): (2, 6), ("request 1", "watch"): (2, 6)}
    assert findings_of(monitor) == []


def test_a_scope_that_is_never_closed_is_counted_and_disturbs_nobody(engine, monitor):
    kept = []

    def forget():
        kept.append(open_scope("forgotten", "request"))
        ask(engine, 2)

    contextvars.copy_context().run(forget)
    with querywatch.watch("other"):
        ask(engine, 3)
    assert monitor.flush(60)
    assert sum(stats.calls for stats in monitor.queries()) == 5
    contextvars.copy_context().run(close_scope, kept[0])
    assert scopes_of(monitor) == {("forgotten", "request"): (1, 2), ("other", "watch"): (1, 3)}


@pytest.mark.parametrize("where", ["thread", "context", "twice", "out-of-order"])
def test_a_scope_that_is_closed_somewhere_else(engine, monitor, where):
    scope = open_scope("job", "request")
    ask(engine, 2)
    if where == "thread":
        thread = threading.Thread(target=close_scope, args=[scope])
        thread.start()
        thread.join()
    elif where == "context":
        contextvars.copy_context().run(close_scope, scope)
    elif where == "twice":
        close_scope(scope)
        close_scope(scope, "another name")
    else:
        inner = open_scope("inner", "request")
        close_scope(scope)
        ask(engine)
        close_scope(inner, outer=scope)
    ask(engine)  # the variable may still hold the closed scope: this one is nobody's
    inner = {("inner", "request"): (1, 1)} if where == "out-of-order" else {}
    assert scopes_of(monitor) == {("job", "request"): (1, 2), (None, "checkout"): (1, 1), **inner}
    current_scope.set(None)


def test_a_watch_that_is_left_more_often_than_entered(engine, monitor):
    job = querywatch.watch("job")
    with job:
        ask(engine)
        job.__exit__(None, None, None)
        ask(engine)
    job.__exit__(None, None, None)
    assert scopes_of(monitor) == {("job", "watch"): (1, 1), (None, "checkout"): (1, 1)}


@pytest.mark.parametrize("is_decorated", [False, True], ids=["with", "decorator"])
def test_a_generator_that_is_abandoned_with_its_scope_open(engine, monitor, is_decorated):
    def read():
        with Session(engine) as session:
            yield from session.scalars(select_users(yield_per=2))

    def read_watched():
        with querywatch.watch("export"):
            yield from read()

    for _ in range(2):
        rows = querywatch.watch("export")(read)() if is_decorated else read_watched()
        next(rows)
        del rows
        gc.collect()
    ask(engine)
    assert scopes_of(monitor) == {("export", "watch"): (2, 2), (None, "checkout"): (1, 1)}


def test_an_exception_out_of_every_depth(engine, monitor):
    with pytest.raises(LookupError), querywatch.watch("outer"), Session(engine) as session:  # noqa: PT012
        session.scalars(select_users()).all()
        with querywatch.watch("inner"):
            ask(engine)
            raise LookupError
    assert scopes_of(monitor) == {("outer", "watch"): (1, 1), ("inner", "watch"): (1, 1)}


def test_threads_that_break_off_in_the_middle(engine, monitor):
    def work(number):
        try:
            with querywatch.watch(f"job {number % 2}"), Session(engine) as session:
                for user in session.scalars(select_users()).all():
                    len(user.orders)
                    if user.id == 3:
                        raise LookupError  # noqa: TRY301 - as applications do
        except LookupError:
            pass

    threads = [threading.Thread(target=work, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scopes_of(monitor) == {("job 0", "watch"): (3, 12), ("job 1", "watch"): (3, 12)}
    assert findings_of(monitor) == []


# -- tasks that are cancelled


@pytest.fixture
def async_url(url):
    return url.replace("sqlite://", "sqlite+aiosqlite://").replace("+psycopg", "+asyncpg")


def run_async(url, work):
    """Run *work* with an async engine and its monitor, which it returns the scopes of."""

    async def main():
        engine = create_async_engine(url)
        async with engine.connect():
            pass
        with watching(engine) as monitor:
            await work(engine)
            await engine.dispose()
            assert await monitor.aflush(60)
            return scopes_of(monitor)

    return asyncio.run(main())


async def count_users(session, times):
    for number in range(times):
        await session.scalar(sa.select(User.id).where(User.id == number))


def test_a_task_that_is_cancelled_between_two_statements(async_url):
    async def work(engine):
        begun = asyncio.Event()

        async def request():
            with querywatch.watch("request"):
                async with AsyncSession(engine) as session:
                    await count_users(session, 2)
                    begun.set()
                    await asyncio.Event().wait()

        task = asyncio.create_task(request())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with querywatch.watch("next"):
            async with AsyncSession(engine) as session:
                await count_users(session, 3)

    assert run_async(async_url, work) == {("request", "watch"): (1, 2), ("next", "watch"): (1, 3)}


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
@pytest.mark.parametrize("has_scope", [True, False], ids=["in-a-scope", "no-scope"])
@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
def test_a_task_that_is_cancelled_in_the_middle_of_a_statement(url, driver, has_scope):
    async def work(engine):
        async with engine.connect() as watching_it:
            server = await watching_it.execution_options(isolation_level="AUTOCOMMIT")

            async def request():
                with querywatch.watch("request") if has_scope else querywatch.watch("around"):
                    if not has_scope:
                        current_scope.set(None)
                    async with AsyncSession(engine) as session:
                        await session.scalar(sa.select(User.id).limit(1))
                        await session.execute(sa.text("SELECT pg_sleep(60)"))

            task = asyncio.create_task(request())
            with querywatch.watch("polling"):
                busy = sa.text("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'")
                while not await server.scalar(busy):  # noqa: ASYNC110 - only the server knows
                    await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with querywatch.watch("next"):
                async with AsyncSession(engine) as session:
                    await count_users(session, 3)

    scopes = run_async(url.replace("+psycopg", f"+{driver}"), work)
    scopes.pop(("polling", "watch"))
    # The statement that was cut off has run, and failed.
    whose = ("request", "watch") if has_scope else (None, "checkout")
    assert scopes == {whose: (1, 2), ("next", "watch"): (1, 3)}


def test_requests_at_the_same_time_of_which_some_are_cancelled(async_url):
    async def work(engine):
        async def request(number):
            with querywatch.watch(f"request {number % 2}"):
                async with AsyncSession(engine) as session:
                    await count_users(session, 4)
                    if number % 2:
                        asyncio.current_task().cancel()
                        await asyncio.sleep(0)
                    await count_users(session, 1)

        outcomes = await asyncio.gather(*(request(number) for number in range(8)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes[1::2]] == [asyncio.CancelledError] * 4
        assert outcomes[::2] == [None] * 4

    assert run_async(async_url, work) == {("request 0", "watch"): (4, 20), ("request 1", "watch"): (4, 16)}


def test_a_scope_that_ends_in_another_task_than_its_statements(async_url):
    async def work(engine):
        scope = open_scope("stream", "request")
        async with AsyncSession(engine) as session:
            await count_users(session, 2)

            async def end():
                await count_users(session, 1)
                close_scope(scope)

            await asyncio.create_task(end())
            await count_users(session, 1)

    assert run_async(async_url, work) == {("stream", "request"): (1, 3), (None, "checkout"): (1, 1)}
