import logging
import os
import subprocess
import sys
import threading

import pytest
import sqlglot
from sqlalchemy import Column, DateTime, Integer, MetaData, Numeric, String, Table, func, insert, select, tuple_
from sqlalchemy.dialects.mysql import pymysql
from sqlalchemy.dialects.postgresql import asyncpg, psycopg, psycopg2
from sqlalchemy.dialects.sqlite import pysqlite

from querywatch.fingerprint import FINGERPRINT_VERSION, PARSE_LIMIT, SQL_LIMIT, SUMMARY_LIMIT, take_fingerprint
from querywatch.shape import take_shape

ORDERS_2_0 = (
    "SELECT orders.id AS orders_id, orders.user_id AS orders_user_id, orders.total AS orders_total \n"
    "FROM orders \nWHERE %s = orders.user_id"
)
ORDERS_2_1 = "SELECT orders.id, orders.user_id, orders.total \nFROM orders \nWHERE %s = orders.user_id"
USER_2_0 = "SELECT users.id AS users_id, users.name AS users_name \nFROM users \nWHERE users.id = %s"
USER_2_1 = "SELECT users.id, users.name \nFROM users \nWHERE users.id = %s"
BIO_2_0 = "SELECT users.bio AS users_bio \nFROM users \nWHERE users.id = %s"
BIO_2_1 = "SELECT users.bio \nFROM users \nWHERE users.id = %s"
TAGS_2_0 = (
    "SELECT tags.id AS tags_id, tags.label AS tags_label \n"
    "FROM tags, user_tags \nWHERE %s = user_tags.user_id AND tags.id = user_tags.tag_id"
)
TAGS_2_1 = (
    "SELECT tags.id, tags.label \nFROM tags, user_tags \nWHERE %s = user_tags.user_id AND tags.id = user_tags.tag_id"
)
PAGE = (
    "SELECT anon_1.id, anon_1.name, orders_1.id AS id_1 \nFROM (SELECT users.id AS id, users.name AS name \n"
    "FROM users ORDER BY users.name\n LIMIT ? OFFSET ?) AS anon_1 "
    "LEFT OUTER JOIN orders AS orders_1 ON anon_1.id = orders_1.user_id ORDER BY anon_1.name"
)

#: Ids that dashboards and stores of users hold. A change here is a change of FINGERPRINT_VERSION.
GOLDEN = [
    ("8e875d23db6f6bfb", "sqlite", ORDERS_2_0.replace("%s", "?")),
    ("8e875d23db6f6bfb", "sqlite", ORDERS_2_1.replace("%s", "?")),
    ("8e875d23db6f6bfb", "postgresql", ORDERS_2_0.replace("%s", "%(param_1)s::INTEGER")),
    ("8e875d23db6f6bfb", "postgresql", ORDERS_2_1.replace("%s", "$1::INTEGER")),
    ("8e875d23db6f6bfb", "mysql", ORDERS_2_1),
    ("248737611044a510", "sqlite", USER_2_0.replace("%s", "?")),
    ("248737611044a510", "sqlite", USER_2_1.replace("%s", "?")),
    ("248737611044a510", "postgresql", USER_2_0.replace("%s", "%(pk_1)s")),
    ("a499362682001f94", "sqlite", BIO_2_0.replace("%s", "?")),
    ("a499362682001f94", "sqlite", BIO_2_1.replace("%s", "?")),
    ("e1ff5bb7bc299273", "sqlite", TAGS_2_0.replace("%s", "?")),
    ("e1ff5bb7bc299273", "sqlite", TAGS_2_1.replace("%s", "?")),
    ("525b095f17165b80", "sqlite", PAGE),
    ("8ed2199b491329a5", "sqlite", "SELECT users.id \nFROM users \nWHERE users.id IN (?, ?)"),
    (
        "8ed2199b491329a5",
        "sqlite",
        "SELECT users.id \nFROM users \nWHERE users.id IN (SELECT 1 FROM (SELECT 1) WHERE 1!=1)",
    ),
    ("8ed2199b491329a5", "postgresql", "SELECT users.id \nFROM users \nWHERE users.id IN (NULL) AND (1 != 1)"),
    ("9b1a85d786fb176d", "sqlite", "INSERT INTO users (name, age) VALUES (?, ?)"),
    (
        "9b1a85d786fb176d",
        "postgresql",
        "INSERT INTO users (name, age) VALUES ($1::VARCHAR, $2::INTEGER), ($3::VARCHAR, $4::INTEGER)",
    ),
    ("773ea534015a7d0f", "postgresql", "INSERT INTO users (name) VALUES (%(name)s) RETURNING users.id"),
    ("6c2821439a9577ad", "sqlite", "UPDATE users SET name=? WHERE users.id = ?"),
    ("466fb33a85b7005b", "sqlite", "DELETE FROM orders WHERE orders.id IN (?, ?)"),
    ("9e42fc09d0ef20a8", "sqlite", "BEGIN"),
    ("a4e560eb5527b91f", "postgresql", "EXPLAIN ANALYZE SELECT a FROM b"),
]


@pytest.mark.parametrize(("expected", "dialect", "sql"), GOLDEN)
def test_golden_ids(expected, dialect, sql):
    assert FINGERPRINT_VERSION == 1
    assert take_fingerprint(take_shape(sql, dialect), dialect).id == expected


@pytest.mark.parametrize(
    ("dialect", "first", "second"),
    [
        pytest.param("postgresql", "select A from t", "SELECT A\nFROM t -- c", id="case-space-comment"),
        pytest.param("postgresql", "SELECT a FROM t u WHERE b<>1", "SELECT a FROM t AS u WHERE b != 2", id="spelling"),
        pytest.param("sqlite", "SELECT a AS x FROM t", "SELECT a FROM t", id="alias"),
        pytest.param("sqlite", "SELECT count(*) AS n FROM t", "SELECT COUNT(*) FROM t", id="alias-of-expression"),
        pytest.param(
            "sqlite",
            "SELECT a AS x FROM t UNION SELECT b AS x FROM u",
            "SELECT a FROM t UNION SELECT b FROM u",
            id="alias-in-union",
        ),
        pytest.param(
            "postgresql",
            "INSERT INTO t (a) VALUES (1) RETURNING t.id AS id_1",
            "INSERT INTO t (a) VALUES (1) RETURNING t.id",
            id="alias-in-returning",
        ),
        pytest.param(
            "postgresql", "SELECT a FROM t WHERE b = TRUE", "SELECT a FROM t WHERE b = $1", id="boolean-is-a-value"
        ),
        pytest.param("postgresql", "UPDATE t SET a = NULL", "UPDATE t SET a = 'x'", id="null-is-a-value"),
        pytest.param("sqlite", "SELECT a FROM t WHERE b = -1", "SELECT a FROM t WHERE b = 1", id="sign"),
        pytest.param(
            "postgresql",
            "SELECT a FROM t WHERE b = DATE '2020-01-01'",
            "SELECT a FROM t WHERE b = $1::DATE",
            id="typed",
        ),
        pytest.param(
            "postgresql",
            "SELECT a FROM t WHERE b = CAST(%(b)s AS INTEGER)",
            "SELECT a FROM t WHERE b = %(b)s",
            id="cast",
        ),
        pytest.param(
            "postgresql",
            "SELECT a FROM t WHERE b > now() - interval '1 day'",
            "SELECT a FROM t WHERE b > now() - $1::INTERVAL",
            id="interval",
        ),
        pytest.param(
            "postgresql",
            "SELECT a FROM t WHERE b = ANY (%(p)s::INTEGER[])",
            "SELECT a FROM t WHERE b IN (1, 2)",
            id="any-is-in",
        ),
        pytest.param(
            "postgresql",
            "SELECT a FROM t WHERE b = ANY (ARRAY[1, 2])",
            "SELECT a FROM t WHERE b IN (1)",
            id="any-of-array-is-in",
        ),
        pytest.param(
            "postgresql",
            "SELECT a FROM t WHERE b <> ALL ($1)",
            "SELECT a FROM t WHERE b NOT IN ($1, $2)",
            id="all-is-not-in",
        ),
        pytest.param("postgresql", "SELECT ARRAY[1, 2, 3]", "SELECT ARRAY[1]", id="array"),
        pytest.param(
            "sqlite",
            "SELECT a FROM t WHERE (b, c) IN (VALUES (?, ?), (?, ?))",
            "SELECT a FROM t WHERE (b, c) IN (VALUES (?, ?))",
            id="tuples",
        ),
        pytest.param(
            "sqlite",
            "INSERT INTO t VALUES (?, now()), (?, now())",
            "INSERT INTO t VALUES (?, now())",
            id="rows-with-a-call",
        ),
        pytest.param(
            "postgresql", "select a from t where d ? 'k'", "SELECT a FROM t WHERE d ? 'l'", id="question-mark-operator"
        ),
        pytest.param("mssql", "SELECT TOP 5 a FROM t;", "select top 6 a from t", id="by-tokens"),
    ],
)
def test_same_statement(dialect, first, second):
    one, other = (take_fingerprint(take_shape(sql, dialect), dialect) for sql in (first, second))
    assert (one.sql, one.id) == (other.sql, other.id)


@pytest.mark.parametrize(
    ("dialect", "first", "second"),
    [
        pytest.param("sqlite", "SELECT a FROM t", "SELECT a FROM u", id="table"),
        pytest.param("sqlite", "SELECT a FROM t", 'SELECT "a" FROM t', id="quoted-name"),
        pytest.param("sqlite", "SELECT a, b FROM t", "SELECT b, a FROM t", id="order-of-columns"),
        pytest.param("sqlite", "SELECT a FROM t WHERE b = 1", "SELECT a FROM t WHERE b > 1", id="operator"),
        pytest.param("sqlite", "SELECT a FROM t WHERE b = 1", "SELECT a FROM t WHERE b IN (1)", id="equal-and-in"),
        pytest.param("sqlite", "SELECT a FROM t WHERE b IS NULL", "SELECT a FROM t WHERE b IS NOT NULL", id="is-null"),
        pytest.param("sqlite", "SELECT a FROM t WHERE b IS NULL", "SELECT a FROM t WHERE b = NULL", id="null-operator"),
        pytest.param(
            "postgresql", "SELECT a FROM t WHERE d ? 'k'", "SELECT a FROM t WHERE d ?| 'k'", id="json-operator"
        ),
        pytest.param("sqlite", "SELECT a FROM t", "SELECT a FROM t LIMIT 1", id="limit"),
        pytest.param("sqlite", "SELECT a FROM t", "SELECT DISTINCT a FROM t", id="distinct"),
        pytest.param("sqlite", "SELECT f(1) FROM t", "SELECT f(1, 2) FROM t", id="number-of-arguments"),
        pytest.param(
            "sqlite",
            "SELECT x.y FROM (SELECT a AS y, b AS z FROM t) AS x",
            "SELECT x.y FROM (SELECT b AS y, a AS z FROM t) AS x",
            id="alias-in-subquery",
        ),
        pytest.param(
            "sqlite",
            "SELECT sum(a) AS x, sum(b) AS y FROM t ORDER BY x",
            "SELECT sum(a) AS y, sum(b) AS x FROM t ORDER BY x",
            id="alias-that-is-used",
        ),
        pytest.param(
            "postgresql", "SELECT a AS x INTO n FROM t", "SELECT a AS y INTO n FROM t", id="alias-that-is-a-column"
        ),
        pytest.param(
            "postgresql", "INSERT INTO t (a) VALUES (1)", "INSERT INTO t (a) VALUES (1) RETURNING id", id="returning"
        ),
        pytest.param("postgresql", "SELECT a FROM t", "SELECT a FROM t FOR UPDATE", id="lock"),
    ],
)
def test_different_statements(dialect, first, second):
    one, other = (take_fingerprint(take_shape(sql, dialect), dialect) for sql in (first, second))
    assert one.id != other.id


@pytest.mark.parametrize(
    ("dialect", "sql", "operation", "tables", "summary"),
    [
        (
            "sqlite",
            "SELECT a FROM users JOIN orders ON 1 JOIN users AS u",
            "SELECT",
            ("users", "orders"),
            "SELECT users orders",
        ),
        ("sqlite", "(SELECT 1 FROM a) UNION SELECT 2 FROM b", "SELECT", ("a", "b"), "SELECT a b"),
        (
            "postgresql",
            'WITH x AS (SELECT 1 FROM "S"."T t") SELECT * FROM b, x',
            "SELECT",
            ("S.T t", "b"),
            "SELECT S.T t b",
        ),
        ("postgresql", "WITH x AS (SELECT 1 FROM a) INSERT INTO b SELECT * FROM x", "INSERT", ("a", "b"), "INSERT a b"),
        ("postgresql", "SELECT * FROM get_users(), unnest(ARRAY[1])", "SELECT", (), "SELECT"),
        (
            "postgresql",
            "UPDATE shop.users SET a = 1 FROM orders o",
            "UPDATE",
            ("shop.users", "orders"),
            "UPDATE shop.users orders",
        ),
        (
            "mysql",
            "DELETE o FROM orders o JOIN users u ON o.a = u.a",
            "DELETE",
            ("orders", "users"),
            "DELETE orders users",
        ),
        ("sqlite", "CREATE TABLE users (id INTEGER DEFAULT 5)", "CREATE", ("users",), "CREATE TABLE users"),
        ("sqlite", "DROP INDEX i", "DROP", ("i",), "DROP INDEX i"),
        ("postgresql", "SAVEPOINT sa_savepoint_1", "SAVEPOINT", (), "SAVEPOINT"),
        ("sqlite", 'PRAGMA main.table_info("users")', "PRAGMA", (), "PRAGMA"),
        ("mssql", "UPDATE TOP (10) orders SET a = 1", "UPDATE", (), "UPDATE"),
        (
            "mssql",
            "SELECT TOP 5 a FROM [my orders] JOIN x.y ON 1 FOR UPDATE",
            "SELECT",
            ("my orders", "x.y"),
            "SELECT my orders x.y",
        ),
        ("postgresql", "SET a = 1; DELETE FROM t; SET a = 2", "SET", ("t",), "SET DELETE t"),
        ("sqlite", "", "", (), ""),
        ("sqlite", "?!", "", (), ""),
    ],
)
def test_names_what_a_statement_does(dialect, sql, operation, tables, summary):
    found = take_fingerprint(take_shape(sql, dialect), dialect)
    assert (found.operation, found.tables, found.summary) == (operation, tables, summary)


def test_the_text_is_for_people():
    sql = "select u.id as x, count(*) from users u where u.name in ('a', 'b') and u.age > 5 group by u.id -- hi"
    assert take_fingerprint(take_shape(sql, "sqlite"), "sqlite").sql == (
        "SELECT u.id, COUNT(*) FROM users AS u WHERE u.name IN (?) AND u.age > ? GROUP BY u.id"
    )


def test_a_text_with_literals_is_reduced_first():
    for dialect in ("postgresql", "mysql", ""):
        for sql in ("SELECT a FROM t WHERE b = 'secret 5'", "VACUUM 'secret' WHAT 5 ((", "EXEC f 'secret', 5"):
            found = take_fingerprint(sql, dialect)
            assert "secret" not in repr(found.sql + found.summary)
            assert "5" not in found.sql


# -- the same everywhere ----------------------------------------------------------------------------------------------

USERS = Table(
    "users",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("name", String(50)),
    Column("price", Numeric(10, 2)),
    Column("created", DateTime(timezone=True)),
)
DRIVERS = {
    "sqlite-qmark": pysqlite.dialect(),
    "sqlite-named": pysqlite.dialect(paramstyle="named"),
    "sqlite-numeric": pysqlite.dialect(paramstyle="numeric"),
    "psycopg": psycopg.dialect(),
    "psycopg2": psycopg2.dialect(),
    "asyncpg": asyncpg.dialect(),
    "pymysql": pymysql.dialect(),
}


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(
            select(USERS).where(USERS.c.id == 1, USERS.c.name == "a", USERS.c.price > 5).order_by(USERS.c.id),
            id="select",
        ),
        pytest.param(insert(USERS).values(id=1, name="a", price=5, created=None).inline(), id="insert"),
        pytest.param(insert(USERS).values([{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]), id="insert-rows"),
        pytest.param(select(USERS.c.id).where(USERS.c.created.in_([None, None]), USERS.c.id.not_in([1])), id="in"),
        pytest.param(select(USERS.c.id).where(USERS.c.name.in_([]), USERS.c.id.not_in([])), id="in-nothing"),
        pytest.param(select(USERS.c.id).where(tuple_(USERS.c.id, USERS.c.name).in_([(1, "a")])), id="in-tuples"),
    ],
)
def test_all_drivers_share_one_id(statement):
    ids = {}
    for driver, dialect in DRIVERS.items():
        sql = str(statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True}))
        ids.setdefault(take_fingerprint(take_shape(sql, dialect.name), dialect.name).id, []).append(driver)
    assert len(ids) == 1, ids


@pytest.mark.parametrize("driver", DRIVERS)
def test_lists_of_any_length_share_one_id(driver):
    dialect = DRIVERS[driver]
    ids = set()
    for length in range(60):
        statement = select(func.count()).where(USERS.c.id.in_(range(length)), USERS.c.name == "a")
        sql = str(statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True}))
        ids.add(take_fingerprint(take_shape(sql, dialect.name), dialect.name).id)
    assert len(ids) == 1


def test_the_id_does_not_depend_on_the_process():
    program = (
        "from querywatch.fingerprint import take_fingerprint as f\n"
        "print(f('SELECT a FROM t WHERE b IN (?) AND c = ?', 'postgresql').id, f('TOP OF x (((', 'sqlite').id)"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "4711")
    }
    parsed = take_fingerprint("SELECT a FROM t WHERE b IN (?) AND c = ?", "postgresql")
    by_tokens = take_fingerprint("TOP OF x (((", "sqlite")
    assert outputs == {f"{parsed.id} {by_tokens.id}\n"}


def test_importing_does_not_load_the_parser():
    program = "import sys, querywatch.fingerprint; sys.exit('sqlglot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# -- whatever comes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        pytest.param("SELECT " + "(" * 3000 + "1" + ")" * 3000, id="deep"),
        pytest.param("SELECT " + "(SELECT " * 500 + "1" + ")" * 500, id="deep-subqueries"),
        pytest.param("SELECT " + "CASE WHEN a THEN " * 300 + "1" + " END" * 300, id="deep-cases"),
        pytest.param("SELECT 1 FROM " + "a JOIN " * 60 + "b", id="joins-without-conditions"),
        pytest.param(
            "SELECT a FROM t WHERE " + " AND ".join(f"c{i} = d{i}" for i in range(2000)), id="above-parse-limit"
        ),
        pytest.param("SELECT a FROM t WHERE b = '" + "x" * 5_000_000, id="five-megabytes"),
        pytest.param("SELECT \0 \ud800 FROM t WHERE x = 'a\0b'", id="not-encodable"),
        pytest.param("\ufeffSELECT 1", id="byte-order-mark"),
        pytest.param("'; DROP", id="not-sql"),
        pytest.param("SELECT 1 FROM t WHERE ;;; ( ]", id="syntax-error"),
    ],
)
@pytest.mark.parametrize("dialect", ["postgresql", "mysql", "sqlite", "mssql", "oracle", "unknown"])
def test_never_raises_and_loses_nothing(sql, dialect):
    found = take_fingerprint(take_shape(sql, dialect), dialect)
    assert len(found.id) == 16
    assert len(found.sql.encode()) <= SQL_LIMIT * 4
    assert len(found.summary) <= SUMMARY_LIMIT


def test_limits_what_is_kept_but_not_what_is_told_apart():
    columns = ", ".join(f"t.column_{number}" for number in range(500))
    sql = f"SELECT {columns} FROM {', '.join(f'table_{number}' for number in range(50))}"
    assert SQL_LIMIT < len(sql) < PARSE_LIMIT
    one, other = take_fingerprint(sql + " ORDER BY a", "sqlite"), take_fingerprint(sql + " ORDER BY b", "sqlite")
    assert one.sql == other.sql
    assert len(one.sql) == SQL_LIMIT
    assert len(one.summary) == SUMMARY_LIMIT
    assert one.id != other.id


def test_the_parser_is_silent_for_us_and_not_for_others(caplog):
    heard = logging.getLogger("sqlglot")
    with caplog.at_level(logging.WARNING, logger="sqlglot"):
        take_fingerprint("EXEC f ?", "postgresql")
        assert caplog.records == []
        sqlglot.parse("EXEC g 1", dialect="postgres")
        assert len(caplog.records) == 1
        other = threading.Thread(target=heard.warning, args=("from the application",))
        other.start()
        other.join()
        assert len(caplog.records) == 2
