"""Whether two runs of a callable returned the same.

In:  what it returned, while its sessions are still open.
Out: plain values that can be compared after they are closed.

Each run loads objects of its own, so a mapped object stands for its row: class and primary key. What has no notion of
equality (a response object, say) cannot be compared, and that is said rather than guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import Any

from sqlalchemy import Row, inspect
from sqlalchemy.exc import NoInspectionAvailable

# A result nested deeper than this, or larger, is not compared: it would cost more than the runs.
_DEPTH_LIMIT = 20
_SIZE_LIMIT = 200_000


class NotComparableError(Exception):
    """What a callable returned has no notion of equality."""


def describe_result(result: Any) -> Any:
    """Return what stands for *result* in a comparison.

    Args:
        result: Of a callable, its sessions still open.

    Raises:
        NotComparableError: It holds what cannot be compared.
    """
    return _Description().describe(result, 0)


class _Description:
    def __init__(self) -> None:
        self._size = 0

    def describe(self, value: Any, depth: int) -> Any:  # noqa: PLR0911 - one return for each kind of value
        self._size += 1
        if depth > _DEPTH_LIMIT or self._size > _SIZE_LIMIT:
            raise NotComparableError
        if value is None or isinstance(value, Enum | type):
            return value
        if isinstance(value, Mapping):
            items = [(self.describe(key, depth + 1), self.describe(each, depth + 1)) for key, each in value.items()]
            return "mapping", sorted(items, key=repr)
        if isinstance(value, Row | tuple):
            return "tuple", [self.describe(each, depth + 1) for each in value]
        # Also an instrumented collection of a mapped object.
        if isinstance(value, list):
            return "list", [self.describe(each, depth + 1) for each in value]
        if isinstance(value, AbstractSet):
            return "set", sorted(repr(self.describe(each, depth + 1)) for each in value)
        state = _find_state(value)
        if state is not None:
            if state.identity is None:
                raise NotComparableError
            return state.mapper.class_, state.identity
        kind: Any = type(value)
        if kind.__eq__ is object.__eq__:
            raise NotComparableError
        return value


def _find_state(value: Any) -> Any:
    """Return SQLAlchemy's state of a mapped object, None for anything else."""
    try:
        state = inspect(value)
    except NoInspectionAvailable:
        return None
    return state if getattr(state, "is_instance", False) else None
