"""Which scopes cost more than they may."""

from __future__ import annotations

from dataclasses import replace

import pytest

from querywatch.config import Config
from querywatch.detectors import DETECTORS, scope_budget
from querywatch.records import CallSite

ITEMS = {"statement": "SELECT items.id FROM items WHERE items.order_id = ?", "calls": 3, "total_s": 0.5}
USERS = {"statement": "SELECT users.id FROM users", "calls": 1, "total_s": 0.02, "call_site": None}
COUNT = {"statement": "SELECT count(*) FROM logs", "calls": 1, "total_s": 0.003, "call_site": None}


@pytest.fixture
def detect(make_scope, make_query):
    def run(config, *cases, **changes):
        queries = [make_query(**{"calls": 4, "total_s": 0.08} | case) for case in cases or ({},)]
        return list(scope_budget.detect(replace(make_scope(*queries), **changes), config))

    return run


def test_it_is_one_of_the_detectors():
    assert scope_budget in DETECTORS
    assert scope_budget.CODE == "scope-budget"


@pytest.mark.parametrize(
    ("settings", "own", "count"),
    [
        pytest.param({}, {}, 0, id="no-limit"),
        pytest.param({"max_queries": 4}, {}, 0, id="as-many-as-allowed"),
        pytest.param({"max_queries": 3}, {}, 1, id="one-more-than-allowed"),
        pytest.param({"max_db_s": 0.08}, {}, 0, id="as-long-as-allowed"),
        pytest.param({"max_db_s": 0.079}, {}, 1, id="longer-than-allowed"),
        pytest.param({"max_queries": 3, "max_db_s": 0.01}, {}, 1, id="both-are-one-finding"),
        pytest.param({"max_queries": 3}, {"max_queries": 10}, 0, id="the-scopes-own-limit-is-higher"),
        pytest.param({}, {"max_queries": 3}, 1, id="the-scopes-own-limit"),
        pytest.param({}, {"max_db_s": 0.01}, 1, id="the-scopes-own-time"),
        pytest.param({"max_queries": 3}, {"kind": "script"}, 0, id="a-program-is-no-request"),
        pytest.param({"max_queries": 3}, {"kind": "script", "max_queries": 3}, 1, id="a-program-with-a-limit"),
    ],
)
def test_limits(detect, settings, own, count):
    assert len(detect(Config(**settings), **own)) == count


def test_a_finding_in_full(detect):
    [finding] = detect(Config(max_queries=5, max_db_s=1.5), {}, ITEMS, USERS, COUNT)
    assert finding.message == (
        "9 statements where 5 are allowed. Most of it: SELECT orders at shop/views.py:44 (4 times, 80 ms); "
        "SELECT items at shop/views.py:44 (3 times, 500 ms); SELECT users (once, 20 ms)."
    )
    assert finding.fix == "Begin with SELECT orders at shop/views.py:44 (4 times, 80 ms)."
    assert (finding.code, finding.kind, finding.severity) == ("scope-budget", None, "warning")
    assert (finding.fix_kind, finding.subject, finding.scope) == ("none", "GET /users", "GET /users")
    assert (finding.database, finding.fingerprint, finding.call_site) == ("shop", None, None)
    assert (finding.count, finding.total_s) == (1, pytest.approx(0.603))
    assert finding.evidence.as_dict() == {
        "calls": 9,
        "max_queries": 5,
        "db_s": pytest.approx(0.603),
        "max_db_s": 1.5,
        "costliest": [
            "SELECT orders at shop/views.py:44 (4 times, 80 ms)",
            "SELECT items at shop/views.py:44 (3 times, 500 ms)",
            "SELECT users (once, 20 ms)",
        ],
        "scopes": 1,
    }
    assert finding.evidence.with_scopes(4).scopes == 4


def test_too_much_time_begins_with_what_took_most(detect):
    [finding] = detect(Config(max_db_s=0.5), {}, ITEMS)
    assert finding.message.startswith("0.58 s in the database where 0.5 s are allowed. Most of it: SELECT items at ")


def test_one_statement_from_two_lines_is_one(detect):
    other = {"call_site": CallSite("shop/views.py", 60, "list_orders"), "calls": 2}
    [finding] = detect(Config(max_queries=1), {}, other)
    assert finding.evidence.costliest == ("SELECT orders at shop/views.py:44 (6 times, 160 ms)",)


def test_the_subject_of_an_implicit_scope(detect):
    [finding] = detect(Config(max_queries=1), name=None, kind="checkout")
    assert (finding.subject, finding.scope) == ("shop", None)
