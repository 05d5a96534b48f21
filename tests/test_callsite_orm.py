"""Whose line it is that a mapped attribute was read for, and what the ORM was doing when it sent a statement."""

from __future__ import annotations

import asyncio
import functools
import inspect
import operator
import textwrap
import threading

import jinja2
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.asyncio import AsyncAttrs, AsyncSession, create_async_engine
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from querywatch.callsite import describe_caller, find_caller


class Base(AsyncAttrs, DeclarativeBase):
    """A base class as many applications have: it reads whatever it is told to."""

    id: Mapped[int] = mapped_column(primary_key=True)

    def to_dict(self, *names):
        return {name: getattr(self, name) for name in names}

    def to_dict_in_steps(self, names):
        result = {}
        for name in names:
            value = getattr(self, name, None)
            result[name] = [each.to_dict_in_steps(["id"]) for each in value] if isinstance(value, list) else value
        return result

    def to_dict_of_the_mapping(self):
        return {each.key: getattr(self, each.key) for each in self.__mapper__.relationships if each.uselist}

    def to_nested_dict(self, names):
        return [{name: [str(each) for each in getattr(self, name)] for name in part} for part in [names]]

    def to_pairs(self, names):
        return ((name, getattr(self, name)) for name in names)

    def read_plainly(self, name):
        return object.__getattribute__(self, name)

    def render(self, kind, *names):
        return getattr(self, f"to_{kind}")(*names)

    async def to_dict_async(self, names):
        return {name: await getattr(self.awaitable_attrs, name) for name in names}


class User(Base):
    __tablename__ = "users"
    orders: Mapped[list[Order]] = relationship(back_populates="user")
    totals: AssociationProxy[list[int]] = association_proxy("orders", "total")

    @hybrid_property
    def spent(self):
        return sum(order.total for order in self.orders)  # <- spent

    @property
    def order_count(self):
        return len(self.orders)  # <- order_count


class Order(Base):
    __tablename__ = "orders"
    user_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    total: Mapped[int] = mapped_column(default=1)
    user: Mapped[User | None] = relationship(back_populates="orders")


class Folder(Base):
    __tablename__ = "folders"
    files: Mapped[list[File]] = relationship(cascade="all, delete-orphan")


class File(Base):
    __tablename__ = "files"
    folder_id: Mapped[int] = mapped_column(sa.ForeignKey("folders.id"))


class Probe:
    """Asks for the caller where SQLAlchemy has gone down to the driver."""

    def __init__(self, engine):
        self.callers = []
        names = {"seen": self.callers, "find_caller": find_caller}
        # Of no file, or the probe itself would be the application's innermost line.
        source = """
            def ask(connection, cursor, statement, *rest):
                seen.append((statement.partition(" ")[0], find_caller()))
        """
        exec(compile(textwrap.dedent(source), "<probe>", "exec"), names)
        sa.event.listen(engine, "before_cursor_execute", names["ask"])

    def take(self):
        """Return the line that asked for the one statement since."""
        [(_, caller)] = self.callers
        self.callers.clear()
        return describe_caller(caller.code, caller.line), caller.attribute


@pytest.fixture
def engine():
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([User(id=1, orders=[Order(id=1), Order(id=2)]), Folder(id=1, files=[File(id=1), File(id=2)])])
        session.commit()
    yield engine
    engine.dispose()


def marked(function, mark="here"):
    """Return the number of the line of *function* that ends in `# <- mark`."""
    lines, first = inspect.getsourcelines(function)
    [number] = [number for number, text in enumerate(lines) if text.rstrip().endswith(f"# <- {mark}")]
    return first + number


# -- lines that read whatever they are told to


def read(row, name):
    return getattr(row, name)


def serialize(row, fields):
    return {field: read(row, field) for field in fields if getattr(row, field, None) is not None}


def pick(*names):
    return lambda row: [getattr(row, name) for name in names]


def base_class(user):
    user.to_dict("id", "orders")  # <- here


def base_class_that_calls_itself(user):
    user.to_dict_in_steps(["id", "orders"])  # <- here


def base_class_that_asks_the_mapping(user):
    user.to_dict_of_the_mapping()  # <- here


def comprehension_in_a_comprehension(user):
    user.to_nested_dict(["orders"])  # <- here


def generator_that_is_run_here(user):
    dict(user.to_pairs(["orders"]))  # <- here


def getattribute(user):
    user.read_plainly("orders")  # <- here


def two_layers(user):
    serialize(user, ["orders"])  # <- here


def lambda_made_elsewhere(user):
    pick("id", "orders")(user)  # <- here


def getter_made_of_names(user):
    def get(*names):
        return operator.attrgetter(*names)(user)

    get("orders")  # <- here


def mapped_getattr(user):
    def get(names):
        return list(map(functools.partial(getattr, user), names))

    get(["orders"])  # <- here


def method_found_by_name(user):
    user.render("dict", "orders")  # <- here


def from_a_comprehension(user):
    [each.to_dict("orders") for each in [user]]  # <- here


def beside_a_getattr_of_a_name_that_is_written(user):
    getattr(user, "tenant", None)
    user.to_dict("orders")  # <- here


def a_template_around_the_base_class(user):
    jinja2.Template("{{ user.to_dict('orders') }}").render(user=user)  # <- here


SHARED = [
    base_class,
    base_class_that_calls_itself,
    base_class_that_asks_the_mapping,
    comprehension_in_a_comprehension,
    generator_that_is_run_here,
    getattribute,
    two_layers,
    lambda_made_elsewhere,
    getter_made_of_names,
    mapped_getattr,
    method_found_by_name,
    from_a_comprehension,
    beside_a_getattr_of_a_name_that_is_written,
    a_template_around_the_base_class,
]


# -- lines that name what they read


def attribute_read(user):
    len(user.orders)  # <- here


def getattr_of_a_name(user):
    getattr(user, "orders")  # noqa: B009  # <- here


def getattr_of_a_name_with_a_default(user):
    getattr(user, "orders", None)  # <- here


def getter_of_a_name(user):
    list(map(operator.attrgetter("orders"), [user]))  # <- here


def names_in_a_loop(user):
    for name in ("id", "orders"):
        getattr(user, name)  # <- here


def names_in_a_comprehension(user):
    return [getattr(user, name) for name in ("id", "orders")]  # <- here


def names_in_a_set(user):
    names = {"id", "orders", "totals"}
    return [getattr(user, name) for name in names if name != "totals"]  # <- here


def names_in_a_dict(user):
    columns = {"id": "Id", "orders": "Orders", "created": "Created"}
    return {title: getattr(user, name, None) for name, title in columns.items()}  # <- here


def attribute_beside_any_getattr(user):
    for name in user.__dict__.copy():
        getattr(user, name)
    len(user.orders)  # <- here


def template_beside_a_getattr_of_a_name_that_is_written(user):
    tenant = getattr(user, "tenant", None)
    jinja2.Template("{{ tenant }} {{ user.orders | length }}").render(user=user, tenant=tenant)  # <- here


def template_beside_any_getattr(user):
    values = [getattr(user, name, None) for name in dir(jinja2) if name.islower()]
    jinja2.Template("{{ user.orders | length }} {{ values }}").render(user=user, values=values)  # <- here


def proxy(user):
    list(user.totals)  # <- here


NAMED = [
    attribute_read,
    getattr_of_a_name,
    getter_of_a_name,
    getattr_of_a_name_with_a_default,
    names_in_a_loop,
    names_in_a_comprehension,
    names_in_a_set,
    names_in_a_dict,
    attribute_beside_any_getattr,
    template_beside_a_getattr_of_a_name_that_is_written,
    template_beside_any_getattr,
    proxy,
]


@pytest.mark.parametrize("work", [*SHARED, *NAMED], ids=lambda work: work.__name__)
def test_the_line_is_the_one_that_chose_the_attribute(engine, work):
    with Session(engine) as session:
        user = session.get(User, 1)
        probe = Probe(engine)
        work(user)
    site, attribute = probe.take()
    assert (site.function, site.line) == (work.__name__, marked(work))
    assert attribute == ("totals" if work is proxy else "orders")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        pytest.param("spent", marked(User.__dict__["spent"].fget, "spent"), id="hybrid"),
        pytest.param("order_count", marked(User.order_count.fget, "order_count"), id="property"),
    ],
)
def test_a_property_of_the_class_is_the_line_however_it_is_read(engine, name, line):
    with Session(engine) as session:
        user = session.get(User, 1)
        probe = Probe(engine)
        user.to_dict(name)
    site, attribute = probe.take()
    assert (site.line, attribute) == (line, "orders")


def test_where_all_lines_read_whatever_they_are_told_to_the_innermost_stays(engine):
    with Session(engine) as session:
        user = session.get(User, 1)
        probe = Probe(engine)
        # Of the application nothing but that line is on the thread's stack.
        thread = threading.Thread(target=read, args=[user, "orders"])
        thread.start()
        thread.join()
    site, attribute = probe.take()
    assert (site.function, attribute) == ("read", "orders")


def test_past_a_base_class_that_awaits():
    async def main():
        engine = create_async_engine("sqlite+aiosqlite://", poolclass=sa.pool.StaticPool)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(engine) as session:
            session.add(User(id=1))
            await session.commit()
        async with AsyncSession(engine) as session:
            user = await session.get_one(User, 1)
            probe = Probe(engine.sync_engine)
            await user.to_dict_async(["orders"])  # <- here
        await engine.dispose()
        return probe.take()

    site, attribute = asyncio.run(main())
    assert (site.line, site.function, attribute) == (marked(test_past_a_base_class_that_awaits), "main", "orders")


# -- what the ORM was doing


def autoflush(session):
    session.add(User(id=7))
    session.scalars(sa.select(User).where(User.id == 7)).all()


def explicit_flush(session):
    session.add(User(id=7))
    session.flush()


def commit(session):
    session.add(User(id=7))
    session.commit()


def merge(session):
    session.merge(User(id=1, orders=[]))


def delete_with_cascade(session):
    folder = session.get(Folder, 1)
    session.delete(folder)


def flush_of_a_delete(session):
    # Without a cascade the flush reads the children, to let go of them.
    user = session.get(User, 1)
    session.delete(user)
    session.flush()


def immediate(session):
    session.scalars(sa.select(User).options(sa.orm.immediateload(User.orders))).all()


def append(session):
    user = session.get(User, 1)
    user.orders.append(Order())


def replace(session):
    user = session.get(User, 1)
    user.orders = []


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        pytest.param(lambda session: session.scalars(sa.select(User)).all(), [("SELECT", (), None)], id="select"),
        pytest.param(lambda session: session.get(User, 1), [("SELECT", ("get",), None)], id="get"),
        pytest.param(
            lambda session: session.query(User).get(1),
            [("SELECT", ("get",), None)],
            id="get-of-a-query",
            marks=pytest.mark.filterwarnings("ignore:The Query.get"),
        ),
        pytest.param(explicit_flush, [("INSERT", ("flush",), None)], id="flush"),
        pytest.param(commit, [("INSERT", ("flush",), None)], id="commit"),
        pytest.param(
            autoflush, [("INSERT", ("flush", "autoflush"), None), ("SELECT", (), None)], id="autoflush-and-its-select"
        ),
        pytest.param(merge, [("SELECT", ("get", "merge"), None), ("SELECT", ("merge",), None)], id="merge"),
        pytest.param(
            lambda session: session.refresh(session.get(User, 1)),
            [("SELECT", ("get",), None), ("SELECT", ("refresh",), None)],
            id="refresh",
        ),
        pytest.param(delete_with_cascade, [("SELECT", ("get",), None), ("SELECT", ("cascade",), None)], id="cascade"),
        pytest.param(
            flush_of_a_delete,
            [
                ("SELECT", ("get",), None),
                ("SELECT", ("flush",), None),
                ("UPDATE", ("flush",), None),
                ("DELETE", ("flush",), None),
            ],
            id="flush-of-a-delete",
        ),
        pytest.param(immediate, [("SELECT", (), None), ("SELECT", ("immediate",), None)], id="immediateload"),
        *(
            pytest.param(
                work, [("SELECT", ("get",), None), ("SELECT", (), "orders")], id=f"{work.__name__}-reads-first"
            )
            for work in (append, replace)
        ),
    ],
)
def test_what_the_orm_was_doing(engine, work, expected):
    with Session(engine) as session:
        probe = Probe(engine)
        work(session)
        seen = [(statement, tuple(dict.fromkeys(caller.acts)), caller.attribute) for statement, caller in probe.callers]
    assert seen == expected


def test_a_flush_is_the_same_object_for_all_its_statements_and_another_for_the_next(engine):
    with Session(engine) as session:
        probe = Probe(engine)
        session.add_all([User(id=7), Folder(id=7)])
        session.flush()
        session.add(User(id=8))
        session.flush()
        session.scalars(sa.select(User)).all()
    flushes = [caller.flush for _, caller in probe.callers]
    assert flushes[0] is flushes[1] is not None
    assert flushes[2] is not flushes[0]
    assert flushes[3] is None
