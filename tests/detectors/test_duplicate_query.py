"""Which SELECTs are sent again without need, which have to be, and what is said."""

from __future__ import annotations

import pytest

from querywatch.config import Config
from querywatch.detectors import DETECTORS, duplicate_query
from querywatch.records import CallSite, CountsScopes

LIMIT = Config().n_plus_one_threshold
LINE_20 = CallSite("shop/views.py", 20, "list_orders")
SELECT = "SELECT flags.value FROM flags WHERE flags.name = ?"
OTHER = "SELECT users.id FROM users WHERE users.id = ?"
WRITE = "UPDATE flags SET value = ? WHERE name = ?"
OTHER_WRITE = "UPDATE users SET name = ? WHERE id = ?"
CHANGED = "WITH x AS (UPDATE flags SET value = ? WHERE id = ? RETURNING id) SELECT count(*) FROM x"
CLAIM = "SELECT jobs.id FROM jobs WHERE jobs.state = ? LIMIT ?"
DONE = "UPDATE jobs SET state = ? WHERE jobs.id = ?"
SAME = {"statement": SELECT, "same_parameters": True, "looked_up": ()}


@pytest.fixture
def detect(make_scope, make_query):
    """Run a case: queries as their changes, and a turn that comes *times* in their order."""

    def run(*cases, turn=(SELECT,), times=9, others=(), config=Config()):  # noqa: B008 - frozen
        queries = [make_query(**(SAME | {"contexts": times * turn.count(SELECT)} | each)) for each in cases or ({},)]
        queries += [make_query(each, contexts=times * turn.count(each)) for each in others]
        return list(duplicate_query.detect(make_scope(*queries, steps=list(turn) * times), config))

    return run


def test_it_is_one_of_the_detectors():
    assert duplicate_query in DETECTORS
    assert duplicate_query.CODE == "duplicate-query"


@pytest.mark.parametrize(("limit", "times", "found"), [(LIMIT, LIMIT - 1, 0), (LIMIT, LIMIT, 1), (2, 2, 1), (7, 6, 0)])
def test_the_limit_is_a_setting(detect, limit, times, found):
    assert len(detect(times=times, config=Config(n_plus_one_threshold=limit))) == found


@pytest.mark.parametrize(
    ("queries", "counts"),
    [
        pytest.param([{"contexts": 5}, {"contexts": 4, "call_site": LINE_20}], [9], id="two-lines-are-one-group"),
        pytest.param([{"call_site": None}], [9], id="no-line"),
        pytest.param([{"kind": "get"}], [9], id="get"),
        pytest.param([{"contexts": 5}, {"contexts": 4, "database": "other"}], [5], id="two-databases-are-two-groups"),
        pytest.param([{"same_parameters": False}], [], id="other-values"),
        pytest.param([{"same_parameters": None}], [], id="values-unknown"),
        pytest.param([{"kind": "lazy_load"}], [], id="a-lazy-load"),
        pytest.param([{"kind": "refresh"}], [], id="a-refresh"),
        pytest.param([{"waits": True}], [], id="a-function-that-sleeps"),
        pytest.param([{"locks_rows": True}], [], id="written-as-for-update"),
        pytest.param([{"errors": 5}], [], id="mostly-failed-and-tried-again"),
        pytest.param([{"errors": 4}], [9], id="seldom-failed"),
        pytest.param([{"statement": "SELECT 1"}], [], id="no-table"),
        pytest.param([{"statement": "SELECT id FROM users ORDER BY random() LIMIT ?"}], [], id="a-random-row"),
        pytest.param([{"statement": "SELECT gen_random_uuid(), id FROM users"}], [], id="another-value-each-time"),
        pytest.param([{"statement": "SELECT id FROM random_rows"}], [9], id="a-table-of-that-name"),
        pytest.param([{"statement": CHANGED, "dialect": "postgresql"}], [], id="a-change-that-is-read-back"),
        pytest.param([{"statement": f"{SELECT} FOR UPDATE", "dialect": "postgresql"}], [], id="for-update"),
        pytest.param([{"statement": "SELECT name FROM sqlite_master WHERE name = ?"}], [], id="the-catalog"),
        pytest.param([{"statement": "PRAGMA user_version"}], [], id="a-pragma"),
        pytest.param([{"statement": WRITE}], [], id="an-update"),
    ],
)
def test_a_group_is_a_statement_of_one_database(detect, queries, counts):
    statements = {SELECT, *(each.get("statement", SELECT) for each in queries)}
    turn = tuple(statements - {SELECT}) or (SELECT,)
    queries = [{"contexts": 9} | each for each in queries]
    assert [finding.count for finding in detect(*queries, turn=turn)] == counts


@pytest.mark.parametrize(
    ("turn", "found"),
    [
        pytest.param((SELECT,), 1, id="nothing-in-between"),
        pytest.param((SELECT, OTHER), 1, id="other-tables-are-read"),
        pytest.param((SELECT, OTHER_WRITE), 1, id="other-tables-are-written"),
        pytest.param((SELECT, WRITE), 0, id="what-it-reads-is-written"),
        pytest.param((SELECT, WRITE, "commit"), 0, id="written-and-committed"),
        pytest.param((SELECT, "commit"), 0, id="a-poll-that-commits"),
        pytest.param((SELECT, "rollback"), 0, id="a-poll-that-ends-its-transaction"),
        pytest.param((SELECT, OTHER, "commit"), 1, id="a-loop-that-commits-something-else"),
        pytest.param((*[SELECT] * 9, WRITE), 1, id="seldom-written"),
        pytest.param((SELECT, CHANGED), 0, id="written-in-a-cte"),
        pytest.param((SELECT, "SET search_path TO ?"), 0, id="in-another-schema"),
        pytest.param((SELECT, "SELECT set_config(?, ?, true)"), 0, id="for-another-tenant"),
        pytest.param((SELECT, "REFRESH MATERIALIZED VIEW totals"), 0, id="what-it-reads-is-made-anew"),
        pytest.param((SELECT, "CALL close_day(?)"), 0, id="a-procedure-is-called"),
        pytest.param((SELECT, "DELETE FROM users WHERE id = ?"), 0, id="what-it-reads-may-go-with-what-is-deleted"),
        pytest.param((SELECT, "SELECT 1"), 1, id="a-ping"),
        pytest.param((SELECT, "SAVEPOINT a", "RELEASE SAVEPOINT a"), 1, id="a-savepoint"),
    ],
)
def test_what_stands_in_between_tells_waste_from_need(detect, turn, found):
    others = set(turn) - {SELECT, "commit", "rollback"}
    assert len(detect({"dialect": "postgresql"}, turn=turn, others=others)) == found


@pytest.mark.parametrize(
    ("turn", "found"),
    [
        pytest.param((CLAIM, SELECT, DONE, "commit"), 0, id="once-for-each-job"),
        pytest.param((CLAIM, *[SELECT] * (LIMIT - 1), DONE, "commit"), 0, id="one-below-limit-in-each-job"),
        pytest.param((CLAIM, *[SELECT] * LIMIT, DONE, "commit"), 1, id="at-limit-in-each-job"),
        pytest.param((CLAIM, SELECT, DONE), 1, id="no-worker"),
    ],
)
def test_a_workers_jobs_are_judged_one_by_one(detect, turn, found):
    assert len(detect(turn=turn, others=(CLAIM, DONE))) == found


def test_a_finding_in_full(detect, make_query):
    [finding] = detect({"contexts": 7, "total_s": 0.3}, {"contexts": 2, "call_site": LINE_20, "total_s": 0.1})
    assert finding.message == "The same SELECT on flags runs 9 times with the same values."
    assert finding.fix == "Run it once at shop/views.py:44, and keep its result until the end of the scope."
    assert (finding.code, finding.kind, finding.severity) == ("duplicate-query", None, "warning")
    assert (finding.fix_kind, finding.subject, finding.database) == ("cache", "flags", "shop")
    assert (finding.fingerprint, finding.call_site) == (make_query(SELECT).fingerprint.id, make_query().call_site)
    assert (finding.scope, finding.count, finding.total_s) == ("GET /users", 9, pytest.approx(0.4))
    assert (finding.first_seen_at, finding.last_seen_at) == (1002.0, 1002.0)
    assert finding.evidence.as_dict() == {
        "sql": SELECT,
        "calls": 9,
        "scope_calls": 9,
        "scopes": 1,
        "lines": ["shop/views.py:44", "shop/views.py:20"],
    }
    assert isinstance(finding.evidence, CountsScopes)
    assert finding.evidence.with_scopes(7).as_dict() == finding.evidence.as_dict() | {"scopes": 7}


def test_without_a_line_none_is_named(detect):
    [finding] = detect({"call_site": None})
    assert finding.fix == "Run it once, and keep its result until the end of the scope."
    assert finding.evidence.lines == ()
