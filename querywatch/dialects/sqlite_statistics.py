# ruff: noqa: S608 -- names come from the catalog or the parser, and are quoted
"""How many rows a SQLite table has and how well a column picks them, from a bounded read.

In:  a function that asks the database.
Out: row counts and selectivities. The values read stay in this module.

ANALYZE would know more, but it writes to the application's file and changes its plans.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

from querywatch.errors import ExplainError, ExplainTimeoutError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Rows of a sample; below it a table is counted and read whole.
SAMPLE_ROWS = 10_000
#: A table filled in order of time has like values together: pieces from all over it, not its beginning only.
_PIECES = 10
#: Where the pieces begin, as shares of the row ids: spread evenly, but at no fixed distance. Pieces 100,000 rows apart
#: would all show the same values of a column that repeats every 50,000 rows.
_PLACES = sorted(number * 0.6180339887 % 1 for number in range(_PIECES))
#: Smallest room a row takes, for row ids that are far apart.
_LEAST_ROW_BYTES = 8


class Ask(Protocol):
    """Run a query and return its rows."""

    def __call__(self, sql: str, parameters: Any = None) -> list[Any]:
        """Raise ExplainError if it fails."""


def count_rows(ask: Ask, table: str) -> float | None:
    """Estimate the rows of *table*, None if it cannot be read.

    Up to `SAMPLE_ROWS` the count is exact; above, the range of the row ids, at most what the file has room for.
    """
    try:
        counted: int = ask(f"SELECT count(*) FROM (SELECT 1 FROM {quote(table)} LIMIT {SAMPLE_ROWS})")[0][0]
    except ExplainTimeoutError:
        raise
    except ExplainError:
        return None
    if counted < SAMPLE_ROWS:
        return float(counted)
    analyzed = _analyzed_rows(ask, table)
    span = _rowid_range(ask, table)
    if span is None:
        return analyzed or float(counted)
    room: float = ask("PRAGMA page_count")[0][0] * ask("PRAGMA page_size")[0][0] / _LEAST_ROW_BYTES
    return max(float(counted), min(float(span[1] - span[0] + 1), room))


def estimate_selectivity(ask: Ask, table: str, columns: Sequence[str]) -> float | None:
    """Estimate the share of rows that equal one value in all *columns*, None for an empty or unreadable table."""
    rows = count_rows(ask, table)
    if not rows:
        return None
    sample = _sample(ask, table, columns)
    if not sample:
        return None
    counts = Counter(sample)
    once = sum(count == 1 for count in counts.values())
    # The GEE estimator: a value seen once stands for sqrt(N/n) values, one seen often for itself.
    distinct = len(counts) - once + once * math.sqrt(max(1.0, rows / len(sample)))
    return min(1.0, 1 / distinct)


def quote(name: str) -> str:
    """Return *name* as a quoted identifier; a schema before a dot is quoted by itself."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def _sample(ask: Ask, table: str, columns: Sequence[str]) -> list[Any]:
    selected = ", ".join(quote(column) for column in columns)
    span = _rowid_range(ask, table)
    if span is None:
        return [tuple(row) for row in ask(f"SELECT {selected} FROM {quote(table)} LIMIT {SAMPLE_ROWS}")]
    size, rows = SAMPLE_ROWS // _PIECES, []
    begin = span[0]
    for place in _PLACES:
        begin = max(begin, span[0] + int((span[1] - span[0] + 1) * place))
        found = ask(f"SELECT rowid, {selected} FROM {quote(table)} WHERE rowid >= {begin} ORDER BY rowid LIMIT {size}")
        if not found:
            break
        begin = found[-1][0] + 1
        rows += [tuple(row[1:]) for row in found]
    return rows


def _rowid_range(ask: Ask, table: str) -> tuple[int, int] | None:
    try:
        # Two queries: SQLite reads only the ends for min() and max() that stand alone.
        low = ask(f"SELECT min(rowid) FROM {quote(table)}")[0][0]
        high = ask(f"SELECT max(rowid) FROM {quote(table)}")[0][0]
    except ExplainTimeoutError:
        raise
    except ExplainError:
        return None  # WITHOUT ROWID, or a view
    return (low, high) if isinstance(low, int) and isinstance(high, int) else None


def _analyzed_rows(ask: Ask, table: str) -> float | None:
    try:
        rows = ask("SELECT stat FROM sqlite_stat1 WHERE tbl = ? COLLATE NOCASE LIMIT 1", (table,))
    except ExplainError:
        return None  # never analyzed: there is no such table
    return float(rows[0][0].split()[0]) if rows and rows[0][0] else None
