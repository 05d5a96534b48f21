"""A plan as a tree for reading, with the step that costs most marked.

In:  a plan.
Out: steps, each with the share of the cost that is its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from querywatch.report import wording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from querywatch.records import Plan, PlanNode

#: Deeper steps are left out: no database plans so, but a file may claim it, and templates recurse.
_DEEPEST = 60


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a plan.

    Args:
        title: Kind, table and index as one phrase's parts: `Seq Scan`, `orders`, None.
        detail: Conditions and keys, empty where they say no more than the title.
        numbers: Rows and cost, for people.
        own_ratio: Share of the plan's cost spent here and not in its children, None where the database has no cost.
        costly: Whether this is the step to look at first.
        children: The steps that feed it.
    """

    title: tuple[str, str | None, str | None]
    detail: str
    numbers: tuple[str, ...]
    own_ratio: float | None
    costly: bool
    children: tuple[Step, ...]


def build_tree(plan: Plan) -> tuple[Step, ...]:
    """Return the top steps of *plan*: one, or several where its root only holds them together (SQLite)."""
    costly = find_costly(plan.root)
    total = plan.root.cost
    if plan.root.children and total is None and not (plan.root.table or plan.root.index or plan.root.detail):
        return tuple(_step(child, costly, total, 0) for child in plan.root.children)
    return (_step(plan.root, costly, total, 0),)


def find_costly(root: PlanNode) -> PlanNode | None:
    """Return the step that costs most by itself.

    Args:
        root: Top of a plan.

    Returns:
        The step with the highest cost of its own; where the database has no costs, the first that reads a whole
        table; None if there is none such.
    """
    nodes = list(_walk(root))
    priced = [node for node in nodes if node.cost is not None]
    if priced:
        return max(priced, key=_own_cost)
    return next((node for node in nodes if node.table and not node.index and "SCAN" in node.kind.upper()), None)


def describe_access(root: PlanNode, table: str, *, but_not: str | None) -> str | None:
    """Return in a few words how a plan reads *table*, such as `Seq Scan on orders`.

    Args:
        root: Top of the plan.
        table: Name as in the plan.
        but_not: An index; a step that uses it is not meant.

    Returns:
        The first such step, None if there is none.
    """
    for node in _walk(root):
        if node.table == table and (node.index is None or node.index != but_not):
            if node.detail.startswith(node.kind):
                return node.detail
            return f"{node.kind} on {table}" + (f" using {node.index}" if node.index else "")
    return None


def _walk(node: PlanNode) -> Iterator[PlanNode]:
    yield node
    for child in node.children:
        yield from _walk(child)


def _own_cost(node: PlanNode) -> float:
    # A LIMIT costs less than its child, whose cost is that of reading everything: no step gives cost back.
    return max((node.cost or 0.0) - sum(child.cost or 0.0 for child in node.children), 0.0)


def _step(node: PlanNode, costly: PlanNode | None, total: float | None, depth: int) -> Step:
    title = (wording.one_line(node.kind), _shown(node.table), _shown(node.index))
    detail = wording.one_line(node.detail)
    return Step(
        title=title,
        # SQLite's detail is the whole step, which the title already says.
        detail="" if detail == " ".join(part for part in title if part) else detail,
        numbers=tuple(_numbers(node)),
        own_ratio=min(_own_cost(node) / total, 1.0) if total and node.cost is not None else None,
        costly=node is costly,
        children=tuple(_step(child, costly, total, depth + 1) for child in node.children if depth < _DEEPEST),
    )


def _shown(name: str | None) -> str | None:
    return wording.one_line(name) if name else None


def _numbers(node: PlanNode) -> Iterator[str]:
    if node.rows_estimated is not None:
        yield f"{wording.counted(round_rows(node.rows_estimated), 'row')} expected"
    if node.rows_actual is not None:
        yield f"{wording.count(round_rows(node.rows_actual))} returned"
    if node.cost is not None:
        yield f"cost {wording.cost(node.cost)}"


def round_rows(rows: float) -> float:
    """Return rows without a fraction: a planner's 19,730.4 rows are no more exact than 19,730."""
    return float(round(rows)) if abs(rows) < float("inf") else rows
