from __future__ import annotations

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


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        pytest.param(
            "SELECT * FROM a JOIN b ON a.id = b.id LIMIT ? OFFSET ?",
            StatementFacts(
                "SELECT",
                ("a", "b"),
                has_limit=True,
                has_offset=True,
                locks_rows=False,
                is_aggregate=False,
                starred=("a", "b"),
            ),
            id="limit-and-offset",
        ),
        pytest.param(
            "SELECT max(id) FROM a WHERE id IN (SELECT id FROM b LIMIT 1) FOR UPDATE",
            StatementFacts("SELECT", ("a", "b"), has_limit=False, has_offset=False, locks_rows=True, is_aggregate=True),
            id="aggregate-and-lock",
        ),
        pytest.param(
            "SELECT id, (SELECT count(*) FROM b), sum(x) OVER () FROM a",
            StatementFacts(
                "SELECT", ("a", "b"), has_limit=False, has_offset=False, locks_rows=False, is_aggregate=False
            ),
            id="others-aggregates",
        ),
        pytest.param(
            "UPDATE a SET x = 1",
            StatementFacts(
                "UPDATE",
                ("a",),
                has_limit=False,
                has_offset=False,
                locks_rows=False,
                is_aggregate=False,
                assigned=("x",),
            ),
            id="update",
        ),
        pytest.param("nonsense (((", None, id="nonsense"),
    ],
)
def test_reads_facts(sql, expected):
    facts = parse_facts(sql, "postgresql")
    if expected is not None:
        assert set(facts.tables) == set(expected.tables)
        facts = StatementFacts(**{**{f: getattr(facts, f) for f in facts.__slots__}, "tables": expected.tables})
    assert facts == expected


def test_the_parser_loads_only_when_it_is_used():
    code = (
        "import querywatch.predicates, querywatch.explain, querywatch.advisor, querywatch.dialects, sys\n"
        "sys.exit('sqlglot' in sys.modules or 'sqlalchemy.ext.asyncio' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
