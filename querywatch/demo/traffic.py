"""Customers: a few threads that ask the shop for pages over HTTP until they are told to stop.

In:  the shop's address.
Out: real requests, counted.
"""

from __future__ import annotations

import random
import threading
import time
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Self

from querywatch.demo.data import ORDERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

#: Path and how often it is asked for. The fixed routes are asked for seldom: few shops have them.
_PAGES: tuple[tuple[Callable[[random.Random], str], int], ...] = (
    (lambda _: "/users", 4),
    (lambda _: "/products", 3),
    (lambda _: "/orders?status=refunded", 4),
    (lambda chance: f"/orders/{chance.randint(1, ORDERS)}", 8),
    (lambda _: "/users/fixed", 1),
    (lambda _: "/products/fixed", 1),
)
_CUSTOMERS = 2
_PAUSE_S = 0.02
_TIMEOUT_S = 30.0


class Browser:
    """One kept-alive HTTP connection to the shop.

    Args:
        address: Such as `http://127.0.0.1:8077`.
    """

    def __init__(self, address: str) -> None:
        self._connection = HTTPConnection(address.removeprefix("http://"), timeout=_TIMEOUT_S)

    def fetch(self, path: str) -> tuple[int, float]:
        """Ask for a page and read it.

        Returns:
            The status, and the seconds it took.

        Raises:
            OSError: No answer came.
            HTTPException: The answer was no HTTP.
        """
        started_at = time.perf_counter()
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        response.read()
        return response.status, time.perf_counter() - started_at

    def close(self) -> None:
        """Close the connection; the next `fetch` opens a new one."""
        self._connection.close()


class Traffic:
    """Threads that ask for pages while the block runs.

    Args:
        address: Of the shop.
        limit: Requests after which they stop by themselves.
    """

    def __init__(self, address: str, limit: int) -> None:
        self._address = address
        self._limit = limit
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        # Held by a customer who waits for a page, and by whoever wants the shop for himself.
        self._turns = [threading.Lock() for _ in range(_CUSTOMERS)]
        self._threads = [
            threading.Thread(target=self._ask, args=(number,), name=f"querywatch-demo-customer-{number}", daemon=True)
            for number in range(_CUSTOMERS)
        ]
        #: Answers so far, failed ones included.
        self.requests = 0
        #: Answers other than 200, and requests without an answer.
        self.failures = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(_TIMEOUT_S)

    @property
    def is_over(self) -> bool:
        """Whether the limit is reached."""
        return self.requests >= self._limit

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let nobody ask for anything while the block runs; begins when the last page has been delivered."""
        with ExitStack() as stack:
            for turn in self._turns:
                stack.enter_context(turn)
            yield

    def _ask(self, number: int) -> None:
        chance = random.Random(number)  # noqa: S311  the same customers at every run, nothing secret
        makers, weights = zip(*_PAGES, strict=True)
        browser = Browser(self._address)
        try:
            while not self.is_over and not self._stopped.wait(_PAUSE_S):
                with self._turns[number]:
                    self._count(self._fetch(browser, chance.choices(makers, weights)[0](chance)))
        finally:
            browser.close()

    def _fetch(self, browser: Browser, path: str) -> bool:
        try:
            return browser.fetch(path)[0] == 200  # noqa: PLR2004  HTTP's OK
        except (OSError, HTTPException):
            browser.close()
            return False

    def _count(self, succeeded: bool) -> None:  # noqa: FBT001  the outcome is the one argument
        with self._lock:
            self.requests += 1
            self.failures += not succeeded
