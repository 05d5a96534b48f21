"""Which keys have a series of their own: a bounded number, and never taken back.

A series that disappears and comes back, or hands its counts to another one, looks to Prometheus like a counter that
was reset. So a key that once has a place keeps it, and a key that found none is `other` from then on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

#: Label value of everything that has no place of its own.
OTHER = "other"


class Places:
    """A limited number of places, given in the order of asking.

    Args:
        limit: Number of places. At least 1.
    """

    __slots__ = ("_limit", "_taken")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: set[Hashable] = set()

    def holds(self, key: Hashable) -> bool:
        """Return True if *key* has a place, after giving it a free one if there is any.

        Ask for the busiest keys first.
        """
        if key in self._taken:
            return True
        if len(self._taken) < self._limit:
            self._taken.add(key)
            return True
        return False
