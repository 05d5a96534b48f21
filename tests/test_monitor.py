"""What a user asks of a monitor: every answer is exact, bounded, and given whatever else goes wrong."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

import querywatch
from querywatch.samples import begin_scope, current_scope, end_scope, open_scopes

USERS = 8


class Model(orm.DeclarativeBase):
    pass


class User(Model):
    __tablename__ = "users"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    orders: orm.Mapped[list[Order]] = orm.relationship()


class Order(Model):
    __tablename__ = "orders"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    user_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("users.id"))


@pytest.fixture
def engine(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    Model.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add_all(User(orders=[Order(), Order()]) for _ in range(USERS))
        session.commit()
    yield engine
    querywatch.uninstall(engine)
    engine.dispose()


@pytest.fixture
def install(engine):
    """Install a monitor that passes only when asked, and finds nothing slow on a busy machine."""

    def install(**settings):
        quiet = {"interval_s": 3600.0, "slow_query_s": float("inf"), "explain": False}
        return querywatch.install(engine, **(quiet | settings))

    return install


def loop(session, times=USERS):
    for user in session.scalars(sa.select(User).limit(times)):
        len(user.orders)


def loop_once(engine, name="job", times=USERS):
    with querywatch.watch(name), orm.Session(engine) as session:
        loop(session, times)


def select_one(engine):
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))


def count_calls(monitor):
    return sum(stats.calls for stats in monitor.queries())


# -- flush


def test_after_a_flush_what_was_done_before_it_is_counted_and_told(engine, install):
    monitor, told = install(), []
    monitor.on_finding(told.append)
    loop_once(engine)
    assert (monitor.queries(), monitor.findings()) == ([], [])
    assert monitor.flush(60.0) is True
    assert count_calls(monitor) == 1 + USERS
    assert told == monitor.findings() != []
    [scope] = monitor.snapshot().scopes
    assert (scope.name, scope.kind, scope.scopes, scope.calls, scope.max_calls) == ("job", "watch", 1, 9, 9)


def test_a_snapshot_counts_what_is_new_on_its_own(engine, install):
    monitor = install()
    select_one(engine)
    monitor.flush(60.0)
    select_one(engine)
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
        assert count_calls(monitor) == 3
    assert [stats.calls for stats in monitor.snapshot().queries] == [3]


def test_aflush_lets_the_loop_run(engine, install):
    monitor = install()
    inside, go = threading.Event(), threading.Event()
    monitor.on_finding(lambda finding: (inside.set(), go.wait(60.0)))
    loop_once(engine)

    async def main():
        flushing = asyncio.create_task(monitor.aflush(60.0))
        # The callback holds the background until the event loop lets it go.
        await asyncio.get_running_loop().run_in_executor(None, inside.wait, 60.0)
        go.set()
        return await flushing

    assert asyncio.run(main()) is True
    assert len(monitor.findings()) == 1


def test_a_flush_that_is_not_done_in_time_says_so(engine, install):
    monitor, go = install(), threading.Event()
    monitor.on_finding(lambda finding: go.wait(60.0))
    loop_once(engine)
    assert monitor.flush(0.01) is False
    go.set()
    assert monitor.flush(60.0) is True


# -- scopes that last


def wait_for_a_finding(monitor):
    found = threading.Event()
    monitor.on_finding(lambda finding: found.set())
    return found


def test_a_scope_that_lasts_is_looked_at_while_it_runs(engine, install, monkeypatch):
    monkeypatch.setattr("querywatch.monitor._LONG_OPEN_S", 0.0)
    monitor = install(interval_s=0.01)
    found = wait_for_a_finding(monitor)
    with querywatch.watch("websocket"), orm.Session(engine) as session:
        loop(session)
        assert found.wait(60.0)
        # It may have come by in the middle of the loop.
        [finding] = monitor.findings()
        assert (finding.scope, finding.count >= 5) == ("websocket", True)
        session.expunge_all()
        loop(session)
    monitor.flush(60.0)
    assert sum(finding.count for finding in monitor.findings()) == 2 * USERS
    assert monitor.findings()[0].evidence.scopes == 1


def test_a_scope_that_is_young_is_left_to_its_end(engine, install):
    monitor = install(interval_s=0.01)
    found = wait_for_a_finding(monitor)
    with querywatch.watch("job"), orm.Session(engine) as session:
        loop(session)
        assert count_passes(monitor, 3).wait(60.0)
        assert not found.is_set()
    assert found.wait(60.0)


def test_a_request_that_has_no_name_yet_is_told_of_when_it_ends(engine, install, monkeypatch):
    monkeypatch.setattr("querywatch.monitor._LONG_OPEN_S", 0.0)
    monitor = install(interval_s=0.01)
    found = wait_for_a_finding(monitor)
    scope = begin_scope(None, "request")
    token = current_scope.set(scope)
    with orm.Session(engine) as session:
        loop(session)
        assert count_passes(monitor, 3).wait(60.0)
        assert not found.is_set()
        scope.name = "GET /users"
        assert found.wait(60.0)
    current_scope.reset(token)
    end_scope(scope)
    assert [finding.scope for finding in monitor.findings()] == ["GET /users"]


class PassCounter:
    """An exporter, which is called at the end of each pass."""

    notes = ()

    def __init__(self, number):
        self.left = number
        self.done = threading.Event()

    def on_finding(self, finding):
        pass

    def on_pass(self, spans):
        self.left -= 1
        if self.left <= 0:
            self.done.set()

    def close(self):
        pass


def count_passes(monitor, number):
    """Return an event that is set after so many passes of the background."""
    counter = PassCounter(number)
    monitor.add_exporter(counter)
    return counter.done


def test_of_scopes_that_are_not_examined_the_statistics_are_whole(engine, install):
    monitor = install(sample_scopes=0.0)
    for _ in range(3):
        loop_once(engine)
    monitor.flush(60.0)
    snapshot = monitor.snapshot()
    assert (snapshot.findings, snapshot.dropped) == ((), {"unexamined_scopes": 3})
    assert count_calls(monitor) == 3 * (1 + USERS)
    assert [stats.scopes for stats in snapshot.scopes] == [3]


def test_the_first_scopes_of_a_name_are_examined_whatever_the_share(engine, install):
    monitor = install(sample_scopes=0.001)
    for name in ("a", "b"):
        loop_once(engine, name)
    monitor.flush(60.0)
    assert [finding.scope for finding in monitor.findings()] == ["a", "b"]


def test_who_asks_for_scopes_is_told_of_each_with_what_was_found(engine, install):
    monitor, told = install(), []
    monitor.on_scope(lambda scope, record, found: told.append((scope.name, record.calls, len(found))))
    loop_once(engine)
    with querywatch.watch("quiet"):
        select_one(engine)
    loop_once(engine)
    monitor.flush(60.0)
    assert told == [("job", 1 + USERS, 1), ("quiet", 1, 0), ("job", 1 + USERS, 1)]
    assert len(monitor.findings()) == 1


# -- callbacks


def test_a_callback_runs_in_the_background_and_may_ask_the_monitor_anything(engine, install):
    monitor, seen = install(), []

    def callback(finding):
        snapshot = monitor.snapshot()
        seen.append((threading.current_thread().name, monitor.flush(60.0), snapshot.findings == (finding,)))

    monitor.on_finding(callback)
    loop_once(engine)
    assert monitor.flush(60.0) is True
    assert seen == [("querywatch", False, True)]


@pytest.mark.parametrize("error", [ValueError, SystemExit, asyncio.CancelledError])
def test_a_callback_that_raises_is_counted_and_the_others_are_still_called(engine, install, caplog, error):
    monitor, told = install(), []

    def fail(finding):
        raise error("a secret")

    monitor.on_finding(fail)
    monitor.on_finding(told.append)
    loop_once(engine, "one")
    loop_once(engine, "two")
    assert monitor.flush(60.0) is True
    assert [finding.scope for finding in told] == ["one", "two"]
    assert dict(monitor.internal_errors) == {"callback": 2}
    assert monitor.snapshot().dropped == {"internal_errors": 2}
    [logged] = [record.getMessage() for record in caplog.records if "internal_error" in record.getMessage()]
    assert logged == (
        f"querywatch.internal_error stage=callback error_type={error.__name__} "
        "(the application is unaffected; repeats only count)"
    )


def test_a_log_that_raises_harms_neither_the_query_nor_the_thread(engine, install):
    def fail(record):
        raise ValueError

    logger = logging.getLogger("querywatch")
    logger.addFilter(fail)
    try:
        monitor = install()
        monitor.note_error("capture", ValueError())
        monitor.on_finding(lambda finding: 1 / 0)
        loop_once(engine)
        assert monitor.flush(60.0) is True
    finally:
        logger.removeFilter(fail)
    assert dict(monitor.internal_errors) == {"capture": 1, "callback": 1}
    assert len(monitor.findings()) == 1


def test_a_callback_may_close_the_monitor(engine, install):
    monitor = install()
    monitor.on_finding(lambda finding: monitor.close())
    loop_once(engine)
    monitor.flush(60.0)
    assert monitor.closed
    assert "do_execute" not in vars(engine.dialect)
    assert monitor.flush(60.0) is False


def test_a_callback_may_install_and_uninstall_elsewhere(engine, install):
    monitor, other = install(), sa.create_engine("sqlite://")

    def callback(finding):
        querywatch.install(other)
        querywatch.uninstall(other)

    monitor.on_finding(callback)
    loop_once(engine)
    began = time.monotonic()
    querywatch.uninstall(engine)
    assert time.monotonic() - began < 4.0
    assert dict(monitor.internal_errors) == {}
    other.dispose()


# -- findings


def test_findings_add_up_over_scopes(engine, install):
    monitor, told = install(), []
    monitor.on_finding(told.append)
    for times in (5, 6, 7):
        loop_once(engine, times=times)
        monitor.flush(60.0)
    [finding] = monitor.findings()
    assert len(told) == 1
    assert (finding.count, finding.evidence.scopes, finding.evidence.calls) == (18, 3, 7)
    [lazy] = [stats for stats in monitor.queries() if stats.calls == 18]
    assert finding.total_s == pytest.approx(lazy.total_s)
    assert finding.first_seen_at < finding.last_seen_at


def test_a_scope_that_is_looked_at_again_and_again_is_counted_once(engine, install):
    monitor = install()
    with querywatch.watch("job"):
        for _ in range(3):
            with orm.Session(engine) as session:
                loop(session)
            monitor.flush(60.0)
            monitor.flush(60.0)
    monitor.flush(60.0)
    [finding] = monitor.findings()
    assert (finding.count, finding.evidence.scopes) == (3 * USERS, 1)


def test_a_loop_that_moves_to_another_line_between_two_looks_is_counted_once(engine, install):
    monitor = install()
    with querywatch.watch("job"):
        with orm.Session(engine) as session:
            for user in session.scalars(sa.select(User).limit(5)):
                len(user.orders)
        monitor.flush(60.0)
        with orm.Session(engine) as session:
            loop(session)
    monitor.flush(60.0)
    assert sum(finding.count for finding in monitor.findings()) == 5 + USERS


def test_two_statements_that_one_line_repeats_on_one_table_are_two_findings(engine, install):
    monitor = install()
    with querywatch.watch("job"), engine.connect() as connection:
        for number in range(6):
            for column in ("id", "user_id"):
                connection.execute(sa.text(f"SELECT id FROM orders WHERE {column} = :n"), {"n": number})
    monitor.flush(60.0)
    assert [(finding.subject, finding.count) for finding in monitor.findings()] == [("orders", 6)] * 2


def test_findings_are_bounded_and_the_oldest_leaves_first(engine, install):
    monitor = install(max_findings=2)
    for name in "abcd":
        loop_once(engine, name)
    monitor.flush(60.0)
    assert [finding.scope for finding in monitor.findings()] == ["c", "d"]
    assert monitor.snapshot().dropped == {"findings": 2}


def test_statements_are_bounded_and_none_is_lost(engine, install):
    monitor = install(max_statements=5)
    with engine.connect() as connection:
        for number in range(20):
            connection.exec_driver_sql(f"SELECT {number} AS c{number} FROM users AS t{number}").all()
    monitor.flush(60.0)
    snapshot = monitor.snapshot()
    assert len(snapshot.queries) == 6
    assert sum(stats.calls for stats in snapshot.queries) == 20
    assert next(stats.calls for stats in snapshot.queries if stats.fingerprint.id == "other") == 15
    assert snapshot.dropped == {"statements": 15}


def test_plans_are_bounded_and_the_latest_stay(engine, install):
    monitor = install(explain=True, max_plans=2, slow_query_s=1e-9)
    for column in ("id", "user_id", "id + user_id"):
        with engine.connect() as connection:
            connection.execute(sa.text(f"SELECT id FROM orders WHERE {column} = 3")).all()
        monitor.flush(60.0)
    fingerprints = {stats.fingerprint.id: stats.fingerprint.sql for stats in monitor.queries()}
    assert len(fingerprints) == 3
    kept = [fingerprints[plan.fingerprint] for plan in monitor.plans()]
    assert kept == ["SELECT id FROM orders WHERE user_id = ?", "SELECT id FROM orders WHERE id + user_id = ?"]


def test_in_memory_sqlite_has_no_plans_and_a_note_says_why():
    engine = sa.create_engine("sqlite://")
    monitor = querywatch.install(engine, interval_s=3600.0)
    select_one(engine)
    monitor.flush(60.0)
    snapshot = monitor.snapshot()
    querywatch.uninstall(engine)
    engine.dispose()
    [note] = snapshot.notes
    assert note.startswith(":memory:: ")
    assert snapshot.plans == ()


# -- under load


def test_every_call_of_many_threads_is_counted_while_snapshots_are_taken(engine, install):
    monitor, threads, times = install(interval_s=0.001), 4, 1500
    counted, done = [], threading.Event()
    select_one(engine)
    monitor.flush(60.0)

    def work(number):
        for turn in range(times):
            if turn % 3:
                with querywatch.watch(f"job {number}"):
                    select_one(engine)
            else:
                select_one(engine)

    def look():
        while not done.is_set():
            snapshot = monitor.snapshot()
            counted.append(sum(stats.calls for stats in snapshot.queries))
            monitor.findings()

    with ThreadPoolExecutor(threads + 1) as pool:
        looking = pool.submit(look)
        list(pool.map(work, range(threads)))
        done.set()
        looking.result()
    assert counted == sorted(counted)
    total = 1 + threads * times
    # Exact at once, without a flush: nothing is between two lists.
    assert count_calls(monitor) == total
    monitor.flush(60.0)
    assert count_calls(monitor) == total
    scopes = monitor.snapshot().scopes
    assert sum(scope.calls for scope in scopes) == total
    assert sum(scope.scopes for scope in scopes) == total
    assert dict(monitor.internal_errors) == {}


def test_a_scope_that_ended_is_in_every_snapshot_after_it(engine, install):
    monitor = install(interval_s=0.0001)
    select_one(engine)
    monitor.flush(60.0)
    for number in range(2, 600):
        select_one(engine)
        assert count_calls(monitor) == number


def test_load_that_never_stops_does_not_keep_findings_back(engine, install):
    monitor, found, done = install(interval_s=0.001), threading.Event(), threading.Event()
    monitor.on_finding(lambda finding: found.set())

    def work():
        while not done.is_set():
            select_one(engine)

    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            pool.submit(work)
        loop_once(engine)
        in_time = found.wait(60.0)
        done.set()
    assert in_time


# -- pause, close


def test_while_paused_nothing_is_counted_and_what_was_counted_stays(engine, install):
    monitor = install()
    select_one(engine)
    monitor.pause()
    select_one(engine)
    monitor.flush(60.0)
    assert count_calls(monitor) == 1
    monitor.resume()
    select_one(engine)
    assert count_calls(monitor) == 2


def test_close_finishes_the_work_and_leaves_nothing_behind(engine, install):
    before = vars(engine.dialect).copy()
    monitor = install(prometheus_port=0)
    assert monitor.metrics_address is not None
    loop_once(engine)
    monitor.close()
    assert vars(engine.dialect) == before
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("querywatch")] == []
    assert count_calls(monitor) == 1 + USERS
    assert len(monitor.findings()) == 1
    monitor.close()
    select_one(engine)
    assert monitor.flush(60.0) is False
    snapshot = monitor.snapshot()
    assert sum(stats.calls for stats in snapshot.queries) == 1 + USERS
    assert [database.name for database in snapshot.databases] == ["shop.db"]


def test_a_database_is_still_named_when_its_engine_is_gone():
    engine = sa.create_engine("sqlite://")
    monitor = querywatch.install(engine, interval_s=3600.0)
    select_one(engine)
    monitor.flush(60.0)
    engine.dispose()
    del engine
    assert [database.name for database in monitor.snapshot().databases] == [":memory:"]
    monitor.close()


def test_a_scope_that_is_open_at_close_is_looked_at_and_ends_quietly(engine, install):
    monitor, before = install(), set(open_scopes)
    with querywatch.watch("job"), orm.Session(engine) as session:
        loop(session)
        monitor.close()
        loop(session)
    assert set(open_scopes) <= before
    [finding] = monitor.findings()
    assert finding.count == USERS


def test_an_engine_that_is_watched_again_begins_anew(engine, install):
    first = install()
    select_one(engine)
    first.close()
    second = install()
    assert second is not first
    select_one(engine)
    assert (count_calls(second), second.closed) == (0, False)
    second.flush(60.0)
    assert count_calls(second) == 1


SCRIPT = """
    import atexit, os, sys, threading
    import querywatch
    from sqlalchemy import create_engine, text

    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE things (name TEXT)"))
    monitor = querywatch.install(engine, explain=False, slow_query_s=float("inf"))

    def work(times=9):
        with querywatch.watch("job"), engine.connect() as connection:
            for number in range(times):
                connection.execute(text("SELECT name FROM things WHERE name = :n"), {"n": str(number)})

    def report():
        print([(finding.scope, finding.count) for finding in monitor.findings()], flush=True)
"""


def run(folder, source):
    (folder / "script.py").write_text(textwrap.dedent(SCRIPT) + textwrap.dedent(source))
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        # Python 3.12 warns of every fork of a process with threads; such a fork is what some cases are about.
        env=os.environ | {"PYTHONWARNINGS": "error,ignore:This process"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("source", "printed"),
    [
        pytest.param(
            "atexit.register(report); atexit.register(monitor.close); work()", ["[('job', 9)]"], id="close-at-exit"
        ),
        pytest.param(
            "monitor.on_finding(lambda f: print(f.count, flush=True)); work()", ["9"], id="exit-tells-what-is-left"
        ),
        pytest.param(
            "monitor.on_finding(lambda f: print(f.count, flush=True)); atexit.register(work)",
            ["9"],
            id="work-at-exit-is-counted-too",
        ),
        pytest.param("work(); monitor.close(); monitor.close(); report()", ["[('job', 9)]"], id="closed-before"),
        pytest.param("monitor.on_finding(lambda f: sys.exit(3)); work()", [], id="a-callback-cannot-end-the-program"),
        pytest.param(
            """
            work()
            monitor.flush(60)
            if os.fork() == 0:
                report()
                work(7)
                monitor.flush(60)
                report()
                os._exit(0)
            os.wait()
            report()
            """,
            ["[]", "[('job', 7)]", "[('job', 9)]"],
            id="a-forked-child-counts-its-own",
        ),
        pytest.param(
            """
            with querywatch.watch("outer"), engine.connect() as connection:
                def repeat(times):
                    for number in range(times):
                        connection.execute(text("SELECT name FROM things WHERE name = :n"), {"n": str(number)})
                repeat(9)
                monitor.flush(60)
                if os.fork() == 0:
                    repeat(9)
                    monitor.flush(60)
                    report()
                    os._exit(0)
                os.wait()
            """,
            ["[('outer', 9)]"],
            id="a-child-forked-within-a-scope-counts-its-own",
        ),
    ],
)
def test_at_the_end_of_a_program(tmp_path, source, printed):
    assert run(tmp_path, source) == printed


def test_scopes_that_pile_up_behind_a_stuck_background_are_counted_and_let_go(engine, install, monkeypatch):
    monkeypatch.setattr("querywatch.monitor._ENDED_LIMIT", 3)
    monitor = install()
    # Nobody waits and the interval is long: the background does not come by, as if it waited for a database.
    for _ in range(10):
        with querywatch.watch("GET /"), engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
    assert len(monitor._ended) <= 4
    assert monitor.flush(60)
    snapshot = monitor.snapshot()
    assert sum(stats.calls for stats in snapshot.queries) == 10
    assert snapshot.dropped["scopes"] >= 6
