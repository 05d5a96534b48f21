from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from querywatch.predicates import StatementFacts, TablePredicates, parse_facts, parse_predicates

CASES = [
    pytest.param(
        "postgresql",
        "SELECT orders.id FROM orders WHERE orders.user_id = %(user)s::INTEGER AND orders.status = 'secret' "
        "ORDER BY orders.created_at DESC LIMIT %(n)s",
        [
            TablePredicates(
                "orders",
                "orders",
                equality=("user_id", "status"),
                order=("created_at DESC",),
                projected=("id",),
                has_limit=True,
            )
        ],
        id="equality-and-order",
    ),
    pytest.param(
        "sqlite",
        "SELECT * FROM orders WHERE created_at >= ? AND created_at < ? AND total > ? AND id IN (1, 2, 3)",
        [
            TablePredicates(
                "orders",
                "orders",
                listed=("id",),
                range=("created_at", "total"),
                bounded=("created_at",),
                projected=("*",),
            )
        ],
        id="ranges-and-a-list",
    ),
    pytest.param(
        "postgresql",
        "SELECT u.email FROM users AS u JOIN orders o ON o.user_id = u.id WHERE o.deleted_at IS NULL AND u.id = $1",
        [
            TablePredicates("users", "u", equality=("id",), join=("id",), projected=("email",)),
            TablePredicates("orders", "o", is_null=("deleted_at",), join=("user_id",)),
        ],
        id="join",
    ),
    pytest.param(
        "postgresql",
        "SELECT id FROM users u WHERE EXISTS (SELECT 1 FROM orders o WHERE o.user_id = u.id AND o.status = ANY($1))",
        [
            TablePredicates("users", "u", join=("id",), projected=("id",)),
            TablePredicates("orders", "o", listed=("status",), join=("user_id",)),
        ],
        id="correlated-subquery-and-any",
    ),
    pytest.param(
        "sqlite",
        "SELECT a.id FROM orders a, orders b WHERE a.id = b.parent_id AND b.user_id = ?",
        [
            TablePredicates("orders", "a", join=("id",), projected=("id",)),
            TablePredicates("orders", "b", equality=("user_id",), join=("parent_id",)),
        ],
        id="two-instances-of-one-table",
    ),
    pytest.param(
        "sqlite",
        "SELECT id FROM orders WHERE (status = ? OR status = ?) AND (user_id = ? OR total = ?)",
        [TablePredicates("orders", "orders", listed=("status",), projected=("id",))],
        id="or-of-one-column-is-a-list-of-two-it-is-nothing",
    ),
    pytest.param(
        "sqlite",
        "SELECT id FROM users, orders WHERE status = ?",
        [TablePredicates("users", "users"), TablePredicates("orders", "orders")],
        id="whose-column-it-is-cannot-be-told",
    ),
    pytest.param(
        "postgresql",
        'UPDATE shop."Order" SET status = %s WHERE "userId" = %s',
        [TablePredicates("shop.Order", "Order", equality=("userId",))],
        id="update-with-schema-and-quotes",
    ),
    pytest.param(
        "sqlite",
        "DELETE FROM Orders WHERE ID = ?",
        [TablePredicates("orders", "Orders", equality=("id",))],
        id="delete",
    ),
    pytest.param(
        "postgresql",
        "WITH recent AS (SELECT * FROM orders WHERE created_at > now()) SELECT user_id FROM recent WHERE status = ?",
        [TablePredicates("orders", "orders", range=("created_at",), projected=("*",))],
        id="a-cte-is-no-table",
    ),
    pytest.param(
        "sqlite",
        "SELECT status, count(*) FROM orders WHERE lower(email) = ? GROUP BY status ORDER BY count(*)",
        [TablePredicates("orders", "orders", group=("status",), projected=("status",))],
        id="expressions-are-no-columns",
    ),
    pytest.param("sqlite", "nonsense (((", [], id="nonsense"),
    pytest.param("postgresql", "\0 SELECT", [], id="nul"),
    pytest.param("sqlite", "", [], id="empty"),
    pytest.param("sqlite", "INSERT INTO orders (id) VALUES (?)", [], id="insert"),
    pytest.param("klingon", "SELECT id FROM", [], id="unknown-dialect"),
]


@pytest.mark.parametrize(("dialect", "sql", "expected"), CASES)
def test_reads_columns_by_role(dialect, sql, expected):
    assert list(parse_predicates(sql, dialect)) == expected


def facts_of(operation, *tables, **changes):
    plain = {"has_limit": False, "has_offset": False, "locks_rows": False, "is_aggregate": False}
    plain["written"] = () if operation == "SELECT" else tables[:1]
    return StatementFacts(operation, tables, **(plain | changes))


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        pytest.param(
            "SELECT * FROM a JOIN b ON a.id = b.id LIMIT ? OFFSET ?",
            facts_of("SELECT", "a", "b", has_limit=True, has_offset=True, starred=("a", "b")),
            id="limit-and-offset",
        ),
        pytest.param(
            "SELECT max(id) FROM a WHERE id IN (SELECT id FROM b LIMIT 1) FOR UPDATE",
            facts_of("SELECT", "a", "b", locks_rows=True, is_aggregate=True),
            id="aggregate-and-lock",
        ),
        pytest.param(
            "SELECT id FROM a ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED",
            facts_of("SELECT", "a", has_limit=True, locks_rows=True),
            id="a-queue",
        ),
        pytest.param("SELECT id FROM a FOR SHARE", facts_of("SELECT", "a", locks_rows=True), id="for-share"),
        pytest.param(
            "SELECT id, (SELECT count(*) FROM b), sum(x) OVER () FROM a",
            facts_of("SELECT", "a", "b"),
            id="others-aggregates",
        ),
        pytest.param("SELECT status FROM a GROUP BY status", facts_of("SELECT", "a", is_aggregate=True), id="group"),
        pytest.param("SELECT DISTINCT status FROM a", facts_of("SELECT", "a", is_aggregate=True), id="distinct"),
        pytest.param("UPDATE a SET x = 1", facts_of("UPDATE", "a", assigned=("x",)), id="update"),
        pytest.param(
            'UPDATE a SET X = ?, "Y" = y + 1, z = (SELECT max(id) FROM b) WHERE w = ?',
            facts_of("UPDATE", "a", "b", assigned=("x", "Y", "z")),
            id="update-of-several-columns",
        ),
        pytest.param("DELETE FROM a WHERE x = 1", facts_of("DELETE", "a"), id="delete"),
        pytest.param("INSERT INTO a (id) VALUES (?)", facts_of("INSERT", "a"), id="insert"),
        pytest.param("INSERT INTO a (id) VALUES (?) RETURNING id", facts_of("INSERT", "a"), id="insert-returning"),
        pytest.param(
            "INSERT INTO a (id) SELECT id FROM b WHERE c = ?",
            facts_of("INSERT", "a", "b", copies_rows=True),
            id="insert-from-select",
        ),
        pytest.param(
            "INSERT INTO a (id) SELECT id FROM b UNION ALL SELECT id FROM c",
            facts_of("INSERT", "a", "b", "c", copies_rows=True),
            id="insert-from-union",
        ),
        pytest.param(
            "INSERT INTO a (id) VALUES ((SELECT max(id) FROM b))",
            facts_of("INSERT", "a", "b"),
            id="insert-of-one-looked-up",
        ),
        pytest.param(
            "INSERT INTO a (id, n) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET n = excluded.n",
            facts_of("INSERT", "a", is_upsert=True),
            id="upsert",
        ),
        pytest.param(
            "INSERT INTO a (id) VALUES (?) ON CONFLICT DO NOTHING",
            facts_of("INSERT", "a", is_upsert=True),
            id="or-nothing",
        ),
        pytest.param("nonsense (((", None, id="nonsense"),
    ],
)
def test_reads_facts(sql, expected):
    found = parse_facts(sql, "postgresql")
    if expected is not None:
        assert set(found.tables) == set(expected.tables)
        found = dataclasses.replace(found, tables=expected.tables)
    assert found == expected


@pytest.mark.parametrize(
    ("dialect", "sql"),
    [
        pytest.param("sqlite", "INSERT OR REPLACE INTO a (id) VALUES (?)", id="sqlite-or-replace"),
        pytest.param("sqlite", "INSERT OR IGNORE INTO a (id) VALUES (?)", id="sqlite-or-ignore"),
        pytest.param(
            "sqlite", "INSERT INTO a (id) VALUES (?) ON CONFLICT (id) DO UPDATE SET n = ?", id="sqlite-on-conflict"
        ),
        pytest.param(
            "mysql", "INSERT INTO a (id) VALUES (%s) ON DUPLICATE KEY UPDATE n = %s", id="mysql-on-duplicate-key"
        ),
    ],
)
def test_an_upsert_is_told_on_each_database(dialect, sql):
    assert parse_facts(sql, dialect).is_upsert


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        pytest.param("UPDATE shop.a SET x = 1 FROM b WHERE a.id = b.id", ("shop.a",), id="update-from"),
        pytest.param("INSERT INTO a (id) SELECT id FROM b", ("a",), id="insert-from"),
        pytest.param(
            "WITH gone AS (DELETE FROM a RETURNING id) INSERT INTO b (id) SELECT id FROM gone",
            ("a", "b"),
            id="in-a-cte",
        ),
        pytest.param(
            "WITH gone AS (DELETE FROM a RETURNING id) SELECT id FROM gone", ("a",), id="a-select-that-writes"
        ),
        pytest.param("SELECT id FROM a FOR UPDATE", (), id="a-lock-writes-nothing"),
    ],
)
def test_tables_that_are_written(sql, tables):
    assert set(parse_facts(sql, "postgresql").written) == set(tables)


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        pytest.param("SELECT * FROM a", ("a",), id="all"),
        pytest.param("SELECT id FROM a", (), id="columns"),
        pytest.param("SELECT count(*) FROM a", (), id="count"),
        pytest.param(
            "SELECT o.*, u.name FROM orders o JOIN users u ON u.id = o.user_id", ("orders",), id="of-one-alias"
        ),
        pytest.param("SELECT * FROM (SELECT * FROM a) AS s", ("a",), id="through-a-subquery"),
        pytest.param("SELECT * FROM (SELECT id FROM a) AS s", (), id="of-a-subquery-that-names-its-columns"),
        pytest.param("WITH c AS (SELECT * FROM a) SELECT * FROM c", ("a",), id="through-a-cte"),
        pytest.param("WITH c AS (SELECT id FROM a) SELECT * FROM c", (), id="of-a-cte-that-names-its-columns"),
        pytest.param(
            "WITH RECURSIVE c AS (SELECT * FROM a UNION ALL SELECT * FROM c) SELECT * FROM c", ("a",), id="recursive"
        ),
        pytest.param("SELECT * FROM a UNION SELECT * FROM b", ("a",), id="union"),
        pytest.param("SELECT id FROM a WHERE EXISTS (SELECT * FROM b)", (), id="in-an-exists"),
        pytest.param("SELECT * FROM shop.a", ("shop.a",), id="with-a-schema"),
        pytest.param("SELECT * FROM generate_series(1, 3)", (), id="of-a-function"),
    ],
)
def test_tables_that_are_taken_whole(sql, tables):
    assert parse_facts(sql, "postgresql").starred == tables


def test_the_parser_loads_only_when_it_is_used():
    code = (
        "import querywatch.predicates, querywatch.explain, querywatch.advisor, querywatch.dialects, sys\n"
        "sys.exit('sqlglot' in sys.modules or 'sqlalchemy.ext.asyncio' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
