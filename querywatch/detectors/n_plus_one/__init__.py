"""N+1: one statement run once for each of many objects or keys.

In:  a closed scope.
Out: one finding for each relationship, attribute, class, or statement and line, over the limit.

Each kind has a module of its own; which one asks is known from the ORM (`ScopeQuery.kind`), else it is a loop of the
application's. In a worker's scope a job is judged by itself: what runs once for each job is not a loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from querywatch.detectors.n_plus_one import deferred, lazy_load, query_loop, refresh
from querywatch.detectors.n_plus_one.evidence import CODE, NPlusOneEvidence, build_finding
from querywatch.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from querywatch.config import Config
    from querywatch.records import Finding, ScopeRecord

__all__ = ["CODE", "NPlusOneEvidence", "detect"]

_KINDS = (lazy_load, query_loop, refresh, deferred)


def detect(scope: ScopeRecord, config: Config) -> Iterator[Finding]:
    """Yield the N+1s of one scope.

    Args:
        scope: What ran.
        config: `n_plus_one_threshold` is used.
    """
    timeline = Timeline(scope)
    for kind in _KINDS:
        for queries in kind.group(scope):
            contexts = sum(query.contexts for query in queries)
            if contexts < config.n_plus_one_threshold:
                continue
            if contexts - 1 <= len({query.call_site for query in queries}) > 1:
                continue  # one from each of so many lines
            in_unit = timeline.count_in_unit({query.statement for query in queries})
            if in_unit is not None and in_unit < config.n_plus_one_threshold:
                continue
            advice = kind.advise(scope, queries)
            if advice is not None:
                yield build_finding(scope, queries, advice)
