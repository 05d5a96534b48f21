"""FastAPI on a synchronous engine: one line watches the engine and names requests by their route.

Run it:  cd examples/fastapi_shop && uvicorn app:app
Then ask for /users, and see /findings.
"""

from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory

from fastapi import FastAPI
from models import Model, Order, User, make_users
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session, selectinload

import querywatch

folder = TemporaryDirectory()
engine = create_engine(f"sqlite:///{folder.name}/shop.db")


@asynccontextmanager
async def lifespan(_app):
    Model.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(make_users())
        session.commit()
    yield
    monitor.close()


app = FastAPI(lifespan=lifespan)
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


@app.get("/users/{user_id}/total")
def show_total(user_id: int):
    with Session(engine) as session:
        return sum(session.scalars(select(Order.total).where(Order.user_id == user_id)))


@app.get("/findings")
def list_findings():
    monitor.flush()
    return [
        {"code": one.code, "scope": one.scope, "subject": one.subject, "at": str(one.call_site), "fix": one.fix}
        for one in monitor.findings()
    ]
