"""`--querywatch-prove`: run a test with findings again, with the loader options that they propose.

In:  a test whose call has ended and whose fixtures are still set up.
Out: its findings, each N+1 with what the replay showed, or why there was none.

The test function is called again with the same fixtures, in transactions that are rolled back. That is sound only for
a plain function: an async test has an event loop of its plugin's, a `unittest.TestCase` its `setUp`. A test that
commits is refused by `prove`, and one whose fixtures serve only once (a session that holds its objects already, a list
that was emptied) shows no N+1 or fails the second time: then that is what is said, and nothing is proven.
"""

from __future__ import annotations

import functools
import inspect
import unittest
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import querywatch
from querywatch.records import Finding, SavedEvidence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_CODE = "n-plus-one"


def add_proofs(item: pytest.Item, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Return the findings with what a replay of the test says of them.

    Args:
        item: Its fixtures are still set up.
        findings: Of its call.
    """
    if all(finding.code != _CODE for finding in findings):
        return findings
    proofs, otherwise = _replay(item)
    return tuple(
        _add_proof(finding, proofs.get(finding.subject, otherwise)) if finding.code == _CODE else finding
        for finding in findings
    )


def _replay(item: pytest.Item) -> tuple[dict[str, str], str | None]:
    """Return the proof of each subject, and what holds for all others."""
    function = _find_function(item)
    if function is None:
        return {}, "not replayed: only a test that is a plain function can be run again"
    try:
        replay = querywatch.prove(function)
    except querywatch.QuerywatchError as error:
        return {}, f"not replayed: {error}"
    except (Exception, pytest.fail.Exception, pytest.skip.Exception) as error:  # noqa: BLE001 - a test may raise anything
        return {}, f"not replayed: run again with the same fixtures, the test raised {type(error).__name__}"
    proofs = {fix.subject: f"replayed: {fix}" for fix in replay.fixes}
    # What no loader option mends keeps the proof it has.
    proofs.update((finding.subject, "") for finding in replay.not_replayed)
    return proofs, "not replayed: run again with the same fixtures, the test did not show it"


def _find_function(item: pytest.Item) -> Callable[[], object] | None:
    if not isinstance(item, pytest.Function) or isinstance(item.instance, unittest.TestCase):
        return None
    function: Callable[..., object] = item.obj
    if inspect.iscoroutinefunction(function) or hasattr(function, "hypothesis"):
        return None
    # A test's own argument may have a default, and then no fixture of that name.
    arguments = {name: item.funcargs[name] for name in _list_arguments(function) if name in item.funcargs}
    return functools.partial(function, **arguments)


def _list_arguments(function: Callable[..., object]) -> Iterable[str]:
    return inspect.signature(function).parameters


def _add_proof(finding: Finding, proof: str | None) -> Finding:
    if not proof:
        return finding
    return replace(finding, evidence=SavedEvidence({**finding.evidence.as_dict(), "proof": proof}))
