"""Rows that are written one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from accuracy.expectation import finds, given
from accuracy.models import Category, Item, Product, Remark, Setting, Tag, User
from accuracy.programs.lookups import UNIQUE

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

tags, products, settings, items = Tag.__table__, Product.__table__, Setting.__table__, Item.__table__
# A flush for each row of a list: the issue names one fix for new rows, and none for changed and deleted ones.
ONE_FLUSH = ("bulk_add", "executemany")
UPSERT = ("upsert", "executemany")


def upsert_into(connection: Connection, table: Any) -> Any:
    """Return the INSERT of this database that knows ON CONFLICT."""
    return {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[connection.dialect.name](table)


# -- The Core


@finds("write-loop", None, "tags", fix="executemany")
def core_insert(connection: Connection) -> None:
    for number in range(10):
        connection.execute(insert(tags).values(name=f"new {number}"))  # <- here
    connection.commit()


@finds("write-loop", None, "tags", fix="executemany")
def core_insert_with_parameters(connection: Connection) -> None:
    for number in range(10):
        connection.execute(insert(tags), {"name": f"new {number}"})  # <- here


@finds("write-loop", None, "tags", fix="executemany")
def text_insert(connection: Connection) -> None:
    for number in range(10):
        connection.execute(text("INSERT INTO tags (name) VALUES (:name)"), {"name": f"new {number}"})  # <- here


@finds("write-loop", None, "tags", fix="executemany")
def text_insert_with_the_value_inside(connection: Connection) -> None:
    for number in range(10):
        connection.execute(text(f"INSERT INTO tags (name) VALUES ('new {number}')"))  # <- here


@finds("write-loop", None, "tags", fix="executemany")
def core_insert_that_returns_its_key(connection: Connection) -> None:
    [connection.scalar(insert(tags).values(name=f"new {n}").returning(tags.c.id)) for n in range(10)]  # <- here


@finds("write-loop", None, "products", fix="executemany")
def core_update(connection: Connection) -> None:
    for number in range(1, 11):
        connection.execute(update(products).where(products.c.id == number).values(price=number))  # <- here


@finds("write-loop", None, "items", fix="executemany")
def core_delete(connection: Connection) -> None:
    for number in range(1, 11):
        connection.execute(delete(items).where(items.c.id == number))  # <- here


@finds("write-loop", None, "tags", fix="executemany")
async def async_core_insert(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        for number in range(10):
            await connection.execute(insert(tags).values(name=f"new {number}"))  # <- here


@finds("write-loop", None, "products", fix="executemany")
def orm_enabled_update(session: Session) -> None:
    for number in range(1, 11):
        session.execute(update(Product).where(Product.id == number).values(price=number))  # <- here


@finds("write-loop", None, "remarks", fix="executemany")
def orm_enabled_delete(session: Session) -> None:
    for number in range(1, 11):
        session.execute(delete(Remark).where(Remark.id == number))  # <- here


# -- A flush for each row


@finds("write-loop", None, "tags", fix="bulk_add")
def flush_for_each_new_row(session: Session) -> None:
    for number in range(10):
        session.add(Tag(name=f"new {number}"))
        session.flush()  # <- here


@finds("write-loop", None, "tags", fix="bulk_add")
async def async_flush_for_each_new_row(session: AsyncSession) -> None:
    for number in range(10):
        session.add(Tag(name=f"new {number}"))
        await session.flush()  # <- here


@finds("write-loop", None, "products", fix=ONE_FLUSH)
def flush_for_each_changed_row(session: Session) -> None:
    for product in session.scalars(select(Product).limit(10)).all():
        product.price += 1
        session.flush()  # <- here


@finds("write-loop", None, "remarks", fix=ONE_FLUSH)
def flush_for_each_deleted_row(session: Session) -> None:
    for remark in session.scalars(select(Remark).limit(10)).all():
        session.delete(remark)
        session.flush()  # <- here


# -- A commit for each row


@finds("write-loop", None, "tags", fix="single_commit")
def commit_for_each_new_row(session: Session) -> None:
    for number in range(10):
        session.add(Tag(name=f"new {number}"))
        session.commit()  # <- here


@finds("write-loop", None, "products", fix="single_commit")
@given(session={"expire_on_commit": False})
def commit_for_each_changed_row(session: Session) -> None:
    for product in session.scalars(select(Product).limit(10)).all():
        product.price += 1
        session.commit()  # <- here


@finds("write-loop", None, "tags", fix="single_commit")
def transaction_for_each_row(engine: Engine) -> None:
    for number in range(10):
        with engine.begin() as connection:
            connection.execute(insert(tags).values(name=f"new {number}"))  # <- here


@finds("write-loop", None, "tags", fix="single_commit")
def session_for_each_row(engine: Engine) -> None:
    for number in range(10):
        with Session(engine) as session:
            session.add(Tag(name=f"new {number}"))
            session.commit()  # <- here


@finds("write-loop", None, "tags", fix="single_commit")
async def async_commit_for_each_new_row(session: AsyncSession) -> None:
    for number in range(10):
        session.add(Tag(name=f"new {number}"))
        await session.commit()  # <- here


# -- A flush before each SELECT


@finds("n-plus-one", "core_loop", "categories", fix="in_query")
@finds("write-loop", None, "products", fix="no_autoflush")
def autoflush_before_each_lookup(session: Session) -> None:
    for number in range(6):
        found = select(Category.id).where(Category.name == f"root {number}")
        category_id = session.scalars(found).one()  # <- here
        session.add(Product(name="?", price=1, category_id=category_id))


@finds("n-plus-one", "get_loop", "users", fix="in_query")
@finds("write-loop", None, "tags", fix="no_autoflush")
def autoflush_before_each_legacy_query(session: Session) -> None:
    for number in range(1, 11):
        user = session.query(User).filter(User.id == number).one()  # <- here
        session.add(Tag(name=f"of {user.name}"))


# -- Insert or update


@finds("write-loop", None, "settings", fix=UPSERT)
def core_upsert(connection: Connection) -> None:
    for number in range(10):
        row = upsert_into(connection, settings).values(key=f"key {2 * number}", value="new")
        connection.execute(row.on_conflict_do_update(index_elements=["key"], set_={"value": "new"}))  # <- here


@finds("write-loop", None, "settings", fix=UPSERT)
def core_insert_or_ignore(connection: Connection) -> None:
    for number in range(10):
        row = upsert_into(connection, settings).values(key=f"key {2 * number}", value="new")
        connection.execute(row.on_conflict_do_nothing())  # <- here


@finds("n-plus-one", UNIQUE, "settings", fix="in_query", line="look", optional=True)
@finds("write-loop", None, "settings", fix="upsert")
def core_select_then_insert(connection: Connection) -> None:
    for number in range(10):
        key = f"new {number}"
        if connection.scalar(select(settings.c.id).where(settings.c.key == key)) is None:  # <- look
            connection.execute(insert(settings).values(key=key, value="new"))  # <- here


@finds("n-plus-one", UNIQUE, "settings", fix="in_query", line="look", optional=True)
@finds("write-loop", None, "settings", fix="upsert")
def core_update_or_insert(connection: Connection) -> None:
    for number in range(10):
        changed = update(settings).where(settings.c.key == f"new {number}").values(value="new")
        if not connection.execute(changed).rowcount:  # <- here
            connection.execute(insert(settings).values(key=f"new {number}", value="new"))  # <- here


@finds("n-plus-one", UNIQUE, "tags", fix="in_query", line="look", optional=True)
@finds("write-loop", None, "tags", fix="upsert")
def get_or_create(session: Session) -> None:
    for number in range(10):
        name = f"new {number}"
        if session.scalars(select(Tag).where(Tag.name == name)).one_or_none() is None:  # <- look
            session.add(Tag(name=name))
            session.flush()  # <- here


@finds("write-loop", None, "tags", fix=("bulk_add", "executemany"))
def one_row_at_a_time_by_a_bulk_method(session: Session) -> None:
    for number in range(10):
        session.execute(insert(Tag), [{"name": f"new {number}"}])  # <- here


@finds("write-loop", None, "products", fix="executemany")
def counter_of_each_row(connection: Connection) -> None:
    # The new value comes from the row itself: still one statement for each key.
    for number in range(1, 11):
        raised = update(products).where(products.c.id == number).values(price=products.c.price + func.abs(number))
        connection.execute(raised)  # <- here
