"""Celery: a run of a task is a scope, in a real worker with each kind of pool, and eagerly inside of a request."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from celery import Celery
from celery.exceptions import Ignore, Reject
from celery.signals import task_postrun, task_prerun
from integration_shop import USERS, User
from sqlalchemy import select
from sqlalchemy.orm import Session

import querywatch
from querywatch.integrations.asgi import ASGIMiddleware
from querywatch.samples import current_scope, open_scopes

FOLDER = Path(__file__).parent
LIMIT_S = 60


def line_of(mark):
    lines = (FOLDER / "celery_shop.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.endswith(f"# {mark}"))


class Worker:
    """A running `celery worker` and what it has printed so far."""

    def __init__(self, process, broker):
        self.process = process
        self.lines = []
        self._client = Celery("client", broker=broker, set_as_current=False)

    def send(self, *names):
        with self._client.connection_for_write() as connection:
            for name in names:
                self._client.send_task(name, connection=connection, ignore_result=True)

    def read_until(self, text):
        """Return the first line from here on that holds *text*."""
        for line in self.process.stdout:
            self.lines.append(line)
            if text in line:
                return line
        pytest.fail(f"the worker ended without {text!r}:\n{''.join(self.lines)}")

    def stop(self):
        self.process.terminate()
        self.lines.extend(self.process.stdout)
        assert self.process.wait() == 0, "".join(self.lines)

    def findings(self):
        return [line for line in self.lines if "querywatch.finding code=n-plus-one" in line]


@contextmanager
def working(database, broker, *options, **environ):
    process = subprocess.Popen(
        [
            sys.executable, "-m", "celery", "-A", "celery_shop", "worker", "--loglevel", "INFO",
            "--without-gossip", "--without-mingle", "--without-heartbeat", *options,
        ],
        cwd=FOLDER,
        env=os.environ
        | {"SHOP_DATABASE": f"sqlite:///{database}", "SHOP_BROKER": broker, "PYTHONWARNINGS": "default"}
        | environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    # Whatever hangs ends then, and so does the reading of what it prints.
    limit = threading.Timer(LIMIT_S, process.kill)
    limit.start()
    try:
        worker = Worker(process, broker)
        worker.read_until(" ready.")
        yield worker
    finally:
        limit.cancel()
        process.kill()
        process.communicate()


def assert_names_the_line(finding):
    assert "n-plus-one" in finding
    assert "scope=shop.count_orders" in finding
    assert "subject=User.orders" in finding
    assert f"count={USERS}" in finding
    assert f"celery_shop.py:{line_of('line of the task')}" in finding
    assert "selectinload(User.orders)" in finding


@pytest.mark.parametrize("pool", [("prefork", 2), ("solo", 1), ("threads", 2)], ids=lambda pool: pool[0])
def test_what_a_task_wastes_is_told_when_the_worker_ends(database, redis_url, pool):
    kind, concurrency = pool
    # No pass of the background in between: all is told at the end of the processes that ran the tasks.
    with working(
        database, redis_url, "--pool", kind, "--concurrency", str(concurrency), QUERYWATCH_INTERVAL_S="3600"
    ) as worker:
        worker.send("shop.count_orders")
        worker.read_until("succeeded in")
        assert worker.findings() == []
        worker.stop()
    [finding] = worker.findings()
    assert_names_the_line(finding)
    assert "Traceback" not in "".join(worker.lines)


def test_what_a_task_wastes_is_told_while_the_worker_runs(database, redis_url):
    with working(database, redis_url, "--pool", "prefork", "--concurrency", "2") as worker:
        worker.send("shop.count_orders")
        finding = worker.read_until("querywatch.finding code=n-plus-one")
        assert "ForkPoolWorker" in finding
        assert_names_the_line(finding)
        worker.stop()
    assert len(worker.findings()) == 1


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_each_run_is_counted_once_however_it_ends(database, redis_url, pool):
    with working(database, redis_url, "--pool", pool, "--concurrency", "1") as worker:
        worker.send("shop.count_orders", "shop.fail", "shop.outer", "shop.retry")
        worker.read_until("shop.retry")
        while "raised unexpected" not in worker.read_until("shop.retry["):
            pass
        worker.send("shop.tell")
        told = json.loads(worker.read_until("TOLD").partition("TOLD ")[2])
        worker.stop()
    assert told == {
        "scopes": {
            "shop.count_orders": ["task", 1, 1 + USERS],
            "shop.fail": ["task", 1, 1],
            "shop.outer": ["task", 1, 3],
            "shop.inner": ["task", 1, 1],
            "shop.retry": ["task", 3, 3],
        },
        "open": ["shop.tell"],
        "errors": {},
    }


def test_a_process_that_dies_in_a_task_takes_only_its_own_with_it(database, redis_url):
    with working(database, redis_url, "--pool", "prefork", "--concurrency", "1") as worker:
        worker.send("shop.inner", "shop.die")
        worker.read_until("WorkerLostError")
        worker.send("shop.inner", "shop.tell")
        told = json.loads(worker.read_until("TOLD").partition("TOLD ")[2])
        worker.stop()
    assert told == {"scopes": {"shop.inner": ["task", 1, 1]}, "open": ["shop.tell"], "errors": {}}


def test_a_process_that_is_replaced_tells_first(database, redis_url):
    with working(
        database, redis_url, "--pool", "prefork", "--concurrency", "1", "--max-tasks-per-child", "1",
        QUERYWATCH_INTERVAL_S="3600",
    ) as worker:  # fmt: skip
        worker.send("shop.count_orders")
        assert_names_the_line(worker.read_until("querywatch.finding code=n-plus-one"))
        worker.stop()


# -- in this process, eagerly


OUTCOMES = {"error": LookupError("theirs"), "ignore": Ignore(), "reject": Reject(), "exit": SystemExit(3)}


def make_app(engine):
    app = Celery("shop", set_as_current=False)
    app.conf.task_always_eager = True

    @app.task(name="shop.load", bind=True)
    def load(self, number, outcome=None):
        with Session(engine) as session:
            for _ in range(number):
                session.scalars(select(User.id)).all()
        if outcome is not None:
            raise OUTCOMES[outcome]

    return app, load


def scopes_of(monitor):
    assert monitor.flush()
    return {(scope.name, scope.kind): (scope.scopes, scope.calls) for scope in monitor.snapshot().scopes}


def test_the_application_is_recognized_and_stays_the_same_object(engine):
    app, load = make_app(engine)
    monitor = querywatch.install(engine, app=app)
    assert monitor.app is app
    assert querywatch.install(engine, app=app) is monitor
    load.delay(2)
    assert scopes_of(monitor) == {("shop.load", "task"): (1, 2)}


def test_an_eager_task_in_a_request_is_a_scope_inside(engine):
    app, load = make_app(engine)
    monitor = querywatch.install(engine, app=app)

    async def answer(scope, receive, send):
        request = current_scope.get()
        load.delay(2)
        assert current_scope.get() is request
        load(3)

    asyncio.run(ASGIMiddleware(answer, lambda _: "GET /")({"type": "http"}, None, None))
    assert scopes_of(monitor) == {("shop.load", "task"): (1, 2), ("GET /", "request"): (1, 3)}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_end_of_a_run_ends_its_scope(engine, outcome):
    app, load = make_app(engine)
    monitor = querywatch.install(engine, app=app)
    with pytest.raises(SystemExit) if outcome == "exit" else nullcontext():
        load.delay(1, outcome)
    assert current_scope.get() is None
    assert scopes_of(monitor) == {("shop.load", "task"): (1, 1)}


def test_tasks_of_another_application_are_left_alone(engine):
    app, _ = make_app(engine)
    _, load = make_app(engine)
    monitor = querywatch.install(engine, app=app)
    load.delay(2)
    assert scopes_of(monitor) == {(None, "checkout"): (1, 2)}


def test_a_run_whose_end_nobody_tells_ends_with_its_request(engine):
    app, load = make_app(engine)
    monitor = querywatch.install(engine, app=app)
    load.push_request(id="torn")
    task_prerun.send(sender=load, task=load, task_id="torn", args=[], kwargs={})
    load.run(2)
    load.pop_request()
    assert [scope for scope in open_scopes.values() if scope.name == "shop.load"] == []
    assert scopes_of(monitor) == {("shop.load", "task"): (1, 2)}
    current_scope.set(None)


def test_a_signal_from_elsewhere_is_no_concern(engine, caplog):
    querywatch.install(engine, app=make_app(engine)[0])
    for signal in (task_prerun, task_postrun):
        signal.send(sender="somebody")
    assert caplog.records == []


def test_celery_is_not_imported_for_other_applications():
    program = (
        "import sys, querywatch\nfrom querywatch.integrations import wrap_app\n"
        "async def app(scope, receive, send): pass\nwrap_app(app)\nprint('celery' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
