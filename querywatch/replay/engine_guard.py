"""One engine while a callable is replayed: what it runs is counted, what it would commit is refused.

In:  the calls of the engine's dialect, taken as `capture.engine` takes them.
Out: samples in the run's scope; `ReplayError` for a COMMIT and for what ends or escapes a transaction in another way.
"""

from __future__ import annotations

import re
from time import perf_counter
from typing import TYPE_CHECKING, Any

from querywatch.callsite import describe_caller, find_caller
from querywatch.capture.accounting import Accounting
from querywatch.capture.engine import find_capture
from querywatch.samples import current_scope
from querywatch.shape import take_shape

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from querywatch.config import Config
    from querywatch.replay.guard import Guard, Run
    from querywatch.samples import OpenScope

# A shape has no literals and no comments, so a keyword at its beginning or after a semicolon is one.
_BEGINS = re.compile(r"^\s*(BEGIN|START\s+TRANSACTION)\b", re.IGNORECASE)
_ENDS = re.compile(
    r"(?:^|;)\s*(COMMIT|END|ABORT|PREPARE\s+TRANSACTION|ROLLBACK(?!\s+(?:(?:WORK|TRANSACTION)\s+)?TO\b))\b",
    re.IGNORECASE,
)
# Several databases commit by themselves when a table changes; none does for a temporary one.
_DEFINES = re.compile(r"(?:^|;)\s*(CREATE(?!\s+(?:GLOBAL\s+|LOCAL\s+)?TEMP)|ALTER|DROP|TRUNCATE)\b", re.IGNORECASE)


class EngineGuard:
    """The calls of one engine (of its dialect, so of its `execution_options` copies too).

    Args:
        engine: A sync engine.
        guard: Knows the run, and refuses.
        config: `slow_query_s` is used.
    """

    def __init__(self, engine: Engine, guard: Guard, config: Config) -> None:
        self._dialect: Any = engine.dialect
        self._guard = guard
        self._active = False
        # An accounting of our own: what a replay runs is in no monitor's statistics.
        self.accounting = Accounting(engine, Nobody(), config.slow_query_s, config.long_transaction_s, _ignore)
        self._capture = find_capture(engine)
        self._capture_was_active = self._capture is not None and self._capture.active
        # Method -> what we put there, and what was there as an attribute of the instance (None: the class's method).
        self._replaced: dict[str, tuple[Any, Any]] = {}

    def attach(self) -> None:
        """Begin to count and refuse."""
        self._active = True
        if self._capture is not None:
            self._capture.active = False
        wrappers: dict[str, Callable[[Any], Any]] = {
            "do_execute": self._wrap_execute,
            "do_executemany": self._wrap_execute,
            "do_execute_no_params": self._wrap_no_params,
            "do_begin": self._wrap_begin,
            "do_rollback": self._wrap_rollback,
            "do_commit": self._wrap_commit,
            "do_prepare_twophase": self._wrap_twophase,
            "do_commit_twophase": self._wrap_twophase,
        }
        for name, wrap in wrappers.items():
            before = vars(self._dialect).get(name)
            ours = wrap(getattr(self._dialect, name))
            self._replaced[name] = (ours, before)
            setattr(self._dialect, name, ours)

    def detach(self) -> None:
        """Leave the engine as it was, also where another tool has wrapped our methods since."""
        self._active = False
        if self._capture is not None:
            self._capture.active = self._capture_was_active
        for name, (ours, before) in self._replaced.items():
            if vars(self._dialect).get(name) is not ours:
                continue  # wrapped by somebody later: ours only passes calls on from now
            if before is None:
                delattr(self._dialect, name)
            else:
                setattr(self._dialect, name, before)
        self._replaced.clear()

    def _find_run(self) -> Run | None:
        return self._guard.run if self._active else None

    # -- executions

    def _wrap_execute(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def do_execute(cursor: Any, statement: str, parameters: Any, context: Any = None) -> Any:
            run = self._find_run()
            # Outside of any transaction are only SQLAlchemy's first questions to a new server, and what a `begin` event
            # sends: neither is what the callable asked for, and both come before anything that is to be rolled back.
            if run is None or context is None or not context.root_connection.in_transaction():
                return original(cursor, statement, parameters, context)
            self._check(run, statement, context)
            run.executions.append(None)
            key = id(context.root_connection.connection.dbapi_connection)
            # Some errors end a transaction of SQLite's.
            run.in_use.discard(key)
            started = perf_counter()
            result = original(cursor, statement, parameters, context)
            run.in_use.add(key)
            self._account(run.scope, cursor, statement, parameters, context, started, perf_counter() - started)
            return result

        return do_execute

    def _wrap_no_params(self, original: Callable[..., Any]) -> Callable[..., Any]:
        wrapped = self._wrap_execute(
            lambda cursor, statement, _parameters, context: original(cursor, statement, context)
        )

        def do_execute_no_params(cursor: Any, statement: str, context: Any = None) -> Any:
            return wrapped(cursor, statement, (), context)

        return do_execute_no_params

    def _account(self, scope: OpenScope, *execution: Any) -> None:
        # Whatever scope the callable opens, and in whatever thread it runs: all of it is the run's.
        token = current_scope.set(scope)
        try:
            self.accounting.account(*execution)
        finally:
            current_scope.reset(token)

    def _check(self, run: Run, statement: str, context: Any) -> None:
        """Refuse a statement that could not be rolled back, before it is sent."""
        connection = context.root_connection
        proxy = connection.connection
        key = id(proxy.dbapi_connection)
        if connection not in run.connections and key not in run.begun:
            raise self._guard.refuse(
                "uses a connection whose transaction began before",
                "Let it open a connection or session of its own, or take a session as its argument.",
            )
        if _is_autocommit(connection, proxy):
            raise self._guard.refuse(
                "runs statements in AUTOCOMMIT, each of which stays", "Replay it with another isolation level."
            )
        compiled = context.compiled
        if compiled is None or getattr(compiled, "isplaintext", False) or context.isddl:
            shape = take_shape(statement, self._dialect.name)
            if _ENDS.search(shape):
                raise self._guard.refuse(
                    "ends its transaction by a statement of its own", "Replay the part of it that comes before."
                )
            if _DEFINES.search(shape):
                raise self._guard.refuse(
                    "changes the schema, which some databases commit", "Change the schema before the replay."
                )
        run.open[key] = proxy
        if getattr(proxy.driver_connection, "in_transaction", None) is False and not _BEGINS.match(statement):
            cursor = proxy.cursor()
            try:
                cursor.execute("BEGIN")
            finally:
                cursor.close()

    # -- transactions

    def _wrap_begin(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def do_begin(connection: Any) -> Any:
            run = self._find_run()
            if run is not None:
                run.begun.add(id(connection.dbapi_connection))
                run.open[id(connection.dbapi_connection)] = connection
            return original(connection)

        return do_begin

    def _wrap_rollback(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def do_rollback(connection: Any) -> Any:
            run = self._find_run()
            if run is not None:
                key = id(connection.dbapi_connection)
                if key in run.in_use and _is_over(connection):
                    self._guard.refuse(
                        "ends its transaction through the driver, so that what it wrote may have stayed",
                        "Look at its tables, and let it leave the driver's connection alone.",
                    )
                run.in_use.discard(key)
                run.open.pop(key, None)
                run.scope.note_end("rollback")
            return original(connection)

        return do_rollback

    def _wrap_commit(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def do_commit(connection: Any) -> Any:
            if not self._active:
                return original(connection)
            # Not left to whoever hears the error: a pool without reset would hand the transaction on.
            self._dialect.do_rollback(connection)
            raise self._guard.refuse_commit()

        return do_commit

    def _wrap_twophase(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def do_end_twophase(*arguments: Any, **keywords: Any) -> Any:
            if not self._active:
                return original(*arguments, **keywords)
            raise self._guard.refuse_commit()

        return do_end_twophase


class Nobody:
    """A sink for scopes that nobody examines."""

    def start(self) -> None:
        """Do nothing."""

    def take_scope(self, scope: OpenScope) -> None:
        """Do nothing."""


def describe_line() -> str:
    """Return the application's running line as ` at file:line`, nothing where the stack holds none."""
    caller = find_caller()
    return "" if caller.code is None else f" at {describe_caller(caller.code, caller.line)}"


def _is_autocommit(connection: Any, proxy: Any) -> bool:
    level = connection.get_execution_options().get("isolation_level")
    if level is None:
        level = getattr(connection.dialect, "_on_connect_isolation_level", None)
    return level == "AUTOCOMMIT" or getattr(proxy.dbapi_connection, "autocommit", None) is True


def _is_over(proxy: Any) -> bool:
    """Whether the driver says that there is no transaction; False where it does not say."""
    driver = proxy.driver_connection
    if getattr(driver, "in_transaction", None) is False:
        return True
    # Of asyncpg, and of psycopg, whose 0 is "idle".
    ask = getattr(driver, "is_in_transaction", None)
    if ask is not None:
        return not ask()
    return getattr(getattr(driver, "info", None), "transaction_status", None) == 0


def _ignore(_stage: str, _error: Exception) -> None:
    """Let the callable go on: an error of our own costs a finding, not a run."""
