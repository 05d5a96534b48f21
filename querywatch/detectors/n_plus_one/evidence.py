"""What all kinds of N+1 share: the evidence, and how a finding is put together.

In:  the queries of one group, and what its kind makes of them.
Out: a `Finding`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from querywatch.records import Finding, ScopeQuery, ScopeRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

CODE = "n-plus-one"

# Lines that are told of those that called a function.
_CALLERS_LIMIT = 8


@dataclass(frozen=True, slots=True)
class NPlusOneEvidence:
    """What a scope showed.

    Args:
        sql: The repeated statement, literals as `?`.
        calls: Executions of it in the scope that was seen last.
        scope_calls: Executions of any statement in that scope.
        scopes: Scopes that had it so far.
        parent_site: The line that loaded the parents, as `file:line`; None where unknown.
        path: Relationships from the class of the select to what is to be loaded with it, such as
            `("User.orders", "Order.items")`; the attribute itself for a deferred column.
        options: The loader options as they are typed, None where no option helps.
        called_from: A few lines that led to the function of that line, as `file:line`; empty where not recorded.
    """

    sql: str
    calls: int
    scope_calls: int
    scopes: int = 1
    parent_site: str | None = None
    path: tuple[str, ...] = ()
    options: str | None = None
    called_from: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self) | {"path": list(self.path), "called_from": list(self.called_from)}

    def with_scopes(self, scopes: int) -> NPlusOneEvidence:
        """Return the same with another number of scopes."""
        return replace(self, scopes=scopes)


class Advice(NamedTuple):
    """What a kind makes of a group of queries.

    Args:
        kind: The finding's kind.
        subject: The finding's subject.
        message: What was seen.
        fix_kind: The fix for programs.
        fix: The fix for people.
        path: As in `NPlusOneEvidence`.
        options: As in `NPlusOneEvidence`.
    """

    kind: str
    subject: str
    message: str
    fix_kind: str
    fix: str
    path: tuple[str, ...] = ()
    options: str | None = None


def count_calls(queries: Sequence[ScopeQuery]) -> int:
    """Return the executions of a group."""
    return sum(query.calls for query in queries)


def find_most(queries: Sequence[ScopeQuery]) -> ScopeQuery:
    """Return the query of a group with the most executions."""
    return max(queries, key=lambda query: query.calls)


def build_finding(scope: ScopeRecord, queries: Sequence[ScopeQuery], advice: Advice) -> Finding:
    """Return the finding of one group.

    Args:
        scope: What ran.
        queries: The group.
        advice: What its kind made of it.
    """
    most = find_most(queries)
    seen_at = scope.started_at + scope.duration_s
    return Finding(
        code=CODE,
        kind=advice.kind,
        severity="warning",
        message=advice.message,
        fix=advice.fix,
        fix_kind=advice.fix_kind,
        subject=advice.subject,
        database=most.database,
        fingerprint=most.fingerprint.id,
        call_site=most.call_site,
        scope=scope.name,
        count=count_calls(queries),
        total_s=sum(query.total_s for query in queries),
        first_seen_at=seen_at,
        last_seen_at=seen_at,
        evidence=NPlusOneEvidence(
            sql=most.fingerprint.sql,
            calls=count_calls(queries),
            scope_calls=scope.calls,
            parent_site=str(most.parent_site) if most.parent_site is not None else None,
            path=advice.path,
            options=advice.options,
            called_from=tuple(str(site) for site in most.outer_sites[:_CALLERS_LIMIT]),
        ),
    )
