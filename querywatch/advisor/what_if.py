"""The proof: the database plans the statement again as if an index existed.

In:  a statement and candidate indexes.
Out: the few that the database would use and that make its work clearly less.

Indexes are chosen one after another, each on top of those chosen before. The smallest that comes near the best wins:
a further column must earn what every write will pay for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from querywatch.errors import ExplainError, ExplainTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from querywatch.dialects import WhatIf
    from querywatch.records import IndexSpec, PlanNode
    from querywatch.samples import Example

#: Work with the index, as a share of the work without it, that is worth an index at all.
CLEARLY_LESS_RATIO = 0.7
#: An index is near the best if it is within this factor of it, plus this share of the work without any.
_NEAR_FACTOR = 1.1
_NEAR_RATIO = 0.002
#: A further index for the same statement must save this share of the work without any.
_FURTHER_RATIO = 0.01
_MOST_PLANS = 24
_MOST_INDEXES = 2


@dataclass(frozen=True, slots=True)
class Proven:
    """One index and the plans without and with it."""

    index: IndexSpec
    before: PlanNode
    after: PlanNode


def prove(
    what_if: WhatIf,
    example: Example,
    candidates: Sequence[IndexSpec],
    *,
    preferred: Collection[IndexSpec] = (),
    is_over: Callable[[], bool] = lambda: False,
) -> list[Proven]:
    """Choose at most two indexes for one statement, each proven; at most 24 plans are taken.

    Args:
        what_if: Of the statement's database.
        example: The statement with its values.
        candidates: Each with a name of its own.
        preferred: Those of them that other statements have earned already: they cost nothing more.
        is_over: Whether the time for this is used up.

    Raises:
        ExplainError: The statement cannot be planned even without an index.
    """
    before = what_if.plan(example.statement, example.parameters, ())
    proven: list[Proven] = []
    plans = 1
    whole = what_if.weigh(before)
    while len(proven) < _MOST_INDEXES:
        chosen = [each.index for each in proven]
        base = what_if.weigh(before)
        tried: list[tuple[float, Proven]] = []
        for candidate in candidates:
            if candidate in chosen or plans >= _MOST_PLANS or is_over():
                continue
            plans += 1
            try:
                after = what_if.plan(example.statement, example.parameters, [*chosen, candidate])
            except ExplainTimeoutError:
                raise
            except ExplainError:
                continue
            weight = what_if.weigh(after)
            saves = weight <= CLEARLY_LESS_RATIO * base and (not proven or base - weight >= _FURTHER_RATIO * whole)
            if saves and candidate.name in {node.index for node in after.walk()}:
                tried.append((weight, Proven(candidate, before, after)))
        if not tried:
            break
        near = _NEAR_FACTOR * min(weight for weight, _ in tried) + _NEAR_RATIO * base
        best = min(
            (one for one in tried if one[0] <= near),
            key=lambda one: (one[1].index not in preferred, len(one[1].index.columns), one[0]),
        )[1]
        proven.append(best)
        before = best.after
    return proven
