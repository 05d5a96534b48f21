"""Executions of one engine -> samples.

In:  the calls of SQLAlchemy's dialect (or its public cursor events).
Out: `samples.Samples` in the scope that the execution belongs to.

The default is to wrap three methods of the engine's one dialect *instance*: registering any cursor listener makes
SQLAlchemy dispatch events at every point, which costs ten times our accounting. Nothing here may change what the
application gets, so every path of our own is guarded once, in `_guard`'s callers, and an error of ours is counted.
"""

from __future__ import annotations

import itertools
import time
import weakref
from time import perf_counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.engine.interfaces import ExecuteStyle

from querywatch.callsite import find_caller
from querywatch.capture.database import describe_database
from querywatch.capture.fetch import time_fetches
from querywatch.capture.orm import read_load_mark, read_select_entity
from querywatch.capture.statement import read_operation
from querywatch.dialects import find_dialect
from querywatch.samples import (
    NOBODY,
    SAMPLES_LIMIT,
    Asker,
    Failure,
    Occurrence,
    OpenScope,
    Samples,
    begin_scope,
    current_scope,
    end_scope,
)
from querywatch.shape import take_shape
from querywatch.tracing import current_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from querywatch.config import Config
    from querywatch.samples import Sink

# Executions of one statement in one scope that are looked at one by one; later ones by samples ever farther apart.
_LOOK_AT_EACH = 20
# Slow or failed calls of one statement in one scope that are kept with their text; all of them are counted.
_OCCURRENCES_LIMIT = 5
# Texts of one engine in one scope; more than a request has, few enough for a script with inlined literals.
_TEXTS_LIMIT = 2_000
# Known shapes of one engine, twice: texts that were not seen for a whole generation are forgotten.
_SHAPES_LIMIT = 2_000
# A text longer than this is scanned again each time rather than kept.
_KEPT_TEXT_LENGTH = 10_000
# More parameters than this are not compared: on SQLAlchemy 2.0 each row of a flush carries those of all rows.
_COMPARED_PARAMETERS = 50

_METHODS = ("do_execute", "do_executemany", "do_execute_no_params")
_INFO_KEY = "querywatch_scope"
_CAPTURE_KEY = "_querywatch_capture"
_numbers = itertools.count(1)


class EngineCapture:
    """The accounting of one engine (of its dialect, so of its `execution_options` copies too).

    Args:
        engine: A sync engine; kept by weak reference.
        monitor: Who takes the scopes.
        config: `capture` and `slow_query_s` are used.
        on_error: Called with an exception of our own; must not raise.
    """

    def __init__(
        self, engine: Engine, monitor: Sink, config: Config, on_error: Callable[[str, Exception], None]
    ) -> None:
        self.number = next(_numbers)
        self.monitor = monitor
        self.database = describe_database(engine)
        self.active = True
        self._engine = weakref.ref(engine)
        self._dialect = weakref.ref(engine.dialect)
        self._on_error = on_error
        self.slow_s = config.slow_query_s
        self._use_events = config.capture == "events"
        module = find_dialect(engine.dialect.name)
        self._fetches_lazily = module is not None and module.fetches_lazily(engine.dialect)
        self._knows_rowcount = module is not None and module.knows_select_rowcount(engine.dialect)
        self._shapes: dict[str, str] = {}
        self._older_shapes: dict[str, str] = {}
        self._replaced: dict[str, tuple[Any, Any]] = {}
        self._account = self._build_account()

    @property
    def engine(self) -> Engine | None:
        """The engine, None once the application let it go."""
        return self._engine()

    # -- coming and going

    def attach(self) -> None:
        """Begin to count."""
        engine = self._engine()
        if engine is None:
            return
        vars(engine.dialect)[_CAPTURE_KEY] = self
        event.listen(engine, "checkin", self._take_checkin)
        if self._use_events:
            for name, listener in self._listeners().items():
                event.listen(engine, name, listener)
            return
        for name in _METHODS:
            ours = self._wrap(getattr(engine.dialect, name), with_parameters=name != "do_execute_no_params")
            self._replaced[name] = (ours, vars(engine.dialect).get(name))
            setattr(engine.dialect, name, ours)

    def detach(self) -> None:
        """Stop counting and leave the engine as it was, also where another tool has wrapped our methods since."""
        self.active = False
        engine, dialect = self._engine(), self._dialect()
        if engine is not None:
            listeners = {"checkin": self._take_checkin, **(self._listeners() if self._use_events else {})}
            for name, listener in listeners.items():
                if event.contains(engine, name, listener):
                    event.remove(engine, name, listener)
        if dialect is None:
            return
        vars(dialect).pop(_CAPTURE_KEY, None)
        for name, (ours, before) in self._replaced.items():
            if vars(dialect).get(name) is not ours:
                continue  # wrapped by somebody later: ours only passes calls on from now
            if before is None:
                delattr(dialect, name)
            else:
                setattr(dialect, name, before)

    def _wrap(self, original: Callable[..., Any], *, with_parameters: bool) -> Callable[..., Any]:
        account, fail = self._account, self._fail

        def do_execute(cursor: Any, statement: str, parameters: Any, context: Any = None) -> Any:
            if context is None or not self.active:
                return original(cursor, statement, parameters, context)
            started = perf_counter()
            try:
                result = original(cursor, statement, parameters, context)
            except BaseException as error:
                fail(cursor, statement, parameters, context, perf_counter() - started, error)
                raise
            account(cursor, statement, parameters, context, perf_counter() - started)
            return result

        def do_execute_no_params(cursor: Any, statement: str, context: Any = None) -> Any:
            if context is None or not self.active:
                return original(cursor, statement, context)
            started = perf_counter()
            try:
                result = original(cursor, statement, context)
            except BaseException as error:
                fail(cursor, statement, (), context, perf_counter() - started, error)
                raise
            account(cursor, statement, (), context, perf_counter() - started)
            return result

        return do_execute if with_parameters else do_execute_no_params

    def _listeners(self) -> dict[str, Callable[..., Any]]:
        return {
            "before_cursor_execute": self._before_cursor_execute,
            "after_cursor_execute": self._after_cursor_execute,
            "handle_error": self._handle_error,
        }

    def _before_cursor_execute(self, _c: Any, _cursor: Any, _s: str, _p: Any, context: Any, _many: bool) -> None:  # noqa: FBT001 - SQLAlchemy's signature
        if context is not None:
            context._querywatch_started = perf_counter()  # noqa: SLF001 - an attribute of ours

    def _after_cursor_execute(
        self, _c: Any, cursor: Any, statement: str, parameters: Any, context: Any, _many: bool  # noqa: FBT001 - SQLAlchemy's signature
    ) -> None:
        started = getattr(context, "_querywatch_started", None)
        if started is not None and self.active:
            context._querywatch_started = None  # noqa: SLF001
            self._account(cursor, statement, parameters, context, perf_counter() - started)

    def _handle_error(self, error: Any) -> None:
        context = error.execution_context
        started = getattr(context, "_querywatch_started", None)
        if started is not None and self.active:
            context._querywatch_started = None  # noqa: SLF001
            exception = error.original_exception
            self._fail(context.cursor, error.statement, error.parameters, context, perf_counter() - started, exception)

    # -- the hot path

    def _build_account(self) -> Callable[[Any, str, Any, Any, float], None]:
        """Build the function that counts one execution. It runs once for each query of the application.

        A closure, because its names are looked up faster than attributes of self.
        """
        number, slow_s = self.number, self.slow_s
        fetches_lazily, knows_rowcount = self._fetches_lazily, self._knows_rowcount
        get_scope = current_scope.get
        find_checkout_scope, find_samples, look = self._find_checkout_scope, self._find_samples, self._look
        on_error = self._on_error

        def account(cursor: Any, statement: str, parameters: Any, context: Any, elapsed: float) -> None:
            try:
                scope = get_scope()
                if scope is None or scope.closed:
                    scope = find_checkout_scope(context)
                compiled = context.compiled
                if compiled is None:
                    key = statement
                elif statement is context.statement:
                    key = compiled.string
                else:
                    key = _key_of_rewritten(statement, context)
                try:
                    samples = scope.slots[number][key]
                except KeyError:
                    samples = find_samples(scope, key, statement, parameters, context)
                samples.append(elapsed)
                if elapsed >= slow_s or len(samples) >= samples.next_look:
                    look(scope, samples, statement, parameters, context, elapsed)
                if fetches_lazily or context._is_server_side:
                    time_fetches(context, cursor, samples)
                elif knows_rowcount:
                    samples.rows.append(cursor.rowcount)
            except Exception as error:  # noqa: BLE001 - the query has succeeded: no bug of ours may make it fail
                on_error("capture", error)

        return account

    def _fail(
        self, cursor: Any, statement: str, parameters: Any, context: Any, elapsed: float, error: BaseException
    ) -> None:
        """Count one execution that raised."""
        try:
            scope = current_scope.get()
            if scope is None or scope.closed:
                scope = self._find_checkout_scope(context)
            key = statement if context.compiled is None else context.compiled.string
            slots = scope.slots.get(self.number)
            samples = slots.get(key) if slots else None
            if samples is None:
                samples = self._find_samples(scope, key, statement, parameters, context)
            samples.append(elapsed)
            self._take_failure(samples, statement, parameters, context, elapsed, error)
        except Exception as own_error:  # noqa: BLE001 - the application must see its own exception, not ours
            self._on_error("capture", own_error)

    # -- now and then

    def _find_samples(
        self, scope: OpenScope, key: str, statement: str, parameters: Any, context: Any
    ) -> Samples:
        """Return the samples of a text that this scope has not seen: those of its shape, or new ones."""
        self.monitor.start()
        slots = scope.slots.setdefault(self.number, {})
        shape = self._shapes.get(key) or self._find_shape(key, statement)
        samples = slots.get(shape)
        if samples is None:
            if len(slots) >= _TEXTS_LIMIT:
                self._evict_all(scope, slots)
            kept = None if context.executemany else parameters
            samples = slots.setdefault(shape, Samples(self, shape, statement, kept))
        if len(slots) < _TEXTS_LIMIT and len(key) < _KEPT_TEXT_LENGTH:
            slots[key] = samples
        return samples

    def _find_shape(self, key: str, statement: str) -> str:
        shape = self._older_shapes.get(key)
        if shape is None:
            shape = take_shape(statement, self.database.dialect)
        if len(key) < _KEPT_TEXT_LENGTH:
            if len(self._shapes) >= _SHAPES_LIMIT:
                self._older_shapes, self._shapes = self._shapes, {}
            self._shapes[key] = shape
        return shape

    def _evict_all(self, scope: OpenScope, slots: dict[str, Samples]) -> None:
        scope.evicted.extend({id(samples): samples for samples in list(slots.values())}.values())
        slots.clear()

    def _look(
        self, scope: OpenScope, samples: Samples, statement: str, parameters: Any, context: Any, elapsed: float
    ) -> None:
        """Look closely at an execution: who asked, with the same parameters, in a new execution context?"""
        seen = len(samples)
        if seen >= samples.next_look:
            self._note_asker(samples, parameters, context, seen)
            samples.next_look = seen + 1 if seen < _LOOK_AT_EACH else min(seen + seen // 4, SAMPLES_LIMIT)
            if seen >= SAMPLES_LIMIT:
                self._evict(scope, samples)
        if elapsed >= self.slow_s:
            self._note_occurrence(samples, statement, parameters, context, elapsed, None)

    def _note_asker(self, samples: Samples, parameters: Any, context: Any, seen: int) -> None:
        weight = seen - samples.inspected
        samples.inspected = seen
        if getattr(context, "_querywatch_seen", False):
            # One act of the application (a flush, insertmanyvalues) that the driver is given in pieces.
            samples.askers[samples.last_asker][0] += weight
            return
        context._querywatch_seen = True  # noqa: SLF001 - an attribute of ours; an id() would be used again
        if seen == 1:
            samples.select_entity = read_select_entity(context)
            asker = _find_asker(context) if samples.select_entity is not None else NOBODY
        else:
            asker = _find_asker(context)
            if samples.same_parameters is not False:
                samples.same_parameters = _is_same(parameters, samples.parameters)
            samples.looked_at = time.time()
            if samples.repeated_at is None:
                # A statement that repeats may become a burst, which gets a span.
                samples.repeated_at = samples.looked_at
                samples.trace = current_context()
        counts = samples.askers.get(asker)
        if counts is None:
            samples.askers[asker] = [weight, weight]
        else:
            counts[0] += weight
            counts[1] += weight
        samples.last_asker = asker

    def _evict(self, scope: OpenScope, samples: Samples) -> None:
        slots = scope.slots[self.number]
        for key in [key for key, value in list(slots.items()) if value is samples]:
            slots.pop(key, None)
        scope.evicted.append(samples)

    def _note_occurrence(
        self, samples: Samples, statement: str, parameters: Any, context: Any, elapsed: float, failure: Failure | None
    ) -> None:
        if len(samples.occurrences) >= _OCCURRENCES_LIMIT:
            return
        batch = context.executemany
        operation, collection = read_operation(context)
        samples.occurrences.append(
            Occurrence(
                ended_at=time.time(),
                elapsed_s=elapsed,
                statement=statement,
                parameters=None if batch else parameters,
                failure=failure,
                asker=_find_asker(context),
                trace=current_context(),
                batch_size=len(parameters) if batch else None,
                operation=operation,
                collection=collection,
            )
        )

    def _take_failure(
        self, samples: Samples, statement: str, parameters: Any, context: Any, elapsed: float, error: BaseException
    ) -> None:
        failure = Failure(type(error).__name__, _find_sqlstate(error))
        samples.failures.append(failure)
        self._note_occurrence(samples, statement, parameters, context, elapsed, failure)

    def take_slow_fetch(self, samples: Samples, context: Any, elapsed: float) -> None:
        """Note an execution that its fetches made slow."""
        try:
            parameters = context.parameters[0] if context.parameters else ()
            self._note_occurrence(samples, context.statement, parameters, context, elapsed, None)
        except Exception as error:  # noqa: BLE001 - the application's rows are there
            self._on_error("capture", error)

    def take_failed_fetch(self, samples: Samples, context: Any, error: BaseException) -> None:
        """Count a fetch that raised."""
        try:
            parameters = context.parameters[0] if context.parameters else ()
            self._take_failure(samples, context.statement, parameters, context, samples[-1], error)
        except Exception as own_error:  # noqa: BLE001 - the application must see its own exception
            self._on_error("capture", own_error)

    # -- scopes of those who opened none

    def _find_checkout_scope(self, context: Any) -> OpenScope:
        """Return the scope of the connection's checkout, begun with its first statement."""
        info = context.root_connection.info
        scope: OpenScope | None = info.get(_INFO_KEY)
        if scope is None or scope.closed:
            scope = info[_INFO_KEY] = begin_scope(None, "checkout")
        return scope

    def _take_checkin(self, _dbapi_connection: Any, connection_record: Any) -> None:
        try:
            scope = connection_record.info.pop(_INFO_KEY, None)
            if scope is not None:
                end_scope(scope)
        except Exception as error:  # noqa: BLE001 - the pool must get its connection back
            self._on_error("capture", error)


def find_capture(engine: Engine) -> EngineCapture | None:
    """Return what counts the statements of *engine*, None if nothing does.

    Args:
        engine: A sync engine, or a copy of one made by `execution_options()`, which shares its dialect.
    """
    # On the dialect, not in a table of ours: the two are let go together.
    return vars(engine.dialect).get(_CAPTURE_KEY)


def _find_asker(context: Any) -> Asker:
    code, line = find_caller()
    return Asker(code, line, *read_load_mark(context))


def _key_of_rewritten(statement: str, context: Any) -> str:
    """Choose the key where the text sent is not the compiled one."""
    # insertmanyvalues sends a text for each batch size; they are one statement. Anything else sent with the context of
    # another statement (a sequence that runs first), or rewritten by a listener, stands for itself.
    string: str = context.compiled.string
    if context.execute_style is ExecuteStyle.INSERTMANYVALUES and statement[:6] == string[:6]:
        return string
    return statement


def _is_same(parameters: Any, first: Any) -> bool:
    try:
        return len(parameters) <= _COMPARED_PARAMETERS and bool(parameters == first)
    except Exception:  # noqa: BLE001 - an application's value may compare as it likes
        return False


def _find_sqlstate(error: BaseException) -> str | None:
    for name in ("sqlstate", "pgcode"):
        state = getattr(error, name, None)
        if isinstance(state, str):
            return state
    return None
