"""Run one program with a monitor of its own, and return what the monitor found."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

import querywatch
from querywatch import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from accuracy.databases import Shops
    from accuracy.expectation import Program
    from querywatch.records import Finding

_FLUSH_S = 60.0
# What depends on the clock is off, or a busy machine would add findings: a program about time sets its own limit.
_QUIET = {
    "explain": False,
    "spans": "none",
    "interval_s": 3600.0,
    "slow_query_s": float("inf"),
    "long_transaction_s": float("inf"),
    "pool_wait_s": float("inf"),
}
_KNOWN = {field.name for field in dataclasses.fields(Config)}


def play(program: Program, shops: Shops, mode: str) -> list[Finding]:
    """Run *program* once, `sync` or `async`, on a fresh shop.

    Returns:
        What was found, in the order it was first seen.

    Raises:
        Exception: What the program raised.
    """
    with shops.open_shop(mode) as url:
        return asyncio.run(_play_async(program, url)) if mode == "async" else _play_sync(program, url)


def _play_sync(program: Program, url: str) -> list[Finding]:
    engine = sa.create_engine(url, **program.engine)
    try:
        with _watched(program, engine) as monitor:
            with _scope(program):
                if program.takes == "session":
                    with Session(engine, **program.session) as session:
                        program.function(session)
                elif program.takes == "connection":
                    with engine.connect() as connection:
                        program.function(connection)
                else:
                    program.function(engine)
            monitor.flush(_FLUSH_S)
            return monitor.findings()
    finally:
        engine.dispose()


async def _play_async(program: Program, url: str) -> list[Finding]:
    engine = create_async_engine(url, **program.engine)
    try:
        with _watched(program, engine) as monitor:
            with _scope(program):
                await _run_async(program, engine)
            await monitor.aflush(_FLUSH_S)
            return monitor.findings()
    finally:
        await engine.dispose()


async def _run_async(program: Program, engine: AsyncEngine) -> None:
    if program.takes == "session":
        async with AsyncSession(engine, **program.session) as session:
            await (program.function(session) if program.is_async else session.run_sync(program.function))
    elif program.takes == "connection":
        async with engine.connect() as connection:
            await (program.function(connection) if program.is_async else connection.run_sync(program.function))
    else:
        await program.function(engine)


def _hurry(connection: Any, _record: object) -> None:
    """Let SQLite not wait for the disk. By the driver's own cursor, which no monitor sees."""
    connection.execute("PRAGMA synchronous = OFF")


@contextlib.contextmanager
def _watched(program: Program, engine: Any) -> Iterator[querywatch.Monitor]:
    pool = getattr(engine, "sync_engine", engine)
    if pool.dialect.name == "sqlite":
        sa.event.listen(pool, "connect", _hurry)
    quiet = {name: value for name, value in _QUIET.items() if name in _KNOWN}
    monitor = querywatch.install(engine, **(quiet | program.settings))
    try:
        yield monitor
    finally:
        querywatch.uninstall(engine)


def _scope(program: Program) -> contextlib.AbstractContextManager[Any]:
    return querywatch.watch(program.name) if program.scoped else contextlib.nullcontext()
