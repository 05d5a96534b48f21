"""Which SELECTs of the application's own are a loop, which only look like one, and how to read all rows at once."""

from __future__ import annotations

import pytest

from querywatch.config import Config
from querywatch.detectors import n_plus_one
from querywatch.records import CallSite

LINES = tuple(CallSite("shop/views.py", line, "show") for line in range(20, 40))
BY_USER = "SELECT orders.id FROM orders WHERE orders.user_id = ?"
CHANGED = "WITH x AS (UPDATE orders SET total = ? WHERE user_id = ? RETURNING id) SELECT x.id FROM x"
MIXED = "SELECT U.Name FROM Users U JOIN Orders O ON O.User_Id = U.Id WHERE O.Day = ? ORDER BY O.Id LIMIT ?"
BY_KEY = "SELECT users.name FROM users WHERE users.id = ?"
BEFORE = "before the loop at shop/views.py:44"
IN_DICT = "and look the rows up in a dict."


@pytest.fixture
def detect(make_scope, make_query):
    return lambda *cases: list(
        n_plus_one.detect(
            make_scope(*(make_query(**({"statement": BY_USER, "contexts": 9} | each)) for each in cases)), Config()
        )
    )


@pytest.mark.parametrize(
    ("queries", "counts"),
    [
        pytest.param([{"contexts": 4}], [], id="one-below-limit"),
        pytest.param([{"contexts": 5}], [5], id="at-limit"),
        pytest.param([{"contexts": 3}, {"contexts": 3, "call_site": LINES[0]}], [], id="two-lines-are-two-groups"),
        pytest.param([{"contexts": 5}, {"contexts": 6, "call_site": LINES[0]}], [5, 6], id="and-two-findings"),
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
        pytest.param([{"contexts": 3}, {"contexts": 3, "kind": "get"}], [], id="two-kinds-are-two-groups"),
        pytest.param(
            [{"contexts": 5, "database": "one"}, {"contexts": 5, "database": "two"}], [10], id="a-loop-over-databases"
        ),
    ],
)
def test_a_loop_is_a_statement_and_a_line(detect, queries, counts):
    assert [finding.count for finding in detect(*queries)] == counts


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        pytest.param({}, 1, id="a-loop"),
        pytest.param({"looked_up": ()}, 0, id="nothing-looked-up"),
        pytest.param({"call_site": None}, 0, id="no-line"),
        pytest.param({"kind": "eager"}, 0, id="an-eager-load"),
        pytest.param({"errors": 5}, 0, id="mostly-failed-and-tried-again"),
        pytest.param({"errors": 4}, 1, id="seldom-failed"),
        pytest.param({"rows": 9_000}, 0, id="pieces-of-a-thousand-rows"),
        pytest.param({"rows": 8_999}, 1, id="fewer-rows"),
        pytest.param({"locks_rows": True}, 0, id="written-as-for-update"),
        pytest.param({"statement": f"{BY_USER} FOR UPDATE", "dialect": "postgresql"}, 0, id="for-update"),
        pytest.param({"statement": f"{BY_USER} FOR UPDATE", "dialect": "mysql"}, 0, id="for-update-on-mysql"),
        pytest.param({"outer_sites": LINES[:9]}, 0, id="called-from-a-line-each"),
        pytest.param({"outer_sites": LINES[:8]}, 0, id="called-from-eight-of-nine-lines"),
        pytest.param({"outer_sites": LINES[:7]}, 1, id="called-from-seven-of-nine-lines"),
        pytest.param({"outer_sites": LINES[:1]}, 1, id="a-helper-that-is-called-in-a-loop"),
        pytest.param(
            {"outer_sites": LINES[:19], "contexts": 50}, 0, id="of-fifty-twenty-are-known-and-from-a-line-each"
        ),
        pytest.param({"outer_sites": LINES[:18], "contexts": 50}, 1, id="of-fifty-not-all-that-are-known"),
        pytest.param({"statement": CHANGED, "dialect": "postgresql"}, 0, id="a-change-that-is-read-back"),
        pytest.param({"statement": "INSERT INTO orders (user_id) VALUES (?)"}, 0, id="an-insert"),
        pytest.param({"statement": "UPDATE orders SET total = ? WHERE user_id = ?"}, 0, id="an-update"),
        pytest.param({"statement": "PRAGMA table_info (orders)"}, 0, id="a-pragma"),
        pytest.param({"statement": "SELECT name FROM sqlite_master WHERE name = ?"}, 0, id="the-catalog-of-sqlite"),
        pytest.param(
            {"statement": "SELECT oid FROM pg_catalog.pg_class WHERE relname = ?", "dialect": "postgresql"},
            0,
            id="the-catalog-of-postgresql",
        ),
        pytest.param(
            {"statement": "SELECT 1 FROM information_schema.tables WHERE table_name = ?", "dialect": "mysql"},
            0,
            id="the-information-schema",
        ),
        pytest.param({"statement": "SELECT nextval(?)", "dialect": "postgresql"}, 0, id="no-table"),
        pytest.param({"statement": "SELECT ((("}, 0, id="no-sql"),
    ],
)
def test_what_only_looks_like_a_loop_is_silent(detect, changes, found):
    assert len(detect(changes)) == found


@pytest.mark.parametrize(
    ("changes", "fix_kind", "message", "fix"),
    [
        pytest.param(
            {},
            "in_query",
            "The same SELECT on orders runs once for each user_id: 9 times.",
            f"Run one SELECT with user_id IN (...) {BEFORE}, {IN_DICT}",
            id="rows",
        ),
        pytest.param(
            {
                "statement": "SELECT id FROM orders WHERE user_id = ? AND status = ?",
                "looked_up": ("user_id", "status"),
            },
            "in_query",
            "The same SELECT on orders runs once for each user_id and status: 9 times.",
            f"Run one SELECT with user_id and status IN (...) {BEFORE}, {IN_DICT}",
            id="two-columns",
        ),
        pytest.param(
            {"statement": "SELECT count(*) FROM orders WHERE user_id = ?"},
            "aggregate",
            "The same SELECT on orders runs once for each user_id: 9 times.",
            f"Run one SELECT with GROUP BY user_id {BEFORE}, and look the results up in a dict.",
            id="aggregate",
        ),
        pytest.param(
            {"statement": "SELECT id FROM orders WHERE user_id = ? ORDER BY created_at DESC, id LIMIT ?"},
            "window",
            "The same SELECT on orders runs once for each user_id: 9 times.",
            f"Run one SELECT {BEFORE} with row_number() OVER (PARTITION BY user_id ORDER BY created_at DESC, id) in a "
            "subquery, and keep the first rows of each.",
            id="latest-of-each",
        ),
        pytest.param(
            {"statement": "SELECT id, ntile(?) OVER (ORDER BY id) FROM orders WHERE user_id = ?"},
            "in_query",
            "The same SELECT on orders runs once for each user_id: 9 times.",
            f"Run one SELECT with user_id IN (...) {BEFORE}, and user_id in the PARTITION BY of each OVER (...); "
            "then look the rows up in a dict.",
            id="numbered-rows-of-each",
        ),
        pytest.param(
            {"statement": "SELECT id FROM orders WHERE user_id = ? LIMIT ?"},
            "in_query",
            "The same SELECT on orders runs once for each user_id: 9 times.",
            f"Run one SELECT with user_id IN (...) {BEFORE}, {IN_DICT}",
            id="any-of-each",
        ),
        pytest.param(
            {"statement": "SELECT o.id FROM users JOIN orders AS o ON o.user_id = users.id WHERE o.status = ?"}
            | {"looked_up": ("status",)},
            "in_query",
            "The same SELECT on orders runs once for each status: 9 times.",
            f"Run one SELECT with status IN (...) {BEFORE}, {IN_DICT}",
            id="the-table-of-the-column",
        ),
        pytest.param(
            {"statement": MIXED, "looked_up": ("Day",)},
            "window",
            "The same SELECT on orders runs once for each Day: 9 times.",
            f"Run one SELECT {BEFORE} with row_number() OVER (PARTITION BY Day ORDER BY id) in a subquery, and keep "
            "the first rows of each.",
            id="names-in-mixed-case",
        ),
    ],
)
def test_a_core_loop_in_full(detect, changes, fix_kind, message, fix):
    [finding] = detect(changes)
    assert (finding.kind, finding.subject, finding.fix_kind) == ("core_loop", "orders", fix_kind)
    assert (finding.message, finding.fix) == (message, fix)
    assert (finding.evidence.parent_site, finding.evidence.options) == (None, None)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        pytest.param({"kind": "get"}, "get_loop", id="session-get"),
        pytest.param({"keys": (("id",),)}, "get_loop", id="by-primary-key"),
        pytest.param({"keys": (("id",), ("email",))}, "get_loop", id="by-one-of-two-keys"),
        pytest.param({"keys": (("email",),)}, "core_loop", id="by-no-key"),
        pytest.param({"keys": ()}, "get_loop", id="by-id-where-no-key-is-known"),
        pytest.param({"keys": (("ID",),)}, "get_loop", id="written-in-another-case"),
        pytest.param({"keys": (("tenant", "id"),)}, "core_loop", id="by-half-a-key"),
        pytest.param(
            {
                "keys": (("tenant", "id"),),
                "statement": "SELECT users.name FROM users WHERE tenant = ? AND users.id = ?",
            },
            "get_loop",
            id="by-a-key-of-two-columns-of-which-one-changes",
        ),
        pytest.param({"keys": (("id",),), "rows": 9}, "get_loop", id="a-row-each"),
        pytest.param({"keys": (("id",),), "rows": 10}, "core_loop", id="more-rows-than-keys"),
        pytest.param({"is_text": True}, "get_loop", id="text-by-id"),
        pytest.param(
            {
                "is_text": True,
                "statement": "SELECT u.name FROM users u JOIN teams t ON t.id = u.team_id WHERE u.id = ?",
            },
            "core_loop",
            id="text-of-two-tables",
        ),
        pytest.param(
            {"keys": (("id",),), "statement": "SELECT count(*) FROM users WHERE users.id = ?"},
            "core_loop",
            id="an-aggregate-by-key",
        ),
    ],
)
def test_by_key_it_is_a_get_loop(detect, changes, kind):
    [finding] = detect({"statement": BY_KEY, "looked_up": ("id",)} | changes)
    assert (finding.kind, finding.subject) == (kind, "users")
    if kind == "get_loop":
        assert finding.fix_kind == "in_query"
        assert finding.message == "users is read one key at a time: 9 SELECTs by id."
        assert finding.fix == f"Run one SELECT with id IN (...) {BEFORE}, {IN_DICT}"
