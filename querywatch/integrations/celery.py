"""Celery: each run of a task is one scope of the kind `task`, with the task's name.

In:  a Celery application.
Out: the same application; Celery's signals tell when a run of one of its tasks begins and ends.

A retry is a run of its own. A task that runs eagerly inside of a request or another task has a scope of its own inside
of theirs; one that is called as a plain function, which sends no signal, is part of its caller. What a run leaves open
is closed with its request object: where a run is torn off in the middle, no signal tells of its end.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from querywatch.integrations.recognition import is_instance_of
from querywatch.samples import current_scope
from querywatch.scope import close_scope, open_scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

_apps: WeakSet[Any] = WeakSet()
#: By the task's request, and not by its id: after a redelivery two runs have the same one.
_runs: WeakKeyDictionary[Any, _Run] = WeakKeyDictionary()
_at_process_end: list[Callable[[], None]] = []


class _Run:
    """The scope of one run, closed at the latest when this is let go."""

    def __init__(self, name: str) -> None:
        self._outer = current_scope.get()
        self._scope = open_scope(name, "task")

    def end(self) -> None:
        close_scope(self._scope, outer=self._outer)

    def __del__(self) -> None:
        self.end()


def recognizes(app: object) -> bool:
    """Tell whether *app* is a Celery application."""
    return is_instance_of(app, "celery.app.base", "Celery")


def wrap(app: Celery) -> Celery:
    """Open a scope around each run of a task of *app*, and return *app*."""
    from celery import signals  # noqa: PLC0415 - the host has imported it

    _apps.add(app)
    # Connecting the same function again changes nothing.
    signals.task_prerun.connect(_begin_run, weak=False)
    signals.task_postrun.connect(_end_run, weak=False)
    signals.worker_process_shutdown.connect(_end_process, weak=False)
    return app


def call_at_process_end(finish: Callable[[], None]) -> None:
    """Call *finish* at the end of each process of a worker's pool: they end without Python's exit handlers."""
    _at_process_end.append(finish)


def _begin_run(task: Any = None, **_: Any) -> None:
    # Celery would log an exception of ours with its traceback, at each task.
    with suppress(Exception):
        if task.app in _apps:
            _runs[task.request] = _Run(task.name)


def _end_run(task: Any = None, **_: Any) -> None:
    with suppress(Exception):
        run = _runs.pop(task.request, None)
        if run is not None:
            run.end()


def _end_process(**_: Any) -> None:
    for finish in _at_process_end:
        with suppress(Exception):
            finish()
