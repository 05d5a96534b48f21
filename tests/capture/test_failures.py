"""What fails is counted by class and SQLSTATE, and reaches the application as if nobody had watched."""

from __future__ import annotations

import asyncio
import logging
import traceback

import pytest
import sqlalchemy as sa
from counted import count, find, read, scoped, watching
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

import querywatch


def outcome(work):
    """Run *work* and return what an application could tell: the value, or the error's classes, texts and causes."""
    try:
        return "returned", work()
    except BaseException as error:  # noqa: BLE001 - interrupts are among the outcomes
        chain = []
        while error is not None:
            frames = [
                frame.name for frame in traceback.extract_tb(error.__traceback__) if "querywatch" not in frame.filename
            ]
            chain.append((type(error), error.args, getattr(error, "params", None), frames[-1:]))
            error = error.__cause__
        return "raised", chain


BROKEN = [
    pytest.param("SELEC 1", {}, id="syntax-error"),
    pytest.param("SELECT * FROM nowhere", {}, id="no-such-table"),
    pytest.param("SELECT '\0'", {}, id="nul-in-text"),
    pytest.param("SELECT '\ud800'", {}, id="lone-surrogate-in-text"),
    pytest.param("", {}, id="empty"),
    pytest.param("-- nothing", {}, id="a-comment-only"),
    pytest.param("SELECT 1; SELECT 2", {}, id="two-statements"),
    pytest.param("SELECT :x", {"x": object()}, id="an-object-as-parameter"),
    pytest.param("SELECT :x", {"x": "\ud800"}, id="lone-surrogate-as-parameter"),
    pytest.param("SELECT :x", {"x": "a\0b"}, id="nul-as-parameter"),
    pytest.param("SELECT :x", {"x": 2**70}, id="number-too-large"),
    pytest.param("SELECT length(:x)", {"x": "é" * 100_000}, id="large-parameter"),
    pytest.param("SELECT " + " + ".join(["1"] * 900), {}, id="deep"),
    pytest.param("SELECT '" + "x" * 5_000_000 + "' = 'y'", {}, id="five-megabytes"),
    pytest.param("SELECT ('unfinished", {}, id="unterminated-string"),
    pytest.param("/* unfinished", {}, id="unterminated-comment"),
]


@pytest.mark.parametrize(("text", "parameters"), BROKEN)
def test_bad_input_ends_as_it_would_without_us(bench, text, parameters):
    def work():
        return bench.run(lambda connection: connection.execute(sa.text(text), parameters).all())

    watched = outcome(work)
    calls = count(bench.monitor)
    failed = sum(error.count for stats in read(bench.monitor) for error in stats.errors)
    bench.monitor.close()
    alone = outcome(work)
    assert watched == alone
    assert calls == 1
    # Text without rows ends in SQLAlchemy's error after the driver has succeeded.
    if failed != (watched[0] == "raised"):
        assert watched[1][0][0] is sa.exc.ResourceClosedError


def test_ten_thousand_parameters(sync_bench):
    places = ", ".join(f":p{number}" for number in range(10_000))
    values = {f"p{number}": number for number in range(10_000)}
    for _ in range(3):
        assert sync_bench.run(lambda c: c.execute(sa.text(f"SELECT 1 IN ({places})"), values).scalar())
    assert find(sync_bench.monitor, "SELECT").calls == 3


class Spiteful:
    """A value whose every question raises, as numpy's arrays and ORMs' expressions do for some."""

    def __eq__(self, other):
        raise ValueError("ambiguous")

    def __bool__(self):
        raise ValueError("ambiguous")

    def __len__(self):
        raise ValueError("no length")

    def __hash__(self):
        raise TypeError("unhashable")

    def __repr__(self):
        raise RuntimeError("no text")

    def __conform__(self, _protocol):
        return "spite"


class ManyTruths:
    """Compares as numpy does: to something that has no truth."""

    def __eq__(self, other):
        return Spiteful()

    __hash__ = None

    def __conform__(self, _protocol):
        return "many"


@pytest.mark.parametrize("kind", [Spiteful, ManyTruths])
def test_values_that_refuse_every_question_are_never_asked(capture, kind):
    engine = sa.create_engine("sqlite://")
    with watching(engine, capture=capture) as monitor:
        with engine.connect() as connection, scoped():
            for _ in range(30):
                assert connection.exec_driver_sql("SELECT ?", (kind(),)).scalar() in {"spite", "many"}
        assert find(monitor, "SELECT").calls == 30
    engine.dispose()


def unique_violation(connection):
    for _ in range(2):
        connection.execute(sa.text("INSERT INTO things VALUES (1, 'x')"))


UNIQUE = ["IntegrityError", "UniqueViolation", "UniqueViolationError"]
FAILURES = [
    pytest.param(
        unique_violation,
        "INSERT",
        UNIQUE,
        "23505",
        2,
        id="unique",
    ),
    pytest.param(
        lambda c: c.execute(sa.text("SELECT * FROM nowhere")),
        "SELECT",
        ["OperationalError", "ProgrammingError", "UndefinedTable"],
        "42P01",
        1,
        id="no-table",
    ),
    pytest.param(
        lambda c: c.execute(sa.text("INSERT INTO things VALUES (:id, :name)"), [{"id": 1, "name": "x"}] * 2),
        "INSERT",
        UNIQUE,
        "23505",
        1,
        id="executemany",
    ),
]


@pytest.mark.parametrize(("work", "beginning", "types", "sqlstate", "calls"), FAILURES)
def test_failures_are_counted_by_class_and_sqlstate(  # noqa: PLR0917 - the columns of the table
    bench, work, beginning, types, sqlstate, calls
):
    with pytest.raises(sa.exc.DBAPIError) as raised:
        bench.run(work)
    stats = find(bench.monitor, beginning)
    assert stats.calls == calls
    (error,) = stats.errors
    assert error.count == 1
    assert error.error_type in types
    assert error.error_type == type(raised.value.orig).__name__
    assert error.sqlstate == (sqlstate if bench.is_postgres else None)


def test_a_failed_statement_may_be_tried_again_in_a_savepoint(sync_bench):
    def work(connection):
        unique = sa.text("INSERT INTO things VALUES (1, 'x')")
        connection.execute(unique)
        for _ in range(3):
            with pytest.raises(sa.exc.IntegrityError), connection.begin_nested():
                connection.execute(unique)
        return connection.scalar(sa.text("SELECT count(*) FROM things"))

    assert sync_bench.run(work) == 1
    stats = find(sync_bench.monitor, "INSERT")
    assert (stats.calls, stats.errors[0].count) == (4, 3)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_an_interrupt_in_the_driver_passes_and_is_counted(tmp_path, capture, kind):
    class Cursor:
        """The driver's cursor, interrupted as by Ctrl-C."""

        def __init__(self, cursor):
            self.cursor = cursor

        def __getattr__(self, name):
            return getattr(self.cursor, name)

        def execute(self, statement, parameters=()):
            if "interrupt" in statement:
                raise kind("now")
            return self.cursor.execute(statement, parameters)

    engine = sa.create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    engine.dialect.execution_ctx_cls = type(
        "Context",
        (engine.dialect.execution_ctx_cls,),
        {"create_default_cursor": lambda self: Cursor(self._dbapi_connection.cursor())},
    )
    with watching(engine, capture=capture) as monitor:
        with pytest.raises(kind) as raised, engine.connect() as connection:
            connection.execute(sa.text("SELECT 1 AS interrupt"))
        assert raised.value.args == ("now",)
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT 2")) == 2
        assert count(monitor) == 2
        assert [error.error_type for stats in read(monitor) for error in stats.errors] == [kind.__name__]
    engine.dispose()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_a_cancelled_task_is_counted_as_one_failed_call(postgres_database, capture, driver):
    async def main():
        url = sa.make_url(postgres_database).set(drivername=f"postgresql+{driver}")
        engine = create_async_engine(url, poolclass=sa.pool.NullPool)
        async with engine.connect():
            pass
        with watching(engine, capture=capture) as monitor:

            async def wait():
                async with engine.connect() as connection:
                    await connection.execute(sa.text("SELECT pg_sleep(30)"))

            task = asyncio.create_task(wait())
            # A transaction would see the activity of its first look for ever.
            async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                while not await connection.scalar(
                    sa.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
                ):
                    pass
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await monitor.aflush(60)
            stats = find(monitor, "SELECT PG_SLEEP")
            assert stats.calls == 1
            assert [error.count for error in stats.errors] == [1]
        await engine.dispose()

    asyncio.run(main())


class TestErrorsOfOurOwn:
    """Forced errors inside of the accounting: never seen by the application, counted by stage, logged once."""

    @pytest.fixture
    def engine(self):
        engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE things (id INTEGER PRIMARY KEY)")
        yield engine
        engine.dispose()

    @pytest.mark.parametrize(
        "place",
        [
            "querywatch.capture.accounting.take_shape",
            "querywatch.capture.inspection.find_caller",
            "querywatch.capture.inspection.read_load_mark",
            "querywatch.capture.accounting.find_checkout_scope",
            "querywatch.capture.accounting.Samples",
            "querywatch.capture.accounting.TimedFetch",
            "querywatch.capture.accounting._find_sqlstate",
            "querywatch.capture.accounting._rebuild_execution",
            "querywatch.capture.fetch._add_late",
            "querywatch.capture.pool._hold",
            "querywatch.capture.pool._release",
        ],
    )
    def test_never_reach_the_application(self, engine, capture, monkeypatch, caplog, place):
        def fail(*_arguments, **_keywords):
            raise RuntimeError("a secret of the application")

        def work():
            with engine.connect() as connection:
                pending = [connection.execute(sa.text("SELECT 1")) for _ in range(3)]
                monitor.flush()
                assert (len(pending[0].all()), pending[1].fetchone(), len(pending[2].fetchmany())) == (1, (1,), 1)
                with pytest.raises(sa.exc.OperationalError):
                    connection.execute(sa.text("SELECT abs(x) FROM (SELECT 1 AS x UNION ALL SELECT -1 << 63)")).all()
                values = [connection.scalar(sa.select(sa.literal(number))) for number in range(3)]
                connection.execute(sa.text("INSERT INTO things VALUES (1)"))
                with pytest.raises(sa.exc.IntegrityError):
                    connection.execute(sa.text("INSERT INTO things VALUES (1)"))
                return values

        monkeypatch.setattr(place, fail)
        # Everything is slow, so that everything is looked at.
        settings = {"explain": False, "interval_s": 3600.0, "slow_query_s": 1e-9}
        monitor = querywatch.install(engine, capture=capture, **settings)
        try:
            with caplog.at_level(logging.WARNING, logger="querywatch"):
                assert work() == [0, 1, 2]
                assert work() == [0, 1, 2]
            assert monitor.internal_errors["capture"] > 1
            (record,) = [record for record in caplog.records if "stage=capture" in record.getMessage()]
            assert "RuntimeError" in record.getMessage()
            assert "secret" not in record.getMessage()
        finally:
            monitor.close()

    def test_in_the_background_are_counted_by_their_stage(self, engine, monkeypatch, caplog):
        def fail(*_arguments, **_keywords):
            raise RuntimeError("broken")

        monkeypatch.setattr("querywatch.aggregate.Aggregate.fold", fail)
        monitor = querywatch.install(engine, explain=False, interval_s=3600.0)
        with caplog.at_level(logging.WARNING, logger="querywatch"), engine.connect() as connection:
            connection.scalar(sa.select(1))
            assert monitor.flush()
            assert monitor.flush()
        assert monitor.internal_errors["fold"] >= 2
        assert len([record for record in caplog.records if "stage=fold" in record.getMessage()]) == 1
        monkeypatch.undo()
        monitor.close()


def test_a_listener_of_the_applications_that_fails_is_not_ours(sync_bench):
    def fail(*_arguments):
        raise LookupError("theirs")

    event.listen(sync_bench.engine, "before_cursor_execute", fail)
    with pytest.raises(LookupError, match="theirs"):
        sync_bench.run(lambda connection: connection.execute(sa.text("SELECT 1")))
    event.remove(sync_bench.engine, "before_cursor_execute", fail)
    assert sync_bench.run(lambda connection: connection.scalar(sa.text("SELECT 1"))) == 1
