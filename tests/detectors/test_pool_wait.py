"""What is said of a wait for a connection."""

from __future__ import annotations

from dataclasses import replace

import pytest

from querywatch.config import Config
from querywatch.detectors import DETECTORS, pool_wait
from querywatch.records import CallSite, Idle, PoolWait

LINE_44 = CallSite("shop/views.py", 44, "list_users")
WAIT = PoolWait(1.25, "shop", 5, 10, LINE_44)


@pytest.fixture
def detect(make_scope):
    def run(**changes):
        scope = replace(make_scope(), **{"pool_wait_s": 1.25, "longest_wait": WAIT} | changes)
        return list(pool_wait.detect(scope, Config(pool_wait_s=0.1)))

    return run


def test_it_is_one_of_the_detectors():
    assert pool_wait in DETECTORS
    assert pool_wait.CODE == "pool-wait"


def test_a_short_wait_is_silent(detect):
    assert detect(pool_wait_s=0.05) == []


def test_a_finding_in_full(detect):
    [finding] = detect(pool_waits=2)
    assert finding.message == "Waited 1.25 s for a connection of shop at shop/views.py:44."
    assert finding.fix == (
        "All connections that pool_size=5 and max_overflow=10 allow were taken. First look for connections that are "
        "held while no statement runs: they make the wait longer. Then raise pool_size in create_engine()."
    )
    assert (finding.code, finding.kind, finding.severity) == ("pool-wait", None, "warning")
    assert (finding.fix_kind, finding.subject, finding.scope) == ("pool_size", "GET /users", "GET /users")
    assert (finding.database, finding.fingerprint, finding.call_site) == ("shop", None, LINE_44)
    assert (finding.count, finding.total_s) == (2, 1.25)
    assert finding.evidence.as_dict() == {
        "longest_s": 1.25,
        "limit_s": 0.1,
        "waits": 2,
        "timeouts": 0,
        "pool_size": 5,
        "max_overflow": 10,
        "scopes": 1,
    }
    assert finding.evidence.with_scopes(4).scopes == 4


def test_a_wait_in_vain_is_an_error(detect):
    [finding] = detect(pool_waits=1, pool_timeouts=1, longest_wait=replace(WAIT, overflow=0))
    assert finding.message == "Waited 1.25 s in vain for a connection of shop at shop/views.py:44."
    assert finding.fix.startswith("All connections that pool_size=5 allows were taken. ")
    assert (finding.severity, finding.count) == ("error", 2)


def test_a_connection_that_this_scope_held_idle_is_named(detect):
    [finding] = detect(pool_waits=1, idle=(Idle(0.75, LINE_44), Idle(2.0, None)))
    assert "First shorten how long they are held: this scope held one idle for 2.0 s. Then raise" in finding.fix


@pytest.mark.parametrize(
    ("wait", "subject"),
    [
        pytest.param(WAIT, "shop/views.py:44", id="line"),
        pytest.param(replace(WAIT, call_site=None), "shop", id="database"),
        pytest.param(None, "checkout", id="nothing-known"),
    ],
)
def test_the_subject_of_an_implicit_scope(detect, wait, subject):
    [finding] = detect(pool_waits=1, longest_wait=wait, name=None, kind="checkout")
    assert (finding.subject, finding.scope) == (subject, None)
