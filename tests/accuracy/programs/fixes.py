"""For each kind of fix a program before it and after it, in pairs: `<fix kind>[_what]_before` and `.._after`."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from sqlalchemy import func, insert, select, text
from sqlalchemy.orm import aliased, joinedload, selectin_polymorphic, selectinload, undefer

from accuracy.expectation import finds, finds_nothing, given
from accuracy.models import (
    Category,
    Document,
    Drawer,
    Employee,
    Engineer,
    Folder,
    Item,
    Letter,
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

LAZY, EAGER = "n-plus-one/lazy_load", "n-plus-one/eager_loop"
GET, CORE, REFRESH = "n-plus-one/get_loop", "n-plus-one/core_loop", "n-plus-one/refresh"
orders, tags, settings = Order.__table__, Tag.__table__, Setting.__table__


# -- n-plus-one: loader options


@finds(
    "n-plus-one", "lazy_load", "Order.items", fix="selectinload",
    options="joinedload(Item.order).selectinload(Order.items)",
)  # fmt: skip
def selectinload_before(session: Session) -> None:
    statement = select(Item).order_by(Item.id).limit(10).options(joinedload(Item.order))
    for item in session.scalars(statement).all():
        len(item.order.items)  # <- here


@finds_nothing(LAZY)
def selectinload_after(session: Session) -> None:
    statement = select(Item).limit(10).options(joinedload(Item.order).selectinload(Order.items))
    for item in session.scalars(statement).all():
        len(item.order.items)


@finds("n-plus-one", "lazy_load", "Order.user", fix="joinedload", options="joinedload(Order.user)")
def joinedload_before(session: Session) -> None:
    for order in session.scalars(select(Order).order_by(Order.id).limit(10)).all():
        order.user.name  # <- here


@finds_nothing(LAZY)
def joinedload_after(session: Session) -> None:
    for order in session.scalars(select(Order).limit(10).options(joinedload(Order.user))).all():
        order.user.name


@finds("n-plus-one", ("eager_loop", "lazy_load"), "Folder.files", fix="passive_deletes")
def passive_deletes_before(session: Session) -> None:
    with session.no_autoflush:
        for folder in session.scalars(select(Folder)).all():
            session.delete(folder)  # <- here
    session.flush()


@finds_nothing(EAGER)
def passive_deletes_after(session: Session) -> None:
    with session.no_autoflush:
        for drawer in session.scalars(select(Drawer)).all():
            session.delete(drawer)
    session.flush()


def _count_below(category: Category) -> int:
    return 1 + sum(_count_below(child) for child in category.children)  # <- below


@finds("n-plus-one", "lazy_load", "Category.children", fix="recursion", line="below")
def recursion_children_before(session: Session) -> None:
    _count_below(session.scalars(select(Category).where(Category.name == "link 0")).one())


@finds_nothing(LAZY)
def recursion_children_after(session: Session) -> None:
    root = select(Category).where(Category.name == "link 0")
    # As deep as the tree is, and one level more, which shows that it ends there.
    _count_below(session.scalars(root.options(selectinload(Category.children, recursion_depth=9))).one())


@finds("n-plus-one", "lazy_load", "Category.parent", fix="recursion")
def recursion_parent_before(session: Session) -> None:
    category = session.scalars(select(Category).where(Category.name == "link 7")).one()
    while category.parent is not None:  # <- here
        category = category.parent


@finds_nothing(LAZY)
def recursion_parent_after(session: Session) -> None:
    chain = select(Category.id, Category.parent_id).where(Category.name == "link 7").cte(recursive=True)
    above = aliased(Category)
    chain = chain.union(select(above.id, above.parent_id).join(chain, above.id == chain.c.parent_id))
    path = session.scalars(select(Category).join(chain, chain.c.id == Category.id)).all()
    category = next(each for each in path if each.name == "link 7")
    while category.parent is not None:
        category = category.parent


@finds("n-plus-one", "deferred", "User.bio", fix="undefer", options="undefer(User.bio)")
def undefer_before(session: Session) -> None:
    [user.bio for user in session.scalars(select(User).limit(10)).all()]  # <- here


@finds_nothing("n-plus-one/deferred")
def undefer_after(session: Session) -> None:
    [user.bio for user in session.scalars(select(User).limit(10).options(undefer(User.bio))).all()]


@finds(
    "n-plus-one", "deferred", "Engineer.language", fix="selectin_polymorphic",
    options="selectin_polymorphic(Employee, [Engineer])",
)  # fmt: skip
def selectin_polymorphic_before(session: Session) -> None:
    for employee in session.scalars(select(Employee)).all():
        if isinstance(employee, Engineer):
            employee.language  # <- here


@finds_nothing("n-plus-one/deferred")
def selectin_polymorphic_after(session: Session) -> None:
    statement = select(Employee).options(selectin_polymorphic(Employee, [Engineer]))
    for employee in session.scalars(statement).all():
        if isinstance(employee, Engineer):
            employee.language


# -- n-plus-one: another statement


@finds("n-plus-one", "get_loop", "products", fix="in_query")
def in_query_get_loop_before(session: Session) -> None:
    [session.get(Product, number) for number in range(1, 11)]  # <- here


@finds_nothing(GET)
def in_query_get_loop_after(session: Session) -> None:
    session.scalars(select(Product).where(Product.id.in_(range(1, 11)))).all()


@finds("n-plus-one", "core_loop", "orders", fix="in_query")
def in_query_core_loop_before(connection: Connection) -> None:
    for number in range(1, 11):
        connection.execute(select(orders).where(orders.c.user_id == number)).all()  # <- here


@finds_nothing(CORE)
def in_query_core_loop_after(connection: Connection) -> None:
    connection.execute(select(orders).where(orders.c.user_id.in_(range(1, 11)))).all()


@finds("n-plus-one", "refresh", "Product", fix="in_query")
def in_query_refresh_before(session: Session) -> None:
    for product in session.scalars(select(Product).limit(10)).all():
        session.refresh(product)  # <- here


@finds_nothing(REFRESH)
def in_query_refresh_after(session: Session) -> None:
    products = session.scalars(select(Product).limit(10)).all()
    again = select(Product).where(Product.id.in_([product.id for product in products]))
    session.scalars(again.execution_options(populate_existing=True)).all()


@finds("n-plus-one", "core_loop", "orders", fix="aggregate")
def aggregate_before(connection: Connection) -> None:
    for number in range(1, 11):
        connection.scalar(select(func.sum(orders.c.total)).where(orders.c.user_id == number))  # <- here


@finds_nothing(CORE)
def aggregate_after(connection: Connection) -> None:
    sums = select(orders.c.user_id, func.sum(orders.c.total)).where(orders.c.user_id.in_(range(1, 11)))
    connection.execute(sums.group_by(orders.c.user_id)).all()


@finds("n-plus-one", "core_loop", "orders", fix="window")
def window_before(connection: Connection) -> None:
    for number in range(1, 11):
        latest = select(orders).where(orders.c.user_id == number).order_by(orders.c.id.desc()).limit(1)
        connection.execute(latest).first()  # <- here


@finds_nothing(CORE)
def window_after(connection: Connection) -> None:
    rank = func.row_number().over(partition_by=orders.c.user_id, order_by=orders.c.id.desc()).label("rank")
    ranked = select(orders, rank).where(orders.c.user_id.in_(range(1, 11))).subquery()
    connection.execute(select(ranked).where(ranked.c.rank == 1)).all()


# -- n-plus-one: how the session and the mapping are set up


@finds("n-plus-one", "refresh", "User", fix="expire_on_commit")
def expire_on_commit_before(session: Session) -> None:
    users = session.scalars(select(User).limit(10)).all()
    session.commit()
    [user.name for user in users]  # <- here


@finds_nothing(REFRESH)
@given(session={"expire_on_commit": False})
def expire_on_commit_after(session: Session) -> None:
    users = session.scalars(select(User).limit(10)).all()
    session.commit()
    [user.name for user in users]


@finds("n-plus-one", "refresh", "Document", fix="eager_defaults")
def eager_defaults_before(session: Session) -> None:
    documents = session.scalars(select(Document)).all()
    for document in documents:
        document.title += "!"
    session.flush()
    [document.updated_at for document in documents]  # <- here


@finds_nothing(REFRESH)
def eager_defaults_after(session: Session) -> None:
    letters = session.scalars(select(Letter)).all()
    for letter in letters:
        letter.title += "!"
    session.flush()
    [letter.updated_at for letter in letters]


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
