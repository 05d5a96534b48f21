"""What querywatch adds to a query: `make bench`.

In:  an in-memory SQLite, and a throwaway PostgreSQL if there is one.
Out: a table of CPU microseconds a query, plain, with an empty cursor listener pair, and with querywatch, and the ratio
of what the last two add.

All variants run interleaved in one process, in short rounds; the quietest round of each counts, because noise only ever
adds. CPU time of the whole process is measured, so the background thread's work is in the figures of querywatch.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, event, insert, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool

import querywatch
from querywatch.capture.engine import find_capture

sys.path.insert(0, str(Path(__file__).parents[1]))
import servers

ROUNDS = 300
CALLS = 200
GOAL, GOAL_TIMED_FETCH = 0.2, 0.3
LAG_STATEMENTS = 2_000
LAG_GOAL = 2.0

metadata = MetaData()
things = Table("bench_things", metadata, Column("id", Integer, primary_key=True), Column("name", String(20)))
find_thing = select(things.c.id, things.c.name).where(things.c.id == 1)
rename_thing = update(things).where(things.c.id == 1).values(name="a")


class Base(DeclarativeBase):
    """Maps the same table."""

    metadata = metadata


class Thing(Base):
    """A row of it."""

    __table__ = things
    __mapper_args__ = {"primary_key": [things.c.id]}  # noqa: RUF012 - SQLAlchemy's form


def core_select(connection):
    connection.execute(find_thing).all()


def core_update(connection):
    connection.execute(rename_thing)


def orm_get(session):
    session.expunge_all()
    session.get(Thing, 1)


def build_engine(url):
    keywords = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}} if "sqlite" in url else {}
    engine = create_engine(url, **keywords)
    metadata.create_all(engine)
    with engine.begin() as connection:
        if connection.execute(select(things.c.id)).first() is None:
            connection.execute(insert(things), [{"id": 1, "name": "a"}])
    return engine


def ignore(*_):
    """Be the empty listener."""


@contextmanager
def listening(engine):
    for name in ("before_cursor_execute", "after_cursor_execute"):
        event.listen(engine, name, ignore)
    yield
    for name in ("before_cursor_execute", "after_cursor_execute"):
        event.remove(engine, name, ignore)
    engine._has_events = False  # SQLAlchemy leaves it set, and would go on dispatching


@contextmanager
def watching(capture):
    capture.attach()
    yield
    capture.detach()


@contextmanager
def open_target(engine, call):
    if call is orm_get:
        with Session(engine) as session:
            yield session
    else:
        with engine.connect() as connection:
            yield connection


def measure_round(engine, call):
    with open_target(engine, call) as target:
        call(target)
        began = time.process_time()
        for _ in range(CALLS):
            call(target)
        return (time.process_time() - began) / CALLS * 1e6


def measure(title, url, call, goal):
    engine = build_engine(url)
    monitor = querywatch.install(engine)
    capture = find_capture(engine)
    capture.detach()
    # One engine for all, so that they differ in nothing else: two engines alike can be 3% apart.
    rounds = {"plain": [], "listeners": [], "querywatch": []}
    gc.disable()
    with querywatch.watch("bench"):
        for _ in range(ROUNDS):
            rounds["plain"].append(measure_round(engine, call))
            with listening(engine):
                rounds["listeners"].append(measure_round(engine, call))
            with watching(capture):
                rounds["querywatch"].append(measure_round(engine, call))
    gc.enable()
    monitor.close()
    engine.dispose()
    plain, listeners, ours = (min(rounds[name]) for name in ("plain", "listeners", "querywatch"))
    ratio = (ours - plain) / (listeners - plain)
    print(
        f"{title:<44}{plain:>9.2f}{listeners:>12.2f}{ours:>12.2f}{ours - plain:>9.2f}{ratio:>8.2f}x{goal:>8.2f}x",
        flush=True,
    )


def measure_burst():
    """Cost of a scope in which one SELECT runs 50 times, and is looked at: who asked, from which line."""
    best = {}
    for variant in ("plain", "querywatch"):
        engine = build_engine("sqlite://")
        if variant == "querywatch":
            querywatch.install(engine)
        rounds = []
        with engine.connect() as connection:
            for _ in range(300):
                began = time.process_time()
                with querywatch.watch("burst"):
                    for _ in range(50):
                        core_select(connection)
                rounds.append((time.process_time() - began) * 1e6)
        best[variant] = min(rounds)
        querywatch.uninstall(engine)
        engine.dispose()
    added = best["querywatch"] - best["plain"]
    print(f"\na scope with a burst of 50: {best['plain']:,.0f} us plain, {added:,.0f} us added ({added / 50:.1f} us a query)")


async def measure_lag(*, watched):
    """Return the 99th percentile, in ms, of how late an asyncio loop wakes while new statements are fingerprinted."""
    engine = build_engine("sqlite://")
    late = []
    done = asyncio.Event()

    async def tick():
        while not done.is_set():
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            late.append(time.perf_counter() - began - 0.001)

    ticking = asyncio.create_task(tick())
    monitor = querywatch.install(engine) if watched else None
    with engine.connect() as connection:
        for number in range(LAG_STATEMENTS):
            connection.exec_driver_sql(
                f"WITH t{number} AS (SELECT id, name FROM bench_things WHERE id = 1)"  # noqa: S608 - a number of ours
                f" SELECT t{number}.id, t{number}.name FROM t{number} WHERE t{number}.name <> 'x'"
            )
            if number % 20 == 0:
                await asyncio.sleep(0.005)
    ends_at = time.perf_counter() + 20
    while time.perf_counter() < ends_at:
        await asyncio.sleep(0.1)
    done.set()
    await ticking
    known = len(monitor.queries()) if monitor is not None else 0
    querywatch.uninstall(engine)
    engine.dispose()
    return statistics.quantiles(late, n=100)[98] * 1000, known


def main():
    print(f"{'CPU us a query':<44}{'plain':>9}{'listeners':>12}{'querywatch':>12}{'added':>9}{'ratio':>9}{'goal':>9}")
    measure("SQLite in memory, Core UPDATE (no fetch)", "sqlite://", core_update, GOAL)
    measure("SQLite in memory, Core SELECT (timed fetch)", "sqlite://", core_select, GOAL_TIMED_FETCH)
    measure("SQLite in memory, ORM get (timed fetch)", "sqlite://", orm_get, GOAL_TIMED_FETCH)
    with servers.start_postgres() as server:
        measure("PostgreSQL psycopg, Core SELECT", server.url(), core_select, GOAL)
    if "--quick" in sys.argv: return
    measure_burst()
    plain, _ = asyncio.run(measure_lag(watched=False))
    watched, known = asyncio.run(measure_lag(watched=True))
    print(
        f"\nasyncio p99 lag while {LAG_STATEMENTS:,} new statements come: {plain:.2f} ms plain, {watched:.2f} ms with"
        f" querywatch ({watched / plain:.2f}x, goal {LAG_GOAL}x; {known:,} fingerprinted by then)"
    )


if __name__ == "__main__":
    main()
