"""What a scope is said to have done."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from counted import describe, scoped, watching
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from querywatch.samples import OpenScope
from querywatch.scope_record import ScopeTotals


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    orders: Mapped[list[Order]] = relationship(back_populates="user")


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"))
    user: Mapped[User] = relationship(back_populates="orders")


USERS = 7


@pytest.fixture
def engine():
    engine = sa.create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(User(id=number, orders=[Order(), Order()]) for number in range(1, USERS + 1))
        session.commit()
    yield engine
    engine.dispose()


def test_a_lazy_load_knows_its_relationship_and_the_line_that_loaded_the_parents(engine):
    with watching(engine) as monitor, scoped() as scope, Session(engine) as session:
        users = session.scalars(sa.select(User)).all()
        for user in users:
            len(user.orders)
        selected, loaded = describe(scope, monitor).queries
    assert (selected.relationship, selected.kind, selected.calls) == (None, None, 1)
    assert (loaded.relationship, loaded.kind, loaded.to_one) == ("User.orders", "lazy_load", (False,))
    assert (loaded.calls, loaded.contexts, loaded.looked_up) == (USERS, USERS, ("user_id",))
    assert loaded.parent_site == selected.call_site
    assert loaded.call_site.line == selected.call_site.line + 2
    assert loaded.total_s <= loaded.calls * loaded.max_s


def test_to_one_is_told(engine):
    with watching(engine) as monitor, scoped() as scope, Session(engine) as session:
        for order in session.scalars(sa.select(Order)).all():
            session.expire(order.user)
            session.expunge(order.user)
        loaded = next(query for query in describe(scope, monitor).queries if query.relationship)
    assert (loaded.relationship, loaded.to_one) == ("Order.user", (True,))


def test_the_calls_of_two_lines_are_told_apart_and_add_up(engine):
    with watching(engine) as monitor, scoped() as scope, engine.connect() as connection:
        for number in range(30):
            connection.execute(sa.select(User.id).where(User.id == number)).all()
        for number in range(10):
            connection.execute(sa.select(User.id).where(User.id == number)).all()
        record = describe(scope, monitor)
    assert record.calls == 40
    assert len({query.call_site for query in record.queries}) == 2
    assert sum(query.total_s for query in record.queries) == pytest.approx(record.total_s)


def test_totals_by_name_are_bounded(monkeypatch):
    monkeypatch.setattr(ScopeTotals, "_LIMIT", 2)
    totals = ScopeTotals()
    for name in ("a", "b", "c", "d", "a"):
        totals.add(OpenScope(name, "request"), [])
    assert {stats.name: stats.scopes for stats in totals.list()} == {"a": 2, "b": 1, "other": 2}
