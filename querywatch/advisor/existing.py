"""What is there already: whether an index serves whatever another one would.

In:  two indexes of one table.
Out: yes or no.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from querywatch.records import IndexSpec


def covers(index: IndexSpec, wanted: IndexSpec) -> bool:
    """Whether *index* begins with the columns of *wanted*, in their order, for every row of the table.

    Two indexes whose directions are all the other way round are one: an index is read both ways.
    """
    if index.where is not None or index.expressions or index.method != "btree" or wanted.where or wanted.expressions:
        return False
    have = [_split(column) for column in index.columns[: len(wanted.columns)]]
    want = [_split(column) for column in wanted.columns]
    if [name for name, _ in have] != [name for name, _ in want]:
        return False
    turned = {one != other for (_, one), (_, other) in zip(have, want, strict=True)}
    return len(turned) <= 1


def _split(column: str) -> tuple[str, bool]:
    name, _, direction = column.partition(" ")
    return name.lower(), direction.startswith("DESC")
