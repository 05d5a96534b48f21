"""A statement broken into lines and coloured words, for reading.

In:  SQL text of any dialect, also text that no parser understands.
Out: lines of (class, text); the texts joined are the statement with other white space, nothing else changes.

A scanner of one regular expression and no parser: it never fails, costs microseconds, and a report may be made of
statements that the database itself refused.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))
      | (?P<text>'(?:[^']|'')*(?:'|\Z))
      | (?P<name>"(?:[^"]|"")*(?:"|\Z)|`[^`]*(?:`|\Z)|\[[A-Za-z_][^\[\]\n]*\])
      | (?P<mark>\?|%s|%\(\w+\)s|\$\d+|:[A-Za-z_]\w*)
      | (?P<number>\d+(?:\.\d+)?)
      | (?P<word>[^\W\d]\w*)
      | (?P<space>\s+)
      | (?P<sign>::|<=|>=|<>|!=|\|\||.)
    """,
    re.VERBOSE | re.DOTALL,
)

#: A line begins here.
_CLAUSES = frozenset(
    re.findall(
        r"\w+", "SELECT FROM WHERE GROUP HAVING ORDER LIMIT OFFSET UNION INTERSECT EXCEPT VALUES SET RETURNING WINDOW"
    )
)
#: A line begins here too, and the word before a JOIN belongs to it.
_JOIN_WORDS = frozenset(re.findall(r"\w+", "LEFT RIGHT FULL INNER CROSS NATURAL JOIN"))
_KEYWORDS = (
    _CLAUSES
    | _JOIN_WORDS
    | frozenset(
        re.findall(
            r"\w+",
            """ALL ALTER AND ANY AS ASC AVG BETWEEN BY CASE CAST CONCURRENTLY CONFLICT COUNT CREATE DEFAULT DELETE DESC
            DISTINCT DO DROP ELSE END ESCAPE EXISTS FALSE FETCH FILTER FIRST FOR ILIKE IN INCLUDE INDEX INSERT INTO IS
            LAST LATERAL LIKE MAX MIN NOT NOTHING NULL NULLS ON ONLY OR OUTER OVER PARTITION RECURSIVE ROWS SIMILAR SUM
            TABLE THEN TRUE UNIQUE UPDATE USING WHEN WITH""",
        )
    )
)
#: Text beyond this is cut: a page holds many statements, and nobody reads a megabyte of one.
_LONGEST = 20_000


class Word(NamedTuple):
    """A piece of a line: its class (`keyword`, `text`, `mark`, `number`, `name`, `comment`, or empty), and itself."""

    kind: str
    text: str


class Line(NamedTuple):
    """One line of a statement: how far it is indented, and its words."""

    depth: int
    words: tuple[Word, ...]


def lay_out(sql: str) -> list[Line]:
    """Break *sql* into lines, one for each clause, join and condition; what is in brackets lies deeper.

    Args:
        sql: One statement. Text beyond 20,000 characters is left out, and the last line says so.

    Returns:
        Its lines, never empty for text that is not.
    """
    printer = _Printer()
    for match in _TOKEN.finditer(sql[:_LONGEST]):
        printer.take(match.lastgroup or "sign", match[0])
    lines = printer.finish()
    if len(sql) > _LONGEST:
        lines.append(Line(0, (Word("comment", f"... {len(sql) - _LONGEST:,} more characters"),)))
    return lines


class _Printer:
    """Lines under way. Brackets that hold a subquery open a deeper level; others, such as a call's, do not."""

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self._words: list[Word] = []
        self._depth = 0
        self._line_depth = 0
        #: Of the open brackets, innermost last: whether each holds a subquery.
        self._brackets: list[bool] = []
        self._continued = 0
        self._after_between = False
        self._previous = ""

    def take(self, kind: str, text: str) -> None:
        """Add one token."""
        if kind == "space":
            if self._words and self._words[-1].text[-1:] not in {" ", "("}:
                self._words.append(Word("", " "))
            return
        upper = text.upper() if kind == "word" else ""
        if kind == "word":
            kind = "keyword" if upper in _KEYWORDS else ""
            self._break_before(upper)
        elif text == ")" and self._brackets and self._brackets.pop():
            self._depth -= 1
            self._break(0)
        self._words.append(Word("" if kind == "sign" else kind, text))
        if text == "(":
            self._brackets.append(False)
        elif kind == "comment" and text.startswith("--"):
            self._break(self._continued)
        self._previous = upper or text

    def finish(self) -> list[Line]:
        """Return the lines."""
        self._break(0)
        return self._lines

    def _break_before(self, upper: str) -> None:
        """Begin a line where *upper* begins a clause, unless it stands in a call's brackets."""
        if upper in {"SELECT", "WITH"} and self._previous == "(" and self._brackets:
            self._brackets[-1] = True
            self._depth += 1
            self._break(0)
            return
        if self._brackets and not self._brackets[-1]:
            return
        if upper == "BETWEEN":
            self._after_between = True
        elif upper in {"AND", "OR"}:
            if upper == "AND" and self._after_between:
                self._after_between = False
            else:
                self._break(1)
        elif (upper in _JOIN_WORDS and self._previous not in _JOIN_WORDS | {"OUTER"}) or (
            upper in _CLAUSES and self._previous not in {"DELETE", "DISTINCT", "ALL", "DO", "UPDATE", "IS"}
        ):
            self._break(0)

    def _break(self, deeper: int) -> None:
        while self._words and self._words[-1].text == " ":
            self._words.pop()
        if self._words:
            self._lines.append(Line(self._line_depth, tuple(self._words)))
        self._words = []
        self._continued = deeper
        self._line_depth = self._depth + deeper
