"""Waits for a connection of a pool that is at its limit: real pools, real waits of some hundredths of a second."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
import sqlalchemy as sa
from clock import stop_clock
from counted import describe, scoped, watching
from sqlalchemy.ext.asyncio import create_async_engine

import querywatch

WAIT_S = 0.03
LIMIT_S = 0.02
SMALL = {"pool_size": 1, "max_overflow": 0}


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'shop.db'}"


@pytest.fixture
def make_engine(url):
    engines = []

    def make(**keywords):
        engines.append(sa.create_engine(url, **SMALL | keywords))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


def give_back_soon(connection):
    threading.Timer(WAIT_S, connection.close).start()


def test_a_wait_is_the_scopes(make_engine, capture):
    engine = make_engine()
    with watching(engine, capture=capture, pool_wait_s=LIMIT_S) as monitor:
        give_back_soon(engine.connect())
        with scoped() as scope, engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
        record = describe(scope, monitor)
    assert (record.checkouts, record.pool_waits, record.pool_timeouts) == (1, 1, 0)
    assert record.longest_wait.seconds == record.pool_wait_s
    assert LIMIT_S <= record.pool_wait_s < 5
    assert (record.longest_wait.database, record.longest_wait.size, record.longest_wait.overflow) == ("shop.db", 1, 0)
    assert record.longest_wait.call_site.function == "test_a_wait_is_the_scopes"


def test_a_short_wait_is_none(make_engine):
    engine = make_engine()
    with watching(engine, pool_wait_s=60.0) as monitor:
        give_back_soon(engine.connect())
        with scoped() as scope, engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
        record = describe(scope, monitor)
    assert (record.pool_waits, record.longest_wait.call_site) == (0, None)
    assert 0.001 < record.pool_wait_s < 5


def test_a_wait_without_a_scope_is_its_checkouts(make_engine):
    engine = make_engine()
    records = []
    with watching(engine, pool_wait_s=LIMIT_S) as monitor:
        monitor._listeners.scope_callbacks.append(lambda _scope, record, _findings: records.append(record))
        give_back_soon(engine.connect())
        with engine.connect():
            pass  # not even a statement
        assert monitor.flush(60)
    assert [(record.kind, record.pool_waits) for record in records] == [("checkout", 1)]


def test_a_wait_in_an_async_program(tmp_path):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}", **SMALL)

    async def main():
        first = await engine.connect()
        asyncio.get_running_loop().call_later(WAIT_S, lambda: tasks.append(asyncio.create_task(first.close())))
        with scoped() as scope:
            async with engine.connect() as connection:
                await connection.exec_driver_sql("SELECT 1")
        await tasks[0]
        await engine.dispose()
        return scope

    tasks = []
    with watching(engine, pool_wait_s=LIMIT_S) as monitor:
        record = describe(asyncio.run(main()), monitor)
    assert (record.pool_waits, record.longest_wait.call_site.function) == (1, "main")


class Quicker(sa.pool.QueuePool):
    """Another thread is always quicker to open the last connection, so that the pool asks itself again."""

    def _inc_overflow(self):
        self._overflow = self._max_overflow
        return False


@pytest.mark.parametrize("poolclass", [sa.pool.QueuePool, Quicker])
def test_a_time_out_is_counted_once_and_raised(make_engine, poolclass):
    engine = make_engine(pool_timeout=WAIT_S, poolclass=poolclass)
    with watching(engine, pool_wait_s=LIMIT_S) as monitor:
        held = engine.connect() if poolclass is sa.pool.QueuePool else None
        with (
            scoped() as scope,
            pytest.raises(sa.exc.TimeoutError, match="QueuePool limit of size 1 overflow 0 reached"),
        ):
            engine.connect()
        if held is not None:
            held.close()
        [finding] = monitor.findings() if monitor.flush(60) else []
        record = describe(scope, monitor)
    assert (record.pool_waits, record.pool_timeouts, record.checkouts) == (0, 1, 0)
    # Also of a scope in which no statement ran.
    assert (finding.code, finding.subject, finding.severity) == ("pool-wait", "test", "error")


def test_a_time_out_without_a_scope(make_engine):
    engine = make_engine(pool_timeout=WAIT_S)
    with watching(engine, pool_wait_s=LIMIT_S) as monitor, engine.connect():
        with pytest.raises(sa.exc.TimeoutError):
            engine.connect()
        [finding] = monitor.findings() if monitor.flush(60) else []
    assert (finding.code, finding.subject, finding.count) == ("pool-wait", str(finding.call_site), 1)


def test_opening_a_connection_is_no_waiting(tmp_path):
    import sqlite3  # noqa: PLC0415

    def connect():
        time.sleep(WAIT_S)  # a server that is far away
        return sqlite3.connect(tmp_path / "shop.db")

    engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.pool.QueuePool)
    with watching(engine, pool_wait_s=LIMIT_S) as monitor:
        with scoped() as scope, engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
        record = describe(scope, monitor)
    engine.dispose()
    assert (record.pool_waits, record.longest_wait) == (0, None)


def test_waiting_for_one_with_another_in_hand_is_not_idling(make_engine, monkeypatch):
    clock = stop_clock(monkeypatch)
    engine = make_engine(pool_size=2)

    def give_back(connection):
        clock.advance(WAIT_S)
        connection.close()

    with watching(engine, pool_wait_s=LIMIT_S, long_transaction_s=LIMIT_S) as monitor:
        with scoped() as scope, engine.connect() as first:
            threading.Timer(WAIT_S, give_back, [engine.connect()]).start()
            first.exec_driver_sql("SELECT 1")
            with engine.connect() as second:
                second.exec_driver_sql("SELECT 2")
        record = describe(scope, monitor)
    assert (record.checkouts, record.pool_waits, record.idle) == (3, 1, ())


POOLS = {
    "queue": {"poolclass": sa.pool.QueuePool},
    "null": {"poolclass": sa.pool.NullPool},
    "static": {"poolclass": sa.pool.StaticPool},
    "a-thread-each": {"poolclass": sa.pool.SingletonThreadPool},
}


@pytest.mark.parametrize("keywords", POOLS.values(), ids=POOLS)
def test_the_pool_is_left_as_it_was(url, capture, keywords):
    engine = sa.create_engine(url, **keywords)
    pool, before = engine.pool, dict(vars(engine.pool))
    with watching(engine, capture=capture):
        wrapped = {name for name, value in vars(pool).items() if before.get(name) is not value}
        assert wrapped == ({"_do_get", "recreate"} if "queue" in str(keywords).lower() else set())
    assert vars(pool) == before
    assert not any(getattr(pool.dispatch, name) for name in ("checkout", "checkin", "detach"))


def test_the_pool_that_takes_its_place_is_measured_and_left_as_it_was(make_engine):
    engine = make_engine()
    fresh = dict(vars(make_engine().pool))
    with watching(engine, pool_wait_s=LIMIT_S) as monitor:
        old = engine.pool
        engine.dispose()
        assert engine.pool is not old
        give_back_soon(engine.connect())
        with scoped() as scope, engine.connect():
            pass
        assert describe(scope, monitor).pool_waits == 1
        engine.dispose()
    for pool in (old, engine.pool):
        assert vars(pool).keys() == fresh.keys()


def test_what_another_tool_put_there_stays(make_engine):
    engine = make_engine()
    pool, calls = engine.pool, []
    earlier = pool._do_get

    def first():
        calls.append("first")
        return earlier()

    pool._do_get = first
    monitor = querywatch.install(engine)
    ours = pool._do_get

    def later():
        calls.append("later")
        return ours()

    pool._do_get = later
    monitor.close()
    assert pool._do_get is later
    with engine.connect():
        assert calls == ["later", "first"]


def test_pausing_counts_nothing(make_engine):
    engine = make_engine(pool_timeout=WAIT_S)
    with watching(engine, pool_wait_s=LIMIT_S) as monitor:
        held = engine.connect()
        monitor.pause()
        with scoped() as scope, pytest.raises(sa.exc.TimeoutError):
            engine.connect()
        monitor.resume()
        held.close()
        assert describe(scope, monitor).pool_timeouts == 0


def test_errors_of_our_own_never_reach_the_application(make_engine, monkeypatch):
    def fail(*_arguments):
        raise RuntimeError

    monkeypatch.setattr("querywatch.capture.pool_limit.Wait", fail)
    engine = make_engine(pool_timeout=WAIT_S)
    monitor = querywatch.install(engine, interval_s=3600.0, explain=False)
    held = engine.connect()
    with pytest.raises(sa.exc.TimeoutError):
        engine.connect()
    give_back_soon(held)
    engine.pool._timeout = 10
    engine.connect().close()
    assert dict(monitor.internal_errors) == {"capture": 2}
    monitor.close()
