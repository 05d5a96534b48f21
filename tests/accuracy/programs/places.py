"""One waste from every place that a line of an application can stand in."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from accuracy.expectation import finds, finds_nothing, given
from accuracy.models import Order, User
from accuracy.programs.serializer import read, serialize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

_TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)

orders_of_users = finds("n-plus-one", "lazy_load", "User.orders", fix="selectinload")


@orders_of_users
@given(scoped=False)
def plain_script(engine: Engine) -> None:
    # No scope is opened: the session's one checkout stands for it.
    with Session(engine) as session:
        for user in session.scalars(select(User).limit(10)):  # <- parents
            f"{user.name}: {len(user.orders)}"  # <- here


@orders_of_users
def template_render(session: Session) -> None:
    users = session.scalars(select(User).limit(10)).all()  # <- parents
    _TEMPLATES.get_template("users.html").render(users=users)  # <- here


@orders_of_users
def template_from_a_string(session: Session) -> None:
    template = jinja2.Template("{% for user in users %}{{ user.orders | length }}{% endfor %}", autoescape=True)
    template.render(users=session.scalars(select(User).limit(10)).all())  # <- here


@orders_of_users
def list_comprehension(session: Session) -> None:
    users = session.scalars(select(User).limit(10)).all()  # <- parents
    [len(user.orders) for user in users]  # <- here


@orders_of_users
def comprehension_over_several_lines(session: Session) -> None:
    users = session.scalars(select(User).limit(10)).all()  # <- parents
    {
        user.name: len(
            user.orders,  # <- here
        )
        for user in users
        if user.id
    }


@orders_of_users
def generator(session: Session) -> None:
    users = session.scalars(select(User).limit(10)).all()  # <- parents

    def totals() -> Iterator[int]:
        for user in users:
            yield sum(order.total for order in user.orders)  # <- here

    sum(totals())


@orders_of_users
def lambda_as_a_sort_key(session: Session) -> None:
    users = session.scalars(select(User).limit(10)).all()  # <- parents
    sorted(users, key=lambda user: len(user.orders))  # <- here


@orders_of_users
def nested_function(session: Session) -> None:
    def count(user: User) -> int:
        return len(user.orders)  # <- here

    users = session.scalars(select(User).limit(10)).all()  # <- parents
    sum(map(count, users))


@finds("n-plus-one", "lazy_load", "User.orders", fix="selectinload", line="order_count")
def property_of_a_model(session: Session) -> None:
    users = session.scalars(select(User).limit(10)).all()  # <- parents
    [user.order_count for user in users]


@finds("n-plus-one", "lazy_load", "User.orders", fix="selectinload")
@finds("n-plus-one", "lazy_load", "User.country", fix="joinedload")
def serializer_shared_by_all(session: Session) -> None:
    users = session.scalars(select(User).limit(10)).all()  # <- parents
    [serialize(user, "name", "orders", "country") for user in users]  # <- here


@finds("n-plus-one", "lazy_load", "User.orders", fix="selectinload", line="orders")
@finds("n-plus-one", "lazy_load", "User.country", fix="joinedload", line="country")
def getattr_shared_by_two_lines(session: Session) -> None:
    users = session.scalars(select(User).limit(10)).all()  # <- parents
    for user in users:
        read(user, "orders")  # <- orders
        read(user, "country")  # <- country


@orders_of_users
@given(scoped=False)
def thread_pool_with_a_session_in_the_worker(engine: Engine) -> None:
    def work() -> None:
        with Session(engine) as session:
            for user in session.scalars(select(User).limit(10)).all():  # <- parents
                len(user.orders)  # <- here

    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


@orders_of_users
def thread_pool_that_is_given_the_context(engine: Engine) -> None:
    def work(user_id: int) -> None:
        with Session(engine) as session:
            user = session.scalars(select(User).where(User.id < 20).offset(user_id).limit(1)).one()  # <- parents
            len(user.orders)  # <- here

    with ThreadPoolExecutor(2) as pool:
        for number in range(10):
            pool.submit(contextvars.copy_context().run, work, number).result()


@orders_of_users
async def async_handler(session: AsyncSession) -> None:
    users = (await session.scalars(select(User).limit(10))).all()  # <- parents
    for user in users:
        len(await user.awaitable_attrs.orders)  # <- here


@finds("n-plus-one", "lazy_load", "Order.user", fix="joinedload")
async def async_to_one(session: AsyncSession) -> None:
    orders = (await session.scalars(select(Order).order_by(Order.id).limit(10))).all()  # <- parents
    [(await order.awaitable_attrs.user).name for order in orders]  # <- here


@orders_of_users
async def async_stream(session: AsyncSession) -> None:
    users = [user async for user in await session.stream_scalars(select(User).limit(10))]  # <- parents
    for user in users:
        await user.awaitable_attrs.orders  # <- here


@finds("n-plus-one", ("lazy_load", "eager_loop"), "User.orders", fix="selectinload")
async def async_refresh_of_a_relationship(session: AsyncSession) -> None:
    users = (await session.scalars(select(User).limit(10))).all()
    for user in users:
        await session.refresh(user, ["orders"])  # <- here


@orders_of_users
async def run_sync_of_a_function(session: AsyncSession) -> None:
    users = (await session.scalars(select(User).limit(10))).all()  # <- parents

    def count(_: Session) -> int:
        return sum(len(user.orders) for user in users)  # <- here

    await session.run_sync(count)


@orders_of_users
async def run_sync_of_a_template(session: AsyncSession) -> None:
    users = (await session.scalars(select(User).limit(10))).all()  # <- parents
    render = functools.partial(_TEMPLATES.get_template("users.html").render, users=users)
    await session.run_sync(lambda _: render())  # <- here


@finds("n-plus-one", "get_loop", "users", fix="in_query")
async def async_get_by_key(session: AsyncSession) -> None:
    for number in range(1, 11):
        await session.get(User, number)  # <- here


@orders_of_users
async def tasks_of_one_request(engine: AsyncEngine) -> None:
    async def work(number: int) -> None:
        async with AsyncSession(engine) as session:
            user = (await session.scalars(select(User).offset(number).limit(1))).one()  # <- parents
            await user.awaitable_attrs.orders  # <- here

    for number in range(10):
        await asyncio.create_task(work(number))


@finds_nothing("n-plus-one/lazy_load")
async def async_selectin(session: AsyncSession) -> None:
    from sqlalchemy.orm import selectinload  # noqa: PLC0415

    for user in await session.scalars(select(User).options(selectinload(User.orders))):
        len(user.orders)
