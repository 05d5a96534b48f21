"""`missing-index`: an index advice as a finding.

In:  one advice and the statement it was found for.
Out: one finding; its subject is `orders(user_id, created_at)`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from querywatch.records import Finding

if TYPE_CHECKING:
    from querywatch.records import IndexAdvice, Proof
    from querywatch.samples import Example

CODE = "missing-index"


@dataclass(frozen=True, slots=True)
class MissingIndexEvidence:
    """What the database said.

    Args:
        ddl: The statement to type.
        proof: How it was shown.
        proof_text: What the proof saw.
        cost_before: Planner cost without the index, None where the database has no cost.
        cost_after: Planner cost with it, None where the database has no cost or nothing was measured.
        fingerprints: Ids of the statements it helps.
    """

    ddl: str
    proof: Proof
    proof_text: str
    cost_before: float | None
    cost_after: float | None
    fingerprints: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**dataclasses.asdict(self), "fingerprints": list(self.fingerprints)}


def finding_of(advice: IndexAdvice, *, now: float, example: Example) -> Finding:
    """Build the finding of one advice.

    Args:
        advice: What to create.
        now: Unix time.
        example: The statement it was found for; gives calls and seconds.
    """
    shown = "would help" if advice.proof == "estimated" else "helps"
    return Finding(
        code=CODE,
        kind=None,
        severity="info" if advice.proof == "estimated" else "warning",
        message=f"An index on {advice.index.subject} {shown} {example.fingerprint.summary}: {advice.reason}.",
        fix=f"Run: {advice.ddl}",
        fix_kind="create_index",
        subject=advice.index.subject,
        database=advice.database,
        fingerprint=advice.fingerprints[0],
        call_site=None,
        scope=None,
        count=example.calls,
        total_s=example.total_s,
        first_seen_at=now,
        last_seen_at=now,
        evidence=MissingIndexEvidence(
            ddl=advice.ddl,
            proof=advice.proof,
            proof_text=advice.proof_text,
            cost_before=advice.cost_before,
            cost_after=advice.cost_after,
            fingerprints=advice.fingerprints,
        ),
    )
