"""PostgreSQL's EXPLAIN (FORMAT JSON) as a plan tree.

In:  what EXPLAIN returned.
Out: `PlanNode`s; conditions with `?` in place of every literal, because EXPLAIN prints the values it planned with.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from querywatch.records import PlanNode
from querywatch.shape import take_shape

if TYPE_CHECKING:
    from collections.abc import Mapping

# "Index Cond" leads: `reads_whole_table` looks for it.
_CONDITIONS = (
    "Index Cond",
    "Recheck Cond",
    "Hash Cond",
    "Merge Cond",
    "Join Filter",
    "TID Cond",
    "Filter",
    "Sort Key",
    "Presorted Key",
    "Group Key",
    "Subplan Name",
    "CTE Name",
    "Function Name",
)


def parse_plan(answer: Any, visible: frozenset[str]) -> PlanNode:
    """Parse the one value that EXPLAIN returned.

    Args:
        answer: JSON as text or bytes, or already parsed by the driver.
        visible: Schemas of the search_path; a table of any other keeps its schema in its name.
    """
    document = json.loads(answer) if isinstance(answer, str | bytes) else answer
    return _parse(document[0]["Plan"], visible)


def rename_indexes(root: PlanNode, names: Mapping[str, str]) -> PlanNode:
    """Replace the names of indexes, such as HypoPG's `<13504>btree_orders_user_id`, by those in *names*."""
    return dataclasses.replace(
        root,
        index=names.get(root.index, root.index) if root.index else None,
        children=tuple(rename_indexes(child, names) for child in root.children),
    )


def _parse(node: Mapping[str, Any], visible: frozenset[str]) -> PlanNode:
    table, schema = node.get("Relation Name"), node.get("Schema")
    return PlanNode(
        kind=node["Node Type"],
        table=f"{schema}.{table}" if table and schema and schema not in visible else table,
        index=node.get("Index Name"),
        rows_estimated=node.get("Plan Rows"),
        cost=node.get("Total Cost"),
        detail="; ".join(f"{key}: {_write(node[key])}" for key in _CONDITIONS if key in node),
        children=tuple(_parse(child, visible) for child in node.get("Plans", ())),
    )


def _write(condition: Any) -> str:
    return take_shape(", ".join(condition) if isinstance(condition, list) else str(condition))
