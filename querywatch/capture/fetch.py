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

#: SQLAlchemy's default strategy, the only one that ours stands in for.
DEFAULT_FETCH = DefaultExecutionContext.cursor_fetch_strategy

_fetchone = CursorFetchStrategy.fetchone
_fetchmany = CursorFetchStrategy.fetchmany
_handle_exception = CursorFetchStrategy.handle_exception


def time_streamed_fetches(context: Any, cursor: Any, samples: Samples, index: int) -> None:
    """Let the fetches of a result that is streamed, or was asked to be, add to the sample of its execution.

    Args:
        context: SQLAlchemy's execution context, its statement just executed.
        cursor: The driver's cursor.
        samples: Where the execution was counted.
        index: Which sample it is.

    Raises:
        BaseException: What the driver raised for the first row; it is the application's.
    """
    if context.cursor_fetch_strategy is not DEFAULT_FETCH or cursor.description is None:
        return
    # Where SQLAlchemy itself would buffer: without a server-side cursor, `stream_results` says nothing to a text.
    asked = context.execution_options.get("stream_results") and not (context.is_crud or context.is_text)
    if context._is_server_side or asked:
        context.cursor_fetch_strategy = TimedBufferedFetch(context, cursor, samples, index)
    else:
        context.cursor_fetch_strategy = fetch = TimedFetch(samples)
        fetch.index = index


def add_fetch_time(samples: Samples, index: int, elapsed: float, context: Any) -> None:
    """Add the time of a fetch to the sample of its execution. Raises nothing: the application has its rows.

    Args:
        samples: Where the execution was counted.
        index: Which sample it is.
        elapsed: Seconds.
        context: SQLAlchemy's execution context.
    """
    try:
        try:
            if index < samples.folded.samples or samples.folded.released:
                before, total = _add_late(samples, index, elapsed, context)
            else:
                before = samples[index]
                samples[index] = total = before + elapsed
        except IndexError:
            # The background let go of a full list within these lines.
            before, total = _add_late(samples, index, elapsed, context)
        if before < samples.source.slow_s <= total:
            samples.source.take_slow_fetch(samples, context, total)
    except Exception as error:  # noqa: BLE001 - see above
        samples.source.note_error(error)


def _add_late(samples: Samples, index: int, elapsed: float, context: Any) -> tuple[float, float]:
    """Leave the time to the background, which has read the sample already: a slow fetch outlasts a pass.

    Returns:
        Seconds of the execution before this fetch and after it.
    """
    before = getattr(context, "_querywatch_late_s", None)  # an attribute of ours
    if before is None:
        position = index - samples.folded.released
        before = samples[position] if 0 <= position < len(samples) else 0.0
    context._querywatch_late_s = before + elapsed
    samples.late.append((index, elapsed))
    return before, before + elapsed


def _count_row(samples: Samples, index: int) -> int:
    """Count one row, in one number for all rows of a result unless the background has read that number.

    Args:
        samples: Where the execution was counted.
        index: Where in their rows that number is, -1 before the first row.

    Returns:
        Where it is now.
    """
    rows = samples.rows
    # Past the end: the background has put the rows of several samples into one list.
    if samples.folded.rows <= index < len(rows):
        rows[index] += 1
        return index
    rows.append(1)
    return len(rows) - 1


class TimedFetch(CursorFetchStrategy):
    """SQLAlchemy's default strategy, timed.

    Args:
        samples: Where the execution was counted. Its place in them is set for each execution.
    """

    __slots__ = ("index", "rows_index", "samples")

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self.index = 0
        #: Where in `samples.rows` the rows that come one by one are counted, -1 before the first.
        self.rows_index = -1

    def fetchone(self, result: Any, dbapi_cursor: Any, hard_close: bool = False) -> Any:
        started = perf_counter()
        row = _fetchone(self, result, dbapi_cursor, hard_close)
        add_fetch_time(self.samples, self.index, perf_counter() - started, result.context)
        if row is not None:
            self.rows_index = _count_row(self.samples, self.rows_index)
        return row

    def fetchmany(self, result: Any, dbapi_cursor: Any, size: int | None = None) -> Any:
        started = perf_counter()
        rows = _fetchmany(self, result, dbapi_cursor, size)
        self.samples.rows.append(len(rows))
        add_fetch_time(self.samples, self.index, perf_counter() - started, result.context)
        return rows

    def fetchall(self, result: Any, dbapi_cursor: Any) -> Any:
        # SQLAlchemy's three lines and not a call of them, as everything here: nearly every query on SQLite ends here.
        started = perf_counter()
        try:
            rows = dbapi_cursor.fetchall()
            result._soft_close()
        except BaseException as error:  # noqa: BLE001 - handled by SQLAlchemy, which raises
            self.handle_exception(result, dbapi_cursor, error)
        elapsed = perf_counter() - started
        samples, index = self.samples, self.index
        samples.rows.append(len(rows))
        try:
            if index >= samples.folded.samples and (total := samples[index] + elapsed) < samples.source.slow_s:
                samples[index] = total
            else:
                add_fetch_time(samples, index, elapsed, result.context)
        except IndexError:
            add_fetch_time(samples, index, elapsed, result.context)
        self.rows_index = -1
        samples.fetch = self
        return rows

    def yield_per(self, result: Any, dbapi_cursor: Any, num: int) -> None:
        result.cursor_strategy = TimedBufferedFetch.take_over(self.samples, self.index, dbapi_cursor, num)

    def handle_exception(self, result: Any, dbapi_cursor: Any, err: BaseException) -> NoReturn:
        self.samples.source.take_failed_fetch(self.samples, result.context, err)
        _handle_exception(self, result, dbapi_cursor, err)


class TimedBufferedFetch(BufferedRowCursorFetchStrategy):
    """SQLAlchemy's strategy for server-side cursors, timed.

    Args:
        context: SQLAlchemy's execution context.
        cursor: The driver's cursor.
        samples: Where the execution was counted.
        index: Which sample it is.
    """

    __slots__ = ("_index", "_rows_index", "_samples")

    def __init__(self, context: Any, cursor: Any, samples: Samples, index: int) -> None:
        self._samples = samples
        self._index = index
        self._rows_index = -1
        started = perf_counter()
        # Fetches the first row; where that fails, SQLAlchemy's own call would have failed just so, and in the same try.
        try:
            super().__init__(cursor, context.execution_options)
        except BaseException as error:
            samples.source.take_failed_fetch(samples, context, error)
            raise
        add_fetch_time(samples, self._index, perf_counter() - started, context)
        samples.streams += 1

    @classmethod
    def take_over(cls, samples: Samples, index: int, dbapi_cursor: Any, num: int) -> TimedBufferedFetch:
        """Return what `yield_per` puts in the place of a `TimedFetch`: an empty buffer of *num* rows."""
        self = cls.__new__(cls)
        self._samples, self._index, self._rows_index = samples, index, -1
        samples.streams += 1
        samples.streamed = True
        BufferedRowCursorFetchStrategy.__init__(
            self, dbapi_cursor, {"max_row_buffer": num}, growth_factor=0, initial_buffer=deque()
        )
        return self

    def fetchone(self, result: Any, dbapi_cursor: Any, hard_close: bool = False) -> Any:
        started = perf_counter()
        row = super().fetchone(result, dbapi_cursor, hard_close)
        if row is not None:
            self._rows_index = _count_row(self._samples, self._rows_index)
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
        self._note_end()
        super().soft_close(result, dbapi_cursor)

    def hard_close(self, result: Any, dbapi_cursor: Any) -> None:
        self._note_end()
        super().hard_close(result, dbapi_cursor)

    def _note_end(self) -> None:
        self._samples.streams -= 1
        self._samples.stream_ended = perf_counter()

    def handle_exception(self, result: Any, dbapi_cursor: Any, err: BaseException) -> NoReturn:
        self._samples.source.take_failed_fetch(self._samples, result.context, err)
        super().handle_exception(result, dbapi_cursor, err)
