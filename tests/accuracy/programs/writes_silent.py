"""Many rows written as they should be: one act, however many statements it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import selectinload

from accuracy.expectation import finds_nothing, given
from accuracy.models import Document, Drawer, File, Folder, Job, Order, Product, Tag, Task, User

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

WRITES = "write-loop"
tags, products = Tag.__table__, Product.__table__


@finds_nothing(WRITES)
def core_executemany(connection: Connection) -> None:
    connection.execute(insert(tags), [{"name": f"new {number}"} for number in range(600)])


@finds_nothing(WRITES)
def core_executemany_of_an_update(connection: Connection) -> None:
    changed = update(products).where(products.c.id == bindparam("number")).values(price=bindparam("new"))
    connection.execute(changed, [{"number": number, "new": 0} for number in range(1, 21)])


@finds_nothing(WRITES)
def text_executemany(connection: Connection) -> None:
    connection.execute(text("INSERT INTO tags (name) VALUES (:name)"), [{"name": f"new {n}"} for n in range(20)])


@finds_nothing(WRITES)
def core_values_of_many_rows(connection: Connection) -> None:
    connection.execute(insert(tags).values([{"name": f"new {number}"} for number in range(20)]))


@finds_nothing(WRITES)
def executemany_in_batches(connection: Connection) -> None:
    for batch in range(10):
        connection.execute(insert(tags), [{"name": f"{batch}/{number}"} for number in range(50)])
        connection.commit()


@finds_nothing(WRITES)
@given(engine={"insertmanyvalues_page_size": 5})
def insertmanyvalues_page_by_page(session: Session) -> None:
    session.add_all([Tag(name=f"new {number}") for number in range(60)])
    session.flush()


@finds_nothing(WRITES)
@given(engine={"insertmanyvalues_page_size": 5})
def core_insertmanyvalues_page_by_page(connection: Connection) -> None:
    rows = [{"name": f"new {number}"} for number in range(60)]
    connection.execute(insert(tags).returning(tags.c.id, sort_by_parameter_order=True), rows).all()


@finds_nothing(WRITES)
@given(engine={"use_insertmanyvalues": False})
def one_flush_without_insertmanyvalues(session: Session) -> None:
    session.add_all([Tag(name=f"new {number}") for number in range(20)])
    session.flush()


@finds_nothing(WRITES)
def one_flush_of_new_rows(session: Session) -> None:
    session.add_all([Tag(name=f"new {number}") for number in range(100)])
    session.commit()


@finds_nothing(WRITES)
async def async_one_flush_of_new_rows(session: AsyncSession) -> None:
    session.add_all([Tag(name=f"new {number}") for number in range(100)])
    await session.commit()


@finds_nothing(WRITES)
def one_flush_of_versioned_rows(session: Session) -> None:
    for document in session.scalars(select(Document)).all():
        document.title += "!"
    session.flush()


@finds_nothing(WRITES)
def one_flush_of_sql_expressions(session: Session) -> None:
    for product in session.scalars(select(Product)).all():
        product.price = Product.price + 1
    session.flush()


@finds_nothing(WRITES)
def one_flush_of_new_rows_with_sql_expressions(session: Session) -> None:
    session.add_all(
        [
            Order(user_id=1, status="new", total=select(Job.id).where(Job.id == n).scalar_subquery())
            for n in range(1, 11)
        ]
    )
    session.flush()


@finds_nothing(WRITES)
def one_flush_of_rows_with_keys_of_their_own(session: Session) -> None:
    # Some with a key and some without: the unit of work cannot put them into one statement.
    session.add_all([Tag(id=1_000 + n, name=f"new {n}") if n % 2 else Tag(name=f"new {n}") for n in range(20)])
    session.flush()


@finds_nothing(WRITES)
def one_flush_of_different_columns(session: Session) -> None:
    for number, user in enumerate(session.scalars(select(User)).all()):
        if number % 2:
            user.name += "!"
        else:
            user.email += "!"
    session.flush()


@finds_nothing(WRITES)
def one_flush_of_a_cascade(session: Session) -> None:
    session.add_all([Folder(name=f"new {n}", files=[File(name="a"), File(name="b")]) for n in range(10)])
    session.flush()


@finds_nothing(WRITES)
def one_flush_that_deletes_with_a_cascade(session: Session) -> None:
    for folder in session.scalars(select(Folder).options(selectinload(Folder.files))).all():
        session.delete(folder)
    session.commit()


@finds_nothing(WRITES)
def one_flush_that_leaves_the_children_to_the_database(session: Session) -> None:
    for drawer in session.scalars(select(Drawer)).all():
        session.delete(drawer)
    session.commit()


@finds_nothing(WRITES)
def one_flush_by_autoflush(session: Session) -> None:
    session.add_all([Tag(name=f"new {number}") for number in range(20)])
    session.scalars(select(Tag)).all()
    session.commit()


@finds_nothing(WRITES)
def several_flushes_of_different_things(session: Session) -> None:
    for row in (Tag(name="?"), Folder(name="?"), Job(status="?", version=1), Document(title="?"), Task(title="?")):
        session.add(row)
        session.flush()


@finds_nothing(WRITES)
def flushes_below_the_limit(session: Session) -> None:
    for number in range(4):
        session.add(Tag(name=f"new {number}"))
        session.commit()


@finds_nothing(WRITES)
def flush_of_a_batch_at_a_time(session: Session) -> None:
    for batch in range(8):
        session.add_all([Tag(name=f"{batch}/{number}") for number in range(25)])
        session.commit()


@finds_nothing(WRITES)
def without_autoflush(session: Session) -> None:
    with session.no_autoflush:
        for number in range(4):
            session.add(Tag(name=f"new {number}"))
            session.scalars(select(Job).where(Job.id == number)).all()
    session.flush()


@finds_nothing(WRITES)
def bulk_update_by_primary_key(session: Session) -> None:
    session.execute(update(Product), [{"id": number, "price": 0} for number in range(1, 21)])


@finds_nothing(WRITES)
def one_delete_with_in(session: Session) -> None:
    session.execute(delete(Task).where(Task.id.in_(range(1, 11))))


@finds_nothing(WRITES)
def delete_in_batches_until_none_is_left(engine: Engine) -> None:
    # A big table is emptied in small transactions on purpose.
    tasks = Task.__table__
    some = select(tasks.c.id).order_by(tasks.c.id).limit(3).scalar_subquery()
    gone = 1
    while gone:
        with engine.begin() as connection:
            gone = connection.execute(delete(tasks).where(tasks.c.id.in_(some))).rowcount


@finds_nothing(WRITES)
def one_upsert_of_many_rows(connection: Connection) -> None:
    into = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[connection.dialect.name]
    rows = into(tags).values([{"name": f"tag {number}"} for number in range(30)])
    connection.execute(rows.on_conflict_do_nothing(index_elements=["name"]))


@finds_nothing(WRITES)
def one_insert_from_select(connection: Connection) -> None:
    connection.execute(insert(tags).from_select(["name"], select(products.c.name)))
