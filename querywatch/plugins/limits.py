"""The mark `querywatch`: how many queries a test may run, and which findings it may cause.

In:  `@pytest.mark.querywatch(max_queries=5, max_db_s=None, allow=["User.orders"])` on a test, its class or module.
Out: the limits, and a `scope-budget` finding where they are broken.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from querywatch.records import Finding, SavedEvidence
from querywatch.report import wording

if TYPE_CHECKING:
    from querywatch.plugins.watched_test import WatchedTest

_NAMES = {"max_queries", "max_db_s", "allow"}


class Limits(NamedTuple):
    """What a test may do.

    Args:
        max_queries: Executions, None for any number.
        max_db_s: Seconds in the databases, None for any time.
        allow: Patterns of findings; see `allowance.matches`.
    """

    max_queries: int | None = None
    max_db_s: float | None = None
    allow: tuple[str, ...] = ()


def read_limits(item: pytest.Item) -> Limits:
    """Read the marks of a test: the nearest limit counts, and what any of them allows is allowed.

    Raises:
        pytest.fail.Exception: A mark is wrong.
    """
    limits = Limits()
    # The nearest comes first; read from far to near, so that it has the last word.
    for mark in reversed(list(item.iter_markers("querywatch"))):
        unknown = [repr(each) for each in mark.args] + sorted(set(mark.kwargs) - _NAMES)
        allow = mark.kwargs.get("allow", ())
        allow = (allow,) if isinstance(allow, str) else allow
        if unknown:
            _refuse(f"does not know {', '.join(unknown)}; it takes max_queries=, max_db_s= and allow=")
        if not isinstance(allow, list | tuple | set | frozenset) or not all(isinstance(each, str) for each in allow):
            _refuse(f"allow must be a list of texts such as ['User.orders'], got {allow!r}")
        limits = Limits(
            _read_number(mark, "max_queries", limits.max_queries, (int,)),
            _read_number(mark, "max_db_s", limits.max_db_s, (int, float)),
            (*limits.allow, *allow),
        )
    return limits


def check_limits(test: WatchedTest, limits: Limits) -> list[Finding]:
    """Return a `scope-budget` for each limit that the test broke, over all its scopes."""
    broken = []
    if limits.max_queries is not None and test.calls > limits.max_queries:
        broken.append((f"{wording.counted(test.calls, 'query', 'queries')}", wording.count(limits.max_queries)))
    if limits.max_db_s is not None and test.total_s > limits.max_db_s:
        broken.append((f"{wording.duration(test.total_s)} in the database", wording.duration(limits.max_db_s)))
    return [_describe(test, spent, limit) for spent, limit in broken]


def _describe(test: WatchedTest, spent: str, limit: str) -> Finding:
    most = max(test.queries, key=lambda query: query.calls)
    site = f" at {most.call_site}" if most.call_site is not None else ""
    now = time.time()
    return Finding(
        code="scope-budget",
        kind=None,
        severity="warning",
        message=f"The test ran {spent}; its mark allows {limit}.",
        fix=f"Begin with {most.fingerprint.summary}{site}: {most.calls} of them. Or raise the limit of the mark.",
        fix_kind="none",
        subject=test.name,
        database=None,
        fingerprint=None,
        call_site=None,
        scope=None,
        count=test.calls,
        total_s=test.total_s,
        first_seen_at=now,
        last_seen_at=now,
        evidence=SavedEvidence({"queries": test.calls, "database_s": test.total_s}),
    )


def _read_number(mark: pytest.Mark, name: str, known: Any, kinds: tuple[type[int | float], ...]) -> Any:
    value: Any = mark.kwargs.get(name, known)
    if value is not None and (isinstance(value, bool) or not isinstance(value, kinds) or not value >= 0):
        _refuse(f"{name} must be a number from 0 up, or None for no limit, got {value!r}")
    return value


def _refuse(why: str) -> None:
    pytest.fail(f"@pytest.mark.querywatch(...): {why}.", pytrace=False)
