"""What stood between two runs of a statement: which tells a loop from a worker."""

from __future__ import annotations

import pytest

from querywatch.fingerprint import take_fingerprint
from querywatch.records import OUTER_SITES_LIMIT, CallSite, ScopeQuery, ScopeRecord, Step
from querywatch.timeline import Timeline, count_between, is_from_many_lines

TEXTS = {
    "claim": "SELECT jobs.id FROM jobs WHERE jobs.status = ? LIMIT ?",
    "claim locked": "SELECT jobs.id FROM jobs WHERE jobs.status = ? LIMIT ? FOR UPDATE SKIP LOCKED",
    "claim and change": (
        "UPDATE jobs SET status = ? WHERE id = (SELECT id FROM jobs WHERE status = ? LIMIT ?) RETURNING jobs.id"
    ),
    "change": "UPDATE jobs SET status = ? WHERE jobs.id = ?",
    "remove": "DELETE FROM jobs WHERE jobs.id = ?",
    "read": "SELECT users.name FROM users WHERE users.id = ?",
    "change user": "UPDATE users SET name = ? WHERE users.id = ?",
    "add user": "INSERT INTO users (name) VALUES (?)",
    "take by key": "SELECT jobs.task FROM jobs WHERE jobs.id = ?",
    "take by key locked": "SELECT jobs.task FROM jobs WHERE jobs.id = ? FOR UPDATE",
    "see": "INSERT INTO seen (message) VALUES (?) ON CONFLICT DO NOTHING",
    "see or fail": "INSERT INTO seen (message) VALUES (?)",
    "find": "SELECT seen.message FROM seen WHERE seen.message = ?",
    "call": "SELECT set_config(?, ?, ?)",
    "set": "SET search_path TO tenant",
}


def step(name):
    return Step(name) if name in {"commit", "rollback"} else Step("statement", TEXTS[name], "shop")


def make_scope(*names, commits=None, **changes):
    """Make a scope in which *names* happened in that order; *changes* are fields of the queries by name."""
    queries = []
    for name in dict.fromkeys(each for each in names if each in TEXTS):
        values = {
            "statement": TEXTS[name],
            "fingerprint": take_fingerprint(TEXTS[name], "postgresql"),
            "database": "shop",
            "dialect": "postgresql",
            "calls": names.count(name),
            "contexts": names.count(name),
            "total_s": 0.01,
            "max_s": 0.01,
            # A claim asks for the next one there is, and the rest for a row that it names.
            "looked_up": () if name.startswith("claim") else ("id",),
        }
        queries.append(ScopeQuery(**(values | changes.get(name, {}))))
    return ScopeRecord(
        name="worker",
        kind="script",
        started_at=1000.0,
        duration_s=2.0,
        queries=tuple(queries),
        steps=tuple(map(step, names)),
        commits=names.count("commit") if commits is None else commits,
        rollbacks=names.count("rollback"),
    )


JOB = ("claim", "read", "change", "commit")


@pytest.mark.parametrize(
    ("names", "is_worker"),
    [
        pytest.param(JOB * 5, True, id="takes-changes-commits"),
        pytest.param((*JOB * 5, "claim"), True, id="and-finds-none-in-the-end"),
        pytest.param(JOB * 3, True, id="three-jobs"),
        pytest.param(JOB * 2, False, id="two-jobs"),
        pytest.param(("claim locked", "change", "commit") * 5, True, id="locks-the-row"),
        pytest.param(("claim and change", "read", "commit") * 5, True, id="takes-by-one-update"),
        pytest.param(("claim", "remove", "commit") * 5, True, id="deletes-what-is-done"),
        pytest.param(("claim", "read", "commit") * 5, False, id="changes-nothing"),
        pytest.param(("claim", "change user", "commit") * 5, False, id="changes-another-table"),
        pytest.param(("change", "commit") * 5, False, id="only-changes"),
        pytest.param(("claim", "change") * 5, False, id="never-commits"),
        pytest.param((*("claim", "change") * 5, "commit", "commit", "commit"), False, id="commits-in-the-end"),
        pytest.param(("claim", "change", "rollback") * 5, False, id="only-rolls-back"),
        pytest.param((*JOB * 2, *("claim", "read") * 6, *JOB), False, id="most-turns-are-no-job"),
        pytest.param((*JOB * 8, "claim", "read", *JOB), True, id="one-turn-was-no-job"),
        # The keys may be those of a broker's messages, each of which is done before the next one comes.
        pytest.param(("take by key", "change", "commit") * 5, True, id="a-loop-over-keys"),
        pytest.param(("take by key locked", "change", "commit") * 5, True, id="a-key-that-is-locked"),
        pytest.param(
            ("take by key", "change", "commit", "read", "change", "commit") * 5, True, id="marked-as-begun-and-as-done"
        ),
        pytest.param(("see", "change user", "commit") * 5, True, id="a-message-that-is-noted-as-seen"),
        pytest.param(("see", "commit") * 5, False, id="noted-and-nothing-done"),
        pytest.param(("see or fail", "change user", "commit") * 5, False, id="a-row-added-and-another-changed"),
        pytest.param(("find", "see or fail", "change user", "commit") * 5, True, id="looked-for-and-noted-as-seen"),
        pytest.param(("find", "see or fail", "commit") * 5, False, id="added-where-it-was-missing"),
        pytest.param((), False, id="nothing"),
    ],
)
def test_a_worker_takes_a_row_changes_it_and_commits(names, is_worker):
    assert Timeline(make_scope(*names)).is_worker is is_worker


@pytest.mark.parametrize(
    ("kind", "is_worker"), [(None, True), ("get", True), ("lazy_load", False), ("refresh", False), ("eager", False)]
)
def test_only_what_the_application_asked_for_is_a_claim(kind, is_worker):
    scope = make_scope(*("claim", "change", "commit") * 5, claim={"kind": kind})
    assert Timeline(scope).is_worker is is_worker


@pytest.mark.parametrize(
    ("names", "statements", "most"),
    [
        pytest.param(JOB * 5, ["read"], 1, id="once-for-each-job"),
        pytest.param(("claim", "read", "read", "read", "change", "commit") * 5, ["read"], 3, id="a-loop-in-each-job"),
        pytest.param((*JOB * 4, "claim", *("read",) * 9, "change", "commit"), ["read"], 9, id="a-loop-in-one-job"),
        pytest.param(JOB * 5, ["read", "change"], 2, id="two-statements"),
        pytest.param(JOB * 5, ["call"], 0, id="none"),
        pytest.param(
            ("claim", "read", "rollback", "read", "change", "commit") * 5, ["read"], 2, id="a-rollback-ends-no-job"
        ),
        pytest.param(("read", "commit") * 5, ["read"], None, id="no-worker"),
    ],
)
def test_in_a_worker_runs_are_counted_within_one_job(names, statements, most):
    assert Timeline(make_scope(*names)).count_in_unit({TEXTS[name] for name in statements}) == most


@pytest.mark.parametrize(
    ("names", "turns"),
    [
        pytest.param(("read", "change", "read", "commit", "read"), [["change"], ["commit"]], id="between-runs"),
        pytest.param(("change", "read", "commit"), [], id="one-run-has-no-turn"),
        pytest.param(("change", "commit"), [], id="none"),
        pytest.param(("read", "read"), [[]], id="nothing-between"),
    ],
)
def test_turns_are_what_stood_between_two_runs(names, turns):
    found = Timeline(make_scope(*names)).list_turns({TEXTS["read"]})
    assert found == [tuple(map(step, turn)) for turn in turns]


def test_the_turns_of_two_statements_are_those_between_any_of_them():
    timeline = Timeline(make_scope("read", "change", "claim", "commit", "read"))
    turns = timeline.list_turns({TEXTS["read"], TEXTS["claim"]})
    assert turns == [(step("change"),), (step("commit"),)]


@pytest.mark.parametrize(
    ("name", "changes", "written", "looked_up", "inserted"),
    [
        pytest.param("change user", {}, True, True, False, id="update-of-what-was-looked-for"),
        pytest.param("change user", {"looked_up": ()}, True, False, False, id="update-of-one-row-again"),
        pytest.param("add user", {}, True, False, True, id="insert"),
        pytest.param("read", {}, False, True, False, id="select"),
        pytest.param("read", {"looked_up": ()}, False, False, False, id="select-that-looks-nothing-up"),
        pytest.param("read", {"kind": "lazy_load"}, False, False, False, id="lazy-load"),
        pytest.param("read", {"kind": "get"}, False, True, False, id="get"),
        pytest.param("change", {}, False, False, False, id="another-table"),
        pytest.param("commit", {}, False, False, False, id="commit"),
    ],
)
def test_what_a_turn_did_to_a_table(name, changes, written, looked_up, inserted):
    timeline = Timeline(make_scope(name, **{name: changes}))
    turn = (step(name),)
    assert timeline.writes(turn, {"users"}) is written
    assert timeline.looks_up(turn, "users") is looked_up
    assert timeline.inserts(turn, "users") is inserted


@pytest.mark.parametrize(
    ("name", "resets"),
    [
        pytest.param("set", True, id="another-tenant"),
        pytest.param("call", True, id="a-function"),
        pytest.param("read", False, id="select"),
        pytest.param("change", False, id="update"),
        pytest.param("commit", False, id="commit"),
    ],
)
def test_what_lets_the_same_select_read_other_rows(name, resets):
    assert Timeline(make_scope(name)).resets((step(name),)) is resets


@pytest.mark.parametrize(
    ("lines", "contexts", "is_many"),
    [
        pytest.param(5, 5, True, id="each-from-a-line-of-its-own"),
        pytest.param(4, 5, True, id="the-first-has-none"),
        pytest.param(3, 5, False, id="one-line-twice"),
        pytest.param(1, 5, False, id="one-line"),
        pytest.param(0, 5, False, id="not-recorded"),
        pytest.param(1, 2, False, id="two-runs-one-line"),
        pytest.param(OUTER_SITES_LIMIT, 100, True, id="more-than-are-kept"),
        pytest.param(OUTER_SITES_LIMIT - 2, 100, False, id="a-loop-from-many"),
    ],
)
def test_one_function_called_from_many_lines_is_no_loop(lines, contexts, is_many):
    sites = tuple(CallSite("shop/views.py", number, "view") for number in range(lines))
    [query] = make_scope("read", read={"outer_sites": sites}).queries
    assert is_from_many_lines(query, contexts) is is_many


def test_statements_of_a_turn_are_counted_by_text():
    counted = count_between([step("read"), step("commit"), step("read"), step("change")])
    assert counted == {TEXTS["read"]: 2, TEXTS["change"]: 1}
