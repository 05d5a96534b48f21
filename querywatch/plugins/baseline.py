"""The file of known findings: an existing code base starts with those it has, and fails only on new ones.

In:  what was found in a run.
Out: JSON, sorted, to be kept in the repository.

A finding is known by its code, kind, subject, and the function it comes from: not by a line, which moves with every
edit above it, and not by the test, because the next test of the same function finds the same. Only what has no line is
known by its test. The test that showed it is kept to tell what is stale: if that test ran without it, it is mended.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

_VERSION = 1
_HOW = "Write it anew with --querywatch-update-baseline."


class Key(NamedTuple):
    """What makes a finding the same one in the next run.

    Args:
        code: Such as `n-plus-one`.
        kind: Refines the code; empty where the code has one kind only.
        subject: Such as `User.orders`.
        where: `shop/views.py::list_users`, or the test's id where no line is known.
    """

    code: str
    kind: str
    subject: str
    where: str


class Row(NamedTuple):
    """One finding of one test, in values that travel between processes.

    Args:
        code: As in `Key`.
        kind: As in `Key`.
        subject: As in `Key`.
        where: As in `Key`.
        times: Executions (or occurrences) in that test.
        line: `shop/views.py:41`, empty where not known.
        fix: What to do.
        is_known: Whether the baseline has it.
    """

    code: str
    kind: str
    subject: str
    where: str
    times: int
    line: str
    fix: str
    is_known: bool

    @property
    def key(self) -> Key:
        """What makes it the same one in the next run."""
        return Key(self.code, self.kind, self.subject, self.where)


class Run(NamedTuple):
    """What a run showed.

    Args:
        seen: The findings, each with the tests that showed it.
        finished: Ids of the tests that ran to their end.
        existing: Ids of all tests there are, None where the run was of some of them.
    """

    seen: Mapping[Key, Collection[str]]
    finished: Collection[str]
    existing: Collection[str] | None

    def has_mended(self, key: Key, test: str) -> bool:
        """Tell whether a finding is no longer there, though *test* had shown it."""
        is_gone = self.existing is not None and test not in self.existing
        return key not in self.seen and (test in self.finished or is_gone)


class Baseline:
    """The findings that are known.

    Args:
        tests: For each of them, the test that showed it.
    """

    def __init__(self, tests: Mapping[Key, str] | None = None) -> None:
        self._tests = dict(tests or {})

    def __contains__(self, key: Key) -> bool:
        """Tell whether a finding is known."""
        return key in self._tests

    def __len__(self) -> int:
        """Return how many are known."""
        return len(self._tests)

    def list_stale(self, run: Run) -> list[tuple[Key, str]]:
        """Return what is known and no longer there, with the test that had shown it: it ran without, or is gone."""
        return sorted((key, test) for key, test in self._tests.items() if run.has_mended(key, test))

    def update(self, run: Run) -> Baseline:
        """Return what is known after a run: what it showed, and what the tests that did not run would show."""
        tests = {key: test for key, test in self._tests.items() if not run.has_mended(key, test)}
        for key, shown in run.seen.items():
            known = tests.get(key)
            # The same test as before, if it can be, so that the file changes only where something did.
            if known is None or (known in run.finished and known not in shown):
                tests[key] = min(shown)
        return Baseline(tests)

    def write(self, path: Path) -> None:
        """Write the file.

        Raises:
            OSError: It cannot be written.
        """
        findings = [{**key._asdict(), "test": test} for key, test in sorted(self._tests.items())]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"version": _VERSION, "findings": findings}, indent=2) + "\n", encoding="utf-8")


def read_baseline(path: Path) -> Baseline:
    """Read the file.

    Raises:
        pytest.UsageError: There is none, or it is no baseline.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["version"] != _VERSION:
            raise pytest.UsageError(
                f"the baseline {path} has version {document['version']!r}, this querywatch reads {_VERSION}. {_HOW}"
            )
        return Baseline({_read_key(entry): str(entry["test"]) for entry in document["findings"]})
    except FileNotFoundError:
        raise pytest.UsageError(
            f"there is no baseline {path}. Write it with --querywatch-update-baseline, or leave it out."
        ) from None
    except OSError as error:
        raise pytest.UsageError(f"the baseline {path} cannot be read ({error.strerror}).") from None
    except (ValueError, KeyError, TypeError) as error:
        raise pytest.UsageError(f"{path} is no baseline of querywatch ({type(error).__name__}). {_HOW}") from None


def _read_key(entry: Mapping[str, Any]) -> Key:
    return Key(*(str(entry[name]) for name in Key._fields))
