"""Where the driver works while fetching, the time and the rows of every way to fetch are counted, once."""

from __future__ import annotations

import gc
from time import perf_counter

import pytest
import sqlalchemy as sa
from counted import find, scoped, watching
from sqlalchemy.orm import Session, declarative_base

Base = declarative_base()
ROWS = 100
# Long enough to tell from nothing, short enough for thirty tests.
SLEEP_S = 0.02
# sqlite3 steps to the first row in execute; with `late` the sleep comes at a row that only a fetch reaches.
SLOW_ROW = sa.text(
    f"SELECT id FROM things WHERE CASE WHEN id = {ROWS - 1} THEN nap() ELSE 1 END = 1 ORDER BY id"
).columns(id=sa.Integer)


class Thing(Base):
    __tablename__ = "things"
    id = sa.Column(sa.Integer, primary_key=True)


@pytest.fixture
def engine():
    engine = sa.create_engine("sqlite://")
    naps = []

    @sa.event.listens_for(engine, "connect")
    def add_nap(connection, _record):
        # A busy wait of the database's own, so that no test sleeps.
        connection.create_function("nap", 0, lambda: naps.append(spin(SLEEP_S)) or 1)

    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(Thing), [{"id": index} for index in range(ROWS)])
    yield engine
    engine.dispose()


def spin(seconds):
    end = perf_counter() + seconds
    while perf_counter() < end:
        pass


@pytest.fixture
def monitor(engine, capture):
    with watching(engine, capture=capture) as monitor:
        yield monitor


def all_rows(connection):
    return len(connection.execute(SLOW_ROW).all())


def iterate(connection):
    return sum(1 for _ in connection.execute(SLOW_ROW))


def fetch_many(connection):
    result = connection.execute(SLOW_ROW)
    count = 0
    while rows := result.fetchmany(7):
        count += len(rows)
    return count


def fetch_one(connection):
    result = connection.execute(SLOW_ROW)
    count = 0
    while result.fetchone() is not None:
        count += 1
    return count


def mixed(connection):
    result = connection.execute(SLOW_ROW)
    count = sum(result.fetchone() is not None for _ in range(5))
    count += len(result.fetchmany(5))
    return count + len(result.fetchall())


def scalars(connection):
    return len(connection.scalars(SLOW_ROW).all())


def mappings(connection):
    return len(connection.execute(SLOW_ROW).mappings().all())


def partitions(connection):
    return sum(len(part) for part in connection.execute(SLOW_ROW).partitions(30))


def yield_per(connection):
    return sum(1 for _ in connection.execute(SLOW_ROW).yield_per(10))


def yield_per_option(connection):
    return sum(1 for _ in connection.execution_options(yield_per=10).execute(SLOW_ROW))


def stream_results(connection):
    return sum(1 for _ in connection.execution_options(stream_results=True).execute(SLOW_ROW))


def stream_partitions(connection):
    result = connection.execution_options(yield_per=30).execute(SLOW_ROW)
    return sum(len(part) for part in result.partitions())


def orm_all(connection):
    return len(Session(connection).scalars(sa.select(Thing).from_statement(SLOW_ROW)).all())


def orm_yield_per(connection):
    statement = sa.select(Thing).from_statement(SLOW_ROW)
    return sum(1 for _ in Session(connection).scalars(statement, execution_options={"yield_per": 10}))


def driver_sql(connection):
    return len(connection.exec_driver_sql(str(SLOW_ROW)).all())


def freeze(connection):
    return len(connection.execute(SLOW_ROW).freeze()().all())


WHOLE = [
    all_rows,
    iterate,
    fetch_many,
    fetch_one,
    mixed,
    scalars,
    mappings,
    partitions,
    yield_per,
    yield_per_option,
    stream_results,
    stream_partitions,
    orm_all,
    orm_yield_per,
    driver_sql,
    freeze,
]


@pytest.mark.parametrize("fetch", WHOLE, ids=lambda fetch: fetch.__name__)
def test_every_row_and_its_time_is_counted_once(engine, monitor, fetch):
    with engine.connect() as connection:
        for _ in range(3):
            assert fetch(connection) == ROWS
    stats = find(monitor, "SELECT")
    assert (stats.calls, stats.rows) == (3, 3 * ROWS)
    assert stats.total_s >= 3 * SLEEP_S
    assert stats.max_s >= SLEEP_S
    assert stats.errors == ()


@pytest.mark.parametrize("fetch", WHOLE, ids=lambda fetch: fetch.__name__)
def test_nor_is_any_lost_when_the_background_reads_in_between(engine, monitor, fetch):
    with engine.connect() as connection:
        connection.connection.dbapi_connection.create_function(
            "nap", 0, lambda: spin(SLEEP_S) or (monitor.flush() and 1)
        )
        assert fetch(connection) == ROWS
    stats = find(monitor, "SELECT")
    assert (stats.calls, stats.rows) == (1, ROWS)
    assert stats.total_s >= SLEEP_S
    assert stats.max_s >= SLEEP_S


def first(connection):
    return connection.execute(SLOW_ROW).first()


def scalar(connection):
    return connection.scalar(SLOW_ROW)


def close_early(connection):
    result = connection.execute(SLOW_ROW)
    result.fetchone()
    result.close()


def abandon(connection):
    connection.execute(SLOW_ROW).fetchone()
    gc.collect()


def abandon_stream(connection):
    next(iter(connection.execution_options(yield_per=10).execute(SLOW_ROW)))
    gc.collect()


@pytest.mark.parametrize("fetch", [first, scalar, close_early, abandon, abandon_stream], ids=lambda f: f.__name__)
def test_a_result_that_is_left_early_counts_the_rows_that_were_taken(engine, monitor, fetch):
    with engine.connect() as connection:
        for _ in range(3):
            fetch(connection)
    stats = find(monitor, "SELECT")
    assert (stats.calls, stats.rows) == (3, 3)


def test_a_result_that_nobody_reads_has_no_rows_that_are_known(engine, monitor):
    with engine.connect() as connection:
        connection.execute(SLOW_ROW)
    stats = find(monitor, "SELECT")
    assert (stats.calls, stats.rows) == (1, None)


@pytest.mark.parametrize("fetch", WHOLE, ids=lambda fetch: fetch.__name__)
def test_a_slow_fetch_is_a_slow_call(engine, capture, fetch):
    with watching(engine, capture=capture, slow_query_s=SLEEP_S) as monitor, engine.connect() as connection:
        fetch(connection)
        assert monitor.flush()
        assert [finding.code for finding in monitor.findings()] == ["slow-query"]


def test_results_that_are_read_side_by_side_do_not_mix(engine, monitor):
    plain = sa.select(Thing.id)
    with engine.connect() as connection:
        outer = connection.execute(plain)
        for _ in outer:
            assert len(connection.execute(plain).all()) == ROWS
    stats = find(monitor, "SELECT")
    assert (stats.calls, stats.rows) == (1 + ROWS, ROWS + ROWS * ROWS)


def test_a_fetch_may_end_after_its_full_samples_were_let_go(engine, monitor):
    plain = sa.select(Thing.id).where(Thing.id < 1)
    with engine.connect() as connection, scoped():
        for _ in range(9_999):
            connection.execute(plain).close()
        pending = [connection.execute(plain) for _ in range(3)]
        assert monitor.flush()
        assert monitor.flush()
        assert len(pending[0].all()) == 1
        assert pending[1].fetchone() is not None
        assert len(pending[2].fetchmany(5)) == 1
    stats = find(monitor, "SELECT")
    assert (stats.calls, stats.rows) == (10_002, 3)


class TestFailures:
    """A fetch that fails midway: the application has its own error, and the call counts as failed."""

    @pytest.fixture
    def failing(self, engine):
        @sa.event.listens_for(engine, "checkout")
        def break_nap(connection, *_arguments):
            connection.create_function("nap", 0, lambda: 1 / 0)

        return engine

    @pytest.mark.parametrize("fetch", WHOLE, ids=lambda fetch: fetch.__name__)
    def test_once_and_untouched(self, failing, capture, fetch):
        with failing.connect() as connection, pytest.raises(sa.exc.OperationalError) as alone:
            fetch(connection)
        with watching(failing, capture=capture) as monitor:
            with failing.connect() as connection, pytest.raises(sa.exc.OperationalError) as watched:
                fetch(connection)
            stats = find(monitor, "SELECT")
        assert stats.calls == 1
        assert [(each.error_type, each.sqlstate, each.count) for each in stats.errors] == [
            ("OperationalError", None, 1)
        ]
        for ours, theirs in ((watched.value, alone.value), (watched.value.orig, alone.value.orig)):
            assert type(ours) is type(theirs)
            assert ours.args == theirs.args
        assert watched.value.__cause__ is watched.value.orig
        assert (watched.value.statement, watched.value.params) == (alone.value.statement, alone.value.params)


SERIES = sa.text("SELECT 6 / (5 - x) AS y FROM generate_series(1, 10) AS x").columns(y=sa.Integer)


class TestServerSideCursors:
    @pytest.fixture
    def engine(self, postgres_database):
        engine = sa.create_engine(postgres_database)
        engine.connect().close()
        yield engine
        engine.dispose()

    @pytest.mark.parametrize(
        ("options", "rows_before"),
        [
            pytest.param({"stream_results": True}, 0, id="stream_results"),
            pytest.param({"yield_per": 2}, 0, id="yield_per"),
            pytest.param({"stream_results": True, "max_row_buffer": 2}, 0, id="max_row_buffer"),
        ],
    )
    @pytest.mark.parametrize("text", ["SELECT 1 / 0", str(SERIES)], ids=["first-row", "later-row"])
    def test_an_error_is_the_applications(self, engine, capture, options, rows_before, text):
        def read():
            with engine.connect().execution_options(**options) as connection:
                try:
                    result = connection.execute(sa.text(text))
                except sa.exc.DBAPIError as error:
                    return "execute", type(error), error.args, type(error.orig), error.statement
                rows = []
                try:
                    rows.extend(row for row in result)
                except sa.exc.DBAPIError as error:
                    return "fetch", type(error), error.args, type(error.orig), error.statement
            return rows

        alone = read()
        assert alone[0] in {"execute", "fetch"}
        with watching(engine, capture=capture) as monitor:
            assert read() == alone
            stats = find(monitor, "SELECT")
        assert stats.calls == 1
        assert [(each.error_type, each.sqlstate, each.count) for each in stats.errors] == [
            ("DivisionByZero", "22012", 1)
        ]

    @pytest.mark.parametrize("size", [1, 7, 5000])
    def test_rows_and_time(self, engine, capture, size):
        text = sa.text("SELECT x, pg_sleep(CASE WHEN x = 900 THEN 0.02 ELSE 0 END) FROM generate_series(1, 1000) AS x")
        with watching(engine, capture=capture) as monitor:
            with engine.connect() as connection:
                for row_count in (
                    sum(1 for _ in connection.execute(text, execution_options={"yield_per": size})),
                    sum(map(len, connection.execute(text, execution_options={"yield_per": size}).partitions())),
                    len(connection.execute(text, execution_options={"stream_results": True}).all()),
                ):
                    assert row_count == 1000
            stats = find(monitor, "SELECT")
        assert (stats.calls, stats.rows) == (3, 3000)
        assert stats.total_s >= 3 * SLEEP_S

    def test_rows_of_a_plain_cursor(self, engine, capture):
        with watching(engine, capture=capture) as monitor:
            with engine.connect() as connection:
                connection.execute(sa.text("SELECT * FROM generate_series(1, 1000)")).first()
            assert find(monitor, "SELECT").rows == 1000, "psycopg has received all of them"


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(sa.select(Thing.id), id="select"),
        pytest.param(sa.text("SELECT id FROM things"), id="text"),
    ],
)
@pytest.mark.parametrize(
    "options", [{}, {"stream_results": True}, {"stream_results": False}, {"yield_per": 2}], ids=str
)
def test_rows_are_buffered_where_sqlalchemy_would(engine, statement, options):
    def buffers():
        with engine.connect() as connection:
            result = connection.execution_options(**options).execute(statement)
            return isinstance(result.cursor_strategy, sa.engine.cursor.BufferedRowCursorFetchStrategy)

    unwatched = buffers()
    with watching(engine):
        assert buffers() is unwatched
