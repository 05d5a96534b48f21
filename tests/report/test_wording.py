import math

import pytest

from querywatch.report import wording

DASH = wording.UNKNOWN


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, DASH),
        (0, "0 ms"),
        (-1, "0 ms"),
        (0.000_000_5, "<0.001 ms"),
        (0.000_005, "0.005 ms"),
        (0.000_4, "0.4 ms"),
        (0.000_384, "0.38 ms"),
        (0.000_999, "1.0 ms"),
        (0.002_14, "2.1 ms"),
        (0.009_96, "10 ms"),
        (0.012, "12 ms"),
        (0.999_6, "1.0 s"),
        (1.3, "1.3 s"),
        (9.96, "10 s"),
        (119.7, "2 min"),
        (245, "4 min 5 s"),
        (7_300, "2 h 1 min"),
        (4_000_000, "1,111 h 6 min"),
        (math.inf, DASH),
        (math.nan, DASH),
    ],
)
def test_duration_has_two_or_three_digits_and_the_unit_they_need(seconds, text):
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (40_000, "40,000"), (0.7, "0.7"), (51.04, "51"), (123.4, "123"), (math.inf, DASH)]
)
def test_count(number, text):
    assert wording.count(number) == text


@pytest.mark.parametrize(
    ("ratio", "text"), [(0, "0%"), (0.000_1, "<0.1%"), (0.004, "0.4%"), (0.099_6, "10%"), (0.61, "61%"), (1, "100%")]
)
def test_share(ratio, text):
    assert wording.share(ratio) == text


@pytest.mark.parametrize(
    ("amount", "text"), [(None, DASH), (0, "0 bytes"), (999, "999 bytes"), (640_000, "640 kB"), (1_310_720, "1.3 MB")]
)
def test_size(amount, text):
    assert wording.size(amount) == text


@pytest.mark.parametrize(("units", "text"), [(None, DASH), (8.444, "8.44"), (1_042.3, "1,042")])
def test_cost(units, text):
    assert wording.cost(units) == text


def test_counted_says_one_and_many():
    assert [wording.counted(number, "query", "queries") for number in (0, 1, 51)] == [
        "0 queries",
        "1 query",
        "51 queries",
    ]


def test_a_time_that_no_calendar_holds_is_a_dash():
    assert wording.moment(0.0) == "1970-01-01 00:00:00"
    assert wording.moment(1e300) == DASH


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\u202egnirts", "<U+202E>gnirts"),
        ("\x1b[31mred", "<U+001B>[31mred"),
        ("nul\x00", "nul<U+0000>"),
        ("lone \udcff", "lone <U+DCFF>"),
        ("zero\u200bwidth", "zero<U+200B>width"),
        ("Grüße, שלום, 你好, 👋", "Grüße, שלום, 你好, 👋"),
    ],
)
def test_what_acts_on_the_screen_is_written_out(text, shown):
    assert wording.visible(text) == shown


@pytest.mark.parametrize(
    ("qualified", "name"),
    [
        ("list_users", "list_users"),
        ("Checkout.pay", "Checkout.pay"),
        ("add_routes.<locals>.list_users.<locals>.<listcomp>", "list_users"),
        ("make.<locals>.<lambda>", "make"),
        ("<module>", "<module>"),
    ],
)
def test_a_function_has_the_name_a_reader_looks_for(qualified, name):
    assert wording.function_name(qualified) == name
