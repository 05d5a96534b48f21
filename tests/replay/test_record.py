"""The sentences of a replay."""

from __future__ import annotations

import pytest
from test_loader_options import make_finding

from querywatch.replay import Cost, Replay, ReplayedFix

BEFORE = Cost(51, 0.038)
OPTIONS = "selectinload(User.orders)"


def make_fix(after=None, **fields):
    known = {
        "finding": make_finding(OPTIONS),
        "options": OPTIONS,
        "path": ("User.orders",),
        "parent_site": "shop/views.py:38",
        "before": BEFORE,
        "after": after or Cost(2, 0.003),
        "selects": 1,
        "same_result": True,
    }
    return ReplayedFix(**{**known, **fields})


@pytest.mark.parametrize(
    ("fix", "problem"),
    [
        pytest.param(make_fix(), None, id="helps"),
        pytest.param(make_fix(same_result=None), None, id="not-comparable"),
        pytest.param(make_fix(Cost(50, 0.03)), None, id="one-query-less"),
        pytest.param(make_fix(Cost(51, 0.003)), "It saves no query.", id="as-many-queries"),
        pytest.param(make_fix(Cost(2, 0.057)), None, id="longer-by-noise"),
        pytest.param(make_fix(Cost(2, 0.059)), "It saves queries, but takes longer.", id="longer"),
        pytest.param(make_fix(selects=0), "No SELECT at shop/views.py:38 took it.", id="nowhere"),
        pytest.param(make_fix(selects=0, parent_site=None), "No SELECT took it.", id="nowhere-at-all"),
        pytest.param(make_fix(same_result=False), "With it the callable returns something else.", id="other-result"),
        pytest.param(make_fix(error="KeyError"), "With it the callable raises KeyError.", id="error"),
    ],
)
def test_says_why_a_fix_does_not_help(fix, problem):
    assert (fix.problem, fix.helps) == (problem, problem is None)


@pytest.mark.parametrize(
    ("replay", "text"),
    [
        pytest.param(
            Replay("list_users", BEFORE, Cost(2, 0.003), (make_fix(),), (), same_result=True),
            "replayed: 51 -> 2 queries, 38 ms -> 3 ms\n  selectinload(User.orders)",
            id="one-fix",
        ),
        pytest.param(
            Replay("list_users", BEFORE, Cost(2, 0.0031), (make_fix(),), (), same_result=None),
            "replayed: 51 -> 2 queries, 38 ms -> 3.1 ms\n  selectinload(User.orders)\n"
            "  What it returned cannot be compared; whether it is the same is for you to see.",
            id="not-comparable",
        ),
        pytest.param(
            Replay("list_users", BEFORE, BEFORE, (make_fix(Cost(51, 0.04)),), (), same_result=True),
            "replayed: 51 queries, 38 ms: no proposed fix helps\n"
            "  51 -> 51 queries, 38 ms -> 40 ms  selectinload(User.orders)  It saves no query.",
            id="no-help",
        ),
        pytest.param(
            Replay("list_users", Cost(1, 1.5), Cost(1, 1.5), (), (), same_result=None),
            "replayed: 1 query, 1,500 ms: no N+1, nothing to fix",
            id="nothing-to-fix",
        ),
    ],
)
def test_reads_as_a_proof(replay, text):
    assert str(replay) == text
