"""The lines of issue 2 that a user sees first: each test is named after its line.

The same N+1 on FastAPI (sync and async engine) and Flask is in tests/integrations/test_fastapi.py and test_flask.py.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap

import pytest
import sqlalchemy as sa

import querywatch

SCRIPT = """
    import logging
    import querywatch
    from sqlalchemy import ForeignKey, create_engine, select
    from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

    class Model(DeclarativeBase): pass

    class User(Model):
        __tablename__ = "users"
        id: Mapped[int] = mapped_column(primary_key=True)
        orders: Mapped[list["Order"]] = relationship()

    class Order(Model):
        __tablename__ = "orders"
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))

    engine = create_engine("sqlite:///shop.db")
    Model.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(User(orders=[Order(), Order()]) for _ in range(30))
        session.commit()

    monitor = querywatch.install(engine, slow_query_s=float("inf"))
"""

LOOP = """
    def count_orders(session):
        users = session.scalars(select(User)).all()  # parent
        return sum(len(user.orders) for user in users)  # loop
"""

PRINT = """
    monitor.flush(60)
    for finding in monitor.findings():
        print(finding.code, finding.kind, finding.subject, finding.count, finding.call_site, finding.fix, sep="|")
"""


def run(folder, *parts):
    """Run a script that knows nothing of this test, and return it with what it printed."""
    source = "".join(textwrap.dedent(part) for part in parts)
    (folder / "script.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env=os.environ | {"PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return source, done


def line_of(source, mark):
    return next(number for number, line in enumerate(source.splitlines(), 1) if line.endswith(f"# {mark}"))


@pytest.mark.parametrize(
    "use",
    [
        pytest.param("with Session(engine) as session: print(count_orders(session))", id="session-closed"),
        pytest.param("session = Session(engine); print(count_orders(session))", id="session-never-closed"),
        pytest.param(
            "session = Session(engine); print(count_orders(session)); monitor.flush(60); monitor.snapshot()",
            id="looked-at-twice",
        ),
    ],
)
def test_install_alone_in_a_plain_script_finds_the_loop(tmp_path, use):
    source, done = run(tmp_path, SCRIPT, LOOP, use, PRINT)
    fix = f"Add .options(selectinload(User.orders)) to the select at script.py:{line_of(source, 'parent')}."
    assert done.stdout.splitlines() == [
        "60",
        f"n-plus-one|lazy_load|User.orders|30|script.py:{line_of(source, 'loop')}|{fix}",
    ]
    assert done.stderr == ""


def test_install_alone_in_a_plain_script_tells_the_log_at_interpreter_exit(tmp_path):
    configure = "logging.basicConfig(level=logging.INFO)"
    source, done = run(tmp_path, SCRIPT, LOOP, configure, "\nsession = Session(engine); print(count_orders(session))")
    assert done.stdout == "60\n"
    [told] = done.stderr.splitlines()
    assert told.startswith("WARNING:querywatch:querywatch.finding code=n-plus-one kind=lazy_load subject=User.orders")
    assert f"call_site=script.py:{line_of(source, 'loop')}" in told
    assert f"selectinload(User.orders)) to the select at script.py:{line_of(source, 'parent')}" in told


def test_install_alone_in_a_plain_script_says_nothing_where_nothing_is_wrong(tmp_path):
    fixed = LOOP.replace("select(User)", "select(User).options(selectinload(User.orders))")
    more = "from sqlalchemy.orm import selectinload\nwith Session(engine) as session: print(count_orders(session))"
    _, done = run(tmp_path, SCRIPT, fixed, more, PRINT)
    assert (done.stdout, done.stderr) == ("60\n", "")


STATEMENT = sa.text("SELECT id, total FROM orders WHERE user_id = :user")


def show(engine, monitor, statement=STATEMENT, **values):
    """Run the slow filter and return what is known of it."""
    with engine.connect() as connection:
        rows = connection.execute(statement, values).all()
    assert rows
    assert monitor.flush(60.0)
    snapshot = monitor.snapshot()
    [stats] = [each for each in snapshot.queries if "user_id" in each.fingerprint.sql]
    assert dict(snapshot.dropped) == {}
    [plan] = [each for each in snapshot.plans if each.fingerprint == stats.fingerprint.id]
    return snapshot, stats, plan


def plan_again(engine, **settings):
    """Run the filter under a new monitor, which knows no earlier plan."""
    monitor = querywatch.install(engine, **settings)
    try:
        return show(engine, monitor, user=7)
    finally:
        querywatch.uninstall(engine)


@pytest.fixture
def make_engine():
    made = []

    def make(url):
        made.append(sa.create_engine(url))
        return made[-1]

    yield make
    for engine in made:
        querywatch.uninstall(engine)
        engine.dispose()


# Any call is slow: how fast this machine is does not matter here.
SLOW = {"slow_query_s": 1e-9}


def test_on_postgresql_a_slow_filter_gives_a_plan_and_an_index_that_its_plan_then_uses(postgres_database, make_engine):
    engine = make_engine(postgres_database)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE EXTENSION hypopg")
        connection.exec_driver_sql("CREATE TABLE orders (id int PRIMARY KEY, user_id int, total int)")
        connection.exec_driver_sql(
            "INSERT INTO orders SELECT i, mod(i * 7919, 5000), mod(i, 100) FROM generate_series(1, 100000) AS i"
        )
        connection.exec_driver_sql("ANALYZE orders")
    monitor = querywatch.install(engine, **SLOW)
    try:
        snapshot, stats, plan = show(engine, monitor, user=7)
    finally:
        querywatch.uninstall(engine)
    assert [(node.table, node.index) for node in plan.root.walk() if node.kind == "Seq Scan"] == [("orders", None)]
    [advice] = snapshot.advice
    assert (advice.index.subject, advice.proof) == ("orders(user_id)", "hypopg")
    assert advice.cost_before > 10 * advice.cost_after > 0
    assert advice.fingerprints == (stats.fingerprint.id,)
    findings = {finding.code: finding for finding in snapshot.findings}
    assert findings.keys() == {"slow-query", "missing-index"}
    assert findings["slow-query"].fix == f"Run: {advice.ddl}"
    assert findings["missing-index"].subject == "orders(user_id)"

    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(advice.ddl)
    snapshot, _, plan = plan_again(engine, **SLOW)
    assert {node.index for node in plan.root.walk()} - {None} == {"orders_user_id_idx"}
    assert snapshot.advice == ()


def test_on_sqlite_a_slow_filter_of_a_million_rows_gives_a_plan_and_an_index_that_its_plan_then_uses(
    tmp_path, make_engine
):
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.executescript(
        "PRAGMA synchronous = OFF;"
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, user_id INT, total INT);"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) "
        "INSERT INTO orders SELECT i, i * 7919 % 50000, i % 100 FROM n;"
    )
    connection.close()
    engine = make_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    # Slow in earnest: nearly all of the time is in the fetch, which a pass of the background must not cut in two.
    settings = {"slow_query_s": 0.005, "interval_s": 0.01}
    monitor = querywatch.install(engine, **settings)
    try:
        snapshot, stats, plan = show(engine, monitor, user=7)
    finally:
        querywatch.uninstall(engine)
    assert [(node.kind, node.table) for node in plan.root.walk() if node.table] == [("SCAN", "orders")]
    [advice] = snapshot.advice
    assert (advice.index.subject, advice.proof) == ("orders(user_id)", "scratch")
    assert (advice.cost_before, advice.cost_after) == (None, None)
    assert advice.fingerprints == (stats.fingerprint.id,)
    findings = {finding.code: finding for finding in snapshot.findings}
    assert findings.keys() == {"slow-query", "missing-index"}
    assert findings["slow-query"].fix == f"Run: {advice.ddl}"
    assert findings["slow-query"].call_site.file.endswith("test_must_show.py")

    with engine.begin() as connection:
        connection.exec_driver_sql(advice.ddl)
    snapshot, _, plan = plan_again(engine, **SLOW)
    assert [(node.kind, node.index) for node in plan.root.walk() if node.table] == [("SEARCH", "orders_user_id_idx")]
    assert snapshot.advice == ()
