from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from querywatch.dialects import find_dialect, postgres, postgres_plan
from querywatch.dialects.connection import NoProofError, converse
from querywatch.errors import ExplainError, ExplainTimeoutError
from querywatch.records import IndexSpec

PLANS = Path(__file__).parents[1] / "data" / "plans" / "postgresql"


@pytest.fixture
def engine(postgres_database):
    engine = sa.create_engine(postgres_database)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE orders (id serial PRIMARY KEY, user_id int, status text, note text)"))
        connection.execute(
            sa.text(
                "INSERT INTO orders (user_id, status) SELECT i % 5000, 'paid' FROM generate_series(1, 50000) AS s(i)"
            )
        )
        connection.execute(sa.text("ANALYZE orders"))
    yield engine
    engine.dispose()


def ask(engine, work, timeout_s=5.0):
    engine = getattr(engine, "sync_engine", engine)

    def read(connection):
        with postgres.open_reader(connection, engine, timeout_s=timeout_s):
            return work(connection)

    return converse(engine, read)


def left_behind(engine):
    """What other sessions hold now: (transactions open, locks on orders)."""
    with engine.connect() as connection:
        return connection.execute(
            sa.text(
                "SELECT (SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND xact_start IS NOT NULL"
                " AND datname = current_database()),"
                " (SELECT count(*) FROM pg_locks WHERE relation = 'orders'::regclass AND pid <> pg_backend_pid())"
            )
        ).one()


DRIVERS = [
    pytest.param("psycopg", False, "%(user)s::INTEGER", {"user": 7}, id="psycopg"),
    pytest.param("psycopg", True, "%(user)s::INTEGER", {"user": 7}, id="psycopg-async"),
    pytest.param("asyncpg", True, "$1::INTEGER", (7,), id="asyncpg"),
]


@pytest.mark.parametrize(("driver", "is_async", "placeholder", "parameters"), DRIVERS)
def test_plans_with_each_driver(engine, driver, is_async, placeholder, parameters):
    url = engine.url.set(drivername=f"postgresql+{driver}")
    theirs = create_async_engine(url) if is_async else sa.create_engine(url)
    root = ask(
        theirs,
        lambda c: postgres.take_plan(c, f"SELECT * FROM orders WHERE user_id = {placeholder}", parameters, {}),
    )
    scan = next(node for node in root.walk() if node.table == "orders")
    assert scan.kind == "Seq Scan"
    assert postgres.reads_whole_table(scan)
    assert scan.detail == "Filter: (orders.user_id = ?)"
    assert root.cost > 100
    assert left_behind(engine) == (0, 0)


def test_no_value_gets_into_a_plan(engine):
    root = ask(
        engine,
        lambda c: postgres.take_plan(
            c,
            "SELECT lower(note) || 'secret4' FROM orders WHERE status = 'secret1' AND note IN ('secret2', 'x') "
            "AND user_id > 31337 ORDER BY note || 'secret3'",
            None,
            {},
        ),
    )
    text = repr(root)
    assert "secret" not in text
    assert "31337" not in text


def test_a_table_outside_the_search_path_keeps_its_schema(engine):
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE SCHEMA archive"))
        connection.execute(sa.text("CREATE TABLE archive.orders (id int)"))
    root = ask(engine, lambda c: postgres.take_plan(c, "SELECT * FROM archive.orders", None, {}))
    assert root.table == "archive.orders"
    assert ask(engine, lambda c: postgres.count_rows(c, "archive.orders")) > 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE orders SET status = 'x' WHERE user_id = 7",
        "DELETE FROM orders WHERE user_id = 7",
        "SELECT * FROM orders WHERE user_id = 7 FOR UPDATE",
    ],
    ids=lambda text: text.split()[0],
)
def test_a_statement_that_writes_is_planned_and_not_run(engine, statement):
    root = ask(engine, lambda c: postgres.take_plan(c, statement, None, {}))
    assert any(node.table == "orders" and node.kind == "Seq Scan" for node in root.walk())
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM orders WHERE status = 'paid'")) == 50_000


def test_gives_up_behind_alter_table_and_holds_nothing(engine):
    with engine.connect() as blocker:
        blocker.execute(sa.text("ALTER TABLE orders ADD COLUMN colour text"))
        with pytest.raises(ExplainTimeoutError, match="55P03"):
            ask(engine, lambda c: postgres.take_plan(c, "SELECT * FROM orders", None, {}))
        blocker.rollback()
    assert left_behind(engine) == (0, 0)


def test_gives_back_the_locks_after_each_plan(engine):
    def work(connection):
        postgres.take_plan(connection, "SELECT * FROM orders", None, {})
        with engine.begin() as other:
            other.execute(sa.text("SET LOCAL lock_timeout = 1000"))
            other.execute(sa.text("ALTER TABLE orders ADD COLUMN colour text"))
        return postgres.take_plan(connection, "SELECT colour FROM orders", None, {})

    assert ask(engine, work).table == "orders"


def test_stops_at_the_time_limit(engine):
    # Planning calls a stable function to estimate; this one takes its time.
    with engine.begin() as connection:
        connection.execute(
            sa.text("CREATE FUNCTION slow() RETURNS int STABLE LANGUAGE sql AS 'SELECT 1 FROM pg_sleep(60)'")
        )
    with pytest.raises(ExplainTimeoutError, match="57014"):
        ask(engine, lambda c: postgres.take_plan(c, "SELECT * FROM orders WHERE user_id < slow()", None, {}), 0.05)


def test_an_error_names_no_value_and_ends_no_transaction(engine):
    def work(connection):
        with pytest.raises(ExplainError) as caught:
            postgres.take_plan(connection, "SELECT * FROM orders WHERE user_id = 'secret'", None, {})
        assert "secret" not in str(caught.value)
        assert "22P02" in str(caught.value)
        return postgres.take_plan(connection, "SELECT * FROM orders", None, {})

    assert ask(engine, work).table == "orders"


def test_a_connect_listener_may_leave_its_transaction_open(engine):
    @sa.event.listens_for(engine, "connect")
    def prepare(connection, _record):
        connection.cursor().execute("SET search_path TO pg_catalog")

    engine.dispose()
    with pytest.raises(ExplainError, match="42P01"):
        ask(engine, lambda c: postgres.take_plan(c, "SELECT * FROM orders", None, {}))
    root = ask(engine, lambda c: postgres.take_plan(c, "SELECT * FROM public.orders", None, {}))
    assert root.table == "public.orders"


def test_nothing_can_be_written_on_our_connection(engine):
    with pytest.raises(ExplainError, match="25006"):
        ask(engine, lambda c: postgres._ask(c, "DELETE FROM orders"))


def test_counts_and_catalog(engine):
    with engine.begin() as connection:
        connection.execute(sa.text('CREATE INDEX orders_mixed_idx ON orders (user_id, status DESC) INCLUDE ("note")'))
        connection.execute(sa.text("CREATE INDEX orders_lower_idx ON orders (lower(note)) WHERE status = 'new'"))

    def work(connection):
        return (
            postgres.count_rows(connection, "orders"),
            postgres.count_rows(connection, "nowhere"),
            {index.name: index for index in postgres.list_indexes(connection, "orders")},
            postgres.list_names(connection, "orders"),
            postgres.estimate_selectivity(connection, "orders", ["user_id"]),
            postgres.estimate_selectivity(connection, "orders", ["nothing"]),
        )

    rows, none, indexes, names, share, unknown = ask(engine, work)
    assert rows == pytest.approx(50_000, rel=0.05)
    assert none is None
    assert indexes["orders_mixed_idx"].columns == ("user_id", "status DESC")
    assert indexes["orders_mixed_idx"].include == ("note",)
    assert indexes["orders_pkey"].unique
    assert indexes["orders_lower_idx"].expressions == ("lower(note)",)
    assert "status" in indexes["orders_lower_idx"].where
    assert {"orders", "orders_pkey", "orders_id_seq"} <= names
    assert share == pytest.approx(1 / 5000, rel=0.1)
    assert unknown is None


INDEX = IndexSpec("orders", ("user_id",), name="orders_user_id_idx")


def plan_with_index(engine, connection, statement="SELECT * FROM orders WHERE user_id = 7"):
    with postgres.open_what_if(connection, engine, {}, {}, has_limit=False) as what_if:
        return what_if.plan(statement, None, [INDEX])


def test_a_what_if_names_the_proposed_index_and_leaves_none_behind(engine):
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE SCHEMA extensions"))
        # Outside the search_path, as some hosts have it.
        connection.execute(sa.text("CREATE EXTENSION hypopg SCHEMA extensions"))

    def work(connection):
        root = plan_with_index(engine, connection)
        return root, postgres._ask(connection, "SELECT count(*) FROM extensions.hypopg()")[0][0]

    root, left = ask(engine, work)
    assert "orders_user_id_idx" in {node.index for node in root.walk()}
    assert left == 0


@pytest.mark.parametrize(
    "index",
    [
        pytest.param(INDEX, id="the-statement-fails"),
        pytest.param(IndexSpec("orders", ("nothing",), name="x"), id="the-index-fails"),
    ],
)
def test_a_failed_what_if_leaves_none_behind(engine, index):
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE EXTENSION hypopg"))

    def work(connection):
        with postgres.open_what_if(connection, engine, {}, {}, has_limit=False) as what_if:
            with pytest.raises(ExplainError):
                what_if.plan("SELECT nonsense FROM orders", None, [INDEX, index])
            return postgres._ask(connection, "SELECT count(*) FROM hypopg()")[0][0]

    assert ask(engine, work) == 0


def test_without_hypopg_it_says_what_to_run(engine):
    with pytest.raises(NoProofError, match="run CREATE EXTENSION hypopg"):
        ask(engine, lambda c: plan_with_index(engine, c))


def test_auto_explain_does_not_break_a_what_if(engine):
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE EXTENSION hypopg"))

    def load(connection, _record):
        with connection.cursor() as cursor:
            cursor.execute("LOAD 'auto_explain'")
            cursor.execute("SET auto_explain.log_min_duration = 0")
        connection.commit()

    sa.event.listen(engine, "connect", load)
    root = ask(engine, lambda c: plan_with_index(engine, c))
    assert "orders_user_id_idx" in {node.index for node in root.walk()}


def test_a_role_that_may_only_read(engine):
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE EXTENSION hypopg"))
        connection.execute(sa.text("DROP ROLE IF EXISTS reader"))
        connection.execute(sa.text("CREATE ROLE reader LOGIN"))
        connection.execute(sa.text("GRANT SELECT ON orders TO reader"))
    theirs = sa.create_engine(engine.url.set(username="reader"))
    root = ask(theirs, lambda c: plan_with_index(theirs, c))
    assert "orders_user_id_idx" in {node.index for node in root.walk()}
    with pytest.raises(ExplainError, match="42501"):
        ask(theirs, lambda c: postgres.take_plan(c, "DELETE FROM orders", None, {}))
    with engine.begin() as connection:
        connection.execute(sa.text("DROP OWNED BY reader"))
        connection.execute(sa.text("DROP ROLE reader"))


@pytest.mark.parametrize(
    ("index", "ddl"),
    [
        pytest.param(INDEX, "CREATE INDEX CONCURRENTLY orders_user_id_idx ON orders (user_id)", id="plain"),
        pytest.param(
            IndexSpec("shop.Order", ("userId", "created_at DESC"), name="Order_userId_created_at_idx"),
            'CREATE INDEX CONCURRENTLY "Order_userId_created_at_idx" ON shop."Order" ("userId", created_at DESC)',
            id="quoted-where-needed",
        ),
    ],
)
def test_writes_ddl(index, ddl):
    assert postgres.write_ddl(sa.create_engine("postgresql+psycopg://"), index) == ddl


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.json")), ids=lambda path: path.stem)
def test_parses_real_plans(path):
    root = postgres_plan.parse_plan(path.read_text(), frozenset({"public"}))
    tables = {node.table for node in root.walk()} - {None}
    assert tables
    assert all(node.cost is not None and node.rows_estimated is not None for node in root.walk())
    # Each plan was taken of a statement with these in it.
    assert "secret" not in repr(root)
    assert json.loads(path.read_text())[0]["Plan"]["Node Type"] == root.kind


@pytest.mark.parametrize(("driver", "is_async"), [("psycopg", False), ("asyncpg", True), ("psycopg", True)])
def test_the_rowcount_of_a_select_is_its_rows(postgres_server, driver, is_async):
    url = postgres_server.url(driver=driver)
    engine = create_async_engine(url).sync_engine if is_async else sa.create_engine(url)

    def count(connection):
        cursor = connection.cursor()
        cursor.execute("SELECT generate_series(1, 3)")
        return postgres.find_row_counter(engine.dialect)(cursor)

    assert converse(engine, count) == 3
    assert not postgres.fetches_lazily(engine.dialect)


def test_an_unknown_dialect_has_no_module():
    assert find_dialect("oracle") is None
