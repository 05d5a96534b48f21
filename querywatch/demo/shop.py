"""The shop that `querywatch demo` watches: FastAPI on SQLAlchemy, with three mistakes that real shops make.

In:  a database.
Out: an application; each bad route has the same route as it should be beside it.

This file is an application like any other. Of querywatch it holds the one line in `open_shop`.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  SQLAlchemy reads the annotations of the models at run time
from typing import TYPE_CHECKING, Any, NamedTuple

from fastapi import FastAPI
from sqlalchemy import ForeignKey, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

import querywatch

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine

    from querywatch.monitor import Monitor


class Model(DeclarativeBase):
    """Base of the shop's models."""


class User(Model):
    """A customer."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    orders: Mapped[list[Order]] = relationship(back_populates="user")


class Order(Model):
    """What a customer bought at once. Nobody thought of an index on its status."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    status: Mapped[str]
    created_at: Mapped[datetime]
    note: Mapped[str]
    user: Mapped[User] = relationship(back_populates="orders")
    items: Mapped[list[Item]] = relationship()


class Product(Model):
    """What the shop sells."""

    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Item(Model):
    """One line of an order."""

    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"), index=True)
    quantity: Mapped[int]
    product: Mapped[Product] = relationship()


class Shop(NamedTuple):
    """The running parts of the shop."""

    app: FastAPI
    engine: Engine
    monitor: Monitor


def open_shop(database_url: URL, prometheus_port: int) -> Shop:
    """Build the application.

    Args:
        database_url: Of a database that holds the shop's tables.
        prometheus_port: Where querywatch serves its metrics; 0 takes a free port.

    Raises:
        ConfigError: The port is in use.
    """
    engine = create_engine(database_url)
    app = FastAPI(title="shop")
    add_routes(app, engine)
    # A shop this small is never really slow; 20 ms is what 100 ms would be with five times the orders.
    monitor = querywatch.install(engine, app=app, prometheus_port=prometheus_port, slow_query_s=0.02)
    return Shop(app, engine, monitor)


def add_routes(app: FastAPI, engine: Engine) -> None:
    """Add the shop's routes to *app*, which read from *engine*."""

    @app.get("/users")
    def list_users() -> list[dict[str, Any]]:
        with Session(engine) as session:
            users = session.scalars(select(User).order_by(User.id).limit(50))
            return [{"name": user.name, "orders": len(user.orders)} for user in users]

    @app.get("/users/fixed")
    def list_users_fixed() -> list[dict[str, Any]]:
        with Session(engine) as session:
            users = session.scalars(select(User).options(selectinload(User.orders)).order_by(User.id).limit(50))
            return [{"name": user.name, "orders": len(user.orders)} for user in users]

    @app.get("/products")
    def list_products() -> list[dict[str, Any]]:
        with engine.connect() as connection:
            products = connection.execute(select(Product.id, Product.name).order_by(Product.id).limit(20)).all()
            sold = [
                connection.scalar(select(func.sum(Item.quantity)).where(Item.product_id == product.id))
                for product in products
            ]
        return [{"name": product.name, "sold": number} for product, number in zip(products, sold, strict=True)]

    @app.get("/products/fixed")
    def list_products_fixed() -> list[dict[str, Any]]:
        page = select(Product.id, Product.name).order_by(Product.id).limit(20).subquery()
        query = (
            select(page.c.name, func.sum(Item.quantity))
            .join(Item, Item.product_id == page.c.id)
            .group_by(page.c.id, page.c.name)
            .order_by(page.c.id)
        )
        with engine.connect() as connection:
            return [{"name": name, "sold": number} for name, number in connection.execute(query)]

    @app.get("/orders")
    def list_orders(status: str = "refunded") -> list[dict[str, Any]]:
        query = select(Order).where(Order.status == status).order_by(Order.created_at.desc()).limit(20)
        with Session(engine) as session:
            return [{"id": order.id, "note": order.note} for order in session.scalars(query)]

    @app.get("/orders/{order_id}")
    def show_order(order_id: int) -> dict[str, Any]:
        with Session(engine) as session:
            order = session.get_one(Order, order_id, options=[selectinload(Order.items).joinedload(Item.product)])
            return {"id": order.id, "items": [[item.quantity, item.product.name] for item in order.items]}
