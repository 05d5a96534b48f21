"""From statements with totals to plans, advice, and the findings that name an index.

In:  the totals of every statement, now and then.
Out: the latest plan of each, the advice that holds, `missing-index` findings; a `slow-query` finding with its fix.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from querywatch import histogram
from querywatch.samples import Example

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from querywatch.aggregate import StatementTotals
    from querywatch.config import Config
    from querywatch.records import Finding, IndexAdvice, Plan

# The statements with the most time of all that are offered for a plan, beside the slow ones.
_BUSIEST = 20
_INTERVAL_S = 5.0


class Planning:
    """Plans and advice of one monitor. `run` belongs to the background thread; the rest may be read from any.

    Args:
        config: Settings.
        clock: Gives Unix time in seconds.
    """

    def __init__(self, config: Config, clock: Callable[[], float] = time.time) -> None:
        # Loaded by who installs a monitor, not by who imports querywatch.
        from querywatch.advisor import Advisor  # noqa: PLC0415
        from querywatch.explain import Explainer  # noqa: PLC0415

        self._config = config
        self._clock = clock
        self._explainer = Explainer(config)
        self._advisor = Advisor(config)
        self._plans: dict[tuple[str, str], Plan] = {}
        self._ran_at = 0.0

    def is_due(self) -> bool:
        """Whether enough time has passed since the last run."""
        return self._config.explain and self._clock() - self._ran_at >= _INTERVAL_S

    def run(self, statements: Iterable[StatementTotals], rest: Callable[[], None]) -> list[Finding]:
        """Plan what is worth it, and look for indexes.

        Args:
            statements: All that have been seen.
            rest: Called between two pieces of work.

        Returns:
            A `missing-index` finding for each advice that holds, with its statement's figures as they are now.
        """
        from querywatch.advisor import finding_of  # noqa: PLC0415 - as above

        if not self._config.explain:
            return []
        self._ran_at = self._clock()
        examples = _choose_examples(statements)
        planned: list[tuple[Example, Plan]] = []
        for plan in self._explainer.take_plans(list(examples.values())):
            self._keep(plan)
            planned.append((examples[plan.fingerprint, plan.database], plan))
            rest()
        if not self._config.advise:
            return []
        # Also with nothing new: a call stops after a while and leaves the rest for the next one.
        self._advisor.advise(planned)
        return [
            finding_of(advice, now=self._clock(), example=examples[advice.fingerprints[0], advice.database])
            for advice in self._advisor.advice
            if (advice.fingerprints[0], advice.database) in examples
        ]

    def list_plans(self) -> list[Plan]:
        """Return the latest plan of each statement that has one."""
        return list(self._plans.values())

    def list_advice(self) -> list[IndexAdvice]:
        """Return the indexes that would help, those that save the most planner cost first."""
        return sorted(self._advisor.advice, key=_gain, reverse=True)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for people about what could not be planned or proven."""
        return (*self._explainer.notes, *self._advisor.notes)

    @property
    def errors(self) -> int:
        """Statements that could not be planned or examined because the database did not answer or refused."""
        return self._explainer.errors + self._advisor.errors

    def name_index(self, finding: Finding) -> Finding | None:
        """Return a `slow-query` finding with the index that ends it; None for any other, or where there is none."""
        if finding.code != "slow-query" or finding.fix_kind == "index":
            return None
        for advice in self._advisor.advice:
            if finding.fingerprint in advice.fingerprints and finding.database == advice.database:
                return replace(finding, fix_kind="index", fix=f"Run: {advice.ddl}")
        return None

    def is_obsolete(self, finding: Finding) -> bool:
        """Whether a `missing-index` finding's index exists by now, or a wider one is advised in its place."""
        held = {(advice.index.subject, advice.database) for advice in self._advisor.advice}
        return finding.code == "missing-index" and (finding.subject, finding.database) not in held

    def _keep(self, plan: Plan) -> None:
        key = (plan.fingerprint, plan.database)
        self._plans.pop(key, None)
        self._plans[key] = plan
        if len(self._plans) > self._config.max_plans:
            del self._plans[next(iter(self._plans))]


def _choose_examples(statements: Iterable[StatementTotals]) -> dict[tuple[str, str], Example]:
    """Return the slow statements and the busiest ones, by fingerprint and database, with values to plan them with."""
    known = [each for each in statements if each.fingerprint is not None and each.example is not None]
    busiest = sorted(known, key=lambda totals: totals.total_s, reverse=True)[:_BUSIEST]
    chosen: dict[tuple[str, str], Example] = {}
    for totals in (*(each for each in known if each.slow_calls), *busiest):
        example = _build_example(totals)
        if example is not None:
            chosen.setdefault((example.fingerprint.id, example.database.name), example)
    return chosen


def _build_example(totals: StatementTotals) -> Example | None:
    example, fingerprint = totals.example, totals.fingerprint
    engine = example.source.engine if example is not None else None
    if example is None or fingerprint is None or engine is None:
        return None
    return Example(
        engine=engine,
        database=totals.database,
        fingerprint=fingerprint,
        statement=example.statement,
        parameters=example.parameters,
        calls=totals.calls,
        total_s=totals.total_s,
        typical_s=histogram.quantile(totals.histogram.build(), 0.5) or 0.0,
        max_s=totals.max_s,
    )


def _gain(advice: IndexAdvice) -> float:
    if advice.cost_before is None or advice.cost_after is None:
        return 0.0
    return advice.cost_before - advice.cost_after
