"""Nothing is lost and nothing is counted twice: under threads, with inlined literals, in flushes of the ORM.

`QUERYWATCH_FULL=1` runs the threads at full size: 8 x 50,000 queries in each kind of scope.
"""

from __future__ import annotations

import contextvars
import gc
import os
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from counted import count, describe, find, read, scoped, watching
from sqlalchemy.orm import Session, declarative_base

import querywatch
import querywatch.monitor
from querywatch.fingerprint import take_fingerprint

THREADS = 8
OPERATORS = ["<", ">", "=", "<>", "<="]
IS_FULL = os.environ.get("QUERYWATCH_FULL") == "1"
QUERIES = 50_000 if IS_FULL else 4_000
BATCH = 1_000

Base = declarative_base()


class Row(Base):
    __tablename__ = "rows"
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String)


def in_one_scope(work):
    """Threads that share the scope of the thread that started them."""
    with querywatch.watch("shared"):
        contexts = [contextvars.copy_context() for _ in range(THREADS)]
        run_threads([lambda context=context: context.run(work, QUERIES) for context in contexts])


def in_checkout_scopes(work):
    """Threads outside of every scope."""
    run_threads([lambda: work(QUERIES)] * THREADS)


def in_a_scope_per_batch(work):
    """Threads whose every batch is a scope."""

    def run():
        for _ in range(QUERIES // BATCH):
            with querywatch.watch("batch"):
                work(BATCH)

    run_threads([run] * THREADS)


def run_threads(works):
    errors = []

    def guarded(work):
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - shown by the test
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.parametrize("scopes", [in_one_scope, in_checkout_scopes, in_a_scope_per_batch], ids=lambda f: f.__name__)
def test_threads_lose_no_call_while_snapshots_are_taken(scopes):
    # Each thread has a database of its own: what is tested is our counting, not SQLite's lock.
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.SingletonThreadPool, pool_size=THREADS)
    statement = sa.select(sa.literal(1))
    done = threading.Event()
    seen = []

    def work(number):
        with engine.connect() as connection:
            execute = connection.execute
            for _ in range(number):
                execute(statement).all()

    with watching(engine) as monitor:

        def look():
            while not done.is_set():
                monitor.flush(1.0)
                seen.append(sum(stats.calls for stats in monitor.snapshot().queries))

        looking = threading.Thread(target=look)
        looking.start()
        scopes(work)
        done.set()
        looking.join()
        stats = find(monitor, "SELECT")
        assert (stats.calls, stats.rows) == (THREADS * QUERIES, THREADS * QUERIES)
    assert seen == sorted(seen), "a snapshot forgot calls that an earlier one had seen"
    print(f"\n{scopes.__name__}: {stats.calls:,} calls, {len(seen)} snapshots")  # noqa: T201
    engine.dispose()


def test_threads_that_share_a_scope_of_many_texts_lose_no_call():
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.SingletonThreadPool, pool_size=THREADS)
    done = threading.Event()

    def work(queries):
        with engine.connect() as connection:
            for number in range(queries):
                connection.exec_driver_sql(f"SELECT 1 WHERE {number} {OPERATORS[number % 5]} 7").all()

    with watching(engine) as monitor:

        def look():
            while not done.is_set():
                monitor.flush(1.0)

        looking = threading.Thread(target=look)
        looking.start()
        in_one_scope(work)
        done.set()
        looking.join()
        assert count(monitor) == THREADS * QUERIES
        assert len(read(monitor)) == 5
    engine.dispose()


SHAPES = 20
TEXTS = 1_000_000


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("scope", ["watch", "checkout"])
def test_a_million_texts_of_twenty_shapes(monkeypatch, scope):
    parsed = []

    def count_and_take(shape, dialect):
        parsed.append(shape)
        return take_fingerprint(shape, dialect)

    monkeypatch.setattr(querywatch.monitor, "take_fingerprint", count_and_take)
    engine = sa.create_engine("sqlite://")
    texts = TEXTS if IS_FULL else TEXTS // 10
    with watching(engine, interval_s=0.5) as monitor, engine.connect() as connection:
        driver_connection = connection.connection.dbapi_connection
        for shape in range(SHAPES):
            driver_connection.execute(f"CREATE TABLE t{shape} (id INTEGER PRIMARY KEY, name TEXT)")
        gc.collect()
        before = resident_bytes()

        def run():
            execute = connection.exec_driver_sql
            for number in range(texts):
                execute(f"SELECT name FROM t{number % SHAPES} WHERE id = {number} AND name <> 'user {number}'").close()

        if scope == "watch":
            with querywatch.watch("script"):
                run()
                assert monitor.flush(60)
        else:
            run()
        grown = resident_bytes() - before
        stats = read(monitor)
        assert len(stats) == SHAPES
        assert sum(each.calls for each in stats) == texts
        assert {each.calls for each in stats} == {texts // SHAPES}
        assert len({each.fingerprint.id for each in stats}) == SHAPES
        print(f"\n{scope}: {texts:,} texts, {len(parsed)} parsed, {grown / 2**20:.1f} MB grown")  # noqa: T201
        assert len(parsed) == SHAPES
        assert grown <= 50 * 2**20
    engine.dispose()


class TestContexts:
    """One act of the application is one context, however many calls the driver is given."""

    @pytest.fixture
    def engine(self):
        engine = sa.create_engine("sqlite://")
        Base.metadata.create_all(engine)
        yield engine
        engine.dispose()

    @pytest.fixture(params=["methods", "events"])
    def monitor(self, engine, request):
        with watching(engine, capture=request.param) as monitor:
            yield monitor

    def test_add_all_of_600_rows_is_one_context(self, engine, monitor):
        with scoped() as scope, Session(engine) as session:
            session.add_all([Row(name=f"n{number}") for number in range(600)])
            session.commit()
            record = describe(scope, monitor)
        (query,) = record.queries
        assert query.contexts == 1
        assert query.calls == count(monitor, "INSERT") >= 1

    def test_pages_of_insertmanyvalues_are_one_context(self, engine, monitor):
        with scoped() as scope, engine.begin() as connection:
            connection.execute(
                sa.insert(Row).returning(Row.id),
                [{"name": "x"} for _ in range(95)],
                execution_options={"insertmanyvalues_page_size": 10},
            )
            (query,) = describe(scope, monitor).queries
        assert (query.calls, query.contexts) == (10, 1)

    def test_a_loop_is_as_many_contexts_as_calls(self, engine, monitor):
        with scoped() as scope, engine.connect() as connection:
            for number in range(300):
                connection.execute(sa.select(Row).where(Row.id == number)).all()
            (query,) = describe(scope, monitor).queries
        assert (query.calls, query.contexts) == (300, 300)
        assert query.call_site is not None
        assert query.call_site.file.endswith("test_exact_counts.py")

    def test_failures_of_a_long_scope_are_all_counted(self, engine, monitor, monkeypatch):
        monkeypatch.setattr("querywatch.scope_record._STRAGGLER_LIMIT_S", 0.0)
        with scoped() as scope, engine.connect() as connection:
            for number in range(30_050):
                with pytest.raises(sa.exc.OperationalError):
                    connection.exec_driver_sql("SELECT nothing")
                if number % 4_000 == 0:
                    assert monitor.flush()
            for _ in range(3):
                record = describe(scope, monitor)
                assert sum(query.errors for query in record.queries) == 30_050
                assert sum(query.calls for query in record.queries) == 30_050
            assert len(scope.list_samples()) == 2, "full samples are let go"
            assert sum(len(samples) for samples in scope.list_samples()) == 50
        assert find(monitor, "SELECT").errors[0].count == 30_050
