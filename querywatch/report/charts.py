"""Histograms as bars on one shared axis of time, so that shapes of different statements can be compared.

In:  histograms of durations.
Out: SVG paths and positions; the template draws them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from querywatch import histogram as histograms
from querywatch.report import wording

if TYPE_CHECKING:
    from collections.abc import Iterable

    from querywatch.records import Histogram

#: Buckets drawn as one bar: two bars for each doubling of time are enough for a shape.
_BUCKETS_PER_BAR = 4
#: An axis has at least so many bars; fewer would draw one statement's noise as wide blocks.
_LEAST_BARS = 16
_MOST_BARS = 64
_MOST_TICKS = 100
#: Units of a path; the template stretches them to any size.
BOX_WIDTH, BOX_HEIGHT = 100, 24


class Axis(NamedTuple):
    """Logarithmic axis of time, in bars.

    Args:
        first: Number of the first bar.
        bars: How many.
    """

    first: int
    bars: int

    def position(self, seconds: float) -> float:
        """Return where *seconds* lies, 0 to 1; what is off the axis lies at its end."""
        if seconds <= 0:
            return 0.0
        bar = math.log2(seconds) * histograms.BUCKETS_PER_DOUBLING / _BUCKETS_PER_BAR
        return float(min(max((bar - self.first) / self.bars, 0.0), 1.0))


class Tick(NamedTuple):
    """A power of ten on the axis: where it lies, 0 to 1, and its text."""

    position: float
    text: str


def shared_axis(all_histograms: Iterable[Histogram]) -> Axis:
    """Return an axis that holds every histogram, at most 64 bars long: what is quicker lies in its first bar."""
    bars = [index // _BUCKETS_PER_BAR for histogram in all_histograms for index in histogram.counts]
    if not bars:
        return Axis(-2 * _LEAST_BARS, _LEAST_BARS)
    last = max(bars)
    length = min(max(last - min(bars) + 1, _LEAST_BARS), _MOST_BARS)
    return Axis(last - length + 1, length)


def draw_bars(histogram: Histogram, axis: Axis) -> str:
    """Return the bars of one histogram as an SVG path in a box of 100 by 24, the highest as high as the box.

    Calls that took no time lie in the first bar. Empty for an empty histogram.
    """
    heights = [0] * axis.bars
    heights[0] += histogram.zeros
    for index, calls in histogram.counts.items():
        heights[min(max(index // _BUCKETS_PER_BAR - axis.first, 0), axis.bars - 1)] += calls
    step, highest = BOX_WIDTH / axis.bars, max(heights)
    return "".join(
        # A single slow call among thousands is what the reader looks for: no bar vanishes.
        f"M{number * step:.2f} {BOX_HEIGHT}v-{max(calls / highest * BOX_HEIGHT, 1):.1f}h{step * 0.8:.2f}V{BOX_HEIGHT}z"
        for number, calls in enumerate(heights)
        if calls
    )


def draw_ticks(axis: Axis) -> list[Tick]:
    """Return the powers of ten that lie on the axis, such as 1 ms and 10 ms."""
    doublings = _BUCKETS_PER_BAR / histograms.BUCKETS_PER_DOUBLING * math.log10(2)
    first = math.ceil(axis.first * doublings - 1e-9)
    last = math.floor((axis.first + axis.bars) * doublings + 1e-9)
    return [Tick(axis.position(float(10.0**power)), _tick_text(power)) for power in range(first, last + 1)]


def _tick_text(power: int) -> str:
    if power >= 0:
        return f"{wording.count(10**power)} s"
    return f"{10 ** (power + 3):g} ms"


def draw_strip(marked: int, total: int) -> tuple[str, str]:
    """Return *total* statements of one scope as ticks in a box of 100 by 24: first the others, then the *marked* ones.

    Beyond 100 statements, a tick stands for several.

    Returns:
        The path of the others and the path of the marked ones; either may be empty.
    """
    ticks = min(total, _MOST_TICKS)
    # However small either part is, it has a tick.
    others = min(max(round((total - marked) / total * ticks), int(marked < total)), ticks - 1)
    step = BOX_WIDTH / ticks
    paths = [f"M{number * step:.2f} 0h{step * 0.62:.2f}V{BOX_HEIGHT}h-{step * 0.62:.2f}z" for number in range(ticks)]
    return "".join(paths[:others]), "".join(paths[others:])
