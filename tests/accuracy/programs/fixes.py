"""For each kind of fix a program before it and after it, in pairs: `<fix kind>[_what]_before` and `.._after`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select
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
    User,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

LAZY, EAGER = "n-plus-one/lazy_load", "n-plus-one/eager_loop"
GET, CORE, REFRESH = "n-plus-one/get_loop", "n-plus-one/core_loop", "n-plus-one/refresh"
orders = Order.__table__


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
