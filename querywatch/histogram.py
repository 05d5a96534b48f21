"""Durations -> base-2 exponential histogram of scale 3, and back to quantiles.

In:  seconds.
Out: `records.Histogram`, mergeable without loss; its power-of-two bounds are Prometheus' `le`.

Scale 3 means 8 buckets for each doubling: a bucket is 9% wide, so its geometric middle is within 4.5% of any value
in it (OpenTelemetry's exponential histogram data model, https://opentelemetry.io/docs/specs/otel/metrics/data-model/).
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from querywatch.records import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable

SCALE = 3
BUCKETS_PER_DOUBLING = 2**SCALE

# Under a nanosecond is not a duration that a clock can show; such a value counts as zero.
_LEAST_S = 1e-9


class HistogramBuilder:
    """A histogram that grows. One thread at a time."""

    __slots__ = ("_counts", "_zeros")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._zeros = 0

    def add(self, values_s: Iterable[float]) -> None:
        """Count durations.

        Args:
            values_s: Seconds; values of 0 or less count as zero.
        """
        counts, log2, ceil = self._counts, math.log2, math.ceil
        for value in values_s:
            if value < _LEAST_S:
                self._zeros += 1
                continue
            index = ceil(log2(value) * BUCKETS_PER_DOUBLING) - 1
            counts[index] = counts.get(index, 0) + 1

    def move(self, before_s: float, after_s: float) -> None:
        """Count a duration that was added as *before_s* as *after_s* from now on."""
        if before_s < _LEAST_S:
            self._zeros -= 1
        else:
            index = math.ceil(math.log2(before_s) * BUCKETS_PER_DOUBLING) - 1
            self._counts[index] -= 1
            if not self._counts[index]:
                del self._counts[index]
        self.add((after_s,))

    def build(self) -> Histogram:
        """Return what has been counted so far, as a record."""
        return Histogram(counts=dict(sorted(self._counts.items())), zeros=self._zeros)


def merge(histograms: Iterable[Histogram]) -> Histogram:
    """Add histograms up, without loss."""
    counts: Counter[int] = Counter()
    zeros = 0
    for histogram in histograms:
        counts.update(histogram.counts)
        zeros += histogram.zeros
    return Histogram(counts=dict(sorted(counts.items())), zeros=zeros)


def count(histogram: Histogram) -> int:
    """Return how many durations it holds."""
    return histogram.zeros + sum(histogram.counts.values())


def quantile(histogram: Histogram, q: float) -> float | None:
    """Return the duration that a share *q* of all calls did not exceed.

    Args:
        histogram: Of durations.
        q: Ratio from 0 to 1; 0.95 gives the 95th percentile.

    Returns:
        Seconds, within 4.5% of the true value; None if the histogram is empty.

    Raises:
        ValueError: *q* is not from 0 to 1.
    """
    if not 0 <= q <= 1:
        raise ValueError(f"q must be from 0 to 1, got {q!r}. For the 95th percentile pass 0.95.")
    total = count(histogram)
    if not total:
        return None
    # Rounded first: 0.07 * 100 is a little above 7 in floating point, and would be the 8th.
    rank = max(1, math.ceil(round(q * total, 6)))
    seen = histogram.zeros
    if rank <= seen:
        return 0.0
    index = 0
    for index in sorted(histogram.counts):
        seen += histogram.counts[index]
        if seen >= rank:
            break
    return middle(index)


def upper_bound(index: int) -> float:
    """Return the highest duration, in seconds, that bucket *index* holds."""
    return float(2.0 ** ((index + 1) / BUCKETS_PER_DOUBLING))


def middle(index: int) -> float:
    """Return the geometric middle of bucket *index*, in seconds."""
    return float(2.0 ** ((index + 0.5) / BUCKETS_PER_DOUBLING))
