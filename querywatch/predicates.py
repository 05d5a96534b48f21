"""What a statement asks of each table: columns by role, read from the parsed text.

In:  SQL, with or without values.
Out: one `TablePredicates` per table instance (`orders AS o` and `orders AS p` are two), and a few facts of the whole.

Only conditions that all rows must meet count (the top of WHERE and ON, joined by AND), because only those let an
index leave rows out. A column without its table's name is used where the query has one table, and left out otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from querywatch.parsing import NODE_LIMIT, find_language, quiet_parser
from querywatch.shape import take_shape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Shapes kept parsed. A parse takes 0.5 to 20 ms and holds the GIL.
_KEPT = 512


@dataclass(frozen=True, slots=True)
class TablePredicates:
    """Columns of one table instance, in order of appearance, each once in a role.

    Args:
        table: Table, with its schema as written.
        alias: Its name in the statement: the alias, or the table.
        equality: Compared with one value by `=`.
        listed: Compared with several values, by IN or by OR.
        is_null: Tested with IS NULL.
        range: Compared by `<`, `>`, `<=`, `>=` or BETWEEN.
        bounded: Those of `range` with a bound at both ends.
        join: Compared by `=` with a column of another instance, also of an outer query.
        group: Grouped by.
        order: Of an ORDER BY that names this instance only; `created_at DESC` where it descends.
        projected: Selected; `*` for all.
        has_limit: Whether the query that reads it has a LIMIT of its own.
    """

    table: str
    alias: str
    equality: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()
    is_null: tuple[str, ...] = ()
    range: tuple[str, ...] = ()
    bounded: tuple[str, ...] = ()
    join: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    projected: tuple[str, ...] = ()
    has_limit: bool = False


@dataclass(frozen=True, slots=True)
class StatementFacts:
    """Facts of a whole statement.

    Args:
        operation: `SELECT`, `INSERT`, `UPDATE`, `DELETE`, or another keyword in upper case.
        tables: Tables in order of appearance, each once, with the schema as written; no CTEs.
        has_limit: Whether the outermost query has a LIMIT (or FETCH FIRST).
        has_offset: Whether it has an OFFSET.
        locks_rows: FOR UPDATE, FOR SHARE and their like.
        is_aggregate: Whether it selects an aggregate, groups, or is DISTINCT.
        assigned: Columns that an UPDATE sets.
        copies_rows: Whether an INSERT takes its rows from a SELECT.
        is_upsert: Whether an INSERT says what to do with a row that is there already.
        written: Tables that it writes to, also in a CTE.
        starred: Tables whose columns the outermost query takes by `*`, also through subqueries that do the same.
    """

    operation: str
    tables: tuple[str, ...]
    has_limit: bool
    has_offset: bool
    locks_rows: bool
    is_aggregate: bool
    assigned: tuple[str, ...] = ()
    copies_rows: bool = False
    is_upsert: bool = False
    written: tuple[str, ...] = ()
    starred: tuple[str, ...] = ()


def parse_predicates(sql: str, dialect: str) -> tuple[TablePredicates, ...]:
    """Return the columns by role of each table instance; empty for a text that is not understood.

    Args:
        sql: A statement; values in it are not looked at.
        dialect: SQLAlchemy's name of the dialect.
    """
    return _parse(take_shape(sql, dialect), dialect)[0]


def parse_facts(sql: str, dialect: str) -> StatementFacts | None:
    """Return the facts of a statement; None for a text that is not understood."""
    return _parse(take_shape(sql, dialect), dialect)[1]


@lru_cache(maxsize=_KEPT)
def _parse(shape: str, dialect: str) -> tuple[tuple[TablePredicates, ...], StatementFacts | None]:
    # sqlglot takes 0.4 s to import: only in the background, only when it is needed.
    import sqlglot  # noqa: PLC0415

    try:
        with quiet_parser():
            # `?::` would be read as an operator of JSON.
            text = shape.replace("?::", "? ::")
            tree = sqlglot.parse_one(text, read=find_language(dialect), max_nodes=NODE_LIMIT)
            return tuple(_read_tables(tree)), _read_facts(tree)
    except Exception:  # noqa: BLE001 -- whatever a parser makes of a text, the caller only has less to go on
        return (), None


class _Instance:
    """One table instance while its columns are collected."""

    def __init__(self, table: str, alias: str) -> None:
        self.table = table
        self.alias = alias
        self.roles: dict[str, dict[str, None]] = {}
        self.bounds: dict[str, set[str]] = {}
        self.order: tuple[str, ...] = ()
        self.has_limit = False

    def add(self, role: str, column: str) -> None:
        self.roles.setdefault(role, {})[column] = None

    def freeze(self) -> TablePredicates:
        named = {role: tuple(columns) for role, columns in self.roles.items()}
        return TablePredicates(
            table=self.table,
            alias=self.alias,
            order=self.order,
            has_limit=self.has_limit,
            bounded=tuple(column for column, bounds in self.bounds.items() if len(bounds) > 1),
            **named,
        )


def _read_facts(tree: Any) -> StatementFacts:
    from sqlglot import exp  # noqa: PLC0415

    named = {cte.alias_or_name.lower(): cte.this for cte in tree.find_all(exp.CTE)}
    tables = (_name_table(table) for table in tree.find_all(exp.Table, bfs=False) if table.name)
    selected = tree.selects if isinstance(tree, exp.Query) else []
    return StatementFacts(
        operation=tree.key.upper() if not isinstance(tree, exp.Query) else "SELECT",
        tables=tuple(dict.fromkeys(table for table in tables if table.lower() not in named)),
        has_limit=tree.args.get("limit") is not None or tree.args.get("fetch") is not None,
        has_offset=tree.args.get("offset") is not None,
        locks_rows=any(True for _ in tree.find_all(exp.Lock)),
        is_aggregate=bool(tree.args.get("group") or tree.args.get("distinct"))
        or any(_aggregates(column) for column in selected),
        assigned=tuple(
            _name(each.this.this)
            for each in (tree.expressions if isinstance(tree, exp.Update) else ())
            if isinstance(each, exp.EQ) and isinstance(each.this, exp.Column)
        ),
        copies_rows=isinstance(tree, exp.Insert) and isinstance(tree.expression, exp.Query),
        is_upsert=isinstance(tree, exp.Insert) and bool(tree.args.get("conflict") or tree.args.get("alternative")),
        written=tuple(dict.fromkeys(_list_written(tree))),
        starred=tuple(dict.fromkeys(_list_starred(tree, named))),
    )


def _list_written(tree: Any) -> Iterator[str]:
    from sqlglot import exp  # noqa: PLC0415

    for write in tree.find_all(exp.Insert, exp.Update, exp.Delete, exp.Merge):
        table = write.this.this if isinstance(write.this, exp.Schema) else write.this
        if isinstance(table, exp.Table) and table.name:
            yield _name_table(table)


def _list_starred(query: Any, ctes: dict[str, Any]) -> Iterator[str]:
    """Yield the tables that a query takes whole; *ctes* are the named queries that it may read from."""
    from sqlglot import exp  # noqa: PLC0415

    while isinstance(query, exp.SetOperation | exp.Subquery):
        query = query.this  # the first part of a UNION names the columns of all
    if not isinstance(query, exp.Select):
        return
    sources = list(_sources(query))
    for column in query.expressions:
        if isinstance(column, exp.Star):
            chosen = sources
        elif isinstance(column, exp.Column) and isinstance(column.this, exp.Star):
            chosen = [source for source in sources if source.alias_or_name.lower() == column.table.lower()]
        else:
            continue
        for source in chosen:
            if isinstance(source, exp.Subquery):
                yield from _list_starred(source, ctes)
            elif isinstance(source, exp.Table) and source.name.lower() in ctes and not source.args.get("db"):
                name = source.name.lower()
                yield from _list_starred(ctes[name], {each: ctes[each] for each in ctes if each != name})
            elif isinstance(source, exp.Table) and isinstance(source.this, exp.Identifier):
                yield _name_table(source)


def _aggregates(column: Any) -> bool:
    from sqlglot import exp  # noqa: PLC0415

    # A subquery's aggregate is the subquery's, and a window's keeps every row.
    return any(found.find_ancestor(exp.Window, exp.Subquery) is None for found in column.find_all(exp.AggFunc))


def _read_tables(tree: Any) -> Iterator[TablePredicates]:
    from sqlglot import exp  # noqa: PLC0415

    ctes = {cte.alias_or_name.lower() for cte in tree.find_all(exp.CTE)}
    scopes: dict[int, dict[str, _Instance]] = {}
    # Outer queries come first, so that a column of theirs is known inside.
    for query in tree.find_all(exp.Select, exp.Update, exp.Delete):
        own = {instance.alias.lower(): instance for instance in _read_instances(query, ctes)}
        scopes[id(query)] = own
        _read_query(query, _Names(query, scopes))
    for own in scopes.values():
        for instance in own.values():
            yield instance.freeze()


class _Names:
    """Which instance a column belongs to, seen from one query."""

    def __init__(self, query: Any, scopes: dict[int, dict[str, _Instance]]) -> None:
        self.query = query
        self.own = scopes[id(query)]
        self._scopes = scopes
        self._sources = len(list(_sources(query)))

    def find(self, column: Any) -> _Instance | None:
        """Return the instance of this query or of an outer one; None if it cannot be told."""
        alias = column.table.lower()
        if not alias:
            # With a subquery in FROM beside the table it could be either's.
            return next(iter(self.own.values())) if len(self.own) == self._sources == 1 else None
        query = self.query
        while query is not None:
            found = self._scopes.get(id(query), {}).get(alias)
            if found is not None:
                return found
            query = query.parent_select
        return None


def _sources(query: Any) -> Iterator[Any]:
    from sqlglot import exp  # noqa: PLC0415

    if isinstance(query, exp.Select):
        clause = query.args.get("from_") or query.args.get("from")
        if clause is not None:
            yield clause.this
        joins = query.args.get("joins") or ()
    else:
        yield query.this
        clause = query.args.get("from_") or query.args.get("from")
        using = query.args.get("using") or ()
        yield from using if isinstance(using, list) else ()
        if clause is not None:
            yield clause.this
        joins = ()
    for join in joins:
        yield join.this


def _read_instances(query: Any, ctes: set[str]) -> Iterator[_Instance]:
    from sqlglot import exp  # noqa: PLC0415

    for source in _sources(query):
        if isinstance(source, exp.Table) and source.name and source.name.lower() not in ctes:
            yield _Instance(_name_table(source), source.alias_or_name)


def _name_table(table: Any) -> str:
    return f"{_name(table.args['db'])}.{_name(table.this)}" if table.args.get("db") else _name(table.this)


def _name(identifier: Any) -> str:
    # Unquoted names are folded to lower case by PostgreSQL and have no case on SQLite and MySQL.
    name: str = identifier.name
    return name if identifier.args.get("quoted") else name.lower()


def _read_query(query: Any, names: _Names) -> None:
    from sqlglot import exp  # noqa: PLC0415

    where = query.args.get("where")
    conditions = [where.this] if where is not None else []
    # Only an inner join's ON leaves out rows of both sides; for the other kinds it still is how the table is entered.
    conditions += [join.args["on"] for join in query.args.get("joins") or () if join.args.get("on") is not None]
    for condition in conditions:
        for conjunct in _split_and(condition):
            _read_condition(conjunct, names)
    if isinstance(query, exp.Select):
        for column in query.expressions:
            _read_projection(column, names)
        group = query.args.get("group")
        for column in group.expressions if group is not None else ():
            if isinstance(column, exp.Column) and (instance := names.find(column)):
                instance.add("group", _name(column.this))
        _read_order(query, names)
        if query.args.get("limit") is not None or query.args.get("fetch") is not None:
            for own in names.own.values():
                own.has_limit = True


def _read_projection(column: Any, names: _Names) -> None:
    from sqlglot import exp  # noqa: PLC0415

    if isinstance(column, exp.Star):
        for own in names.own.values():
            own.add("projected", "*")
        return
    for found in column.find_all(exp.Column):
        if found.find_ancestor(exp.Select) is names.query and (instance := names.find(found)):
            instance.add("projected", "*" if isinstance(found.this, exp.Star) else _name(found.this))


def _read_order(query: Any, names: _Names) -> None:
    from sqlglot import exp  # noqa: PLC0415

    clause = query.args.get("order")
    owners: dict[int, _Instance] = {}
    columns: list[str] = []
    for ordered in clause.expressions if clause is not None else ():
        column = ordered.this
        instance = names.find(column) if isinstance(column, exp.Column) else None
        if instance is None:
            return
        owners[id(instance)] = instance
        columns.append(f"{_name(column.this)} DESC" if ordered.args.get("desc") else _name(column.this))
    if len(owners) == 1:
        next(iter(owners.values())).order = tuple(columns)


def _split_and(condition: Any) -> Iterator[Any]:
    from sqlglot import exp  # noqa: PLC0415

    if isinstance(condition, exp.Paren):
        yield from _split_and(condition.this)
    elif isinstance(condition, exp.And):
        yield from _split_and(condition.left)
        yield from _split_and(condition.right)
    else:
        yield condition


def _read_condition(condition: Any, names: _Names) -> None:
    from sqlglot import exp  # noqa: PLC0415

    if isinstance(condition, exp.EQ | exp.NullSafeEQ):
        _read_comparison(condition, names, "equality")
    elif isinstance(condition, exp.LT | exp.LTE | exp.GT | exp.GTE):
        _read_comparison(condition, names, "range")
    elif isinstance(condition, exp.Between):
        _add(condition.this, names, "range", bounds=("low", "high"))
    elif isinstance(condition, exp.In):
        _add(condition.this, names, "listed")
    elif isinstance(condition, exp.Is) and isinstance(condition.expression, exp.Null):
        _add(condition.this, names, "is_null")
    elif isinstance(condition, exp.Or):
        columns = {column.sql(): column for column in _or_columns(condition)}
        if len(columns) == 1:
            _add(next(iter(columns.values())), names, "listed")


def _or_columns(condition: Any) -> Iterator[Any]:
    """Yield the column of each branch, and the branch itself where it is anything but `column = value`."""
    from sqlglot import exp  # noqa: PLC0415

    if isinstance(condition, exp.Paren):
        yield from _or_columns(condition.this)
    elif isinstance(condition, exp.Or):
        yield from _or_columns(condition.left)
        yield from _or_columns(condition.right)
    elif isinstance(condition, exp.EQ) and isinstance(condition.this, exp.Column) and _is_value(condition.expression):
        yield condition.this
    else:
        yield condition


def _read_comparison(condition: Any, names: _Names, role: str) -> None:
    from sqlglot import exp  # noqa: PLC0415

    left, right = condition.left.unnest(), condition.right.unnest()
    if isinstance(left, exp.Column) and isinstance(right, exp.Column):
        sides = names.find(left), names.find(right)
        if role == "equality" and sides[0] is not sides[1]:
            for column, instance in zip((left, right), sides, strict=True):
                if instance is not None:
                    instance.add("join", _name(column.this))
        return
    # `= ANY(array)` is PostgreSQL's way to write IN.
    if role == "equality" and isinstance(right, exp.Any):
        role = "listed"
    lower = isinstance(condition, exp.GT | exp.GTE)
    if _is_value(right):
        _add(left, names, role, bounds=("low",) if lower else ("high",))
    elif _is_value(left):
        _add(right, names, role, bounds=("high",) if lower else ("low",))


def _add(column: Any, names: _Names, role: str, bounds: Iterable[str] = ()) -> None:
    from sqlglot import exp  # noqa: PLC0415

    column = column.unnest()
    if isinstance(column, exp.Column) and (instance := names.find(column)) is not None:
        instance.add(role, _name(column.this))
        if role == "range":
            instance.bounds.setdefault(_name(column.this), set()).update(bounds)


def _is_value(side: Any) -> bool:
    """Whether a side is known before the table is read: it holds no column, but for those of its own subquery."""
    from sqlglot import exp  # noqa: PLC0415

    return isinstance(side, exp.Subquery) or side.find(exp.Column) is None
