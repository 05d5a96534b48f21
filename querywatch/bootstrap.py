"""`install` and `uninstall`: from an engine to a running monitor and back.

In:  an engine, an application, settings.
Out: a `Monitor`, wired to what the settings ask for.

An engine is recognized by its dialect, because `engine.execution_options()` makes engines that share it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine

from querywatch.capture.engine import find_capture
from querywatch.config import read_config
from querywatch.errors import ConfigError
from querywatch.exporters import start_exporters
from querywatch.integrations import wrap_app
from querywatch.integrations.celery import call_at_process_end
from querywatch.integrations.opentelemetry import LateSpanScopes
from querywatch.monitor import Monitor
from querywatch.samples import forget_samples

if TYPE_CHECKING:
    from querywatch.config import Config

_lock = threading.RLock()
_monitors: weakref.WeakSet[Monitor] = weakref.WeakSet()
# The monitor of `install()` without an engine, which takes every engine that is made.
_process_monitor: Monitor | None = None
_EXIT_TIMEOUT_S = 2.0


def install(engine: Any = None, *, app: Any = None, **settings: Any) -> Monitor:
    """Watch an engine, and wrap an application so that each request is a scope.

    Args:
        engine: An `Engine` or `AsyncEngine`; None watches every engine of the process, also those made later.
        app: A FastAPI, Starlette, Flask or Celery application, changed in place; or a plain ASGI or WSGI callable:
            serve `monitor.app` instead of it.
        settings: Fields of `querywatch.Config`; each can also be set as `QUERYWATCH_<FIELD>` in the environment.

    Returns:
        The monitor. The same one if the engine has one already, whose settings then stay as they are.

    Raises:
        ConfigError: A setting is wrong, *engine* is no engine, *app* is no application, or a port is in use.
    """
    config = read_config(settings)
    sync_engine = None if engine is None else _find_sync_engine(engine)
    if not config.enabled:
        return Monitor(config, app)
    with _lock:
        known = _find_monitor(sync_engine)
        monitor = known or _build_monitor(config, sync_engine)
    if app is not None:
        try:
            monitor.app = wrap_app(app)
        except ConfigError:
            if known is None:
                _remove(monitor)
            raise
    return monitor


def uninstall(engine: Any = None) -> None:
    """Leave an engine exactly as it was; a monitor that watches no other engine is closed.

    Args:
        engine: What was given to `install`; None undoes `install()` without an engine. Unknown engines are ignored.

    Raises:
        ConfigError: *engine* is no engine.
    """
    if engine is None:
        if _process_monitor is not None:
            _remove(_process_monitor)
        return
    capture = find_capture(_find_sync_engine(engine))
    if capture is None or not isinstance(capture.accounting.monitor, Monitor):
        return
    monitor = capture.accounting.monitor
    monitor.forget_engine(capture)
    # The monitor of the whole process waits for the engines that are yet to be made.
    if not monitor.watches_any and monitor is not _process_monitor:
        monitor.close()


def _remove(monitor: Monitor) -> None:
    """Close a monitor; of the whole process's one nothing stays behind either."""
    global _process_monitor  # noqa: PLW0603 - there is one process
    with _lock:
        if monitor is _process_monitor:
            _process_monitor = None
            _stop_watching_new_engines()
    # Without the lock: this waits for callbacks, and one of them may install or make an engine.
    monitor.close()


def _find_sync_engine(engine: Any) -> Engine:
    sync_engine = engine if isinstance(engine, Engine) else getattr(engine, "sync_engine", None)
    if isinstance(sync_engine, Engine):
        return sync_engine
    raise ConfigError(
        f"engine must be a SQLAlchemy Engine or AsyncEngine, got {type(engine).__qualname__}. "
        "Pass what create_engine() or create_async_engine() returned, not a session, a connection or a URL."
    )


def _find_monitor(engine: Engine | None) -> Monitor | None:
    if engine is None:
        known = _process_monitor
    else:
        capture = find_capture(engine)
        sink = None if capture is None else capture.accounting.monitor
        known = sink if isinstance(sink, Monitor) else None
    return None if known is None or known.closed else known


def _build_monitor(config: Config, engine: Engine | None) -> Monitor:
    global _process_monitor  # noqa: PLW0603 - there is one process
    monitor = Monitor(config)
    # Before any engine is touched: a port in use raises here, and then nothing has changed.
    for exporter in (*start_exporters(config, monitor.snapshot), LateSpanScopes()):
        monitor.add_exporter(exporter)
    _monitors.add(monitor)
    monitor.begin()
    if engine is not None:
        monitor.watch_engine(engine)
        return monitor
    _process_monitor = monitor
    _watch_new_engines()
    for known in _list_engines():
        if find_capture(known) is None:
            monitor.watch_engine(known)
    return monitor


# -- every engine of the process

_original_init = Engine.__init__


def _init_and_watch(  # noqa: PLR0913, PLR0917 - SQLAlchemy's signature
    self: Engine,
    pool: Any,
    dialect: Any,
    url: Any,
    logging_name: Any = None,
    echo: Any = None,
    query_cache_size: int = 500,
    execution_options: Any = None,
    hide_parameters: bool = False,  # noqa: FBT001, FBT002
) -> None:
    # Every name spelled out, because create_engine() reads from the constructor's code which keywords it may pass on.
    _original_init(self, pool, dialect, url, logging_name, echo, query_cache_size, execution_options, hide_parameters)
    monitor = _process_monitor
    if monitor is None or monitor.closed:
        return
    try:
        with _lock:
            if find_capture(self) is None:
                monitor.watch_engine(self)
    except Exception as error:  # noqa: BLE001 - the application must get its engine
        monitor.note_error("install", error)


def _watch_new_engines() -> None:
    # SQLAlchemy has no event for "an engine was made"; its class's constructor is the one place they all pass.
    Engine.__init__ = _init_and_watch  # type: ignore[method-assign]


def _stop_watching_new_engines() -> None:
    if Engine.__init__ is _init_and_watch:
        Engine.__init__ = _original_init  # type: ignore[method-assign]


def _list_engines() -> list[Engine]:
    # type() rather than isinstance(): a proxy of the application's may do anything when asked for its class.
    return [each for each in gc.get_objects() if type(each) is Engine]


# -- fork and exit


def _finish_imports() -> None:
    """Wait for what the background thread imports: a child would have half of the module, and never the other half."""
    for name in list(sys.modules):
        if name.partition(".")[0] in {"sqlglot", "querywatch"}:
            with suppress(Exception):
                importlib.import_module(name)  # returns at once, unless another thread is still at it


def _begin_in_child() -> None:
    global _lock  # noqa: PLW0603 - the parent may have held it
    _lock = threading.RLock()
    forget_samples()
    for monitor in list(_monitors):
        monitor.forget_parent()


def _finish() -> None:
    for monitor in list(_monitors):
        if not monitor.closed:
            monitor.close(_EXIT_TIMEOUT_S)


os.register_at_fork(before=_finish_imports, after_in_child=_begin_in_child)
# After the application's own handlers that were registered later than this import, so that theirs are still counted.
atexit.register(_finish)
call_at_process_end(_finish)
