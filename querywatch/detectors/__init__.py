"""What one closed scope shows to be wasteful: one module for each finding's code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from querywatch.detectors import (
    duplicate_query,
    large_result,
    long_transaction,
    n_plus_one,
    pool_wait,
    scope_budget,
    select_star,
    slow_query,
    unused_eager_load,
    write_loop,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from querywatch.config import Config
    from querywatch.records import Finding, ScopeRecord


class Detector(Protocol):
    """What a module of this folder offers."""

    @property
    def CODE(self) -> str:  # noqa: N802 - a module's constant
        """The finding's code, such as `n-plus-one`."""

    def detect(self, scope: ScopeRecord, config: Config) -> Iterator[Finding]:
        """Yield the findings of one scope."""


DETECTORS: tuple[Detector, ...] = (
    n_plus_one,
    duplicate_query,
    write_loop,
    unused_eager_load,
    select_star,
    large_result,
    long_transaction,
    pool_wait,
    scope_budget,
    slow_query,
)
