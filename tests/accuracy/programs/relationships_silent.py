"""Relationships that are loaded as they should be, or too seldom to matter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, inspect, select
from sqlalchemy.orm import contains_eager, joinedload, selectinload, subqueryload

from accuracy.expectation import finds_nothing
from accuracy.models import Category, Employee, Item, Order, Product, Sample, Store, User

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

LAZY = "n-plus-one/lazy_load"


@finds_nothing(LAZY)
def one_parent(session: Session) -> None:
    user = session.scalars(select(User).limit(1)).one()
    (user.country.name, user.profile.picture, user.orders, user.memberships, user.visits.all())
    session.scalars(user.notes.select()).all()


@finds_nothing(LAZY)
def one_parent_with_many_children(session: Session) -> None:
    user = session.get_one(User, 1)
    for order in user.orders:
        for item in order.items[:1]:
            item.quantity += 0


@finds_nothing(LAZY)
def four_parents(session: Session) -> None:
    for user in session.scalars(select(User).limit(4)).all():
        len(user.orders)


@finds_nothing(LAZY)
def one_parent_read_many_times(session: Session) -> None:
    user = session.get_one(User, 1)
    for _ in range(10):
        len(user.orders)


@finds_nothing(LAZY)
def one_parent_expired_in_between(session: Session) -> None:
    user = session.get_one(User, 1)
    for _ in range(10):
        session.expire(user, ["orders"])
        len(user.orders)


@finds_nothing(LAZY)
def many_to_one_from_the_identity_map(session: Session) -> None:
    # The identity map holds what somebody else holds.
    users = session.scalars(select(User)).all()
    for order in session.scalars(select(Order)).all():
        assert order.user in users


@finds_nothing(LAZY)
def many_to_one_with_few_targets(session: Session) -> None:
    kept = []
    for order in session.scalars(select(Order).where(Order.user_id <= 3)).all():
        kept.append(order.user)


@finds_nothing(LAZY)
def many_to_one_that_is_null(session: Session) -> None:
    for category in session.scalars(select(Category).where(Category.parent_id.is_(None))).all():
        assert category.parent is None


@finds_nothing(LAZY)
def loaded_by_selectin(session: Session) -> None:
    for user in session.scalars(select(User).options(selectinload(User.orders).selectinload(Order.items))).all():
        [len(order.items) for order in user.orders]


@finds_nothing(LAZY)
def loaded_by_selectin_in_chunks(session: Session) -> None:
    # 500 parents in each chunk, so seven SELECTs of one text.
    for sample in session.scalars(select(Sample).limit(3_500).options(selectinload(Sample.remarks))).all():
        len(sample.remarks)


@finds_nothing(LAZY)
def loaded_by_subquery(session: Session) -> None:
    for user in session.scalars(select(User).options(subqueryload(User.orders))).all():
        len(user.orders)


@finds_nothing(LAZY)
def loaded_by_join(session: Session) -> None:
    for order in session.scalars(select(Order).options(joinedload(Order.user).joinedload(User.country))).all():
        order.user.country.name


@finds_nothing(LAZY)
def loaded_by_a_join_of_ones_own(session: Session) -> None:
    statement = select(User).join(User.orders).options(contains_eager(User.orders))
    for user in session.scalars(statement).unique().all():
        len(user.orders)


@finds_nothing(LAZY)
def loaded_by_the_mapping(session: Session) -> None:
    for store in session.scalars(select(Store)).all():
        (store.country.name, len(store.tills))


@finds_nothing(LAZY)
def loaded_by_a_select_of_all_children(session: Session) -> None:
    products = session.scalars(select(Product)).all()
    categories = session.scalars(select(Category)).all()
    for product in products:
        assert product.category in categories


@finds_nothing(LAZY)
def only_asked_whether_it_is_loaded(session: Session) -> None:
    for user in session.scalars(select(User)).all():
        assert "orders" in inspect(user).unloaded


@finds_nothing(LAZY)
def new_parents_have_no_rows(session: Session) -> None:
    users = [User(name="?", email="?", bio="?", country_id=1) for _ in range(10)]
    session.add_all(users)
    for user in users:
        user.orders.append(Order(status="new", total=1))
    session.flush()


@finds_nothing(LAZY)
def columns_instead_of_entities(session: Session) -> None:
    for name, orders in session.execute(select(User.name, func.count()).join(User.orders).group_by(User.id)).all():
        f"{name}: {orders}"


@finds_nothing(LAZY)
def the_fixed_part_of_a_polymorphic_result(session: Session) -> None:
    for employee in session.scalars(select(Employee).options(selectinload(Employee.badges))).all():
        (employee.name, employee.badges)


@finds_nothing(LAZY)
def many_to_one_repeated_in_a_large_result(session: Session) -> None:
    # 20 products, all loaded by one SELECT before the 120 items that lead to them.
    products = {product.id: product for product in session.scalars(select(Product)).all()}
    assert sum(products[item.product_id] is item.product for item in session.scalars(select(Item)).all()) == 120


@finds_nothing(LAZY)
def appended_to_without_reading(session: Session) -> None:
    # A backref does not load the other side to put one more into it.
    users = session.scalars(select(User)).all()
    with session.no_autoflush:
        for user in users:
            session.add(Order(user=user, status="new", total=1))
    session.flush()
