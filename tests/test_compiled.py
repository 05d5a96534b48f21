"""What a compiled statement says of itself."""

from __future__ import annotations

from typing import ClassVar

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    joinedload,
    mapped_column,
    relationship,
)

from querywatch.compiled import locks_rows, read_keys, read_operation


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    tenant_id: Mapped[int]
    login: Mapped[str]
    nick: Mapped[str] = mapped_column(index=True)
    orders: Mapped[list[Order]] = relationship(back_populates="user")
    __table_args__ = (sa.Index("users_login", "tenant_id", "login", unique=True), sa.Index("users_nick", "nick"))


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"))
    user: Mapped[User] = relationship(back_populates="orders")


class Line(Base):
    __tablename__ = "lines"
    order_id: Mapped[int] = mapped_column(sa.ForeignKey("orders.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)


class Employee(Base):
    __tablename__ = "employees"
    id: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str]
    __mapper_args__: ClassVar[dict[str, object]] = {"polymorphic_on": "type", "polymorphic_identity": "employee"}


class Engineer(Employee):
    __tablename__ = "engineers"
    id: Mapped[int] = mapped_column(sa.ForeignKey("employees.id"), primary_key=True)
    __mapper_args__: ClassVar[dict[str, object]] = {"polymorphic_identity": "engineer"}


USERS = User.__table__
KEYLESS = sa.table("logs", sa.column("text"))
USER_KEYS = {("id",), ("email",), ("tenant_id", "login")}


@pytest.fixture(params=["sqlite", "psycopg"])
def compiled_of(request):
    """Run a statement for real, and return what SQLAlchemy compiled."""
    engine = sa.create_engine(
        "sqlite://" if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    )
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE logs (text VARCHAR)")
    compiled = []
    sa.event.listen(engine, "before_cursor_execute", lambda *arguments: compiled.append(arguments[4].compiled))

    def run(statement):
        with Session(engine) as session:
            if isinstance(statement, str):
                session.connection().exec_driver_sql(statement)
            else:
                session.execute(statement)
        return compiled[-1]

    yield run
    engine.dispose()


@pytest.mark.parametrize(
    ("statement", "keys"),
    [
        pytest.param(sa.select(User), USER_KEYS, id="of-a-class"),
        pytest.param(sa.select(User.id, User.login).where(User.id == 1), USER_KEYS, id="of-columns"),
        pytest.param(sa.select(USERS), USER_KEYS, id="of-a-table"),
        pytest.param(sa.select(sa.func.count()).select_from(User), USER_KEYS, id="count"),
        pytest.param(sa.select(Line), {("order_id", "number")}, id="composite"),
        pytest.param(sa.select(Engineer), {("id",)}, id="hierarchy-of-tables"),
        pytest.param(sa.select(User).options(joinedload(User.orders)), USER_KEYS, id="join-of-an-option"),
        pytest.param(
            sa.select(Order).options(joinedload(Order.user, innerjoin=True)), {("id",)}, id="inner-join-of-it"
        ),
        pytest.param(sa.select(User).outerjoin(User.orders), USER_KEYS, id="outer-join"),
        pytest.param(sa.select(Order).join(Order.user), set(), id="join-by-hand"),
        pytest.param(sa.select(Order, User).where(Order.user_id == User.id), set(), id="two-tables"),
        pytest.param(sa.select(sa.select(User.id).subquery()), set(), id="subquery"),
        pytest.param(sa.select(aliased(User)), USER_KEYS, id="alias"),
        pytest.param(sa.select(KEYLESS), set(), id="table-without-columns-known"),
        pytest.param(sa.select(sa.literal(1)), set(), id="no-table"),
        pytest.param(sa.union(sa.select(User.id), sa.select(Order.id)), set(), id="union"),
        pytest.param(sa.update(USERS).values(login="x"), set(), id="update"),
        pytest.param(sa.text("SELECT id FROM users"), set(), id="text"),
        pytest.param("SELECT id FROM users", set(), id="driver-sql"),
    ],
)
def test_keys_of_the_table_that_is_read(compiled_of, statement, keys):
    found = read_keys(compiled_of(statement))
    assert set(found) == keys
    assert len(found) == len(keys)


@pytest.mark.parametrize(
    ("statement", "locks"),
    [
        pytest.param(sa.select(User), False, id="select"),
        pytest.param(sa.select(User).with_for_update(), True, id="for-update"),
        pytest.param(sa.select(User).with_for_update(skip_locked=True).limit(1), True, id="skip-locked"),
        pytest.param(sa.select(User).with_for_update(read=True), True, id="for-share"),
        pytest.param(sa.select(USERS).with_for_update(), True, id="of-a-table"),
        pytest.param(sa.update(USERS).values(login="x"), False, id="update"),
        pytest.param(sa.text("SELECT 1"), False, id="text"),
        pytest.param("SELECT 1", False, id="driver-sql"),
    ],
)
def test_row_locks_are_known_also_where_the_database_has_none(compiled_of, statement, locks):
    assert locks_rows(compiled_of(statement)) is locks


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        pytest.param(sa.select(User), ("SELECT", "users"), id="select"),
        pytest.param(sa.select(Order, User).where(Order.user_id == User.id), ("SELECT", None), id="two-tables"),
        pytest.param(sa.update(USERS).values(login="x"), ("UPDATE", "users"), id="update"),
        pytest.param(sa.delete(Line), ("DELETE", "lines"), id="delete"),
        pytest.param(sa.text("SELECT id FROM users"), (None, None), id="text"),
        pytest.param("SELECT id FROM users", (None, None), id="driver-sql"),
    ],
)
def test_operation_and_table(compiled_of, statement, expected):
    assert read_operation(compiled_of(statement)) == expected


@pytest.mark.parametrize("read", [read_keys, read_operation, locks_rows])
@pytest.mark.parametrize("compiled", [None, object()], ids=["none", "of-another-kind"])
def test_of_nothing_nothing_is_known(read, compiled):
    assert not any(read(compiled) or ())
