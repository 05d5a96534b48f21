"""Connections that are held, waited for, or used more than a scope may."""

from __future__ import annotations

import asyncio
import time
from threading import Event, Thread
from typing import TYPE_CHECKING

from sqlalchemy import func, insert, select, text
from sqlalchemy.orm import Session

from accuracy.expectation import finds, finds_nothing, given
from accuracy.models import Country, Order, Product, Tag, User

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

LONG, WAIT, BUDGET = "long-transaction", "pool-wait", "scope-budget"
_SHORT_S, _WORK_S = 0.03, 0.05
short = given(settings={"long_transaction_s": _SHORT_S})
# Where nothing may be found, a busy machine must not hold a connection longer than the limit by itself.
_GENEROUS_S, _LONG_WORK_S = 0.2, 0.25
generous = given(settings={"long_transaction_s": _GENEROUS_S})
_BUSY = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT max(i) FROM n"


@finds("long-transaction", None, fix="shorten")
@short
def work_between_two_statements(session: Session) -> None:
    user = session.scalars(select(User).limit(1)).one()
    time.sleep(_WORK_S)
    user.name = "new"
    session.commit()


@finds("long-transaction", None, fix="shorten")
@short
def work_after_a_read(session: Session) -> None:
    session.scalars(select(User).limit(1)).one()
    time.sleep(_WORK_S)


@finds("long-transaction", None, fix="shorten")
@short
def work_in_a_transaction_of_the_core(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(insert(Tag).values(name="new"))
        time.sleep(_WORK_S)


@finds("long-transaction", None, fix="shorten")
@short
async def async_work_between_two_statements(session: AsyncSession) -> None:
    await session.scalars(select(User).limit(1))
    await asyncio.sleep(_WORK_S)
    await session.scalar(select(func.count()).select_from(Order))


@finds_nothing(LONG)
@generous
def work_after_the_commit(session: Session) -> None:
    session.scalars(select(User).limit(1)).one()
    session.commit()
    time.sleep(_LONG_WORK_S)


@finds_nothing(LONG)
@generous
def work_before_the_first_statement(session: Session) -> None:
    # A session takes its connection with the first statement.
    time.sleep(_LONG_WORK_S)
    session.scalars(select(User).limit(1)).one()


@finds_nothing(LONG)
@generous
async def async_work_after_the_connection_is_back(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(select(User.id))
    await asyncio.sleep(_LONG_WORK_S)


@finds_nothing(LONG)
@generous
def a_database_that_is_busy_all_the_time(connection: Connection) -> None:
    began = time.perf_counter()
    for rows in (400_000, 400_001, 400_002, 400_003):
        if time.perf_counter() - began < _LONG_WORK_S:
            connection.execute(text(_BUSY.format(rows))).scalar_one()


# -- Waiting for one


@finds("pool-wait", None, fix="pool_size")
@given(engine={"pool_size": 1, "max_overflow": 0}, settings={"pool_wait_s": _SHORT_S})
def waits_for_the_only_connection(engine: Engine) -> None:
    held = Event()

    def hold() -> None:
        with engine.connect() as connection:
            connection.execute(select(Country.id)).all()
            held.set()
            time.sleep(_WORK_S)

    holder = Thread(target=hold)
    holder.start()
    held.wait(30.0)
    with Session(engine) as session:
        session.scalars(select(User).limit(1)).one()
    holder.join()


@finds("pool-wait", None, fix="pool_size")
@given(engine={"pool_size": 1, "max_overflow": 0}, settings={"pool_wait_s": _SHORT_S})
async def tasks_wait_for_the_only_connection(engine: AsyncEngine) -> None:
    async def work(model: type[Country | Order]) -> None:
        async with engine.connect() as connection:
            await connection.execute(select(model.id))
            await asyncio.sleep(_WORK_S)

    await asyncio.gather(work(Country), work(Order))


@finds_nothing(WAIT)
@given(engine={"pool_size": 2}, settings={"pool_wait_s": _GENEROUS_S})
async def tasks_with_a_connection_each(engine: AsyncEngine) -> None:
    async def work(model: type[Country | Order]) -> None:
        async with engine.connect() as connection:
            await connection.execute(select(model.id))
            await asyncio.sleep(_LONG_WORK_S)

    await asyncio.gather(work(Country), work(Order))


@finds_nothing(WAIT)
@given(engine={"pool_size": 1, "max_overflow": 0}, settings={"pool_wait_s": _GENEROUS_S})
def one_connection_taken_many_times(engine: Engine) -> None:
    for model in (User, Order, Product, Tag, Country):
        with engine.connect() as connection:
            connection.execute(select(model.id)).all()


# -- More than the scope may


@finds("scope-budget", None, fix="none")
@given(settings={"max_queries": 3})
def more_queries_than_allowed(session: Session) -> None:
    for model in (User, Order, Product, Tag):
        session.scalar(select(func.count()).select_from(model))


@finds("scope-budget", None, fix="none")
@given(settings={"max_db_s": 0.005})
def more_time_than_allowed(connection: Connection) -> None:
    connection.execute(text(_BUSY.format(300_000))).scalar_one()


@finds_nothing(BUDGET)
@given(settings={"max_queries": 4})
def as_many_queries_as_allowed(session: Session) -> None:
    for model in (User, Order, Product, Tag):
        session.scalar(select(func.count()).select_from(model))
