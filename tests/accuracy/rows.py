"""The rows of the shop: few, and the same on every database. Every table's keys start at 1 and have no gap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.orm import Session

from accuracy.models import (
    Badge,
    Base,
    CardPayment,
    Category,
    Country,
    Depot,
    Document,
    Drawer,
    Employee,
    Engineer,
    File,
    Folder,
    Group,
    Item,
    Job,
    Letter,
    Machine,
    Manager,
    Membership,
    Note,
    Order,
    Paper,
    Payment,
    Playlist,
    Product,
    Profile,
    Project,
    Refund,
    Remark,
    Sample,
    Setting,
    Song,
    Store,
    Tag,
    Task,
    Till,
    Truck,
    User,
    Visit,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Parents in most tables: twice the limit, so that a program may take some and leave some.
MANY = 20
#: One row more than a result that counts as large.
SAMPLES = 10_001
#: The length of the chain of categories.
CHAIN = 8


def write_rows(engine: sa.Engine) -> None:
    """Create the tables of the shop and fill them."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for rows in (*_write_sales(), *_write_staff(), *_write_the_rest()):
            session.add_all(rows)
            session.flush()
        # Ids are given out by the database, so that the programs' own INSERTs go on behind them.
        session.execute(sa.insert(Sample), [{"value": n} for n in range(SAMPLES)])
        session.execute(sa.insert(Remark), [{"sample_id": n + 1, "text": "?"} for n in range(MANY)])
        session.commit()


def _write_sales() -> Iterator[list[Base]]:
    yield [Country(name=f"country {n}") for n in range(MANY)]
    # A root with three children each, and one chain.
    yield [Category(name=f"root {n}") for n in range(6)]
    yield [Category(name=f"leaf {n}", parent_id=n % 6 + 1) for n in range(18)]
    for link in range(CHAIN):
        yield [Category(name=f"link {link}", parent_id=24 + link if link else None)]
    yield [User(name=f"user {n}", email=f"{n}@shop", bio="...", country_id=n + 1) for n in range(MANY)]
    yield [Profile(user_id=n + 1, picture="?") for n in range(MANY)]
    yield [Group(name=f"group {n}") for n in range(3)]
    yield [Membership(user_id=n % MANY + 1, group_id=n % 3 + 1) for n in range(2 * MANY)]
    yield [Visit(user_id=n % MANY + 1, page="/") for n in range(2 * MANY)]
    yield [Note(user_id=n % MANY + 1, text="?") for n in range(2 * MANY)]
    # The first 20 orders have 20 users.
    yield [Order(user_id=n % MANY + 1, status="paid" if n % 2 else "new", total=n) for n in range(3 * MANY)]
    yield [Tag(name=f"tag {n}") for n in range(MANY)]
    tags = [[Tag(name=f"tag {n}/{k}") for k in range(2)] for n in range(MANY)]
    yield [Product(name=f"product {n}", price=n, category_id=n % 6 + 1, tags=own) for n, own in enumerate(tags)]
    yield [Item(order_id=n % (3 * MANY) + 1, product_id=n % MANY + 1, quantity=n) for n in range(6 * MANY)]


def _write_staff() -> Iterator[list[Base]]:
    staff: list[Employee] = [Engineer(name=f"engineer {n}", language="Python") for n in range(10)]
    staff += [Manager(name=f"manager {n}", budget=n) for n in range(10)]
    yield [*staff]
    yield [Badge(employee_id=n % MANY + 1, text="?") for n in range(2 * MANY)]
    yield [Machine(engineer_id=n % 10 + 1, serial="?") for n in range(MANY)]
    payments: list[Payment] = [CardPayment(amount=n, network="?") for n in range(10)]
    yield [*payments, *(Payment(amount=n) for n in range(10))]
    yield [Refund(payment_id=n + 1, reason="?") for n in range(10)]


def _write_the_rest() -> Iterator[list[Base]]:
    yield [Folder(name=f"folder {n}", files=[File(name="a"), File(name="b")]) for n in range(10)]
    yield [Drawer(name=f"drawer {n}", papers=[Paper(name="a"), Paper(name="b")]) for n in range(10)]
    yield [Project(name=f"project {n}", tasks=[Task(title="a"), Task(title="b")]) for n in range(10)]
    yield [Playlist(name=f"list {n}", songs=[Song(title="a"), Song(title="b")]) for n in range(10)]
    yield [Depot(name=f"depot {n}", trucks=[Truck(plate="a"), Truck(plate="b")]) for n in range(10)]
    yield [Store(name=f"store {n}", country_id=n + 1, tills=[Till(number=1)]) for n in range(10)]
    yield [Document(title=f"document {n}") for n in range(10)]
    yield [Letter(title=f"letter {n}") for n in range(10)]
    yield [Setting(key=f"key {n}", value="?") for n in range(10)]
    yield [Job(status="queued", version=1) for _ in range(10)]
