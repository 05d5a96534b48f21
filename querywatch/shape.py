"""The shape of a statement: its text with every literal and placeholder as `?`, by one linear scan.

In:  SQL as the driver gets it.
Out: text that is the same for every value, holds no literal and no comment, and is still SQL for a parser.

It runs on the application's thread once per new text, so it is one regular expression and knows no grammar: what
needs a parser (aliases, typed constants, `= ANY`) is left to `fingerprint`. Every repetition is possessive, which is
what keeps hostile text linear. Where a text is not valid SQL, more is hidden rather than less: an unterminated string
reaches to the end of the text.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Characters that are scanned. A longer statement is cut there, which keeps one of 5 MB below 10 ms.
SCAN_LIMIT = 32_768

#: Characters of a list of values that are read beyond that: ten thousand placeholders.
LIST_LIMIT = 262_144

#: Ends the shape of a statement that was cut.
CUT_MARK = " …"

_MYSQL = frozenset({"mysql", "mariadb"})
_POSTGRES = frozenset({"postgresql", "cockroachdb", "redshift"})
_KNOWN = _MYSQL | _POSTGRES | {"sqlite", "mssql", "oracle"}

_REPLACEMENTS = {"literal": "?", "rows": "(?)", "blank": " ", "more_blank": "", "percent": "%", "percent_before": "% "}

_UNPRINTABLE = re.compile("[\ud800-\udfff\0]")
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_SPACES = re.compile(r"""("[^"]*+"|`[^`]*+`|\[[^\]]*+\])|[ ]{2,}""")


def take_shape(sql: str, dialect: str = "") -> str:
    """Replace what differs between two executions of one statement by `?`.

    Args:
        sql: Any text, valid or not.
        dialect: SQLAlchemy's name of the dialect. It decides what `"`, a backslash, `[` and `#` mean; unknown names
            get the reading that hides more.

    Returns:
        One line. A text longer than `SCAN_LIMIT` is cut there and ends with `CUT_MARK`.
    """
    scanner = _scanner(dialect if dialect in _KNOWN else "")
    cut = sql.endswith(CUT_MARK)
    if cut:
        sql = sql.removesuffix(CUT_MARK)
    if len(sql) > SCAN_LIMIT:
        sql = _shorten_list(sql, scanner)
    if len(sql) > SCAN_LIMIT:
        sql = sql[: _token_edge(sql, SCAN_LIMIT)]
        cut = True
    if "/*" in sql:
        sql = _drop_nested_comments(sql, scanner)
    shape = scanner.sub(_replace, sql)
    if "  " in shape:
        shape = _SPACES.sub(lambda match: match.group(1) or " ", shape)
    shape = shape.strip(" ;")
    if not shape.isascii() or "\0" in shape:
        # Neither can be encoded by whatever writes the shape down later.
        shape = _UNPRINTABLE.sub("\ufffd", shape)
    return shape + CUT_MARK if cut else shape


def _token_edge(sql: str, limit: int) -> int:
    # Half a name would make a shape of its own. Half a literal is safe anywhere: it is read as an unterminated one.
    edge = max(sql.rfind(" ", limit - 256, limit), sql.rfind(",", limit - 256, limit))
    return edge if edge > 0 else limit


def _shorten_list(sql: str, scanner: re.Pattern[str]) -> str:
    # Long statements are long for a list of values. Where the cut would fall into one, the list is read to its end,
    # so that ten values and ten thousand are one statement.
    edge = _token_edge(sql, SCAN_LIMIT)
    last = None
    for last in scanner.finditer(sql, 0, edge):
        if last.lastgroup == "nested":
            return sql
    if last is None or last.lastgroup != "rows" or last.end() < edge:
        return sql
    far_edge = _token_edge(sql, LIST_LIMIT)
    whole = scanner.match(sql, last.start(), far_edge)
    if whole is None or whole.end() == far_edge < len(sql):
        return sql
    return f"{sql[: last.start()]}(?){sql[whole.end() :]}"


def _replace(match: re.Match[str]) -> str:
    replacement = _REPLACEMENTS.get(match.lastgroup or "")
    return match.group() if replacement is None else replacement


def _drop_nested_comments(sql: str, scanner: re.Pattern[str]) -> str:
    # A regular expression cannot count, so a comment within a comment is found by hand.
    kept: list[str] = []
    position = 0
    while match := scanner.search(sql, position):
        if match.lastgroup == "nested":
            kept += sql[position : match.start()], " "
            position = _comment_end(sql, match.start())
        else:
            kept.append(sql[position : match.end()])
            position = match.end()
    kept.append(sql[position:])
    return "".join(kept)


def _comment_end(sql: str, start: int) -> int:
    depth = 0
    for edge in _COMMENT_EDGE.finditer(sql, start):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(sql)


class _Token(NamedTuple):
    """One kind of token that the scan stops at.

    Args:
        first: Its first character, as a character class without brackets.
        rest: Regular expression of what follows.
        not_after: Characters that must not stand before it, as a class without brackets; empty means any may.
    """

    first: str
    rest: str
    not_after: str = ""

    def whole(self) -> str:
        return f"[{self.first}]{self._guard()}{self.rest}"

    def continued(self) -> str:
        return f"(?<=[{self.first}]){self._guard()}{self.rest}"

    def _guard(self) -> str:
        # Behind the first character: alternatives that begin with a character are told apart fastest.
        return f"(?<![{self.not_after}].)" if self.not_after else ""


_WORD = r"\w$"
_PLAIN = r"'[^']*+(?>(?:''[^']*+)*)(?:'|\Z)"
_ESCAPED = r"'(?>(?:[^'\\]|\\.|'')*)(?:'|\\?\Z)"


def _strings(dialect: str) -> Iterator[_Token]:
    if dialect in _MYSQL:
        yield _Token("'", _ESCAPED[1:])
        yield _Token('"', _ESCAPED[1:].replace("'", '"'))
        yield _Token("bBnNxX", _ESCAPED, _WORD)
        return
    yield _Token("'", _PLAIN[1:])
    yield _Token("bBnNxX", _PLAIN, _WORD)
    yield _Token("eE", _ESCAPED, _WORD)
    yield _Token("uU", f"&{_PLAIN}", _WORD)


def _strings_with_tags(dialect: str) -> Iterator[_Token]:
    # Their ends depend on their beginnings. Each needs a group of its own, so they are no members of lists.
    if dialect in _POSTGRES or not dialect:
        yield _Token("$", r"(?P<tag>|[^\W\d]\w*+)\$.*?(?:\$(?P=tag)\$|\Z)", _WORD)
    if dialect in {"oracle", ""}:
        pairs = r"\[.*?(?:\]'|\Z)|\(.*?(?:\)'|\Z)|\{.*?(?:\}'|\Z)|<.*?(?:>'|\Z)"
        yield _Token("nNqQ", rf"(?>(?:(?<=[nN])[qQ])?)(?<=[qQ])'(?:{pairs}|(?P<end>\S).*?(?:(?P=end)'|\Z))", _WORD)


def _numbers(dialect: str) -> Iterator[_Token]:
    exponent = r"[eE][-+]?[0-9]++"
    # MySQL reads 123abc as a name, the others as a number with a name behind it.
    whole = r"[0-9]*+(?![\w$])" if dialect in _MYSQL else r"[0-9_]*+"
    yield _Token("0", r"(?:[xX][0-9A-Fa-f_]++|[bBoO][0-7_]++)", _WORD)
    yield _Token("0-9", rf"(?:[0-9_]*+(?:\.[0-9_]*+(?>(?:{exponent})?)|{exponent})|{whole})", _WORD)
    yield _Token(".", rf"[0-9][0-9_]*+(?>(?:{exponent})?)", _WORD)


def _placeholders(dialect: str) -> Iterator[_Token]:
    yield _Token("?", "[0-9]*+")
    yield _Token("$", r"\w++", _WORD)
    yield _Token(":", r"\w++", r":\w")
    if dialect not in {"sqlite", "oracle"}:
        yield _Token("%", r"(?>(?:\([^()%]*+\))?)[sbt]\b", "%")
    if dialect in {"mssql", "sqlite"}:
        yield _Token("@", r"[pP]?[0-9]++\b", r"@\w$")


def _comments(dialect: str) -> Iterator[_Token]:
    if dialect in _MYSQL:
        yield _Token(r"\-", r"-(?=\s|\Z)[^\n]*+")
        yield _Token("#", r"[^\n]*+")
    else:
        yield _Token(r"\-", r"-[^\n]*+")
    if not dialect:
        yield _Token("#", r"(?!\S)[^\n]*+", r"\S")
    if dialect in _MYSQL | {"sqlite", "oracle"}:
        yield _Token("/", r"\*.*?(?:\*/|\Z)")
    else:
        yield _Token("/", r"\*[^*/]*+(?>(?:(?:\*(?!/)|/(?!\*))[^*/]*+)*)\*/")


def _names(dialect: str) -> Iterator[_Token]:
    if dialect not in _MYSQL:
        yield _Token('"', '[^"]*+(?>(?:""[^"]*+)*)"')
    if dialect not in _POSTGRES:
        yield _Token("`", "[^`]*+(?>(?:``[^`]*+)*)`")
    if dialect in {"mssql", "sqlite"}:
        yield _Token(r"\[", r"[^\]]*+(?>(?:\]\][^\]]*+)*)\]")


# A placeholder's cast is the driver's doing: psycopg2 sends none, psycopg and asyncpg do.
_CAST = (
    r'(?>(?:::(?:[^\W\d][\w.]*+|"[^"]*+")(?>(?:\([0-9, ]*+\))?)'
    r"(?>(?i: with(?:out)? time zone| precision| varying(?>(?:\([0-9]*+\))?))?)(?>(?:\[\])*))*)"
)

# What SQLAlchemy writes for an empty IN list, up to the closing parenthesis.
_NO_VALUE = r"(?:1|_in_[0-9]++|CAST\(NULL AS [^()]*+(?>(?:\([^()]*+\)[^()]*+)?)\))"
_EMPTY_LIST = (
    r"(?:(?:NULL|\(NULL(?>(?:, NULL)*)\))\) (?:AND \(1 != 1\)|OR \(1 = 1\))"  # noqa: S608 (it reads SQL)
    rf"|SELECT {_NO_VALUE}(?>(?:, {_NO_VALUE})*)"
    r"(?>(?: FROM (?:DUAL|\(SELECT [^()]*+\)(?>(?: as _empty_set)?)))?) WHERE 1!=1\))"
)


def _rows(literals: Iterable[_Token]) -> str:
    member = rf"(?:[-+]?(?:{_any(token.whole() for token in literals)}){_CAST}|(?i:null|true|false)\b)"
    members = rf"{member}(?>(?:\s*+,\s*+{member})*)\s*+(?:\)|,?\s*+\Z)"
    # The arguments of a function are no list: f(1, 2) and f(1) are two statements.
    no_function = r"""(?:(?<![\w"`\]$]\()|(?<=[\s)][iI][nN]\()|(?<=[vV][aA][lL][uU][eE][sS]\())"""
    return rf"(?<=\(){no_function}\s*+{members}(?>(?:\s*+,\s*+(?:\(\s*+{members}|\(?\s*+\Z))*)"


def _any(patterns: Iterable[str]) -> str:
    return "|".join(patterns)


@cache
def _scanner(dialect: str) -> re.Pattern[str]:
    literals = [*_placeholders(dialect), *_numbers(dialect), *_strings(dialect)]
    names = list(_names(dialect))
    comments = list(_comments(dialect))
    top_literals = [*_strings_with_tags(dialect), *literals]
    unclosed = [_Token(token.first, ".*") for token in names]
    blank = rf"(?>(?:\s|{_any(token.whole() for token in comments)})*)"
    begin_blank = rf"(?:(?<=[\t\n\r\f\v])|{_any(token.continued() for token in comments)})"

    firsts = "".join(dict.fromkeys(token.first for token in [*top_literals, *names, *comments]))
    return re.compile(
        # One class first: a pattern that begins with alternatives is tried at every character, ten times as slow.
        rf"[{firsts}(%\t\n\r\f\v]"
        r"(?:(?<![A-Za-z.])|(?=['&0-9]|[qQ]'))"
        rf"(?:(?P<name>{_any(token.continued() for token in names)})"
        rf"|(?P<rows>(?<=\(){_EMPTY_LIST}|{_rows(literals)})"
        rf"|(?P<literal>(?:{_any(token.continued() for token in [*top_literals, *unclosed])}){_CAST})"
        rf"|(?P<more_blank>(?<=[ ].){begin_blank}{blank})"
        rf"|(?P<blank>{begin_blank}{blank})"
        r"|(?P<nested>(?<=/)\*)"
        # What follows must not turn the operator into a placeholder: a %%s is a modulo column s.
        r"|(?P<percent>(?<=%)%(?![sbt(%]))"
        r"|(?P<percent_before>(?<=%)%))",
        re.DOTALL,
    )
