"""Records of one scope, as the monitor would build them; each builder takes only what a case is about."""

from __future__ import annotations

import pytest

from querywatch.fingerprint import take_fingerprint
from querywatch.records import CallSite, ScopeQuery, ScopeRecord


def query(statement="SELECT orders.id FROM orders WHERE orders.user_id = ?", **changes):
    values = {
        "statement": statement,
        "fingerprint": take_fingerprint(statement, "sqlite"),
        "database": "shop",
        "dialect": "sqlite",
        "calls": changes.get("contexts", 1),
        "contexts": 1,
        "total_s": 0.01,
        "max_s": 0.005,
        "call_site": CallSite("shop/views.py", 44, "list_users"),
        "same_parameters": False,
        "looked_up": ("user_id",),
    }
    return ScopeQuery(**(values | changes))


def scope(*queries, name="GET /users"):
    return ScopeRecord(name=name, kind="request", started_at=1000.0, duration_s=2.0, queries=queries)


@pytest.fixture
def make_query():
    return query


@pytest.fixture
def make_scope():
    return scope
