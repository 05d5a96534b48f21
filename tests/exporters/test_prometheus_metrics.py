import dataclasses

import pytest

from querywatch.exporters.prometheus_metrics import IMPLICIT, NAME_PLACES, MetricsPage
from querywatch.histogram import HistogramBuilder
from querywatch.records import ErrorCount, Histogram, IndexAdvice, IndexSpec, ScopeStats, Snapshot

DURATION = "querywatch_query_duration_seconds"


def snapshot(*queries, **changes):
    return Snapshot(taken_at=2.0, started_at=1.0, queries=queries, **changes)


def read(page, taken):
    """Name and label values -> value, of every sample."""
    values = {}
    for family in page.families(taken):
        for sample in family.samples:
            key = (sample.name, *sample.labels.values())
            assert key not in values, f"{key} stands on the page twice"
            values[key] = sample.value
    return values


def buckets(values, database="shop", fingerprint="0000000000000001"):
    start = (f"{DURATION}_bucket", database, fingerprint)
    return {key[3]: value for key, value in values.items() if key[:3] == start}


@pytest.mark.parametrize(
    ("durations_s", "expected"),
    [
        pytest.param([1.0], {"0.5": 0, "1.0": 1, "2.0": 1, "+Inf": 1}, id="a-bound-belongs-to-its-bucket"),
        pytest.param([1.0001], {"1.0": 0, "2.0": 1, "+Inf": 1}, id="just-over-a-bound"),
        pytest.param([0.6, 0.7, 0.9, 3.0], {"0.5": 0, "1.0": 3, "2.0": 3, "4.0": 4, "+Inf": 4}, id="cumulative"),
        pytest.param([64.0, 64.1, 1000.0], {"32.0": 0, "64.0": 1, "+Inf": 3}, id="over-the-highest"),
        pytest.param([0.0, 1e-8, 2.0**-20], {"9.5367431640625e-07": 3, "+Inf": 3}, id="under-the-least"),
        pytest.param([2.0**-10, 0.001], {"0.0009765625": 1, "0.001953125": 2}, id="milliseconds"),
    ],
)
def test_buckets_are_exact_powers_of_two(make_stats, durations_s, expected):
    builder = HistogramBuilder()
    builder.add(durations_s)
    stats = make_stats(calls=len(durations_s), total_s=sum(durations_s), histogram=builder.build())
    values = read(MetricsPage(), snapshot(stats))
    shown = buckets(values)
    assert {bound: shown[bound] for bound in expected} == expected
    assert len(shown) == 28
    assert list(shown.values()) == sorted(shown.values())
    assert values[f"{DURATION}_count", "shop", "0000000000000001"] == len(durations_s)
    assert values[f"{DURATION}_sum", "shop", "0000000000000001"] == sum(durations_s)


def test_a_call_whose_duration_is_not_folded_yet_is_in_the_last_bucket(make_stats):
    values = read(MetricsPage(), snapshot(make_stats(calls=3, histogram=Histogram({-1: 2}))))
    assert buckets(values)["64.0"] == 2
    assert buckets(values)["+Inf"] == values[f"{DURATION}_count", "shop", "0000000000000001"] == 3


def test_counts_errors_by_class_over_all_their_states(make_stats):
    errors = (
        ErrorCount("IntegrityError", "23505", 2),
        ErrorCount("IntegrityError", "23503", 3),
        ErrorCount("OperationalError", None, 1),
    )
    values = read(MetricsPage(), snapshot(make_stats(errors=errors)))
    assert {key[3]: value for key, value in values.items() if key[0] == "querywatch_query_errors_total"} == {
        "IntegrityError": 5,
        "OperationalError": 1,
    }


def test_shows_rows_only_where_they_are_known(make_stats):
    values = read(MetricsPage(), snapshot(make_stats(1, rows=None), make_stats(2, rows=0), make_stats(3, rows=7)))
    assert {key[2][-1]: value for key, value in values.items() if key[0] == "querywatch_query_rows_total"} == {
        "2": 0,
        "3": 7,
    }


def test_info_names_a_fingerprint_once_for_all_databases(make_stats):
    values = read(MetricsPage(), snapshot(make_stats(1), make_stats(1, database="archive"), make_stats(2)))
    assert [key for key in values if key[0] == "querywatch_query_info"] == [
        ("querywatch_query_info", "0000000000000001", "SELECT", "users", "SELECT users"),
        ("querywatch_query_info", "0000000000000002", "SELECT", "users", "SELECT users"),
    ]


def test_what_has_no_place_is_summed_as_other_and_the_sum_is_exact(make_stats):
    queries = [make_stats(n, calls=n, total_s=0.5, rows=n) for n in range(1, 6)]
    values = read(MetricsPage(query_places=2), snapshot(*queries))
    counts = {key[2]: value for key, value in values.items() if key[0] == f"{DURATION}_count"}
    assert counts == {"0000000000000001": 1, "0000000000000002": 2, "other": 12}
    assert buckets(values, fingerprint="other")["1.0"] == 12
    assert values[f"{DURATION}_sum", "shop", "other"] == 1.5
    assert values["querywatch_query_rows_total", "shop", "other"] == 12
    assert ("querywatch_query_info", "other") not in {key[:2] for key in values}


def test_a_statement_keeps_its_place_when_others_become_busier(make_stats):
    page = MetricsPage(query_places=1)
    first = read(page, snapshot(make_stats(1, calls=5), make_stats(2, calls=4)))
    second = read(page, snapshot(make_stats(2, calls=400), make_stats(1, calls=6)))
    for fingerprint, before, after in (("0000000000000001", 5, 6), ("other", 4, 400)):
        assert first[f"{DURATION}_count", "shop", fingerprint] == before
        assert second[f"{DURATION}_count", "shop", fingerprint] == after


def test_no_counter_goes_backwards_by_the_order_of_adding(make_stats):
    tenths = [make_stats(n, total_s=0.1 * n) for n in range(1, 8)]
    page = MetricsPage(query_places=1)
    read(page, snapshot(make_stats(99)))
    for queries in (tenths, tenths[::-1], tenths[3:] + tenths[:3]):
        shown = read(page, snapshot(*queries))[f"{DURATION}_sum", "shop", "other"]
        assert shown >= 2.8
        assert shown == pytest.approx(2.8)
    seen = [read(page, snapshot(*queries))[f"{DURATION}_sum", "shop", "other"] for queries in (tenths, tenths[::-1])]
    assert seen == sorted(seen)


def test_the_statistics_own_overflow_joins_other(make_stats, make_finding):
    overflow = dataclasses.replace(make_stats().fingerprint, id="other")
    values = read(
        MetricsPage(query_places=1),
        snapshot(make_stats(1), make_stats(2, calls=2), make_stats(fingerprint=overflow, calls=3)),
    )
    assert values[f"{DURATION}_count", "shop", "other"] == 5


def test_databases_are_bounded_too(make_stats):
    page = MetricsPage()
    values = read(page, snapshot(*(make_stats(1, database=f"tenant_{n}") for n in range(60))))
    assert values[f"{DURATION}_count", "other", "other"] == 10
    assert len({key[1] for key in values if key[0] == f"{DURATION}_count"}) == 51


def test_scopes_are_counted_by_name_and_bounded():
    scopes = [
        ScopeStats("GET /users", "request", scopes=2, calls=102, database_s=0.5, total_s=1.0, max_calls=51),
        ScopeStats("GET /users", "watch", scopes=1, calls=1, database_s=0.25, total_s=1.0, max_calls=1),
        ScopeStats(None, "checkout", scopes=4, calls=4, database_s=0.125, total_s=1.0, max_calls=1),
        *(ScopeStats(f"job {n}", "task", 1, 1, 0.0, 0.0, 1) for n in range(NAME_PLACES)),
    ]
    values = read(MetricsPage(), snapshot(scopes=scopes))
    assert values["querywatch_scopes_total", "GET /users"] == 3
    assert values["querywatch_scope_queries_total", "GET /users"] == 103
    assert values["querywatch_scope_db_seconds_total", "GET /users"] == 0.75
    assert values["querywatch_scopes_total", IMPLICIT] == 4
    assert values["querywatch_scopes_total", "other"] == 2


def test_findings_count_on_when_one_is_forgotten_and_comes_back(make_finding):
    page = MetricsPage()
    other_line = dataclasses.replace(make_finding().call_site, line=99)
    one, two = make_finding(count=50), make_finding(count=7, call_site=other_line)
    steps = [
        ((one, two), 57),
        ((dataclasses.replace(one, count=80), two), 87),
        ((two,), 87),
        ((dataclasses.replace(one, count=5), two), 92),
    ]
    for findings, expected in steps:
        values = read(page, snapshot(findings=findings))
        assert values["querywatch_findings_total", "n-plus-one", "GET /users", "User.orders"] == expected


def test_subjects_of_findings_are_bounded(make_finding):
    findings = tuple(make_finding(subject=f"t{n}", scope=None, count=1) for n in range(NAME_PLACES + 5))
    values = read(MetricsPage(), snapshot(findings=findings))
    assert values["querywatch_findings_total", "n-plus-one", IMPLICIT, "t0"] == 1
    assert values["querywatch_findings_total", "n-plus-one", "other", "other"] == 5


@pytest.mark.parametrize(
    ("cost_before", "cost_after", "expected"),
    [
        pytest.param(1000.0, 250.0, 0.75, id="saves-three-quarters"),
        pytest.param(None, None, None, id="no-cost-on-sqlite"),
        pytest.param(1000.0, None, None, id="not-measured"),
        pytest.param(0.0, 0.0, None, id="costs-nothing-anyway"),
    ],
)
def test_gain_is_the_share_of_cost_saved(cost_before, cost_after, expected):
    advice = IndexAdvice(
        index=IndexSpec("orders", ("user_id", "created_at")),
        ddl="CREATE INDEX",
        reason="",
        fingerprints=("0000000000000001",),
        database="shop",
        cost_before=cost_before,
        cost_after=cost_after,
        proof="hypopg",
        proof_text="",
    )
    values = read(MetricsPage(), snapshot(advice=(advice,)))
    assert values.get(("querywatch_index_advice_gain_ratio", "shop", "orders(user_id, created_at)")) == expected


def test_says_what_was_dropped_and_which_version_runs():
    values = read(MetricsPage(), snapshot(dropped={"statements": 3}))
    assert values["querywatch_dropped_total", "statements"] == 3
    assert [key for key in values if key[0] == "querywatch_build_info"]


def test_labels_that_become_equal_by_cleaning_are_one_series(make_stats):
    values = read(MetricsPage(), snapshot(make_stats(1, database="a\udc80"), make_stats(1, database="a\udc81")))
    assert values[f"{DURATION}_count", "a\ufffd", "0000000000000001"] == 2
