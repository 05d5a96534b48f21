"""What a scope held of its pools: how many connections, the times they lay idle, and the times it waited for one.

In:  what `capture.pool` and `capture.pool_limit` see.
Out: a few numbers for each scope; the background makes records of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from types import CodeType

# Times that are kept of one scope: the longest ones.
_IDLE_LIMIT = 3


class IdleTime(NamedTuple):
    """A time in which connections were held and no statement ran. Clocks are `perf_counter`, in seconds.

    Args:
        since: When the last statement, commit or rollback before it ended, or the connection was taken.
        until: When the next one began, or the connection was given back.
        shape: The statement before it, literals as `?`; None where none was sent since the connection was taken.
        code: Code object of the line that sent that statement, None where not recorded.
        line: Its line number, 0 with no code.
        end_code: Code object of the line that ended the time, None where the stack held none.
        end_line: Its line number, 0 with no code.
        in_transaction: Whether a transaction was open, as far as SQLAlchemy says.
        is_repeated: Whether the statement that ended it is the one before it.
    """

    since: float
    until: float
    shape: str | None
    code: CodeType | None
    line: int
    end_code: CodeType | None
    end_line: int
    in_transaction: bool
    is_repeated: bool

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.until - self.since


class Wait(NamedTuple):
    """One wait for a connection.

    Args:
        seconds: How long.
        database: Name of the database whose pool it was.
        size: Connections that the pool keeps.
        overflow: How many more it may open; -1 for any number.
        code: Code object of the line that asked for the connection, None where not recorded.
        line: Its line number, 0 with no code.
    """

    seconds: float
    database: str
    size: int
    overflow: int
    code: CodeType | None
    line: int


class Holding:
    """Connections of one scope."""

    __slots__ = ("checkouts", "ended", "held", "idle", "monitors", "pool_timeouts", "pool_waits", "wait")

    def __init__(self) -> None:
        self.checkouts = 0
        #: Connections that are out now.
        self.held = 0
        #: When the last transaction ended, by `perf_counter`.
        self.ended = 0.0
        #: The longest times, longest first.
        self.idle: list[IdleTime] = []
        #: The longest wait, None if there was none worth a word.
        self.wait: Wait | None = None
        self.pool_waits = 0
        self.pool_timeouts = 0
        #: Monitors that are to be told though no statement ran; each once.
        self.monitors: list[Any] = []

    def note_idle(self, idle: IdleTime) -> None:
        """Keep a time if it is one of the longest."""
        self.idle = sorted([*self.idle, idle], key=lambda each: each.seconds, reverse=True)[:_IDLE_LIMIT]

    def note_running(self, since: float) -> None:
        """Forget the times in which a statement did run, on another connection; it has just ended.

        Args:
            since: When it began, by `perf_counter`.
        """
        self.idle = [idle for idle in self.idle if idle.until <= since]

    def note_wait(self, wait: Wait, limit_s: float, monitor: Any, *, in_vain: bool) -> None:
        """Count a wait.

        Args:
            wait: How long, and for what.
            limit_s: Seconds from which it counts.
            monitor: Whose pool it was.
            in_vain: Whether there was no connection at the end.
        """
        if self.wait is None or wait.seconds > self.wait.seconds:
            self.wait = wait
        if in_vain:
            self.pool_timeouts += 1
        elif wait.seconds >= limit_s:
            self.pool_waits += 1
        else:
            return
        if monitor not in self.monitors:
            self.monitors.append(monitor)
