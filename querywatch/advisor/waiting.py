"""Whether a statement was slow because it waited, most often for a lock: then no index would have helped.

In:  how long its calls took, and the longest its plan can take while nothing holds it up.
Out: yes or no.

Nobody can ask afterwards what a call waited for, so two signs are taken from the times:
1. A typical call is fast and a few slow ones make up most of the time. A scan takes about as long on every call; one
   that is fast mostly was not what made those few slow.
2. A typical call took longer than the plan can explain (`DialectModule.longest_run_s`, generous: three times
   what was measured, so that a slow disk or a busy server does not look like a lock).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from querywatch.samples import Example

#: Share of a statement's time that its typical calls account for at least, unless a few made it slow.
_TYPICAL_RATIO = 0.5


def has_waited(example: Example, *, slow_query_s: float, longest_run_s: float) -> bool:
    """Whether waiting explains the time of this statement better than its plan does.

    Args:
        example: Its calls so far.
        slow_query_s: From here on a call is slow.
        longest_run_s: Seconds that the plan takes at most.
    """
    only_few_are_slow = (
        example.typical_s < slow_query_s <= example.max_s
        and example.typical_s * example.calls < _TYPICAL_RATIO * example.total_s
    )
    return only_few_are_slow or example.typical_s > longest_run_s
