from __future__ import annotations

import sqlite3

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from querywatch.dialects import sqlite, sqlite_plan
from querywatch.dialects.connection import NoPlansError, converse
from querywatch.errors import ExplainError, ExplainTimeoutError
from querywatch.records import IndexSpec

ROWS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) "


@pytest.fixture
def path(tmp_path):
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.executescript(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT UNIQUE);"
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, user_id INT, status TEXT, created_at TEXT);"
        "CREATE INDEX orders_created_idx ON orders (created_at DESC, status);"
        "CREATE INDEX orders_new_idx ON orders (user_id) WHERE status = 'new';"
        "CREATE INDEX orders_lower_idx ON orders (lower(status));"
        "CREATE TABLE pairs (a INT, b INT, PRIMARY KEY (a, b)) WITHOUT ROWID;"
        + ROWS.format(40_000)
        + "INSERT INTO orders SELECT i, i % 2000, iif(i % 4, 'sent', 'new'), i FROM n;"
    )
    connection.close()
    return tmp_path / "shop.db"


@pytest.fixture
def engine(path):
    engine = sa.create_engine(f"sqlite:///{path}")
    yield engine
    engine.dispose()


def ask(engine, work, timeout_s=5.0):
    def read(connection):
        with sqlite.open_reader(connection, engine, timeout_s=timeout_s):
            return work(connection)

    return converse(engine, read)


def step(root, table):
    return next(node for node in root.walk() if node.table == table)


def test_plans_name_the_table_behind_an_alias(engine):
    root = ask(
        engine, lambda c: sqlite.take_plan(c, "SELECT * FROM orders AS o WHERE o.user_id = ?", (7,), {"o": "orders"})
    )
    scan = step(root, "orders")
    assert (scan.kind, scan.index, scan.detail) == ("SCAN", None, "SCAN o")
    assert sqlite.reads_whole_table(scan)
    assert not sqlite.sorts(root)


def test_async_engines(path):
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}").sync_engine
    root = ask(engine, lambda c: sqlite.take_plan(c, "SELECT * FROM orders WHERE id = ?", (7,), {}))
    assert step(root, "orders").index == "PRIMARY KEY"


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file::memory:?uri=true",
        "sqlite:///file:shop?mode=memory&uri=true",
    ],
)
def test_in_memory_has_no_plans(url):
    assert sqlite.describe_obstacle(sa.create_engine(url, poolclass=sa.pool.NullPool)) == (
        "in-memory SQLite has no second connection, so its plans cannot be taken"
    )


def test_a_file_that_was_removed_has_no_plans(engine, path):
    path.unlink()
    assert sqlite.describe_obstacle(engine) == "its file is gone, so its plans cannot be taken"


def test_a_creator_that_makes_databases_in_memory_has_no_plans():
    engine = sa.create_engine("sqlite:///looks-like-a-file.db", creator=lambda: sqlite3.connect(":memory:"))
    assert sqlite.describe_obstacle(engine) is None
    with pytest.raises(NoPlansError, match="in-memory"):
        ask(engine, lambda _connection: None)


def test_a_creator_that_opens_a_file_has_plans(path):
    engine = sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(path))
    assert sqlite.describe_obstacle(engine) is None
    assert ask(engine, lambda c: sqlite.count_rows(c, "orders")) == 40_000


def test_memory_that_connections_share_has_plans():
    url = "sqlite:///file:shared_shop?mode=memory&cache=shared&uri=true"
    engine = sa.create_engine(url, poolclass=sa.pool.QueuePool)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE orders (id INTEGER)"))
        connection.commit()
        assert sqlite.describe_obstacle(engine) is None
        assert step(ask(engine, lambda c: sqlite.take_plan(c, "SELECT * FROM orders", None, {})), "orders")
    engine.dispose()


def test_nothing_can_be_written_on_our_connection(engine):
    with pytest.raises(ExplainError, match="READONLY"):
        ask(engine, lambda c: sqlite._ask(c, "DELETE FROM orders"))


def test_gives_up_behind_a_writer(engine, path):
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    with pytest.raises((ExplainTimeoutError, sqlite3.OperationalError)):
        ask(engine, lambda c: sqlite.take_plan(c, "SELECT * FROM orders", None, {}))
    writer.execute("ROLLBACK")
    writer.close()


def test_stops_at_the_time_limit(engine):
    with pytest.raises(ExplainTimeoutError, match="SQLITE_INTERRUPT"):
        ask(engine, lambda c: sqlite._ask(c, ROWS.format(10**12) + "SELECT count(*) FROM n"), timeout_s=0.01)


def test_lists_indexes(engine):
    found = {index.name: index for index in ask(engine, lambda c: sqlite.list_indexes(c, "orders"))}
    assert found[None].columns == ("id",)
    assert found["orders_created_idx"].columns == ("created_at DESC", "status")
    assert found["orders_new_idx"].where is not None
    assert found["orders_lower_idx"].expressions
    assert ("a", "b") in {index.columns for index in ask(engine, lambda c: sqlite.list_indexes(c, "pairs"))}


@pytest.mark.parametrize(
    ("fill", "rows"),
    [
        pytest.param("SELECT 1 WHERE 0", 0, id="empty"),
        pytest.param("SELECT 10000000000 UNION ALL SELECT 5", 2, id="far-apart"),
        pytest.param(ROWS.format(30_000) + "SELECT i FROM n", 30_000, id="dense"),
    ],
)
def test_counts_rows(engine, fill, rows):
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE things (id INTEGER PRIMARY KEY)"))
        connection.execute(sa.text(f"INSERT INTO things {fill}"))
    assert ask(engine, lambda c: sqlite.count_rows(c, "things")) == rows


def test_counts_no_rows_where_there_is_no_table(engine):
    assert ask(engine, lambda c: sqlite.count_rows(c, "nowhere")) is None


@pytest.mark.parametrize(
    ("columns", "least", "most"),
    [
        pytest.param(["status"], 0.4, 0.6, id="two-values"),
        pytest.param(["user_id"], 1 / 8000, 1 / 1000, id="two-thousand-values"),
        pytest.param(["id"], 1 / 100_000, 1 / 10_000, id="unique"),
    ],
)
def test_estimates_selectivity_from_a_sample(engine, columns, least, most):
    assert least <= ask(engine, lambda c: sqlite.estimate_selectivity(c, "orders", columns)) <= most


def test_a_scratch_copy_needs_the_applications_functions_no_more(path):
    connection = sqlite3.connect(path)
    connection.create_function("shop_key", 1, lambda text: text, deterministic=True)
    connection.create_collation("SHOP", lambda left, right: (left > right) - (left < right))
    connection.executescript(
        "CREATE INDEX orders_key_idx ON orders (shop_key(status));"
        "CREATE TABLE tags (name TEXT COLLATE SHOP, order_id INT);"
        "CREATE INDEX tags_name_idx ON tags (name);"
    )
    connection.close()
    engine = sa.create_engine(f"sqlite:///{path}")
    index = IndexSpec("orders", ("user_id",), name="orders_user_id_idx")

    def work(connection):
        with sqlite.open_what_if(connection, engine, {"orders": "orders", "tags": "tags"}, {}, has_limit=False) as copy:
            statement = (
                "SELECT other(orders.id) FROM orders JOIN tags ON tags.order_id = orders.id WHERE user_id = ? "
                "AND name > ?"
            )
            return copy.plan(statement, (7, "x"), [index])

    assert step(ask(engine, work), "orders").index == "orders_user_id_idx"


@pytest.mark.parametrize(
    ("text", "kind", "table", "index"),
    [
        ("SCAN orders", "SCAN", "orders", None),
        ("SCAN o", "SCAN", "orders", None),
        ("SCAN TABLE orders AS o", "SCAN", "orders", None),
        ("SCAN TABLE orders", "SCAN", "orders", None),
        ("SCAN orders USING COVERING INDEX i", "SCAN", "orders", "i"),
        ("SEARCH o USING INDEX i (user_id=? AND id>?)", "SEARCH", "orders", "i"),
        ("SEARCH orders USING INTEGER PRIMARY KEY (rowid=?)", "SEARCH", "orders", "PRIMARY KEY"),
        ("SEARCH o USING AUTOMATIC COVERING INDEX (user_id=?)", sqlite_plan.AUTOMATIC, "orders", None),
        (
            "SEARCH o USING AUTOMATIC PARTIAL COVERING INDEX (user_id=?) LEFT-JOIN",
            sqlite_plan.AUTOMATIC,
            "orders",
            None,
        ),
        ("SEARCH o USING INDEX i (user_id=?) LEFT-JOIN", "SEARCH", "orders", "i"),
        ("USE TEMP B-TREE FOR ORDER BY", "USE TEMP B-TREE FOR ORDER BY", None, None),
        ("CORRELATED SCALAR SUBQUERY 2", "CORRELATED SCALAR SUBQUERY", None, None),
        ("SCAN CONSTANT ROW", "SCAN CONSTANT ROW", None, None),
        ("SCAN 2 CONSTANT ROWS", "SCAN ? CONSTANT ROWS", None, None),
        ("SCAN (subquery-3)", None, None, None),
    ],
)
def test_reads_the_steps_of_each_version(text, kind, table, index):
    node = sqlite_plan.parse_plan([(2, 0, 0, text)], {"o": "orders"}).children[0]
    assert (kind or node.kind, table, index) == (node.kind, node.table, node.index)


def test_the_driver_works_while_fetching_except_behind_aiosqlite(path):
    assert sqlite.fetches_lazily(sa.create_engine(f"sqlite:///{path}").dialect)
    assert not sqlite.fetches_lazily(create_async_engine(f"sqlite+aiosqlite:///{path}").dialect)
    assert sqlite.find_row_counter(sa.create_engine(f"sqlite:///{path}").dialect) is None


@pytest.mark.parametrize(
    ("statement", "rows"),
    [
        pytest.param("SELECT 1 UNION SELECT 2", 2, id="select"),
        pytest.param("SELECT id FROM users WHERE id = 0", 0, id="select-of-none"),
        pytest.param("UPDATE orders SET status = 'x' WHERE id <= 3", 3, id="update"),
    ],
)
def test_behind_aiosqlite_the_rows_are_known_at_once(path, statement, rows):
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}").sync_engine
    count = sqlite.find_row_counter(engine.dialect)

    def run(connection):
        cursor = connection.cursor()
        cursor.execute(statement)
        return count(cursor)

    assert converse(engine, run) == rows


def test_counts_the_rows_of_a_narrow_table_in_full(engine):
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE flags (flag INT)"))
        connection.execute(sa.text(f"INSERT INTO flags {ROWS.format(50_000)} SELECT 1 FROM n"))
    assert ask(engine, lambda c: sqlite.count_rows(c, "flags")) == 50_000
