"""One execution -> one sample; now and then a closer look.

In:  what the driver was given, and how long it took.
Out: `samples.Samples` in the scope that the execution belongs to.

`account` runs once for each query of the application and does as little as can be: find the list, append. Everything
else waits for the first execution of a statement in a scope, for some of the repetitions, and for what was slow or
failed. An error of ours is counted and goes no further: the application's query has succeeded, or has an error of its
own to show.
"""

from __future__ import annotations

import itertools
import time
import weakref
from time import perf_counter
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine.interfaces import ExecuteStyle

from querywatch.capture.database import describe_database
from querywatch.capture.execution import Execution
from querywatch.capture.fetch import DEFAULT_FETCH, TimedFetch, time_streamed_fetches
from querywatch.capture.idle import note_idle, note_running
from querywatch.capture.inspection import find_asker, inspect_execution
from querywatch.capture.orm import read_load_mark
from querywatch.capture.parameters import keep_plain
from querywatch.capture.pool import find_checkout_scope
from querywatch.dialects import find_dialect
from querywatch.samples import (
    SAMPLES_LIMIT,
    Failure,
    Occurrence,
    OpenScope,
    Samples,
    current_scope,
)
from querywatch.shape import take_shape
from querywatch.tracing import current_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

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


_numbers = itertools.count(1)


class Accounting:
    """The samples of one engine (of its dialect, so of its `execution_options` copies too).

    Args:
        engine: A sync engine; kept by weak reference.
        monitor: Who takes the scopes.
        slow_s: Seconds from which an execution is slow.
        long_s: Seconds from which connections that are held are idle for long.
        on_error: Called with the stage and an exception of our own; must not raise.
    """

    def __init__(
        self, engine: Engine, monitor: Sink, slow_s: float, long_s: float, on_error: Callable[[str, Exception], None]
    ) -> None:
        self.number = next(_numbers)
        self.monitor = monitor
        self.database = describe_database(engine)
        self.slow_s = slow_s
        self.long_s = long_s
        self._engine = weakref.ref(engine)
        self._on_error = on_error
        self._shapes: dict[str, str] = {}
        self._older_shapes: dict[str, str] = {}
        module = find_dialect(engine.dialect.name)
        self.account = self._build_account(
            fetches_lazily=module is not None and module.fetches_lazily(engine.dialect),
            count_rows=module.find_row_counter(engine.dialect) if module is not None else None,
        )

    @property
    def engine(self) -> Engine | None:
        """The engine, None once the application let it go."""
        return self._engine()

    # -- once for each query

    def _build_account(  # noqa: C901 - see `account`
        self, *, fetches_lazily: bool, count_rows: Callable[[Any], int] | None
    ) -> Callable[[Any, str, Any, Any, float, float], None]:
        """Build the function that counts one execution: a closure, whose names are found faster than attributes."""
        number, long_s, look_s = self.number, self.long_s, min(self.slow_s, self.long_s)
        get_scope, find_samples, look, on_error = current_scope.get, self._find_samples, self._look, self._on_error
        account_early = self._account_early

        def account(  # noqa: C901, PLR0912, PLR0913, PLR0917 - one place, because a call costs as much as five of these lines
            cursor: Any, statement: str, parameters: Any, context: Any, started: float, elapsed: float
        ) -> None:
            try:
                scope = get_scope()
                if scope is None or scope.closed:
                    scope = find_checkout_scope(context)
                compiled = context.compiled
                try:
                    if compiled is None:
                        key = statement
                    elif statement is context.statement:
                        key = compiled.string
                    else:
                        key = _choose_key(statement, context)
                except AttributeError:
                    account_early(scope, Execution(statement, parameters, context, elapsed))
                    return
                try:
                    samples = scope.slots[number][key]
                except KeyError:
                    samples = find_samples(scope, key, statement, parameters, context)
                index = len(samples)
                if started - scope.last_started >= long_s:
                    note_idle(scope, started, long_s, samples)
                scope.last_started = started
                scope.last_samples = samples
                samples.append(elapsed)
                if elapsed >= look_s or index >= samples.next_look:
                    look(scope, samples, Execution(statement, parameters, context, elapsed))
                if not context._is_server_side:
                    if not fetches_lazily:
                        if count_rows is not None:
                            samples.rows.append(count_rows(cursor))
                        return
                    if cursor.description is None:
                        samples.rows.append(cursor.rowcount)
                        return
                    if "stream_results" not in context.execution_options:
                        if context.cursor_fetch_strategy is DEFAULT_FETCH:
                            # Taken from the samples and given back when the rows are fetched: making an object for each
                            # query, or keeping its place on SQLAlchemy's context, costs more than all the rest.
                            fetch = samples.fetch or TimedFetch(samples)
                            samples.fetch = None
                            fetch.index = index
                            context.cursor_fetch_strategy = fetch
                        return
            except Exception as error:  # noqa: BLE001 - see the module's docstring
                on_error("capture", error)
                return
            # Out of the guard: it fetches the first row in SQLAlchemy's place, whose error is the application's.
            time_streamed_fetches(context, cursor, samples, index)

        return account

    def _account_early(self, scope: OpenScope, execution: Execution) -> None:
        """Count a default or sequence that runs before its INSERT has a text; SQLAlchemy fetches its row by itself."""
        samples = self._find_samples(scope, execution.statement, *execution[:3])
        self._note_start(scope, samples, execution.elapsed_s)
        samples.append(execution.elapsed_s)
        self._look(scope, samples, execution)

    def _note_start(self, scope: OpenScope, samples: Samples, elapsed: float) -> None:
        """Note when an execution began that is not counted by `account`."""
        started = perf_counter() - elapsed
        note_idle(scope, started, self.long_s, samples)
        scope.last_started, scope.last_samples = started, samples

    # -- what failed

    def account_failure(self, execution: Execution, error: BaseException) -> None:
        """Count one execution that raised."""
        try:
            scope = current_scope.get()
            if scope is None or scope.closed:
                scope = find_checkout_scope(execution.context)
            key = _choose_key(execution.statement, execution.context)
            samples = self._find_samples(scope, key, *execution[:3])
            self._note_start(scope, samples, execution.elapsed_s)
            samples.append(execution.elapsed_s)
            self._note_failure(samples, execution, error)
            if len(samples) >= SAMPLES_LIMIT:
                self._evict(scope, samples)
        except Exception as own_error:  # noqa: BLE001 - see the module's docstring
            self._on_error("capture", own_error)

    def note_error(self, error: Exception) -> None:
        """Count an error of our own."""
        self._on_error("capture", error)

    def take_slow_fetch(self, samples: Samples, context: Any, elapsed: float) -> None:
        """Note an execution that its fetches made slow."""
        try:
            self._note_occurrence(samples, _rebuild_execution(context, elapsed), None)
        except Exception as error:  # noqa: BLE001 - see the module's docstring
            self._on_error("capture", error)

    def take_failed_fetch(self, samples: Samples, context: Any, error: BaseException) -> None:
        """Count a fetch that raised."""
        try:
            # A list as long as its limit may have been emptied by the background since.
            self._note_failure(samples, _rebuild_execution(context, samples[-1] if samples else 0.0), error)
        except Exception as own_error:  # noqa: BLE001 - see the module's docstring
            self._on_error("capture", own_error)

    def _note_failure(self, samples: Samples, execution: Execution, error: BaseException) -> None:
        failure = Failure(type(error).__name__, _find_sqlstate(error))
        samples.failures.append(failure)
        self._note_occurrence(samples, execution, failure)

    def _note_occurrence(self, samples: Samples, execution: Execution, failure: Failure | None) -> None:
        if len(samples.occurrences) >= _OCCURRENCES_LIMIT:
            return
        context = execution.context
        samples.occurrences.append(
            Occurrence(
                ended_at=time.time(),
                elapsed_s=execution.elapsed_s,
                statement=execution.statement,
                parameters=None if context.executemany else keep_plain(execution.parameters),
                failure=failure,
                asker=find_asker(read_load_mark(context)),
                trace=current_context(),
                batch_size=len(execution.parameters) if context.executemany else None,
                compiled=context.compiled,
            )
        )

    # -- the first execution of a statement in a scope

    def _find_samples(self, scope: OpenScope, key: str, statement: str, parameters: Any, context: Any) -> Samples:
        """Return the samples of a text that this scope has not seen: those of its shape, or new ones."""
        self.monitor.start()
        slots = scope.slots.setdefault(self.number, {})
        shape = self._shapes.get(key) or self._find_shape(key, statement)
        samples = slots.get(shape)
        if samples is None:
            if len(slots) >= _TEXTS_LIMIT:
                scope.evicted.extend({id(each): each for each in list(slots.values())}.values())
                slots.clear()
            kept = None if context.executemany else keep_plain(parameters)
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

    # -- a closer look

    def _look(self, scope: OpenScope, samples: Samples, execution: Execution) -> None:
        """Look closely at an execution: who asked, with the same parameters, in a new execution context?"""
        seen = len(samples)
        if seen > samples.next_look:
            inspect_execution(scope, samples, execution)
            # Of the execution after this one, or of one ever farther away.
            samples.next_look = seen if seen < _LOOK_AT_EACH else min(seen + seen // 4, SAMPLES_LIMIT) - 1
            if seen >= SAMPLES_LIMIT:
                self._evict(scope, samples)
        if execution.elapsed_s >= self.slow_s:
            self._note_occurrence(samples, execution, None)
        if scope.holding is not None and scope.holding.idle:
            note_running(scope.holding, execution.elapsed_s)

    def _evict(self, scope: OpenScope, samples: Samples) -> None:
        """Give the slots of full samples to new ones."""
        slots = scope.slots[self.number]
        for key in [key for key, value in list(slots.items()) if value is samples]:
            slots.pop(key, None)
        scope.evicted.append(samples)


def _choose_key(statement: str, context: Any) -> str:
    """Choose the text that stands for a statement, also where the text sent is not the compiled one."""
    if context.compiled is None:
        return statement
    string: str = context.compiled.string
    # insertmanyvalues sends a text for each batch size; they are one statement. Anything else sent with the context of
    # another statement (a sequence that runs first), or rewritten by a listener, stands for itself.
    batch = context.execute_style is ExecuteStyle.INSERTMANYVALUES and statement[:6] == string[:6]
    return string if batch or statement is getattr(context, "statement", None) else statement


def _rebuild_execution(context: Any, elapsed: float) -> Execution:
    parameters = context.parameters[0] if context.parameters else ()
    return Execution(context.statement, parameters, context, elapsed)


def _find_sqlstate(error: BaseException) -> str | None:
    for name in ("sqlstate", "pgcode"):
        state = getattr(error, name, None)
        if isinstance(state, str):
            return state
    return None
