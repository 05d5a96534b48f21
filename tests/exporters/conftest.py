"""Records as a monitor would hand them over; each builder takes only what a case is about."""

import dataclasses

import pytest

from querywatch.records import (
    CallSite,
    Database,
    Finding,
    Fingerprint,
    Histogram,
    QueryStats,
    SavedEvidence,
    SpanRecord,
)

FINGERPRINT = Fingerprint(
    id="0123456789abcdef",
    version=1,
    sql="SELECT users.id FROM users WHERE users.id = ?",
    summary="SELECT users",
    operation="SELECT",
    tables=("users",),
)

SHOP = Database(name="shop", system="postgresql", dialect="postgresql", server_address="db.example", server_port=5432)

FINDING = Finding(
    code="n-plus-one",
    kind="lazy_load",
    severity="warning",
    message="User.orders was loaded 50 times.",
    fix="add .options(selectinload(User.orders)) to the select at shop/views.py:41.",
    fix_kind="selectinload",
    subject="User.orders",
    database="shop",
    fingerprint="0123456789abcdef",
    call_site=CallSite("shop/views.py", 44, "list_users"),
    scope="GET /users",
    count=50,
    total_s=0.31,
    first_seen_at=1_700_000_000.0,
    last_seen_at=1_700_000_001.0,
    evidence=SavedEvidence({}),
)

SPAN = SpanRecord(
    fingerprint=FINGERPRINT,
    database=SHOP,
    started_at=1_700_000_000.25,
    ended_at=1_700_000_000.75,
    error_type=None,
    sqlstate=None,
    calls=1,
    batch_size=None,
    kind="slow",
    call_site=CallSite("shop/views.py", 44, "list_users"),
    parent=None,
)


@pytest.fixture
def make_finding():
    return lambda **changes: dataclasses.replace(FINDING, **changes)


@pytest.fixture
def make_span():
    return lambda **changes: dataclasses.replace(SPAN, **changes)


@pytest.fixture
def make_stats():
    def make(number=1, *, calls=1, counts=None, zeros=0, total_s=1.0, fingerprint=None, **changes):
        fingerprint = fingerprint or dataclasses.replace(FINGERPRINT, id=f"{number:016x}")
        values = {
            "fingerprint": fingerprint,
            "database": "shop",
            "calls": calls,
            "errors": (),
            "total_s": total_s,
            "max_s": total_s,
            "histogram": Histogram({-1: calls} if counts is None else counts, zeros),
            "rows": None,
            "last_seen_at": 1_700_000_000.0,
        }
        return QueryStats(**(values | changes))

    return make
