"""Reading options as they are typed."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from replay_shop import Employee, Node, Order, User, fill
from sqlalchemy.orm import Session, configure_mappers

from querywatch.detectors.n_plus_one import NPlusOneEvidence
from querywatch.records import Finding
from querywatch.replay.loader_options import Injection, read_suggestion


def make_finding(options):
    return Finding(
        code="n-plus-one",
        kind="lazy_load",
        severity="warning",
        message="",
        fix="",
        fix_kind="",
        subject="User.orders",
        database=None,
        fingerprint=None,
        call_site=None,
        scope=None,
        count=10,
        total_s=None,
        first_seen_at=0.0,
        last_seen_at=0.0,
        evidence=NPlusOneEvidence(sql="", calls=10, scope_calls=11, options=options),
    )


def run(statement, *options):
    """Run a SELECT with suggestions, as a replay does, and return how many SELECTs took them and what was sent."""
    suggestions = tuple(read_suggestion(make_finding(each)) for each in options)
    injection = Injection(suggestions)
    sent = []
    engine = sa.create_engine("sqlite://")
    fill(engine)
    sa.event.listen(engine, "before_cursor_execute", lambda *execution: sent.append(execution[2]))
    with Session(engine) as session:
        sa.event.listen(session, "do_orm_execute", injection.inject)
        session.execute(statement).unique().all()
    engine.dispose()
    return injection.selects, len(sent)


@pytest.mark.parametrize(
    ("statement", "options", "expected"),
    [
        pytest.param(sa.select(User), "selectinload(User.orders)", (1, 2), id="to-many"),
        pytest.param(sa.select(User), "selectinload(User.orders).selectinload(Order.items)", (1, 3), id="chain"),
        pytest.param(sa.select(Order), "joinedload(Order.user).undefer(User.bio)", (1, 1), id="column-at-the-end"),
        pytest.param(sa.select(Node), "selectinload(Node.children, recursion_depth=-1)", (1, 4), id="recursion"),
        pytest.param(sa.select(Employee), "selectin_polymorphic(Employee, [Manager])", (1, 2), id="polymorphic"),
        pytest.param(
            sa.select(Employee),
            "selectin_polymorphic(Employee, [Manager]), selectinload(Manager.reports)",
            (1, 3),
            id="two-options",
        ),
        pytest.param(sa.select(User.id), "selectinload(User.orders)", (0, 1), id="columns-only"),
        pytest.param(sa.select(Order), "selectinload(User.orders)", (0, 1), id="another-class"),
        pytest.param(sa.select(User), "selectinload(User.friends)", (0, 1), id="no-such-attribute"),
        pytest.param(sa.select(User), "selectinload(User.logins)", (0, 1), id="no-option-fills-it"),
    ],
)
def test_adds_what_is_typed(statement, options, expected):
    configure_mappers()
    assert run(statement, options) == expected


def test_two_suggestions_are_added_to_one_select():
    assert run(sa.select(User), "selectinload(User.orders)", "undefer(User.bio)") == (1, 2)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="empty"),
        pytest.param("__import__('os')", id="code"),
        pytest.param("raiseload(User.orders)", id="unknown-function"),
        pytest.param("selectinload(User.orders) or more", id="more-text"),
        pytest.param("selectin_polymorphic([Manager])", id="of-no-class"),
        pytest.param(
            "selectinload(Company.staff).selectin_polymorphic(Employee, [Manager])", id="class-named-in-a-chain"
        ),
        pytest.param(".selectinload(User.orders)", id="begins-with-a-point"),
    ],
)
def test_reads_nothing_else(options):
    assert read_suggestion(make_finding(options)) is None
