"""Which scopes are examined: the first of each name, then a share of them, spread evenly."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querywatch import sampling
from querywatch.sampling import Sampler

IDLE, BUSY = 0, sampling._LOAD + 1
FIRST = sampling._FIRST


def choose(sampler, times, name="GET /", waiting=IDLE):
    return [sampler.choose(name, waiting) for _ in range(times)]


@pytest.mark.parametrize(
    ("share", "waiting", "chosen"),
    [
        pytest.param(1.0, IDLE, 1000, id="all"),
        pytest.param(0.5, IDLE, 505, id="half"),
        pytest.param(0.1, IDLE, 109, id="one-in-ten"),
        pytest.param(0.0, IDLE, 0, id="none"),
        pytest.param(1.0, BUSY - 1, 1000, id="just-below-load"),
        pytest.param(1.0, BUSY, 109, id="under-load-one-in-ten"),
        pytest.param(0.01, BUSY, 20, id="under-load-no-more-than-asked-for"),
        pytest.param(0.0, BUSY, 0, id="under-load-none"),
    ],
)
def test_the_share_and_the_first_of_a_name(share, waiting, chosen):
    sampler = Sampler(share)
    assert sum(choose(sampler, 1000, waiting=waiting)) == pytest.approx(chosen, abs=1)


def test_the_first_of_each_name_are_examined_whatever_the_share():
    sampler = Sampler(0.001)
    for name in ("GET /", "GET /users", None):
        assert choose(sampler, FIRST + 5, name) == [True] * FIRST + [False] * 5


def test_those_that_are_passed_over_are_counted():
    sampler = Sampler(0.2)
    chosen = sum(choose(sampler, 500))
    assert sampler.skipped == 500 - chosen


def test_after_load_all_are_examined_again():
    sampler = Sampler(1.0)
    assert not all(choose(sampler, 50, waiting=BUSY))
    assert all(choose(sampler, 50))


def test_a_name_that_is_one_too_many_still_has_its_first(monkeypatch):
    monkeypatch.setattr(sampling, "_NAMES_LIMIT", 2)
    sampler = Sampler(0.1)
    for name in ("a", "b"):
        choose(sampler, FIRST, name)
    # Names that nobody keeps count of are ids: each of them comes once.
    assert choose(sampler, 30, "c") == [True] * 30
    assert sum(choose(sampler, 20, "a")) == 2
    assert len(sampler._names) == 2


@given(
    share=st.floats(0, 1),
    steps=st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([IDLE, BUSY])), max_size=200),
)
def test_each_name_has_its_share_and_the_same_again(share, steps):
    sampler, again = Sampler(share), Sampler(share)
    chosen = [sampler.choose(name, waiting) for name, waiting in steps]
    assert chosen == [again.choose(name, waiting) for name, waiting in steps]
    assert sampler.skipped == chosen.count(False)
    for name in ("a", "b", None):
        own = [each for each, (of, _) in zip(chosen, steps, strict=True) if of == name]
        assert own[:FIRST] == [share > 0] * len(own[:FIRST])
        assert math.floor(sampling._SHARE_UNDER_LOAD * share * (len(own) - FIRST)) <= sum(own)
        assert sum(own) <= min(len(own), FIRST + math.ceil(share * len(own)) + 1)
