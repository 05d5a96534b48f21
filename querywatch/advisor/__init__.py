"""Index advice from plans: proposed by rules, proven by the database."""

from __future__ import annotations

from querywatch.advisor.advise import Advisor
from querywatch.advisor.finding import finding_of

__all__ = ["Advisor", "finding_of"]
