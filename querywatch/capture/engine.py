"""Between an engine and its accounting: where the calls are taken, and how they are given back.

In:  the calls of SQLAlchemy's dialect, or its public cursor events.
Out: each execution to `accounting`.

The default is to wrap three methods of the engine's one dialect *instance*: registering any cursor listener makes
SQLAlchemy dispatch events at every point, which costs ten times our accounting. `capture="events"` is for those who
want the public events and nothing else.
"""

from __future__ import annotations

import weakref
from time import perf_counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import event

from querywatch.capture.accounting import Accounting
from querywatch.capture.execution import Execution
from querywatch.capture.pool import Checkouts, end_checkout_scopes
from querywatch.capture.pool_limit import PoolWaits

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from querywatch.config import Config
    from querywatch.samples import Sink

_METHODS = ("do_execute", "do_executemany", "do_execute_no_params")
_ENDS = {"do_commit": "commit", "do_rollback": "rollback"}
_KEY = "_querywatch_capture"


class EngineCapture:
    """The calls of one engine.

    Args:
        engine: A sync engine, kept by weak reference; of a copy made by `execution_options()`, the engine it copies.
        monitor: Who takes the scopes.
        config: `capture`, `slow_query_s`, `long_transaction_s` and `pool_wait_s` are used.
        on_error: Called with the stage and an exception of our own; must not raise.
    """

    def __init__(
        self, engine: Engine, monitor: Sink, config: Config, on_error: Callable[[str, Exception], None]
    ) -> None:
        engine = _find_original(engine)
        self.accounting = Accounting(engine, monitor, config.slow_query_s, config.long_transaction_s, on_error)
        #: False lets calls pass uncounted.
        self.active = True
        self._engine = weakref.ref(engine)
        self._dialect = weakref.ref(engine.dialect)
        self._on_error = on_error
        self._use_events = config.capture == "events"
        # Method -> what we put there, and what was there as an attribute of the instance (None: the class's method).
        self._replaced: dict[str, tuple[Any, Any]] = {}
        # To whom nobody listened before.
        self._unheard: list[weakref.ref[Any]] = []
        self._checkouts = Checkouts(monitor, config.long_transaction_s, config.pool_wait_s)
        self._waits = PoolWaits(
            self._checkouts, self.accounting.database.name, config.pool_wait_s, lambda: self.active, on_error
        )

    def attach(self) -> None:
        """Begin to count."""
        engine = self._engine()
        if engine is None:
            return
        self.active = True
        vars(engine.dialect)[_KEY] = self
        if self._use_events:
            targets = (engine, engine.dialect)
            self._unheard = [weakref.ref(target) for target in targets if "_has_events" not in vars(target)]
        for name, listener in self._listeners().items():
            event.listen(engine, name, listener)
        self._waits.attach(engine.pool)
        for name, kind in _ENDS.items():
            self._replace(engine.dialect, name, self._wrap_end(getattr(engine.dialect, name), kind))
        for name in () if self._use_events else _METHODS:
            original = getattr(engine.dialect, name)
            wrap = self._wrap_no_params if name == "do_execute_no_params" else self._wrap
            self._replace(engine.dialect, name, wrap(original))

    def detach(self) -> None:
        """Stop counting and leave the engine as it was, also where another tool has wrapped our methods since."""
        self.active = False
        engine, dialect = self._engine(), self._dialect()
        if engine is not None:
            for name, listener in self._listeners().items():
                if event.contains(engine, name, listener):
                    event.remove(engine, name, listener)
        for reference in self._unheard:
            target = reference()
            if target is not None and not _has_listeners(target):
                # SQLAlchemy itself never takes it back, and dispatches for ever, at 7 microseconds a query.
                vars(target).pop("_has_events", None)
        self._unheard.clear()
        self._waits.detach()
        end_checkout_scopes(self.accounting.number)
        if dialect is None:
            return
        vars(dialect).pop(_KEY, None)
        for name, (ours, before) in self._replaced.items():
            if vars(dialect).get(name) is not ours:
                continue  # wrapped by somebody later: ours only passes calls on from now
            if before is None:
                delattr(dialect, name)
            else:
                setattr(dialect, name, before)
        self._replaced.clear()

    # -- the dialect's methods

    def _replace(self, dialect: Any, name: str, ours: Callable[..., Any]) -> None:
        self._replaced[name] = (ours, vars(dialect).get(name))
        setattr(dialect, name, ours)

    def _wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Count the calls of `do_execute` or `do_executemany`."""
        account, account_failure = self.accounting.account, self.accounting.account_failure

        def do_execute(cursor: Any, statement: str, parameters: Any, context: Any = None) -> Any:
            if context is None or not self.active:
                return original(cursor, statement, parameters, context)
            started = perf_counter()
            try:
                result = original(cursor, statement, parameters, context)
            except BaseException as error:
                elapsed = perf_counter() - started
                account_failure(Execution(statement, parameters, context, elapsed), error)
                raise
            account(cursor, statement, parameters, context, started, perf_counter() - started)
            return result

        return do_execute

    def _wrap_no_params(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Count the calls of `do_execute_no_params`, which differs in its signature only."""
        counted = self._wrap(lambda cursor, statement, _parameters, context: original(cursor, statement, context))

        def do_execute_no_params(cursor: Any, statement: str, context: Any = None) -> Any:
            return counted(cursor, statement, (), context)

        return do_execute_no_params

    def _wrap_end(self, original: Callable[[Any], Any], kind: str) -> Callable[[Any], Any]:
        """Note the calls of `do_commit` or `do_rollback`."""

        def do_end(dbapi_connection: Any) -> Any:
            if not self.active:
                return original(dbapi_connection)
            started = perf_counter()
            result = original(dbapi_connection)
            try:
                self._checkouts.take_end(kind, dbapi_connection, started)
            except Exception as error:  # noqa: BLE001 - the transaction has ended
                self._on_error("capture", error)
            return result

        return do_end

    # -- events

    def _listeners(self) -> dict[str, Callable[..., Any]]:
        listeners: dict[str, Callable[..., Any]] = {
            "checkout": self._take_checkout,
            "checkin": self._take_checkin,
            "detach": self._take_detach,
        }
        if self._use_events:
            listeners["before_cursor_execute"] = self._before_cursor_execute
            listeners["after_cursor_execute"] = self._after_cursor_execute
            listeners["handle_error"] = self._handle_error
        return listeners

    def _take_checkout(self, _dbapi_connection: Any, connection_record: Any, _proxy: Any) -> None:
        try:
            if self.active:
                self._checkouts.take_checkout(connection_record)
        except Exception as error:  # noqa: BLE001 - the application must get its connection
            self._on_error("capture", error)

    def _take_detach(self, _dbapi_connection: Any, connection_record: Any) -> None:
        try:
            self._checkouts.take_detach(connection_record)
        except Exception as error:  # noqa: BLE001 - as above
            self._on_error("capture", error)

    def _take_checkin(self, _dbapi_connection: Any, connection_record: Any) -> None:
        try:
            self._checkouts.take_checkin(connection_record)
        except Exception as error:  # noqa: BLE001 - the pool must get its connection back
            self._on_error("capture", error)

    def _before_cursor_execute(self, *arguments: Any) -> None:
        context = arguments[4]
        if context is not None:
            context._querywatch_started = perf_counter()  # an attribute of ours

    def _after_cursor_execute(self, *arguments: Any) -> None:
        _connection, cursor, statement, parameters, context, _executemany = arguments
        elapsed = self._take_elapsed(context)
        if elapsed is not None:
            self.accounting.account(cursor, statement, parameters, context, perf_counter() - elapsed, elapsed)

    def _handle_error(self, error: Any) -> None:
        elapsed = self._take_elapsed(error.execution_context)
        if elapsed is not None:
            execution = Execution(error.statement, error.parameters, error.execution_context, elapsed)
            self.accounting.account_failure(execution, error.original_exception)

    def _take_elapsed(self, context: Any) -> float | None:
        """Return the seconds since the execution of *context* began; None if it is not to be counted (again)."""
        started: float | None = getattr(context, "_querywatch_started", None)
        if started is None or not self.active:
            return None
        context._querywatch_started = None
        return perf_counter() - started


def _find_original(engine: Engine) -> Engine:
    """Return the engine that *engine* is a copy of: listeners of a copy hear nothing of the others."""
    while (original := getattr(engine, "_proxied", None)) is not None:
        engine = original
    return engine


def _has_listeners(target: Any) -> bool:
    dispatch = target.dispatch
    return any(getattr(dispatch, name) for name in dispatch._event_names)


def find_capture(engine: Engine) -> EngineCapture | None:
    """Return what counts the statements of *engine*, None if nothing does.

    Args:
        engine: A sync engine, or a copy of one made by `execution_options()`, which shares its dialect.
    """
    # On the dialect, not in a table of ours: the two are let go together.
    return vars(engine.dialect).get(_KEY)
