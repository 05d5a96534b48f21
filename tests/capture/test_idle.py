"""Connections that are held while no statement runs, by a clock that only the test and its statements move."""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest
import sqlalchemy as sa
from clock import stop_clock
from counted import describe, scoped, watching
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import querywatch
from querywatch.samples import open_scopes

HERE = "tests/capture/test_idle.py"


class Base(DeclarativeBase):
    pass


class Thing(Base):
    __tablename__ = "things"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]


@pytest.fixture
def clock(monkeypatch):
    return stop_clock(monkeypatch)


@pytest.fixture
def engine(tmp_path, clock):
    """SQLite in a file; `SELECT work(0.7)` takes 0.7 seconds of the clock."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    sa.event.listen(engine, "connect", lambda raw, _record: raw.create_function("work", 1, clock.advance))
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(Thing), [{"id": number} for number in range(1, 21)])
    yield engine
    engine.dispose()


@pytest.fixture
def monitor(engine, capture):
    with watching(engine, capture=capture, long_transaction_s=0.5) as monitor:
        yield monitor


def between_statements(engine, clock, seconds):
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        clock.advance(seconds)
        connection.exec_driver_sql("SELECT name FROM things").all()


def before_the_first_statement(engine, clock, seconds):
    with engine.connect() as connection:
        clock.advance(seconds)
        connection.exec_driver_sql("SELECT 1")


def before_a_commit(engine, clock, seconds):
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        clock.advance(seconds)
        connection.commit()


def before_a_rollback(engine, clock, seconds):
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        clock.advance(seconds)
        connection.rollback()


def before_the_check_in(engine, clock, seconds):
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        clock.advance(seconds)


def after_a_commit(engine, clock, seconds):
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        connection.commit()
        clock.advance(seconds)
        connection.exec_driver_sql("SELECT 2")


def before_a_statement_that_fails(engine, clock, seconds):
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        clock.advance(seconds)
        with pytest.raises(sa.exc.OperationalError):
            connection.exec_driver_sql("SELECT nothing")


def after_a_statement_that_failed(engine, clock, seconds):
    with engine.connect() as connection:
        with pytest.raises(sa.exc.OperationalError):
            connection.exec_driver_sql("SELECT nothing")
        clock.advance(seconds)


def with_a_second_connection(engine, clock, seconds):
    with engine.connect() as first:
        first.exec_driver_sql("SELECT 1")
        with engine.connect() as second:
            second.exec_driver_sql("SELECT 2")
            clock.advance(seconds)


IDLE = [
    between_statements,
    before_the_first_statement,
    before_a_commit,
    before_a_rollback,
    before_the_check_in,
    after_a_commit,
    before_a_statement_that_fails,
    after_a_statement_that_failed,
    with_a_second_connection,
]


@pytest.mark.parametrize("program", IDLE)
@pytest.mark.parametrize("seconds", [0.4, 0.6])
def test_a_connection_is_held_and_nothing_runs(engine, monitor, clock, program, seconds):
    with scoped() as scope:
        program(engine, clock, seconds)
    times = [seconds] if seconds >= monitor.config.long_transaction_s else []
    assert [round(idle.seconds, 3) for idle in describe(scope, monitor).idle] == times


def nothing_is_held(engine, clock):
    for _ in range(2):
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
        clock.advance(0.6)


def a_slow_statement(engine, clock):
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        connection.exec_driver_sql("SELECT work(0.6)").all()
        connection.exec_driver_sql("SELECT 2")


def a_slow_fetch(engine, clock):
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT id, work(0.1) FROM things LIMIT 7").all()
        connection.exec_driver_sql("SELECT 2")


def two_short_times(engine, clock):
    with engine.connect() as connection:
        for _ in range(3):
            connection.exec_driver_sql("SELECT 1")
            clock.advance(0.4)


def a_cursor_of_the_drivers(engine, clock):
    connection = engine.raw_connection()
    connection.cursor().execute("SELECT work(0.6)").fetchall()
    connection.close()


def a_result_that_is_read_as_it_comes(engine, clock):
    with engine.connect() as connection, engine.connect() as other:
        for _row in connection.execute(sa.select(Thing.id), execution_options={"yield_per": 5}):
            clock.advance(0.6)
            other.execute(sa.select(sa.func.count()))


def a_statement_in_a_scope_inside(engine, clock):
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        clock.advance(0.4)
        with querywatch.watch("inside"):
            connection.exec_driver_sql("SELECT 2")
        with querywatch.watch("empty"):
            clock.advance(0.4)


def a_detached_connection(engine, clock):
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        connection.detach()
    clock.advance(0.6)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")


@pytest.mark.parametrize(
    "program",
    [
        nothing_is_held,
        a_slow_statement,
        a_slow_fetch,
        two_short_times,
        a_cursor_of_the_drivers,
        a_result_that_is_read_as_it_comes,
        a_statement_in_a_scope_inside,
        a_detached_connection,
    ],
)
def test_a_connection_works_or_is_not_held(engine, monitor, clock, program):
    with scoped() as scope:
        program(engine, clock)
    assert describe(scope, monitor).idle == ()


def test_a_result_that_was_read_to_its_end_is_no_excuse(engine, monitor, clock):
    with scoped() as scope, engine.connect() as connection:
        connection.execute(sa.select(Thing.id), execution_options={"yield_per": 5}).all()
        clock.advance(0.6)
        connection.execute(sa.select(sa.func.count()))
    assert [round(idle.seconds, 3) for idle in describe(scope, monitor).idle] == [0.6]


def test_the_time_of_a_fetch_is_taken_off(engine, monitor, clock):
    with scoped() as scope, engine.connect() as connection:
        connection.exec_driver_sql("SELECT id, work(0.3) FROM things LIMIT 3").all()
        clock.advance(0.6)
        connection.exec_driver_sql("SELECT 2")
    assert [round(idle.seconds, 3) for idle in describe(scope, monitor).idle] == [0.6]


def test_making_objects_of_rows_is_reading(engine, monitor, clock):
    with scoped() as scope, engine.connect() as connection:
        rows = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 10000) SELECT x FROM n"
        assert len(connection.exec_driver_sql(rows).all()) == 10_000
        clock.advance(0.9)
        connection.exec_driver_sql("SELECT 2")
    assert describe(scope, monitor).idle == ()


def test_the_lines_before_and_after(engine, monitor, clock):
    with scoped() as scope, Session(engine) as session:
        session.scalars(sa.select(Thing)).all()
        before = line() - 1
        clock.advance(0.6)
        session.add(Thing(id=100))
        session.flush()
        after = line() - 1
    [idle] = describe(scope, monitor).idle
    assert (str(idle.call_site), str(idle.end_site)) == (f"{HERE}:{before}", f"{HERE}:{after}")
    assert idle.statement.startswith("SELECT things.id")
    assert (idle.in_transaction, idle.is_repeated) == (True, False)


def line():
    return inspect.currentframe().f_back.f_lineno


def test_a_line_that_was_not_recorded_is_not_guessed(engine, monitor, clock):
    with scoped() as scope:
        between_statements(engine, clock, 0.6)
    [idle] = describe(scope, monitor).idle
    assert (idle.call_site, idle.statement, idle.end_site.function) == (None, "SELECT ?", "between_statements")


def test_the_longest_three_are_kept(engine, monitor, clock):
    with scoped() as scope, engine.connect() as connection:
        for seconds in (0.6, 0.9, 0.7, 0.8):
            connection.exec_driver_sql("SELECT 1")
            clock.advance(seconds)
    assert [round(idle.seconds, 3) for idle in describe(scope, monitor).idle] == [0.9, 0.8, 0.7]


def test_what_ends_it_may_be_the_same_statement(engine, monitor, clock):
    with scoped() as scope, engine.connect() as connection:
        for _ in range(2):
            connection.exec_driver_sql("SELECT 1")
            clock.advance(0.6)
    assert [idle.is_repeated for idle in describe(scope, monitor).idle] == [True, False]


def test_a_statement_on_another_connection_runs_all_the_while(engine, monitor, clock):
    begun, done = threading.Event(), threading.Event()

    def wait(_seconds):
        begun.set()
        return done.wait(10)

    with scoped() as scope, engine.connect() as first, engine.connect() as second, ThreadPoolExecutor() as threads:
        first.connection.driver_connection.create_function("work", 1, wait)
        second.exec_driver_sql("SELECT 1")
        # A thread has no scope of its own accord.
        running = threads.submit(copy_context().run, first.exec_driver_sql, "SELECT work(5)")
        try:
            assert begun.wait(10)
            clock.advance(0.6)
            second.exec_driver_sql("SELECT 2")
            assert len(scope.holding.idle) == 1
        finally:
            done.set()
        running.result(10)
    assert describe(scope, monitor).idle == ()


class TestWithoutAScope:
    """The scope is the connection's checkout."""

    @staticmethod
    def list_idle(program, engine, clock, monitor):
        found = []
        monitor._listeners.scope_callbacks.append(lambda _scope, record, _findings: found.extend(record.idle))
        program(engine, clock, 0.6)
        assert monitor.flush(60)
        return [round(idle.seconds, 3) for idle in found]

    @pytest.mark.parametrize(
        ("program", "times"),
        [
            pytest.param(between_statements, [0.6], id="within-a-transaction"),
            pytest.param(before_the_check_in, [0.6], id="before-the-check-in"),
            pytest.param(after_a_commit, [], id="a-worker-that-waits-for-work"),
            pytest.param(before_the_first_statement, [], id="a-connection-in-reserve"),
        ],
    )
    def test_a_transaction_must_be_open(self, engine, monitor, clock, program, times):
        assert self.list_idle(program, engine, clock, monitor) == times

    def test_a_connection_of_a_scope_that_ended_is_held_by_its_own(self, engine, monitor, clock):
        with scoped() as scope:
            connection = engine.connect()
            connection.exec_driver_sql("SELECT 1")
        connection.exec_driver_sql("SELECT 2")
        clock.advance(0.6)
        assert scope.holding.held == 0
        [own] = [each for each in open_scopes.values() if each.kind == "checkout" and each.holding.held]
        connection.close()
        assert (own.holding.held, len(own.holding.idle)) == (0, 1)
        assert describe(scope, monitor).idle == ()


def test_a_check_in_in_another_task(tmp_path, clock, capture):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}")

    async def main():
        with scoped() as scope:
            connection = await engine.connect()
            await connection.exec_driver_sql("SELECT 1")
        clock.advance(0.6)
        await asyncio.create_task(connection.close())
        await engine.dispose()
        return scope

    with watching(engine, capture=capture, long_transaction_s=0.5):
        scope = asyncio.run(main())
    assert (scope.holding.held, scope.holding.checkouts) == (0, 1)


def test_a_server_side_cursor_is_read_as_it_comes(postgres_database, clock, capture):
    engine = sa.create_engine(postgres_database)
    numbers = sa.text("SELECT generate_series(1, 20)").execution_options(stream_results=True, max_row_buffer=5)
    with watching(engine, capture=capture, long_transaction_s=0.5) as monitor:
        with scoped() as scope, engine.connect() as connection:
            for row in connection.execute(numbers):
                clock.advance(0.6)
                if row[0] == 10:
                    connection.exec_driver_sql("SELECT 1")
        assert describe(scope, monitor).idle == ()
        with scoped() as scope, engine.connect() as connection:
            between_statements_of(connection, clock)
        assert [round(idle.seconds, 3) for idle in describe(scope, monitor).idle] == [0.6]
    engine.dispose()


def between_statements_of(connection, clock):
    connection.exec_driver_sql("SELECT 1")
    clock.advance(0.6)
    connection.exec_driver_sql("SELECT 2")
