"""Folding adds what is new and only that; memory is bounded and no sum suffers from it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querywatch import histogram
from querywatch.aggregate import Aggregate
from querywatch.fingerprint import take_fingerprint
from querywatch.records import Database, ErrorCount
from querywatch.samples import NOBODY, Asker, Failure, Occurrence, Samples

SHOP = Database("shop", "sqlite", "sqlite")
LOCKED = Failure("OperationalError", None)
TWICE = Failure("UniqueViolation", "23505")


class Source:
    """Where the samples of these tests come from; folding asks it for the database alone."""

    number = 1
    database = SHOP
    monitor = None
    engine = None
    slow_s = 0.1


class Elsewhere(Source):
    database = Database("archive", "sqlite", "sqlite")


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def make_samples(values=(), shape="SELECT a FROM t WHERE b = ?", source=Source, parameters=(1,)):
    samples = Samples(source(), shape, shape.replace("?", "1"), parameters)
    samples.extend(values)
    return samples


def make_occurrence(elapsed_s=0.2, failure=None, **changes):
    values = {
        "ended_at": 1.0,
        "elapsed_s": elapsed_s,
        "statement": "SELECT slow",
        "parameters": (7,),
        "failure": failure,
        "asker": NOBODY,
        "trace": None,
        "batch_size": None,
        "compiled": None,
    }
    return Occurrence(**(values | changes))


@pytest.fixture
def aggregate():
    return Aggregate(100, 0.1, Clock())


def name_pending(aggregate):
    for totals in aggregate.pending.values():
        totals.fingerprint = take_fingerprint(totals.shape, "sqlite")
    aggregate.pending = {}


def read(aggregate):
    name_pending(aggregate)
    return aggregate.query_stats()


def test_what_was_read_is_not_read_again(aggregate):
    samples = make_samples([0.01, 0.02])
    samples.rows.extend([3, 4])
    samples.failures.append(LOCKED)
    assert aggregate.fold(samples) is not None
    assert aggregate.fold(samples) is None
    samples.append(0.04)
    samples.rows.append(5)
    aggregate.fold(samples)
    [stats] = read(aggregate)
    assert (stats.calls, stats.rows, stats.max_s) == (3, 12, 0.04)
    assert stats.total_s == pytest.approx(0.07)
    assert stats.errors == (ErrorCount("OperationalError", None, 1),)
    assert histogram.count(stats.histogram) == 3


@given(st.lists(st.tuples(st.lists(st.floats(0, 10), max_size=5), st.lists(st.integers(-1, 9), max_size=5))))
def test_folding_at_any_time_gives_what_folding_once_gives(steps):
    in_pieces, at_once = Aggregate(10, 0.1), Aggregate(10, 0.1)
    growing, whole = make_samples([0.5]), make_samples([0.5])
    for values, rows in steps:
        for samples in (growing, whole):
            samples.extend(values)
            samples.rows.extend(rows)
        in_pieces.fold(growing)
    in_pieces.fold(growing)
    at_once.fold(whole)
    [one], [two] = read(in_pieces), read(at_once)
    assert (one.calls, one.max_s, one.rows, one.histogram) == (two.calls, two.max_s, two.rows, two.histogram)
    assert one.total_s == pytest.approx(two.total_s)
    assert growing.folded.slow_calls == whole.folded.slow_calls == sum(value >= 0.1 for value in whole)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([], None, id="never-told"),
        pytest.param([-1, -1], None, id="driver-does-not-know"),
        pytest.param([0], 0, id="none-is-not-zero"),
        pytest.param([-1, 2, 0], 2, id="known-ones-count"),
    ],
)
def test_rows_are_none_where_nothing_is_known(aggregate, rows, expected):
    samples = make_samples([0.01])
    samples.rows.extend(rows)
    aggregate.fold(samples)
    assert read(aggregate)[0].rows == expected


@pytest.mark.parametrize(
    ("late", "calls_slow", "max_s"),
    [
        pytest.param([(0, 0.03)], 0, 0.04, id="stays-quick"),
        pytest.param([(0, 0.3)], 1, 0.31, id="becomes-slow"),
        pytest.param([(0, 0.05), (0, 0.05)], 1, 0.11, id="becomes-slow-in-pieces"),
        pytest.param([(0, 0.2), (0, 0.2)], 1, 0.41, id="is-slow-once"),
    ],
)
def test_a_fetch_that_ends_after_its_sample_was_read_still_belongs_to_it(aggregate, late, calls_slow, max_s):
    samples = make_samples([0.01, 0.02])
    aggregate.fold(samples)
    for piece in late:
        samples.late.append(piece)
        aggregate.fold(samples)
    aggregate.fold(samples)
    [stats] = read(aggregate)
    assert samples.folded.slow_calls == calls_slow
    assert (stats.calls, stats.max_s, samples.folded.max_s) == (2, pytest.approx(max_s), pytest.approx(max_s))
    assert stats.total_s == pytest.approx(samples.folded.total_s) == pytest.approx(max_s + 0.02)
    assert histogram.count(stats.histogram) == 2
    assert histogram.quantile(stats.histogram, 1.0) == pytest.approx(max_s, rel=0.05)


def test_a_fetch_that_ends_after_its_sample_was_let_go_counts_in_the_sum(aggregate):
    samples = make_samples([0.01, 0.02])
    aggregate.fold(samples)
    samples.clear()
    samples.folded.released = 2
    samples.late.append((0, 1.0))
    aggregate.fold(samples)
    [stats] = read(aggregate)
    assert (stats.calls, stats.total_s, stats.max_s) == (2, pytest.approx(1.03), 0.02)


def test_a_late_fetch_of_a_sample_that_took_no_time_moves_it_from_zero(aggregate):
    samples = make_samples([0.0])
    aggregate.fold(samples)
    samples.late.append((0, 0.5))
    aggregate.fold(samples)
    [stats] = read(aggregate)
    assert stats.histogram.zeros == 0
    assert histogram.count(stats.histogram) == 1


def test_samples_that_were_let_go_are_not_missed(aggregate):
    samples = make_samples([0.01] * 5)
    aggregate.fold(samples)
    del samples[:5]
    samples.folded.released = 5
    samples.append(0.02)
    aggregate.fold(samples)
    [stats] = read(aggregate)
    assert (stats.calls, stats.max_s) == (6, 0.02)


def test_beyond_the_limit_statements_are_counted_together_and_sums_stay_right():
    aggregate = Aggregate(3, 0.1)
    for number in range(10):
        samples = make_samples([0.01] * (number + 1), shape=f"SELECT c{number} FROM t")
        samples.rows.append(2)
        samples.failures.append(TWICE)
        aggregate.fold(samples)
        aggregate.fold(samples)
    assert len(aggregate) == 4
    assert aggregate.dropped == 7
    stats = {each.fingerprint.id: each for each in read(aggregate)}
    assert len(stats) == 4
    other = stats["other"]
    assert (other.calls, other.rows, other.errors) == (49, 14, (ErrorCount("UniqueViolation", "23505", 7),))
    assert other.fingerprint.sql == "(statements beyond max_statements)"
    assert sum(each.calls for each in stats.values()) == 55
    assert histogram.count(other.histogram) == 49


def test_a_statement_waits_for_its_fingerprint_once(aggregate):
    samples = make_samples([0.01])
    aggregate.fold(samples)
    assert aggregate.query_stats() == []
    assert len(aggregate.pending) == 1
    name_pending(aggregate)
    samples.append(0.02)
    aggregate.fold(samples)
    assert aggregate.pending == {}
    assert aggregate.query_stats()[0].calls == 2


def test_shapes_of_one_fingerprint_are_one_statement_and_databases_are_not(aggregate):
    aggregate.fold(make_samples([0.01, 0.03], shape="SELECT a FROM t"))
    aggregate.fold(make_samples([0.02], shape="select  a from t"))
    aggregate.fold(make_samples([0.5], shape="SELECT a FROM t", source=Elsewhere))
    found = [(stats.database, stats.calls, stats.max_s) for stats in read(aggregate)]
    assert found == [("archive", 1, 0.5), ("shop", 3, 0.03)]
    assert list(aggregate.databases()) == [SHOP, Elsewhere.database]


def test_a_failure_is_counted_by_class_and_sqlstate(aggregate):
    samples = make_samples([0.01] * 4)
    samples.failures.extend([TWICE, LOCKED, TWICE])
    aggregate.fold(samples)
    assert read(aggregate)[0].errors == (
        ErrorCount("OperationalError", None, 1),
        ErrorCount("UniqueViolation", "23505", 2),
    )


def test_the_latest_few_lines_are_kept(aggregate):
    code = test_the_latest_few_lines_are_kept.__code__
    samples = make_samples([0.01])
    for line in (*range(1, 9), 5):
        samples.askers.pop(Asker(code, line), None)
        samples.askers[Asker(code, line)] = [1, 1]
        samples.append(0.01)
        aggregate.fold(samples)
    samples.askers[NOBODY] = [1, 1]
    samples.append(0.01)
    aggregate.fold(samples)
    assert [site.line for site in read(aggregate)[0].call_sites] == [4, 6, 7, 8, 5]


@pytest.mark.parametrize(
    ("parameters", "occurrences", "failures", "expected"),
    [
        pytest.param((1,), [], [], (1,), id="the-first-call"),
        pytest.param(None, [], [], None, id="executemany-has-none"),
        pytest.param((1,), [], [LOCKED], None, id="not-of-what-failed"),
        pytest.param((1,), [make_occurrence(0.2)], [], (7,), id="rather-the-slow-call"),
        pytest.param(
            (1,),
            [make_occurrence(0.3, parameters=(3,)), make_occurrence(0.2, parameters=(2,))],
            [],
            (3,),
            id="rather-the-slowest",
        ),
        pytest.param((1,), [make_occurrence(0.2, failure=LOCKED)], [LOCKED], None, id="not-the-slow-call-that-failed"),
        pytest.param((1,) * 1001, [], [], None, id="not-so-many-values"),
    ],
)
def test_values_to_plan_with(aggregate, parameters, occurrences, failures, expected):
    samples = make_samples([0.01], parameters=parameters)
    samples.occurrences.extend(occurrences)
    samples.failures.extend(failures)
    totals = aggregate.fold(samples)
    assert (None if totals.example is None else totals.example.parameters) == expected


def test_a_text_of_megabytes_is_not_kept_for_planning(aggregate):
    totals = aggregate.fold(make_samples([0.01], shape="SELECT " + "x" * 100_001))
    assert totals.example is None


def test_the_time_of_the_fold_is_noted():
    clock = Clock()
    aggregate = Aggregate(10, 0.1, clock)
    samples = make_samples([0.01])
    aggregate.fold(samples)
    clock.now = 2000.0
    aggregate.fold(samples)
    assert read(aggregate)[0].last_seen_at == 1000.0
    samples.append(0.01)
    aggregate.fold(samples)
    assert read(aggregate)[0].last_seen_at == 2000.0
