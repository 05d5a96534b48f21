"""The models and rows that the integration tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import ForeignKey, create_engine
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

if TYPE_CHECKING:
    from pathlib import Path

USERS = 12


class Model(AsyncAttrs, DeclarativeBase):
    pass


class User(Model):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    orders: Mapped[list[Order]] = relationship()


class Order(Model):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)


def make_database(folder: Path) -> Path:
    """Make a SQLite file with users and orders, and return its path."""
    file = folder / "shop.db"
    engine = create_engine(f"sqlite:///{file}")
    Model.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(User(orders=[Order(), Order()]) for _ in range(USERS))
        session.commit()
    engine.dispose()
    return file
