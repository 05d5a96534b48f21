"""Which indexes could help one table instance of a statement: columns from its predicates, best order first known.

In:  columns by role.
Out: column lists, the shortest first. Whether any of them helps is for `what_if` to prove.

An index is entered by equality, in any order of those columns, and then either by one range or in the order wanted:
what stands behind a range only filters. So each list is equality columns, then one range or the ORDER BY.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from querywatch.predicates import TablePredicates

#: Columns of one proposed index. Wider ones cost writes more than they still save.
_MOST_COLUMNS = 4
#: Lists for one table instance.
_MOST_CANDIDATES = 10


def propose(instance: TablePredicates) -> tuple[tuple[str, ...], ...]:
    """Return column lists for one table instance, at most 10, the shortest first; a column may end in ` DESC`."""
    found = {
        columns[:_MOST_COLUMNS]: None for columns in _combine(instance) if len(set(columns)) == len(columns) and columns
    }
    return tuple(sorted(found, key=len)[:_MOST_CANDIDATES])


def _combine(instance: TablePredicates) -> Iterator[tuple[str, ...]]:
    fixed = tuple(dict.fromkeys(instance.equality + instance.is_null))
    lookups = tuple(dict.fromkeys(fixed + instance.listed))
    order = _simplify(tuple(column for column in instance.order if column.partition(" ")[0] not in fixed))
    ranges = tuple(column for column in instance.range if column not in lookups)
    if lookups:
        # All of them, and behind them what comes next, before the single ones: those are the likelier to be left out.
        yield lookups
        yield from ((*lookups, column) for column in ranges[:2])
        yield from ((column,) for column in lookups[:3])
        if order:
            yield lookups + order
            yield lookups + order[:1]
            yield fixed + order
        # One lookup and one range: where another lookup picks nearly all rows, it only makes the index wider.
        yield from ((column, following) for column in lookups[:2] for following in ranges[:1])
    else:
        yield from ((column,) for column in ranges[:3])
    if order and instance.has_limit and not lookups:
        # Only with a LIMIT is it worth walking a table in order; and with a lookup to fulfil the walk may be long, if
        # the rows that match stand at its end, so then the lookup comes first (above).
        yield order
        yield order[:1]
    for column in instance.join[:2]:
        yield (column,)
        yield (column, *lookups)
        yield (*lookups, column)


def _simplify(order: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out the directions where all are the same: an index is read both ways."""
    if all(column.endswith(" DESC") for column in order):
        return tuple(column.removesuffix(" DESC") for column in order)
    return order
