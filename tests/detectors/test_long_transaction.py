"""Which times without a statement are too long to hold a connection."""

from __future__ import annotations

from dataclasses import replace

import pytest

from querywatch.config import Config
from querywatch.detectors import DETECTORS, long_transaction
from querywatch.records import CallSite, Idle

STATEMENT = "SELECT orders.id FROM orders WHERE orders.user_id = ?"
LINE_44 = CallSite("shop/views.py", 44, "list_users")
LINE_51 = CallSite("shop/views.py", 51, "list_users")
IDLE = Idle(1.25, LINE_44, STATEMENT, LINE_51)


@pytest.fixture
def detect(make_scope, make_query):
    def run(*idle, query=None, **changes):
        scope = replace(make_scope(make_query(**query or {})), idle=idle, **changes)
        return list(long_transaction.detect(scope, Config(long_transaction_s=0.5)))

    return run


def test_it_is_one_of_the_detectors():
    assert long_transaction in DETECTORS
    assert long_transaction.CODE == "long-transaction"


def test_a_finding_in_full(detect, make_query):
    [finding] = detect(replace(IDLE, seconds=0.75), IDLE)
    assert finding.message == (
        "A connection was held idle for 1.2 s, after SELECT orders at shop/views.py:44, until shop/views.py:51."
    )
    assert finding.fix == (
        "End the transaction and close the session before the work that follows shop/views.py:44, or do that work "
        "before the first statement."
    )
    assert (finding.code, finding.kind, finding.severity) == ("long-transaction", None, "warning")
    assert (finding.fix_kind, finding.subject, finding.scope) == ("shorten", "GET /users", "GET /users")
    assert (finding.database, finding.fingerprint) == ("shop", make_query().fingerprint.id)
    assert (finding.call_site, finding.count, finding.total_s) == (LINE_44, 2, 2.0)
    assert finding.evidence.as_dict() == {
        "longest_s": 1.25,
        "limit_s": 0.5,
        "sql": STATEMENT,
        "end_site": "shop/views.py:51",
        "in_transaction": True,
        "scopes": 1,
    }
    assert finding.evidence.with_scopes(4).scopes == 4


@pytest.mark.parametrize(
    ("kind", "count"),
    [("request", 1), ("task", 1), ("watch", 1), ("span", 1), ("checkout", 1), ("test", 0), ("script", 0)],
)
def test_nobody_waits_for_a_test_or_a_script(detect, kind, count):
    assert len(detect(IDLE, kind=kind)) == count


@pytest.mark.parametrize(
    ("idle", "message", "fix"),
    [
        pytest.param(
            replace(IDLE, call_site=None),
            "A connection was held idle for 1.2 s, after SELECT orders, until shop/views.py:51.",
            "End the transaction and close the session before the work that leads to shop/views.py:51, or do that work "
            "before the first statement.",
            id="the-line-before-was-not-recorded",
        ),
        pytest.param(
            replace(IDLE, end_site=LINE_44),
            "A connection was held idle for 1.2 s, after SELECT orders at shop/views.py:44.",
            "End the transaction and close the session before the work that follows shop/views.py:44, or do that work "
            "before the first statement.",
            id="a-loop-of-one-line",
        ),
        pytest.param(
            replace(IDLE, call_site=None, end_site=None),
            "A connection was held idle for 1.2 s, after SELECT orders.",
            "End the transaction and close the session before work that needs no database, or do that work before the "
            "first statement.",
            id="no-line",
        ),
        pytest.param(
            Idle(1.25, None, "", LINE_51, in_transaction=False),
            "A connection was held idle for 1.2 s, until shop/views.py:51.",
            "Give the connection back (close it, or leave its with block) before the work that leads to "
            "shop/views.py:51, or take it afterwards.",
            id="before-the-first-statement",
        ),
    ],
)
def test_what_is_known_is_said(detect, idle, message, fix):
    [finding] = detect(idle)
    assert (finding.message, finding.fix) == (message, fix)


@pytest.mark.parametrize(
    ("idle", "query", "count"),
    [
        pytest.param({}, {"waits": True, "same_parameters": True}, 1, id="another-statement-follows"),
        pytest.param({"is_repeated": True}, {"waits": True, "same_parameters": True}, 0, id="it-polls"),
        pytest.param({"is_repeated": True}, {"waits": True, "same_parameters": None}, 0, id="polled-twice"),
        pytest.param({"is_repeated": True}, {"waits": True, "same_parameters": False}, 1, id="a-loop-over-values"),
        pytest.param({"is_repeated": True}, {"waits": False, "same_parameters": True}, 1, id="it-does-not-sleep"),
        pytest.param(
            {"is_repeated": True, "statement": "UPDATE jobs SET state = ?"},
            {"waits": True, "same_parameters": True, "statement": "UPDATE jobs SET state = ?"},
            1,
            id="a-loop-of-updates",
        ),
    ],
)
def test_a_loop_that_polls_is_silent(detect, idle, query, count):
    assert len(detect(replace(IDLE, **idle), query=query)) == count


@pytest.mark.parametrize(
    ("idle", "subject"),
    [
        pytest.param(IDLE, "shop/views.py:44", id="line-before"),
        pytest.param(replace(IDLE, call_site=None), "shop/views.py:51", id="line-after"),
        pytest.param(replace(IDLE, call_site=None, end_site=None), "shop", id="database"),
        pytest.param(Idle(1.0, None), "checkout", id="nothing-known"),
    ],
)
def test_the_subject_of_an_implicit_scope(detect, idle, subject):
    [finding] = detect(idle, name=None, kind="checkout")
    assert (finding.subject, finding.scope) == (subject, None)
