"""From totals to plans, advice and findings: what is offered, what is kept, and what is taken back."""

from __future__ import annotations

import sqlite3

import pytest
import sqlalchemy as sa
from counted import watching
from statements import make_example

from querywatch.aggregate import Aggregate
from querywatch.config import Config
from querywatch.detectors.slow_query import detect
from querywatch.fingerprint import take_fingerprint
from querywatch.planning import Planning
from querywatch.records import Database, ScopeQuery, ScopeRecord
from querywatch.samples import Samples

# As long as a scan of the test's table takes; much longer would look like waiting for a lock, which earns no index.
CONFIG = Config(slow_query_s=0.001)
FILTER = "SELECT id FROM orders WHERE user_id = ?"


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Source:
    """What the totals know of an engine."""

    number = 1
    monitor = None
    slow_s = 0.001

    def __init__(self, engine, name="shop"):
        self.engine = engine
        self.database = Database(name, "sqlite", "sqlite")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("shop") / "shop.db"
    connection = sqlite3.connect(path)
    connection.executescript(
        "PRAGMA synchronous = OFF; CREATE TABLE orders (id INTEGER PRIMARY KEY, user_id INT, total INT);"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) "
        "INSERT INTO orders SELECT i, i * 7919 % 5000, i % 100 FROM n;"
    )
    connection.close()
    return path


@pytest.fixture
def engine(file):
    engine = sa.create_engine(f"sqlite:///{file}")
    yield engine
    engine.dispose()


def total(engine, *statements, named=True):
    """Return the totals of statements, each (text, seconds, parameters); the first parameters are kept."""
    aggregate = Aggregate(100, 0.001)
    source = Source(engine)
    for text, seconds, parameters in statements:
        samples = Samples(source, text, text, parameters)
        samples.extend(seconds)
        aggregate.fold(samples)
    for totals in aggregate.pending.values() if named else ():
        totals.fingerprint = take_fingerprint(totals.shape, "sqlite")
    return aggregate.statements()


def run(planning, statements):
    return planning.run(statements, lambda: None)


def test_a_slow_filter_gets_a_plan_an_index_and_a_finding(engine):
    planning = Planning(CONFIG, Clock())
    [finding] = run(planning, total(engine, (FILTER, [0.002, 0.004], (7,))))
    [plan], [advice] = planning.list_plans(), planning.list_advice()
    assert [(node.kind, node.table) for node in plan.root.walk() if node.table] == [("SCAN", "orders")]
    assert (advice.index.subject, advice.fingerprints) == ("orders(user_id)", (plan.fingerprint,))
    assert (finding.code, finding.subject, finding.count) == ("missing-index", "orders(user_id)", 2)
    assert (finding.total_s, finding.first_seen_at) == (pytest.approx(0.006), 1000.0)


def test_its_finding_comes_again_with_the_figures_of_then(engine):
    planning = Planning(CONFIG, Clock())
    run(planning, total(engine, (FILTER, [0.002], (7,))))
    [finding] = run(planning, total(engine, (FILTER, [0.002] * 5, (7,))))
    assert finding.count == 5


@pytest.mark.parametrize(
    ("settings", "plans", "advice"),
    [
        pytest.param({}, 1, 1, id="both"),
        pytest.param({"advise": False}, 1, 0, id="plans-only"),
        pytest.param({"explain": False}, 0, 0, id="none"),
    ],
)
def test_each_half_can_be_switched_off(engine, settings, plans, advice):
    planning = Planning(Config(slow_query_s=0.001, **settings), Clock())
    assert len(run(planning, total(engine, (FILTER, [0.002], (7,))))) == advice
    assert (len(planning.list_plans()), len(planning.list_advice())) == (plans, advice)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [pytest.param(None, True, id="no-values"), pytest.param((7,), False, id="no-fingerprint-yet")],
)
def test_what_cannot_be_planned_is_left_out(engine, parameters, named):
    planning = Planning(CONFIG, Clock())
    assert run(planning, total(engine, (FILTER, [0.002], parameters), named=named)) == []
    assert planning.list_plans() == []


def test_a_statement_of_an_engine_that_is_gone_is_left_out():
    planning = Planning(CONFIG, Clock())
    assert run(planning, total(None, (FILTER, [0.002], (7,)))) == []


def test_the_slow_ones_and_the_twenty_busiest_are_offered(engine):
    # Thirty statements, each busier than the slow one, and none of them slow.
    busy = [(f"SELECT id FROM orders WHERE total{' + total' * n} = 1", [0.0009] * 9, ()) for n in range(30)]
    planning = Planning(Config(slow_query_s=0.001, explain_per_minute=100, advise=False), Clock())
    run(planning, total(engine, *busy, (FILTER, [0.002], (7,))))
    planned = {plan.fingerprint for plan in planning.list_plans()}
    assert len(planned) == 21
    assert take_fingerprint(FILTER, "sqlite").id in planned


def test_the_latest_plans_are_kept(engine):
    planning = Planning(Config(max_plans=1, advise=False), Clock())
    run(planning, total(engine, (FILTER, [0.002], (7,))))
    run(planning, total(engine, ("SELECT id FROM orders WHERE total = ?", [0.2], (7,))))
    [plan] = planning.list_plans()
    assert plan.fingerprint == take_fingerprint("SELECT id FROM orders WHERE total = ?", "sqlite").id


def test_it_is_due_again_after_a_while(engine):
    clock = Clock()
    planning = Planning(Config(), clock)
    assert planning.is_due()
    run(planning, [])
    assert not planning.is_due()
    clock.now += 4.9
    assert not planning.is_due()
    clock.now += 0.2
    assert planning.is_due()
    assert not Planning(Config(explain=False), clock).is_due()


@pytest.fixture
def advised(engine):
    """A planning with one advice, and the slow query it is for."""
    planning = Planning(CONFIG, Clock())
    [missing] = run(planning, total(engine, (FILTER, [0.002], (7,))))
    example = make_example(engine, FILTER, (7,))
    query = ScopeQuery(FILTER, example.fingerprint, "shop", "sqlite", 1, 1, 0.2, 0.2, slow_calls=1)
    [slow] = detect(ScopeRecord(None, "checkout", 1.0, 1.0, (query,)), Config())
    return planning, missing, slow


def test_a_slow_query_is_told_its_index_once(advised):
    planning, missing, slow = advised
    named = planning.name_index(slow)
    assert (named.fix_kind, named.fix) == ("index", "Run: " + missing.evidence.ddl)
    assert planning.name_index(named) is None
    assert planning.name_index(missing) is None


def test_an_index_that_was_created_is_missing_no_longer(advised, engine):
    planning, missing, slow = advised
    assert not planning.is_obsolete(missing)
    assert not planning.is_obsolete(slow)
    assert Planning(CONFIG, Clock()).is_obsolete(missing)


def test_what_the_database_refused_to_plan_is_counted(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    with watching(engine, explain=True, slow_query_s=1e-9) as monitor, engine.begin() as connection:
        connection.exec_driver_sql("CREATE TEMP TABLE orders (id INTEGER)")
        connection.exec_driver_sql("SELECT id FROM orders").all()
        # A table of this connection alone: on one of our own the statement means nothing.
        assert monitor.flush(60)
        assert monitor.snapshot().dropped["plans"] == 1
    engine.dispose()
