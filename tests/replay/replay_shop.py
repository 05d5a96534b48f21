"""A small shop with every relationship that the replays are tried on."""

from __future__ import annotations

from typing import ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, DynamicMapped, Mapped, Session, deferred, mapped_column, relationship

USERS = 10


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    bio: Mapped[str] = deferred(mapped_column(sa.String))
    orders: Mapped[list[Order]] = relationship(back_populates="user", order_by="Order.id")
    logins: DynamicMapped[Login] = relationship()


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"))
    user: Mapped[User] = relationship(back_populates="orders")
    items: Mapped[list[Item]] = relationship(order_by="Item.id")


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(sa.ForeignKey("orders.id"))


class Login(Base):
    __tablename__ = "logins"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"))


class Employee(Base):
    __tablename__ = "employees"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    __mapper_args__: ClassVar = {"polymorphic_on": "kind", "polymorphic_identity": "employee"}


class Manager(Employee):
    __tablename__ = "managers"
    id: Mapped[int] = mapped_column(sa.ForeignKey("employees.id"), primary_key=True)
    budget: Mapped[int]
    reports: Mapped[list[Report]] = relationship(order_by="Report.id")
    __mapper_args__: ClassVar = {"polymorphic_identity": "manager"}


class Report(Base):
    __tablename__ = "reports"
    id: Mapped[int] = mapped_column(primary_key=True)
    manager_id: Mapped[int] = mapped_column(sa.ForeignKey("managers.id"))


class Node(Base):
    __tablename__ = "nodes"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("nodes.id"))
    children: Mapped[list[Node]] = relationship()


def fill(engine):
    """Make the tables and their rows."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        fill_session(session)
        session.commit()


def fill_session(session):
    for number in range(1, USERS + 1):
        orders = [Order(items=[Item(), Item()]), Order(items=[Item()])]
        session.add(User(name=f"user {number}", bio=f"bio {number}", orders=orders))
        session.add(Manager(budget=number, reports=[Report(), Report()]))
    session.add(Node(children=[Node(children=[Node(children=[])]) for _ in range(6)]))


def list_users(session):
    return [(user.name, len(user.orders)) for user in session.scalars(sa.select(User).order_by(User.id))]
