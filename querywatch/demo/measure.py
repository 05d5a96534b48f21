"""What a page costs: queries and milliseconds of a request, measured by asking for it.

In:  a page, the shop's address, the monitor.
Out: queries a request as the monitor counted them, and the median time as the client saw it.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from querywatch.demo.traffic import Browser
from querywatch.report import wording

if TYPE_CHECKING:
    from querywatch.monitor import Monitor

_REQUESTS = 11
_FLUSH_LIMIT_S = 5.0


class Page(NamedTuple):
    """One page of the shop.

    Args:
        scope: Name of its route, as findings show it.
        path: What a browser asks for.
        fixed: The same page without the mistake, None where an index is what mends it.
    """

    scope: str
    path: str
    fixed: Page | None = None


#: The pages with a mistake.
PAGES = (
    Page("GET /users", "/users", Page("GET /users/fixed", "/users/fixed")),
    Page("GET /products", "/products", Page("GET /products/fixed", "/products/fixed")),
    Page("GET /orders", "/orders?status=refunded"),
)


class Cost(NamedTuple):
    """What one request costs.

    Args:
        queries: Statements a request.
        seconds: The median request.
    """

    queries: float
    seconds: float


def measure(page: Page, address: str, monitor: Monitor) -> Cost:
    """Ask for *page* a few times, one after the other.

    Args:
        page: What to ask for.
        address: Of the shop.
        monitor: Counts the statements.
    """
    scopes_before, calls_before = _read_counts(page, monitor)
    browser = Browser(address)
    try:
        seconds = median(browser.fetch(page.path)[1] for _ in range(_REQUESTS))
    finally:
        browser.close()
    scopes, calls = _read_counts(page, monitor)
    return Cost((calls - calls_before) / max(scopes - scopes_before, 1), seconds)


def describe_change(before: Cost, after: Cost) -> str:
    """Return a comparison as one line: `51 -> 2 queries, 38 ms -> 3.1 ms`."""
    queries = f"{wording.count(before.queries)} -> {wording.counted(after.queries, 'query', 'queries')}"
    return f"{queries}, {wording.duration(before.seconds)} -> {wording.duration(after.seconds)}"


def _read_counts(page: Page, monitor: Monitor) -> tuple[int, int]:
    """Return the requests for *page* so far, and their statements."""
    monitor.flush(_FLUSH_LIMIT_S)
    seen = [scope for scope in monitor.snapshot().scopes if scope.name == page.scope]
    return sum(scope.scopes for scope in seen), sum(scope.calls for scope in seen)
