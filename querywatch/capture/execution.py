"""One call of the driver, as it is handed on.

In:  what a dialect's method was given.
Out: one value.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Execution(NamedTuple):
    """One call of the driver.

    Args:
        statement: Text as sent.
        parameters: As given to the driver.
        context: SQLAlchemy's execution context.
        elapsed_s: Seconds.
    """

    statement: str
    parameters: Any
    context: Any
    elapsed_s: float
