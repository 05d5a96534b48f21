"""Celery: one line watches the engine and makes each run of a task a scope.

Run it without a broker:  python examples/celery_worker/tasks.py
With one, in a worker, what is found is in the worker's log:

    cd examples/celery_worker
    export CELERY_BROKER_URL=redis://127.0.0.1:6379/0
    celery -A tasks worker --concurrency 2 --loglevel INFO
    celery -A tasks call shop.send_invoices
"""

import os
from tempfile import TemporaryDirectory

from celery import Celery
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
engine.dispose()  # the processes of a worker must not share a connection

app = Celery("shop")
app.conf.task_ignore_result = True
app.conf.task_always_eager = "CELERY_BROKER_URL" not in os.environ
monitor = querywatch.install(engine, app=app)


@app.task(name="shop.send_invoices")
def send_invoices():
    with Session(engine) as session:
        for user in session.scalars(select(User)):
            print(f"invoice: {user.name} owes {sum(order.total for order in user.orders)}")


@app.task(name="shop.send_invoices_fixed")
def send_invoices_fixed():
    with Session(engine) as session:
        for user in session.scalars(select(User).options(selectinload(User.orders))):
            print(f"invoice: {user.name} owes {sum(order.total for order in user.orders)}")


if __name__ == "__main__":
    send_invoices.delay()
    send_invoices_fixed.delay()
    monitor.flush()
    for finding in monitor.findings():
        print()
        print(finding.code, finding.subject, "at", finding.call_site, "in", finding.scope)
        print(finding.message)
        print(finding.fix)
    monitor.close()
