from __future__ import annotations

import pytest

from querywatch.advisor.naming import name_index


@pytest.mark.parametrize(
    ("table", "columns", "taken", "expected"),
    [
        pytest.param("orders", ["user_id"], [], "orders_user_id_idx", id="table-column-idx"),
        pytest.param("orders", ["a", "b DESC"], [], "orders_a_b_idx", id="a-direction-does-not-count"),
        pytest.param("shop.orders", ["a"], [], "orders_a_idx", id="nor-does-a-schema"),
        pytest.param("orders", ["a"], ["orders_a_idx", "ORDERS_A_IDX1"], "orders_a_idx2", id="taken"),
    ],
)
def test_names(table, columns, taken, expected):
    assert name_index(table, columns, taken) == expected


def test_long_names_fit_and_differ():
    long = ["a_very_long_column_name_that_goes_on", "and_another_one_that_is_long"]
    first, second = name_index("orders", long, []), name_index("orders", [*long, "x"], [])
    accents = name_index("é" * 60, ["ü"], [])
    assert first != second
    assert {len(first), len(second)} == {63}
    assert first.endswith("_idx")
    assert len(accents.encode()) <= 63
