"""Tasks for a real worker, which `test_celery` starts: `SHOP_DATABASE` and `SHOP_BROKER` say where."""

from __future__ import annotations

import json
import os
import signal

from celery import Celery
from celery.utils.log import get_task_logger
from integration_shop import User
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

import querywatch
from querywatch.samples import open_scopes

app = Celery("shop", broker=os.environ["SHOP_BROKER"])
app.conf.update(worker_hijack_root_logger=True, task_ignore_result=True, broker_connection_retry_on_startup=True)
engine = create_engine(os.environ["SHOP_DATABASE"])
monitor = querywatch.install(engine, app=app, explain=False)
log = get_task_logger(__name__)


def load_users(number):
    with Session(engine) as session:
        session.scalars(select(User).limit(number)).all()


@app.task(name="shop.count_orders")
def count_orders():
    with Session(engine) as session:
        return sum(len(user.orders) for user in session.scalars(select(User)))  # line of the task


@app.task(name="shop.fail")
def fail():
    load_users(1)
    raise LookupError("theirs")


@app.task(name="shop.retry", bind=True, max_retries=2, default_retry_delay=0)
def retry(self):
    load_users(1)
    raise self.retry(exc=LookupError("theirs"))


@app.task(name="shop.inner")
def inner():
    load_users(1)


@app.task(name="shop.outer")
def outer():
    load_users(1)
    inner()  # a function: part of this task
    inner.apply()  # a run of its own
    load_users(1)


@app.task(name="shop.die")
def die():
    load_users(1)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="shop.tell")
def tell():
    """Log what this process knows; the scope of this very task is open and empty."""
    assert monitor.flush(20)
    scopes = {stats.name: [stats.kind, stats.scopes, stats.calls] for stats in monitor.snapshot().scopes}
    still_open = [scope.name for scope in open_scopes.values()]
    log.info("TOLD %s", json.dumps({"scopes": scopes, "open": still_open, "errors": dict(monitor.internal_errors)}))
