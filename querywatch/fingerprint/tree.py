"""A statement as the parser sees it, with all taken out that differs between two executions of it.

In:  the shape of a statement.
Out: a `Reading`, or None where sqlglot does not understand the statement.

The only module here that imports sqlglot, so it is itself imported late. One parse, one walk, one generation.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import sqlglot
from sqlglot import ErrorLevel, exp

from querywatch.fingerprint.tokens import Reading, first_word
from querywatch.parsing import NODE_LIMIT, find_language, quiet_parser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def read_tree(shape: str, dialect: str) -> Reading | None:
    """Parse and normalise *shape*.

    Args:
        shape: Text without literals and comments.
        dialect: SQLAlchemy's name of the dialect.

    Returns:
        None for what the parser does not understand, or would take too long for.
    """
    language = find_language(dialect)
    with quiet_parser():
        try:
            trees = sqlglot.parse(_quote_marks(shape, dialect), dialect=language, max_nodes=NODE_LIMIT)
            parts = [_read_statement(tree, language) for tree in trees if tree is not None]
        except Exception:  # noqa: BLE001 (also RecursionError: whatever the parser meets, the statement is not lost)
            return None
    if not parts:
        return None
    return Reading(
        sql="; ".join(part.sql for part in parts),
        operation=parts[0].operation,
        target=" ".join(dict.fromkeys(part.target for part in parts)),
        tables=tuple(dict.fromkeys(table for part in parts for table in part.tables)),
    )


class _NotUnderstoodError(Exception):
    """The parser let the text pass without knowing what it is."""


def _read_statement(tree: exp.Expr, language: str) -> Reading:
    for select in _outer_selects(tree):
        _drop_aliases(select)
    nodes = list(tree.walk(bfs=False))
    # sqlglot reads `UNLISTEN x` as a column with an alias; a command is text that it only keeps.
    if isinstance(tree, exp.Alias | exp.Condition) or any(isinstance(node, exp.Command) for node in nodes):
        raise _NotUnderstoodError
    tables = _tables(nodes)
    # Children first: a list of casts of literals is then a list of `?`.
    for node in reversed(nodes):
        rule = _RULES.get(type(node))
        if rule is not None:
            rule(node)
    sql = tree.sql(dialect=language, copy=False, comments=False, unsupported_level=ErrorLevel.IGNORE)
    operation = _operation(tree, sql)
    kind = tree.args.get("kind") if isinstance(tree, exp.Create | exp.Drop | exp.Alter) else None
    return Reading(sql, operation, f"{operation} {kind}" if kind else operation, tables)


def _operation(tree: exp.Expr, sql: str) -> str:
    if isinstance(tree, exp.Query):
        return "SELECT"
    return tree.key.upper() if isinstance(tree, exp.DML) else first_word(sql)


def _tables(nodes: list[exp.Expr]) -> tuple[str, ...]:
    found = [node for node in nodes if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier)]
    # `DELETE o FROM orders AS o`: the first o is no table.
    not_tables = {node.alias for node in nodes if isinstance(node, exp.CTE)}
    not_tables.update(table.alias for table in found if table.alias != table.name)
    # The walk meets WITH after the statement it stands before.
    found.sort(key=lambda table: int(table.this.meta.get("start", 0)))
    names = (".".join(part.name for part in table.parts) for table in found)
    return tuple(dict.fromkeys(name for name in names if name not in not_tables))


def _outer_selects(tree: exp.Expr) -> Iterator[exp.Expr]:
    """Yield what names the columns that the client gets: the names in a subquery are used by the query around it."""
    if isinstance(tree, exp.Select):
        # SELECT INTO makes a table, with the aliases as its columns.
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
    if returning is not None:
        yield returning


def _drop_aliases(select: exp.Expr) -> None:
    # SQLAlchemy 2.0 writes `c.id AS c_id` where 2.1 writes `c.id`. A name that the query itself uses has to stay.
    used: set[str] = set()
    owner: exp.Expr | None = select
    while owner is not None:
        for clause in ("group", "having", "order", "qualify", "distinct"):
            part = owner.args.get(clause)
            if isinstance(part, exp.Expr):
                used.update(column.name for column in part.find_all(exp.Column) if not column.table)
        owner = owner.parent
    for column in select.expressions:
        if isinstance(column, exp.Alias) and column.alias not in used:
            column.replace(column.this)


def _mark() -> exp.Placeholder:
    # "jdbc" is sqlglot's word for a placeholder that is written as a question mark in every language.
    return exp.Placeholder(jdbc=True)


def _mark_value(node: exp.Expr) -> None:
    node.replace(_mark())


def _mark_keyword(node: exp.Expr) -> None:
    # IS NULL is an operator; NULL or TRUE anywhere else is a value like any other.
    if not isinstance(node.parent, exp.Is):
        node.replace(_mark())


def _mark_around(node: exp.Expr) -> None:
    # CAST(? AS VARCHAR), DATE '?', INTERVAL '?', -?: a typed or signed value is a value.
    if isinstance(node.this, exp.Placeholder):
        node.replace(_mark())


def _shorten(node: exp.Expr) -> None:
    if _are_values(node.expressions):
        node.set("expressions", [_mark()])


def _shorten_rows(node: exp.Expr) -> None:
    node.set("expressions", list(dict.fromkeys(node.expressions)))


def _shorten_in(node: exp.In) -> None:
    # IN (?, ?), of tuples IN ((?, ?), (?, ?)), and on SQLite IN (VALUES (?, ?), (?, ?)).
    members = [inner for member in node.expressions for inner in _members(member)]
    if _are_values(members):
        node.set("expressions", [_mark()])
    else:
        _shorten_rows(node)


def _members(node: exp.Expr) -> list[exp.Expr]:
    if isinstance(node, exp.Values):
        return [inner for row in node.expressions for inner in _members(row)]
    return node.expressions if isinstance(node, exp.Tuple) else [node.unnest()]


def _equal_any(node: exp.EQ) -> None:
    # PostgreSQL drivers send an IN list as one array.
    if isinstance(node.expression, exp.Any) and _is_list(node.expression.this.unnest()):
        node.replace(exp.In(this=node.this, expressions=[_mark()]))


def _unequal_all(node: exp.NEQ) -> None:
    other = node.expression
    if isinstance(other, exp.Anonymous) and other.name.upper() == "ALL":
        (listed,) = other.expressions
        if _is_list(listed):
            node.replace(exp.Not(this=exp.In(this=node.this, expressions=[_mark()])))


def _is_list(node: exp.Expr) -> bool:
    if isinstance(node, exp.Cast):
        node = node.this
    return isinstance(node, exp.Placeholder) or (isinstance(node, exp.Array) and _are_values(node.expressions))


def _are_values(nodes: list[exp.Expr]) -> bool:
    return bool(nodes) and all(isinstance(node, exp.Placeholder) for node in nodes)


_RULES: dict[type[exp.Expr], Callable[[Any], None]] = {
    exp.Literal: _mark_value,
    exp.Placeholder: _mark_value,
    exp.National: _mark_value,
    exp.JSONPath: _mark_value,
    exp.Null: _mark_keyword,
    exp.Boolean: _mark_keyword,
    exp.Cast: _mark_around,
    exp.TryCast: _mark_around,
    exp.Neg: _mark_around,
    exp.Interval: _mark_around,
    exp.Tuple: _shorten,
    exp.Array: _shorten,
    exp.Values: _shorten_rows,
    exp.In: _shorten_in,
    exp.EQ: _equal_any,
    exp.NEQ: _unequal_all,
}


_MARK = re.compile(r"""("[^"]*+"|`[^`]*+`)|\?""")
_POSTGRES_MARK = re.compile(r"""("[^"]*+"|\?(?= ?\?)|\?[|&](?!\|))|\?""")
_BRACKETED = re.compile(r"(?<![\w\])\"])\[([^\W\d][\w ]*+)\]")
_PRECISION = re.compile(r"(?i)\b(interval|time|timestamp|timestamptz) ?\(\?\) (?=\?)")


def _quote_marks(shape: str, dialect: str) -> str:
    """Write `?` as a string: the parser takes one in more places (`DATE ?`), and `?` is an operator on PostgreSQL."""
    language = find_language(dialect)
    if not language:
        # [name] where no array could be indexed is a name.
        shape = _BRACKETED.sub(r'"\1"', shape)
    if language == "postgres":
        shape = _PRECISION.sub(r"\1 ", shape)
    pattern = _POSTGRES_MARK if language == "postgres" else _MARK
    return pattern.sub(lambda match: match.group(1) or "'?'", shape)
