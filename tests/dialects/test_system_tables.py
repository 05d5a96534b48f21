"""Which tables belong to a database itself: statements on them are housekeeping, never a waste."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from querywatch.dialects import is_system_table
from querywatch.predicates import parse_facts


@pytest.mark.parametrize(
    ("dialect", "table", "is_system"),
    [
        pytest.param("postgresql", "pg_class", True, id="postgres-catalog"),
        pytest.param("postgresql", "pg_catalog.pg_class", True, id="postgres-catalog-with-its-schema"),
        pytest.param("postgresql", "PG_CATALOG.pg_type", True, id="postgres-in-capitals"),
        pytest.param("postgresql", "pg_stat_statements", True, id="postgres-statistics"),
        pytest.param("postgresql", "information_schema.columns", True, id="postgres-information-schema"),
        pytest.param("postgresql", "orders", False, id="postgres-table"),
        pytest.param("postgresql", "shop.pg_notes", False, id="postgres-table-of-such-a-name-in-a-schema"),
        pytest.param("postgresql", "pgbench_accounts", False, id="postgres-table-that-begins-nearly-so"),
        pytest.param("postgresql", "sqlite_master", False, id="postgres-has-none-of-sqlites"),
        pytest.param("sqlite", "sqlite_master", True, id="sqlite-catalog"),
        pytest.param("sqlite", "SQLITE_SCHEMA", True, id="sqlite-in-capitals"),
        pytest.param("sqlite", "main.sqlite_master", True, id="sqlite-of-a-database"),
        pytest.param("sqlite", "temp.sqlite_temp_master", True, id="sqlite-temporary"),
        pytest.param("sqlite", "sqlite_sequence", True, id="sqlite-sequence"),
        pytest.param("sqlite", "pragma_table_info", True, id="sqlite-pragma-as-a-table"),
        pytest.param("sqlite", "orders", False, id="sqlite-table"),
        pytest.param("sqlite", "my_sqlite_master", False, id="sqlite-table-that-ends-so"),
        pytest.param("sqlite", "pg_class", False, id="sqlite-has-none-of-postgres"),
        pytest.param("mysql", "information_schema.tables", True, id="information-schema-without-a-module"),
        pytest.param("mysql", "INFORMATION_SCHEMA.TABLES", True, id="information-schema-in-capitals"),
        pytest.param("mysql", "tables", False, id="table-without-a-module"),
        pytest.param("klingon", "orders", False, id="unknown-dialect"),
    ],
)
def test_what_is_of_the_catalog(dialect, table, is_system):
    assert is_system_table(dialect, table) is is_system


@pytest.mark.parametrize("driver", ["sqlite", "psycopg"])
def test_reflection_reads_nothing_but_system_tables(request, driver):
    url = "sqlite://" if driver == "sqlite" else request.getfixturevalue("postgres_database")
    engine = sa.create_engine(url)
    metadata = sa.MetaData()
    sa.Table("users", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.Text, unique=True))
    sa.Table(
        "orders", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("user", sa.ForeignKey("users.id"))
    )
    metadata.create_all(engine)
    texts = []
    sa.event.listen(engine, "before_cursor_execute", lambda *arguments: texts.append(arguments[2]))
    sa.MetaData().reflect(engine)
    sa.inspect(engine).get_indexes("users")
    engine.dispose()
    dialect = engine.dialect.name
    facts = [parse_facts(text, dialect) for text in texts if not text.startswith("PRAGMA")]
    assert len(texts) > 3
    tables = {table for each in facts if each is not None for table in each.tables}
    assert [table for table in tables if not is_system_table(dialect, table)] == []
