"""Which loads of a relationship are an N+1, and the option as it must be typed."""

from __future__ import annotations

import pytest

from querywatch.config import Config
from querywatch.detectors import n_plus_one
from querywatch.records import CallSite

LINE_20 = CallSite("shop/views.py", 20, "list_orders")
LINE_41 = CallSite("shop/views.py", 41, "list_users")
AT_41 = "the select at shop/views.py:41"
ORDERS = {"relationship": "User.orders", "path": ("User.orders",), "to_one": (False,), "entity_base": "Order"}
LAZY = ORDERS | {"kind": "lazy_load", "lazy": "select", "parent_base": "User", "parent_entity": "User"}
TO_USER = {"relationship": "Order.user", "path": ("Order.user",), "to_one": (True,), "entity_base": "User"}
TO_PARENT = {"relationship": "Node.parent", "path": ("Node.parent",), "to_one": (True,), "entity_base": "Node"}
ORDER = {"parent_entity": "Order"}
NODES = {"parent_base": "Node", "parent_entity": "Node"}


@pytest.fixture
def detect(make_scope, make_query):
    return lambda *cases: list(
        n_plus_one.detect(make_scope(*(make_query(**(LAZY | {"contexts": 9} | each)) for each in cases)), Config())
    )


@pytest.mark.parametrize(
    ("queries", "counts"),
    [
        pytest.param([{"contexts": 4}], [], id="one-below-limit"),
        pytest.param([{"contexts": 5}], [5], id="at-limit"),
        pytest.param([{"contexts": 3}, {"contexts": 3, "call_site": LINE_20}], [6], id="two-lines-are-one-group"),
        pytest.param(
            [{"contexts": 3}, {"contexts": 3, "statement": "SELECT id FROM orders WHERE ? = user_id"}],
            [6],
            id="two-statements-of-one-relationship-are-one-group",
        ),
        pytest.param([{"contexts": 4}, {"contexts": 4} | TO_USER], [], id="two-relationships-are-two-groups"),
        pytest.param([{"contexts": 5}, {"contexts": 6} | TO_USER], [5, 6], id="and-two-findings"),
        pytest.param([{"contexts": 4}, {"contexts": 4, "kind": "eager_loop"}], [], id="two-kinds-are-two-groups"),
        pytest.param([{"same_parameters": True}], [], id="one-parent-again-and-again"),
        pytest.param([{"same_parameters": None}], [9], id="parameters-unknown"),
        pytest.param([{"call_site": None}], [9], id="no-line-but-a-relationship"),
        pytest.param([{"kind": "eager"}], [], id="chunks-of-a-selectinload"),
        pytest.param([{"relationship": None}], [], id="no-relationship"),
    ],
)
def test_the_loads_of_a_relationship_are_one_group(detect, queries, counts):
    assert [finding.count for finding in detect(*queries)] == counts


@pytest.mark.parametrize(
    ("changes", "fix_kind", "options", "fix"),
    [
        pytest.param(
            {"parent_site": LINE_41},
            "selectinload",
            "selectinload(User.orders)",
            f"Add .options(selectinload(User.orders)) to {AT_41}.",
            id="to-many",
        ),
        pytest.param(
            TO_USER | {"parent_site": LINE_41, "parent_base": "Order", "parent_entity": "Order"},
            "joinedload",
            "joinedload(Order.user)",
            f"Add .options(joinedload(Order.user)) to {AT_41}.",
            id="to-one",
        ),
        pytest.param(
            {"parent_site": None},
            "selectinload",
            "selectinload(User.orders)",
            "Add .options(selectinload(User.orders)) to the select that loads each User.",
            id="no-select-known",
        ),
        pytest.param(
            {"relationship": "Order.items", "path": ("User.orders", "Order.items"), "to_one": (False, False)},
            "selectinload",
            "selectinload(User.orders).selectinload(Order.items)",
            "Add .options(selectinload(User.orders).selectinload(Order.items)) to the select that loads each User.",
            id="two-levels",
        ),
        pytest.param(
            {"relationship": "User.team", "path": ("Order.items", "Item.user", "User.team")}
            | {"to_one": (False, True, True), "parent_site": LINE_41, "parent_entity": "Order"},
            "joinedload",
            "selectinload(Order.items).joinedload(Item.user).joinedload(User.team)",
            f"Add .options(selectinload(Order.items).joinedload(Item.user).joinedload(User.team)) to {AT_41}.",
            id="three-levels-joined-and-not",
        ),
        pytest.param(
            {"relationship": "Manager.reports", "path": ("Manager.reports",), "to_one": (False,)}
            | {"parent_base": "Person", "parent_entity": "Person", "parent_site": LINE_41},
            "selectinload",
            "selectin_polymorphic(Person, [Manager]), selectinload(Manager.reports)",
            f"Add .options(selectin_polymorphic(Person, [Manager]), selectinload(Manager.reports)) to {AT_41}.",
            id="of-a-subclass-that-came-with-its-base",
        ),
        pytest.param(
            {"relationship": "Manager.reports", "path": ("Manager.reports",), "to_one": (False,)}
            | {"parent_base": "Person", "parent_entity": "Manager", "parent_site": LINE_41},
            "selectinload",
            "selectinload(Manager.reports)",
            f"Add .options(selectinload(Manager.reports)) to {AT_41}.",
            id="of-a-subclass-that-was-selected",
        ),
        pytest.param(
            {"lazy": "dynamic", "parent_site": LINE_41},
            "selectinload",
            "selectinload(User.orders)",
            "No loader option fills a collection of lazy='dynamic': map User.orders with lazy='select' too and add "
            f".options(selectinload(User.orders)) to {AT_41}, or run one SELECT with IN for all parents.",
            id="dynamic",
        ),
        pytest.param(
            {"kind": "eager_loop", "act": "immediate", "lazy": "select", "parent_site": LINE_41},
            "selectinload",
            "selectinload(User.orders)",
            f"Put selectinload(User.orders) in the place of immediateload(User.orders) at {AT_41}.",
            id="immediateload",
        ),
        pytest.param(
            {"kind": "eager_loop", "act": "immediate", "lazy": "immediate", "parent_site": LINE_41},
            "selectinload",
            "selectinload(User.orders)",
            "Map User.orders with lazy='selectin' instead of 'immediate'.",
            id="mapped-immediate",
        ),
        pytest.param(
            TO_USER
            | {"kind": "eager_loop", "act": "immediate", "lazy": "immediate"}
            | {"parent_base": "Order", "parent_entity": "Order"},
            "joinedload",
            "joinedload(Order.user)",
            "Map Order.user with lazy='joined' instead of 'immediate'.",
            id="mapped-immediate-to-one",
        ),
        pytest.param(
            {"kind": "eager_loop", "act": "cascade", "deletes": True, "parent_site": LINE_41},
            "passive_deletes",
            "selectinload(User.orders)",
            "Map User.orders with passive_deletes=True and its foreign key with ondelete='CASCADE', so that the "
            f"database does it; or add .options(selectinload(User.orders)) to {AT_41}.",
            id="children-loaded-to-be-deleted",
        ),
        pytest.param(
            {"kind": "eager_loop", "act": "flush", "deletes": False, "parent_site": LINE_41},
            "passive_deletes",
            "selectinload(User.orders)",
            "Map User.orders with passive_deletes='all' and its foreign key with ondelete='SET NULL', so that the "
            f"database does it; or add .options(selectinload(User.orders)) to {AT_41}.",
            id="children-loaded-to-lose-their-parent",
        ),
        pytest.param(
            {"kind": "eager_loop", "act": "merge", "parent_site": LINE_41},
            "selectinload",
            "selectinload(User.orders)",
            f"Add .options(selectinload(User.orders)) to {AT_41}.",
            id="loaded-to-be-merged",
        ),
        pytest.param(
            {"kind": "eager_loop", "act": "merge", "call_site": LINE_41, "parent_site": LINE_41},
            "selectinload",
            "selectinload(User.orders)",
            "Load the objects first, with one select(User).where(...in_(...)).options(selectinload(User.orders)), and "
            f"keep them until the merges at {LINE_41} are done.",
            id="read-by-the-merge-itself",
        ),
    ],
)
def test_the_fix_is_what_has_to_be_typed(detect, changes, fix_kind, options, fix):
    [finding] = detect(changes)
    assert (finding.fix_kind, finding.evidence.options, finding.fix) == (fix_kind, options, fix)
    assert finding.subject == changes.get("relationship", "User.orders")
    assert finding.message == f"{finding.subject} is loaded one parent at a time: 9 statements."
    assert finding.evidence.path == changes.get("path", ("User.orders",))


@pytest.mark.parametrize(
    ("select", "fix_kind", "fix"),
    [
        pytest.param(
            {"kind": "get", "act": "get"},
            "joinedload",
            "Pass options=[joinedload(Order.user)] to the get() at shop/views.py:41.",
            id="a-look-up-by-key-takes-an-argument",
        ),
        pytest.param(
            {"kind": "get", "act": "merge"},
            "joinedload",
            f"Add .options(joinedload(Order.user)) to {AT_41}.",
            id="a-merge-takes-none",
        ),
        pytest.param(
            {"statement": "SELECT orders.id FROM orders FOR UPDATE", "dialect": "postgresql"},
            "selectinload",
            f"Add .options(selectinload(Order.user)) to {AT_41}.",
            id="locked-rows-cannot-be-joined",
        ),
        pytest.param(
            {"locks_rows": True},
            "selectinload",
            f"Add .options(selectinload(Order.user)) to {AT_41}.",
            id="written-as-for-update",
        ),
        pytest.param(
            {"is_text": True},
            "selectinload",
            f"Add .options(selectinload(Order.user)) to {AT_41}.",
            id="from-a-text-that-is-given",
        ),
        pytest.param(
            {"statement": "INSERT INTO orders (total) VALUES (?) RETURNING id"},
            "selectinload",
            f"Add .options(selectinload(Order.user)) to {AT_41}.",
            id="from-an-insert-that-returns-them",
        ),
        pytest.param(
            {"call_site": LINE_20, "kind": "get", "act": "get", "locks_rows": True},
            "joinedload",
            f"Add .options(joinedload(Order.user)) to {AT_41}.",
            id="another-line",
        ),
    ],
)
def test_the_option_is_one_that_the_select_takes(make_scope, make_query, select, fix_kind, fix):
    loaded = make_query(contexts=9, parent_site=LINE_41, **(LAZY | TO_USER | {"parent_base": "Order"} | ORDER))
    select = make_query(**({"statement": "SELECT orders.id FROM orders", "call_site": LINE_41} | select))
    [finding] = n_plus_one.detect(make_scope(select, loaded), Config())
    assert (finding.fix_kind, finding.fix) == (fix_kind, fix)


@pytest.mark.parametrize(
    ("changes", "fix_kind"),
    [
        pytest.param({"parent_rows": 1}, "recursion", id="a-walk-from-one-row"),
        pytest.param({"parent_rows": 8}, "recursion", id="more-steps-than-rows"),
        pytest.param({"parent_rows": 9}, "joinedload", id="one-step-for-each-row"),
        pytest.param({"parent_rows": None}, "joinedload", id="rows-unknown"),
        pytest.param(
            {"path": ("Node.parent", "Node.parent"), "to_one": (True, True)}, "recursion", id="the-same-step-twice"
        ),
        pytest.param({"parent_rows": 1, "entity_base": "Other"}, "joinedload", id="not-to-itself"),
    ],
)
def test_a_way_along_a_tree_is_told_from_one_step_for_each_row(detect, changes, fix_kind):
    [finding] = detect(TO_PARENT | NODES | {"parent_site": LINE_41} | changes)
    assert finding.fix_kind == fix_kind
    if fix_kind == "recursion":
        options = "selectinload(Node.parent, recursion_depth=-1)"
        assert finding.message == "Node.parent is followed one step at a time: 9 statements."
        assert finding.fix == f"Add .options({options}) to {AT_41}, or read the whole way with one recursive CTE."
        assert (finding.evidence.options, finding.evidence.path) == (options, ("Node.parent",))
