"""Buckets are exact where it matters (powers of two, merging, zero), and quantiles are close."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querywatch import histogram
from querywatch.histogram import HistogramBuilder
from querywatch.records import Histogram

DURATIONS = st.floats(min_value=1e-9, max_value=1e5)
ANY_DURATIONS = st.one_of(DURATIONS, st.just(0.0), st.floats(max_value=0.0, allow_infinity=False))


def build(values):
    builder = HistogramBuilder()
    builder.add(values)
    return builder.build()


@given(st.lists(ANY_DURATIONS, min_size=1, max_size=300), st.fractions(0, 1))
def test_a_quantile_is_within_five_percent_of_the_exact_one(values, q):
    exact = sorted(values)[max(1, math.ceil(Fraction(float(q)) * len(values))) - 1]
    found = histogram.quantile(build(values), float(q))
    assert found == 0.0 if exact <= 0 else found == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize(
    ("q", "total", "rank"),
    [
        pytest.param(0.0, 100, 1, id="lowest"),
        pytest.param(0.07, 100, 7, id="a-product-just-above-a-whole-number"),
        pytest.param(0.95, 100, 95, id="p95"),
        pytest.param(0.5, 1, 1, id="of-one"),
        pytest.param(1.0, 100, 100, id="highest"),
    ],
)
def test_a_quantile_is_that_of_the_nearest_rank(q, total, rank):
    # Value i lies in the bucket i: far enough apart to tell ranks.
    values = [2.0 ** (i / 2) * 1e-6 for i in range(1, total + 1)]
    assert histogram.quantile(build(values), q) == pytest.approx(values[rank - 1], rel=0.05)


@pytest.mark.parametrize("q", [-0.01, 1.01, 95, math.nan])
def test_a_quantile_beyond_the_ratio_is_refused(q):
    with pytest.raises(ValueError, match=r"^q must be from 0 to 1, got .*\. For the 95th percentile pass 0\.95\.$"):
        histogram.quantile(Histogram(), q)


def test_an_empty_histogram_has_no_quantile():
    assert histogram.quantile(Histogram(), 0.5) is None
    assert histogram.count(Histogram()) == 0


@given(*[st.lists(ANY_DURATIONS, max_size=50)] * 3)
def test_merging_is_associative_and_equal_to_adding_all(one, two, three):
    a, b, c = build(one), build(two), build(three)
    all_at_once = build([*one, *two, *three])
    assert histogram.merge([histogram.merge([a, b]), c]) == all_at_once
    assert histogram.merge([a, histogram.merge([b, c])]) == all_at_once
    assert histogram.count(all_at_once) == len(one) + len(two) + len(three)


@given(st.lists(st.lists(ANY_DURATIONS, max_size=20), max_size=5))
def test_adding_in_pieces_is_adding_all(pieces):
    builder = HistogramBuilder()
    for piece in pieces:
        builder.add(piece)
    assert builder.build() == build([value for piece in pieces for value in piece])


@pytest.mark.parametrize("exponent", range(-29, 12))
def test_a_power_of_two_is_a_bound_and_lies_at_or_below_it(exponent):
    bound = 2.0**exponent
    [index] = build([bound]).counts
    assert histogram.upper_bound(index) == bound
    [above] = build([bound * 1.0000001]).counts
    assert above == index + 1


@given(DURATIONS)
def test_a_value_lies_in_its_bucket(value):
    [index] = build([value]).counts
    # A bound that is no power of two is irrational: a value within a rounding error of it may lie on either side.
    assert histogram.upper_bound(index - 1) * (1 - 1e-12) < value <= histogram.upper_bound(index) * (1 + 1e-12)
    assert histogram.upper_bound(index - 1) < histogram.middle(index) < histogram.upper_bound(index)


@pytest.mark.parametrize("value", [0.0, -0.0, -1.0, 5e-324, 9e-10])
def test_what_no_clock_can_show_counts_as_zero(value):
    counted = build([value])
    assert counted == Histogram({}, zeros=1)
    assert histogram.quantile(counted, 1.0) == 0.0


def test_zeros_are_below_every_other_value():
    counted = build([0.0, 0.0, 0.0, 1.0])
    assert histogram.quantile(counted, 0.75) == 0.0
    assert histogram.quantile(counted, 0.76) == pytest.approx(1.0, rel=0.05)
