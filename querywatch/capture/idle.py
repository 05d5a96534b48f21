"""How long a scope held connections while no statement ran.

In:  moments at which something happens in a scope: a statement, the end of a transaction, a check-in.
Out: `holding.IdleTime` in the scope.

What is called here is called rarely: the hot path compares the start of a statement with the start of the one before
it, and only where that is long ago it is asked whether that time was idle. So the time of the statement before, and of
its fetches, is taken off here, from its sample.
"""

from __future__ import annotations

import math
from time import perf_counter
from typing import TYPE_CHECKING

from querywatch.callsite import find_caller
from querywatch.holding import IdleTime
from querywatch.samples import NOBODY

if TYPE_CHECKING:
    from querywatch.holding import Holding
    from querywatch.samples import OpenScope, Samples

# Rows are made into objects after the driver gave them, and that is reading too. Ten times what most objects take.
_ROW_S = 50e-6


def note_idle(scope: OpenScope, until: float, limit_s: float, samples: Samples | None = None) -> None:
    """Keep the time since the last statement of *scope*, if connections were held and it was idle for long enough.

    Args:
        scope: Open.
        until: When something happened again, by `perf_counter`.
        limit_s: `long_transaction_s`.
        samples: Of the statement that began then, None for a commit, a rollback or a check-in.
    """
    holding = scope.holding
    if holding is None or holding.held <= 0 or until - scope.last_started < limit_s:
        return
    started, last = scope.find_latest()
    if last is None and samples is None:
        return  # taken for what SQLAlchemy does not see, such as a cursor of the driver's own
    in_transaction = last is not None and started > holding.ended
    if not in_transaction and (scope.kind == "checkout" or (last is not None and len(last) > 1)):
        return  # a worker that keeps its connection, and commits before it waits for work
    since = started
    reading_s = 0.0
    if last is not None and in_transaction:
        elapsed = _find_elapsed(last)
        if elapsed is None:
            return
        since = max(since + elapsed, _find_stream_end(scope))
        reading_s = _ROW_S * max(0, last.rows[-1] if last.rows else 0)
    if until - since - reading_s < limit_s:
        return
    asker = last.last_asker if last is not None and last.inspected == last.folded.released + len(last) else NOBODY
    caller = find_caller()
    holding.note_idle(
        IdleTime(
            since=since,
            until=until,
            shape=last.shape if last is not None else None,
            code=asker.code,
            line=asker.line,
            end_code=caller.code,
            end_line=caller.line,
            in_transaction=in_transaction,
            is_repeated=samples is not None and samples is last,
        )
    )


def note_running(holding: Holding, elapsed_s: float) -> None:
    """Take back what was thought idle while a statement ran on another connection. It has just ended.

    Args:
        holding: Of the statement's scope.
        elapsed_s: How long it ran.
    """
    holding.note_running(perf_counter() - elapsed_s)


def _find_elapsed(samples: Samples) -> float | None:
    """Return the seconds of the latest execution with its fetches; None if the background has let go of it."""
    if not samples:
        return None
    index = samples.folded.released + len(samples) - 1
    return samples[-1] + sum(elapsed for late, elapsed in list(samples.late) if late == index)


def _find_stream_end(scope: OpenScope) -> float:
    """Return when the last result that is read row by row came to its end, infinity if one has not; 0 without any."""
    ends = [math.inf if each.streams > 0 else each.stream_ended for each in scope.list_samples()]
    if scope.inner is not None:
        ends.append(_find_stream_end(scope.inner))
    return max(ends, default=0.0)
