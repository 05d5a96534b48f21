"""Every kind of execution is counted once for each call of the driver, on every driver, in both ways of capture."""

from __future__ import annotations

import asyncio
import gc

import pytest
import sqlalchemy as sa
from counted import count, describe, find, read, scoped, watching
from sqlalchemy import event, orm

THINGS = sa.table("things", sa.column("id", sa.Integer), sa.column("name", sa.String))
TABLE = sa.Table(
    "things", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String, default="none")
)


def insert_rows(connection, number=3):
    connection.exec_driver_sql(
        "INSERT INTO things (id, name) VALUES " + ", ".join(f"({index}, 'n{index}')" for index in range(number))
    )


def select_twice(connection):
    for _ in range(2):
        connection.execute(sa.select(THINGS.c.id)).all()


def in_lists(connection):
    for length in range(1, 6):
        connection.execute(sa.select(THINGS.c.id).where(THINGS.c.id.in_(range(length)))).all()


def nested(connection):
    with connection.begin_nested():
        connection.execute(sa.delete(THINGS))


def rolled_back_nested(connection):
    savepoint = connection.begin_nested()
    connection.execute(sa.delete(THINGS))
    savepoint.rollback()


def executemany(connection):
    connection.execute(sa.text("INSERT INTO things VALUES (:id, :name)"), [{"id": n, "name": "x"} for n in range(50)])


def insertmanyvalues(connection):
    rows = [{"id": n, "name": "x"} for n in range(25)]
    options = {"insertmanyvalues_page_size": 10}
    assert len(connection.execute(sa.insert(TABLE).returning(TABLE.c.id), rows, execution_options=options).all()) == 25


CASES = [
    pytest.param(select_twice, {"SELECT": 2}, id="select"),
    pytest.param(in_lists, {"SELECT": 5}, id="in-lists-of-any-length"),
    pytest.param(
        lambda c: c.scalar(sa.text("SELECT count(*) FROM things WHERE id > :n"), {"n": 1}), {"SELECT": 1}, id="text"
    ),
    pytest.param(lambda c: c.exec_driver_sql("SELECT 1").all(), {"SELECT": 1}, id="driver-sql"),
    pytest.param(lambda c: c.execute(sa.insert(TABLE), {"id": 9}), {"INSERT": 1}, id="insert"),
    pytest.param(
        lambda c: c.execute(sa.insert(THINGS).values(id=9).returning(THINGS.c.id)).all(),
        {"INSERT": 1},
        id="insert-returning",
    ),
    pytest.param(lambda c: c.execute(sa.update(THINGS).values(name="x")), {"UPDATE": 1}, id="update"),
    pytest.param(
        lambda c: c.execute(sa.update(THINGS).values(name="x").returning(THINGS.c.id)).all(),
        {"UPDATE": 1},
        id="update-returning",
    ),
    pytest.param(lambda c: c.execute(sa.delete(THINGS)), {"DELETE": 1}, id="delete"),
    pytest.param(executemany, {"INSERT": 1}, id="executemany"),
    pytest.param(insertmanyvalues, {"INSERT": 3}, id="insertmanyvalues"),
    pytest.param(
        lambda c: c.execute(sa.schema.CreateTable(sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer)))),
        {"CREATE TABLE": 1},
        id="ddl",
    ),
    pytest.param(nested, {"SAVEPOINT": 1, "DELETE": 1, "RELEASE SAVEPOINT": 1}, id="savepoint"),
    pytest.param(rolled_back_nested, {"SAVEPOINT": 1, "DELETE": 1, "ROLLBACK": 1}, id="savepoint-rolled-back"),
]


@pytest.mark.parametrize(("work", "expected"), CASES)
def test_counts_each_call_of_the_driver(bench, work, expected):
    bench.run(work)
    assert {beginning: count(bench.monitor, beginning) for beginning in expected} == expected
    assert count(bench.monitor) == sum(expected.values())
    assert all(not stats.errors for stats in read(bench.monitor))


@pytest.mark.parametrize(
    ("work", "beginning", "rows"),
    [
        pytest.param(lambda c: c.execute(sa.insert(TABLE), {"id": 9}), "INSERT", 1, id="insert"),
        pytest.param(lambda c: c.execute(sa.update(THINGS).values(name="x")), "UPDATE", 3, id="update"),
        pytest.param(lambda c: c.execute(sa.delete(THINGS).where(THINGS.c.id == 77)), "DELETE", 0, id="delete-none"),
        pytest.param(executemany, "INSERT", 50, id="executemany"),
    ],
)
def test_counts_the_rows_that_a_statement_changes(sync_bench, work, beginning, rows):
    if work is not executemany:
        sync_bench.monitor.pause()
        sync_bench.run(insert_rows)
        sync_bench.monitor.resume()
    sync_bench.run(work)
    assert find(sync_bench.monitor, beginning).rows == rows


def test_a_sequence_that_runs_first_is_a_statement_of_its_own(sync_bench):
    if not sync_bench.is_postgres:
        pytest.skip("SQLite has no sequences")
    sequence = sa.Sequence("numbers")
    table = sa.Table(
        "things", sa.MetaData(), sa.Column("id", sa.Integer, sequence, primary_key=True), implicit_returning=False
    )
    sync_bench.run(lambda connection: connection.execute(sa.schema.CreateSequence(sequence)))

    def insert(connection):
        for _ in range(3):
            connection.execute(table.insert())
            connection.scalar(sequence)

    sync_bench.run(insert)
    assert count(sync_bench.monitor, "INSERT") == 3
    assert count(sync_bench.monitor, "SELECT NEXTVAL") == 6
    assert count(sync_bench.monitor) == 10


def test_a_default_that_runs_first_is_a_statement_of_its_own(sync_bench):
    next_id = sa.select(sa.func.coalesce(sa.func.max(THINGS.c.id), 0) + 1).scalar_subquery()
    table = sa.Table(
        "things",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True, default=next_id),
        sa.Column("name", sa.String),
        implicit_returning=False,
    )
    sync_bench.run(lambda connection: [connection.execute(table.insert(), {"name": "x"}) for _ in range(3)])
    assert count(sync_bench.monitor, "SELECT (SELECT COALESCE") == 3
    assert count(sync_bench.monitor, "INSERT") == 3


@pytest.mark.parametrize("listens_first", [True, False], ids=["before-install", "after-install"])
def test_a_listener_that_adds_a_comment_changes_nothing(tmp_path, capture, listens_first):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    numbers = iter(range(100))
    seen = []

    def add_comment(_connection, _cursor, statement, parameters, _context, _executemany):
        return f"{statement} /* request={next(numbers)} */", parameters

    if listens_first:
        event.listen(engine, "before_cursor_execute", add_comment, retval=True)
    with watching(engine, capture=capture) as monitor:
        if not listens_first:
            event.listen(engine, "before_cursor_execute", add_comment, retval=True)
        event.listen(engine, "after_cursor_execute", lambda *arguments: seen.append(arguments[2]))
        with engine.connect() as connection:
            for number in range(10):
                assert connection.scalar(sa.select(sa.literal(number))) == number
        assert find(monitor, "SELECT").calls == 10
    assert all("/* request=" in text for text in seen)
    engine.dispose()


def test_copies_of_an_engine_share_its_monitor(sync_bench):
    copy = sync_bench.engine.execution_options(isolation_level="AUTOCOMMIT")
    with copy.connect() as connection:
        connection.scalar(sa.select(1))
    with sync_bench.engine.connect() as connection:
        connection.scalar(sa.select(1))
    assert count(sync_bench.monitor, "SELECT") == 2


def test_installing_on_a_copy_watches_its_engine(tmp_path, capture):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    copy = engine.execution_options(isolation_level="AUTOCOMMIT")
    with watching(copy, capture=capture) as monitor:
        for each in (engine, copy):
            with each.connect() as connection:
                connection.scalar(sa.select(1))
        del copy, each
        gc.collect()
        with engine.connect() as connection:
            connection.scalar(sa.select(1))
        assert count(monitor, "SELECT") == 3
    engine.dispose()


async def stream_all(connection, statement):
    async with connection.stream(statement) as result:
        return [row async for row in result]


async def stream_partitions(connection, statement):
    result = await connection.stream(statement, execution_options={"yield_per": 30})
    return [row async for part in result.partitions() for row in part]


@pytest.mark.parametrize("stream", [stream_all, stream_partitions], ids=["all", "partitions"])
def test_an_async_stream_is_one_call(async_bench, stream):
    async def main():
        async with async_bench.engine.begin() as connection:
            await connection.run_sync(insert_rows, 100)
            return await stream(connection, sa.select(THINGS.c.id))

    assert len(asyncio.run(main())) == 100
    stats = find(async_bench.monitor, "SELECT")
    assert stats.calls == 1
    assert stats.rows in {100, None}


# -- acts of the application


class Model(orm.DeclarativeBase):
    pass


class Thing(Model):
    __tablename__ = "things"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str | None]


def in_a_session(work):
    def run(connection):
        with orm.Session(connection) as session:
            work(session)

    return run


def one_flush(session):
    session.add_all(Thing(id=number) for number in range(30))
    session.flush()


def one_flush_of_expressions(session):
    things = [Thing(id=number) for number in range(30)]
    session.add_all(things)
    session.flush()
    for thing in things:
        thing.name = sa.func.lower("X")
    session.flush()


def a_flush_each(session):
    for number in range(30):
        session.add(Thing(id=number))
        session.flush()


def an_autoflush_each(session):
    for number in range(30):
        session.add(Thing(id=number))
        session.scalar(sa.select(sa.func.count()).select_from(Thing))


def two_flushes(session):
    for half in range(2):
        session.add_all(Thing(id=100 * half + number, name=sa.func.lower("X")) for number in range(1, 15))
        session.flush()


@pytest.mark.parametrize(
    ("work", "beginning", "acts"),
    [
        pytest.param(in_a_session(one_flush), "INSERT", 1, id="a-flush"),
        pytest.param(in_a_session(one_flush_of_expressions), "UPDATE", 1, id="a-flush-that-sends-each-row"),
        pytest.param(in_a_session(a_flush_each), "INSERT", 30, id="a-flush-for-each-row"),
        pytest.param(in_a_session(an_autoflush_each), "INSERT", 30, id="an-autoflush-for-each-row"),
        pytest.param(in_a_session(two_flushes), "INSERT", 2, id="two-flushes"),
        pytest.param(insertmanyvalues, "INSERT", 1, id="insertmanyvalues"),
        pytest.param(executemany, "INSERT", 1, id="executemany"),
        pytest.param(in_lists, "SELECT", 5, id="select"),
    ],
)
def test_acts_of_the_application_are_told_from_calls_of_the_driver(bench, work, beginning, acts):
    with scoped() as scope:
        bench.run(work)
        queries = describe(scope, bench.monitor).queries
    written = [query for query in queries if query.fingerprint.sql.startswith(beginning)]
    # Of the first one nobody looks who asked for it, so that a flush of several may count it once more.
    assert acts <= sum(query.contexts for query in written) <= acts + (1 < acts < 5)


def by_name(connection):
    for number in range(6):
        connection.execute(sa.select(THINGS.c.id).where(THINGS.c.name == "x", THINGS.c.id == number)).all()


def by_a_text(connection):
    for number in range(6):
        connection.execute(
            sa.text("SELECT id FROM things WHERE name = :name AND id = :id"), {"id": number, "name": "x"}
        )


def by_values_in_the_text(connection):
    for number in range(6):
        connection.exec_driver_sql(f"SELECT id FROM things WHERE name = 'x' AND id = {number}").all()


def locked(connection):
    for number in range(6):
        connection.execute(sa.select(THINGS.c.id).where(THINGS.c.id == number).with_for_update()).all()


def always_the_same(connection):
    for _ in range(6):
        connection.execute(sa.select(THINGS.c.id).where(THINGS.c.id == 1)).all()


def by_ranges(connection):
    for number in range(6):
        connection.execute(sa.select(THINGS.c.id).where(THINGS.c.id > number).limit(3)).all()


@pytest.mark.parametrize(
    ("work", "looked_up", "same", "locks", "is_text"),
    [
        pytest.param(by_name, ("id",), False, False, False, id="bind"),
        pytest.param(by_a_text, ("id",), False, False, True, id="bind-of-a-text"),
        pytest.param(by_values_in_the_text, ("name", "id"), False, False, True, id="values-in-the-text"),
        pytest.param(locked, ("id",), False, True, False, id="locked"),
        pytest.param(always_the_same, (), True, False, False, id="the-same"),
        pytest.param(by_ranges, (), False, False, False, id="ranges"),
    ],
)
def test_what_is_seen_of_a_repeated_statement(bench, work, looked_up, same, locks, is_text):  # noqa: PLR0917 - columns
    with scoped() as scope:
        bench.run(work)
        queries = describe(scope, bench.monitor).queries
    [query] = [query for query in queries if query.fingerprint.sql.startswith("SELECT")]
    assert (query.looked_up, query.same_parameters) == (looked_up, same)
    assert (query.locks_rows, query.is_text, query.streamed) == (locks, is_text, False)
    assert query.call_site.function == work.__name__


def test_columns_of_a_text_are_counted(bench):
    with scoped() as scope:
        bench.run(lambda connection: connection.execute(sa.text("SELECT * FROM things")).all())
        queries = describe(scope, bench.monitor).queries
    [query] = [query for query in queries if query.fingerprint.sql.startswith("SELECT")]
    assert (query.columns, query.is_text, query.max_rows) == (2, True, 0)
    # It ran once, and still has its line.
    assert query.call_site.function == "test_columns_of_a_text_are_counted"


def test_the_trail_is_that_of_the_statements_and_of_the_ends(sync_bench):
    with scoped() as scope:
        for number in range(3):
            sync_bench.run(lambda connection, number=number: connection.execute(sa.insert(TABLE).values(id=number)))
        record = describe(scope, sync_bench.monitor)
    operations = {query.statement: query.fingerprint.operation for query in record.queries}
    steps = [operations.get(step.statement, step.kind) for step in record.steps]
    assert [step for step in steps if step != "rollback"] == ["INSERT", "commit"] * 3
    assert record.commits == 3
