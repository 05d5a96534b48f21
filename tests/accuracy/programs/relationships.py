"""Lazy loads of every form that a relationship can have, one parent at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select, text
from sqlalchemy.orm import aliased, joinedload, lazyload, selectinload

from accuracy.expectation import finds
from accuracy.models import (
    CardPayment,
    Category,
    Country,
    Employee,
    Engineer,
    Group,
    Item,
    Order,
    Product,
    Profile,
    Store,
    Tag,
    User,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@finds("n-plus-one", "lazy_load", "User.orders", fix="selectinload", options="selectinload(User.orders)")
def one_to_many(session: Session) -> None:
    users = session.scalars(select(User).limit(10)).all()  # <- parents
    for user in users:
        len(user.orders)  # <- here


@finds("n-plus-one", "lazy_load", "User.orders", fix="selectinload")
def one_to_many_at_the_limit(session: Session) -> None:
    for user in session.scalars(select(User).limit(5)).all():  # <- parents
        len(user.orders)  # <- here


@finds("n-plus-one", "lazy_load", "User.orders", fix="selectinload")
def one_to_many_while_the_result_is_iterated(session: Session) -> None:
    for user in session.scalars(select(User).limit(10)):  # <- parents
        len(user.orders)  # <- here


@finds("n-plus-one", "lazy_load", "Order.user", fix="joinedload", options="joinedload(Order.user)")
def many_to_one(session: Session) -> None:
    orders = session.scalars(select(Order).order_by(Order.id).limit(10)).all()  # <- parents
    for order in orders:
        order.user.name  # <- here


@finds("n-plus-one", "lazy_load", "User.profile", fix="joinedload", options="joinedload(User.profile)")
def one_to_one(session: Session) -> None:
    users = session.scalars(select(User).limit(10)).all()  # <- parents
    for user in users:
        user.profile.picture  # <- here


@finds("n-plus-one", "lazy_load", "Profile.user", fix="joinedload")
def one_to_one_from_the_other_side(session: Session) -> None:
    profiles = session.scalars(select(Profile).limit(10)).all()  # <- parents
    for profile in profiles:
        profile.user.name  # <- here


@finds("n-plus-one", "lazy_load", "Product.tags", fix="selectinload", options="selectinload(Product.tags)")
def many_to_many(session: Session) -> None:
    products = session.scalars(select(Product).limit(10)).all()  # <- parents
    for product in products:
        [tag.name for tag in product.tags]  # <- here


@finds("n-plus-one", "lazy_load", "Tag.products", fix="selectinload")
def many_to_many_with_nothing_on_the_other_side(session: Session) -> None:
    # The first tags are on no product: a SELECT without rows is still one for each parent.
    for tag in session.scalars(select(Tag).order_by(Tag.id).limit(10)).all():  # <- parents
        bool(tag.products)  # <- here


@finds("n-plus-one", "lazy_load", "Category.children", fix="selectinload")
def self_referential_one_level(session: Session) -> None:
    roots = session.scalars(select(Category).order_by(Category.id).limit(6)).all()  # <- parents
    for root in roots:
        len(root.children)  # <- here


@finds("n-plus-one", "lazy_load", "Category.children", fix="recursion")
def self_referential_tree(session: Session) -> None:
    def count(category: Category) -> int:
        return 1 + sum(count(child) for child in category.children)  # <- here

    count(session.scalars(select(Category).where(Category.name == "link 0")).one())


@finds("n-plus-one", "lazy_load", "Category.children", fix="recursion")
def self_referential_forest(session: Session) -> None:
    def count(category: Category) -> int:
        return 1 + sum(count(child) for child in category.children)  # <- here

    sum(count(root) for root in session.scalars(select(Category).where(Category.parent_id.is_(None))).all())


@finds("n-plus-one", "lazy_load", "Category.parent", fix="recursion")
def parent_chain(session: Session) -> None:
    category = session.scalars(select(Category).where(Category.name == "link 7")).one()
    path = [category.name]
    while category.parent is not None:  # <- here
        category = category.parent
        path.append(category.name)


@finds("n-plus-one", "lazy_load", "Employee.badges", fix="selectinload", options="selectinload(Employee.badges)")
def polymorphic_base(session: Session) -> None:
    staff = session.scalars(select(Employee)).all()  # <- parents
    for employee in staff:
        len(employee.badges)  # <- here


@finds("n-plus-one", "lazy_load", "Engineer.machines", fix="selectinload", options="selectinload(Engineer.machines)")
def polymorphic_subclass(session: Session) -> None:
    engineers = session.scalars(select(Engineer)).all()  # <- parents
    for engineer in engineers:
        len(engineer.machines)  # <- here


@finds("n-plus-one", "lazy_load", "CardPayment.refunds", fix="selectinload")
def single_table_subclass(session: Session) -> None:
    payments = session.scalars(select(CardPayment)).all()  # <- parents
    for payment in payments:
        len(payment.refunds)  # <- here


@finds("n-plus-one", "lazy_load", "User.memberships", fix="selectinload")
def association_proxy_to_many(session: Session) -> None:
    # Three groups serve all users, so that the second step stays below the limit.
    users = session.scalars(select(User).limit(10)).all()  # <- parents
    for user in users:
        [group.name for group in user.groups]  # <- here


@finds("n-plus-one", "lazy_load", "Order.user", fix="joinedload")
def association_proxy_to_one(session: Session) -> None:
    orders = session.scalars(select(Order).order_by(Order.id).limit(10)).all()  # <- parents
    for order in orders:
        order.user_name  # <- here


@finds("n-plus-one", "lazy_load", "User.orders", fix="selectinload", line="spent")
def hybrid_property(session: Session) -> None:
    users = session.scalars(select(User).limit(10)).all()  # <- parents
    sum(user.spent for user in users)


@finds("n-plus-one", "lazy_load", "User.visits", fix=("in_query", "selectinload"))
def dynamic(session: Session) -> None:
    users = session.scalars(select(User).limit(10)).all()
    for user in users:
        user.visits.all()  # <- here


@finds("n-plus-one", "lazy_load", "User.notes", fix=("in_query", "selectinload"))
def write_only(session: Session) -> None:
    users = session.scalars(select(User).limit(10)).all()
    for user in users:
        session.scalars(user.notes.select()).all()  # <- here


@finds("n-plus-one", "lazy_load", "User.orders", fix="selectinload")
def legacy_query(session: Session) -> None:
    users = session.query(User).limit(10).all()  # <- parents
    for user in users:
        len(user.orders)  # <- here


@finds("n-plus-one", "lazy_load", "User.orders", fix="selectinload")
def legacy_query_iterated_with_a_filter(session: Session) -> None:
    for user in session.query(User).filter(User.id < 15).order_by(User.name):  # <- parents
        len(user.orders)  # <- here


@finds("n-plus-one", "lazy_load", "User.orders", fix="selectinload", line="orders")
@finds(
    "n-plus-one", "lazy_load", "Order.items", fix="selectinload", line="items",
    options="selectinload(User.orders).selectinload(Order.items)",
)  # fmt: skip
def two_levels_deep(session: Session) -> None:
    users = session.scalars(select(User).limit(10)).all()  # <- parents
    for user in users:
        for order in user.orders:  # <- orders
            len(order.items)  # <- items


@finds(
    "n-plus-one", "lazy_load", "Order.items", fix="selectinload",
    options="selectinload(User.orders).selectinload(Order.items)",
)  # fmt: skip
def second_level_below_a_selectinload(session: Session) -> None:
    users = session.scalars(select(User).limit(10).options(selectinload(User.orders))).all()  # <- parents
    for user in users:
        for order in user.orders:
            len(order.items)  # <- here


@finds(
    "n-plus-one", "lazy_load", "User.country", fix="joinedload",
    options="joinedload(Order.user).joinedload(User.country)",
)  # fmt: skip
def second_level_below_a_joinedload(session: Session) -> None:
    statement = select(Order).order_by(Order.id).limit(10).options(joinedload(Order.user))
    for order in session.scalars(statement).all():  # <- parents
        order.user.country.name  # <- here


@finds("n-plus-one", "lazy_load", "Order.items", fix="selectinload", line="items")
@finds(
    "n-plus-one", "lazy_load", "Item.product", fix="joinedload", line="product",
    options="selectinload(Order.items).joinedload(Item.product)",
)  # fmt: skip
def to_many_then_to_one(session: Session) -> None:
    orders = session.scalars(select(Order).order_by(Order.id).limit(10)).all()  # <- parents
    for order in orders:
        for item in order.items:  # <- items
            item.product.name  # <- product


@finds("n-plus-one", "lazy_load", "User.orders", fix="selectinload", line="orders")
@finds("n-plus-one", "lazy_load", "User.profile", fix="joinedload", line="profile")
@finds("n-plus-one", "lazy_load", "User.country", fix="joinedload", line="country")
def three_relationships_of_one_parent(session: Session) -> None:
    users = session.scalars(select(User).limit(10)).all()  # <- parents
    for user in users:
        len(user.orders)  # <- orders
        user.profile.picture  # <- profile
        user.country.name  # <- country


@finds("n-plus-one", "lazy_load", "User.orders", fix="selectinload")
def one_parent_at_a_time_through_pages(session: Session) -> None:
    for page in range(5):
        users = session.scalars(select(User).order_by(User.id).offset(2 * page).limit(2)).all()  # <- parents
        for user in users:
            len(user.orders)  # <- here


@finds("n-plus-one", "lazy_load", "User.orders", fix="selectinload")
def whole_entities_beside_columns(session: Session) -> None:
    rows = session.execute(select(User, func.length(User.name)).limit(10)).all()  # <- parents
    for user, _ in rows:
        len(user.orders)  # <- here


@finds("n-plus-one", "lazy_load", "User.orders", fix="selectinload")
def parents_that_were_loaded_long_ago(session: Session) -> None:
    # The parents were loaded long ago, by a SELECT that is not the last one.
    users = session.scalars(select(User).limit(10)).all()  # <- parents
    session.scalars(select(Product).limit(3)).all()
    session.scalars(select(Item).limit(3)).all()
    for user in users:
        len(user.orders)  # <- here


@finds(
    "n-plus-one", "lazy_load", "Membership.user", fix="joinedload",
    options="selectinload(Group.memberships).joinedload(Membership.user)",
)  # fmt: skip
def children_of_one_parent(session: Session) -> None:
    group = session.get_one(Group, 1)  # <- parents
    for membership in group.memberships:
        membership.user.name  # <- here


@finds("n-plus-one", "lazy_load", "Country.users", fix="selectinload")
def second_level_below_a_join_of_the_mapping(session: Session) -> None:
    for store in session.scalars(select(Store)).all():  # <- parents
        len(store.country.users)  # <- here


@finds("n-plus-one", "lazy_load", "Store.tills", fix="selectinload")
def eager_mapping_made_lazy_by_an_option(session: Session) -> None:
    for store in session.scalars(select(Store).options(lazyload(Store.tills))).all():  # <- parents
        len(store.tills)  # <- here


@finds("n-plus-one", "lazy_load", "User.orders", fix="selectinload")
def parents_of_an_alias(session: Session) -> None:
    customer = aliased(User)
    for user in session.scalars(select(customer).join(customer.country).where(Country.id < 15)).all():  # <- parents
        len(user.orders)  # <- here


@finds("n-plus-one", "lazy_load", "User.orders", fix="selectinload")
def parents_of_a_text(session: Session) -> None:
    found = select(User).from_statement(text("SELECT id, name, email, country_id FROM users WHERE id < 11"))
    for user in session.scalars(found).all():  # <- parents
        len(user.orders)  # <- here


@finds("n-plus-one", "lazy_load", "User.orders", fix="selectinload")
def reading_a_collection_to_append_to_it(session: Session) -> None:
    for user in session.scalars(select(User).limit(10)).all():  # <- parents
        if len(user.orders) < 100:  # <- here
            user.orders.append(Order(status="new", total=1))
