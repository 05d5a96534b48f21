"""The engines and the ways of capture that every counting test runs on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from counted import watching
from sqlalchemy.ext.asyncio import create_async_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from querywatch import Monitor

SYNC = ["sqlite", "psycopg"]
ASYNC = ["aiosqlite", "asyncpg", "psycopg-async"]


class Bench:
    """A watched engine, sync or async, and how to run a function of a sync connection on it."""

    def __init__(self, name: str, url: sa.URL) -> None:
        self.name = name
        self.is_async = name in ASYNC
        self.is_postgres = "sqlite" not in name
        self.engine = create_async_engine(url, poolclass=sa.pool.NullPool) if self.is_async else sa.create_engine(url)
        self.monitor: Monitor

    @property
    def sync_engine(self) -> sa.Engine:
        return self.engine.sync_engine if self.is_async else self.engine

    def run(self, work: Callable[[sa.Connection], Any]) -> Any:
        """Run *work* in a transaction that is committed."""
        if not self.is_async:
            with self.engine.begin() as connection:
                return work(connection)

        async def main() -> Any:
            async with self.engine.begin() as connection:
                return await connection.run_sync(work)

        return asyncio.run(main())

    def close(self) -> None:
        if self.is_async:
            asyncio.run(self.engine.dispose())
        else:
            self.engine.dispose()


def _url(name: str, request: pytest.FixtureRequest) -> sa.URL:
    if "sqlite" in name:
        driver = "sqlite+aiosqlite" if name == "aiosqlite" else "sqlite"
        return sa.make_url(f"{driver}:///{request.getfixturevalue('tmp_path') / 'shop.db'}")
    driver = "asyncpg" if name == "asyncpg" else "psycopg"
    return sa.make_url(request.getfixturevalue("postgres_database")).set(drivername=f"postgresql+{driver}")


@pytest.fixture(params=["methods", "events"])
def capture(request) -> str:
    return request.param


@pytest.fixture(params=SYNC + ASYNC)
def bench(request, capture) -> Iterator[Bench]:
    """Each driver, with each way of capture."""
    yield from _watch(Bench(request.param, _url(request.param, request)), capture)


@pytest.fixture(params=SYNC)
def sync_bench(request, capture) -> Iterator[Bench]:
    """Each sync driver, with each way of capture."""
    yield from _watch(Bench(request.param, _url(request.param, request)), capture)


@pytest.fixture(params=ASYNC)
def async_bench(request, capture) -> Iterator[Bench]:
    """Each async driver, with each way of capture."""
    yield from _watch(Bench(request.param, _url(request.param, request)), capture)


def _watch(bench: Bench, capture: str) -> Iterator[Bench]:
    # What SQLAlchemy asks a server when it first connects is not what these tests count.
    bench.run(lambda connection: connection.exec_driver_sql("CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT)"))
    try:
        with watching(bench.engine, capture=capture) as bench.monitor:
            yield bench
    finally:
        bench.close()
