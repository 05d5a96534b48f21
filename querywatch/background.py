"""The one thread that does everything a query should not wait for, and how it keeps out of the way.

In:  a function that does one pass of work.
Out: that function, called every interval, at once for `flush`, and in pieces with rests in between.

Work here holds the interpreter's lock, so it would show as latency of the application: after a piece of work the thread
sleeps twenty times as long as the piece took on the CPU (a duty of 5%). `flush` lifts that, because somebody waits.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_REST_RATIO = 20
# Shorter pieces are not worth a sleep; longer ones could be felt. One statement takes the parser 0.3 to 1 ms.
_PIECE_S = 0.0002
_LONGEST_REST_S = 1.0


class Background:
    """A daemon thread that is started when it is first needed, also after a fork.

    Args:
        run_pass: Does all the work there is. Calls `rest` between pieces. Must not raise.
        interval_s: Seconds between two passes.
        cpu_clock: Gives the CPU seconds of the calling thread.
    """

    def __init__(
        self, run_pass: Callable[[], None], interval_s: float, cpu_clock: Callable[[], float] = time.thread_time
    ) -> None:
        self._run_pass = run_pass
        self._interval_s = interval_s
        self._cpu_clock = cpu_clock
        self._reset()

    def _reset(self) -> None:
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._requested = 0
        self._done = 0
        self._stopping = False
        self._ended = False
        self._piece_began = 0.0

    def start(self) -> None:
        """Start the thread, unless it runs or was stopped. Raises nothing."""
        if self._thread is not None or self._stopping:
            return
        with self._changed:
            if self._thread is None and not self._stopping:
                thread = threading.Thread(target=self._run, name="querywatch", daemon=True)
                # The application's query is waiting. Where no thread can be had now, the next statement tries again.
                with suppress(RuntimeError):
                    thread.start()
                    self._thread = thread

    def flush(self, timeout_s: float) -> bool:
        """Wait until a pass that began after this call is done.

        Args:
            timeout_s: Limit in seconds.

        Returns:
            False if it was not done in time, if the thread was stopped or cannot be started, or if called from it.
        """
        if threading.current_thread() is self._thread:
            return False
        self.start()
        with self._changed:
            if self._stopping or self._thread is None:
                return False
            self._requested += 1
            ticket = self._requested
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._done >= ticket or self._ended, timeout_s)
            return self._done >= ticket

    def stop(self, timeout_s: float) -> None:
        """End the thread after the pass it is in.

        Args:
            timeout_s: How long to wait for that, in seconds.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def forget_thread(self) -> None:
        """After a fork: the thread was not copied, and a lock may have been copied while it was held."""
        stopped = self._stopping
        self._reset()
        self._stopping = stopped

    @property
    def is_urgent(self) -> bool:
        """Whether somebody waits for the work to be done."""
        return self._requested > self._done or self._stopping

    def rest(self) -> None:
        """Sleep in proportion to the work since the last rest. Called between pieces, with no lock held."""
        if threading.current_thread() is not self._thread:
            return
        ran = self._cpu_clock() - self._piece_began
        if ran < _PIECE_S:
            return
        with self._changed:
            self._changed.wait_for(lambda: self.is_urgent, min(ran * _REST_RATIO, _LONGEST_REST_S))
        self._piece_began = self._cpu_clock()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.is_urgent, self._interval_s)
                ticket, stopping = self._requested, self._stopping
            if stopping:
                break
            self._piece_began = self._cpu_clock()
            self._run_pass()
            with self._changed:
                self._done = ticket
                self._changed.notify_all()
        with self._changed:
            # Who still waits for a pass will see none.
            self._ended = True
            self._changed.notify_all()
