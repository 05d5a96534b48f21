"""`uninstall` leaves an engine exactly as it was, and nothing of the application's is kept alive meanwhile."""

from __future__ import annotations

import gc
import weakref

import pytest
import sqlalchemy as sa
from counted import count, find, read, watching
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session, declarative_base

import querywatch

Base = declarative_base()


class User(Base):
    __tablename__ = "users"
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String)


@pytest.fixture(params=["methods", "events"])
def capture(request):
    return request.param


@pytest.fixture
def engine(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    Base.metadata.create_all(engine)
    yield engine
    querywatch.uninstall(engine)
    engine.dispose()


def ask(engine):
    with engine.connect() as connection:
        return connection.scalar(sa.select(1))


def state(engine):
    """Return everything that may show that somebody was there."""
    # Not the dispatch of a dialect: merely looking at it makes it.
    dialect = {name: value for name, value in vars(engine.dialect).items() if name != "dispatch"}
    return {
        "engine": dict(vars(engine)),
        "dialect": dialect,
        "pool": list(engine.pool.dispatch.checkin),
        "cursor": [list(getattr(engine.dispatch, name)) for name in sorted(engine.dispatch._event_names)],
        "errors": list(engine.dialect.dispatch.handle_error),
        "has_events": (engine._has_events, engine.dialect._has_events),
        "init": sa.Engine.__init__,
    }


def in_one_step(engine, capture):
    querywatch.install(engine, capture=capture)
    ask(engine)
    querywatch.uninstall(engine)


def by_close(engine, capture):
    monitor = querywatch.install(engine, capture=capture)
    ask(engine)
    monitor.close()


def by_way_of_a_copy(engine, capture):
    copy = engine.execution_options(isolation_level="AUTOCOMMIT")
    querywatch.install(copy, capture=capture)
    ask(copy)
    querywatch.uninstall(engine.execution_options())


def for_the_process(engine, capture):
    querywatch.install(capture=capture)
    ask(engine)
    querywatch.uninstall()


def twice(engine, capture):
    for _ in range(2):
        in_one_step(engine, capture)


def paused(engine, capture):
    querywatch.install(engine, capture=capture).pause()
    ask(engine)
    querywatch.uninstall(engine)
    querywatch.uninstall(engine)


@pytest.mark.parametrize(
    "use", [in_one_step, by_close, by_way_of_a_copy, for_the_process, twice, paused], ids=lambda use: use.__name__
)
def test_an_engine_is_left_exactly_as_it_was(engine, capture, use):
    # SQLAlchemy remembers what it asked of a new engine, and of a copy.
    ask(engine)
    ask(engine.execution_options(isolation_level="AUTOCOMMIT"))
    before = state(engine)
    use(engine, capture)
    assert state(engine) == before


def test_also_when_its_pool_was_made_anew(engine, capture):
    querywatch.install(engine, capture=capture)
    ask(engine)
    engine.dispose()
    ask(engine)
    first = engine.pool
    engine.dispose()
    querywatch.uninstall(engine)
    assert list(engine.pool.dispatch.checkin) == []
    assert list(first.dispatch.checkin) == []
    ask(engine)


def test_listeners_of_others_stay(engine, capture):
    seen = []
    event.listen(engine, "before_cursor_execute", lambda *arguments: seen.append(arguments[2]))
    ask(engine)
    before = state(engine)
    in_one_step(engine, capture)
    assert state(engine) == before
    seen.clear()
    ask(engine)
    assert len(seen) == 1


def test_a_listener_that_came_later_goes_on_hearing(engine, capture):
    seen = []
    querywatch.install(engine, capture=capture)
    event.listen(engine, "before_cursor_execute", lambda *arguments: seen.append(arguments[2]))
    querywatch.uninstall(engine)
    ask(engine)
    assert len(seen) == 1


def wrap(engine, seen):
    """Replace the dialect's method, as another tool would."""
    original = engine.dialect.do_execute

    def do_execute(cursor, statement, parameters, context=None):
        seen.append(statement)
        return original(cursor, statement, parameters, context)

    engine.dialect.do_execute = do_execute
    return do_execute


def test_a_tool_that_wrapped_the_method_before_us_is_given_back(engine):
    seen = []
    theirs = wrap(engine, seen)
    with watching(engine) as monitor:
        ask(engine)
        assert count(monitor, "SELECT") == 1
    assert vars(engine.dialect)["do_execute"] is theirs
    ask(engine)
    assert len(seen) == 2


def test_behind_a_tool_that_wrapped_the_method_after_us_we_only_pass_calls_on(engine):
    seen = []
    monitor = querywatch.install(engine, explain=False, interval_s=3600.0)
    theirs = wrap(engine, seen)
    ask(engine)
    calls = count(monitor)
    querywatch.uninstall(engine)
    assert vars(engine.dialect)["do_execute"] is theirs
    assert "do_executemany" not in vars(engine.dialect)
    ask(engine)
    assert len(seen) == 2
    assert sum(stats.calls for stats in monitor.queries()) == calls == 1
    with watching(engine) as second:
        ask(engine)
        assert count(second) == 1, "counted once, although our old function is still in between"
    assert vars(engine.dialect)["do_execute"] is theirs
    del engine.dialect.do_execute


class TestSwitches:
    def test_installed_twice_is_one_monitor(self, engine, capture):
        first = querywatch.install(engine, capture=capture, interval_s=3600.0, explain=False)
        assert querywatch.install(engine) is first
        assert querywatch.install(engine.execution_options(stream_results=True)) is first
        ask(engine)
        assert count(first) == 1

    def test_an_async_engine_is_its_sync_engine(self):
        engine = create_async_engine("sqlite+aiosqlite://")
        monitor = querywatch.install(engine)
        assert querywatch.install(engine.sync_engine) is monitor
        querywatch.uninstall(engine)
        assert "do_execute" not in vars(engine.dialect)

    def test_paused_counts_nothing_and_resumes(self, engine, capture):
        with watching(engine, capture=capture) as monitor:
            ask(engine)
            monitor.pause()
            ask(engine)
            with pytest.raises(sa.exc.OperationalError), engine.connect() as connection:
                connection.execute(sa.text("SELECT nothing"))
            monitor.resume()
            ask(engine)
            assert count(monitor) == 2

    def test_switched_off_by_the_environment_it_does_nothing_at_all(self, engine, capture, monkeypatch):
        monkeypatch.setenv("QUERYWATCH_ENABLED", "0")
        ask(engine)
        before = state(engine)
        monitor = querywatch.install(engine, capture=capture)
        assert state(engine) == before
        ask(engine)
        assert monitor.snapshot().queries == ()
        querywatch.uninstall(engine)
        monitor.close()

    def test_two_monitors_count_their_own_engines_in_one_scope(self, engine, capture):
        other = sa.create_engine("sqlite://")
        with watching(engine, capture=capture) as ours, watching(other, capture=capture) as theirs:
            with querywatch.watch("both"):
                ask(engine)
                ask(other)
                ask(other)
            assert (count(ours), count(theirs)) == (1, 2)
            assert [stats.calls for stats in ours.snapshot().scopes] == [1]
            assert [stats.calls for stats in theirs.snapshot().scopes] == [2]
        other.dispose()


class TestLifetimes:
    """querywatch keeps nothing of the application's alive."""

    def test_an_engine_is_let_go(self, capture):
        engine = sa.create_engine("sqlite://")
        # Not `watching`, which holds the engine itself.
        monitor = querywatch.install(engine, capture=capture, explain=False, interval_s=3600.0)
        with querywatch.watch("test"):
            ask(engine)
            assert monitor.flush()
        gone = weakref.ref(engine)
        del engine
        gc.collect()
        assert gone() is None
        assert count(monitor) == 1
        monitor.close()

    def test_an_engine_of_the_whole_process_is_let_go(self, capture):
        monitor = querywatch.install(capture=capture, explain=False, interval_s=3600.0)
        try:
            gone = []
            for _ in range(5):
                engine = sa.create_engine("sqlite://")
                ask(engine)
                gone.append((weakref.ref(engine), weakref.ref(engine.pool), weakref.ref(engine.dialect)))
                engine.dispose()
                del engine
            assert monitor.flush()
            gc.collect()
            assert [[reference() for reference in each[:2]] for each in gone] == [[None, None]] * 5
            assert find(monitor, "SELECT").calls == 5
        finally:
            querywatch.uninstall()

    def test_results_sessions_and_instances_are_let_go(self, engine, capture):
        with watching(engine, capture=capture, slow_query_s=1e-9) as monitor, querywatch.watch("test"):
            with Session(engine) as session:
                session.add_all([User(name=str(number)) for number in range(3)])
                session.commit()
            session = Session(engine)
            users = session.scalars(sa.select(User)).all()
            connection = engine.connect()
            result = connection.execute(sa.select(User))
            result.fetchone()
            kept = [weakref.ref(each) for each in (session, *users, connection, result.context)]
            connection.close()
            session.close()
            del session, users, connection, result
            gc.collect()
            assert [reference() for reference in kept] == [None] * len(kept)
            assert monitor.flush()

    def test_what_an_error_holds_is_let_go(self, engine, capture):
        class Value:
            pass

        with watching(engine, capture=capture, slow_query_s=1e-9) as monitor:

            def fail():
                value = Value()
                with engine.connect() as connection:
                    try:
                        connection.exec_driver_sql("SELECT nothing")
                    except sa.exc.OperationalError:
                        return weakref.ref(value)

            gone = fail()
            gc.collect()
            assert gone() is None
            assert [stats.errors[0].count for stats in read(monitor)] == [1]
