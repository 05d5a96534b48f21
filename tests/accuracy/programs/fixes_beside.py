"""The pairs of `fixes`, for what is found beside N+1s."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, text
from sqlalchemy.orm import selectinload

from accuracy.expectation import finds, finds_nothing, given
from accuracy.models import (
    Category,
    Order,
    Product,
    Sample,
    Setting,
    Tag,
    User,
)
from accuracy.programs.lookups import UNIQUE
from accuracy.programs.writes import upsert_into

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.orm import Session

tags, settings = Tag.__table__, Setting.__table__


# -- duplicate-query


@finds("duplicate-query", None, "settings", fix="cache")
def cache_before(connection: Connection) -> None:
    for _ in range(10):
        connection.scalar(select(settings.c.value).where(settings.c.key == "key 1"))  # <- here


@finds_nothing("duplicate-query")
def cache_after(connection: Connection) -> None:
    value = connection.scalar(select(settings.c.value).where(settings.c.key == "key 1"))
    assert [value for _ in range(10)]


# -- write-loop


@finds("write-loop", None, "tags", fix="executemany")
def executemany_before(connection: Connection) -> None:
    for number in range(10):
        connection.execute(insert(tags).values(name=f"new {number}"))  # <- here


@finds_nothing("write-loop")
def executemany_after(connection: Connection) -> None:
    connection.execute(insert(tags), [{"name": f"new {number}"} for number in range(10)])


@finds("write-loop", None, "tags", fix="bulk_add")
def bulk_add_before(session: Session) -> None:
    for number in range(10):
        session.add(Tag(name=f"new {number}"))
        session.flush()  # <- here


@finds_nothing("write-loop")
def bulk_add_after(session: Session) -> None:
    session.add_all([Tag(name=f"new {number}") for number in range(10)])
    session.flush()


@finds("write-loop", None, "tags", fix="single_commit")
def single_commit_before(session: Session) -> None:
    for number in range(10):
        session.add(Tag(name=f"new {number}"))
        session.commit()  # <- here


@finds_nothing("write-loop")
def single_commit_after(session: Session) -> None:
    for number in range(10):
        session.add(Tag(name=f"new {number}"))
    session.commit()


@finds("n-plus-one", "core_loop", "categories", fix="in_query")
@finds("write-loop", None, "products", fix="no_autoflush")
def no_autoflush_before(session: Session) -> None:
    for number in range(6):
        category_id = session.scalars(select(Category.id).where(Category.name == f"root {number}")).one()  # <- here
        session.add(Product(name="?", price=1, category_id=category_id))


@finds("n-plus-one", "core_loop", "categories", fix="in_query")
def no_autoflush_after(session: Session) -> None:
    # The lookups remain, and are another finding with another fix.
    with session.no_autoflush:
        for number in range(6):
            category_id = session.scalars(select(Category.id).where(Category.name == f"root {number}")).one()  # <- here
            session.add(Product(name="?", price=1, category_id=category_id))
    session.flush()


@finds("n-plus-one", UNIQUE, "settings", fix="in_query", line="look", optional=True)
@finds("write-loop", None, "settings", fix="upsert")
def upsert_before(connection: Connection) -> None:
    for number in range(10):
        key = f"new {number}"
        if connection.scalar(select(settings.c.id).where(settings.c.key == key)) is None:  # <- look
            connection.execute(insert(settings).values(key=key, value="new"))  # <- here


@finds_nothing("write-loop")
def upsert_after(connection: Connection) -> None:
    rows = upsert_into(connection, settings).values([{"key": f"new {n}", "value": "new"} for n in range(10)])
    connection.execute(rows.on_conflict_do_update(index_elements=["key"], set_={"value": rows.excluded.value}))


# -- The other codes


@finds("unused-eager-load", None, "User.orders", fix="remove_eager")
@given(settings={"unused_eager_loads": 1.0})
def remove_eager_before(session: Session) -> None:
    users = session.scalars(select(User).limit(10).options(selectinload(User.orders))).all()  # <- here
    [user.name for user in users]


@finds_nothing("unused-eager-load")
@given(settings={"unused_eager_loads": 1.0})
def remove_eager_after(session: Session) -> None:
    [user.name for user in session.scalars(select(User).limit(10)).all()]


@finds("select-star", None, "users", fix="name_columns")
def name_columns_before(connection: Connection) -> None:
    connection.execute(text("SELECT * FROM users")).all()


@finds_nothing("select-star")
def name_columns_after(connection: Connection) -> None:
    connection.execute(text("SELECT id, name FROM users")).all()


@finds("large-result", None, "samples", fix="paginate")
def paginate_before(session: Session) -> None:
    session.scalars(select(Sample)).all()


@finds_nothing("large-result")
def paginate_after(session: Session) -> None:
    session.scalars(select(Sample).order_by(Sample.id).limit(100)).all()


@finds("long-transaction", None, fix="shorten")
@given(settings={"long_transaction_s": 0.03})
def shorten_before(session: Session) -> None:
    session.scalars(select(User).limit(1)).one()
    time.sleep(0.05)


@finds_nothing("long-transaction")
@given(settings={"long_transaction_s": 0.2})
def shorten_after(session: Session) -> None:
    session.scalars(select(User).limit(1)).one()
    session.commit()
    time.sleep(0.25)


async def _work_twice(engine: AsyncEngine) -> None:
    async def work(column: object) -> None:
        async with engine.connect() as connection:
            await connection.execute(select(column))  # type: ignore[call-overload]
            await asyncio.sleep(0.05)

    await asyncio.gather(work(User.id), work(Order.id))


@finds("pool-wait", None, fix="pool_size")
@given(engine={"pool_size": 1, "max_overflow": 0}, settings={"pool_wait_s": 0.03})
async def pool_size_before(engine: AsyncEngine) -> None:
    await _work_twice(engine)


@finds_nothing("pool-wait")
@given(engine={"pool_size": 2, "max_overflow": 0}, settings={"pool_wait_s": 0.03})
async def pool_size_after(engine: AsyncEngine) -> None:
    await _work_twice(engine)
