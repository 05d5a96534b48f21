"""Which late loads of columns are an N+1, and the option as it must be typed."""

from __future__ import annotations

import pytest

from querywatch.config import Config
from querywatch.detectors import n_plus_one
from querywatch.records import CallSite

LINE_41 = CallSite("shop/views.py", 41, "list_users")
AT_41 = "the select at shop/views.py:41"
BIO = {"kind": "deferred", "attribute": "User.bio", "entity": "User", "entity_base": "User", "parent_base": "User"}
BUDGET = {"attribute": "Manager.budget", "entity": "Manager", "entity_base": "Person", "cause": "polymorphic"}
SKILL = {"attribute": "Engineer.skill", "entity": "Engineer", "entity_base": "Person", "cause": "polymorphic"}


@pytest.fixture
def detect(make_scope, make_query):
    return lambda *cases: list(
        n_plus_one.detect(make_scope(*(make_query(**(BIO | {"contexts": 9} | each)) for each in cases)), Config())
    )


@pytest.mark.parametrize(
    ("queries", "counts"),
    [
        pytest.param([{"contexts": 4}], [], id="one-below-limit"),
        pytest.param([{"contexts": 5}], [5], id="at-limit"),
        pytest.param([{"contexts": 3}, {"contexts": 3, "call_site": LINE_41}], [6], id="two-lines-are-one-group"),
        pytest.param([{"contexts": 3}, {"contexts": 3, "attribute": "User.photo"}], [], id="two-attributes-are-two"),
        pytest.param([{"same_parameters": True}], [], id="one-object-again-and-again"),
        pytest.param([{"attribute": None}], [], id="no-attribute-known"),
    ],
)
def test_the_late_loads_of_an_attribute_are_one_group(detect, queries, counts):
    assert [finding.count for finding in detect(*queries)] == counts


@pytest.mark.parametrize(
    ("changes", "fix_kind", "options", "where", "path"),
    [
        pytest.param(
            {"parent_site": LINE_41}, "undefer", "undefer(User.bio)", f"to {AT_41}", ("User.bio",), id="undefer"
        ),
        pytest.param(
            {},
            "undefer",
            "undefer(User.bio)",
            "to the select that loads each User",
            ("User.bio",),
            id="no-select",
        ),
        pytest.param(
            {"path": ("Order.user",), "to_one": (True,), "parent_site": LINE_41},
            "undefer",
            "joinedload(Order.user).undefer(User.bio)",
            f"to {AT_41}",
            ("Order.user", "User.bio"),
            id="of-what-another-relationship-loads",
        ),
        pytest.param(
            {"path": ("Team.users",), "to_one": (False,)},
            "undefer",
            "selectinload(Team.users).undefer(User.bio)",
            "to the select that loads each Team",
            ("Team.users", "User.bio"),
            id="of-a-relationship-of-a-select-unknown",
        ),
        pytest.param(
            BUDGET | {"parent_site": LINE_41},
            "selectin_polymorphic",
            "selectin_polymorphic(Person, [Manager])",
            f"to {AT_41}",
            ("Manager.budget",),
            id="column-of-a-subclass",
        ),
        pytest.param(
            BUDGET,
            "selectin_polymorphic",
            "selectin_polymorphic(Person, [Manager])",
            "to the select that loads each Person",
            ("Manager.budget",),
            id="of-a-subclass-of-a-select-unknown",
        ),
        pytest.param(
            BUDGET | {"path": ("Team.people",), "to_one": (False,), "parent_site": LINE_41},
            "selectin_polymorphic",
            "selectinload(Team.people).selectin_polymorphic([Manager])",
            f"to {AT_41}",
            ("Team.people", "Manager.budget"),
            id="of-a-subclass-behind-a-relationship",
        ),
    ],
)
def test_the_fix_is_what_has_to_be_typed(detect, changes, fix_kind, options, where, path):  # noqa: PLR0917 - a table's columns
    [finding] = detect(changes)
    attribute = changes.get("attribute", "User.bio")
    assert (finding.kind, finding.subject, finding.fix_kind) == ("deferred", attribute, fix_kind)
    assert finding.message == f"{attribute} is loaded one object at a time: 9 statements."
    assert finding.fix == f"Add .options({options}) {where}."
    assert (finding.evidence.options, finding.evidence.path) == (options, path)


def test_one_option_loads_all_subclasses(detect):
    options = {finding.evidence.options for finding in detect(BUDGET, SKILL)}
    assert options == {"selectin_polymorphic(Person, [Engineer, Manager])"}
