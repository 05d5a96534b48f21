"""The programs, a module for each topic."""

from __future__ import annotations

from importlib import import_module

from accuracy.expectation import Program, read_programs

_TOPICS = (
    "relationships",
    "relationships_silent",
    "places",
    "interleaved",
    "eager_loops",
    "lookups",
    "batches",
    "refreshes",
    "duplicates",
    "machinery",
    "writes",
    "writes_silent",
    "results",
    "connections",
    "unused",
    "fixes",
    "fixes_beside",
)

PROGRAMS: tuple[Program, ...] = tuple(
    program for topic in _TOPICS for program in read_programs(import_module(f"{__name__}.{topic}"))
)
