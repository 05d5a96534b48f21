"""Which repetitions are an N+1, which look like one, and what is said."""

from __future__ import annotations

import pytest

from querywatch.config import Config
from querywatch.detectors import DETECTORS, n_plus_one
from querywatch.records import CallSite, CountsScopes

CONFIG = Config()
AT_LIMIT = CONFIG.n_plus_one_threshold
LINE_20 = CallSite("shop/views.py", 20, "list_orders")
LINE_41 = CallSite("shop/views.py", 41, "list_users")
LAZY = {"relationship": "User.orders", "kind": "lazy_load", "to_one": False}


@pytest.fixture
def detect(make_scope):
    return lambda *queries, config=CONFIG: list(n_plus_one.detect(make_scope(*queries), config))


@pytest.fixture
def detect_cases(detect, make_query):
    """Run a case of a table: each query is written as its changes."""
    return lambda cases, **keywords: detect(*(make_query(**changes) for changes in cases), **keywords)


def test_it_is_one_of_the_detectors():
    assert n_plus_one in DETECTORS
    assert n_plus_one.CODE == "n-plus-one"


@pytest.mark.parametrize(
    ("queries", "counts"),
    [
        pytest.param([], [], id="nothing-ran"),
        pytest.param([{"contexts": AT_LIMIT - 1}], [], id="one-below-limit"),
        pytest.param([{"contexts": AT_LIMIT}], [AT_LIMIT], id="at-limit"),
        pytest.param([{"contexts": 3}, {"contexts": 3, "call_site": LINE_20}], [], id="two-lines-are-two-groups"),
        pytest.param(
            [{"contexts": 5}, {"contexts": 6, "call_site": LINE_20}], [5, 6], id="two-lines-over-the-limit-are-two"
        ),
        pytest.param(
            [{"contexts": 3}, {"contexts": 3, "statement": "select orders.id  from orders where orders.user_id = ?"}],
            [6],
            id="texts-of-one-fingerprint-are-one-group",
        ),
        pytest.param(
            [{"contexts": 5}, {"contexts": 5, "statement": "SELECT orders.total FROM orders WHERE orders.id = ?"}],
            [5, 5],
            id="two-statements-of-one-line-are-two",
        ),
        pytest.param([{"contexts": 1, "calls": 600}], [], id="contexts-not-calls"),
        pytest.param([{"contexts": 5, "calls": 50}], [50], id="calls-are-what-is-counted"),
        pytest.param([{"contexts": 9, "looked_up": ()}], [], id="nothing-looked-up"),
        pytest.param([{"contexts": 9, "call_site": None}], [], id="no-call-site"),
        pytest.param(
            [{"contexts": 9, "statement": "INSERT INTO orders (user_id) VALUES (?)"}], [], id="insert-is-write-loop"
        ),
        pytest.param(
            [{"contexts": 9, "statement": "UPDATE orders SET total = ? WHERE id = ?"}], [], id="update-is-write-loop"
        ),
        pytest.param(
            [{"contexts": 9, "statement": "SELECT id FROM orders WHERE user_id = ? FOR UPDATE", "dialect": "mysql"}],
            [],
            id="locking-rows-one-by-one",
        ),
        pytest.param(
            [{"contexts": 9, "statement": "SELECT id FROM orders WHERE user_id = ? LIMIT ? OFFSET ?"}],
            [9],
            id="the-first-row-of-each",
        ),
        pytest.param([{"contexts": 9, "statement": "PRAGMA table_info (orders)"}], [], id="no-select"),
        pytest.param([{"contexts": 9, "kind": "refresh"}], [], id="refresh-is-not-decided-here"),
        pytest.param([{"contexts": 9, "kind": "deferred"}], [], id="deferred-is-not-decided-here"),
    ],
)
def test_a_loop_is_a_statement_and_a_line_over_the_limit(detect_cases, queries, counts):
    findings = detect_cases(queries)
    assert [finding.count for finding in findings] == counts
    assert {finding.kind for finding in findings} <= {"core_loop"}


@pytest.mark.parametrize(
    ("queries", "counts"),
    [
        pytest.param([LAZY | {"contexts": AT_LIMIT - 1}], [], id="one-below-limit"),
        pytest.param([LAZY | {"contexts": AT_LIMIT}], [AT_LIMIT], id="at-limit"),
        pytest.param(
            [LAZY | {"contexts": 3}, LAZY | {"contexts": 3, "call_site": LINE_20}], [6], id="two-lines-are-one-group"
        ),
        pytest.param(
            [LAZY | {"contexts": 4}, LAZY | {"contexts": 4, "relationship": "User.address"}],
            [],
            id="two-relationships-are-two-groups",
        ),
        pytest.param(
            [LAZY | {"contexts": 3}, LAZY | {"contexts": 3, "statement": "SELECT id FROM orders WHERE ? = user_id"}],
            [6],
            id="two-statements-of-one-relationship-are-one-group",
        ),
        pytest.param([LAZY | {"contexts": 9, "same_parameters": True}], [], id="one-parent-again-and-again"),
        pytest.param([LAZY | {"contexts": 9, "same_parameters": None}], [9], id="parameters-unknown"),
        pytest.param([LAZY | {"contexts": 9, "call_site": None}], [9], id="no-line-but-a-relationship"),
        pytest.param([LAZY | {"contexts": 9, "kind": "refresh"}], [], id="another-kind"),
    ],
)
def test_a_lazy_load_is_a_relationship_over_the_limit(detect_cases, queries, counts):
    findings = detect_cases(queries)
    assert [finding.count for finding in findings] == counts
    assert {finding.kind for finding in findings} <= {"lazy_load"}


@pytest.mark.parametrize(("limit", "found"), [(2, 1), (6, 1), (7, 0)])
def test_the_limit_is_a_setting(detect_cases, limit, found):
    assert len(detect_cases([{"contexts": 6}], config=Config(n_plus_one_threshold=limit))) == found


def test_a_lazy_load_in_full(detect, make_query):
    lazy = LAZY | {"call_site": CallSite("shop/views.py", 44, "list_users"), "parent_site": LINE_41}
    other = make_query("SELECT users.id FROM users", contexts=1)
    most = make_query(contexts=40, total_s=0.3, **lazy)
    less = make_query(contexts=2, total_s=0.1, **(lazy | {"call_site": LINE_20}))
    [finding] = detect(other, less, most)
    assert finding.message == ("User.orders is loaded one parent at a time: 42 statements.")
    assert finding.fix == "Add .options(selectinload(User.orders)) to the select at shop/views.py:41."
    assert (finding.code, finding.kind, finding.severity) == ("n-plus-one", "lazy_load", "warning")
    assert (finding.fix_kind, finding.subject, finding.database) == ("selectinload", "User.orders", "shop")
    assert (finding.fingerprint, finding.call_site) == (most.fingerprint.id, most.call_site)
    assert (finding.scope, finding.count, finding.total_s) == ("GET /users", 42, pytest.approx(0.4))
    assert (finding.first_seen_at, finding.last_seen_at) == (1002.0, 1002.0)
    assert finding.evidence.as_dict() == {
        "sql": most.fingerprint.sql,
        "calls": 42,
        "scope_calls": 43,
        "scopes": 1,
        "parent_site": "shop/views.py:41",
    }
    assert isinstance(finding.evidence, CountsScopes)
    assert finding.evidence.with_scopes(7).as_dict() == finding.evidence.as_dict() | {"scopes": 7}


@pytest.mark.parametrize(
    ("changes", "fix_kind", "fix"),
    [
        pytest.param(
            {"to_one": True, "parent_site": LINE_41},
            "joinedload",
            "Add .options(joinedload(User.orders)) to the select at shop/views.py:41.",
            id="to-one",
        ),
        pytest.param(
            {"to_one": None},
            "selectinload",
            "Add .options(selectinload(User.orders)) to the select that loads each User.",
            id="unknown-parent",
        ),
    ],
)
def test_the_option_is_that_of_the_relationship(detect_cases, changes, fix_kind, fix):
    [finding] = detect_cases([LAZY | {"contexts": 9} | changes])
    assert (finding.fix_kind, finding.fix) == (fix_kind, fix)


def test_without_a_line_none_is_named(detect_cases):
    [finding] = detect_cases([LAZY | {"contexts": 9, "call_site": None}])
    assert finding.message == "User.orders is loaded one parent at a time: 9 statements."


@pytest.mark.parametrize(
    ("statement", "looked_up", "message", "fix_kind", "fix"),
    [
        pytest.param(
            "SELECT orders.id FROM orders WHERE orders.user_id = ? AND status = ?",
            ("user_id",),
            "The same SELECT on orders runs once for each user_id: 9 times.",
            "in_query",
            "Run one SELECT with user_id IN (...) before the loop at shop/views.py:44, and look the rows up in a dict.",
            id="rows",
        ),
        pytest.param(
            "SELECT count(*) FROM orders WHERE user_id = ? AND status = ?",
            ("user_id", "status"),
            "The same SELECT on orders runs once for each user_id and status: 9 times.",
            "aggregate",
            "Run one SELECT with GROUP BY user_id and status before the loop at shop/views.py:44, "
            "and look the results up in a dict.",
            id="aggregate",
        ),
    ],
)
def test_a_loop_in_full(detect_cases, statement, looked_up, message, fix_kind, fix):  # noqa: PLR0917 - a table's columns
    [finding] = detect_cases([{"statement": statement, "looked_up": looked_up, "contexts": 9}])
    assert (finding.message, finding.fix_kind, finding.fix) == (message, fix_kind, fix)
    assert (finding.kind, finding.subject) == ("core_loop", "orders")
    assert finding.evidence.parent_site is None
