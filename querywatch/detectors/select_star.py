"""SELECT *: every column of a table is read, whether anything uses it or not.

In:  a closed scope.
Out: one finding for each statement and line.

Only the outermost query and only real tables, since a `*` over a subquery that names its columns reads what it names,
and EXISTS (SELECT *) reads nothing. And only where it matters: of one narrow row nobody should have to name columns.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from querywatch.predicates import parse_facts
from querywatch.records import Finding, ScopeQuery, ScopeRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from querywatch.config import Config

CODE = "select-star"

# What a result must have, either of them, to be worth a word.
_COLUMNS = 10
_ROWS = 2
_CATALOGS = ("pg_", "sqlite_", "information_schema.", "mysql.", "performance_schema.", "sys.")


@dataclass(frozen=True, slots=True)
class SelectStarEvidence:
    """What a scope showed.

    Args:
        sql: The statement, literals as `?`.
        columns: Columns of the result, None where not known.
        rows: Rows of the largest result, None where not known.
        scopes: Scopes that had it so far.
    """

    sql: str
    columns: int | None
    rows: int | None
    scopes: int = 1

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    def with_scopes(self, scopes: int) -> SelectStarEvidence:
        """Return the same with another number of scopes."""
        return replace(self, scopes=scopes)


def detect(scope: ScopeRecord, config: Config) -> Iterator[Finding]:  # noqa: ARG001 - as every detector
    """Yield the statements of one scope that take all columns.

    Args:
        scope: What ran.
        config: Nothing of it is used.
    """
    groups: dict[object, list[ScopeQuery]] = defaultdict(list)
    for query in scope.queries:
        if query.fingerprint.operation == "SELECT" and "*" in query.statement and _is_large(query):
            groups[query.fingerprint.id, query.database, query.call_site].append(query)
    for queries in groups.values():
        facts = parse_facts(queries[0].statement, queries[0].dialect)
        tables = [table for table in facts.starred if not table.startswith(_CATALOGS)] if facts is not None else []
        if tables:
            yield _build(scope, queries, tables[0])


def _is_large(query: ScopeQuery) -> bool:
    return (query.columns or 0) >= _COLUMNS or (query.max_rows or 0) >= _ROWS


def _build(scope: ScopeRecord, queries: list[ScopeQuery], table: str) -> Finding:
    query = max(queries, key=lambda each: each.calls)
    columns = f"all {query.columns} columns" if query.columns is not None else "all columns"
    rows = f" of {query.max_rows:,} rows" if query.max_rows is not None and query.max_rows > 1 else ""
    where = f"at {query.call_site}" if query.call_site is not None else f"from {table}"
    seen_at = scope.started_at + scope.duration_s
    return Finding(
        code=CODE,
        kind=None,
        severity="info",
        message=f"SELECT * on {table} reads {columns}{rows}.",
        fix=f"Name the columns that are used in place of * in the SELECT {where}.",
        fix_kind="name_columns",
        subject=table,
        database=query.database,
        fingerprint=query.fingerprint.id,
        call_site=query.call_site,
        scope=scope.name,
        count=sum(each.calls for each in queries),
        total_s=None,
        first_seen_at=seen_at,
        last_seen_at=seen_at,
        evidence=SelectStarEvidence(sql=query.fingerprint.sql, columns=query.columns, rows=query.max_rows),
    )
