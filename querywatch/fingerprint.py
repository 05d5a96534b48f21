"""What all executions of one statement share: an id, a readable text, a short name, its tables.

In:  the shape of a statement (or any SQL) and SQLAlchemy's name of the dialect.
Out: a `Fingerprint`.

Costs 0.5 ms for a short statement and tens for a long one, so it runs in the background, once per shape. A statement
that the parser does not know is told apart by its tokens instead: it is never lost, only less well normalised.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from querywatch.records import Fingerprint
from querywatch.shape import CUT_MARK, take_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlglot import exp

#: Raised whenever the rules below give a statement another id; ids of two versions are not comparable.
FINGERPRINT_VERSION = 1

#: Characters of a shape that are parsed; a longer one is grouped by its tokens.
PARSE_LIMIT = 20_000

#: Characters of `Fingerprint.sql` and `Fingerprint.summary`. OpenTelemetry bounds the summary.
SQL_LIMIT = 4_096
SUMMARY_LIMIT = 255

_LANGUAGES = {
    "postgresql": "postgres",
    "cockroachdb": "postgres",
    "redshift": "redshift",
    "mysql": "mysql",
    "mariadb": "mysql",
    "sqlite": "sqlite",
    "mssql": "tsql",
    "oracle": "oracle",
    "snowflake": "snowflake",
    "bigquery": "bigquery",
    "duckdb": "duckdb",
    "clickhouse": "clickhouse",
    "trino": "trino",
    "databricks": "databricks",
}


class _Reading(NamedTuple):
    sql: str
    summary: str
    operation: str
    tables: tuple[str, ...]


def take_fingerprint(shape: str, dialect: str) -> Fingerprint:
    """Tell which statement a text is. Never raises.

    Args:
        shape: What `take_shape` returned; a text with literals is reduced to its shape first.
        dialect: SQLAlchemy's name, such as `postgresql`; an unknown one is read as standard SQL.

    Returns:
        The fingerprint. Its id depends on the text and `FINGERPRINT_VERSION` alone: not on the process, the driver's
        paramstyle, or the SQLAlchemy version.
    """
    shape = take_shape(shape, dialect)
    reading = _read_tree(shape, dialect) or _read_tokens(shape, dialect)
    digest = hashlib.blake2b(f"{FINGERPRINT_VERSION}\n{reading.sql}".encode(), digest_size=8)
    return Fingerprint(
        id=digest.hexdigest(),
        version=FINGERPRINT_VERSION,
        sql=_bound(reading.sql, SQL_LIMIT),
        summary=_bound(reading.summary, SUMMARY_LIMIT),
        operation=reading.operation,
        tables=reading.tables,
    )


def _bound(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - len(CUT_MARK)] + CUT_MARK


# -- the statement as a tree ------------------------------------------------------------------------------------------


def _read_tree(shape: str, dialect: str) -> _Reading | None:
    """Return None where the parser does not understand the statement."""
    if not shape or len(shape) > PARSE_LIMIT or shape.endswith(CUT_MARK):
        return None
    # Costs 0.4 s once; an application that is only imported must not pay it.
    import sqlglot  # noqa: PLC0415 (see above)
    from sqlglot import exp  # noqa: PLC0415

    language = _LANGUAGES.get(dialect, "")
    with _quiet_parser():
        try:
            trees = [tree for tree in sqlglot.parse(_quote_marks(shape, dialect), dialect=language) if tree]
            if not trees or any(tree.find(exp.Command) for tree in trees):
                return None
            parts = [_read_statement(tree, language) for tree in trees]
        except Exception:  # noqa: BLE001 (a RecursionError or a bug of the parser's must not lose the statement)
            return None
    return _Reading(
        sql="; ".join(part.sql for part in parts),
        summary="; ".join(part.summary for part in parts),
        operation=parts[0].operation,
        tables=tuple(dict.fromkeys(table for part in parts for table in part.tables)),
    )


def _read_statement(tree: exp.Expression, language: str) -> _Reading:
    from sqlglot import ErrorLevel, exp  # noqa: PLC0415

    for select in _outer_selects(tree):
        _drop_aliases(select)
    nodes = list(tree.walk(bfs=False))
    ctes = {node.alias for node in nodes if isinstance(node, exp.CTE)}
    tables: dict[str, None] = {}
    for node in nodes:
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            name = ".".join(part.name for part in node.parts)
            if name not in ctes:
                tables[name] = None
    # Children first: a cast of a literal, or a list of casts, is then a cast or a list of `?`.
    for node in reversed(nodes):
        rule = _rules().get(type(node))
        if rule is not None:
            rule(node)
    sql = tree.sql(dialect=language, comments=False, unsupported_level=ErrorLevel.IGNORE)
    operation = _operation(tree, sql)
    kind = (
        f" {tree.args['kind']}" if isinstance(tree, exp.Create | exp.Drop | exp.Alter) and tree.args.get("kind") else ""
    )
    return _Reading(sql, " ".join([operation + kind, *tables]), operation, tuple(tables))


def _operation(tree: exp.Expression, sql: str) -> str:
    from sqlglot import exp  # noqa: PLC0415

    if isinstance(tree, exp.Query):
        return "SELECT"
    if isinstance(tree, exp.Insert | exp.Update | exp.Delete | exp.Merge):
        return tree.key.upper()
    return _first_word(sql)


def _outer_selects(tree: exp.Expression) -> Iterator[exp.Expression]:
    """Yield what decides the names of the columns that the client gets."""
    from sqlglot import exp  # noqa: PLC0415

    if isinstance(tree, exp.Select):
        if not tree.args.get("into"):
            yield tree
    elif isinstance(tree, exp.SetOperation):
        yield from _outer_selects(tree.this)
        yield from _outer_selects(tree.expression)
    elif isinstance(tree, exp.Subquery):
        yield from _outer_selects(tree.this)
    elif isinstance(tree, exp.Insert) and isinstance(tree.expression, exp.Query):
        yield from _outer_selects(tree.expression)
    returning = tree.args.get("returning")
    if returning:
        yield returning


def _drop_aliases(select: exp.Expression) -> None:
    # SQLAlchemy 2.0 writes `c.id AS c_id` where 2.1 writes `c.id`. A name that the query itself uses has to stay.
    from sqlglot import exp  # noqa: PLC0415

    used: set[str] = set()
    owner: exp.Expression | None = select
    while owner is not None:
        for clause in ("group", "having", "order", "qualify"):
            if clause in owner.args and owner.args[clause]:
                used.update(column.name for column in owner.args[clause].find_all(exp.Column) if not column.table)
        owner = owner.parent
    for column in select.expressions:
        if isinstance(column, exp.Alias) and column.alias not in used:
            column.replace(column.this)


def _mark(node: exp.Expression) -> None:
    from sqlglot import exp  # noqa: PLC0415

    node.replace(exp.Placeholder(jdbc=True))


def _is_mark(node: object) -> bool:
    from sqlglot import exp  # noqa: PLC0415

    return isinstance(node, exp.Placeholder)


@cache
def _rules() -> dict[type[exp.Expression], Callable[[Any], None]]:
    """What is done to each kind of node, with its children already done."""
    from sqlglot import exp  # noqa: PLC0415

    def mark_value(node: exp.Expression) -> None:
        # `IS NULL` is an operator; a NULL or TRUE anywhere else is a value like any other.
        if not isinstance(node.parent, exp.Is):
            _mark(node)

    def mark_around(node: exp.Expression) -> None:
        if _is_mark(node.this):
            _mark(node)

    def shorten(node: exp.Expression) -> None:
        if node.expressions and all(_is_mark(member) for member in node.expressions):
            node.set("expressions", node.expressions[:1])

    def shorten_unique(node: exp.Expression) -> None:
        node.set("expressions", list(dict.fromkeys(node.expressions)))

    def any_to_in(node: exp.Expression) -> None:
        # PostgreSQL drivers send an IN list as one array.
        listed = node.expression
        if isinstance(listed, exp.Any) and isinstance(listed.this, exp.Paren) and _is_list(listed.this.this):
            node.replace(exp.In(this=node.this, expressions=[exp.Placeholder(jdbc=True)]))

    def all_to_not_in(node: exp.Expression) -> None:
        listed = node.expression
        if (
            isinstance(listed, exp.Anonymous)
            and listed.name.upper() == "ALL"
            and len(listed.expressions) == 1
            and _is_list(listed.expressions[0])
        ):
            node.replace(exp.Not(this=exp.In(this=node.this, expressions=[exp.Placeholder(jdbc=True)])))

    def _is_list(node: object) -> bool:
        return _is_mark(node) or (isinstance(node, exp.Array) and all(_is_mark(member) for member in node.expressions))

    return {
        **dict.fromkeys(
            (
                exp.Literal,
                exp.Placeholder,
                exp.National,
                exp.HexString,
                exp.BitString,
                exp.ByteString,
                exp.RawString,
                exp.UnicodeString,
            ),
            _mark,
        ),
        **dict.fromkeys((exp.Null, exp.Boolean), mark_value),
        **dict.fromkeys((exp.Cast, exp.TryCast, exp.Neg, exp.Interval), mark_around),
        **dict.fromkeys((exp.Tuple, exp.Array), shorten),
        **dict.fromkeys((exp.In, exp.Values), shorten_unique),
        exp.EQ: any_to_in,
        exp.NEQ: all_to_not_in,
    }


_MARK = re.compile(r"""("[^"]*+"|`[^`]*+`)|\?""")
_POSTGRES_MARK = re.compile(r"""("[^"]*+"|\?(?=\ ?\?)|\?[|&](?!\|))|\?""")
_BRACKETED = re.compile(r"(?<![\w\])\"])\[([^\W\d][\w ]*+)\]")


def _quote_marks(shape: str, dialect: str) -> str:
    # The parser takes a string in more places than a placeholder (`DATE ?`), and on PostgreSQL `?` is an operator too.
    if dialect not in _LANGUAGES:
        shape = _BRACKETED.sub(r'"\1"', shape)
    mark = _POSTGRES_MARK if _LANGUAGES.get(dialect) == "postgres" else _MARK
    return mark.sub(lambda match: match.group(1) or "'?'", shape)


_own_thread = threading.local()


class _WhileParsing(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(_own_thread, "parsing", False)


_WHILE_PARSING = _WhileParsing()


@contextmanager
def _quiet_parser() -> Iterator[None]:
    # sqlglot warns of syntax it does not know; the application's own use of sqlglot, in other threads, may still.
    logging.getLogger("sqlglot").addFilter(_WHILE_PARSING)
    _own_thread.parsing = True
    try:
        yield
    finally:
        _own_thread.parsing = False


# -- the statement as tokens ------------------------------------------------------------------------------------------

_TOKEN = re.compile(r"""(?:"[^"]*+"|`[^`]*+`|\[[^\]]*+\])|[\w$@#]++|[-+*/<>=~!%^&|:]++|\S""")
_GLUED = re.compile(r" (?=[,;.)\]])|(?<=[(\[.]) |(?<=\w) (?=\()")
_MAIN_KEYWORD = re.compile(r"\b(?:SELECT|INSERT|UPDATE|DELETE|MERGE)\b")
_TABLE = re.compile(
    r"\b(?:FROM|JOIN|INTO|(?<!FOR )(?<!DO )(?<!KEY )UPDATE|TABLE) (?:ONLY |IF (?:NOT )?EXISTS )?+"
    r"""(?!\b(?:SELECT|SET|LATERAL|UNNEST)\b)((?:"[^"]+"|`[^`]+`|\[[^\]]+\]|[\w$#]++|\.)++)(?!\()"""
)


def _read_tokens(shape: str, dialect: str) -> _Reading:
    keywords = _keywords(_LANGUAGES.get(dialect, ""))
    words = (word.upper() if word.upper() in keywords else word for word in _TOKEN.findall(shape))
    sql = _GLUED.sub("", " ".join(words))
    operation = _first_word(sql)
    if operation == "WITH" and (found := _MAIN_KEYWORD.search(sql)):
        operation = found.group()
    tables = tuple(dict.fromkeys(re.sub(r'["`\[\]]', "", name) for name in _TABLE.findall(sql)))
    return _Reading(sql, " ".join([operation, *tables]), operation, tables)


def _first_word(sql: str) -> str:
    found = re.search(r"[A-Za-z]+", sql)
    return found.group().upper() if found else ""


@cache
def _keywords(language: str) -> frozenset[str]:
    from sqlglot import Dialect  # noqa: PLC0415 (costs 0.4 s once)

    return frozenset(Dialect.get_or_raise(language).tokenizer_class.KEYWORDS)
