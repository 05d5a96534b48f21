"""Nothing that a callable writes while it is replayed may stay.

In:  the engines of the process, and SQLAlchemy's events, from `__enter__` to `__exit__`.
Out: runs whose every transaction is rolled back; a refusal of what could not be.

The callable keeps its own sessions, connections and threads, and its engine's own pool: nothing is shared that was not
shared before, so what is measured is what the application does. It is only the way out that is shut: a COMMIT is
refused before it is sent, for every engine of the process and from every thread, because a thread of the callable may
be anybody's. On drivers that begin late (sqlite3 does, at the first write) a transaction is begun at once: otherwise
DDL would commit itself, and so would the release of a savepoint that nothing surrounds.
"""

from __future__ import annotations

import gc
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn, Self
from weakref import WeakSet

from sqlalchemy import Engine, event
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session
from sqlalchemy.pool import Pool
from sqlalchemy.pool.base import _ConnectionFairy

from querywatch.errors import ReplayError
from querywatch.replay.engine_guard import EngineGuard, describe_line
from querywatch.samples import OpenScope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, TracebackType

    from sqlalchemy.orm import ORMExecuteState, SessionTransaction

    from querywatch.config import Config
    from querywatch.replay.loader_options import Injection

# Two replays at once would roll back, count and refuse each other's work.
_only_one = threading.Lock()
_CONNECT = Connection.__init__.__code__


class Run:
    """One call of the callable.

    Args:
        injection: Adds loader options to its SELECTs.
    """

    def __init__(self, injection: Injection) -> None:
        self.injection = injection
        #: Holds the samples; known to no monitor, so that a replay changes nobody's statistics.
        self.scope = OpenScope("replay", "watch")
        #: One entry for each execution: appending needs no lock.
        self.executions: list[None] = []
        #: Connections that were made, or began a transaction, in this run.
        self.connections: WeakSet[Connection] = WeakSet()
        self.begun: set[int] = set()
        #: Connections that are in a transaction of this run: id of the driver's connection -> SQLAlchemy's proxy of it.
        self.open: dict[int, Any] = {}
        #: Ids of those whose latest statement succeeded, so that the driver must say that there is a transaction.
        self.in_use: set[int] = set()
        #: Sessions that were idle and empty when the run first saw them.
        self.sessions: WeakSet[Session] = WeakSet()
        #: The first thing that was refused; kept, because the callable may have swallowed it.
        self.refusal: ReplayError | None = None

    def see_session(self, session: Session) -> None:
        """Note a session that is about to begin a transaction."""
        # Objects from before would save the first run statements that the second one then has to send.
        if not len(session.identity_map):
            self.sessions.add(session)


class Guard:
    """Everything of the process that a callable could commit with, from `__enter__` to `__exit__`.

    Args:
        name: Name of the callable, for refusals.
        config: `slow_query_s` is used.

    Raises:
        ReplayError: Another replay is running.
    """

    def __init__(self, name: str, config: Config) -> None:
        self.run: Run | None = None
        self._name = name
        self._config = config
        self._engines: dict[int, EngineGuard] = {}
        self._listeners: tuple[tuple[Any, str, Callable[..., None]], ...] = (
            (Engine, "engine_connect", self._take_connection),
            (Pool, "checkout", self._take_checkout),
            (Session, "after_transaction_create", self._take_session),
            (Session, "before_commit", self._take_commit),
            (Session, "do_orm_execute", self._take_statement),
        )

    def __enter__(self) -> Self:
        if not _only_one.acquire(blocking=False):
            raise ReplayError(f"{self._name} cannot be replayed while another replay runs. Wait for it to end.")
        try:
            for engine in list_engines():
                self._add_engine(engine)
            for target, name, listener in self._listeners:
                event.listen(target, name, listener)
            # SQLAlchemy commits by its dialect; by this way comes an application that goes past it.
            _ConnectionFairy.commit = self._commit_past_sqlalchemy  # type: ignore[method-assign, assignment]
        except BaseException:
            self._restore()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    @contextmanager
    def running(self, injection: Injection) -> Iterator[Run]:
        """Let the block be one run; `clean_up` has to follow before the next one.

        Args:
            injection: Adds loader options.

        Raises:
            ReplayError: The callable did what cannot be rolled back; nothing of it was kept.
        """
        run = self.run = Run(injection)
        try:
            yield run
        except BaseException as error:
            if run.refusal is not None and run.refusal is not error:
                raise run.refusal from error
            raise
        if run.refusal is not None:
            raise run.refusal

    def clean_up(self) -> None:
        """Roll back and close what the run left open. In an async program, call it in SQLAlchemy's greenlet."""
        run, self.run = self.run, None
        if run is None:
            return
        for session in list(run.sessions):
            # A session of a thread that still runs, or of an event loop that ended, cannot be closed from here.
            with suppress(Exception):
                session.close()
        for connection in list(run.connections):
            with suppress(Exception):
                connection.rollback()
        for proxy in list(run.open.values()):
            _end(proxy)

    def refuse(self, what: str, advice: str) -> ReplayError:
        """Return the error that says why, and keep it.

        Args:
            what: What the callable does, as the rest of a sentence that begins with "it".
            advice: What to do, as a sentence.
        """
        error = ReplayError(f"{self._name} cannot be replayed: it {what}{describe_line()}. {advice}")
        if self.run is not None and self.run.refusal is None:
            self.run.refusal = error
        return error

    # -- engines

    def _add_engine(self, engine: Engine) -> EngineGuard:
        guard = self._engines.get(id(engine.dialect))
        if guard is None:
            guard = self._engines[id(engine.dialect)] = EngineGuard(engine, self, self._config)
            guard.attach()
        return guard

    def _commit_past_sqlalchemy(self) -> NoReturn:
        raise self.refuse_commit()

    def _restore(self) -> None:
        if "commit" in vars(_ConnectionFairy):
            del _ConnectionFairy.commit
        for target, name, listener in self._listeners:
            if event.contains(target, name, listener):
                event.remove(target, name, listener)
        # SQLAlchemy never takes it back, and dispatches for ever, at 7 microseconds a query.
        if Engine._has_events and not _has_class_listeners():  # noqa: SLF001 - nothing public tells
            Engine._has_events = False  # noqa: SLF001
        for guard in self._engines.values():
            guard.detach()
        self._engines.clear()
        _only_one.release()

    # -- events

    def _take_connection(self, connection: Connection) -> None:
        self._add_engine(connection.engine)
        if self.run is not None:
            self.run.connections.add(connection)

    def _take_checkout(self, _dbapi_connection: Any, _record: Any, _proxy: Any) -> None:
        if self.run is not None and not _is_asked_by_connection():
            raise self.refuse(
                "takes a raw connection, whose commits nobody sees",
                "Let it use a Session or a Connection.",
            )

    def _take_session(self, session: Session, transaction: SessionTransaction) -> None:
        if self.run is not None and transaction.parent is None:
            self.run.see_session(session)

    def _take_commit(self, session: Session) -> None:
        if self.run is not None and not session.in_nested_transaction():
            raise self.refuse_commit()

    def _take_statement(self, state: ORMExecuteState) -> None:
        run = self.run
        if run is None:
            return
        # It may not have begun its transaction yet; one that began before was never seen.
        if not state.session.in_transaction():
            run.see_session(state.session)
        if state.session not in run.sessions:
            raise self.refuse(
                "uses a session that was in use before",
                "Let it open a session of its own, or take one as its argument.",
            )
        run.injection.inject(state)

    def refuse_commit(self) -> ReplayError:
        """Return the error for a COMMIT."""
        return self.refuse("commits", "Nothing of it was kept. Replay the part of it that comes before the commit.")


def list_engines() -> list[Engine]:
    """Return every sync engine of the process, also those below an async one."""
    # type() rather than isinstance(): a proxy of the application's may do anything when asked for its class.
    return [each for each in gc.get_objects() if type(each) is Engine]


def _end(proxy: Any) -> None:
    """Roll back a connection that the callable left in its transaction; close it where that cannot be done."""
    try:
        proxy.rollback()
    except Exception:  # noqa: BLE001 - of an event loop that ended, or closed by its thread meanwhile
        with suppress(Exception):
            proxy.invalidate()


def _has_class_listeners() -> bool:
    dispatch = Engine.dispatch
    return any(getattr(dispatch, name)._clslevel.get(Engine) for name in dispatch._event_names)  # noqa: SLF001


def _is_asked_by_connection() -> bool:
    """Tell a checkout for a `Connection` from one for `raw_connection()`; our own are no business of ours."""
    frame: Any = sys._getframe(1)  # noqa: SLF001 - as in callsite.py
    while frame is not None:
        code: CodeType = frame.f_code
        if code is _CONNECT:
            return True
        module = frame.f_globals.get("__name__", "")
        if module.startswith("querywatch.dialects"):
            return True
        if not module.startswith(("sqlalchemy.", "querywatch.replay")):
            return False
        frame = frame.f_back
    return False
