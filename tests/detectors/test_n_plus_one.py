"""What all kinds of N+1 share: the limit, a worker's jobs, and a finding in full."""

from __future__ import annotations

import pytest

from querywatch.config import Config
from querywatch.detectors import DETECTORS, n_plus_one
from querywatch.records import CallSite, CountsScopes

LIMIT = Config().n_plus_one_threshold
LINE_20 = CallSite("shop/views.py", 20, "list_orders")
LINE_41 = CallSite("shop/views.py", 41, "list_users")
LINE_44 = CallSite("shop/views.py", 44, "list_users")
PATH = {"relationship": "User.orders", "path": ("User.orders",), "to_one": (False,), "entity": "Order"}
LAZY = PATH | {"kind": "lazy_load", "lazy": "select", "parent_base": "User", "parent_entity": "User"}

LOOKED_UP = "SELECT orders.id FROM orders WHERE orders.user_id = ?"
CLAIM = "SELECT jobs.id, jobs.user_id FROM jobs WHERE jobs.state = ? LIMIT ?"
CLAIM_IN_ONE = "UPDATE jobs SET state = ? WHERE id = (SELECT id FROM jobs WHERE state = ? LIMIT ?)"
DONE = "UPDATE jobs SET state = ? WHERE jobs.id = ?"
REMOVED = "DELETE FROM jobs WHERE jobs.id = ?"
SEEN = "INSERT INTO seen (id) VALUES (?) ON CONFLICT DO NOTHING"
CREDITED = "UPDATE users SET score = ? WHERE users.id = ?"
LOGGED = "INSERT INTO runs (job_id) VALUES (?)"


def test_it_is_one_of_the_detectors():
    assert n_plus_one in DETECTORS
    assert n_plus_one.CODE == "n-plus-one"


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(LAZY, id="lazy_load"),
        pytest.param(LAZY | {"kind": "eager_loop", "act": "merge"}, id="eager_loop"),
        pytest.param({"kind": "get"}, id="get_loop"),
        pytest.param({"kind": None}, id="core_loop"),
        pytest.param({"kind": "refresh", "entity": "User", "entity_base": "User"}, id="refresh"),
        pytest.param({"kind": "deferred", "attribute": "User.bio", "entity_base": "User"}, id="deferred"),
    ],
)
@pytest.mark.parametrize(
    ("limit", "times", "found"),
    [
        pytest.param(LIMIT, LIMIT - 1, 0, id="one-below-limit"),
        pytest.param(LIMIT, LIMIT, 1, id="at-limit"),
        pytest.param(2, 2, 1, id="a-lower-limit"),
        pytest.param(7, 6, 0, id="a-higher-limit"),
    ],
)
def test_each_kind_has_the_limit_of_the_settings(make_scope, make_query, kind, limit, times, found):  # noqa: PLR0917 - columns
    record = make_scope(make_query(contexts=times, **kind))
    assert len(list(n_plus_one.detect(record, Config(n_plus_one_threshold=limit)))) == found


@pytest.mark.parametrize(
    ("calls", "contexts", "counts"),
    [
        pytest.param(600, 1, [], id="one-act-of-many-calls"),
        pytest.param(600, LIMIT - 1, [], id="few-acts-of-many-calls"),
        pytest.param(50, LIMIT, [50], id="calls-are-what-is-told"),
    ],
)
def test_acts_of_the_application_are_compared_with_the_limit(make_scope, make_query, calls, contexts, counts):
    record = make_scope(make_query(calls=calls, contexts=contexts, **LAZY))
    assert [finding.count for finding in n_plus_one.detect(record, Config())] == counts


@pytest.mark.parametrize(
    ("times", "found"),
    [
        pytest.param([1] * 8, 0, id="each-from-a-line-of-its-own"),
        pytest.param([2] + [1] * 7, 0, id="one-of-them-twice"),
        pytest.param([3] + [1] * 6, 1, id="a-loop-among-them"),
        pytest.param([4, 4], 1, id="two-loops"),
        pytest.param([8], 1, id="one-loop"),
    ],
)
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(LAZY, id="lazy_load"),
        pytest.param({"kind": "refresh", "entity": "User", "entity_base": "User"}, id="refresh"),
        pytest.param({"kind": "deferred", "attribute": "User.bio", "entity_base": "User"}, id="deferred"),
    ],
)
def test_as_many_lines_as_statements_are_no_loop(make_scope, make_query, kind, times, found):
    lines = [CallSite("shop/test_users.py", 20 + number, "test_users") for number in range(len(times))]
    queries = [make_query(contexts=each, call_site=line, **kind) for line, each in zip(lines, times, strict=True)]
    assert len(list(n_plus_one.detect(make_scope(*queries), Config()))) == found


def test_one_scope_may_have_several(make_scope, make_query):
    record = make_scope(make_query(contexts=9, **LAZY), make_query(contexts=9, call_site=LINE_20))
    kinds = [finding.kind for finding in n_plus_one.detect(record, Config())]
    assert kinds == ["lazy_load", "core_loop"]


@pytest.mark.parametrize(
    ("job", "jobs", "found"),
    [
        pytest.param([CLAIM, LOOKED_UP, DONE, "commit"], 9, 0, id="once-for-each-job"),
        pytest.param([CLAIM, LOOKED_UP, REMOVED, "commit"], 9, 0, id="once-for-each-message"),
        pytest.param([CLAIM_IN_ONE, LOOKED_UP, "commit"], 9, 0, id="once-for-each-job-taken-in-one-statement"),
        pytest.param([CLAIM, *[LOOKED_UP] * (LIMIT - 1), DONE, "commit"], 9, 0, id="one-below-limit-in-each-job"),
        pytest.param([CLAIM, *[LOOKED_UP] * LIMIT, DONE, "commit"], 9, 1, id="at-limit-in-each-job"),
        pytest.param([SEEN, LOOKED_UP, CREDITED, "commit"], 9, 0, id="once-for-each-message-noted-as-seen"),
        pytest.param([SEEN, LOOKED_UP, "commit"], 9, 1, id="noted-as-seen-and-nothing-done"),
        pytest.param([CLAIM, LOOKED_UP, DONE, "commit"], 2, 0, id="two-jobs-are-few"),
        pytest.param([CLAIM, *[LOOKED_UP] * 3, DONE, "commit"], 2, 1, id="but-no-worker"),
        pytest.param([CLAIM, LOOKED_UP, LOGGED, "commit"], 9, 1, id="nothing-taken-is-changed"),
        pytest.param([CLAIM, LOOKED_UP, DONE, "rollback"], 9, 1, id="nothing-is-committed"),
        pytest.param([CLAIM, LOOKED_UP, DONE], 9, 1, id="one-transaction"),
    ],
)
@pytest.mark.parametrize("kind", [pytest.param({"kind": None}, id="loop"), pytest.param(LAZY, id="lazy-load")])
def test_a_workers_jobs_are_judged_one_by_one(make_scope, make_query, kind, job, jobs, found):  # noqa: PLR0917 - columns
    others = [
        make_query(each, contexts=jobs, looked_up=("id",) if each in {DONE, REMOVED, CREDITED} else ())
        for each in job
        if each not in {LOOKED_UP, "commit", "rollback"}
    ]
    looked_up = make_query(LOOKED_UP, contexts=jobs * job.count(LOOKED_UP), **kind)
    record = make_scope(looked_up, *others, steps=job * jobs)
    found_here = [each for each in n_plus_one.detect(record, Config()) if each.fingerprint == looked_up.fingerprint.id]
    assert len(found_here) == found


def test_a_finding_in_full(make_scope, make_query):
    lazy = LAZY | {"parent_site": LINE_41, "outer_sites": (LINE_20,)}
    other = make_query("SELECT users.id FROM users", contexts=1)
    most = make_query(contexts=40, total_s=0.3, call_site=LINE_44, **lazy)
    less = make_query(contexts=2, total_s=0.1, call_site=LINE_20, **lazy)
    [finding] = n_plus_one.detect(make_scope(other, less, most), Config())
    assert (finding.code, finding.kind, finding.severity) == ("n-plus-one", "lazy_load", "warning")
    assert (finding.fix_kind, finding.subject, finding.database) == ("selectinload", "User.orders", "shop")
    assert (finding.fingerprint, finding.call_site) == (most.fingerprint.id, LINE_44)
    assert (finding.scope, finding.count, finding.total_s) == ("GET /users", 42, pytest.approx(0.4))
    assert (finding.first_seen_at, finding.last_seen_at) == (1002.0, 1002.0)
    assert finding.evidence.as_dict() == {
        "sql": most.fingerprint.sql,
        "calls": 42,
        "scope_calls": 43,
        "scopes": 1,
        "parent_site": "shop/views.py:41",
        "path": ["User.orders"],
        "options": "selectinload(User.orders)",
        "called_from": ["shop/views.py:20"],
    }
    assert isinstance(finding.evidence, CountsScopes)
    assert finding.evidence.with_scopes(7).as_dict() == finding.evidence.as_dict() | {"scopes": 7}


def test_what_is_not_known_is_none(make_scope, make_query):
    [finding] = n_plus_one.detect(make_scope(make_query(contexts=9)), Config())
    evidence = finding.evidence.as_dict()
    assert (evidence["parent_site"], evidence["options"]) == (None, None)
    assert (evidence["path"], evidence["called_from"]) == ([], [])
