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
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.pool import StaticPool

import querywatch
from querywatch.capture.engine import find_capture

sys.path.insert(0, str(Path(__file__).parents[1]))
import servers

ROUNDS = 300
CALLS = 200
GOAL, GOAL_TIMED_FETCH = 0.2, 0.3
LAG_STATEMENTS = 2_000
LAG_S = 20
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


def build_engine(url, *, watched=False):
    keywords = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}} if "sqlite" in url else {}
    engine = create_engine(url, **keywords)
    if watched:
        querywatch.install(engine)
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
    engine = build_engine(url, watched=True)
    monitor = querywatch.install(engine)
    capture = find_capture(engine)
    capture.detach()
    # One engine for all, so that they differ in nothing else: two engines alike can be 3% apart.
    rounds = {"plain": [], "listeners": [], "querywatch": []}
    gc.collect()
    gc.freeze()
    with querywatch.watch("bench"):
        for _ in range(ROUNDS):
            rounds["plain"].append(measure_round(engine, call))
            with listening(engine):
                rounds["listeners"].append(measure_round(engine, call))
            with watching(capture):
                rounds["querywatch"].append(measure_round(engine, call))
    gc.unfreeze()
    monitor.close()
    engine.dispose()
    plain, listeners, ours = (min(rounds[name]) for name in ("plain", "listeners", "querywatch"))
    ratio = (ours - plain) / (listeners - plain)
    goal_text = "" if goal is None else f"{goal:>8.2f}x"
    print(
        f"{title:<44}{plain:>9.2f}{listeners:>12.2f}{ours:>12.2f}{ours - plain:>9.2f}{ratio:>8.2f}x{goal_text}",
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
    each = added / 50
    print(f"\na scope with a burst of 50: {best['plain']:,.0f} us plain, {added:,.0f} us added ({each:.1f} us a query)")


async def measure_lag(*, watched, busy):
    """Measure how late an asyncio loop wakes while new statements are fingerprinted.

    Returns:
        The 99th percentile in milliseconds, and how many statements were fingerprinted by the end.
    """
    engine = build_engine("sqlite://")
    monitor = querywatch.install(engine) if watched else None
    late = []
    ends_at = time.perf_counter() + LAG_S

    async def tick():
        while time.perf_counter() < ends_at:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            late.append(time.perf_counter() - began - 0.001)

    async def serve(connection):
        """Handle one request of 100 statements, 1 to 2 ms of work, every 5 ms."""
        while time.perf_counter() < ends_at:
            with querywatch.watch("GET /bench"):
                for _ in range(100 if busy else 0):
                    core_select(connection)
            await asyncio.sleep(0.005)

    with engine.connect() as connection:
        for number in range(LAG_STATEMENTS):
            connection.exec_driver_sql(
                f"WITH t{number} AS (SELECT id, name FROM bench_things WHERE id = 1)"
                f" SELECT t{number}.id, t{number}.name FROM t{number} WHERE t{number}.name <> 'x'"
            )
        await asyncio.gather(tick(), serve(connection))
        known = len(monitor.queries()) if monitor is not None else 0
    if monitor is not None:
        monitor.close()
    engine.dispose()
    return statistics.quantiles(late, n=100)[98] * 1000, known


def print_lag():
    print(f"\nasyncio p99 lag in {LAG_S} s after {LAG_STATEMENTS:,} new statements")
    for title, busy, goal in (("a loop that serves requests", True, LAG_GOAL), ("an idle loop", False, None)):
        plain, _ = asyncio.run(measure_lag(watched=False, busy=busy))
        ours, known = asyncio.run(measure_lag(watched=True, busy=busy))
        goal_text = "" if goal is None else f", goal {goal}x"
        print(
            f"  {title:<30}{plain:>7.2f} ms plain{ours:>7.2f} ms with querywatch  {ours / plain:.2f}x{goal_text}"
            f"  ({known:,} fingerprinted)",
            flush=True,
        )


def main():
    print(f"{'CPU us a query':<44}{'plain':>9}{'listeners':>12}{'querywatch':>12}{'added':>9}{'ratio':>9}{'goal':>9}")
    measure("SQLite in memory, Core UPDATE (no fetch)", "sqlite://", core_update, GOAL)
    measure("SQLite in memory, Core SELECT (timed fetch)", "sqlite://", core_select, GOAL_TIMED_FETCH)
    measure("SQLite in memory, ORM get (timed fetch)", "sqlite://", orm_get, None)
    with servers.start_postgres() as server:
        measure("PostgreSQL psycopg, Core SELECT", server.url(), core_select, None)
    measure_burst()
    print_lag()


if __name__ == "__main__":
    main()
