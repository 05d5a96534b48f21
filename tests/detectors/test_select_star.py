"""Which statements take every column without need."""

from __future__ import annotations

import pytest

from querywatch.config import Config
from querywatch.detectors import DETECTORS, select_star

WIDE = {"is_text": True, "columns": 10, "max_rows": 1}


@pytest.fixture
def detect(make_scope, make_query):
    def run(*cases):
        queries = [make_query(**{"statement": "SELECT * FROM orders", **changes}) for changes in cases]
        return list(select_star.detect(make_scope(*queries), Config()))

    return run


def test_it_is_one_of_the_detectors():
    assert select_star in DETECTORS
    assert select_star.CODE == "select-star"


@pytest.mark.parametrize(
    ("statement", "tables"),
    [
        pytest.param("SELECT * FROM orders", ["orders"], id="a-table"),
        pytest.param("SELECT DISTINCT * FROM shop.orders WHERE id = ? LIMIT ?", ["shop.orders"], id="with-its-schema"),
        pytest.param("SELECT o.*, count(*) FROM orders o GROUP BY o.id", ["orders"], id="of-an-alias"),
        pytest.param("SELECT u.name, o.* FROM users u JOIN orders o ON o.user_id = u.id", ["orders"], id="of-one"),
        pytest.param("SELECT * FROM (SELECT * FROM orders) AS o", ["orders"], id="through-a-subquery"),
        pytest.param("WITH o AS (SELECT * FROM orders) SELECT * FROM o", ["orders"], id="through-a-cte"),
        pytest.param("SELECT * FROM orders UNION ALL SELECT * FROM old_orders", ["orders"], id="union"),
        pytest.param("SELECT count(*) FROM orders", [], id="count"),
        pytest.param("SELECT price * amount FROM orders", [], id="a-product"),
        pytest.param("SELECT id FROM orders WHERE note LIKE ? /* all * */", [], id="elsewhere"),
        pytest.param("SELECT EXISTS (SELECT * FROM orders)", [], id="exists"),
        pytest.param("SELECT id FROM users WHERE EXISTS (SELECT * FROM orders)", [], id="exists-in-where"),
        pytest.param("SELECT * FROM (SELECT id, total FROM orders) AS o", [], id="a-subquery-that-names-columns"),
        pytest.param("WITH o AS (SELECT id, total FROM orders) SELECT * FROM o", [], id="a-cte-that-names-columns"),
        pytest.param("SELECT * FROM generate_series(?, ?)", [], id="a-function"),
        pytest.param("SELECT * FROM pg_catalog.pg_class", [], id="catalog"),
        pytest.param("SELECT * FROM pg_stat_activity", [], id="catalog-without-schema"),
        pytest.param("SELECT * FROM information_schema.tables", [], id="information-schema"),
        pytest.param("SELECT * FROM sqlite_master", [], id="sqlite-master"),
        pytest.param("PRAGMA table_info(orders)", [], id="pragma"),
        pytest.param("INSERT INTO old_orders SELECT * FROM orders", [], id="a-copy"),
        pytest.param("SELECT * FROM FROM", [], id="not-understood"),
    ],
)
@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_the_outermost_query_takes_a_table_whole(detect, statement, tables, dialect):
    assert [finding.subject for finding in detect(WIDE | {"statement": statement, "dialect": dialect})] == tables


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        pytest.param({"columns": 10, "max_rows": 1}, 1, id="many-columns"),
        pytest.param({"columns": 9, "max_rows": 1}, 0, id="few-columns-of-one-row"),
        pytest.param({"columns": 3, "max_rows": 2}, 1, id="two-rows"),
        pytest.param({"columns": None, "max_rows": None}, 0, id="nothing-known"),
        pytest.param({"columns": 10, "is_text": False}, 1, id="written-into-a-select"),
    ],
)
def test_where_it_matters(detect, changes, count):
    assert len(detect({"is_text": True} | changes)) == count


def test_a_finding_in_full(detect, make_query):
    [finding] = detect({"is_text": True, "columns": 14, "max_rows": 1250, "calls": 3})
    assert finding.message == "SELECT * on orders reads all 14 columns of 1,250 rows."
    assert finding.fix == "Name the columns that are used in place of * in the SELECT at shop/views.py:44."
    assert (finding.code, finding.kind, finding.severity) == ("select-star", None, "info")
    assert (finding.fix_kind, finding.subject, finding.count) == ("name_columns", "orders", 3)
    assert finding.evidence.as_dict() == {"sql": "SELECT * FROM orders", "columns": 14, "rows": 1250, "scopes": 1}
    assert finding.evidence.with_scopes(4).scopes == 4


def test_a_finding_without_a_line(detect):
    [finding] = detect(WIDE | {"call_site": None})
    assert finding.message == "SELECT * on orders reads all 10 columns."
    assert finding.fix == "Name the columns that are used in place of * in the SELECT from orders."
