"""A shop with every form of relationship that SQLAlchemy can map, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import datetime as dt  # noqa: TC003 - SQLAlchemy reads the annotations
from typing import ClassVar

from sqlalchemy import Column, ForeignKey, String, Table, Text, UniqueConstraint, func
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    WriteOnlyMapped,
    mapped_column,
    relationship,
)


class Base(AsyncAttrs, DeclarativeBase):
    id: Mapped[int] = mapped_column(primary_key=True)


# -- Who buys


class Country(Base):
    __tablename__ = "countries"
    name: Mapped[str]
    users: Mapped[list[User]] = relationship(back_populates="country")


class User(Base):
    __tablename__ = "users"
    name: Mapped[str]
    email: Mapped[str]
    bio: Mapped[str] = mapped_column(Text, deferred=True)
    country_id: Mapped[int] = mapped_column(ForeignKey("countries.id"))

    country: Mapped[Country] = relationship(back_populates="users")
    profile: Mapped[Profile] = relationship(back_populates="user")
    orders: Mapped[list[Order]] = relationship(back_populates="user", order_by="Order.id")
    memberships: Mapped[list[Membership]] = relationship(back_populates="user")
    groups: AssociationProxy[list[Group]] = association_proxy("memberships", "group")
    visits: DynamicMapped[Visit] = relationship()
    notes: WriteOnlyMapped[Note] = relationship()

    @hybrid_property
    def spent(self) -> int:
        return sum(order.total for order in self.orders)  # <- spent

    @property
    def order_count(self) -> int:
        return len(self.orders)  # <- order_count


class Profile(Base):
    __tablename__ = "profiles"
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), unique=True)
    picture: Mapped[str]
    user: Mapped[User] = relationship(back_populates="profile")


class Group(Base):
    __tablename__ = "groups"
    name: Mapped[str]
    memberships: Mapped[list[Membership]] = relationship(back_populates="group")


class Membership(Base):
    __tablename__ = "memberships"
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    group_id: Mapped[int] = mapped_column(ForeignKey("groups.id"))
    user: Mapped[User] = relationship(back_populates="memberships")
    group: Mapped[Group] = relationship(back_populates="memberships")


class Visit(Base):
    __tablename__ = "visits"
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    page: Mapped[str]


class Note(Base):
    __tablename__ = "notes"
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    text: Mapped[str]


# -- What is bought


class Order(Base):
    __tablename__ = "orders"
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    status: Mapped[str]
    total: Mapped[int]
    user: Mapped[User] = relationship(back_populates="orders")
    items: Mapped[list[Item]] = relationship(back_populates="order", order_by="Item.id")
    user_name: AssociationProxy[str] = association_proxy("user", "name")


class Item(Base):
    __tablename__ = "items"
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    quantity: Mapped[int]
    order: Mapped[Order] = relationship(back_populates="items")
    product: Mapped[Product] = relationship()


product_tags = Table(
    "product_tags",
    Base.metadata,
    Column("product_id", ForeignKey("products.id"), primary_key=True),
    Column("tag_id", ForeignKey("tags.id"), primary_key=True),
)


class Product(Base):
    __tablename__ = "products"
    name: Mapped[str]
    price: Mapped[int]
    category_id: Mapped[int] = mapped_column(ForeignKey("categories.id"))
    category: Mapped[Category] = relationship()
    tags: Mapped[list[Tag]] = relationship(secondary=product_tags, back_populates="products")


class Tag(Base):
    __tablename__ = "tags"
    name: Mapped[str] = mapped_column(unique=True)
    products: Mapped[list[Product]] = relationship(secondary=product_tags, back_populates="tags")


class Category(Base):
    __tablename__ = "categories"
    name: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("categories.id"))
    parent: Mapped[Category | None] = relationship(remote_side="Category.id", back_populates="children")
    children: Mapped[list[Category]] = relationship(back_populates="parent")


# -- Inheritance: a table for each class, and one table for all


class Employee(Base):
    __tablename__ = "employees"
    name: Mapped[str]
    type: Mapped[str]
    badges: Mapped[list[Badge]] = relationship()
    __mapper_args__: ClassVar[dict[str, object]] = {"polymorphic_on": "type", "polymorphic_identity": "employee"}


class Engineer(Employee):
    __tablename__ = "engineers"
    id: Mapped[int] = mapped_column(ForeignKey("employees.id"), primary_key=True)
    language: Mapped[str]
    machines: Mapped[list[Machine]] = relationship()
    __mapper_args__: ClassVar[dict[str, object]] = {"polymorphic_identity": "engineer"}


class Manager(Employee):
    __tablename__ = "managers"
    id: Mapped[int] = mapped_column(ForeignKey("employees.id"), primary_key=True)
    budget: Mapped[int]
    __mapper_args__: ClassVar[dict[str, object]] = {"polymorphic_identity": "manager"}


class Badge(Base):
    __tablename__ = "badges"
    employee_id: Mapped[int] = mapped_column(ForeignKey("employees.id"))
    text: Mapped[str]


class Machine(Base):
    __tablename__ = "machines"
    engineer_id: Mapped[int] = mapped_column(ForeignKey("engineers.id"))
    serial: Mapped[str]


class Payment(Base):
    __tablename__ = "payments"
    amount: Mapped[int]
    type: Mapped[str]
    __mapper_args__: ClassVar[dict[str, object]] = {"polymorphic_on": "type", "polymorphic_identity": "payment"}


class CardPayment(Payment):
    network: Mapped[str | None]
    refunds: Mapped[list[Refund]] = relationship()
    __mapper_args__: ClassVar[dict[str, object]] = {"polymorphic_identity": "card"}


class Refund(Base):
    __tablename__ = "refunds"
    payment_id: Mapped[int] = mapped_column(ForeignKey("payments.id"))
    reason: Mapped[str]


# -- Rows that are deleted with others


class Folder(Base):
    __tablename__ = "folders"
    name: Mapped[str]
    files: Mapped[list[File]] = relationship(cascade="all, delete-orphan")


class File(Base):
    __tablename__ = "files"
    folder_id: Mapped[int] = mapped_column(ForeignKey("folders.id", ondelete="CASCADE"))
    name: Mapped[str]


class Drawer(Base):
    """The same tables as `Folder` has, mapped as its fix is."""

    __tablename__ = "drawers"
    name: Mapped[str]
    papers: Mapped[list[Paper]] = relationship(cascade="all, delete-orphan", passive_deletes=True)


class Paper(Base):
    __tablename__ = "papers"
    drawer_id: Mapped[int] = mapped_column(ForeignKey("drawers.id", ondelete="CASCADE"))
    name: Mapped[str]


class Project(Base):
    __tablename__ = "projects"
    name: Mapped[str]
    tasks: Mapped[list[Task]] = relationship()


class Task(Base):
    __tablename__ = "tasks"
    project_id: Mapped[int | None] = mapped_column(ForeignKey("projects.id"))
    title: Mapped[str]


playlist_songs = Table(
    "playlist_songs",
    Base.metadata,
    Column("playlist_id", ForeignKey("playlists.id"), primary_key=True),
    Column("song_id", ForeignKey("songs.id"), primary_key=True),
)


class Playlist(Base):
    __tablename__ = "playlists"
    name: Mapped[str]
    songs: Mapped[list[Song]] = relationship(secondary=playlist_songs)


class Song(Base):
    __tablename__ = "songs"
    title: Mapped[str]


# -- Loaders chosen by the mapping


class Depot(Base):
    __tablename__ = "depots"
    name: Mapped[str]
    trucks: Mapped[list[Truck]] = relationship(lazy="immediate")


class Truck(Base):
    __tablename__ = "trucks"
    depot_id: Mapped[int] = mapped_column(ForeignKey("depots.id"))
    plate: Mapped[str]


class Store(Base):
    __tablename__ = "stores"
    name: Mapped[str]
    country_id: Mapped[int] = mapped_column(ForeignKey("countries.id"))
    country: Mapped[Country] = relationship(lazy="joined")
    tills: Mapped[list[Till]] = relationship(lazy="selectin")


class Till(Base):
    __tablename__ = "tills"
    store_id: Mapped[int] = mapped_column(ForeignKey("stores.id"))
    number: Mapped[int]


# -- Rows that change by themselves


class Document(Base):
    """Versioned, with a column that the server sets on every UPDATE."""

    __tablename__ = "documents"
    title: Mapped[str]
    version: Mapped[int] = mapped_column()
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
    __mapper_args__: ClassVar[dict[str, object]] = {"version_id_col": version}


class Letter(Base):
    """As `Document`, mapped as its fix is."""

    __tablename__ = "letters"
    title: Mapped[str]
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
    __mapper_args__: ClassVar[dict[str, object]] = {"eager_defaults": True}


class Setting(Base):
    __tablename__ = "settings"
    key: Mapped[str] = mapped_column(String(40), unique=True)
    value: Mapped[str]


class Stock(Base):
    __tablename__ = "stocks"
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    place: Mapped[str]
    amount: Mapped[int]
    __table_args__ = (UniqueConstraint("product_id", "place"),)


class Job(Base):
    __tablename__ = "jobs"
    status: Mapped[str]
    version: Mapped[int]


# -- Enough rows for large results and for loaders that work in chunks


class Sample(Base):
    __tablename__ = "samples"
    value: Mapped[int]
    remarks: Mapped[list[Remark]] = relationship()


class Remark(Base):
    __tablename__ = "remarks"
    sample_id: Mapped[int] = mapped_column(ForeignKey("samples.id"))
    text: Mapped[str]
