"""install and uninstall: which monitor one gets, what is refused, and that nothing is left behind."""

from __future__ import annotations

import gc
import socket
import sys
import threading
import weakref

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import create_async_engine

import querywatch
from querywatch import ConfigError
from querywatch.capture.engine import find_capture

QUIET = {"interval_s": 3600.0, "explain": False}


def list_own_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("querywatch")]


@pytest.fixture
def make_engine():
    made = []

    def make(**keywords):
        made.append(sa.create_engine("sqlite://", **keywords))
        return made[-1]

    yield make
    querywatch.uninstall()
    for engine in made:
        querywatch.uninstall(engine)
        engine.dispose()
    assert list_own_threads() == []
    assert sa.Engine.__init__.__module__ == "sqlalchemy.engine.base"


@pytest.fixture
def engine(make_engine):
    return make_engine()


def count_calls(monitor):
    assert monitor.flush(60.0)
    return sum(stats.calls for stats in monitor.queries())


def select_one(engine):
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1


# -- which monitor


def test_twice_on_one_engine_or_a_copy_of_it_is_the_same_monitor(engine):
    monitor = querywatch.install(engine, **QUIET)
    copy = engine.execution_options(stream_results=True)
    assert querywatch.install(engine) is monitor
    assert querywatch.install(copy, slow_query_s=9.0) is monitor
    select_one(copy)
    select_one(engine)
    assert count_calls(monitor) == 2
    querywatch.uninstall(copy)
    assert find_capture(engine) is None
    assert monitor.closed


def test_an_async_engine_is_its_sync_engine(tmp_path):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}")
    monitor = querywatch.install(engine, **QUIET)
    assert querywatch.install(engine.sync_engine) is monitor
    querywatch.uninstall(engine)
    assert find_capture(engine.sync_engine) is None


def test_an_engine_is_not_kept_alive(make_engine):
    engine = sa.create_engine("sqlite://")
    monitor = querywatch.install(engine, **QUIET)
    select_one(engine)
    assert count_calls(monitor) == 1
    engine.dispose()
    gone = weakref.ref(engine)
    del engine
    gc.collect()
    assert gone() is None
    monitor.close()


def test_switched_off_it_does_nothing_at_all(engine, monkeypatch):
    select_one(engine)
    before, init = vars(engine.dialect).copy(), sa.Engine.__init__
    monkeypatch.setenv("QUERYWATCH_ENABLED", "0")
    app = Flask("shop")
    wsgi = app.wsgi_app
    monitor = querywatch.install(engine, app=app, prometheus_port=0)
    everything = querywatch.install()
    select_one(engine)
    assert (vars(engine.dialect), sa.Engine.__init__, app.wsgi_app) == (before, init, wsgi)
    assert (monitor.app, monitor.metrics_address, list_own_threads()) == (app, None, [])
    assert (monitor.findings(), monitor.queries(), everything.queries()) == ([], [], [])
    monitor.pause()
    monitor.resume()
    monitor.close()
    everything.close()
    assert list_own_threads() == []


def test_settings_come_from_the_environment_too(engine, monkeypatch):
    monkeypatch.setenv("QUERYWATCH_SLOW_QUERY_S", "0.75")
    monkeypatch.setenv("QUERYWATCH_INTERVAL_S", "3600")
    assert querywatch.install(engine, interval_s=1800.0).config == querywatch.Config(slow_query_s=0.75, interval_s=1800)


# -- every engine of the process


def test_without_an_engine_all_are_watched_also_later_ones(make_engine):
    early = make_engine()
    monitor = querywatch.install(**QUIET)
    late = make_engine()
    select_one(early)
    select_one(late)
    assert count_calls(monitor) == 2
    assert querywatch.install() is monitor
    assert querywatch.install(late) is monitor
    querywatch.uninstall()
    assert (find_capture(early), find_capture(late), monitor.closed) == (None, None, True)
    assert find_capture(make_engine()) is None


def test_an_engine_with_a_monitor_of_its_own_keeps_it(make_engine):
    own = querywatch.install(make_engine(), **QUIET)
    everything = querywatch.install(**QUIET)
    assert everything is not own
    querywatch.uninstall()
    assert not own.closed
    own.close()


def test_the_last_engine_may_go_and_the_next_one_is_still_watched(make_engine):
    first = make_engine()
    monitor = querywatch.install(**QUIET)
    for each in [each for each in gc.get_objects() if type(each) is sa.Engine]:
        querywatch.uninstall(each)
    assert find_capture(first) is None
    assert not monitor.closed
    second = make_engine()
    select_one(second)
    assert count_calls(monitor) == 1


def test_after_its_monitor_was_closed_the_process_may_be_watched_again(make_engine):
    querywatch.install(**QUIET).close()
    monitor = querywatch.install(**QUIET)
    select_one(make_engine())
    assert count_calls(monitor) == 1


def test_uninstall_of_what_is_not_watched_is_nothing(engine):
    querywatch.uninstall(engine)
    querywatch.uninstall()


# -- what is refused


class Proxy:
    """Has an attribute of the right name that is no engine."""

    sync_engine = "sqlite://"


NO_ENGINES = [
    pytest.param(lambda engine: "sqlite:///shop.db", "str", id="text"),
    pytest.param(lambda engine: engine.url, "URL", id="url"),
    pytest.param(orm.Session, "Session", id="session"),
    pytest.param(orm.sessionmaker, "sessionmaker", id="sessionmaker"),
    pytest.param(lambda engine: sa.Engine, "type", id="class"),
    pytest.param(lambda engine: Proxy(), "Proxy", id="proxy"),
    pytest.param(lambda engine: 0, "int", id="number"),
]


@pytest.mark.parametrize("call", [querywatch.install, querywatch.uninstall])
@pytest.mark.parametrize(("make", "name"), NO_ENGINES)
def test_what_is_no_engine_is_refused_in_one_sentence(engine, call, make, name):
    with pytest.raises(ConfigError) as caught:
        call(make(engine))
    assert str(caught.value) == (
        f"engine must be a SQLAlchemy Engine or AsyncEngine, got {name}. "
        "Pass what create_engine() or create_async_engine() returned, not a session, a connection or a URL."
    )


def test_a_connection_is_no_engine(engine):
    with engine.connect() as connection, pytest.raises(ConfigError, match="got Connection"):
        querywatch.install(connection)


def test_a_password_in_a_url_is_not_repeated():
    with pytest.raises(ConfigError) as caught:
        querywatch.install("postgresql://shop:hunter2@db/shop")
    assert "hunter2" not in str(caught.value)


@pytest.fixture
def taken_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


@pytest.mark.parametrize("whole_process", [False, True], ids=["engine", "process"])
def test_a_port_in_use_leaves_nothing_installed(engine, taken_port, whole_process):
    before, app = vars(engine.dialect).copy(), Flask("shop")
    wsgi = app.wsgi_app
    with pytest.raises(ConfigError) as caught:
        querywatch.install(None if whole_process else engine, app=app, prometheus_port=taken_port)
    assert str(caught.value) == (
        f"prometheus_port {taken_port} on 127.0.0.1 is in use by another program or worker. "
        "Choose another port, or 0 to take a free one."
    )
    assert (vars(engine.dialect), app.wsgi_app) == (before, wsgi)
    assert list_own_threads() == []
    assert find_capture(sa.create_engine("sqlite://")) is None


@pytest.mark.parametrize("whole_process", [False, True], ids=["engine", "process"])
def test_what_is_no_application_leaves_nothing_installed(engine, whole_process):
    before, init = vars(engine.dialect).copy(), sa.Engine.__init__
    with pytest.raises(ConfigError, match=r"^app must be .*, got an object of class int\. For anything else"):
        querywatch.install(None if whole_process else engine, app=7, prometheus_port=0)
    assert (vars(engine.dialect), sa.Engine.__init__) == (before, init)
    assert list_own_threads() == []


def test_what_is_no_application_leaves_a_monitor_that_was_there(engine):
    monitor = querywatch.install(engine, **QUIET)
    with pytest.raises(ConfigError):
        querywatch.install(engine, app=7)
    assert not monitor.closed
    select_one(engine)
    assert count_calls(monitor) == 1


def test_a_wrong_setting_leaves_nothing_installed(engine):
    before = vars(engine.dialect).copy()
    with pytest.raises(ConfigError, match="slow_query_s must be above 0 seconds, got 0"):
        querywatch.install(engine, slow_query_s=0)
    assert vars(engine.dialect) == before


def test_a_missing_package_of_an_extra_is_not_needed_to_watch(engine, monkeypatch):
    for name in ("jinja2", "typer", "rich", "fastapi", "flask", "prometheus_client"):
        monkeypatch.setitem(sys.modules, name, None)
    monitor = querywatch.install(engine, **QUIET)
    select_one(engine)
    assert count_calls(monitor) == 1


def test_a_missing_package_is_named_with_the_command_that_brings_it():
    assert str(querywatch.MissingExtraError("The HTML report", "report")) == (
        'The HTML report needs a package that is not installed. Run: pip install "querywatch[report]"'
    )
