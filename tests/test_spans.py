"""What becomes a span: slow calls, failed calls, one for a whole N+1; each once, in the trace of its caller."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

import querywatch


class Model(orm.DeclarativeBase):
    pass


class User(Model):
    __tablename__ = "users"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    orders: orm.Mapped[list[Order]] = orm.relationship()


class Order(Model):
    __tablename__ = "orders"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    user_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("users.id"))


class Recorder:
    """An exporter that keeps what it is given."""

    notes = ()

    def __init__(self):
        self.passes = []

    def on_finding(self, finding):
        pass

    def on_pass(self, spans):
        self.passes.append(list(spans))

    def close(self):
        pass

    @property
    def spans(self):
        return [span for each in self.passes for span in each]


@pytest.fixture
def engine(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    Model.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add_all(User(orders=[Order()]) for _ in range(8))
        session.commit()
    yield engine
    querywatch.uninstall(engine)
    engine.dispose()


@pytest.fixture
def watch_spans(engine):
    """Install a monitor with settings, and return it and what records its spans."""

    def watch_spans(**settings):
        monitor = querywatch.install(engine, **({"interval_s": 3600.0, "explain": False} | settings))
        recorder = Recorder()
        monitor.add_exporter(recorder)
        return monitor, recorder

    return watch_spans


ALL_SLOW = {"slow_query_s": 1e-9}
NONE_SLOW = {"slow_query_s": float("inf")}


@pytest.mark.parametrize(
    ("statement", "operation", "collection"),
    [
        pytest.param(sa.select(User), "SELECT", "users", id="select"),
        pytest.param(sa.select(User.id).join(User.orders), "SELECT", None, id="join-has-no-one-table"),
        pytest.param(sa.select(sa.literal(1)), "SELECT", None, id="no-table"),
        pytest.param(sa.insert(User).values(id=99), "INSERT", "users", id="insert"),
        pytest.param(sa.update(Order).values(user_id=2).where(Order.id == 1), "UPDATE", "orders", id="update"),
        pytest.param(sa.delete(Order).where(Order.id == 1), "DELETE", "orders", id="delete"),
        pytest.param(sa.text("SELECT id FROM users"), None, None, id="a-text-is-not-parsed"),
        pytest.param(
            sa.schema.CreateTable(sa.Table("new", sa.MetaData(), sa.Column("id", sa.Integer))), None, None, id="ddl"
        ),
    ],
)
def test_a_slow_call_is_one_span_with_what_the_compiled_statement_says(
    engine, watch_spans, statement, operation, collection
):
    monitor, recorder = watch_spans(**ALL_SLOW)
    before = time.time()
    with engine.begin() as connection:
        connection.execute(statement)
    monitor.flush(60.0)
    monitor.flush(60.0)
    [span] = recorder.spans
    assert (span.kind, span.operation, span.collection) == ("slow", operation, collection)
    assert (span.calls, span.batch_size, span.total_s) == (1, None, None)
    assert (span.error_type, span.sqlstate) == (None, None)
    assert before <= span.started_at <= span.ended_at <= time.time()
    assert (span.database.name, span.parent) == ("shop.db", None)
    assert span.call_site.function.startswith("test_a_slow_call")


def test_executemany_is_one_span_with_its_size(engine, watch_spans):
    monitor, recorder = watch_spans(**ALL_SLOW)
    with engine.begin() as connection:
        connection.execute(sa.insert(User), [{"id": 100}, {"id": 101}, {"id": 102}])
    monitor.flush(60.0)
    [span] = recorder.spans
    assert (span.calls, span.batch_size, span.operation) == (1, 3, "INSERT")


def test_a_failed_call_is_one_span_with_its_class(engine, watch_spans):
    monitor, recorder = watch_spans(**NONE_SLOW)
    with engine.connect() as connection, pytest.raises(sa.exc.IntegrityError):
        connection.execute(sa.insert(User).values(id=1))
    monitor.flush(60.0)
    [span] = recorder.spans
    assert (span.kind, span.error_type, span.sqlstate) == ("failed", "IntegrityError", None)
    assert (span.operation, span.collection) == ("INSERT", "users")


def test_a_failed_call_on_postgresql_has_its_sqlstate(postgres_database):
    engine = sa.create_engine(postgres_database)
    monitor, recorder = querywatch.install(engine, interval_s=3600.0, **NONE_SLOW), Recorder()
    monitor.add_exporter(recorder)
    with engine.connect() as connection, pytest.raises(sa.exc.ProgrammingError):
        connection.execute(sa.text("SELECT 1 FROM nowhere"))
    querywatch.uninstall(engine)
    engine.dispose()
    [span] = recorder.spans
    assert (span.error_type, span.sqlstate) == ("UndefinedTable", "42P01")
    assert (span.database.system, span.database.server_address) == ("postgresql", "127.0.0.1")


def test_of_many_slow_calls_a_few_are_spans_and_all_are_counted(engine, watch_spans):
    monitor, recorder = watch_spans(**ALL_SLOW)
    with engine.connect() as connection:
        for _ in range(50):
            connection.execute(sa.text("SELECT 1"))
    monitor.flush(60.0)
    assert [span.kind for span in recorder.spans] == ["slow"] * 5
    assert [finding.count for finding in monitor.findings()] == [50]


def test_a_whole_n_plus_one_is_one_span(engine, watch_spans):
    monitor, recorder = watch_spans(**NONE_SLOW)
    with querywatch.watch("job"), orm.Session(engine) as session:
        for user in session.scalars(sa.select(User)):
            len(user.orders)
    monitor.flush(60.0)
    [span], [finding] = recorder.spans, monitor.findings()
    assert (span.kind, span.calls, span.total_s) == ("n-plus-one", 8, finding.total_s)
    assert (span.fingerprint.id, span.call_site) == (finding.fingerprint, finding.call_site)
    assert (span.operation, span.collection) == ("SELECT", "orders")
    assert span.started_at <= span.ended_at


def test_an_n_plus_one_that_is_looked_at_again_adds_only_what_is_new(engine, watch_spans):
    monitor, recorder = watch_spans(**NONE_SLOW)
    with querywatch.watch("job"):
        for _ in range(3):
            with orm.Session(engine) as session:
                for user in session.scalars(sa.select(User)):
                    len(user.orders)
            monitor.flush(60.0)
    monitor.flush(60.0)
    assert [span.calls for span in recorder.spans] == [8, 8, 8]
    [finding] = monitor.findings()
    assert sum(span.total_s for span in recorder.spans) == pytest.approx(finding.total_s)


def test_a_quick_statement_is_no_span_and_each_pass_is_told(engine, watch_spans):
    monitor, recorder = watch_spans(**NONE_SLOW)
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
    monitor.flush(60.0)
    monitor.flush(60.0)
    assert recorder.passes == [[], []]


PROGRAM = """
    import asyncio, json, sys
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from sqlalchemy import create_engine, select, text
    from sqlalchemy.exc import OperationalError
    from sqlalchemy.ext.asyncio import create_async_engine
    import querywatch

    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    trace.set_tracer_provider(provider)
    tracer = trace.get_tracer("shop")
    spans = sys.argv[1]

    def use(connection):
        for number in range(7):
            connection.execute(text("SELECT name FROM things WHERE name = :n"), {"n": str(number)}).all()
        try:
            connection.execute(text("SELECT 1 FROM nowhere"))
        except OperationalError:
            pass

    def run_sync():
        engine = create_engine("sqlite:///shop.db")
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE things (name TEXT)"))
        monitor = querywatch.install(engine, spans=spans, slow_query_s=float("inf"))
        with tracer.start_as_current_span("GET /sync"), engine.connect() as connection:
            use(connection)
        monitor.close()

    async def run_async():
        engine = create_async_engine("sqlite+aiosqlite:///shop.db")
        monitor = querywatch.install(engine, spans=spans, slow_query_s=float("inf"))
        with tracer.start_as_current_span("GET /async"):
            async with engine.connect() as connection:
                await connection.run_sync(use)
        await monitor.aflush(60)
        monitor.close()
        await engine.dispose()

    run_sync()
    asyncio.run(run_async())
    for span in memory.get_finished_spans():
        parent = span.parent and span.parent.span_id
        same = [other.name for other in memory.get_finished_spans() if other.context.span_id == parent
                and other.context.trace_id == span.context.trace_id]
        print(json.dumps([same, span.name, dict(span.attributes)]))
"""


def run(folder, *arguments):
    (folder / "program.py").write_text(textwrap.dedent(PROGRAM))
    done = subprocess.run(
        [sys.executable, "program.py", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_with_the_real_sdk_spans_are_children_of_the_request_in_sync_and_async_code(tmp_path):
    found = run(tmp_path, "findings")
    assert [name for parents, name, _ in found if not parents] == ["GET /sync", "GET /async"]
    for parent in ("GET /sync", "GET /async"):
        failed, burst = sorted(
            (attributes for parents, _, attributes in found if parents == [parent]),
            key=lambda attributes: attributes["querywatch.kind"],
        )
        assert (failed["querywatch.kind"], failed["error.type"]) == ("failed", "OperationalError")
        assert (burst["querywatch.kind"], burst["querywatch.calls"]) == ("n-plus-one", 7)
        assert burst["db.query.text"] == "SELECT name FROM things WHERE name = ?"
        assert burst["code.file.path"] == "program.py"


def test_spans_none_builds_none(tmp_path):
    assert [name for _, name, _ in run(tmp_path, "none")] == ["GET /sync", "GET /async"]
