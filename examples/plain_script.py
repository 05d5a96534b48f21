"""A plain script: one line watches the engine, and what it found is printed at the end.

Run it:  python examples/plain_script.py
"""

from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

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


engine = create_engine("sqlite://")
Model.metadata.create_all(engine)
with Session(engine) as session:
    session.add_all(User(name=f"user {i}", orders=[Order(total=i), Order(total=2 * i)]) for i in range(20))
    session.commit()

monitor = querywatch.install(engine)

with Session(engine) as session:
    for user in session.scalars(select(User)):
        print(user.name, sum(order.total for order in user.orders))

monitor.flush()
for finding in monitor.findings():
    print()
    print(finding.code, finding.subject, "at", finding.call_site)
    print(finding.message)
    print(finding.fix)
monitor.close()
