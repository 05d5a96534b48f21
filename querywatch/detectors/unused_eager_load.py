"""A relationship that was loaded beforehand, and that nobody read.

In:  a closed scope whose reads were watched.
Out: one finding for each relationship.

One that was read of any object of the scope is in use. For few objects the load costs next to nothing, whether it is
read or not.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from querywatch.records import EagerLoad, Finding, ScopeRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from querywatch.config import Config

CODE = "unused-eager-load"

# Strategy -> the option, where its name is not made from it.
_OPTIONS = {
    "immediate": "immediateload",
    "joined": "joinedload",
    "selectin": "selectinload",
    "subquery": "subqueryload",
}


@dataclass(frozen=True, slots=True)
class UnusedEagerLoadEvidence:
    """What a scope showed.

    Args:
        strategy: `joined`, `selectin`, `subquery` or `immediate`.
        is_mapped: Whether the mapping asks for it, and not an option of the select.
        objects: Objects it was loaded for.
        statements: Statements that loaded nothing else; 0 for a join.
        scopes: Scopes that had it so far.
    """

    strategy: str
    is_mapped: bool
    objects: int
    statements: int
    scopes: int = 1

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    def with_scopes(self, scopes: int) -> UnusedEagerLoadEvidence:
        """Return the same with another number of scopes."""
        return replace(self, scopes=scopes)


def detect(scope: ScopeRecord, config: Config) -> Iterator[Finding]:
    """Yield the relationships of one scope that were loaded for nothing.

    Args:
        scope: What ran.
        config: `unused_eager_loads` and `n_plus_one_threshold` are used.
    """
    if config.unused_eager_loads == 0:
        return  # another monitor of the process watched this scope for itself
    groups: dict[object, list[EagerLoad]] = defaultdict(list)
    for load in scope.eager_loads:
        groups[load.relationship, load.database].append(load)
    for loads in groups.values():
        if not any(load.read for load in loads) and _count_objects(loads) >= config.n_plus_one_threshold:
            yield _build(scope, loads)


def _count_objects(loads: Sequence[EagerLoad]) -> int:
    return sum(load.objects or 0 for load in loads)


def _build(scope: ScopeRecord, loads: Sequence[EagerLoad]) -> Finding:
    most = max(loads, key=lambda load: load.objects or 0)
    objects, statements = _count_objects(loads), sum(load.statements for load in loads)
    seen_at = scope.started_at + scope.duration_s
    cost = "by a join" if most.strategy == "joined" else f"by {statements} more statement{'s' * (statements != 1)}"
    return Finding(
        code=CODE,
        kind=None,
        severity="warning",
        message=f"{most.relationship} is loaded for {objects:,} objects {cost}, and nothing reads it.",
        fix=_write_fix(most),
        fix_kind="remove_eager",
        subject=most.relationship,
        database=most.database,
        fingerprint=most.fingerprint,
        call_site=most.call_site,
        scope=scope.name,
        count=len(loads),
        total_s=None if most.strategy == "joined" else sum(load.total_s for load in loads),
        first_seen_at=seen_at,
        last_seen_at=seen_at,
        evidence=UnusedEagerLoadEvidence(most.strategy, most.is_mapped, objects, statements),
    )


def _write_fix(load: EagerLoad) -> str:
    where = f"the select at {load.call_site}" if load.call_site is not None else "the select"
    if load.is_mapped:
        return (
            f"{load.relationship} is mapped with lazy={load.strategy!r}. Add .options(lazyload({load.relationship})) "
            f"to {where}; or map it with lazy='select', and add the option where it is read."
        )
    return f"Remove {_OPTIONS.get(load.strategy, load.strategy)}({load.relationship}) from {where}."
