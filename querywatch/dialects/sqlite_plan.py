"""SQLite's EXPLAIN QUERY PLAN as a plan tree.

In:  its rows (id, parent, unused, text).
Out: `PlanNode`s. The text names a table by its alias only, so the statement's aliases are needed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from querywatch.records import PlanNode
from querywatch.shape import take_shape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

#: Kind of a step that builds an index for one run of the statement and reads the whole table for it.
AUTOMATIC = "SEARCH USING AUTOMATIC INDEX"

# `SCAN o`, `SEARCH TABLE orders AS o USING INDEX i (user_id=?)` (before 3.36), `SCAN o USING COVERING INDEX i`
_ACCESS = re.compile(
    r"(?P<kind>SCAN|SEARCH) (?:TABLE )?(?P<name>.+?)(?: AS (?P<alias>.+?))?"
    r"(?: USING (?P<automatic>AUTOMATIC )?(?P<partial>PARTIAL )?(?P<covering>COVERING )?"
    r"(?:INDEX (?P<index>\S+)|(?P<key>(?:INTEGER )?PRIMARY KEY)))?(?P<rest> \(.*\))?(?P<join> LEFT-JOIN)?"
)
_NOT_A_TABLE = re.compile(r"\d+ CONSTANT ROWS?|CONSTANT ROW|SUBQUERY .*|\(.*\)")


def parse_plan(rows: Iterable[Sequence[Any]], aliases: Mapping[str, str]) -> PlanNode:
    """Parse the rows of one EXPLAIN QUERY PLAN.

    Args:
        rows: In SQLite's order: a step comes after its parent.
        aliases: Name in the statement, in lower case, to table.
    """
    below: dict[int, list[tuple[int, str]]] = {}
    for row in rows:
        below.setdefault(row[1], []).append((row[0], row[3]))

    def grow(parent: int) -> tuple[PlanNode, ...]:
        return tuple(_parse_step(text, aliases, grow(number)) for number, text in below.get(parent, ()))

    return PlanNode("QUERY PLAN", children=grow(0))


def split_keys(columns: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Split each `created_at DESC` into the name and what follows it."""
    for column in columns:
        name, separator, direction = column.partition(" ")
        yield name, separator + direction


def _parse_step(text: str, aliases: Mapping[str, str], children: tuple[PlanNode, ...]) -> PlanNode:
    detail = take_shape(text, "sqlite")
    match = _ACCESS.fullmatch(text)
    if match is None or _NOT_A_TABLE.fullmatch(match["name"]):
        # `LIST SUBQUERY 1`: the number only counts, and must not make two equal plans differ.
        return PlanNode(re.sub(r" (?:\d+|\?)$", "", detail), detail=detail, children=children)
    name = match["alias"] or match["name"]
    table = match["name"] if match["alias"] else aliases.get(name.lower(), name)
    kind = AUTOMATIC if match["automatic"] else match["kind"]
    index = "PRIMARY KEY" if match["key"] else match["index"]
    return PlanNode(kind, table=table, index=None if match["automatic"] else index, detail=detail, children=children)
