from __future__ import annotations

import pytest

from querywatch.advisor.candidates import propose
from querywatch.predicates import TablePredicates


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        pytest.param({}, [], id="nothing-to-enter-by"),
        pytest.param({"equality": ("user_id",)}, [("user_id",)], id="one-equality"),
        pytest.param(
            {"equality": ("user_id", "status")},
            [("user_id",), ("status",), ("user_id", "status")],
            id="equality-single-and-composite",
        ),
        pytest.param(
            {"equality": ("user_id",), "range": ("created_at",)},
            [("user_id",), ("user_id", "created_at")],
            id="one-range-comes-last",
        ),
        pytest.param(
            {"equality": ("user_id",), "order": ("created_at DESC",)},
            [("user_id",), ("user_id", "created_at")],
            id="an-index-is-read-both-ways",
        ),
        pytest.param(
            {"equality": ("user_id",), "order": ("total DESC", "created_at")},
            [("user_id",), ("user_id", "total DESC"), ("user_id", "total DESC", "created_at")],
            id="mixed-directions-are-kept",
        ),
        pytest.param(
            {"equality": ("status",), "order": ("status", "created_at")},
            [("status",), ("status", "created_at")],
            id="ordering-by-what-is-fixed-needs-nothing",
        ),
        pytest.param(
            {"listed": ("status",), "order": ("created_at",)},
            [("status",), ("created_at",), ("status", "created_at")],
            id="a-list-cannot-keep-an-order",
        ),
        pytest.param({"order": ("created_at",)}, [], id="order-of-all-rows"),
        pytest.param(
            {"order": ("created_at DESC",), "has_limit": True}, [("created_at",)], id="order-of-the-first-rows"
        ),
        pytest.param({"range": ("total",)}, [("total",)], id="range"),
        pytest.param(
            {"join": ("user_id",), "equality": ("status",)},
            [("status",), ("user_id",), ("user_id", "status"), ("status", "user_id")],
            id="join-columns",
        ),
    ],
)
def test_columns_in_the_order_that_helps(roles, expected):
    assert list(propose(TablePredicates("orders", "o", **roles))) == expected


def test_never_more_than_ten_and_never_more_than_four_columns():
    names = tuple(f"c{number}" for number in range(20))
    found = propose(TablePredicates("t", "t", equality=names, range=names, join=names, order=names, has_limit=True))
    assert 0 < len(found) <= 10
    assert max(map(len, found)) <= 4
