"""What a repeated statement looks up: the columns compared by `=` with a value that changes.

In:  a statement as it was sent, and which of its values changed from one execution to the next.
Out: names of columns.

That is what tells a loop over keys from pages (a range or an offset changes), from batches (an IN list changes) and
from polls (nothing changes, or only the time). It is read from the text by its signs and not by the parser, because the
parser knows no placeholder of most drivers, and a bind is told by its place or its name alone.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from querywatch.predicates import parse_facts, parse_predicates
from querywatch.samples import LENGTH, TEXT

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from querywatch.samples import Bind

_VALUES = re.compile(r"'(?:[^']|'')*'")
_BIND = re.compile(r"\?|%s|%\((?P<name>\w+)\)s|\$(?P<number>[0-9]+)|(?<![:\w]):(?P<colon>\w+)")
_COLUMN = r"""(?:[\w$]+|"[^"]+"|`[^`]+`)"""
# Not the type of a cast.
_COLUMN_BEFORE = re.compile(rf"(?<![:\w$])({_COLUMN})\s*(?<![<>!=:])=\s*\(?\s*\Z")
_UPDATE = re.compile(r"\s*UPDATE\b", re.IGNORECASE)
_WHERE = re.compile(r"[()]|\bWHERE\b", re.IGNORECASE)
_CAST = r"(?:::[\w ]+(?:\([0-9, ]*\))?)?"
_LIST_BEGIN = re.compile(rf"({_COLUMN})\s+IN\s*\(\s*\Z", re.IGNORECASE)
_LIST_END = re.compile(rf"{_CAST}\s*\)")
_COLUMN_AFTER = re.compile(rf"{_CAST}\s*\)?\s*=\s*((?:{_COLUMN}\.)*{_COLUMN})")
# Far enough for a quoted name of the longest identifiers, twice.
_REACH = 300


def find_looked_up(statement: str, shape: str, dialect: str, changed: AbstractSet[Bind]) -> tuple[str, ...]:
    """Return the columns whose value changed, in the order of the text; empty if this is no look-up.

    Args:
        statement: Text as it was sent. Stays in the process.
        shape: The same with literals as `?`.
        dialect: SQLAlchemy's name of the dialect.
        changed: Binds whose values changed; may hold `TEXT` and `LENGTH`.
    """
    if TEXT in changed:
        return _read_from_shape(shape, dialect)
    if LENGTH in changed:
        return ()
    columns = dict.fromkeys(column for bind, column in _read_equalities(statement) if bind in changed)
    tables = parse_predicates(shape, dialect)
    # A comparison below an OR is no look-up: the next page of two columns has one.
    binding = {column.lower() for each in tables for column in (*each.equality, *each.listed)}
    return tuple(column for column in columns if not tables or column.lower() in binding)


@lru_cache(maxsize=1024)
def _read_equalities(statement: str) -> tuple[tuple[Bind, str], ...]:
    """Pair each bind that is compared by `=` with its column."""
    text = _VALUES.sub("''", statement)
    found: list[tuple[Bind, str]] = []
    begin = _find_where(text)
    for place, match in enumerate(_BIND.finditer(text)):
        if match.start() < begin:
            continue  # what an UPDATE sets
        before = text[max(0, match.start() - _REACH) : match.start()]
        column = _COLUMN_BEFORE.search(before)
        if column is None and _LIST_END.match(text, match.end()):
            column = _LIST_BEGIN.search(before)  # a list of one
        if column is None:
            column = _COLUMN_AFTER.match(text[match.end() : match.end() + _REACH])
        if column is not None:
            number = match["number"]
            bind = int(number) - 1 if number else match["name"] or match["colon"] or place
            found.append((bind, column[1].rpartition(".")[2].strip('"`')))
    return tuple(found)


def _find_where(text: str) -> int:
    """Return where the conditions of an UPDATE begin; 0 for any other statement."""
    if not _UPDATE.match(text):
        return 0
    depth = 0
    for match in _WHERE.finditer(text):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if depth == 0 and match[0] not in "()":
            return match.start()
    return len(text)


def _read_from_shape(shape: str, dialect: str) -> tuple[str, ...]:
    """Return the columns of a text whose only values are compared by `=`: which of them changed is not known."""
    facts, tables = parse_facts(shape, dialect), parse_predicates(shape, dialect)
    if facts is None or facts.has_offset or any(each.range or each.listed for each in tables):
        return ()
    return tuple(dict.fromkeys(column for each in tables for column in each.equality))
