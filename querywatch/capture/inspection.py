"""A closer look at an execution: who asked, from which line, with which values, and in which act.

In:  an execution that was counted.
Out: what is known of all executions of its statement in its scope, on the samples.

The first twenty executions are looked at one by one, later ones ever farther apart; each look speaks for those since
the one before it. What a flush sends for each of its rows, and what one call sends in pieces, is one act.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from querywatch.callsite import find_caller, find_outer
from querywatch.capture.orm import read_load_mark
from querywatch.capture.parameters import find_changed
from querywatch.capture.reads import note_select
from querywatch.records import OUTER_SITES_LIMIT
from querywatch.samples import NO_MARK, NOBODY, TEXT, TRAIL_LIMIT, Asker
from querywatch.tracing import current_context

if TYPE_CHECKING:
    from querywatch.callsite import Caller
    from querywatch.capture.execution import Execution
    from querywatch.samples import Line, LoadMark, OpenScope, Samples

# Kinds of a load mark for which it matters who called the function of the line.
_PLAIN_KINDS = frozenset({None, "select"})
# Several rows in a text that the application wrote; of a long one the beginning says as much.
_ROWS = re.compile(r"\bVALUES\s*\(.*\)\s*,\s*\(", re.IGNORECASE | re.DOTALL)
_READ_LENGTH = 5_000
_REPEATED_WAYS = 2
_FLUSH_KEY = "querywatch_sent"
# Callers of a line's function, callers of those, and so on: layers of an application that hand a call on.
_LAYERS = 3


def inspect_execution(scope: OpenScope, samples: Samples, execution: Execution) -> None:
    """Note who asked for an execution that was just counted, and for those since the one looked at before it.

    Args:
        scope: Open.
        samples: Of the statement, this execution's among them.
        execution: The latest one.
    """
    seen = len(samples)
    context = execution.context
    weight = seen - samples.inspected
    samples.inspected = seen
    if getattr(context, "_querywatch_seen", False):
        # One act of the application (insertmanyvalues) that the driver is given in pieces.
        samples.askers.setdefault(samples.last_asker, [0, 0])[0] += weight
        return
    context._querywatch_seen = True  # an attribute of ours; an id() would be used again
    mark = read_load_mark(context)
    if seen == 1:
        _note_first(samples, context)
        is_found = mark is not NO_MARK or (samples.is_text and _takes_all(samples.shape))
        asker, acts = (find_asker(mark) if is_found else NOBODY), weight
    else:
        asker, acts = _look_again(samples, execution, mark, weight)
    counts = samples.askers.setdefault(asker, [0, 0])
    counts[0] += weight
    samples.last_asker = asker
    if scope.reads is not None and mark is not NO_MARK:
        note_select(scope, samples, asker, context)
    if not acts:
        return
    counts[1] += acts
    if _is_batch(execution):
        samples.batches += weight
    if len(scope.trail) < TRAIL_LIMIT:
        scope.trail.append(samples)


def _look_again(samples: Samples, execution: Execution, mark: LoadMark, weight: int) -> tuple[Asker, int]:
    """Return who asked for a repetition, and how many acts it stands for: a flush may send one for each row."""
    _note_changes(samples, execution)
    _note_repetition(samples, execution.context)
    caller = find_caller(mark.package)
    asker = Asker(caller.code, caller.line, mark, caller.acts, caller.attribute)
    if caller.flush is not None and mark is NO_MARK:
        # A dict that SQLAlchemy keeps for the length of a flush, for whoever takes part in it.
        sent = caller.flush.attributes.setdefault(_FLUSH_KEY, set())
        if id(samples) in sent:
            return asker, 0
        sent.add(id(samples))
        if weight > 1:
            # Those before it that were not looked at came as many to a flush as the others.
            asked, acts = samples.askers.get(asker, (weight, weight))
            weight = max(1, round(weight * acts / asked))
    # Two repeated ways are a loop whatever else calls it, and this is half of what a look costs.
    outers = samples.outers
    if (
        mark.kind in _PLAIN_KINDS
        and len(outers) < OUTER_SITES_LIMIT
        and sum(outers.values()) - len(outers) < _REPEATED_WAYS
    ):
        way = _find_way(caller)
        if way:
            outers[way] = outers.get(way, 0) + weight
    return asker, weight


def _note_repetition(samples: Samples, context: Any) -> None:
    """Keep what the span of a burst would need."""
    samples.looked_at = time.time()
    if samples.repeated_at is None:
        samples.repeated_at = samples.looked_at
        samples.trace = current_context()
        samples.compiled = context.compiled


def _note_changes(samples: Samples, execution: Execution) -> None:
    """Add the values that differ from those of the first execution."""
    changed = find_changed(execution.parameters, samples.parameters)
    if changed is not None:
        # A text without parameters may hold its values itself.
        in_text = not execution.parameters and execution.statement != samples.statement
        samples.changed = (samples.changed or frozenset()) | (changed if not in_text else {TEXT})


def _note_first(samples: Samples, context: Any) -> None:
    """Note what all executions of a statement share."""
    compiled = context.compiled
    samples.is_text = compiled is None or getattr(compiled, "isplaintext", False)
    if samples.is_text and context.cursor is not None and context.cursor.description is not None:
        samples.columns = len(context.cursor.description)
    options = context.execution_options
    samples.streamed = "stream_results" in options or "yield_per" in options


def _takes_all(shape: str) -> bool:
    """Tell whether a text may select `*`, which is worth a finding that names its line though it ran once."""
    return "* " in shape or ".*" in shape


def _is_batch(execution: Execution) -> bool:
    statement = getattr(execution.context.compiled, "statement", None)
    if getattr(statement, "_multi_values", ()):
        return True  # insert().values([...]): several rows in one text
    if getattr(execution.context.compiled, "isplaintext", True) and _ROWS.search(execution.statement[:_READ_LENGTH]):
        return True
    compiled_parameters = getattr(execution.context, "compiled_parameters", None)
    return len(compiled_parameters or (execution.parameters if execution.context.executemany else ())) > 1


def _find_way(caller: Caller) -> tuple[Line, ...]:
    """Return the lines that led to the function of *caller*, innermost first."""
    way: list[Line] = []
    outer = find_outer(caller)
    while outer is not None and outer.code is not None:
        way.append((outer.code, outer.line))
        outer = find_outer(outer) if len(way) < _LAYERS else None
    return tuple(way)


def find_asker(mark: LoadMark) -> Asker:
    """Read the stack: who asks for the statement that runs now.

    Args:
        mark: What the ORM says of it.
    """
    caller = find_caller(mark.package)
    return Asker(caller.code, caller.line, mark, caller.acts, caller.attribute)
