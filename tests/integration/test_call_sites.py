"""A finding names the application's line, and the line that loaded the parents, wherever these stand."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import jinja2
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncAttrs, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

import querywatch

TEMPLATE = "{% for user in users %}\n{{ user.id }}:\n{{ user.orders | length }}\n{% endfor %}"


class Base(AsyncAttrs, DeclarativeBase):
    id: Mapped[int] = mapped_column(primary_key=True)

    def to_dict(self, *names):
        return {name: getattr(self, name) for name in names}


class User(Base):
    __tablename__ = "users"
    orders: Mapped[list[Order]] = relationship(back_populates="user")

    @property
    def order_count(self):
        return len(self.orders)  # <- here


class Order(Base):
    __tablename__ = "orders"
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"))
    user: Mapped[User] = relationship(back_populates="orders")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "shop.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(User(orders=[Order(), Order()]) for _ in range(8))
        session.commit()
    engine.dispose()
    return path


def marked(function, mark):
    """Return the number of the line of *function* that ends in `# <- mark`."""
    lines, first = inspect.getsourcelines(function)
    [number] = [number for number, text in enumerate(lines) if text.rstrip().endswith(f"# <- {mark}")]
    return first + number


# -- places


def plain_loop(session):
    for user in session.scalars(sa.select(User)):  # <- parents
        len(user.orders)  # <- here


def statement_over_several_lines(session):
    users = session.scalars(  # <- parents
        sa.select(User).order_by(User.id),
    ).all()
    for user in users:
        divmod(
            user.id,
            len(user.orders),  # <- here
        )


def template_of_a_file(session):
    users = session.scalars(sa.select(User)).all()  # <- parents
    environment = jinja2.Environment(loader=jinja2.DictLoader({"users.html": TEMPLATE}), autoescape=True)
    environment.get_template("users.html").render(users=users)  # <- here


def template_of_a_string(session):
    users = session.scalars(sa.select(User)).all()  # <- parents
    jinja2.Template(TEMPLATE, autoescape=True).render(users=users)  # <- here


def list_comprehension(session):
    users = session.scalars(sa.select(User)).all()  # <- parents
    return [len(user.orders) for user in users]  # <- here


def nested_comprehension(session):
    users = session.scalars(sa.select(User)).all()  # <- parents
    return [
        order.id
        for user in users
        for order in user.orders  # <- here
    ]


def dict_comprehension(session):
    return {
        user.id: len(user.orders)  # <- here
        for user in session.scalars(sa.select(User))  # <- parents
    }


def generator(session):
    users = session.scalars(sa.select(User)).all()  # <- parents

    def totals():
        for user in users:
            yield len(user.orders)  # <- here

    return sum(totals())


def generator_expression(session):
    users = session.scalars(sa.select(User)).all()  # <- parents
    return sum(len(user.orders) for user in users)  # <- here


def sort_key(session):
    users = session.scalars(sa.select(User)).all()  # <- parents
    return sorted(users, key=lambda user: len(user.orders))  # <- here


def base_class(session):
    users = session.scalars(sa.select(User)).all()  # <- parents
    return [user.to_dict("id", "orders") for user in users]  # <- here


def base_class_in_a_template(session):
    users = session.scalars(sa.select(User)).all()  # <- parents
    template = jinja2.Template("{% for user in users %}{{ user.to_dict('orders') }}{% endfor %}", autoescape=True)
    template.render(users=users)  # <- here


def exec_of_a_text(session):
    users = session.scalars(sa.select(User)).all()  # <- parents
    exec("for user in users: len(user.orders)", {"users": users})  # <- here


PLACES = [
    plain_loop,
    statement_over_several_lines,
    template_of_a_file,
    template_of_a_string,
    list_comprehension,
    nested_comprehension,
    dict_comprehension,
    generator,
    generator_expression,
    sort_key,
    base_class,
    base_class_in_a_template,
    exec_of_a_text,
]


@pytest.fixture
def find(path):
    """Watch an engine for one piece of work, and return the line of the one finding and that of the parents."""
    engine = sa.create_engine(f"sqlite:///{path}")
    monitor = querywatch.install(engine, explain=False, slow_query_s=float("inf"))

    def find(work):
        with querywatch.watch("job"):
            work(engine)
        assert monitor.flush(60.0)
        return read_lines(monitor)

    yield find
    monitor.close()
    engine.dispose()


def read_lines(monitor):
    [finding] = monitor.findings()
    assert (finding.code, finding.kind, finding.subject) == ("n-plus-one", "lazy_load", "User.orders")
    site, (file, _, line) = finding.call_site, finding.evidence.parent_site.rpartition(":")
    assert site.file == file
    return site.line, int(line), site.function


@pytest.mark.parametrize("work", PLACES, ids=lambda work: work.__name__)
def test_the_line_and_that_of_the_parents(find, work):
    def run(engine):
        with Session(engine) as session:
            work(session)

    here, parents, function = find(run)
    assert (here, parents) == (marked(work, "here"), marked(work, "parents"))
    assert function.partition(".")[0] in {work.__name__, "totals"}


def test_a_property_is_the_line(find):
    def work(engine):
        with Session(engine) as session:
            for user in session.scalars(sa.select(User)):  # <- parents
                user.to_dict("order_count")

    here, parents, function = find(work)
    assert (here, function) == (marked(User.order_count.fget, "here"), "User.order_count")
    assert parents == marked(work, "parents")


def test_where_a_template_loads_the_parents_too_both_are_its_render_line(find):
    def work(engine):
        with Session(engine) as session:
            template = jinja2.Template(
                "{% for user in read() %}{{ user.orders | length }}{% endfor %}", autoescape=True
            )
            template.render(read=session.query(User).all)  # <- here

    here, parents, _ = find(work)
    assert here == parents == marked(work, "here")


@pytest.mark.parametrize("copies_context", [True, False], ids=["context-copied", "context-lost"])
def test_a_thread_pool(path, copies_context):
    engine = sa.create_engine(f"sqlite:///{path}")
    monitor = querywatch.install(engine, explain=False, slow_query_s=float("inf"))

    def work():
        with Session(engine) as session:
            for user in session.scalars(sa.select(User)):  # <- parents
                len(user.orders)  # <- here

    with querywatch.watch("job"), ThreadPoolExecutor(2) as pool:
        run = (contextvars.copy_context().run, work) if copies_context else (work,)
        pool.submit(*run).result()
    assert monitor.flush(60.0)
    here, parents, _ = read_lines(monitor)
    assert (here, parents) == (marked(test_a_thread_pool, "here"), marked(test_a_thread_pool, "parents"))
    assert [finding.scope for finding in monitor.findings()] == ["job" if copies_context else None]
    monitor.close()
    engine.dispose()


async def awaited_attribute(session):
    users = (await session.scalars(sa.select(User))).all()  # <- parents
    for user in users:
        len(await user.awaitable_attrs.orders)  # <- here


async def awaited_in_a_comprehension(session):
    users = (await session.scalars(sa.select(User))).all()  # <- parents
    return [len(await user.awaitable_attrs.orders) for user in users]  # <- here


async def awaited_in_a_generator(session):
    async def read(users):
        for user in users:
            yield await user.awaitable_attrs.orders  # <- here

    users = (await session.scalars(sa.select(User))).all()  # <- parents
    return [orders async for orders in read(users)]


async def streamed_parents(session):
    users = [user async for user in await session.stream_scalars(sa.select(User))]  # <- parents
    for user in users:
        await user.awaitable_attrs.orders  # <- here


async def function_in_run_sync(session):
    users = (await session.scalars(sa.select(User))).all()  # <- parents

    def count(_):
        return [len(user.orders) for user in users]  # <- here

    await session.run_sync(count)


async def template_in_run_sync(session):
    users = (await session.scalars(sa.select(User))).all()  # <- parents
    template = jinja2.Template(TEMPLATE, autoescape=True)
    await session.run_sync(lambda _: template.render(users=users))  # <- here


async def task(session):
    users = (await session.scalars(sa.select(User))).all()  # <- parents

    async def read():
        for user in users:
            await user.awaitable_attrs.orders  # <- here

    await asyncio.create_task(read())


@pytest.mark.parametrize(
    "work",
    [
        awaited_attribute,
        awaited_in_a_comprehension,
        awaited_in_a_generator,
        streamed_parents,
        function_in_run_sync,
        template_in_run_sync,
        task,
    ],
    ids=lambda work: work.__name__,
)
@pytest.mark.parametrize("driver", ["aiosqlite", "asyncpg", "psycopg"])
def test_an_async_handler(request, work, driver):
    async def main():
        engine = create_async_engine(make_url(request, driver))
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(engine) as session:
            session.add_all(User(orders=[Order(), Order()]) for _ in range(8))
            await session.commit()
        monitor = querywatch.install(engine, explain=False, slow_query_s=float("inf"))
        with querywatch.watch("GET /users"):
            async with AsyncSession(engine) as session:
                await work(session)
        assert await monitor.aflush(60.0)
        lines = read_lines(monitor)
        monitor.close()
        await engine.dispose()
        return lines

    here, parents, _ = asyncio.run(main())
    assert (here, parents) == (marked(work, "here"), marked(work, "parents"))


def make_url(request, driver):
    if driver == "aiosqlite":
        return f"sqlite+aiosqlite:///{request.getfixturevalue('tmp_path') / 'async.db'}"
    return sa.make_url(request.getfixturevalue("postgres_database")).set(drivername=f"postgresql+{driver}")


def test_a_plain_script(tmp_path, path):
    source = f"""
        import querywatch
        from sqlalchemy import ForeignKey, create_engine, select
        from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

        class Base(DeclarativeBase):
            id: Mapped[int] = mapped_column(primary_key=True)

        class Order(Base):
            __tablename__ = "orders"
            user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))

        class User(Base):
            __tablename__ = "users"
            orders: Mapped[list[Order]] = relationship()

        engine = create_engine("sqlite:///{path}")
        monitor = querywatch.install(engine, explain=False, slow_query_s=float("inf"))
        with Session(engine) as session:
            users = session.scalars(select(User)).all()  # <- parents
            for user in users:
                len(user.orders)  # <- here
        monitor.flush(60)
        for finding in monitor.findings():
            print(finding.call_site, finding.call_site.function, finding.evidence.parent_site)
    """
    lines = textwrap.dedent(source).splitlines()
    (tmp_path / "script.py").write_text("\n".join(lines))
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    here, parents = (
        next(number for number, text in enumerate(lines, 1) if text.endswith(f"# <- {mark}"))
        for mark in ("here", "parents")
    )
    assert done.stdout == f"script.py:{here} <module> script.py:{parents}\n"
