"""One statement many times for a reason: chunks, pages, streams and lists of keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import selectinload, subqueryload

from accuracy.expectation import finds, finds_nothing, given
from accuracy.models import Order, Remark, Sample, Tag, User

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

LAZY, GET, CORE = "n-plus-one/lazy_load", "n-plus-one/get_loop", "n-plus-one/core_loop"
DUPLICATE = "duplicate-query"
orders, samples = Order.__table__, Sample.__table__


@finds_nothing(CORE)
def offset_pages(session: Session) -> None:
    for page in range(10):
        session.scalars(select(User).order_by(User.id).offset(2 * page).limit(2)).all()


@finds_nothing(CORE)
def core_offset_pages(connection: Connection) -> None:
    for page in range(10):
        connection.execute(select(orders).order_by(orders.c.id).offset(5 * page).limit(5)).all()


@finds_nothing(CORE)
def offset_pages_with_a_fixed_filter(session: Session) -> None:
    for page in range(10):
        session.scalars(select(Order).where(Order.status == "paid").order_by(Order.id).offset(3 * page).limit(3)).all()


@finds_nothing(CORE)
def keyset_pages(session: Session) -> None:
    last = 0
    while rows := session.scalars(select(Order).where(Order.id > last).order_by(Order.id).limit(5)).all():
        last = rows[-1].id


@finds_nothing(CORE)
def keyset_pages_by_two_columns(connection: Connection) -> None:
    last = (-1, 0)
    key = tuple_(orders.c.total, orders.c.id)
    while rows := connection.execute(
        select(orders.c.total, orders.c.id).where(key > last).order_by(orders.c.total, orders.c.id).limit(5)
    ).all():
        last = (rows[-1].total, rows[-1].id)


@finds_nothing(CORE)
def keyset_pages_of_one_user(session: Session) -> None:
    last = 0
    mine = select(Remark).where(Remark.text == "?").order_by(Remark.id).limit(3)
    while rows := session.scalars(mine.where(Remark.id > last)).all():
        last = rows[-1].id


@finds_nothing(CORE)
def batches_of_keys(session: Session) -> None:
    for first in range(1, 60, 6):
        session.scalars(select(Order).where(Order.id.in_(range(first, first + 6)))).all()


@finds_nothing(CORE)
def core_batches_of_foreign_keys(connection: Connection) -> None:
    for first in range(1, 20, 2):
        connection.execute(select(orders).where(orders.c.user_id.in_([first, first + 1]))).all()


@finds_nothing(CORE)
def batches_between_two_keys(connection: Connection) -> None:
    for first in range(0, 10_000, 1_000):
        connection.execute(
            select(func.sum(samples.c.value)).where(samples.c.id.between(first + 1, first + 1_000))
        ).all()


@finds_nothing(LAZY)
def selectin_of_each_streamed_chunk(session: Session) -> None:
    statement = select(Sample).where(Sample.id <= 1_000).options(selectinload(Sample.remarks))
    for sample in session.scalars(statement.execution_options(yield_per=100)):
        len(sample.remarks)


@finds_nothing(LAZY)
def selectin_of_each_page(session: Session) -> None:
    for page in range(6):
        statement = select(User).order_by(User.id).offset(3 * page).limit(3).options(selectinload(User.orders))
        for user in session.scalars(statement):
            len(user.orders)


@finds_nothing(LAZY)
def subquery_of_each_page(session: Session) -> None:
    for page in range(6):
        statement = select(User).order_by(User.id).offset(3 * page).limit(3).options(subqueryload(User.orders))
        for user in session.scalars(statement):
            len(user.orders)


@finds_nothing(LAZY)
def selectin_of_keys_in_batches(session: Session) -> None:
    for first in range(1, 20, 3):
        chunk = select(User).where(User.id.in_(range(first, first + 3))).options(selectinload(User.orders))
        for user in session.scalars(chunk):
            len(user.orders)


@finds_nothing("large-result")
def streamed_by_yield_per(session: Session) -> None:
    rows = session.execute(select(Sample.id, Sample.value).execution_options(yield_per=1_000))
    assert sum(1 for _ in rows) > 10_000


@finds_nothing("large-result")
def streamed_by_partitions(connection: Connection) -> None:
    result = connection.execution_options(stream_results=True, max_row_buffer=500).execute(select(samples))
    assert sum(len(rows) for rows in result.partitions(500)) > 10_000


@finds_nothing("large-result")
async def streamed_by_an_async_session(session: AsyncSession) -> None:
    rows = await session.stream(select(Sample.id).execution_options(yield_per=1_000))
    assert len([row async for row in rows]) > 10_000


@finds("n-plus-one", "lazy_load", "Sample.remarks", fix="selectinload")
def streamed_with_a_lazy_load_inside(session: Session) -> None:
    statement = select(Sample).where(Sample.id <= 20).execution_options(yield_per=10)
    for sample in session.scalars(statement):  # <- parents
        len(sample.remarks)  # <- here


@finds("n-plus-one", "core_loop", "orders", fix="in_query")
def a_loop_within_each_page(session: Session) -> None:
    for page in range(3):
        for user in session.scalars(select(User).order_by(User.id).offset(3 * page).limit(3)).all():
            session.scalars(select(Order).where(Order.user_id == user.id)).all()  # <- here


@finds_nothing(GET)
@given(settings={"n_plus_one_threshold": 11})
def a_limit_of_ones_own(session: Session) -> None:
    for number in range(1, 11):
        session.get(Tag, number)
