import pytest

from querywatch.records import Plan, PlanNode
from querywatch.report.plan_tree import build_tree, find_costly

SCAN = PlanNode("Seq Scan", table="orders", cost=907.0)
SORT = PlanNode("Sort", cost=1_042.0, children=(SCAN,))
INDEX = PlanNode("SEARCH", table="users", index="users_pk")
TABLE = PlanNode("SCAN", table="orders")


@pytest.mark.parametrize(
    ("root", "costly"),
    [
        pytest.param(SORT, SCAN, id="its-own-cost-counts"),
        pytest.param(PlanNode("Limit", cost=1.0, children=(SORT,)), SCAN, id="a-limit-gives-no-cost-back"),
        pytest.param(PlanNode("QUERY PLAN", children=(INDEX, TABLE)), TABLE, id="no-costs-a-whole-table"),
        pytest.param(PlanNode("QUERY PLAN", children=(INDEX,)), None, id="no-costs-all-by-index"),
        pytest.param(PlanNode("SCAN", table="t", index="i"), None, id="a-whole-index-is-no-table"),
    ],
)
def test_finds_the_step_to_look_at_first(root, costly):
    assert find_costly(root) is costly


def plan(root):
    return Plan("id", "any", "shop", 0.0, "shape", root)


def test_a_root_that_only_holds_steps_together_is_left_out():
    assert [step.title for step in build_tree(plan(PlanNode("QUERY PLAN", children=(INDEX, TABLE))))] == [
        ("SEARCH", "users", "users_pk"),
        ("SCAN", "orders", None),
    ]


def test_a_step_knows_its_part_of_the_cost():
    [sort] = build_tree(plan(SORT))
    assert sort.own_ratio == pytest.approx(135 / 1_042)
    assert sort.children[0].own_ratio == pytest.approx(907 / 1_042)
    assert (sort.costly, sort.children[0].costly) == (False, True)


def test_detail_that_repeats_the_step_is_left_out():
    [step] = build_tree(plan(PlanNode("SCAN", table="orders", detail="SCAN orders")))
    assert step.detail == ""


def test_an_absurdly_deep_plan_is_cut():
    node = PlanNode("Limit")
    for _ in range(300):
        node = PlanNode("Limit", detail="?", children=(node,))
    depth, steps = 0, build_tree(plan(node))
    while steps:
        depth, steps = depth + 1, steps[0].children
    assert depth == 61
