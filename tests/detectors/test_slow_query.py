"""Which statements are slow, and what is said of one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from querywatch.config import Config
from querywatch.detectors import DETECTORS, slow_query
from querywatch.records import CallSite, Habit

CONFIG = Config(slow_query_s=0.2)
LINE_20 = CallSite("shop/views.py", 20, "list_orders")
OTHER_TEXT = "select orders.id  from orders where orders.user_id = ?"


@pytest.fixture
def detect(make_scope):
    return lambda *queries: list(slow_query.detect(make_scope(*queries), CONFIG))


def test_it_is_one_of_the_detectors():
    assert slow_query in DETECTORS
    assert slow_query.CODE == "slow-query"


@pytest.mark.parametrize(
    ("queries", "counts"),
    [
        pytest.param([], [], id="nothing-ran"),
        pytest.param([{"max_s": 0.1999}], [], id="none-slow"),
        pytest.param([{"slow_calls": 1, "calls": 9}], [1], id="one-of-many-calls"),
        pytest.param([{"slow_calls": 2}, {"slow_calls": 3, "call_site": LINE_20}], [2, 3], id="two-lines-are-two"),
        pytest.param([{"slow_calls": 2}, {"slow_calls": 3, "statement": OTHER_TEXT}], [5], id="texts-of-one-statement"),
        pytest.param([{"slow_calls": 1}, {"slow_calls": 0, "call_site": LINE_20}], [1], id="the-slow-line-only"),
        pytest.param([{"slow_calls": 1, "call_site": None}], [1], id="no-line"),
    ],
)
def test_each_statement_with_a_slow_call_is_one_finding(detect, make_query, queries, counts):
    assert [finding.count for finding in detect(*(make_query(**changes) for changes in queries))] == counts


def test_a_slow_query_in_full(detect, make_query):
    query = make_query(calls=3, slow_calls=2, total_s=1.7, slow_total_s=1.5, max_s=1.2345)
    [finding] = detect(query)
    assert finding.message == "SELECT orders took 1,234 ms."
    assert finding.fix == "Look at its plan: no index has been proven to help."
    assert (finding.code, finding.kind, finding.severity) == ("slow-query", None, "warning")
    assert (finding.fix_kind, finding.subject, finding.database) == ("none", "orders", "shop")
    assert (finding.fingerprint, finding.call_site) == (query.fingerprint.id, query.call_site)
    assert (finding.scope, finding.count, finding.total_s) == ("GET /users", 2, 1.5)
    assert (finding.first_seen_at, finding.last_seen_at) == (1002.0, 1002.0)
    assert finding.evidence.as_dict() == {"sql": query.fingerprint.sql, "max_s": 1.2345, "limit_s": 0.2}


@pytest.mark.parametrize(
    ("statement", "subject"),
    [
        pytest.param("SELECT pg_sleep(?)", "SELECT", id="no-table"),
        pytest.param("SELECT 1 FROM a JOIN b ON a.id = b.id", "a", id="the-first-of-two-tables"),
    ],
)
def test_the_subject_is_the_first_table(detect, make_query, statement, subject):
    [finding] = detect(make_query(statement=statement, slow_calls=1))
    assert finding.subject == subject


@pytest.mark.parametrize(
    ("habit", "severity"),
    [
        pytest.param(Habit(calls=1, slow_calls=1, typical_s=0.3), "warning", id="its-only-call"),
        pytest.param(Habit(calls=19, slow_calls=1, typical_s=0.002), "warning", id="too-few-calls-for-a-habit"),
        pytest.param(Habit(calls=20, slow_calls=1, typical_s=0.002), "info", id="one-in-twenty"),
        pytest.param(Habit(calls=20, slow_calls=2, typical_s=0.002), "warning", id="one-in-ten"),
        pytest.param(Habit(calls=1000, slow_calls=1000, typical_s=0.3), "warning", id="always"),
    ],
)
def test_a_call_that_is_seldom_slow_is_no_warning(detect, make_query, habit, severity):
    [finding] = detect(make_query(slow_calls=1, max_s=0.3))
    weighed = slow_query.weigh(finding, habit) or finding
    assert weighed.severity == severity
    if severity == "info":
        assert weighed.fix == "It usually takes 2 ms: this call had to wait, for a lock, the processor or the disk."
        # What becomes a habit later is a warning again.
        often = slow_query.weigh(weighed, Habit(calls=100, slow_calls=60, typical_s=0.3))
        assert (often.severity, often.fix) == (finding.severity, finding.fix)


def test_a_slow_query_whose_index_is_known_stands(detect, make_query):
    [finding] = detect(make_query(slow_calls=1))
    named = replace(finding, fix_kind="index", fix="Run: CREATE INDEX ...")
    assert slow_query.weigh(named, Habit(calls=1000, slow_calls=1, typical_s=0.002)) is None


def test_what_a_dialect_asks_on_its_first_connection_is_nobodys(make_scope, make_query):
    scope = make_scope(make_query(slow_calls=1, max_s=0.5, act="connect"))
    assert list(slow_query.detect(scope, Config())) == []
