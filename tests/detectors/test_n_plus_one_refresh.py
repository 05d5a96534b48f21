"""Which objects that are read again are an N+1, and what keeps or reads them at once."""

from __future__ import annotations

import pytest

from querywatch.config import Config
from querywatch.detectors import n_plus_one
from querywatch.records import CallSite

LINE_20 = CallSite("shop/views.py", 20, "list_orders")
REFRESH = {"kind": "refresh", "cause": "expired", "entity": "User", "entity_base": "User"}
STATEMENT = "SELECT users.name FROM users WHERE users.id = ?"
INSERT = "INSERT INTO users (name) VALUES (?)"
OTHER_INSERT = "INSERT INTO orders (total) VALUES (?)"
AFTER_COMMIT = (
    "A commit forgets what was loaded: make the session with expire_on_commit=False, or commit once after the loop at "
    "shop/views.py:44."
)
AND_ASKED_FOR = AFTER_COMMIT.replace(", or", " and leave out the refresh at shop/views.py:44, or")
AT_ONCE = (
    "Read them again at once: one select(User).where(...in_(...)).execution_options(populate_existing=True) before the "
    "loop at shop/views.py:44."
)
DEFAULTS = (
    "Map User with __mapper_args__ = {'eager_defaults': True}, so that the flush brings back what the database made; "
    "or do not read it."
)


@pytest.fixture
def detect(make_scope, make_query):
    def run(*cases, others=(), **changes):
        queries = [make_query(**({"statement": STATEMENT, "contexts": 9} | REFRESH | each)) for each in cases]
        return list(n_plus_one.detect(make_scope(*queries, *map(make_query, others), **changes), Config()))

    return run


@pytest.mark.parametrize(
    ("queries", "subjects"),
    [
        pytest.param([{"contexts": 4}], [], id="one-below-limit"),
        pytest.param([{"contexts": 5}], ["User"], id="at-limit"),
        pytest.param([{"contexts": 3}, {"contexts": 3, "call_site": LINE_20}], ["User"], id="two-lines-are-one-group"),
        pytest.param([{"contexts": 3}, {"contexts": 3, "entity_base": "Order"}], [], id="two-classes-are-two-groups"),
        pytest.param(
            [{"contexts": 3, "entity": "Admin"}, {"contexts": 3, "entity": "Guest"}], ["User"], id="two-of-a-hierarchy"
        ),
        pytest.param([{"entity": "Admin"}], ["Admin"], id="one-subclass"),
        pytest.param([{"same_parameters": True}], [], id="one-object-is-waited-for"),
        pytest.param([{"waits": True}], [], id="a-function-that-sleeps"),
        pytest.param([{"act": "refresh", "locks_rows": True}], [], id="locked-one-by-one"),
        pytest.param([{"act": "flush"}], [], id="values-that-a-flush-reads-back"),
        pytest.param([{"act": "autoflush"}], [], id="and-an-autoflush"),
    ],
)
def test_the_refreshes_of_a_hierarchy_are_one_group(detect, queries, subjects):
    assert [(finding.kind, finding.subject) for finding in detect(*queries)] == [("refresh", each) for each in subjects]


@pytest.mark.parametrize(
    ("changes", "scope", "fix_kind", "fix"),
    [
        pytest.param({}, {"commits": 1}, "expire_on_commit", AFTER_COMMIT, id="read-after-a-commit"),
        pytest.param({}, {"rollbacks": 1}, "in_query", AT_ONCE, id="read-after-a-rollback"),
        pytest.param({}, {}, "in_query", AT_ONCE, id="read-after-expire"),
        pytest.param({"act": "refresh"}, {}, "in_query", AT_ONCE, id="asked-for"),
        pytest.param({"act": "refresh"}, {"commits": 1}, "in_query", AT_ONCE, id="asked-for-and-one-commit-elsewhere"),
        pytest.param({"act": "refresh"}, {"commits": 9}, "expire_on_commit", AND_ASKED_FOR, id="asked-for-after-each"),
        pytest.param({"cause": "defaults"}, {"others": [INSERT]}, "eager_defaults", DEFAULTS, id="made-by-database"),
        pytest.param({"cause": "defaults"}, {"others": [OTHER_INSERT]}, "in_query", AT_ONCE, id="nothing-was-written"),
    ],
)
def test_the_fix_depends_on_why(detect, changes, scope, fix_kind, fix):
    [finding] = detect(changes, **scope)
    assert (finding.fix_kind, finding.fix) == (fix_kind, fix)
    assert finding.message == "Each User is read again by a SELECT of its own: 9 statements."
    assert finding.evidence.options is None
