"""Each finding is told once, then counted, in bounded number."""

from __future__ import annotations

import dataclasses
import threading

import pytest

from querywatch.detectors.n_plus_one import NPlusOneEvidence
from querywatch.findings import FindingLog, key_in_scope, key_of
from querywatch.records import CallSite, Finding, SavedEvidence

FINDING = Finding(
    code="n-plus-one",
    kind="lazy_load",
    severity="warning",
    message="User.orders is loaded one parent at a time.",
    fix="Add an option.",
    fix_kind="selectinload",
    subject="User.orders",
    database="shop",
    fingerprint="0123456789abcdef",
    call_site=CallSite("shop/views.py", 44, "list_users"),
    scope="GET /users",
    count=5,
    total_s=0.5,
    first_seen_at=1000.0,
    last_seen_at=1000.0,
    evidence=NPlusOneEvidence(sql="SELECT ?", calls=5, scope_calls=6),
)


def make(**changes):
    return dataclasses.replace(FINDING, **changes)


@pytest.fixture
def log():
    return FindingLog(3)


def test_a_repeat_is_counted_and_not_told_again(log):
    assert log.add(FINDING) is True
    evidence = NPlusOneEvidence(sql="SELECT ?", calls=7, scope_calls=9)
    again = make(count=7, total_s=0.25, first_seen_at=1010.0, last_seen_at=1010.0, evidence=evidence)
    assert log.add(again) is False
    [known] = log.list()
    assert (known.count, known.total_s) == (12, 0.75)
    assert (known.first_seen_at, known.last_seen_at) == (1000.0, 1010.0)
    assert known.evidence == NPlusOneEvidence(sql="SELECT ?", calls=7, scope_calls=9, scopes=2)


def test_another_look_at_a_scope_is_no_further_scope(log):
    log.add(FINDING)
    log.add(make(evidence=FINDING.evidence.with_scopes(0)))
    assert log.list()[0].evidence.scopes == 1


def test_time_that_is_not_known_stays_so(log):
    log.add(FINDING)
    log.add(make(total_s=None))
    assert log.list()[0].total_s is None


def test_a_repeat_that_was_seen_earlier_is_not_the_last(log):
    log.add(FINDING)
    log.add(make(last_seen_at=900.0))
    assert log.list()[0].last_seen_at == 1000.0


@pytest.mark.parametrize(
    ("changes", "are_one"),
    [
        pytest.param({"message": "42 statements", "count": 42, "severity": "error"}, True, id="its-figures"),
        pytest.param({"code": "slow-query"}, False, id="code"),
        pytest.param({"kind": "core_loop"}, False, id="kind"),
        pytest.param({"subject": "User.address"}, False, id="subject"),
        pytest.param({"database": "archive"}, False, id="database"),
        pytest.param({"call_site": CallSite("shop/views.py", 45, "list_users")}, False, id="line"),
        pytest.param({"scope": "GET /orders"}, False, id="scope"),
        pytest.param({"fingerprint": "fedcba9876543210"}, True, id="statement-of-a-relationship"),
    ],
)
def test_what_makes_two_findings_one(changes, are_one):
    assert (key_of(make(**changes)) == key_of(FINDING)) is are_one


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("slow-query", None),
        ("duplicate-query", None),
        ("write-loop", None),
        ("n-plus-one", "core_loop"),
        ("n-plus-one", "get_loop"),
    ],
)
def test_two_statements_on_one_table_from_one_line_are_two(code, kind):
    one, two = make(code=code, kind=kind), make(code=code, kind=kind, fingerprint="fedcba9876543210")
    assert key_of(one) != key_of(two)
    assert key_in_scope(one) != key_in_scope(two)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("n-plus-one", "lazy_load"),
        ("n-plus-one", "eager_loop"),
        ("n-plus-one", "refresh"),
        ("n-plus-one", "deferred"),
        ("unused-eager-load", None),
        ("large-result", None),
        ("scope-budget", None),
    ],
)
def test_two_statements_of_one_thing_to_mend_are_one(code, kind):
    one, two = make(code=code, kind=kind), make(code=code, kind=kind, fingerprint="fedcba9876543210")
    assert key_of(one) == key_of(two)


@pytest.mark.parametrize("kind", ["lazy_load", "eager_loop", "refresh", "deferred"])
def test_another_line_of_one_relationship_is_another_finding_but_of_one_look_the_same(kind):
    one, two = make(kind=kind), make(kind=kind, call_site=CallSite("shop/views.py", 99, "show_user"))
    assert key_of(one) != key_of(two)
    assert key_in_scope(one) == key_in_scope(two)


@pytest.mark.parametrize(
    ("finding", "changes"),
    [
        pytest.param(FINDING, {"scope": "GET"}, id="the-scope-got-its-name"),
        pytest.param(FINDING, {"call_site": None}, id="another-line-became-the-busiest"),
        pytest.param(make(kind="core_loop"), {"scope": None}, id="the-scope-of-a-loop-got-its-name"),
    ],
)
def test_between_two_looks_at_a_scope_it_is_still_the_same(finding, changes):
    assert key_in_scope(dataclasses.replace(finding, **changes)) == key_in_scope(finding)


def test_the_one_told_first_leaves_first(log):
    for number in range(5):
        assert log.add(make(subject=str(number))) is True
    assert [finding.subject for finding in log.list()] == ["2", "3", "4"]
    assert log.dropped == 2
    assert log.add(make(subject="4")) is False


def test_put_replaces_the_figures_and_keeps_when_it_began(log):
    assert log.put(FINDING) is True
    later = make(count=50, total_s=9.0, first_seen_at=2000.0, last_seen_at=2000.0, evidence=SavedEvidence({}))
    assert log.put(later) is False
    [known] = log.list()
    assert known == dataclasses.replace(later, first_seen_at=1000.0)


def test_revise_changes_what_it_wants_to(log):
    log.add(FINDING)
    log.add(make(subject="User.address"))
    log.revise(lambda finding: make(fix="another") if finding.subject == "User.orders" else None)
    assert [finding.fix for finding in log.list()] == ["another", "Add an option."]
    assert log.add(FINDING) is False


def test_what_holds_no_longer_is_removed_and_told_again_if_it_returns(log):
    log.add(FINDING)
    log.remove(lambda finding: finding.subject == "User.orders")
    assert log.list() == ()
    assert log.add(FINDING) is True


def test_threads_that_add_at_once_lose_nothing(log):
    def add():
        for _ in range(1000):
            log.add(make(count=1))
            log.list()

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.list()[0].count == 4000
