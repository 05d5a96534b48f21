"""Time and rows of a fetch, where the driver works while fetching (SQLite, server-side cursors).

In:  SQLAlchemy's fetch strategies.
Out: the sample of the execution grows by the time of its fetches.

A strategy of our own stands in only for the default one; what it returns and raises is what SQLAlchemy's returns and
raises, because it calls it. `TimedFetch` is on the hot path of every query on SQLite: it calls SQLAlchemy's functions
by name and adds in place, where `TimedBufferedFetch` can afford methods.
"""

from __future__ import annotations

from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn

from sqlalchemy.engine.cursor import BufferedRowCursorFetchStrategy, CursorFetchStrategy
from sqlalchemy.engine.default import DefaultExecutionContext

if TYPE_CHECKING:
    from querywatch.samples import Samples

_DEFAULT_FETCH = DefaultExecutionContext.cursor_fetch_strategy

_fetchone = CursorFetchStrategy.fetchone
_fetchmany = CursorFetchStrategy.fetchmany
_fetchall = CursorFetchStrategy.fetchall
_handle_exception = CursorFetchStrategy.handle_exception


def time_fetches(context: Any, cursor: Any, samples: Samples) -> None:
    """Let the fetches of this execution add to its sample, which is the last one of *samples*.

    Args:
        context: SQLAlchemy's execution context, its statement just executed.
        cursor: The driver's cursor.
        samples: Where the execution was counted.
    """
    if cursor.description is None:
        samples.rows.append(cursor.rowcount)
    elif context.cursor_fetch_strategy is _DEFAULT_FETCH:
        if context._is_server_side:  # noqa: SLF001 - where SQLAlchemy looks to choose the buffered strategy
            context.cursor_fetch_strategy = TimedBufferedFetch(context, cursor, samples)
        else:
            # On the context, so that one strategy serves all: making an object for each query would cost more.
            context._querywatch_samples = samples  # noqa: SLF001 - an attribute of ours
            context._querywatch_index = len(samples) - 1  # noqa: SLF001
            context.cursor_fetch_strategy = _TIMED_FETCH


def add_fetch_time(samples: Samples, index: int, elapsed: float, context: Any) -> None:
    """Add the time of a fetch to the sample of its execution.

    Args:
        samples: Where the execution was counted.
        index: Which sample it is.
        elapsed: Seconds.
        context: SQLAlchemy's execution context.
    """
    if index < samples.folded.samples:
        # The background has read the sample already; the time still counts in the total.
        samples.late.append(elapsed)
        return
    before = samples[index]
    samples[index] = total = before + elapsed
    if before < samples.source.slow_s <= total:
        samples.source.take_slow_fetch(samples, context, total)


class TimedFetch(CursorFetchStrategy):
    """SQLAlchemy's default strategy, timed. Like that one it holds nothing: what it needs is on the context."""

    __slots__ = ()

    def fetchone(self, result: Any, dbapi_cursor: Any, hard_close: bool = False) -> Any:  # noqa: FBT001, FBT002 - SQLAlchemy's signature
        started = perf_counter()
        row = _fetchone(self, result, dbapi_cursor, hard_close)
        context = result.context
        add_fetch_time(context._querywatch_samples, context._querywatch_index, perf_counter() - started, context)
        if row is not None:
            _count_row(context)
        return row

    def fetchmany(self, result: Any, dbapi_cursor: Any, size: int | None = None) -> Any:
        started = perf_counter()
        rows = _fetchmany(self, result, dbapi_cursor, size)
        context = result.context
        samples = context._querywatch_samples
        add_fetch_time(samples, context._querywatch_index, perf_counter() - started, context)
        samples.rows.append(len(rows))
        return rows

    def fetchall(self, result: Any, dbapi_cursor: Any) -> Any:
        started = perf_counter()
        rows = _fetchall(self, result, dbapi_cursor)
        elapsed = perf_counter() - started
        context = result.context
        samples, index = context._querywatch_samples, context._querywatch_index
        samples.rows.append(len(rows))
        before = samples[index]
        # `add_fetch_time` in place: nearly every query on SQLite ends here.
        if index >= samples.folded.samples and before + elapsed < samples.source.slow_s:
            samples[index] = before + elapsed
        else:
            add_fetch_time(samples, index, elapsed, context)
        return rows

    def yield_per(self, result: Any, dbapi_cursor: Any, num: int) -> None:
        context = result.context
        samples, index = context._querywatch_samples, context._querywatch_index
        result.cursor_strategy = TimedBufferedFetch.take_over(samples, index, dbapi_cursor, num)

    def handle_exception(self, result: Any, dbapi_cursor: Any, err: BaseException) -> NoReturn:
        samples = result.context._querywatch_samples
        samples.source.take_failed_fetch(samples, result.context, err)
        _handle_exception(self, result, dbapi_cursor, err)


_TIMED_FETCH = TimedFetch()


def _count_row(context: Any) -> None:
    """Count one row, in one number for all rows of the result, unless the background has read that number."""
    samples = context._querywatch_samples
    rows, index = samples.rows, getattr(context, "_querywatch_rows_index", -1)
    if index >= samples.folded.rows:
        rows[index] += 1
    else:
        context._querywatch_rows_index = len(rows)
        rows.append(1)


class TimedBufferedFetch(BufferedRowCursorFetchStrategy):
    """SQLAlchemy's strategy for server-side cursors, timed.

    Args:
        context: SQLAlchemy's execution context.
        cursor: The driver's cursor.
        samples: Its last sample is the execution's.
    """

    __slots__ = ("_index", "_rows", "_samples")

    def __init__(self, context: Any, cursor: Any, samples: Samples) -> None:
        self._samples = samples
        self._index = len(samples) - 1
        self._rows = 0
        started = perf_counter()
        # Fetches the first row; where that fails, SQLAlchemy's own call would have failed just so, and in the same try.
        super().__init__(cursor, context.execution_options)
        add_fetch_time(samples, self._index, perf_counter() - started, context)

    @classmethod
    def take_over(cls, samples: Samples, index: int, dbapi_cursor: Any, num: int) -> TimedBufferedFetch:
        """Return what `yield_per` puts in the place of a `TimedFetch`: an empty buffer of *num* rows."""
        self = cls.__new__(cls)
        self._samples, self._index, self._rows = samples, index, 0
        BufferedRowCursorFetchStrategy.__init__(
            self, dbapi_cursor, {"max_row_buffer": num}, growth_factor=0, initial_buffer=deque()
        )
        return self

    def fetchone(self, result: Any, dbapi_cursor: Any, hard_close: bool = False) -> Any:  # noqa: FBT001, FBT002 - SQLAlchemy's signature
        started = perf_counter()
        row = super().fetchone(result, dbapi_cursor, hard_close)
        if row is not None:
            self._rows += 1
        add_fetch_time(self._samples, self._index, perf_counter() - started, result.context)
        return row

    def fetchmany(self, result: Any, dbapi_cursor: Any, size: int | None = None) -> Any:
        started = perf_counter()
        rows = super().fetchmany(result, dbapi_cursor, size)
        # size=None is fetchall to SQLAlchemy, which has counted the rows then.
        if size is not None:
            self._samples.rows.append(len(rows))
            add_fetch_time(self._samples, self._index, perf_counter() - started, result.context)
        return rows

    def fetchall(self, result: Any, dbapi_cursor: Any) -> Any:
        started = perf_counter()
        rows = super().fetchall(result, dbapi_cursor)
        self._samples.rows.append(len(rows))
        add_fetch_time(self._samples, self._index, perf_counter() - started, result.context)
        return rows

    def soft_close(self, result: Any, dbapi_cursor: Any) -> None:
        if self._rows:
            self._samples.rows.append(self._rows)
            self._rows = 0
        super().soft_close(result, dbapi_cursor)

    def hard_close(self, result: Any, dbapi_cursor: Any) -> None:
        if self._rows:
            self._samples.rows.append(self._rows)
            self._rows = 0
        super().hard_close(result, dbapi_cursor)

    def handle_exception(self, result: Any, dbapi_cursor: Any, err: BaseException) -> NoReturn:
        self._samples.source.take_failed_fetch(self._samples, result.context, err)
        super().handle_exception(result, dbapi_cursor, err)
