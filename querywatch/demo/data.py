"""The shop's rows: always the same, and enough of them that a scan of the orders takes a while.

In:  a connection to empty tables.
Out: rows.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert

from querywatch.demo.shop import Item, Order, Product, User

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

USERS = 20_000
ORDERS = 200_000
PRODUCTS = 1_000
ITEMS = 60_000

_STATUSES = ("paid", "shipped", "delivered", "refunded")
_WEIGHTS = (30, 29, 40, 1)
_OPENED_AT = datetime(2024, 1, 1)  # noqa: DTZ001  a column without a time zone holds one without
_NOTE = (
    "leave it with the neighbours if nobody is at home, ring twice because the bell is old, "
    "and mind the dog in the front garden, who only wants to play"
)
_CHUNK = 20_000


def fill_tables(connection: Connection) -> None:
    """Insert all rows, in two to five seconds.

    Args:
        connection: In a transaction; the shop's tables must exist and be empty.
    """
    chance = random.Random(7)  # noqa: S311  the same shop at every run, nothing secret
    _insert(connection, User, ({"id": i, "name": f"user {i}"} for i in range(1, USERS + 1)))
    _insert(connection, Product, ({"id": i, "name": f"product {i}"} for i in range(1, PRODUCTS + 1)))
    statuses = chance.choices(_STATUSES, _WEIGHTS, k=ORDERS)
    _insert(connection, Order, (_make_order(i, statuses[i - 1]) for i in range(1, ORDERS + 1)))
    _insert(connection, Item, (_make_item(i, chance) for i in range(1, ITEMS + 1)))


def _make_order(number: int, status: str) -> dict[str, Any]:
    return {
        "id": number,
        "user_id": number % USERS + 1,
        "status": status,
        "created_at": _OPENED_AT + timedelta(minutes=number),
        "note": f"order {number}: {_NOTE}",
    }


def _make_item(number: int, chance: random.Random) -> dict[str, Any]:
    return {
        "id": number,
        "order_id": chance.randint(1, ORDERS),
        "product_id": number % PRODUCTS + 1,
        "quantity": chance.randint(1, 5),
    }


def _insert(connection: Connection, model: type[Any], rows: Iterator[dict[str, Any]]) -> None:
    chunk: list[dict[str, Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _CHUNK:
            connection.execute(insert(model), chunk)
            chunk = []
    if chunk:
        connection.execute(insert(model), chunk)
