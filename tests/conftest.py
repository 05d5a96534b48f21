"""Fixtures that start a real database once, when the first test asks for it."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from typing import TYPE_CHECKING, TypeVar

import psycopg
import pytest
import servers

if TYPE_CHECKING:
    from collections.abc import Iterator

Running = TypeVar("Running")

_numbers = itertools.count(1)


def pytest_configure() -> None:
    """Take Ctrl-C, as a terminal would: a shell's background job is started deaf to it, and its children with it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def started(server: contextlib.AbstractContextManager[Running]) -> contextlib.AbstractContextManager[Running]:
    """Start *server* for a fixture: missing, it skips the test, but fails it where CI=true."""

    @contextlib.contextmanager
    def run() -> Iterator[Running]:
        with contextlib.ExitStack() as stack:
            try:
                running = stack.enter_context(server)
            except servers.ServerMissingError as error:
                if os.environ.get("CI", "").lower() == "true":
                    pytest.fail(str(error), pytrace=False)
                pytest.skip(str(error))
            yield running

    return run()


@pytest.fixture(autouse=True)
def database_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test name its databases as a process of its own would: many have a `shop.db`."""
    monkeypatch.setattr("querywatch.capture.database._owners", {})


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[servers.Postgres]:
    """A PostgreSQL of this test session (of this worker, under pytest-xdist)."""
    with started(servers.start_postgres()) as server:
        yield server


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a Redis of this test session (of this worker, under pytest-xdist)."""
    with started(servers.start_redis()) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_url(postgres_server: servers.Postgres) -> str:
    """SQLAlchemy's URL of the server's `postgres` database. Tests leave that one alone."""
    return postgres_server.url()


@pytest.fixture
def postgres_database(postgres_server: servers.Postgres) -> Iterator[str]:
    """SQLAlchemy's URL (psycopg) of an empty database of this test's own; `CREATE EXTENSION hypopg` works in it."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(port=postgres_server.port, host="127.0.0.1", user="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield postgres_server.url(name)
        finally:
            # FORCE: a test that failed may have left connections open.
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
