"""What was loaded beforehand and read by nobody. Opt-in: a program says that it wants to be watched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import inspect, select
from sqlalchemy.orm import contains_eager, joinedload, selectinload, subqueryload

from accuracy.expectation import finds, finds_nothing, given
from accuracy.models import Folder, Order, Store, User
from accuracy.programs.serializer import serialize

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

UNUSED = "unused-eager-load"
watched = given(settings={"unused_eager_loads": 1.0})


@finds("unused-eager-load", None, "User.orders", fix="remove_eager")
@watched
def selectin_that_nobody_reads(session: Session) -> None:
    users = session.scalars(select(User).limit(10).options(selectinload(User.orders))).all()  # <- here
    [user.name for user in users]


@finds("unused-eager-load", None, "Order.user", fix="remove_eager")
@watched
def join_that_nobody_reads(session: Session) -> None:
    orders = session.scalars(select(Order).limit(10).options(joinedload(Order.user))).all()  # <- here
    sum(order.total for order in orders)


@finds("unused-eager-load", None, "User.orders", fix="remove_eager")
@watched
def joined_collection_that_nobody_reads(session: Session) -> None:
    users = session.scalars(select(User).options(joinedload(User.orders))).unique().all()  # <- here
    [user.name for user in users]


@finds("unused-eager-load", None, "User.memberships", fix="remove_eager")
@watched
def subquery_that_nobody_reads(session: Session) -> None:
    users = session.scalars(select(User).limit(10).options(subqueryload(User.memberships))).all()  # <- here
    [user.name for user in users]


@finds("unused-eager-load", None, "User.profile", fix="remove_eager")
@watched
def one_of_two_that_nobody_reads(session: Session) -> None:
    both = (selectinload(User.orders), joinedload(User.profile))
    users = session.scalars(select(User).limit(10).options(*both)).all()  # <- here
    [len(user.orders) for user in users]


@finds("unused-eager-load", None, "Order.items", fix="remove_eager")
@watched
def second_level_that_nobody_reads(session: Session) -> None:
    chain = selectinload(User.orders).selectinload(Order.items)
    users = session.scalars(select(User).limit(10).options(chain)).all()  # <- here
    [order.total for user in users for order in user.orders]


@finds("unused-eager-load", None, "Store.tills", fix="remove_eager")
@finds("unused-eager-load", None, "Store.country", fix="remove_eager")
@watched
def eager_by_the_mapping_and_never_read(session: Session) -> None:
    stores = session.scalars(select(Store)).all()  # <- here
    [store.name for store in stores]


@finds("unused-eager-load", None, "User.orders", fix="remove_eager")
@watched
async def async_selectin_that_nobody_reads(session: AsyncSession) -> None:
    users = (await session.scalars(select(User).limit(10).options(selectinload(User.orders)))).all()  # <- here
    [user.name for user in users]


@finds_nothing(UNUSED)
@watched
def selectin_that_is_read(session: Session) -> None:
    [len(user.orders) for user in session.scalars(select(User).options(selectinload(User.orders))).all()]


@finds_nothing(UNUSED)
@watched
def selectin_that_is_read_for_one_parent(session: Session) -> None:
    users = session.scalars(select(User).options(selectinload(User.orders))).all()
    len(users[-1].orders)


@finds_nothing(UNUSED)
@watched
def join_that_is_read(session: Session) -> None:
    [order.user.name for order in session.scalars(select(Order).options(joinedload(Order.user))).all()]


@finds_nothing(UNUSED)
@watched
def read_by_a_serializer(session: Session) -> None:
    users = session.scalars(select(User).options(selectinload(User.orders), joinedload(User.country))).all()
    [serialize(user, "name", "orders", "country") for user in users]


@finds_nothing(UNUSED)
@watched
def read_through_a_hybrid(session: Session) -> None:
    sum(user.spent for user in session.scalars(select(User).options(selectinload(User.orders))).all())


@finds_nothing(UNUSED)
@watched
def read_through_an_association_proxy(session: Session) -> None:
    [order.user_name for order in session.scalars(select(Order).options(joinedload(Order.user))).all()]


@finds_nothing(UNUSED)
@watched
def read_through_the_inspection(session: Session) -> None:
    for user in session.scalars(select(User).options(selectinload(User.orders))).all():
        inspect(user).attrs.orders.value


@finds_nothing(UNUSED)
@watched
def read_after_the_session_was_closed(session: Session) -> None:
    users = session.scalars(select(User).options(selectinload(User.orders))).all()
    session.close()
    [len(user.orders) for user in users]


@finds_nothing(UNUSED)
@watched
def appended_to(session: Session) -> None:
    for user in session.scalars(select(User).options(selectinload(User.orders))).all():
        user.orders.append(Order(status="new", total=1))
    session.flush()


@finds_nothing(UNUSED)
@watched
def needed_by_a_cascade(session: Session) -> None:
    for folder in session.scalars(select(Folder).options(selectinload(Folder.files))).all():
        session.delete(folder)
    session.flush()


@finds_nothing(UNUSED)
@watched
def a_join_of_ones_own_that_filters(session: Session) -> None:
    # The join is there for its WHERE; nothing more is fetched by naming it.
    statement = select(Order).join(Order.user).where(User.id < 5).options(contains_eager(Order.user))
    [order.total for order in session.scalars(statement)]


@finds_nothing(UNUSED)
@watched
def eager_loads_of_no_rows(session: Session) -> None:
    session.scalars(select(User).where(User.id < 0).options(selectinload(User.orders))).all()


@finds_nothing(UNUSED)
@watched
async def async_selectin_that_is_read(session: AsyncSession) -> None:
    users = (await session.scalars(select(User).options(selectinload(User.orders)))).all()
    [len(user.orders) for user in users]


@finds_nothing(UNUSED)
def nobody_asked_to_watch(session: Session) -> None:
    users = session.scalars(select(User).options(selectinload(User.orders))).all()
    [user.name for user in users]
