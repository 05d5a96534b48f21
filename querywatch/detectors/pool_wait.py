"""A wait for a connection, because all that the pool may open were taken.

In:  a closed scope.
Out: one finding for the scope.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from querywatch.records import Finding, PoolWait, ScopeRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from querywatch.config import Config

CODE = "pool-wait"


@dataclass(frozen=True, slots=True)
class PoolWaitEvidence:
    """What a scope showed.

    Args:
        longest_s: The longest wait in seconds.
        limit_s: `pool_wait_s`.
        waits: Waits of at least that long that ended with a connection.
        timeouts: Waits in vain.
        pool_size: Connections that the pool keeps, None where not known.
        max_overflow: How many more it may open, -1 for any number; None where not known.
        scopes: Scopes that had it so far.
    """

    longest_s: float
    limit_s: float
    waits: int
    timeouts: int
    pool_size: int | None
    max_overflow: int | None
    scopes: int = 1

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    def with_scopes(self, scopes: int) -> PoolWaitEvidence:
        """Return the same with another number of scopes."""
        return replace(self, scopes=scopes)


def detect(scope: ScopeRecord, config: Config) -> Iterator[Finding]:
    """Yield the waits of one scope, as one finding.

    Args:
        scope: What ran.
        config: `pool_wait_s` is used.
    """
    if not scope.pool_waits and not scope.pool_timeouts:
        return
    wait = scope.longest_wait
    call_site = wait.call_site if wait is not None else None
    seen_at = scope.started_at + scope.duration_s
    yield Finding(
        code=CODE,
        kind=None,
        severity="error" if scope.pool_timeouts else "warning",
        message=_describe(scope, wait),
        fix=_advise(scope, wait),
        fix_kind="pool_size",
        subject=scope.name or str(call_site or (wait.database if wait is not None else scope.kind)),
        database=wait.database if wait is not None else None,
        fingerprint=None,
        call_site=call_site,
        scope=scope.name,
        count=scope.pool_waits + scope.pool_timeouts,
        total_s=scope.pool_wait_s,
        first_seen_at=seen_at,
        last_seen_at=seen_at,
        evidence=PoolWaitEvidence(
            longest_s=scope.pool_wait_s,
            limit_s=config.pool_wait_s,
            waits=scope.pool_waits,
            timeouts=scope.pool_timeouts,
            pool_size=wait.size if wait is not None else None,
            max_overflow=wait.overflow if wait is not None else None,
        ),
    )


def _describe(scope: ScopeRecord, wait: PoolWait | None) -> str:
    database = f" of {wait.database}" if wait is not None else ""
    where = f" at {wait.call_site}" if wait is not None and wait.call_site is not None else ""
    vain = " in vain" if scope.pool_timeouts else ""
    return f"Waited {scope.pool_wait_s:,.2f} s{vain} for a connection{database}{where}."


def _advise(scope: ScopeRecord, wait: PoolWait | None) -> str:
    limit = "All connections of the pool were taken"
    if wait is not None:
        more = "" if wait.overflow <= 0 else f" and max_overflow={wait.overflow}"
        limit = f"All connections that pool_size={wait.size}{more} {'allow' if more else 'allows'} were taken"
    idle = max(scope.idle, key=lambda each: each.seconds, default=None)
    if idle is None:
        shorten = "First look for connections that are held while no statement runs: they make the wait longer."
    else:
        after = f" after {idle.call_site}" if idle.call_site is not None else ""
        shorten = f"First shorten how long they are held: this scope held one idle for {idle.seconds:,.1f} s{after}."
    return f"{limit}. {shorten} Then raise pool_size in create_engine()."
