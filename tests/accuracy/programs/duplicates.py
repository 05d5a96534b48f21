"""The same question with the same values again and again, and repetition that has a reason."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from accuracy.expectation import finds, finds_nothing
from accuracy.models import Country, Item, Job, Order, Setting, Tag, User

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncSession

DUPLICATE, CORE, WRITES = "duplicate-query", "n-plus-one/core_loop", "write-loop"
settings, jobs, tags, orders = Setting.__table__, Job.__table__, Tag.__table__, Order.__table__
# Long against a statement, short against a test.
_PAUSE_S = 0.002


@finds("duplicate-query", None, "settings", fix="cache")
def orm_setting_for_each_row(session: Session) -> None:
    for order in session.scalars(select(Order).limit(10)).all():
        rate = session.scalars(select(Setting).where(Setting.key == "key 1")).one()  # <- here
        (order.total, rate.value)


@finds("duplicate-query", None, "settings", fix="cache")
def core_setting_for_each_row(connection: Connection) -> None:
    for _ in connection.execute(select(orders).limit(10)).all():
        connection.scalar(select(settings.c.value).where(settings.c.key == "key 1"))  # <- here


@finds("duplicate-query", None, "settings", fix="cache")
def text_with_one_value(connection: Connection) -> None:
    query = text("SELECT value FROM settings WHERE key = :key")

    def look_up(key: str) -> str:
        return connection.execute(query, {"key": key}).scalar_one()  # <- here

    [look_up("key 2") for _ in range(10)]


@finds("duplicate-query", None, "orders", fix="cache")
def count_without_values(session: Session) -> None:
    for _ in range(10):
        session.scalar(select(func.count()).select_from(Order))  # <- here


@finds("duplicate-query", None, "countries", fix="cache")
def legacy_query_of_a_fixed_list(session: Session) -> None:
    for _ in session.query(User).limit(10):
        session.query(Country).order_by(Country.name).all()  # <- here


@finds("duplicate-query", None, "users", fix="cache")
async def async_current_user_for_each_check(session: AsyncSession) -> None:
    async def is_allowed() -> bool:
        return await session.scalar(select(User.name).where(User.email == "1@shop")) is not None  # <- here

    [await is_allowed() for _ in range(10)]


# Nothing tells it from a poll: each look is a transaction of its own, and nothing else is done in between.
@finds_nothing(DUPLICATE)
def repeated_in_a_new_session_each_time(engine: Engine) -> None:
    for _ in range(10):
        with Session(engine) as session:
            session.scalars(select(Setting).where(Setting.key == "key 1")).one()


@finds_nothing(DUPLICATE)
def repeated_below_the_limit(session: Session) -> None:
    for _ in range(4):
        session.scalars(select(Setting).where(Setting.key == "key 1")).one()


@finds_nothing(DUPLICATE)
def read_once_and_kept(session: Session) -> None:
    rate = session.scalars(select(Setting).where(Setting.key == "key 1")).one()
    for order in session.scalars(select(Order)).all():
        (order.total, rate.value)


@finds_nothing(DUPLICATE)
def counted_after_each_batch(connection: Connection) -> None:
    for batch in range(6):
        connection.execute(insert(tags), [{"name": f"{batch}/{number}"} for number in range(10)])
        connection.scalar(select(func.count()).select_from(tags))


@finds_nothing(DUPLICATE)
def poll_until_done(engine: Engine) -> None:
    for turn in range(8):
        with engine.begin() as connection:
            if connection.scalar(select(jobs.c.status).where(jobs.c.id == 1)) == "done":
                break
        if turn == 6:
            with engine.begin() as worker:
                worker.execute(update(jobs).where(jobs.c.id == 1).values(status="done"))
        time.sleep(_PAUSE_S)


@finds_nothing(DUPLICATE)
def poll_with_a_session(session: Session) -> None:
    for _ in range(8):
        assert session.scalar(select(Job.status).where(Job.id == 1)) == "queued"
        session.rollback()
        time.sleep(_PAUSE_S)


@finds_nothing(DUPLICATE)
async def poll_with_an_async_session(session: AsyncSession) -> None:
    for _ in range(8):
        assert await session.scalar(select(func.count()).where(Job.status == "done")) == 0
        await session.commit()
        await asyncio.sleep(_PAUSE_S)


@finds_nothing(WRITES)
def job_queue_of_the_orm(session: Session) -> None:
    next_job = select(Job).where(Job.status == "queued").order_by(Job.id).limit(1).with_for_update(skip_locked=True)
    while job := session.scalars(next_job).first():
        job.status = "done"
        session.commit()


@finds_nothing(DUPLICATE)
def job_queue_of_the_core(engine: Engine) -> None:
    next_job = select(jobs.c.id).where(jobs.c.status == "queued").order_by(jobs.c.id).limit(1)
    while True:
        with engine.begin() as connection:
            number = connection.scalar(next_job.with_for_update(skip_locked=True))
            if number is None:
                break
            connection.execute(update(jobs).where(jobs.c.id == number).values(status="done"))


@finds_nothing(WRITES)
def job_queue_claimed_by_an_update(engine: Engine) -> None:
    first = select(jobs.c.id).where(jobs.c.status == "queued").order_by(jobs.c.id).limit(1).scalar_subquery()
    claim = update(jobs).where(jobs.c.id == first).values(status="done").returning(jobs.c.id)
    claimed = True
    while claimed:
        with engine.begin() as connection:
            claimed = connection.scalar(claim) is not None


@finds_nothing(WRITES)
def retry_of_a_failed_insert(engine: Engine) -> None:
    for _ in range(6):
        try:
            with engine.begin() as connection:
                connection.execute(insert(tags).values(name="tag 1"))
        except IntegrityError:
            time.sleep(_PAUSE_S)
        else:
            break


@finds_nothing(DUPLICATE)
def retry_of_a_failed_select(engine: Engine) -> None:
    for _ in range(6):
        try:
            with engine.connect() as connection:
                connection.execute(text("SELECT value FROM settings_of_tomorrow WHERE key = 'key 1'"))
        except DBAPIError:
            time.sleep(_PAUSE_S)


@finds_nothing(WRITES)
def retry_of_an_optimistic_update(engine: Engine) -> None:
    # Somebody else is quicker five times: nothing here could be one statement.
    for turn in range(6):
        with engine.begin() as connection:
            version = connection.scalar(select(jobs.c.version).where(jobs.c.id == 1))
            stale = version if turn == 5 else version - 1
            done = connection.execute(
                update(jobs).where(jobs.c.id == 1, jobs.c.version == stale).values(version=version + 1)
            )
            if done.rowcount:
                break


@finds_nothing(CORE)
def different_questions_of_one_table(connection: Connection) -> None:
    columns = (orders.c.id, orders.c.status, orders.c.total, orders.c.user_id)
    for column in columns:
        connection.scalar(select(func.min(column)))
        connection.scalar(select(func.max(column)))


@finds_nothing(DUPLICATE)
def a_question_whose_answer_is_used_up(session: Session) -> None:
    # The rows that the same SELECT finds are others each time, because those before were deleted.
    oldest = select(Item).order_by(Item.id).limit(20)
    while items := session.scalars(oldest).all():
        for item in items:
            session.delete(item)
        session.flush()
