"""What the ORM says of each statement it sends: why, along which relationships, of which class."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncAttrs, AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    Session,
    WriteOnlyMapped,
    joinedload,
    lazyload,
    mapped_column,
    relationship,
    selectinload,
    subqueryload,
)

from querywatch.capture.orm import read_load_mark
from querywatch.samples import NO_MARK, LoadMark

if TYPE_CHECKING:
    from collections.abc import Callable


class Base(AsyncAttrs, DeclarativeBase):
    id: Mapped[int] = mapped_column(primary_key=True)


class User(Base):
    __tablename__ = "users"
    name: Mapped[str] = mapped_column(default="x")
    bio: Mapped[str | None] = mapped_column(deferred=True)
    photo: Mapped[str | None] = mapped_column(deferred=True, deferred_group="large")
    face: Mapped[str | None] = mapped_column(deferred=True, deferred_group="large")
    changed_at: Mapped[str | None] = mapped_column(onupdate=sa.func.now())
    orders: Mapped[list[Order]] = relationship(back_populates="user")
    profile: Mapped[Profile | None] = relationship(back_populates="user")
    visits: DynamicMapped[Visit] = relationship()
    notes: WriteOnlyMapped[Note] = relationship()


class Profile(Base):
    __tablename__ = "profiles"
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"))
    user: Mapped[User] = relationship(back_populates="profile")


class Visit(Base):
    __tablename__ = "visits"
    user_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))


class Note(Base):
    __tablename__ = "notes"
    user_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))


class Order(Base):
    __tablename__ = "orders"
    user_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    user: Mapped[User | None] = relationship(back_populates="orders")
    items: Mapped[list[Item]] = relationship()


class Item(Base):
    __tablename__ = "items"
    order_id: Mapped[int] = mapped_column(sa.ForeignKey("orders.id"))


class Store(Base):
    __tablename__ = "stores"
    order_id: Mapped[int | None] = mapped_column(sa.ForeignKey("orders.id"))
    order: Mapped[Order | None] = relationship(lazy="joined")
    shelves: Mapped[list[Shelf]] = relationship(cascade="all, delete-orphan")


class Shelf(Base):
    __tablename__ = "shelves"
    store_id: Mapped[int] = mapped_column(sa.ForeignKey("stores.id"))


class Node(Base):
    __tablename__ = "nodes"
    parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("nodes.id"))
    parent: Mapped[Node | None] = relationship(remote_side="Node.id", back_populates="children")
    children: Mapped[list[Node]] = relationship(back_populates="parent")


class Employee(Base):
    __tablename__ = "employees"
    type: Mapped[str]
    badges: Mapped[list[Badge]] = relationship()
    __mapper_args__: ClassVar[dict[str, object]] = {"polymorphic_on": "type", "polymorphic_identity": "employee"}


class Engineer(Employee):
    __tablename__ = "engineers"
    id: Mapped[int] = mapped_column(sa.ForeignKey("employees.id"), primary_key=True)
    language: Mapped[str] = mapped_column(default="c")
    machines: Mapped[list[Machine]] = relationship()
    __mapper_args__: ClassVar[dict[str, object]] = {"polymorphic_identity": "engineer"}


class Badge(Base):
    __tablename__ = "badges"
    employee_id: Mapped[int] = mapped_column(sa.ForeignKey("employees.id"))


class Machine(Base):
    __tablename__ = "machines"
    engineer_id: Mapped[int] = mapped_column(sa.ForeignKey("engineers.id"))


PACKAGE = __name__.partition(".")[0]


def fill(session: Session) -> None:
    session.add_all(
        [
            User(id=1, orders=[Order(id=1, items=[Item(id=1)]), Order(id=2)], profile=Profile(id=1)),
            Engineer(id=1, badges=[Badge(id=1)], machines=[Machine(id=1)]),
            Node(id=1),
            Store(id=1),
        ]
    )
    session.flush()
    session.add_all([Node(id=2, parent_id=1), Visit(id=1, user_id=1), Note(id=1, user_id=1)])
    for number in range(3, 12):
        session.flush()
        session.add(Node(id=number, parent_id=number - 1))


@pytest.fixture
def engine():
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        fill(session)
        session.commit()
    yield engine
    engine.dispose()


def listen(engine: sa.Engine) -> list[LoadMark]:
    """Return the list that the mark of each statement is added to."""
    marks: list[LoadMark] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *arguments: marks.append(read_load_mark(arguments[4])))
    return marks


def read(session: Session, work: Callable[[Session], object]) -> LoadMark:
    """Return the mark of the last statement of *work*."""
    marks = listen(session.get_bind())
    work(session)
    return marks[-1]


# -- why


def first(entity, *options):
    return lambda session: session.scalars(sa.select(entity).options(*options).order_by(entity.id).limit(1)).one()


def lazily(entity, name):
    return lambda session: getattr(first(entity)(session), name)


def select(entity, base=None, **changes):
    return LoadMark("select", entity=entity, entity_base=base or entity, package=PACKAGE)._replace(**changes)


def relate(kind, path, entity, parent, *, one=False, lazy="select", **changes):
    """Return the mark of a relationship's rows."""
    path = (path,) if isinstance(path, str) else path
    to_one = (*(False,) * (len(path) - 1), one)
    mark = LoadMark(kind, path, to_one, entity, entity, parent if kind == "lazy_load" else None, lazy=lazy)
    return mark._replace(package=PACKAGE, **changes)


def lazy_load(path, entity, parent, **changes):
    return relate("lazy_load", path, entity, parent, **changes)


@pytest.mark.parametrize(
    ("work", "mark"),
    [
        pytest.param(first(User), select("User"), id="select"),
        pytest.param(lambda s: s.get(User, 1), select("User"), id="get"),
        pytest.param(lambda s: s.query(User).all(), select("User"), id="query"),
        pytest.param(lambda s: s.scalar(sa.select(orm.aliased(User)).limit(1)), select("User"), id="alias"),
        pytest.param(
            lambda s: s.scalars(sa.select(Engineer)).all(), select("Engineer", "Employee"), id="select-of-a-subclass"
        ),
        pytest.param(
            lambda s: s.scalars(sa.select(User).join(User.orders).where(Order.id == 1)).all(), select("User"), id="join"
        ),
        pytest.param(
            lambda s: s.execute(sa.select(User.id, User.name)).all(), select(None), id="columns-make-no-object"
        ),
        pytest.param(
            lambda s: s.scalar(sa.select(sa.func.count()).select_from(User)),
            select(None),
            id="aggregate-from-a-class",
        ),
        pytest.param(lambda s: s.scalar(sa.select(sa.func.max(User.id))), select(None), id="aggregate-of-an-attribute"),
        pytest.param(lambda s: s.execute(sa.select(User.__table__)).all(), NO_MARK, id="select-of-a-table"),
        pytest.param(lambda s: s.execute(sa.text("SELECT 1")), NO_MARK, id="text"),
        pytest.param(
            lambda s: s.scalars(sa.select(User).from_statement(sa.text("SELECT id, name FROM users"))).all(),
            select("User"),
            id="objects-from-a-text",
        ),
        pytest.param(
            lambda s: s.scalars(sa.select(Store)).all(),
            select("Store", joined=(("Store.order", True, "Order"),)),
            id="join-of-the-mapping",
        ),
        pytest.param(lambda s: s.connection().exec_driver_sql("SELECT 1"), NO_MARK, id="driver-sql"),
        pytest.param(lambda s: (s.add(User()), s.flush()), NO_MARK, id="insert"),
        pytest.param(lambda s: s.execute(sa.update(User).values(name="y")), NO_MARK, id="update-by-a-statement"),
        pytest.param(lambda s: s.execute(sa.delete(Item)), NO_MARK, id="delete-by-a-statement"),
    ],
)
def test_a_statement_that_the_application_wrote(engine, work, mark):
    with Session(engine) as session:
        assert read(session, work) == mark


@pytest.mark.parametrize(
    ("work", "mark"),
    [
        pytest.param(lazily(User, "orders"), lazy_load("User.orders", "Order", "User"), id="one-to-many"),
        pytest.param(lazily(Order, "user"), lazy_load("Order.user", "User", "Order", one=True), id="many-to-one"),
        pytest.param(lazily(User, "profile"), lazy_load("User.profile", "Profile", "User", one=True), id="one-to-one"),
        pytest.param(
            lazily(Store, "shelves"),
            lazy_load("Store.shelves", "Shelf", "Store", deletes=True),
            id="what-is-deleted-with-its-parent",
        ),
        pytest.param(lazily(Node, "children"), lazy_load("Node.children", "Node", "Node"), id="self-referential"),
        pytest.param(
            lambda s: s.get(Node, 9).parent, lazy_load("Node.parent", "Node", "Node", one=True), id="to-the-parent"
        ),
        pytest.param(
            lazily(Engineer, "badges"), lazy_load("Employee.badges", "Badge", "Employee"), id="inherited-relationship"
        ),
        pytest.param(
            lazily(Engineer, "machines"),
            lazy_load("Engineer.machines", "Machine", "Employee"),
            id="relationship-of-a-subclass",
        ),
        pytest.param(
            lambda s: first(User, selectinload(User.orders))(s).orders[0].items,
            lazy_load(("User.orders", "Order.items"), "Item", "Order"),
            id="behind-an-option-the-way-is-known",
        ),
        pytest.param(
            lambda s: first(User)(s).orders[0].items, lazy_load("Order.items", "Item", "Order"), id="behind-a-lazy-load"
        ),
        pytest.param(
            lambda s: s.refresh(first(User)(s), ["orders"]), lazy_load("User.orders", "Order", "User"), id="refresh"
        ),
        pytest.param(
            lambda s: first(User)(s).visits.all(),
            lazy_load("User.visits", "Visit", "User", lazy="dynamic"),
            id="dynamic",
        ),
        pytest.param(
            lambda s: first(User)(s).visits.filter(Visit.id > 0).order_by(Visit.id).first(),
            lazy_load("User.visits", "Visit", "User", lazy="dynamic"),
            id="dynamic-with-a-condition",
        ),
        pytest.param(
            lambda s: first(User)(s).visits.count(),
            lazy_load("User.visits", None, "User", lazy="dynamic", entity_base=None),
            id="dynamic-counted",
        ),
        pytest.param(
            lambda s: s.scalars(first(User)(s).notes.select()).all(),
            lazy_load("User.notes", "Note", "User", lazy="write_only"),
            id="write-only",
        ),
        pytest.param(
            lambda s: s.scalars(sa.select(Visit).where(Visit.user_id == 1)).all(),
            select("Visit"),
            id="a-select-by-hand-of-what-is-dynamic",
        ),
        pytest.param(
            lambda s: s.scalars(sa.select(Visit).where(Visit.id.in_(range(50)))).all(),
            select("Visit"),
            id="a-list-by-hand-of-what-is-dynamic",
        ),
    ],
)
def test_a_relationship_that_was_read(engine, work, mark):
    with Session(engine) as session:
        assert read(session, work) == mark


@pytest.mark.parametrize(
    ("option", "mark"),
    [
        pytest.param(selectinload(User.orders), ("User.orders",), id="selectin"),
        pytest.param(subqueryload(User.orders), ("User.orders",), id="subquery"),
        pytest.param(
            selectinload(User.orders).selectinload(Order.items), ("User.orders", "Order.items"), id="two-levels"
        ),
        pytest.param(
            joinedload(User.orders).selectinload(Order.items), ("User.orders", "Order.items"), id="behind-a-join"
        ),
    ],
)
def test_what_an_option_loads_is_eager(engine, option, mark):
    with Session(engine) as session:
        found = read(session, lambda s: s.scalars(sa.select(User).options(option)).unique().all())
    assert (found.kind, found.path, found.parent) == ("eager", mark, None)


def test_immediateload_is_a_lazy_load_of_nobodys(engine):
    with Session(engine) as session:
        found = read(session, first(User, orm.immediateload(User.orders)))
    assert found == lazy_load("User.orders", "Order", "User")


def test_the_way_along_a_tree_is_cut(engine):
    option = selectinload(Node.children)
    for _ in range(9):
        option = option.selectinload(Node.children)
    with Session(engine) as session:
        found = read(session, first(Node, option))
    assert found.path == ("Node.children",) * 6
    assert found.to_one == (False,) * 6


# -- objects that are read again, and columns that come late


def expired(change):
    def work(session):
        user = first(User)(session)
        change(session, user)
        return user.name

    return work


def made_by_the_server(session):
    user = first(User)(session)
    user.name = "y"
    session.flush()
    return user.changed_at


def refreshed(entity, base=None, cause="expired", **changes):
    base = base or entity
    return LoadMark("refresh", entity=entity, entity_base=base, parent=base, cause=cause, package=PACKAGE)._replace(
        **changes
    )


def deferred(*attributes, entity="User", base=None, cause=None):
    base = base or entity
    return LoadMark(
        "deferred", entity=entity, entity_base=base, parent=base, attributes=attributes, cause=cause, package=PACKAGE
    )


def read_what_a_select_left_out(session):
    return first(User, orm.load_only(User.id))(session).name


def read_of_a_base_class(session):
    return session.scalars(sa.select(Employee)).one().language


@pytest.mark.parametrize(
    ("work", "mark"),
    [
        pytest.param(expired(lambda session, user: session.expire(user)), refreshed("User"), id="expire"),
        pytest.param(expired(lambda session, user: session.expire(user, ["name"])), None, id="expire-of-one-column"),
        pytest.param(expired(lambda session, user: session.commit()), refreshed("User"), id="commit"),
        pytest.param(expired(lambda session, user: session.rollback()), refreshed("User"), id="rollback"),
        pytest.param(lambda s: s.refresh(first(User)(s)), None, id="refresh"),
        pytest.param(made_by_the_server, refreshed("User", cause="defaults"), id="value-of-the-server"),
        pytest.param(lambda s: first(User)(s).bio, deferred("User.bio"), id="deferred"),
        pytest.param(lambda s: first(User)(s).photo, deferred("User.face", "User.photo"), id="deferred-group"),
        pytest.param(read_what_a_select_left_out, deferred("User.name"), id="load-only"),
        pytest.param(lambda s: first(User, orm.defer(User.name))(s).name, deferred("User.name"), id="defer"),
        pytest.param(
            read_of_a_base_class,
            deferred("Engineer.language", entity="Engineer", base="Employee", cause="polymorphic"),
            id="column-of-a-subclass",
        ),
    ],
)
def test_columns_that_are_read_late(engine, work, mark):
    with Session(engine) as session:
        found = read(session, work)
    if mark is None:
        assert (found.kind, found.attributes) == ("refresh", ())
    else:
        assert found == mark


def test_attributes_that_come_late_are_few(engine):
    columns = {f"c{number}": sa.Column(sa.Integer) for number in range(20)}
    table = sa.Table("wide", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
    for name, column in columns.items():
        table.append_column(sa.Column(name, column.type))
    registry = orm.registry()

    class Wide:
        pass

    group = {name: orm.deferred(table.c[name], group="all") for name in columns}
    registry.map_imperatively(Wide, table, properties=group)
    table.create(engine)
    with Session(engine) as session:
        session.execute(sa.insert(table).values(id=1))
        found = read(session, lambda s: first(Wide)(s).c0)
    assert len(found.attributes) == 8


def test_the_same_is_said_of_async_sessions(tmp_path):
    async def main():
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}")
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
            await connection.run_sync(_fill_and_commit)
        marks = listen(engine.sync_engine)
        async with AsyncSession(engine) as session:
            user = (await session.scalars(sa.select(User))).one()
            await user.awaitable_attrs.orders
            await session.scalars(user.notes.select())
            await session.refresh(user)
        await engine.dispose()
        return marks

    assert [(mark.kind, mark.path) for mark in asyncio.run(main())] == [
        ("select", ()),
        ("lazy_load", ("User.orders",)),
        ("lazy_load", ("User.notes",)),
        ("refresh", ()),
    ]


def _fill_and_commit(connection: sa.Connection) -> None:
    with Session(connection) as session:
        fill(session)
        session.commit()


# -- nothing of ours may fail


class Strange:
    """An execution context of another version: it has what is asked for, and it is nothing that we know."""

    def __init__(self, **attributes):
        self.__dict__ |= attributes


class Raises:
    def __getattr__(self, name):
        raise RuntimeError(name)


@pytest.mark.parametrize(
    "context",
    [
        pytest.param(Strange(), id="no-statement"),
        pytest.param(Strange(invoked_statement=None), id="none"),
        pytest.param(Strange(invoked_statement=Strange(is_select=True)), id="no-options"),
        pytest.param(Strange(invoked_statement=Strange(is_select=True), execution_options={}), id="no-attributes"),
        pytest.param(
            Strange(
                invoked_statement=Strange(is_select=True),
                execution_options={"_sa_orm_load_options": Strange(_lazy_loaded_from=Strange())},
            ),
            id="another-state",
        ),
        pytest.param(Raises(), id="raises"),
    ],
)
def test_what_is_missing_is_not_known(context):
    assert read_load_mark(context) == NO_MARK


@pytest.mark.parametrize("option", [lazyload(User.orders), joinedload(User.orders)], ids=["lazy", "joined"])
def test_options_that_send_nothing_leave_the_select_as_it_is(engine, option):
    with Session(engine) as session:
        marks = listen(engine)
        session.scalars(sa.select(User).options(option)).unique().all()
    assert marks == [select("User")]
