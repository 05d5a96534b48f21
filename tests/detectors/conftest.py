"""Records of one scope, as the monitor would build them; each builder takes only what a case is about."""

from __future__ import annotations

import pytest

from querywatch.fingerprint import take_fingerprint
from querywatch.records import CallSite, ScopeQuery, ScopeRecord, Step

SELECT = "SELECT orders.id FROM orders WHERE orders.user_id = ?"
ENDS = ("commit", "rollback")


def query(statement=SELECT, **changes):
    dialect = changes.get("dialect", "sqlite")
    values = {
        "statement": statement,
        "fingerprint": take_fingerprint(statement, dialect),
        "database": "shop",
        "dialect": dialect,
        "calls": changes.get("contexts", 1),
        "contexts": 1,
        "total_s": 0.01,
        "max_s": 0.005,
        "call_site": CallSite("shop/views.py", 44, "list_users"),
        "same_parameters": False,
        "looked_up": ("user_id",),
    }
    return ScopeQuery(**(values | changes))


def scope(*queries, name="GET /users", steps=(), **changes):
    """Build the record of a scope.

    Args:
        queries: What ran.
        name: Of the scope.
        steps: In which order: texts of statements, "commit" and "rollback"; the ends of transactions are counted.
        changes: Other fields.
    """
    values = {
        "name": name,
        "kind": "request",
        "started_at": 1000.0,
        "duration_s": 2.0,
        "queries": queries,
        "steps": tuple(Step(each) if each in ENDS else Step("statement", each, "shop") for each in steps),
        "commits": steps.count("commit"),
        "rollbacks": steps.count("rollback"),
    }
    return ScopeRecord(**(values | changes))


@pytest.fixture
def make_query():
    return query


@pytest.fixture
def make_scope():
    return scope
