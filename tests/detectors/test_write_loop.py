"""Which writes could have been sent together, which could not, and how."""

from __future__ import annotations

import pytest

from querywatch.config import Config
from querywatch.detectors import DETECTORS, write_loop
from querywatch.records import CallSite, CountsScopes

LIMIT = Config().n_plus_one_threshold
LINES = tuple(CallSite("shop/views.py", line, "save") for line in range(20, 40))
INSERT = "INSERT INTO orders (user_id, total) VALUES (?, ?)"
UPDATE = "UPDATE orders SET total = ? WHERE orders.id = ?"
GUARDED = "UPDATE orders SET status = ? WHERE orders.id = ? AND orders.status = ?"
VERSIONED = "UPDATE orders SET total = ?, version = ? WHERE orders.id = ? AND orders.version = ?"
COUNTER = "UPDATE orders SET total = total + ? WHERE orders.id = ?"
DELETE = "DELETE FROM orders WHERE orders.id = ?"
UPSERT = "INSERT INTO orders (id, total) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET total = excluded.total"
LOOK_UP = "SELECT orders.id FROM orders WHERE orders.user_id = ?"
OTHER = "SELECT users.id FROM users WHERE users.id = ?"
CLAIM = "SELECT jobs.id FROM jobs WHERE jobs.state = ? LIMIT ?"
DONE = "UPDATE jobs SET state = ? WHERE jobs.id = ?"
SAVEPOINT = "SAVEPOINT sa_savepoint_1"
RELEASE = "RELEASE SAVEPOINT sa_savepoint_1"
AFTER = "after the loop at shop/views.py:44"


@pytest.fixture
def detect(make_scope, make_query):
    """Run a case: one write as its changes, and a turn that comes *times* in their order."""

    def run(statement, *, turn=None, times=9, config=Config(), also=(), **changes):  # noqa: B008 - frozen
        turn = turn or [statement]
        looked_up = () if statement.startswith("INSERT") else ("id",)
        write = make_query(statement, **({"contexts": times * turn.count(statement), "looked_up": looked_up} | changes))
        others = [
            make_query(each, contexts=times * turn.count(each))
            for each in dict.fromkeys(turn)
            if each not in {statement, "commit", "rollback"}
        ]
        record = make_scope(write, *also, *others, steps=turn * times)
        return [each for each in write_loop.detect(record, config) if each.fingerprint == write.fingerprint.id]

    return run


def test_it_is_one_of_the_detectors():
    assert write_loop in DETECTORS
    assert write_loop.CODE == "write-loop"


@pytest.mark.parametrize(("limit", "times", "found"), [(LIMIT, LIMIT - 1, 0), (LIMIT, LIMIT, 1), (2, 2, 1), (7, 6, 0)])
@pytest.mark.parametrize("statement", [INSERT, UPDATE, DELETE, UPSERT])
def test_the_limit_is_a_setting(detect, statement, limit, times, found):
    assert len(detect(statement, times=times, config=Config(n_plus_one_threshold=limit))) == found


@pytest.mark.parametrize(
    ("statement", "changes", "found"),
    [
        pytest.param(INSERT, {"calls": 600, "contexts": 1}, 0, id="one-flush-of-600-rows"),
        pytest.param(INSERT, {"act": "flush", "calls": 60, "contexts": 6}, 0, id="six-flushes-of-ten-rows"),
        pytest.param(VERSIONED, {"act": "autoflush", "calls": 18}, 0, id="nine-flushes-of-two-rows"),
        pytest.param(INSERT, {"act": "flush", "calls": 17}, 1, id="flushes-of-one-row-mostly"),
        pytest.param(INSERT, {"batches": 9}, 0, id="batches"),
        pytest.param(INSERT, {"batches": 5}, 0, id="mostly-batches"),
        pytest.param(INSERT, {"batches": 4}, 1, id="seldom-batches"),
        pytest.param(INSERT, {"errors": 5}, 0, id="mostly-failed-and-tried-again"),
        pytest.param(INSERT, {"errors": 4}, 1, id="seldom-failed"),
        pytest.param(INSERT, {"outer_sites": LINES[:8]}, 0, id="called-from-a-line-each"),
        pytest.param(INSERT, {"outer_sites": LINES[:7]}, 1, id="called-from-seven-of-nine-lines"),
        pytest.param(INSERT, {"waits": True}, 0, id="a-function-that-sleeps"),
        pytest.param(INSERT, {"call_site": None}, 0, id="no-line"),
        pytest.param(INSERT, {"act": "autoflush", "is_orm_load": True}, 0, id="flushed-by-a-load-that-is-told"),
        pytest.param(INSERT, {"act": "autoflush"}, 1, id="flushed-by-a-query"),
        pytest.param("INSERT INTO archive SELECT * FROM orders WHERE id = ?", {}, 0, id="rows-copied-in-the-database"),
        pytest.param("DELETE FROM sqlite_sequence WHERE name = ?", {}, 0, id="a-table-of-the-database"),
        pytest.param(LOOK_UP, {}, 0, id="a-select"),
        pytest.param("CREATE TABLE orders (id INTEGER)", {}, 0, id="ddl"),
        pytest.param(UPDATE, {"looked_up": ()}, 0, id="the-same-row-again-and-again"),
        pytest.param(GUARDED, {}, 0, id="a-change-of-state-that-asks-for-the-old-one"),
        pytest.param(VERSIONED, {}, 0, id="a-version-kept-by-hand"),
        pytest.param(f"{UPDATE} AND total IS NULL", {}, 0, id="a-claim-of-what-nobody-has"),
        pytest.param(f"{UPDATE} AND total >= ?", {}, 0, id="a-change-of-what-there-is-enough-of"),
        pytest.param(f"{UPDATE} AND total IN (?, ?)", {}, 0, id="a-change-of-one-of-several-states"),
        pytest.param(f"{UPDATE} AND status IS NULL", {}, 1, id="another-column-is-asked-for"),
        pytest.param(VERSIONED, {"act": "flush"}, 1, id="a-version-kept-by-the-orm-and-a-flush-each"),
        pytest.param(COUNTER, {}, 1, id="a-counter"),
        pytest.param(UPDATE, {}, 1, id="an-update"),
        pytest.param("UPDATE orders SET total = ? WHERE ((", {}, 0, id="no-sql"),
    ],
)
def test_what_could_be_one_statement(detect, statement, changes, found):
    assert len(detect(statement, **changes)) == found


@pytest.mark.parametrize(
    ("turn", "found"),
    [
        pytest.param([SAVEPOINT, INSERT, RELEASE], 0, id="a-savepoint-each"),
        pytest.param([INSERT, "rollback"], 0, id="tried-again"),
        pytest.param([INSERT, "rollback", INSERT, "commit"], 1, id="rolled-back-now-and-then"),
        pytest.param([INSERT, OTHER], 1, id="something-is-read-in-between"),
        pytest.param([CLAIM, INSERT, DONE, "commit"], 0, id="once-for-each-job"),
        pytest.param([CLAIM, *[INSERT] * (LIMIT - 1), DONE, "commit"], 0, id="one-below-limit-in-each-job"),
        pytest.param([CLAIM, *[INSERT] * LIMIT, DONE, "commit"], 1, id="at-limit-in-each-job"),
    ],
)
def test_what_stands_in_between_tells_a_loop(detect, turn, found):
    assert len(detect(INSERT, turn=turn)) == found


def test_two_lines_are_two_groups(detect, make_query):
    other_line = make_query(INSERT, contexts=4, call_site=LINES[0])
    assert detect(INSERT, times=4, also=[other_line]) == []
    assert [finding.count for finding in detect(INSERT, also=[other_line])] == [9]


@pytest.mark.parametrize(
    ("statement", "changes", "fix_kind", "fix"),
    [
        pytest.param(
            INSERT,
            {},
            "executemany",
            f"Pass a list of all rows to one execute() {AFTER}: the driver sends them together.",
            id="insert",
        ),
        pytest.param(
            UPDATE,
            {},
            "executemany",
            f"Pass a list of all rows to one execute() {AFTER}: the driver sends them together.",
            id="update",
        ),
        pytest.param(DELETE, {}, "executemany", f"Run one DELETE with id IN (...) {AFTER}.", id="delete"),
        pytest.param(
            INSERT,
            {"act": "flush"},
            "bulk_add",
            f"Add all objects, with add_all() or relationships, and flush once {AFTER}.",
            id="a-flush-each",
        ),
        pytest.param(
            INSERT,
            {"act": "flush", "turn": [INSERT, "commit"]},
            "single_commit",
            f"Commit once {AFTER}: each commit waits for the disk.",
            id="a-commit-each",
        ),
        pytest.param(
            INSERT,
            {"act": "autoflush", "turn": [INSERT, OTHER]},
            "no_autoflush",
            "A statement in the loop flushes what is pending each time: put the loop at shop/views.py:44 into "
            "`with session.no_autoflush:`, or read before it.",
            id="an-autoflush-each",
        ),
        pytest.param(
            UPSERT,
            {},
            "upsert",
            f"Collect the rows and run the upsert once {AFTER}, with a list of all rows as its parameters.",
            id="an-upsert-each",
        ),
        pytest.param(
            INSERT,
            {"turn": [LOOK_UP, INSERT]},
            "upsert",
            f"Collect the rows and run one INSERT with ON CONFLICT for all of them {AFTER}, instead of looking for "
            "each of them first.",
            id="get-or-create",
        ),
        pytest.param(
            INSERT,
            {"turn": [UPDATE, INSERT]},
            "upsert",
            f"Collect the rows and run one INSERT with ON CONFLICT for all of them {AFTER}, instead of looking for "
            "each of them first.",
            id="update-or-create",
        ),
        pytest.param(
            UPDATE,
            {"act": "flush"},
            "bulk_add",
            f"Change all objects, and flush once {AFTER}.",
            id="a-flush-for-each-change",
        ),
        pytest.param(
            DELETE,
            {"act": "flush"},
            "bulk_add",
            f"Delete all objects, and flush once {AFTER}.",
            id="a-flush-for-each-deletion",
        ),
    ],
)
def test_the_fix_is_the_way_to_send_all_rows_at_once(detect, statement, changes, fix_kind, fix):
    [finding] = detect(statement, **changes)
    assert (finding.fix_kind, finding.fix) == (fix_kind, fix)
    assert finding.message == f"{statement.split()[0]} on orders runs once for each row: 9 statements."


def test_a_finding_in_full(detect, make_query):
    write = make_query(INSERT)
    [finding] = detect(INSERT, turn=[INSERT, "commit"], act="flush", total_s=0.4)
    assert finding.message == "INSERT on orders runs once for each row: 9 statements."
    assert (finding.code, finding.kind, finding.severity) == ("write-loop", None, "warning")
    assert (finding.fix_kind, finding.subject, finding.database) == ("single_commit", "orders", "shop")
    assert (finding.fingerprint, finding.call_site) == (write.fingerprint.id, write.call_site)
    assert (finding.scope, finding.count, finding.total_s) == ("GET /users", 9, 0.4)
    assert (finding.first_seen_at, finding.last_seen_at) == (1002.0, 1002.0)
    assert finding.evidence.as_dict() == {
        "sql": write.fingerprint.sql,
        "calls": 9,
        "scope_calls": 9,
        "scopes": 1,
        "commits": 9,
    }
    assert isinstance(finding.evidence, CountsScopes)
    assert finding.evidence.with_scopes(7).as_dict() == finding.evidence.as_dict() | {"scopes": 7}
