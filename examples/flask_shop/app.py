"""Flask: one line watches the engine and names requests by their rule.

Run it:  cd examples/flask_shop && flask run
Then ask for /users, and see /findings.
"""

from tempfile import TemporaryDirectory

from flask import Flask
from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

import querywatch


class Model(DeclarativeBase):
    pass


class User(Model):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    orders: Mapped[list["Order"]] = relationship()


class Order(Model):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    total: Mapped[int]


folder = TemporaryDirectory()
engine = create_engine(f"sqlite:///{folder.name}/shop.db")
Model.metadata.create_all(engine)
with Session(engine) as session:
    session.add_all(User(name=f"user {i}", orders=[Order(total=i), Order(total=2 * i)]) for i in range(20))
    session.commit()

app = Flask(__name__)
monitor = querywatch.install(engine, app=app)


@app.get("/users")
def list_users():
    with Session(engine) as session:
        return [{"name": user.name, "orders": len(user.orders)} for user in session.scalars(select(User))]


@app.get("/users/fixed")
def list_users_fixed():
    with Session(engine) as session:
        users = session.scalars(select(User).options(selectinload(User.orders)))
        return [{"name": user.name, "orders": len(user.orders)} for user in users]


@app.get("/users/<int:user_id>/total")
def show_total(user_id):
    with Session(engine) as session:
        return {"total": sum(session.scalars(select(Order.total).where(Order.user_id == user_id)))}


@app.get("/findings")
def list_findings():
    monitor.flush()
    return [
        {"code": one.code, "scope": one.scope, "subject": one.subject, "at": str(one.call_site), "fix": one.fix}
        for one in monitor.findings()
    ]
