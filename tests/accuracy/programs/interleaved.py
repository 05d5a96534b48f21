"""Several requests at once: what one does is not added to what another does."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

import querywatch
from accuracy.expectation import finds, finds_nothing, given
from accuracy.models import Product, User

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

LAZY, GET = "n-plus-one/lazy_load", "n-plus-one/get_loop"
_BELOW, _REQUESTS = 4, 4


@finds_nothing(LAZY)
@given(scoped=False)
def requests_in_threads(engine: Engine) -> None:
    together = Barrier(_REQUESTS)

    def handle(_: int) -> None:
        with querywatch.watch("GET /users"), Session(engine) as session:
            users = session.scalars(select(User).limit(_BELOW)).all()
            for user in users:
                together.wait(30.0)
                len(user.orders)

    with ThreadPoolExecutor(_REQUESTS) as pool:
        list(pool.map(handle, range(_REQUESTS)))


@finds_nothing(GET)
@given(scoped=False)
def requests_one_after_another(engine: Engine) -> None:
    for _ in range(_REQUESTS):
        with querywatch.watch("GET /products"), Session(engine) as session:
            for number in range(1, _BELOW + 1):
                session.get(Product, number)


@finds_nothing(GET)
@given(scoped=False)
def checkouts_one_after_another(engine: Engine) -> None:
    # Without any scope, each checkout is one.
    for number in range(1, 11):
        with Session(engine) as session:
            session.get(Product, number)


@finds_nothing("write-loop")
@given(scoped=False)
def one_write_in_each_request(engine: Engine) -> None:
    for number in range(10):
        with querywatch.watch("POST /tags"), engine.begin() as connection:
            connection.execute(insert(Product.__table__).values(name=f"new {number}", price=1, category_id=1))


@finds_nothing(LAZY)
@given(scoped=False)
async def requests_in_tasks(engine: AsyncEngine) -> None:
    async def handle() -> None:
        with querywatch.watch("GET /users"):
            async with AsyncSession(engine) as session:
                for user in (await session.scalars(select(User).limit(_BELOW))).all():
                    await asyncio.sleep(0)
                    await user.awaitable_attrs.orders

    await asyncio.gather(*(handle() for _ in range(_REQUESTS)))


@finds("n-plus-one", "lazy_load", "User.orders", fix="selectinload")
@given(scoped=False)
async def two_requests_in_tasks_each_with_a_loop(engine: AsyncEngine) -> None:
    async def handle() -> None:
        with querywatch.watch("GET /users"):
            async with AsyncSession(engine) as session:
                for user in (await session.scalars(select(User).limit(10))).all():  # <- parents
                    await user.awaitable_attrs.orders  # <- here

    await asyncio.gather(handle(), handle())


@finds("n-plus-one", "lazy_load", "User.orders", fix="selectinload")
@given(scoped=False)
def a_loop_in_one_of_several_requests(engine: Engine) -> None:
    def handle(parents: int) -> None:
        with querywatch.watch("GET /users"), Session(engine) as session:
            for user in session.scalars(select(User).limit(parents)).all():  # <- parents
                len(user.orders)  # <- here

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(handle, (_BELOW, 10, _BELOW)))


@finds_nothing(LAZY)
@given(scoped=False)
def a_scope_within_a_scope_stands_for_itself(engine: Engine) -> None:
    with Session(engine) as session, querywatch.watch("outer"):
        users = session.scalars(select(User).limit(2 * _BELOW)).all()
        for user in users[:_BELOW]:
            len(user.orders)
        with querywatch.watch("inner"):
            for user in users[_BELOW:]:
                len(user.orders)
