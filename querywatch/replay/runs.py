"""The runs of a replay: which, in which order, and what they are compared by.

In:  a way to run the callable once, with some loader options.
Out: a `Replay`.

Each way to run it has two runs, in turns: the second way would look faster otherwise, because SQLAlchemy has compiled
the statements and the database has read the pages. The faster one counts. A way that saves statements and still takes
longer has more runs, because a busy machine does that too. The first run of all finds the N+1s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from querywatch.aggregate import Aggregate
from querywatch.detectors import DETECTORS
from querywatch.fingerprint import take_fingerprint
from querywatch.replay.loader_options import Suggestion, read_suggestion
from querywatch.replay.record import Cost, Replay, ReplayedFix
from querywatch.replay.results import NotComparableError, describe_result
from querywatch.scope_record import build_record

if TYPE_CHECKING:
    from collections.abc import Generator

    from querywatch.config import Config
    from querywatch.records import Finding
    from querywatch.replay.guard import Run
    from querywatch.samples import OpenScope

_CODE = "n-plus-one"
_UNKNOWN = object()
_MORE_ROUNDS = 3


@dataclass(slots=True)
class Outcome:
    """One run that ended.

    Args:
        statements: Statements sent.
        seconds: From call to return.
        selects: SELECTs that took loader options.
        result: What stands for what the callable returned.
        scope: What it sent.
        error: Class of the exception it raised, None if it raised none.
    """

    statements: int = 0
    seconds: float = 0.0
    selects: int = 0
    result: Any = _UNKNOWN
    scope: OpenScope | None = None
    error: str | None = None

    def take(self, run: Run, seconds: float, result: Any) -> None:
        """Note how a run ended, while its sessions are open."""
        self.statements = len(run.executions)
        self.seconds = seconds
        self.selects = run.injection.selects
        self.scope = run.scope
        try:
            self.result = describe_result(result)
        except NotComparableError:
            self.result = _UNKNOWN


@dataclass(slots=True)
class Way:
    """One way to run the callable.

    Args:
        suggestions: Loader options that are added; none for the code as it is.
    """

    suggestions: tuple[Suggestion, ...]
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def last(self) -> Outcome:
        """The latest run."""
        return self.outcomes[-1]

    @property
    def error(self) -> str | None:
        """Class of the exception that a run raised, None if none did."""
        return next((outcome.error for outcome in self.outcomes if outcome.error is not None), None)

    @property
    def cost(self) -> Cost:
        """What it took."""
        return Cost(self.last.statements, min(outcome.seconds for outcome in self.outcomes))


def plan_runs(name: str, config: Config) -> Generator[tuple[Suggestion, ...], Outcome, Replay]:
    """Ask for one run after the other, and say what they showed.

    Args:
        name: Name of the callable.
        config: Settings of the detectors.

    Yields:
        The suggestions that the next run is to try; the outcome is to be sent back.

    Returns:
        The replay.
    """
    plain = Way(())
    plain.outcomes.append((yield ()))
    findings = _find(plain.last.scope, config)
    suggestions = _list_suggestions(findings)
    suggested = [suggestion.finding for suggestion in suggestions]
    not_replayed = tuple(finding for finding in findings if finding not in suggested)
    if not suggestions:
        return Replay(name, plain.cost, plain.cost, (), not_replayed, same_result=None)
    ways = [Way((suggestion,)) for suggestion in suggestions]
    for way in ways:
        way.outcomes.append((yield way.suggestions))
    hopeful = tuple(way.suggestions[0] for way in ways if way.error is None and _saves(way, plain))
    together = [Way(hopeful)] if len(hopeful) > 1 else []
    # The plain way has its second run after the others had their first, and so on: in turns.
    for way in [*together, plain, *ways, *together]:
        way.outcomes.append((yield way.suggestions))
    for _ in range(_MORE_ROUNDS):
        doubtful = [way for way in (*ways, *together) if _saves(way, plain) and way.cost.takes_longer_than(plain.cost)]
        for way in (plain, *doubtful) if doubtful else ():
            way.outcomes.append((yield way.suggestions))
    fixes = tuple(_describe_fix(way, plain) for way in ways)
    best = next(iter(together), None) or next((way for way, fix in zip(ways, fixes, strict=True) if fix.helps), plain)
    if best.error is not None:
        best = plain
    return Replay(name, plain.cost, best.cost, fixes, not_replayed, _compare(best, plain))


def advance(
    plan: Generator[tuple[Suggestion, ...], Outcome, Replay], outcome: Outcome | None
) -> tuple[Suggestion, ...] | Replay:
    """Give the latest run to a plan, and return what the next one is to try; the replay at the end.

    Args:
        plan: Of `plan_runs`.
        outcome: None to begin.
    """
    try:
        return next(plan) if outcome is None else plan.send(outcome)
    except StopIteration as end:
        replay: Replay = end.value
        return replay


def _find(scope: OpenScope | None, config: Config) -> list[Finding]:
    """Run the detectors on what the first run sent."""
    if scope is None:
        return []
    aggregate = Aggregate(config.max_statements, config.slow_query_s)
    findings: list[Finding] = []
    sinks = {}
    for samples in scope.list_samples():
        aggregate.fold(samples)
        sinks[id(samples.source.monitor)] = samples.source.monitor
    for sink in sinks.values():
        record = build_record(scope, sink, take_fingerprint)
        for detector in DETECTORS:
            if detector.CODE == _CODE:
                findings.extend(detector.detect(record, config))
    return findings


def _list_suggestions(findings: list[Finding]) -> list[Suggestion]:
    """Return the loader options that are proposed, each once."""
    suggestions: dict[tuple[str, str | None], Suggestion] = {}
    for finding in findings:
        suggestion = read_suggestion(finding)
        if suggestion is not None:
            suggestions.setdefault((suggestion.options, suggestion.parent_site), suggestion)
    return list(suggestions.values())


def _saves(way: Way, plain: Way) -> bool:
    return way.last.statements < plain.last.statements


def _describe_fix(way: Way, plain: Way) -> ReplayedFix:
    suggestion = way.suggestions[0]
    return ReplayedFix(
        finding=suggestion.finding,
        options=suggestion.options,
        path=suggestion.path,
        parent_site=suggestion.parent_site,
        before=plain.cost,
        after=way.cost,
        selects=way.last.selects,
        same_result=_compare(way, plain),
        error=way.error,
    )


def _compare(way: Way, plain: Way) -> bool | None:
    """Tell whether two ways return the same; None if it cannot be told, also where the code as it is varies."""
    results = [outcome.result for outcome in (*plain.outcomes, *way.outcomes)]
    if any(result is _UNKNOWN for result in results):
        return None
    first, *others = results
    if not all(_equal(first, outcome.result) for outcome in plain.outcomes):
        return None
    return all(_equal(first, other) for other in others)


def _equal(first: Any, second: Any) -> bool:
    try:
        return bool(first == second)
    except Exception:  # noqa: BLE001 - an array, say, has no one answer; it is the application's class
        return False
