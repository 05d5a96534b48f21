from __future__ import annotations

import json
import sqlite3
import statistics
import threading
import time

import pytest
import sqlalchemy as sa
from statements import make_example

from querywatch.advisor import Advisor, finding_of
from querywatch.config import Config
from querywatch.explain import Explainer

CONFIG = Config()


def look(*examples, advisor=None):
    """Plan the examples and ask for advice, as the monitor does."""
    explainer = Explainer(CONFIG)
    plans = explainer.take_plans(examples)
    assert explainer.notes == ()
    by_fingerprint = {example.fingerprint.id: example for example in examples}
    advisor = advisor or Advisor(CONFIG)
    return advisor.advise([(by_fingerprint[plan.fingerprint], plan) for plan in plans])


def plan_of(example):
    return Explainer(CONFIG).take_plans([example])[0]


@pytest.fixture(scope="module")
def shop_file(tmp_path_factory):
    """A SQLite file with 1,000,000 orders of 50,000 users."""
    path = tmp_path_factory.mktemp("shop") / "shop.db"
    connection = sqlite3.connect(path)
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) "
    connection.executescript(
        "PRAGMA synchronous = OFF;"
        "CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT);"
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, user_id INT, status TEXT, created_at TEXT);"
        "CREATE TABLE few (id INTEGER PRIMARY KEY, status TEXT);"
        + numbers.format(50_000)
        + "INSERT INTO users SELECT i, 'u' || i FROM n;"
        + numbers.format(500)
        + "INSERT INTO few SELECT i, 'new' FROM n;"
        + numbers.format(1_000_000)
        + "INSERT INTO orders SELECT i, i * 7919 % 50000, substr('new paidsentdone', 1 + i % 4 * 4, 4), i FROM n;"
    )
    connection.close()
    return path


@pytest.fixture
def sqlite_shop(shop_file):
    engine = sa.create_engine(f"sqlite:///{shop_file}")
    yield engine
    engine.dispose()


SQLITE_CASES = [
    pytest.param("SELECT * FROM orders WHERE user_id = ?", (7,), ["orders(user_id)"], id="equality"),
    pytest.param("SELECT * FROM orders WHERE status = ?", ("paid",), [], id="four-values"),
    pytest.param("SELECT * FROM few WHERE status = ?", ("new",), [], id="small-table"),
    pytest.param("SELECT * FROM orders WHERE id = ?", (7,), [], id="primary-key"),
    pytest.param("SELECT * FROM orders", (), [], id="all-rows"),
    pytest.param("SELECT * FROM orders WHERE created_at > ?", ("5",), [], id="half-open-range"),
    pytest.param("SELECT * FROM orders WHERE user_id + 0 = ?", (7,), [], id="expression"),
    pytest.param(
        "SELECT * FROM orders WHERE status = ? ORDER BY created_at DESC LIMIT 20",
        ("paid",),
        ["orders(status, created_at)"],
        id="equality-and-order",
    ),
    pytest.param("SELECT * FROM orders ORDER BY created_at LIMIT 20", (), ["orders(created_at)"], id="first-in-order"),
    pytest.param("SELECT * FROM orders ORDER BY created_at", (), [], id="all-in-order"),
    pytest.param("UPDATE orders SET status = ? WHERE user_id = ?", ("x", 7), ["orders(user_id)"], id="update"),
    pytest.param(
        "SELECT o.id FROM orders AS o JOIN users AS u ON u.id = o.user_id WHERE u.email = ?",
        ("u7",),
        ["orders(user_id)", "users(email)"],
        id="join",
    ),
]


@pytest.mark.parametrize(("statement", "parameters", "expected"), SQLITE_CASES)
def test_on_sqlite(sqlite_shop, statement, parameters, expected):
    advice = look(make_example(sqlite_shop, statement, parameters))
    assert [each.index.subject for each in advice] == expected
    assert all((each.proof, each.cost_before, each.cost_after) == ("scratch", None, None) for each in advice)


def test_on_sqlite_the_index_made_for_real_is_used(shop_file, tmp_path):
    copy = tmp_path / "copy.db"
    copy.write_bytes(shop_file.read_bytes())
    engine = sa.create_engine(f"sqlite:///{copy}")
    example = make_example(engine, "SELECT * FROM orders WHERE user_id = ? ORDER BY created_at", (7,))
    advisor = Advisor(CONFIG)
    (advice,) = look(example, advisor=advisor)
    assert advice.ddl == "CREATE INDEX orders_user_id_idx ON orders (user_id)"
    assert advice.reason == "SCAN on orders, 1,000,000 rows estimated"
    assert advice.proof_text == "SEARCH orders USING INDEX orders_user_id_idx (user_id=?)"
    with engine.begin() as connection:
        connection.exec_driver_sql(advice.ddl)
    plan = plan_of(example)
    assert {node.index for node in plan.root.walk()} == {None, "orders_user_id_idx"}
    other = make_example(engine, "SELECT count(*) FROM orders WHERE +user_id = 1 AND status = ?", ("x",))
    assert look(example, other, advisor=advisor) == []
    assert advisor.advice == ()
    engine.dispose()


def test_one_index_for_several_statements(sqlite_shop):
    advisor = Advisor(CONFIG)
    first = make_example(sqlite_shop, "SELECT * FROM orders WHERE user_id = ?", (7,))
    second = make_example(sqlite_shop, "SELECT count(*) FROM orders WHERE user_id = ? AND status = ?", (7, "paid"))
    look(first, advisor=advisor)
    (advice,) = look(second, advisor=advisor)
    assert advice.index.subject == "orders(user_id)"
    assert advice.fingerprints == (first.fingerprint.id, second.fingerprint.id)
    assert advisor.advice == (advice,)
    assert look(first, second, advisor=advisor) == []


@pytest.fixture
def postgres_shop(postgres_database):
    """A PostgreSQL database with 200,000 orders of 10,000 users."""
    engine = sa.create_engine(postgres_database)
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE users (id serial PRIMARY KEY, email text)",
            "CREATE TABLE orders (id serial PRIMARY KEY, user_id int, status text, created_at timestamptz)",
            "INSERT INTO users (email) SELECT 'u' || i FROM generate_series(1, 10000) AS s(i)",
            """INSERT INTO orders (user_id, status, created_at)
               SELECT i * 7919 % 10000, (ARRAY['new', 'paid', 'sent', 'done'])[1 + i % 4],
                      now() - i * interval '1 minute'
                 FROM generate_series(1, 200000) AS s(i)""",
            "ANALYZE",
        ):
            connection.execute(sa.text(statement))
    yield engine
    engine.dispose()


@pytest.fixture
def with_hypopg(postgres_shop):
    with postgres_shop.begin() as connection:
        connection.execute(sa.text("CREATE EXTENSION hypopg"))
    return postgres_shop


POSTGRES_CASES = [
    pytest.param("SELECT * FROM orders WHERE user_id = %s", (7,), ["orders(user_id)"], id="equality"),
    pytest.param("SELECT * FROM orders WHERE status = %s OR user_id = %s", ("paid", 7), [], id="or"),
    pytest.param("SELECT * FROM orders WHERE id = %s", (7,), [], id="primary-key"),
    pytest.param(
        "SELECT * FROM orders WHERE status = %s ORDER BY created_at DESC LIMIT 20",
        ("paid",),
        ["orders(status, created_at)"],
        id="equality-and-order",
    ),
    pytest.param(
        "SELECT * FROM orders WHERE created_at > now() - interval '1 hour'",
        (),
        ["orders(created_at)"],
        id="range",
    ),
    pytest.param("DELETE FROM orders WHERE user_id = %s", (7,), ["orders(user_id)"], id="delete"),
]


@pytest.mark.parametrize(("statement", "parameters", "expected"), POSTGRES_CASES)
def test_on_postgresql(with_hypopg, statement, parameters, expected):
    advice = look(make_example(with_hypopg, statement, parameters))
    assert [each.index.subject for each in advice] == expected
    assert all(each.proof == "hypopg" and each.cost_after <= 0.7 * each.cost_before for each in advice)


def test_on_postgresql_the_index_made_for_real_costs_what_was_promised(with_hypopg):
    example = make_example(with_hypopg, "SELECT * FROM orders WHERE user_id = %(user)s", {"user": 7})
    advisor = Advisor(CONFIG)
    (advice,) = look(example, advisor=advisor)
    assert advice.ddl == "CREATE INDEX CONCURRENTLY orders_user_id_idx ON orders (user_id)"
    assert advice.reason == "Seq Scan on orders, 200,000 rows estimated, 20 returned"
    before = plan_of(example)
    assert advice.cost_before == before.root.cost
    with with_hypopg.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(advice.ddl)
    after = plan_of(example)
    assert "orders_user_id_idx" in {node.index for node in after.root.walk()}
    assert after.root.cost == pytest.approx(advice.cost_after, rel=0.1)
    assert after.shape != before.shape
    # Now that it exists, a statement that still scans finds it there.
    other = make_example(with_hypopg, "SELECT * FROM orders WHERE user_id + 0 = 7 AND status > 'a'", None)
    look(other, advisor=advisor)
    assert advisor.advice == ()


def test_without_hypopg_it_is_labelled_an_estimate(postgres_shop):
    advisor = Advisor(CONFIG)
    few = make_example(postgres_shop, "SELECT * FROM orders WHERE user_id = %s", (7,))
    many = make_example(postgres_shop, "SELECT * FROM orders WHERE status = %s", ("paid",))
    (advice,) = look(few, many, advisor=advisor)
    assert (advice.index.subject, advice.proof, advice.cost_after) == ("orders(user_id)", "estimated", None)
    assert advice.proof_text == (
        "statistics say that about 20 rows are left; "
        "to have index suggestions proven, run CREATE EXTENSION hypopg in it"
    )
    assert advisor.notes == ("shop: to have index suggestions proven, run CREATE EXTENSION hypopg in it.",)


WAITERS = [
    pytest.param("UPDATE orders SET status = 'x' WHERE user_id = 7", id="update"),
    pytest.param("SELECT * FROM orders WHERE user_id = 7 FOR UPDATE", id="select-for-update"),
]


@pytest.mark.parametrize("statement", WAITERS)
def test_waiting_for_a_lock_earns_no_index(with_hypopg, statement):
    def run():
        begin = time.perf_counter()
        with with_hypopg.begin() as connection:
            connection.exec_driver_sql(statement)
        return time.perf_counter() - begin

    took = []
    with with_hypopg.connect() as blocker:
        blocker.exec_driver_sql("UPDATE orders SET status = 'y' WHERE user_id = 7")
        waiter = threading.Thread(target=lambda: took.append(run()))
        waiter.start()
        waiter.join(1.0)
        assert waiter.is_alive()
        blocker.rollback()
    waiter.join()
    once = make_example(with_hypopg, statement, None, calls=1, typical_s=took[0])
    assert look(once) == []
    took += [run() for _ in range(4)]
    mostly_fast = make_example(
        with_hypopg,
        statement,
        None,
        calls=len(took),
        typical_s=statistics.median(took),
        max_s=max(took),
        total_s=sum(took),
    )
    assert look(mostly_fast) == []


def test_a_lock_on_the_table_stops_the_advice_and_leaves_nothing(with_hypopg):
    example = make_example(with_hypopg, "SELECT * FROM orders WHERE user_id = %s", (7,))
    plan = plan_of(example)
    advisor = Advisor(CONFIG)
    with with_hypopg.connect() as blocker:
        blocker.exec_driver_sql("ALTER TABLE orders ADD COLUMN colour text")
        assert advisor.advise([(example, plan)]) == []
        assert advisor.errors == 1
        blocker.rollback()
    # It was not the statement's fault: the next look finds the index.
    assert [each.index.subject for each in advisor.advise([(example, plan)])] == ["orders(user_id)"]


def test_the_same_plan_is_examined_once(with_hypopg):
    example = make_example(with_hypopg, "SELECT * FROM orders WHERE user_id = %s", (7,))
    plan = plan_of(example)
    advisor = Advisor(CONFIG)
    assert len(advisor.advise([(example, plan)])) == 1
    assert advisor.advise([(example, plan)]) == []


def test_what_the_time_does_not_reach_waits_for_the_next_call(with_hypopg):
    now = [0.0]
    advisor = Advisor(CONFIG, clock=lambda: now.__setitem__(0, now[0] + 3.0) or now[0])
    examples = [
        make_example(with_hypopg, f"SELECT * FROM orders WHERE {column} = %s", (value,))
        for column, value in (("user_id", 7), ("created_at", "2020-01-01"))
    ]
    planned = [(example, plan_of(example)) for example in examples]
    found = [len(advisor.advise(planned)), *(len(advisor.advise([])) for _ in range(3))]
    assert sum(found) <= 2
    assert found[0] <= 1


def test_a_finding_names_the_index_and_the_statement_to_type(sqlite_shop):
    example = make_example(sqlite_shop, "SELECT * FROM orders WHERE user_id = ?", (7,), calls=40, typical_s=0.05)
    (advice,) = look(example)
    finding = finding_of(advice, now=1_700_000_000.0, example=example)
    assert (finding.code, finding.fix_kind, finding.subject) == ("missing-index", "create_index", "orders(user_id)")
    assert finding.message == (
        "An index on orders(user_id) helps SELECT orders: SCAN on orders, 1,000,000 rows estimated."
    )
    assert finding.fix == "Run: CREATE INDEX orders_user_id_idx ON orders (user_id)"
    assert (finding.count, finding.fingerprint) == (40, example.fingerprint.id)
    assert json.loads(json.dumps(finding.evidence.as_dict()))["proof"] == "scratch"
