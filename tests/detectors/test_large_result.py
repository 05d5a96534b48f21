"""Which results are too large to be fetched as a whole."""

from __future__ import annotations

import pytest

from querywatch.config import Config
from querywatch.detectors import DETECTORS, large_result
from querywatch.records import CallSite

LINE_20 = CallSite("shop/views.py", 20, "list_orders")


@pytest.fixture
def detect(make_scope, make_query):
    return lambda *cases: list(
        large_result.detect(make_scope(*(make_query(**changes) for changes in cases)), Config(large_result_rows=1000))
    )


def test_it_is_one_of_the_detectors():
    assert large_result in DETECTORS
    assert large_result.CODE == "large-result"


@pytest.mark.parametrize(
    ("cases", "rows"),
    [
        pytest.param([{"max_rows": 999}], [], id="one-below-the-limit"),
        pytest.param([{"max_rows": 1000}], [1000], id="at-the-limit"),
        pytest.param([{"max_rows": None}], [], id="not-known"),
        pytest.param([{"max_rows": 999, "rows": 9990, "calls": 10}], [], id="many-small-ones"),
        pytest.param([{"max_rows": 5000, "streamed": True}], [], id="read-as-they-come"),
        pytest.param([{"max_rows": 5000, "statement": "UPDATE orders SET paid = ?"}], [], id="an-update"),
        pytest.param([{"max_rows": 5000}, {"max_rows": 5000, "call_site": LINE_20}], [5000], id="of-two-lines"),
    ],
)
def test_rows_fetched_at_once(detect, cases, rows):
    assert [finding.evidence.rows for finding in detect(*cases)] == rows


def test_a_finding_in_full(detect):
    [finding] = detect({"max_rows": 25_000, "max_s": 0.25})
    assert finding.message == "SELECT orders returned 25,000 rows at once."
    assert finding.fix == (
        "Page the select at shop/views.py:44: add .order_by() on the key and .limit(), and go on after the last key. "
        "Where every row is needed, as in an export, add .execution_options(yield_per=1000) and read the rows as they "
        "come."
    )
    assert (finding.code, finding.kind, finding.severity) == ("large-result", None, "warning")
    assert (finding.fix_kind, finding.subject) == ("paginate", "orders")
    assert (finding.count, finding.total_s) == (1, 0.25)
    sql = "SELECT orders.id FROM orders WHERE orders.user_id = ?"
    assert finding.evidence.as_dict() == {"sql": sql, "rows": 25_000, "limit": 1000, "scopes": 1}
    assert finding.evidence.with_scopes(4).scopes == 4


def test_which_of_two_lines_fetched_it_is_not_guessed(detect):
    [finding] = detect({"max_rows": 5000}, {"max_rows": 5000, "call_site": LINE_20})
    assert finding.call_site is None
    assert finding.fix.startswith("Page SELECT orders: ")
