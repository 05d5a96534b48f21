"""Which eager loads are told, and in which words."""

from __future__ import annotations

import pytest

from querywatch.config import Config
from querywatch.detectors import unused_eager_load
from querywatch.records import CallSite, EagerLoad

CONFIG = Config(unused_eager_loads=1.0)
SITE = CallSite("shop/views.py", 41, "list_users")


def load(relationship="User.orders", **changes):
    values = {
        "relationship": relationship,
        "strategy": "selectin",
        "objects": 10,
        "read": False,
        "call_site": SITE,
        "database": "shop",
        "fingerprint": "0123456789abcdef",
        "statements": 1,
        "total_s": 0.25,
    }
    return EagerLoad(**(values | changes))


@pytest.mark.parametrize(
    ("loads", "expected"),
    [
        pytest.param([load()], [("User.orders", 1)], id="nobody-read-it"),
        pytest.param([load(read=True)], [], id="read"),
        pytest.param([load(objects=5)], [("User.orders", 1)], id="at-the-limit"),
        pytest.param([load(objects=4)], [], id="few-objects"),
        pytest.param([load(objects=None)], [], id="objects-not-known"),
        pytest.param([load(objects=3), load(objects=3)], [("User.orders", 2)], id="two-selects-together"),
        pytest.param([load(), load(read=True)], [], id="one-of-two-selects-needs-it"),
        pytest.param(
            [load(), load("Order.items", read=True), load("User.notes")],
            [("User.orders", 1), ("User.notes", 1)],
            id="each-relationship-by-itself",
        ),
        pytest.param([load(), load(database="old")], [("User.orders", 1)] * 2, id="each-database-by-itself"),
        pytest.param([], [], id="nothing-was-loaded"),
    ],
)
def test_tells_what_was_loaded_for_nothing(make_scope, loads, expected):
    findings = list(unused_eager_load.detect(make_scope(eager_loads=tuple(loads)), CONFIG))
    assert [(finding.subject, finding.count) for finding in findings] == expected


def test_a_monitor_that_did_not_ask_tells_nothing(make_scope):
    assert list(unused_eager_load.detect(make_scope(eager_loads=(load(),)), Config())) == []


def test_the_whole_finding(make_scope):
    (finding,) = unused_eager_load.detect(make_scope(eager_loads=(load(), load(objects=2_000, statements=4))), CONFIG)
    assert (finding.code, finding.kind, finding.fix_kind) == ("unused-eager-load", None, "remove_eager")
    assert finding.message == "User.orders is loaded for 2,010 objects by 5 more statements, and nothing reads it."
    assert finding.fix == "Remove selectinload(User.orders) from the select at shop/views.py:41."
    assert (finding.subject, finding.database, finding.scope) == ("User.orders", "shop", "GET /users")
    assert (finding.call_site, finding.fingerprint) == (SITE, "0123456789abcdef")
    assert (finding.count, finding.total_s) == (2, 0.5)
    assert (finding.first_seen_at, finding.last_seen_at) == (1002.0, 1002.0)
    assert finding.evidence.with_scopes(3).as_dict() == {
        "strategy": "selectin", "is_mapped": False, "objects": 2_010, "statements": 5, "scopes": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message", "fix"),
    [
        pytest.param(
            {"strategy": "joined", "statements": 0, "total_s": 0.0},
            "User.orders is loaded for 10 objects by a join, and nothing reads it.",
            "Remove joinedload(User.orders) from the select at shop/views.py:41.",
            id="joined",
        ),
        pytest.param(
            {"strategy": "subquery"},
            "User.orders is loaded for 10 objects by 1 more statement, and nothing reads it.",
            "Remove subqueryload(User.orders) from the select at shop/views.py:41.",
            id="subquery",
        ),
        pytest.param(
            {"strategy": "immediate", "statements": 10},
            "User.orders is loaded for 10 objects by 10 more statements, and nothing reads it.",
            "Remove immediateload(User.orders) from the select at shop/views.py:41.",
            id="immediate",
        ),
        pytest.param(
            {"is_mapped": True},
            "User.orders is loaded for 10 objects by 1 more statement, and nothing reads it.",
            "User.orders is mapped with lazy='selectin'. Add .options(lazyload(User.orders)) to the select at "
            "shop/views.py:41; or map it with lazy='select', and add the option where it is read.",
            id="by-the-mapping",
        ),
        pytest.param(
            {"call_site": None},
            "User.orders is loaded for 10 objects by 1 more statement, and nothing reads it.",
            "Remove selectinload(User.orders) from the select.",
            id="line-not-known",
        ),
    ],
)
def test_says_what_to_do(make_scope, changes, message, fix):
    (finding,) = unused_eager_load.detect(make_scope(eager_loads=(load(**changes),)), CONFIG)
    assert (finding.message, finding.fix) == (message, fix)
    assert (finding.total_s is None) == (changes.get("strategy") == "joined")
