"""Parameters that may be kept until the background has planned with them, and which of them changed.

In:  parameters as given to the driver.
Out: a copy, or None.

Only values that hold nothing else and cannot change are kept: an application's own object would live longer than it
expects, and its `__eq__` may do anything.
"""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from typing import TYPE_CHECKING, Any

from querywatch.samples import LENGTH

if TYPE_CHECKING:
    from querywatch.samples import Bind

_PLAIN = frozenset({
    bool,
    bytes,
    dt.date,
    dt.datetime,
    dt.time,
    dt.timedelta,
    decimal.Decimal,
    float,
    int,
    str,
    type(None),
    uuid.UUID,
})  # fmt: skip

_TEXTS = frozenset({bytes, str})

# More than a statement written by hand has; on SQLAlchemy 2.0 each row of a flush carries the parameters of all rows.
_LIMIT = 200
_TEXT_LENGTH_LIMIT = 10_000


def keep_plain(parameters: Any) -> Any:
    """Return a copy of *parameters* if all of them are plain and few, else None.

    A copy, because an application may change its dict or list and execute with it again.

    Args:
        parameters: A tuple, list or dict, as given to the driver's `execute`.
    """
    if not _is_plain(parameters):
        return None
    if isinstance(parameters, dict):
        return dict(parameters)
    return list(parameters) if isinstance(parameters, list) else parameters


def find_changed(parameters: Any, first: Any) -> frozenset[Bind] | None:
    """Return which values differ from those of another execution; None if it cannot be told.

    Args:
        parameters: As given to the driver.
        first: What `keep_plain` returned for another execution.

    Returns:
        Places from 0 or names; `LENGTH` alone where their numbers differ.
    """
    if first is None or not _is_plain(parameters):
        return None
    if len(parameters) != len(first):
        return frozenset({LENGTH})
    if isinstance(parameters, dict):
        return frozenset([name for name, value in parameters.items() if value != first.get(name)])
    return frozenset([place for place, value in enumerate(parameters) if value != first[place]])


def _is_plain(parameters: Any) -> bool:
    if len(parameters) > _LIMIT:
        return False
    # A loop, because this is asked at each look and a generator takes twice as long.
    for value in parameters.values() if isinstance(parameters, dict) else parameters:
        kind = type(value)
        if kind not in _PLAIN or (kind in _TEXTS and len(value) > _TEXT_LENGTH_LIMIT):
            return False
    return True
