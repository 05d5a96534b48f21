import pytest

from querywatch.histogram import HistogramBuilder
from querywatch.records import Histogram
from querywatch.report.charts import draw_bars, draw_strip, draw_ticks, shared_axis


def histogram(*durations_s):
    builder = HistogramBuilder()
    builder.add(durations_s)
    return builder.build()


def test_one_axis_holds_all():
    axis = shared_axis([histogram(0.001), histogram(2.0)])
    assert 0 <= axis.position(0.001) < 0.1
    assert 0.9 < axis.position(2.0) <= 1
    assert axis.position(0.0) == 0
    assert [tick.text for tick in draw_ticks(axis)] == ["1 ms", "10 ms", "100 ms", "1 s"]


@pytest.mark.parametrize("durations_s", [(), (0.01,), (1e-9, 1e6)], ids=["nothing", "one-call", "very-wide"])
def test_an_axis_is_neither_empty_nor_endless(durations_s):
    axis = shared_axis([histogram(*durations_s)])
    assert 16 <= axis.bars <= 64
    assert len(draw_ticks(axis)) <= 12


def test_the_highest_bar_fills_the_box_and_none_vanishes():
    axis = shared_axis([histogram(0.001, 1.0)])
    bars = draw_bars(histogram(*[0.001] * 10_000, 1.0), axis).split("z")[:-1]
    assert [bar.split("h")[0].split("v")[1] for bar in bars] == ["-24.0", "-1.0"]


def test_no_calls_no_bars():
    assert draw_bars(Histogram(), shared_axis([])) == ""


@pytest.mark.parametrize(
    ("marked", "total", "ticks"),
    [(50, 51, (1, 50)), (5, 5, (0, 5)), (1, 1, (0, 1)), (9_999, 10_000, (1, 99)), (1, 10_000, (99, 1))],
)
def test_a_strip_has_a_tick_for_each_part(marked, total, ticks):
    assert tuple(path.count("z") for path in draw_strip(marked, total)) == ticks
