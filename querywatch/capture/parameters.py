"""Parameters that may be kept until the background has planned with them, and whether two executions had the same.

In:  parameters as given to the driver.
Out: a copy, or None.

Only values that hold nothing else and cannot change are kept: an application's own object would live longer than it
expects, and its `__eq__` may do anything.
"""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from typing import Any

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


def is_same(parameters: Any, first: Any) -> bool | None:
    """Tell whether two executions had equal parameters; None if it cannot be told.

    Args:
        parameters: As given to the driver.
        first: What `keep_plain` returned for another execution.
    """
    if first is None or not _is_plain(parameters):
        return None
    return bool(parameters == first)


def _is_plain(parameters: Any) -> bool:
    values = parameters.values() if isinstance(parameters, dict) else parameters
    if len(values) > _LIMIT:
        return False
    return all(
        type(value) in _PLAIN and (type(value) not in _TEXTS or len(value) <= _TEXT_LENGTH_LIMIT) for value in values
    )
