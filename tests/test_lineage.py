"""Which line loaded the objects whose attribute was read, and along which relationships."""

from __future__ import annotations

import inspect

import pytest
import sqlalchemy as sa
from counted import describe, scoped, watching
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)

from querywatch.lineage import Lineage, Origin
from querywatch.samples import LoadMark


class Base(DeclarativeBase):
    id: Mapped[int] = mapped_column(primary_key=True)


class Country(Base):
    __tablename__ = "countries"
    users: Mapped[list[User]] = relationship(back_populates="country")


class User(Base):
    __tablename__ = "users"
    country_id: Mapped[int] = mapped_column(sa.ForeignKey("countries.id"))
    country: Mapped[Country] = relationship(back_populates="users")
    orders: Mapped[list[Order]] = relationship(back_populates="user")


class Order(Base):
    __tablename__ = "orders"
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"))
    user: Mapped[User] = relationship(back_populates="orders")
    items: Mapped[list[Item]] = relationship(back_populates="order")


class Item(Base):
    __tablename__ = "items"
    order_id: Mapped[int] = mapped_column(sa.ForeignKey("orders.id"))
    order: Mapped[Order] = relationship(back_populates="items")
    tags: Mapped[list[Tag]] = relationship()


class Tag(Base):
    __tablename__ = "tags"
    item_id: Mapped[int] = mapped_column(sa.ForeignKey("items.id"))


class Store(Base):
    __tablename__ = "stores"
    country_id: Mapped[int] = mapped_column(sa.ForeignKey("countries.id"))
    country: Mapped[Country] = relationship(lazy="joined")


class Node(Base):
    __tablename__ = "nodes"
    parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("nodes.id"))
    children: Mapped[list[Node]] = relationship()


USERS = 6


@pytest.fixture(params=["sqlite", "psycopg"])
def engine(request):
    engine = sa.create_engine(
        "sqlite://" if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    )
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for _ in range(USERS):
            orders = [Order(items=[Item(tags=[Tag()]), Item()]) for _ in range(2)]
            session.add(User(country=Country(), orders=orders))
        session.flush()
        session.add_all(Store(country_id=number) for number in range(1, USERS + 1))
        session.add(Node(children=[Node(children=[Node(children=[Node()])])]))
        session.commit()
    yield engine
    engine.dispose()


def marked(function, mark):
    """Return the number of the line of *function* that ends in `# <- mark`."""
    lines, first = inspect.getsourcelines(function)
    [number] = [number for number, text in enumerate(lines) if text.rstrip().endswith(f"# <- {mark}")]
    return first + number


def one_level(session):
    for user in session.scalars(sa.select(User)).all():  # <- parents
        len(user.orders)


def two_levels_lazy(session):
    for user in session.scalars(sa.select(User)).all():  # <- parents
        for order in user.orders:
            len(order.items)


def three_levels_lazy(session):
    for user in session.scalars(sa.select(User)).all():  # <- parents
        for order in user.orders:
            for item in order.items:
                len(item.tags)


def behind_an_option(session):
    for user in session.scalars(sa.select(User).options(selectinload(User.orders))).all():  # <- parents
        for order in user.orders:
            len(order.items)


def behind_a_join_of_an_option(session):
    statement = sa.select(User).options(joinedload(User.orders))
    for user in session.scalars(statement).unique().all():  # <- parents
        for order in user.orders:
            len(order.items)


def behind_a_join_of_the_mapping(session):
    for store in session.scalars(sa.select(Store)).all():  # <- parents
        len(store.country.users)


def to_one_and_back_to_many(session):
    for order in session.scalars(sa.select(Order)).all():  # <- parents
        len(order.user.country.users)


def both_of_them_selected(session):
    session.scalars(sa.select(User)).all()
    for order in session.scalars(sa.select(Order)).all():  # <- parents
        len(order.items)


def the_larger_of_two_selects(session):
    session.scalars(sa.select(User).limit(1)).one()
    for user in session.scalars(sa.select(User)).all():  # <- parents
        len(user.orders)


def one_parent_selected_and_the_others_came_along(session):
    session.scalars(sa.select(Order).limit(1)).all()
    for user in session.scalars(sa.select(User)).all():  # <- parents
        for order in user.orders:
            len(order.items)


def of_columns_no_object_came(session):
    session.execute(sa.select(User.id, User.country_id)).all()
    for user in session.scalars(sa.select(User).limit(5)).all():  # <- parents
        len(user.orders)


CASES = [
    pytest.param(one_level, "User.orders", "User", ("User.orders",), (False,), id="one-level"),
    pytest.param(
        two_levels_lazy, "Order.items", "User", ("User.orders", "Order.items"), (False, False), id="two-levels"
    ),
    pytest.param(
        three_levels_lazy,
        "Item.tags",
        "User",
        ("User.orders", "Order.items", "Item.tags"),
        (False, False, False),
        id="three-levels",
    ),
    pytest.param(
        behind_an_option, "Order.items", "User", ("User.orders", "Order.items"), (False, False), id="behind-an-option"
    ),
    pytest.param(
        behind_a_join_of_an_option,
        "Order.items",
        "User",
        ("User.orders", "Order.items"),
        (False, False),
        id="behind-a-join-of-an-option",
    ),
    pytest.param(
        behind_a_join_of_the_mapping,
        "Country.users",
        "Store",
        ("Store.country", "Country.users"),
        (True, False),
        id="behind-a-join-of-the-mapping",
    ),
    pytest.param(
        to_one_and_back_to_many,
        "Country.users",
        "Order",
        ("Order.user", "User.country", "Country.users"),
        (True, True, False),
        id="to-one-and-back",
    ),
    pytest.param(both_of_them_selected, "Order.items", "Order", ("Order.items",), (False,), id="a-select-of-their-own"),
    pytest.param(the_larger_of_two_selects, "User.orders", "User", ("User.orders",), (False,), id="the-larger-select"),
    pytest.param(
        one_parent_selected_and_the_others_came_along,
        "Order.items",
        "User",
        ("User.orders", "Order.items"),
        (False, False),
        id="a-select-of-too-few",
    ),
    pytest.param(
        of_columns_no_object_came, "User.orders", "User", ("User.orders",), (False,), id="a-select-of-columns"
    ),
]


@pytest.mark.parametrize(("work", "name", "entity", "path", "to_one"), CASES)
def test_the_line_and_the_way(engine, work, name, entity, path, to_one):  # noqa: PLR0917 - a table's columns
    with watching(engine) as monitor, scoped() as scope, Session(engine) as session:
        work(session)
        queries = describe(scope, monitor).queries
    loaded = max((query for query in queries if query.relationship == name), key=lambda query: query.calls)
    assert (loaded.path, loaded.to_one, loaded.parent_entity) == (path, to_one, entity)
    assert (loaded.parent_site.function, loaded.parent_site.line) == (work.__name__, marked(work, "parents"))


def test_a_walk_along_a_tree_ends(engine):
    def walk(node):
        for child in node.children:
            walk(child)

    with watching(engine) as monitor, scoped() as scope, Session(engine) as session:
        walk(session.scalars(sa.select(Node).where(Node.parent_id.is_(None))).one())
        queries = describe(scope, monitor).queries
    [loaded] = [query for query in queries if query.relationship == "Node.children"]
    assert (loaded.path[-1], loaded.parent_entity, loaded.parent_rows) == ("Node.children", "Node", 1)
    assert loaded.contexts > loaded.parent_rows


def test_the_rows_of_the_parents_are_told(engine):
    with watching(engine) as monitor, scoped() as scope, Session(engine) as session:
        two_levels_lazy(session)
        queries = {query.relationship: query for query in describe(scope, monitor).queries}
    assert queries["User.orders"].parent_rows == USERS
    assert queries["Order.items"].parent_rows == 2 * USERS


def test_objects_of_another_scope_have_no_line(engine):
    with watching(engine) as monitor, Session(engine) as session:
        with scoped("before"):
            users = session.scalars(sa.select(User)).all()
        with scoped("after") as scope:
            for user in users:
                len(user.orders)
            [loaded] = describe(scope, monitor).queries
    assert (loaded.parent_site, loaded.parent_entity, loaded.parent_rows) == (None, None, None)
    assert (loaded.path, loaded.to_one) == (("User.orders",), (False,))


def test_a_select_of_one_is_not_that_of_all_others(engine):
    with watching(engine) as monitor, Session(engine) as session:
        with scoped("before"):
            users = session.scalars(sa.select(User)).all()
        with scoped("after") as scope:
            session.get(User, users[0].id, populate_existing=True)  # as the current user is loaded
            for user in users:
                len(user.orders)
            queries = describe(scope, monitor).queries
    [loaded] = [query for query in queries if query.relationship]
    assert (loaded.parent_site, loaded.parent_entity) == (None, None)


def test_nothing_is_known_of_what_was_not_seen():
    lineage = Lineage([])
    assert lineage.find_parents(LoadMark(), 5) == Origin(None)
    assert lineage.find_parents(LoadMark("lazy_load", ("User.orders",), (False,), parent="User"), 5) == Origin(None)
    far = LoadMark("lazy_load", ("User.orders", "Order.items"), (False, False), parent="Order")
    assert lineage.find_parents(far, 5) == Origin(None, ("User.orders",), (False,))
