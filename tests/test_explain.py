from __future__ import annotations

import sqlite3

import pytest
import sqlalchemy as sa
from statements import make_example

from querywatch.config import Config
from querywatch.explain import Explainer, hash_shape, may_explain
from querywatch.records import Database, PlanNode


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def engine(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE orders (id INTEGER PRIMARY KEY, user_id INT, status TEXT)"))
    yield engine
    engine.dispose()


def explainer(clock, **settings):
    return Explainer(Config(**settings), clock=clock, wall_clock=lambda: 1_700_000_000.0)


def columns(engine, *names, **figures):
    return [make_example(engine, f"SELECT {name} FROM orders", **figures) for name in names]


def test_a_plan_holds_where_and_when_and_no_value(engine, clock):
    example = make_example(engine, "SELECT * FROM orders AS o WHERE o.status = 'secret'")
    (plan,) = explainer(clock).take_plans([example])
    assert (plan.fingerprint, plan.database, plan.dialect) == (example.fingerprint.id, "shop", "sqlite")
    assert plan.captured_at == 1_700_000_000.0
    assert [(node.kind, node.table) for node in plan.root.walk()] == [("QUERY PLAN", None), ("SCAN", "orders")]
    assert "secret" not in repr(plan)


def test_slow_first_then_the_busiest(engine, clock):
    slow = make_example(engine, "SELECT id FROM orders", calls=1, typical_s=0.5)
    busy = make_example(engine, "SELECT user_id FROM orders", calls=1_000, typical_s=0.01)
    once_slow = make_example(engine, "SELECT status FROM orders", calls=100, typical_s=0.01, max_s=3.0)
    rare = make_example(engine, "SELECT 1 FROM orders", calls=1, typical_s=0.001)
    plans = explainer(clock).take_plans([rare, busy, slow, once_slow])
    assert [plan.fingerprint for plan in plans] == [each.fingerprint.id for each in (once_slow, slow, busy)]


def test_at_most_so_many_a_minute(engine, clock):
    taken = explainer(clock, explain_per_minute=2)
    examples = columns(engine, "id", "user_id", "status")
    assert len(taken.take_plans(examples)) == 2
    assert len(taken.take_plans(examples)) == 0
    clock.now += 60
    assert len(taken.take_plans(examples)) == 1


def test_the_same_statement_only_after_a_while_or_when_it_is_much_slower(engine, clock):
    taken = explainer(clock)
    assert len(taken.take_plans(columns(engine, "id"))) == 1
    assert len(taken.take_plans(columns(engine, "id", typical_s=0.3))) == 0
    assert len(taken.take_plans(columns(engine, "id", typical_s=0.9))) == 1
    clock.now += 600
    assert len(taken.take_plans(columns(engine, "id", typical_s=0.9))) == 1


def test_in_memory_is_said_once(clock):
    taken = explainer(clock)
    memory = sa.create_engine("sqlite://")
    assert taken.take_plans(columns(memory, "id", "status")) == []
    assert taken.notes == ("shop: in-memory SQLite has no second connection, so its plans cannot be taken.",)
    assert taken.errors == 0


def test_a_server_that_is_gone_is_left_alone_for_longer_each_time(clock):
    gone = sa.create_engine("postgresql+psycopg://127.0.0.1:1/shop")
    taken = explainer(clock)
    attempts = []
    for _ in range(100):
        before = taken.errors
        assert taken.take_plans(columns(gone, "id")) == []
        if taken.errors > before:
            attempts.append(clock.now - 1000)
        clock.now += 1
    assert attempts == [0, 10, 30, 70]
    assert taken.notes == ("shop: a connection of our own failed (OperationalError); plans are tried again later.",)


def test_a_refused_statement_does_not_stop_the_others(engine, clock):
    taken = explainer(clock)
    examples = columns(engine, "nothing", "id")
    assert [plan.fingerprint for plan in taken.take_plans(examples)] == [examples[1].fingerprint.id]
    assert taken.errors == 1
    assert taken.notes == ("shop: no plan of SELECT orders: the database refused it (OperationalError, SQLITE_ERROR).",)


def test_other_databases_are_left_alone(clock):
    example = make_example(sa.create_engine("sqlite://"), "SELECT id FROM orders")
    example = example._replace(database=Database("shop", "oracle.db", "oracle"))
    taken = explainer(clock)
    assert taken.take_plans([example]) == []
    assert taken.notes == ()


def test_behind_a_lock_it_gives_up_and_tries_again_later(engine, clock, tmp_path):
    writer = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    taken = explainer(clock)
    assert taken.take_plans(columns(engine, "id")) == []
    writer.execute("ROLLBACK")
    writer.close()
    assert taken.errors == 1
    assert taken.take_plans(columns(engine, "id")) == []
    clock.now += 10
    assert len(taken.take_plans(columns(engine, "id"))) == 1


def test_a_second_statement_is_never_run(postgres_database, clock):
    engine = sa.create_engine(postgres_database)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE orders (id int)"))
    statements = [
        "SELECT 1; COMMIT; DROP TABLE orders",
        "SELECT ';' ; DROP TABLE orders",
        "SELECT E'\\';'; COMMIT; DROP TABLE orders --'",
        "SELECT 1 /* /* */ ; */ ; COMMIT; DROP TABLE orders",
        "SELECT $x$ ' $x$; COMMIT; DROP TABLE orders; SELECT '",
        "DROP TABLE orders",
    ]
    examples = [make_example(engine, statement, None) for statement in statements]
    assert explainer(clock).take_plans(examples) == []
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM orders")) == 0
    engine.dispose()


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("SELECT 1", True),
        ("  select 1 ;  ", True),
        ("/* shop/views.py */ SELECT 1", True),
        ("(SELECT 1) UNION (SELECT 2)", True),
        ("SELECT 'a;b', \"c;d\" FROM t", True),
        ("SELECT replace(a, 'INSERT', 'into') FROM t", True),
        ("SELECT a FROM t FOR UPDATE", True),
        ("SELECT a FROM t FOR NO KEY UPDATE", True),
        ("WITH x AS (SELECT 1) SELECT * FROM x", True),
        ("UPDATE t SET a = 1", True),
        ("DELETE FROM t", True),
        ("SELECT 1; SELECT 2", False),
        ("SELECT 'it''s'; SELECT 2", False),
        ("SELECT 'a\\'; SELECT 2", False),
        ("SELECT 1 -- ; \n", True),
        ("SELECT 1 -- ; \n ; SELECT 2", False),
        ("SELECT * INTO copy FROM t", False),
        ("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", False),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", False),
        ("INSERT INTO t SELECT 1", False),
        ("EXPLAIN ANALYZE DELETE FROM t", False),
        ("CREATE TABLE t (a int)", False),
        ("PRAGMA table_info(t)", False),
        ("BEGIN", False),
        ("SET x = 1", False),
        ("COPY t FROM STDIN", False),
        ("", False),
        ("SELECT '" + "x" * 200_000 + "'", False),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
@pytest.mark.parametrize("dialect", ["postgresql", "sqlite"])
def test_what_may_be_planned(statement, allowed, dialect):
    assert may_explain(statement, dialect) is allowed


def test_not_with_thousands_of_values():
    assert not may_explain("SELECT 1", "sqlite", tuple(range(10_000)))


def test_the_shape_is_of_kinds_tables_and_indexes():
    tree = PlanNode("Sort", cost=5, children=(PlanNode("Seq Scan", table="orders", rows_estimated=7),))
    same = PlanNode("Sort", cost=9, children=(PlanNode("Seq Scan", table="orders", detail="Filter: ?"),))
    other = PlanNode("Sort", children=(PlanNode("Index Scan", table="orders", index="i"),))
    flat = PlanNode("Sort", children=(PlanNode("Seq Scan", table="orders"), PlanNode("Sort")))
    assert hash_shape(tree) == hash_shape(same)
    assert len(hash_shape(tree)) == 16
    assert len({hash_shape(tree), hash_shape(other), hash_shape(flat)}) == 3
