"""Which columns a repeated statement looks up: compared by `=` with a value that changes."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from counted import describe, scoped, watching
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from querywatch.lookups import find_looked_up
from querywatch.samples import LENGTH, TEXT
from querywatch.shape import take_shape


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int]
    user_id: Mapped[int]
    status: Mapped[str]


def looked_up(statement, changed, dialect="sqlite"):
    return find_looked_up(statement, take_shape(statement, dialect), dialect, frozenset(changed))


@pytest.mark.parametrize(
    ("statement", "changed", "columns"),
    [
        pytest.param("SELECT id FROM orders WHERE user_id = ?", {0}, ("user_id",), id="qmark"),
        pytest.param("SELECT id FROM orders WHERE ? = orders.user_id", {0}, ("user_id",), id="bind-on-the-left"),
        pytest.param("SELECT id FROM orders WHERE a = %s AND b = %s", {1}, ("b",), id="format"),
        pytest.param("SELECT id FROM o WHERE o.a = %(a_1)s::INTEGER AND b = %(b_1)s", {"a_1"}, ("a",), id="pyformat"),
        pytest.param("SELECT 1 FROM o WHERE %(param_1)s::INTEGER = o.a", {"param_1"}, ("a",), id="pyformat-left"),
        pytest.param("SELECT id FROM o WHERE b = $2::VARCHAR AND a = $1", {0}, ("a",), id="numeric-dollar"),
        pytest.param("SELECT id FROM o WHERE a = :a AND b::text = :b", {"b"}, (), id="named-behind-a-cast"),
        pytest.param("SELECT id FROM o WHERE a = :a", {"a"}, ("a",), id="named"),
        pytest.param('SELECT id FROM "O" WHERE "O"."userId" = ?', {0}, ("userId",), id="quoted"),
        pytest.param("SELECT id FROM o WHERE a = ? AND b = ?", {0, 1}, ("a", "b"), id="two"),
        pytest.param("SELECT id FROM o WHERE x = '?' AND a = ?", {0}, ("a",), id="a-mark-in-a-text-is-none"),
        pytest.param("SELECT id FROM o WHERE a = ?", set(), (), id="nothing-changed"),
        pytest.param("SELECT id FROM o WHERE tenant_id = ? AND id > ? LIMIT ?", {1}, (), id="keyset-pages"),
        pytest.param("SELECT id FROM o WHERE tenant_id = ? LIMIT ? OFFSET ?", {2}, (), id="offset-pages"),
        pytest.param("SELECT id FROM o WHERE a = ? LIMIT ? OFFSET ?", {0}, ("a",), id="first-row-of-each"),
        pytest.param("SELECT id FROM o WHERE status = ? AND run_at <= ?", {1}, (), id="poll-with-a-time"),
        pytest.param("SELECT id FROM o WHERE a != ? AND b <> ? AND c >= ?", {0, 1, 2}, (), id="other-operators"),
        pytest.param("SELECT id FROM o WHERE tenant_id = ? AND id IN (?, ?)", {1, 2}, (), id="batches"),
        pytest.param("SELECT id FROM o WHERE tenant_id = ? AND id IN (?, ?)", {LENGTH}, (), id="a-shorter-batch"),
        pytest.param("SELECT id FROM o WHERE name LIKE ?", {0}, (), id="search"),
        pytest.param("SELECT id FROM o WHERE tenant_id = ? AND id IN (?)", {1}, ("id",), id="a-list-of-one"),
        pytest.param("SELECT id FROM o WHERE o.id IN (%(id_1)s::INTEGER)", {"id_1"}, ("id",), id="a-cast-list-of-one"),
        pytest.param('SELECT id FROM o WHERE "ID" IN ( ? )', {0}, ("ID",), id="a-quoted-list-of-one"),
        pytest.param("SELECT id FROM o WHERE id NOT IN (?)", {0}, (), id="not-in-a-list-of-one"),
        pytest.param("SELECT id FROM o WHERE t = ? AND (a > ? OR a = ? AND id > ?)", {1, 2, 3}, (), id="keyset-of-two"),
        pytest.param("SELECT id FROM o WHERE a = ? OR b = ?", {0, 1}, (), id="one-or-the-other"),
        pytest.param("SELECT id FROM o WHERE a = ? AND (b = ? OR c = ?)", {0}, ("a",), id="a-key-and-an-or"),
        pytest.param("SELECT id FROM o WHERE NOT (a = ?)", {0}, (), id="not"),
        pytest.param("SELECT id FROM o JOIN p ON p.o_id = o.id AND p.k = ? WHERE o.a = ?", {0}, ("k",), id="of-a-join"),
        pytest.param("UPDATE o SET a = ? WHERE id = ?", {0, 1}, ("id",), id="update-of-each-row"),
        pytest.param("UPDATE o SET a = ? WHERE id = ?", {0}, (), id="update-of-one-row-again"),
        pytest.param("UPDATE o SET a = (SELECT b FROM p WHERE p.id = ?) WHERE o.id = ?", {0}, (), id="update-subquery"),
        pytest.param(
            "UPDATE o SET a = (SELECT b FROM p WHERE p.id = ?) WHERE o.id = ?", {0, 1}, ("id",), id="update-both"
        ),
        pytest.param("UPDATE o SET a = ?", {0}, (), id="update-of-all-rows"),
        pytest.param("update o set a=?,b=? where id=? and version=?", {0, 2}, ("id",), id="update-in-small-letters"),
        pytest.param("UPDATE o SET v=%(v)s WHERE o.id = %(o_id)s", {"v", "o_id"}, ("id",), id="update-by-names"),
        pytest.param("DELETE FROM o WHERE id = ?", {0}, ("id",), id="delete-of-each-row"),
        pytest.param("SELECT id FROM o WHERE a = 1 AND b = 'x'", {TEXT}, ("a", "b"), id="values-in-the-text"),
        pytest.param("SELECT id FROM o WHERE a = 1 AND b > 2", {TEXT}, (), id="a-range-in-the-text"),
        pytest.param("SELECT id FROM o WHERE a = 1 LIMIT 5 OFFSET 10", {TEXT}, (), id="pages-in-the-text"),
        pytest.param("SELECT id FROM o WHERE a = 1 LIMIT 1", {TEXT}, ("a",), id="the-first-row-in-the-text"),
    ],
)
def test_columns(statement, changed, columns):
    assert looked_up(statement, changed) == columns


@pytest.fixture(params=["sqlite", "psycopg"])
def looked_up_by(request):
    """Run a loop for real and return what its statement looked up."""
    url = "sqlite://" if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    engine = sa.create_engine(url)
    Base.metadata.create_all(engine)

    def run(build, values):
        with watching(engine) as monitor, scoped() as scope, Session(engine) as session:
            for value in values:
                session.execute(build(value)).all()
            [query] = describe(scope, monitor).queries
            return query.looked_up

    yield run
    engine.dispose()


@pytest.mark.parametrize(
    ("build", "columns"),
    [
        pytest.param(lambda value: sa.select(Order).where(Order.user_id == value), ("user_id",), id="key"),
        pytest.param(
            lambda value: sa.select(Order.id).where(Order.tenant_id == 1, Order.user_id == value).limit(1),
            ("user_id",),
            id="first-of-each-key",
        ),
        pytest.param(lambda value: sa.select(Order.id).where(Order.tenant_id == 1).offset(value), (), id="offset"),
        pytest.param(lambda value: sa.select(Order.id).where(Order.tenant_id == 1, Order.id > value), (), id="keyset"),
        pytest.param(
            lambda value: sa.select(Order.id).where(Order.tenant_id == 1, Order.id.in_([value, value + 1])),
            (),
            id="batch",
        ),
        pytest.param(
            lambda value: sa.select(Order.id).where(Order.tenant_id == 1, Order.id.in_(range(value))), (), id="batches"
        ),
        pytest.param(lambda value: sa.select(Order.id).where(Order.id.in_([value])), ("id",), id="a-list-of-one"),
        pytest.param(
            lambda value: sa.select(Order.id).where(
                sa.or_(Order.tenant_id > value, sa.and_(Order.tenant_id == value, Order.id > value))
            ),
            (),
            id="keyset-of-two",
        ),
        pytest.param(
            lambda value: (
                sa.update(Order)
                .where(Order.id == value)
                .values(tenant_id=value)
                .returning(Order.id)
                .execution_options(synchronize_session=False)
            ),
            ("id",),
            id="update-of-each-row",
        ),
        pytest.param(
            lambda value: (
                sa.update(Order)
                .where(Order.id == 1)
                .values(tenant_id=value)
                .returning(Order.id)
                .execution_options(synchronize_session=False)
            ),
            (),
            id="update-of-one-row",
        ),
        pytest.param(lambda value: sa.text(f"SELECT id FROM orders WHERE user_id = {value}"), ("user_id",), id="text"),
    ],
)
def test_columns_of_a_real_loop(looked_up_by, build, columns):
    assert looked_up_by(build, range(1, 7)) == columns
