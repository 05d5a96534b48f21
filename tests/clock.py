"""A clock that only the test moves, in the place of the one that idle connections are measured by."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

_MODULES = ("accounting", "engine", "fetch", "idle", "pool")


class Clock:
    """Stands in for `perf_counter`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> int:
        """Let time pass; returns 1, as a function of SQL has to return something."""
        self.now += seconds
        return 1


def stop_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let statements take no time, unless they move the clock."""
    clock = Clock()
    for module in _MODULES:
        monkeypatch.setattr(f"querywatch.capture.{module}.perf_counter", clock)
    return clock
