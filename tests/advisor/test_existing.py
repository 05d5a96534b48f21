from __future__ import annotations

import pytest

from querywatch.advisor.existing import covers
from querywatch.records import IndexSpec


def index(*columns, **more):
    return IndexSpec("orders", columns, **more)


@pytest.mark.parametrize(
    ("have", "want", "expected"),
    [
        pytest.param(index("a"), index("a"), True, id="the-same"),
        pytest.param(index("a", "b"), index("a"), True, id="it-begins-so"),
        pytest.param(index("A"), index("a"), True, id="case-on-sqlite"),
        pytest.param(index("a"), index("a", "b"), False, id="too-short"),
        pytest.param(index("b", "a"), index("a"), False, id="another-order"),
        pytest.param(index("a DESC"), index("a"), True, id="read-backwards"),
        pytest.param(index("a DESC", "b"), index("a", "b DESC"), True, id="both-turned"),
        pytest.param(index("a DESC", "b"), index("a", "b"), False, id="one-turned"),
        pytest.param(index("a", where="b > 1"), index("a"), False, id="partial"),
        pytest.param(index("a", expressions=("lower(b)",)), index("a"), False, id="with-an-expression"),
        pytest.param(index("a", method="hash"), index("a"), False, id="another-method"),
        pytest.param(index("a", unique=True, include=("b",)), index("a"), True, id="unique-with-include"),
    ],
)
def test_covers(have, want, expected):
    assert covers(have, want) is expected
