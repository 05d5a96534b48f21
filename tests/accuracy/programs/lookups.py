"""One row, one number or one answer at a time, where one SELECT gives them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import event, exists, func, insert, select, text
from sqlalchemy.orm import Session

from accuracy.expectation import finds, finds_nothing
from accuracy.models import Country, Item, Order, Product, Setting, Tag, User, Visit

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

GET, CORE = "n-plus-one/get_loop", "n-plus-one/core_loop"
# By a unique column that is not the primary key: a key, and not one that `get` takes.
UNIQUE = ("get_loop", "core_loop")
ASKED = ("aggregate", "in_query")

users, orders, products, visits = User.__table__, Order.__table__, Product.__table__, Visit.__table__


# -- By key


@finds("n-plus-one", "get_loop", "products", fix="in_query")
def get_in_a_loop(session: Session) -> None:
    for item in session.scalars(select(Item).limit(10)).all():
        session.get(Product, item.product_id)  # <- here


@finds("n-plus-one", "get_loop", "products", fix="in_query")
def get_one_in_a_comprehension(session: Session) -> None:
    [session.get_one(Product, number) for number in range(1, 11)]  # <- here


@finds("n-plus-one", "get_loop", "tags", fix="in_query")
def get_of_rows_that_are_not_there(session: Session) -> None:
    assert not any(session.get(Tag, number) for number in range(1_000, 1_010))  # <- here


@finds("n-plus-one", "get_loop", "products", fix="in_query")
def get_in_a_new_session_each_time(engine: Engine) -> None:
    for number in range(1, 11):
        with Session(engine) as session:
            session.get(Product, number)  # <- here


@finds("n-plus-one", "get_loop", "products", fix="in_query")
def merge_in_a_loop(session: Session) -> None:
    for number in range(1, 11):
        session.merge(Product(id=number, name=f"product {number - 1}", price=number - 1))  # <- here


@finds("n-plus-one", "get_loop", "products", fix="in_query")
def orm_select_by_key(session: Session) -> None:
    for number in range(1, 11):
        session.scalars(select(Product).where(Product.id == number)).one()  # <- here


@finds("n-plus-one", "get_loop", "products", fix="in_query")
def legacy_query_by_key(session: Session) -> None:
    for number in range(1, 11):
        session.query(Product).filter_by(id=number).first()  # <- here


@finds("n-plus-one", "get_loop", "products", fix="in_query")
def core_select_by_key(connection: Connection) -> None:
    for number in range(1, 11):
        connection.execute(select(products).where(products.c.id == number)).one()  # <- here


@finds("n-plus-one", "get_loop", "products", fix="in_query")
def text_by_key(connection: Connection) -> None:
    for number in range(1, 11):
        connection.execute(text("SELECT name FROM products WHERE id = :id"), {"id": number}).one()  # <- here


@finds("n-plus-one", "get_loop", "products", fix="in_query")
def text_by_key_with_the_value_inside(connection: Connection) -> None:
    for number in range(1, 11):
        connection.execute(text(f"SELECT name FROM products WHERE id = {number}")).one()  # <- here


@finds("n-plus-one", "get_loop", "countries", fix="in_query")
def select_in_a_mapper_event(session: Session) -> None:
    def look_up(_mapper: object, connection: Connection, user: User) -> None:
        country = select(Country.__table__.c.name).where(Country.__table__.c.id == user.country_id)
        user.bio = connection.execute(country).scalar_one()  # <- here

    event.listen(User, "before_insert", look_up)
    try:
        session.add_all([User(name="?", email="?", bio="", country_id=number) for number in range(1, 11)])
        session.flush()
    finally:
        event.remove(User, "before_insert", look_up)


@finds("n-plus-one", "get_loop", "countries", fix="in_query")
def get_in_a_load_event(session: Session) -> None:
    def look_up(user: User, _context: object) -> None:
        session.get(Country, user.country_id)  # <- here

    event.listen(User, "load", look_up)
    try:
        session.scalars(select(User).limit(10)).all()
    finally:
        event.remove(User, "load", look_up)


@finds_nothing(GET)
def get_from_the_identity_map(session: Session) -> None:
    kept = session.scalars(select(Product)).all()
    for item in session.scalars(select(Item)).all():
        assert session.get(Product, item.product_id) in kept


@finds_nothing(GET)
def get_below_the_limit(session: Session) -> None:
    for number in range(1, 5):
        session.get(Product, number)


@finds_nothing(GET)
def get_of_different_classes(session: Session) -> None:
    for model in (Country, Item, Order, Product, Setting, Tag, User, Visit):
        session.get(model, 1)


@finds_nothing(GET)
def merge_without_loading(session: Session) -> None:
    for product in session.scalars(select(Product)).all():
        session.expunge(product)
        session.merge(product, load=False)


# -- By another column


@finds("n-plus-one", "core_loop", "orders", fix="in_query")
def orm_select_by_foreign_key(session: Session) -> None:
    for user in session.scalars(select(User).limit(10)).all():
        session.scalars(select(Order).where(Order.user_id == user.id)).all()  # <- here


@finds("n-plus-one", "core_loop", "orders", fix="in_query")
def core_select_by_foreign_key(connection: Connection) -> None:
    for row in connection.execute(select(users.c.id).limit(10)).all():
        connection.execute(select(orders).where(orders.c.user_id == row.id)).all()  # <- here


@finds("n-plus-one", "core_loop", "visits", fix="in_query")
def core_select_with_a_fixed_condition_beside(connection: Connection) -> None:
    for number in range(1, 11):
        query = select(visits.c.id).where(visits.c.user_id == number, visits.c.page == "/")
        connection.execute(query).all()  # <- here


@finds("n-plus-one", UNIQUE, "tags", fix="in_query")
def orm_select_by_unique_name(session: Session) -> None:
    for number in range(10):
        session.execute(select(Tag).where(Tag.name == f"tag {number}")).scalar_one()  # <- here


@finds("n-plus-one", "core_loop", "orders", fix="in_query")
def core_join_by_foreign_key(connection: Connection) -> None:
    for number in range(1, 11):
        joined = select(orders.c.id, users.c.name).join(users, users.c.id == orders.c.user_id)
        connection.execute(joined.where(orders.c.user_id == number)).all()  # <- here


# -- One number, the latest row, one answer


@finds("n-plus-one", "core_loop", "orders", fix="aggregate")
def core_count(connection: Connection) -> None:
    for number in range(1, 11):
        connection.scalar(select(func.count()).select_from(orders).where(orders.c.user_id == number))  # <- here


@finds("n-plus-one", "core_loop", "orders", fix="aggregate")
def orm_sum(session: Session) -> None:
    for user in session.scalars(select(User).limit(10)).all():
        session.scalar(select(func.sum(Order.total)).where(Order.user_id == user.id))  # <- here


@finds("n-plus-one", "core_loop", "orders", fix="aggregate")
def legacy_query_count(session: Session) -> None:
    for user in session.query(User).limit(10).all():
        session.query(Order).filter(Order.user_id == user.id).count()  # <- here


@finds("n-plus-one", "core_loop", "visits", fix="aggregate")
def text_max(connection: Connection) -> None:
    for number in range(1, 11):
        connection.execute(text("SELECT max(id) FROM visits WHERE user_id = :id"), {"id": number}).scalar()  # <- here


@finds("n-plus-one", "core_loop", "orders", fix="window")
def latest_of_each_group(session: Session) -> None:
    for user in session.scalars(select(User).limit(10)).all():
        latest = select(Order).where(Order.user_id == user.id).order_by(Order.id.desc()).limit(1)
        session.scalars(latest).first()  # <- here


@finds("n-plus-one", "core_loop", "orders", fix="window")
def core_top_three_of_each_group(connection: Connection) -> None:
    for number in range(1, 11):
        top = select(orders.c.total).where(orders.c.user_id == number).order_by(orders.c.total.desc()).limit(3)
        connection.execute(top).all()  # <- here


@finds("n-plus-one", "core_loop", "orders", fix=ASKED)
def core_exists(connection: Connection) -> None:
    for number in range(1, 11):
        connection.scalar(select(exists().where(orders.c.user_id == number)))  # <- here


@finds("n-plus-one", "core_loop", "orders", fix=ASKED)
def orm_exists(session: Session) -> None:
    for user in session.scalars(select(User).limit(10)).all():
        session.scalar(select(select(Order.id).where(Order.user_id == user.id).exists()))  # <- here


@finds_nothing(CORE)
def count_of_all_groups_at_once(connection: Connection) -> None:
    connection.execute(select(orders.c.user_id, func.count()).group_by(orders.c.user_id)).all()


@finds_nothing(CORE)
def latest_of_all_groups_at_once(session: Session) -> None:
    rank = func.row_number().over(partition_by=Order.user_id, order_by=Order.id.desc()).label("rank")
    ranked = select(Order.id, rank).subquery()
    session.scalars(select(Order).join(ranked, ranked.c.id == Order.id).where(ranked.c.rank == 1)).all()


@finds_nothing(CORE)
def different_counts(connection: Connection) -> None:
    for table in (users, orders, products, visits, Item.__table__, Tag.__table__, Country.__table__):
        connection.scalar(select(func.count()).select_from(table))


@finds_nothing(CORE)
def select_below_the_limit(connection: Connection) -> None:
    for number in range(1, 5):
        connection.execute(select(orders).where(orders.c.user_id == number)).all()


@finds_nothing(CORE)
def histogram_of_ranges(connection: Connection) -> None:
    # Nothing is looked up by equality: each SELECT is another range of one report.
    for low in range(0, 60, 10):
        connection.execute(select(orders.c.id).where(orders.c.total >= low, orders.c.total < low + 10)).all()


@finds_nothing(CORE)
def the_steps_of_one_import(session: Session) -> None:
    # A lookup for each of a few different things, each once.
    session.execute(insert(Setting), [{"key": "import", "value": "began"}])
    session.scalars(select(Country).where(Country.name == "country 1")).one()
    session.scalars(select(Tag).where(Tag.name == "tag 1")).one()
    session.scalars(select(User).where(User.email == "1@shop")).one()
    session.scalars(select(Product).where(Product.name == "product 1")).one()
    session.scalars(select(Setting).where(Setting.key == "key 1")).one()
