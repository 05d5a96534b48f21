"""Rows that are read again one at a time, because the session let go of them; and columns left out at first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import defer, load_only, selectin_polymorphic, selectinload, undefer, with_polymorphic

from accuracy.expectation import finds, finds_nothing, given
from accuracy.models import (
    CardPayment,
    Document,
    Employee,
    Engineer,
    Job,
    Letter,
    Manager,
    Order,
    Payment,
    Product,
    Tag,
    User,
)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

REFRESH, DEFERRED = "n-plus-one/refresh", "n-plus-one/deferred"


# -- Read again


@finds("n-plus-one", "refresh", "User", fix="expire_on_commit")
def read_after_commit(session: Session) -> None:
    users = session.scalars(select(User).limit(10)).all()
    session.commit()
    [user.name for user in users]  # <- here


@finds("n-plus-one", "refresh", "Tag", fix="expire_on_commit")
def read_new_rows_after_commit(session: Session) -> None:
    tags = [Tag(name=f"new {number}") for number in range(10)]
    session.add_all(tags)
    session.commit()
    for tag in tags:
        tag.id  # <- here


@finds("n-plus-one", "refresh", "Product", fix="expire_on_commit")
def read_changed_rows_after_commit(session: Session) -> None:
    products = session.scalars(select(Product).limit(10)).all()
    for product in products:
        product.price += 1
    session.commit()
    sum(product.price for product in products)  # <- here


@finds("n-plus-one", "refresh", "User", fix="expire_on_commit")
async def async_read_after_commit(session: AsyncSession) -> None:
    users = (await session.scalars(select(User).limit(10))).all()
    await session.commit()
    for user in users:
        await user.awaitable_attrs.name  # <- here


@finds("n-plus-one", "refresh", "User", fix="in_query")
def read_after_rollback(session: Session) -> None:
    users = session.scalars(select(User).limit(10)).all()
    session.rollback()
    [user.name for user in users]  # <- here


@finds("n-plus-one", "refresh", "User", fix="in_query")
def read_after_expire_all(session: Session) -> None:
    users = session.scalars(select(User).limit(10)).all()
    session.expire_all()
    [user.name for user in users]  # <- here


@finds("n-plus-one", "refresh", "Product", fix="in_query")
def expire_one_by_one(session: Session) -> None:
    for product in session.scalars(select(Product).limit(10)).all():
        session.expire(product)
        product.name  # <- here


@finds("n-plus-one", "refresh", "Product", fix="in_query")
def refresh_one_by_one(session: Session) -> None:
    for product in session.scalars(select(Product).limit(10)).all():
        session.refresh(product)  # <- here


@finds("n-plus-one", "refresh", "Product", fix="in_query")
def refresh_one_column_one_by_one(session: Session) -> None:
    for product in session.scalars(select(Product).limit(10)).all():
        session.refresh(product, ["price"])  # <- here


@finds("n-plus-one", "refresh", "Document", fix="eager_defaults")
def read_what_the_server_set_on_update(session: Session) -> None:
    documents = session.scalars(select(Document)).all()
    for document in documents:
        document.title += "!"
    session.flush()
    [document.updated_at for document in documents]  # <- here


@finds_nothing(REFRESH)
@given(session={"expire_on_commit": False})
def read_after_commit_without_expiry(session: Session) -> None:
    users = session.scalars(select(User).limit(10)).all()
    session.commit()
    [user.name for user in users]


@finds_nothing(REFRESH)
def read_after_commit_and_a_new_select(session: Session) -> None:
    users = session.scalars(select(User).limit(10)).all()
    session.commit()
    session.scalars(select(User).limit(10)).all()
    [user.name for user in users]


@finds_nothing(REFRESH)
def read_one_row_after_each_commit(session: Session) -> None:
    # One parent: the row that a long job keeps its state in.
    job = session.get_one(Job, 1)
    for _ in range(10):
        session.commit()
        assert job.status == "queued"


@finds_nothing(REFRESH)
def read_few_rows_after_commit(session: Session) -> None:
    users = session.scalars(select(User).limit(4)).all()
    session.commit()
    [user.name for user in users]


@finds_nothing(REFRESH)
def read_what_the_insert_returned(session: Session) -> None:
    documents = [Document(title="?") for _ in range(10)]
    session.add_all(documents)
    session.flush()
    [(document.id, document.version) for document in documents]


@finds_nothing(REFRESH)
def poll_one_row(session: Session) -> None:
    job = session.get_one(Job, 1)
    for _ in range(10):
        session.refresh(job)
        assert job.status == "queued"


@finds_nothing(REFRESH)
def read_what_eager_defaults_fetched(session: Session) -> None:
    letters = session.scalars(select(Letter)).all()
    for letter in letters:
        letter.title += "!"
    session.flush()
    [letter.updated_at for letter in letters]


# -- Columns left out at first


@finds("n-plus-one", "deferred", "User.bio", fix="undefer", options="undefer(User.bio)")
def deferred_column(session: Session) -> None:
    users = session.scalars(select(User).limit(10)).all()  # <- parents
    [user.bio for user in users]  # <- here


@finds("n-plus-one", "deferred", "Product.price", fix="undefer")
def deferred_by_an_option(session: Session) -> None:
    for product in session.scalars(select(Product).options(defer(Product.price))).all():  # <- parents
        product.price + 1  # <- here


@finds("n-plus-one", "deferred", "User.email", fix="undefer")
def left_out_by_load_only(session: Session) -> None:
    users = session.scalars(select(User).limit(10).options(load_only(User.name))).all()  # <- parents
    for user in users:
        user.email  # <- here


@finds("n-plus-one", "deferred", "User.bio", fix="undefer")
async def async_deferred_column(session: AsyncSession) -> None:
    for user in (await session.scalars(select(User).limit(10))).all():  # <- parents
        await user.awaitable_attrs.bio  # <- here


@finds("n-plus-one", "deferred", "Engineer.language", fix="selectin_polymorphic")
def polymorphic_attribute(session: Session) -> None:
    for employee in session.scalars(select(Employee)).all():  # <- parents
        if isinstance(employee, Engineer):
            employee.language  # <- here


@finds("n-plus-one", "deferred", "Engineer.language", fix="selectin_polymorphic", line="language")
@finds("n-plus-one", "deferred", "Manager.budget", fix="selectin_polymorphic", line="budget")
def polymorphic_attributes_of_two_classes(session: Session) -> None:
    for employee in session.scalars(select(Employee)).all():  # <- parents
        if isinstance(employee, Engineer):
            employee.language  # <- language
        elif isinstance(employee, Manager):
            employee.budget  # <- budget


@finds("n-plus-one", "deferred", "CardPayment.network", fix="selectin_polymorphic")
def single_table_attribute(session: Session) -> None:
    for payment in session.scalars(select(Payment)).all():  # <- parents
        if isinstance(payment, CardPayment):
            payment.network  # <- here


@finds_nothing(DEFERRED)
def deferred_column_that_was_asked_for(session: Session) -> None:
    [user.bio for user in session.scalars(select(User).options(undefer(User.bio))).all()]


@finds_nothing(DEFERRED)
def deferred_column_of_one_row(session: Session) -> None:
    user = session.get_one(User, 1)
    assert [user.bio for _ in range(10)]


@finds_nothing(DEFERRED)
def deferred_column_that_is_only_written(session: Session) -> None:
    for user in session.scalars(select(User)).all():
        user.bio = "new"
    session.flush()


@finds_nothing(DEFERRED)
def polymorphic_attributes_by_selectin(session: Session) -> None:
    loaded = selectin_polymorphic(Employee, [Engineer, Manager])
    for employee in session.scalars(select(Employee).options(loaded)).all():
        employee.language if isinstance(employee, Engineer) else employee.name


@finds_nothing(DEFERRED)
def polymorphic_attributes_by_join(session: Session) -> None:
    for employee in session.scalars(select(with_polymorphic(Employee, [Engineer, Manager]))).all():
        employee.language if isinstance(employee, Engineer) else employee.name


@finds_nothing(DEFERRED)
def polymorphic_attributes_of_the_subclass(session: Session) -> None:
    [engineer.language for engineer in session.scalars(select(Engineer)).all()]


@finds("n-plus-one", "refresh", "User", fix="expire_on_commit")
@finds("write-loop", None, "orders", fix="single_commit", line="commit")
def what_was_loaded_eagerly_is_loaded_again(session: Session) -> None:
    for user in session.scalars(select(User).options(selectinload(User.orders)).limit(10)).all():
        session.add(Order(user_id=user.id, status="new", total=1))  # <- here
        session.commit()  # <- commit
