"""A connection that was held, most often within a transaction, while no statement ran.

In:  a closed scope.
Out: one finding for the scope, about its longest such time.

A slow statement is none, nor is a result that is being read: there the connection works. Tests and scripts hold their
connection as long as they like, nobody waits for it. And who asks the same again and again, and sleeps in between,
polls: that is a loop on purpose.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from querywatch.records import Finding, Idle, ScopeQuery, ScopeRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from querywatch.config import Config

CODE = "long-transaction"

_PATIENT_KINDS = frozenset({"test", "script"})


@dataclass(frozen=True, slots=True)
class LongTransactionEvidence:
    """What a scope showed.

    Args:
        longest_s: The longest time in seconds.
        limit_s: `long_transaction_s`.
        sql: The statement before it, literals as `?`; None where none was sent since the connection was taken.
        end_site: The line that ended it, as `file:line`; None where not known.
        in_transaction: Whether a transaction was open.
        scopes: Scopes that had it so far.
    """

    longest_s: float
    limit_s: float
    sql: str | None
    end_site: str | None
    in_transaction: bool
    scopes: int = 1

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    def with_scopes(self, scopes: int) -> LongTransactionEvidence:
        """Return the same with another number of scopes."""
        return replace(self, scopes=scopes)


def detect(scope: ScopeRecord, config: Config) -> Iterator[Finding]:
    """Yield what one scope held for too long.

    Args:
        scope: What ran.
        config: `long_transaction_s` is used.
    """
    if scope.kind in _PATIENT_KINDS:
        return
    times = [
        (idle, query)
        for idle in scope.idle
        if idle.seconds >= config.long_transaction_s and not _polls(idle, query := _find_query(scope, idle))
    ]
    if times:
        longest, query = max(times, key=lambda each: each[0].seconds)
        yield _build(scope, [idle for idle, _query in times], longest, query, config.long_transaction_s)


def _find_query(scope: ScopeRecord, idle: Idle) -> ScopeQuery | None:
    """Return the statement before an idle time, None where none is known."""
    same = [query for query in scope.queries if query.statement == idle.statement]
    return next((query for query in same if query.call_site == idle.call_site), same[0] if same else None)


def _polls(idle: Idle, query: ScopeQuery | None) -> bool:
    return (
        idle.is_repeated
        and query is not None
        and query.fingerprint.operation == "SELECT"
        and query.waits
        and query.same_parameters is not False
    )


def _build(scope: ScopeRecord, times: list[Idle], longest: Idle, query: ScopeQuery | None, limit_s: float) -> Finding:
    call_site = longest.call_site or longest.end_site
    database = query.database if query is not None else None
    seen_at = scope.started_at + scope.duration_s
    return Finding(
        code=CODE,
        kind=None,
        severity="warning",
        message=f"A connection was held idle for {longest.seconds:,.1f} s{_describe(longest, query)}.",
        fix=_advise(longest),
        fix_kind="shorten",
        subject=scope.name or str(call_site or database or scope.kind),
        database=database,
        fingerprint=query.fingerprint.id if query is not None else None,
        call_site=call_site,
        scope=scope.name,
        count=len(times),
        total_s=sum(idle.seconds for idle in times),
        first_seen_at=seen_at,
        last_seen_at=seen_at,
        evidence=LongTransactionEvidence(
            longest_s=longest.seconds,
            limit_s=limit_s,
            sql=query.fingerprint.sql if query is not None else None,
            end_site=str(longest.end_site) if longest.end_site is not None else None,
            in_transaction=longest.in_transaction,
        ),
    )


def _describe(idle: Idle, query: ScopeQuery | None) -> str:
    """Return between what it was."""
    after = f", after {query.fingerprint.summary}" if query is not None else ""
    if idle.call_site is not None:
        after = f"{after} at {idle.call_site}" if after else f", after {idle.call_site}"
    until = f", until {idle.end_site}" if idle.end_site not in {None, idle.call_site} else ""
    return after + until


def _advise(idle: Idle) -> str:
    if idle.call_site is not None:
        what = f"the work that follows {idle.call_site}"
    elif idle.end_site is not None:
        what = f"the work that leads to {idle.end_site}"
    else:
        what = "work that needs no database"
    if idle.in_transaction:
        return f"End the transaction and close the session before {what}, or do that work before the first statement."
    return f"Give the connection back (close it, or leave its with block) before {what}, or take it afterwards."
