from __future__ import annotations

import pytest
import sqlalchemy as sa
from statements import make_example

from querywatch.advisor.waiting import has_waited

ENGINE = sa.create_engine("sqlite://")


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        pytest.param({"typical_s": 0.2}, False, id="as-long-as-its-plan-explains"),
        pytest.param({"typical_s": 0.6}, True, id="longer-than-its-plan-explains"),
        pytest.param({"calls": 1, "typical_s": 3.0}, True, id="one-call-that-waited"),
        pytest.param(
            {"calls": 10, "typical_s": 0.005, "max_s": 3.0, "total_s": 3.05}, True, id="fast-but-for-one-that-waited"
        ),
        pytest.param(
            {"calls": 1_000, "typical_s": 0.02, "max_s": 3.0, "total_s": 23.0}, False, id="busy-beside-one-that-waited"
        ),
        pytest.param(
            {"calls": 10, "typical_s": 0.005, "max_s": 0.06, "total_s": 0.2}, False, id="uneven-but-never-slow"
        ),
    ],
)
def test_tells_waiting_from_work(figures, expected):
    example = make_example(ENGINE, "SELECT 1", **figures)
    assert has_waited(example, slow_query_s=0.1, longest_run_s=0.5) is expected
