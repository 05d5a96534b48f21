"""What a replay shows, on real databases."""

from __future__ import annotations

import asyncio
import functools

import pytest
import sqlalchemy as sa
from counted import count, watching
from replay_shop import USERS, Employee, Node, Order, User, fill, list_users
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, aliased, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool, StaticPool

import querywatch


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request, tmp_path):
    url = f"sqlite:///{tmp_path}/shop.db" if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    engine = sa.create_engine(url)
    fill(engine)
    yield engine
    engine.dispose()


@pytest.fixture(params=["aiosqlite", "asyncpg", "psycopg"])
def async_url(request, tmp_path):
    if request.param == "aiosqlite":
        plain = f"sqlite:///{tmp_path}/shop.db"
        url = f"sqlite+aiosqlite:///{tmp_path}/shop.db"
    else:
        plain = request.getfixturevalue("postgres_database")
        url = plain.replace("+psycopg", f"+{request.param}")
    engine = sa.create_engine(plain)
    fill(engine)
    engine.dispose()
    return url


def read_names(session):
    return [user.name for user in session.scalars(sa.select(User).order_by(User.id))]


def read_items(session):
    users = session.scalars(sa.select(User).order_by(User.id))
    return [[len(order.items) for order in user.orders] for user in users]


def read_owners(session):
    for order in session.scalars(sa.select(Order)):
        assert order.user.name


def read_bios(session):
    return [user.bio for user in session.scalars(sa.select(User).order_by(User.id))]


def read_budgets(session):
    return [employee.budget for employee in session.scalars(sa.select(Employee).order_by(Employee.id))]


def read_reports(session):
    return [len(employee.reports) for employee in session.scalars(sa.select(Employee).order_by(Employee.id))]


def read_aliased(session):
    other = aliased(User)
    return [len(user.orders) for user in session.scalars(sa.select(other).order_by(other.id))]


def read_legacy(session):
    return [len(user.orders) for user in session.query(User).order_by(User.id)]


def read_tuples(session):
    rows = session.execute(sa.select(User, sa.func.lower(User.name)).order_by(User.id))
    return [(name, len(user.orders)) for user, name in rows]


def read_streamed(session):
    for user in session.scalars(sa.select(User).order_by(User.id)):
        yield len(user.orders)


def read_tree(session):
    def depth(node):
        return 1 + max((depth(child) for child in node.children), default=0)

    return [depth(node) for node in session.scalars(sa.select(Node).where(Node.parent_id.is_(None)))]


READERS = [
    pytest.param(list_users, "User.orders", "selectinload(User.orders)", (USERS + 1, 2), id="to-many"),
    pytest.param(read_owners, "Order.user", "joinedload(Order.user)", (USERS + 1, 1), id="to-one"),
    pytest.param(read_bios, "User.bio", "undefer(User.bio)", (USERS + 1, 1), id="deferred"),
    pytest.param(
        read_budgets, "Manager.budget", "selectin_polymorphic(Employee, [Manager])", (USERS + 1, 2), id="polymorphic"
    ),
    pytest.param(read_aliased, "User.orders", "selectinload(User.orders)", (USERS + 1, 2), id="aliased"),
    pytest.param(read_legacy, "User.orders", "selectinload(User.orders)", (USERS + 1, 2), id="legacy-query"),
    pytest.param(read_tuples, "User.orders", "selectinload(User.orders)", (USERS + 1, 2), id="several-columns"),
    pytest.param(read_streamed, "User.orders", "selectinload(User.orders)", (USERS + 1, 2), id="generator"),
]


@pytest.mark.parametrize(("function", "subject", "options", "statements"), READERS)
def test_the_proposed_option_saves_the_statements(engine, function, subject, options, statements):
    replay = querywatch.prove(function, engine=engine)
    assert [(fix.subject, fix.options) for fix in replay.fixes] == [(subject, options)]
    assert replay.fixes[0].problem is None
    assert (replay.before.statements, replay.after.statements) == statements
    assert (replay.helps, replay.same_result, replay.not_replayed) == (True, True, ())
    assert 0 < replay.after.seconds < 60


def test_two_levels_are_tried_alone_and_the_chain_ends_both(engine):
    replay = querywatch.prove(read_items, engine=engine)
    orders, items = sorted(replay.fixes, key=lambda fix: len(fix.path))
    assert items.options == "selectinload(User.orders).selectinload(Order.items)"
    assert (orders.before.statements, orders.after.statements) == (1 + USERS + 2 * USERS, 2 + 2 * USERS)
    assert (items.after.statements, replay.after.statements) == (3, 3)


def test_a_tree_is_loaded_to_its_end(engine):
    replay = querywatch.prove(read_tree, engine=engine)
    assert [fix.options for fix in replay.fixes] == ["selectinload(Node.children, recursion_depth=-1)"]
    assert replay.helps
    assert replay.after.statements < 7


def test_reads_as_one_proof_line(engine):
    replay = querywatch.prove(list_users, engine=engine)
    first, second = str(replay).splitlines()
    assert first.startswith(f"replayed: {USERS + 1} -> 2 queries, ")
    assert first.count(" ms") == 2
    assert second == "  selectinload(User.orders)"


def test_a_callable_without_arguments_uses_its_own_sessions(engine):
    make_session = sessionmaker(engine)

    def read():
        with make_session() as session:
            return list_users(session)

    assert querywatch.prove(read).after.statements == 2


def test_a_scoped_session_is_fresh_in_each_run(engine):
    registry = scoped_session(sessionmaker(engine))

    def read():
        return list_users(registry)  # never removed

    replay = querywatch.prove(read)
    assert (replay.before.statements, replay.after.statements) == (USERS + 1, 2)
    assert not registry().in_transaction()
    registry.remove()


def test_a_sessionmaker_makes_the_session(engine):
    class ShopSession(Session):
        pass

    def read(session, limit=3):
        assert isinstance(session, ShopSession)
        return list_users(session)[:limit]

    assert querywatch.prove(read, session=sessionmaker(engine, class_=ShopSession)).helps


def test_the_other_arguments_are_bound(engine):
    def read(limit, session):
        return list_users(session)[:limit]

    assert querywatch.prove(functools.partial(read, 2), engine=engine).helps


def test_an_engine_that_is_made_by_the_callable_takes_part(tmp_path):
    url = f"sqlite:///{tmp_path}/own.db"
    engine = sa.create_engine(url)
    fill(engine)
    engine.dispose()

    def script():
        engine = sa.create_engine(url, poolclass=NullPool)
        with Session(engine) as session:
            session.add(User(name="new", bio=""))
            session.flush()
            return list_users(session)

    replay = querywatch.prove(script)
    assert (replay.before.statements, replay.after.statements) == (USERS + 3, 3)
    with sa.create_engine(url, poolclass=NullPool).connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(User)) == USERS


def test_the_database_in_memory_takes_part():
    engine = sa.create_engine("sqlite://", poolclass=StaticPool)
    fill(engine)
    assert querywatch.prove(list_users, engine=engine).after.statements == 2
    assert querywatch.prove(list_users, engine=engine).after.statements == 2
    engine.dispose()


def test_a_watched_engine_needs_no_name_and_its_monitor_does_not_count_the_runs(engine):
    with watching(engine) as monitor:
        with engine.connect() as connection:
            connection.scalar(sa.text("SELECT 1"))
        assert querywatch.prove(list_users).helps
        with engine.connect() as connection:
            connection.scalar(sa.text("SELECT 1"))
        assert count(monitor) == 2
        assert monitor.findings() == []


def test_what_the_callable_opens_a_scope_for_is_counted_too(engine):
    @querywatch.watch("GET /users")
    def read(session):
        return list_users(session)

    assert querywatch.prove(read, engine=engine).after.statements == 2


def test_the_threshold_is_a_setting(engine):
    assert querywatch.prove(list_users, engine=engine, n_plus_one_threshold=USERS + 1).fixes == ()


# -- when it does not help


def test_nothing_to_fix(engine):
    calls = []

    def read(session):
        calls.append(1)
        return read_names(session)

    replay = querywatch.prove(read, engine=engine)
    assert str(replay).startswith("replayed: 1 query, ")
    assert str(replay).endswith("no N+1, nothing to fix")
    assert (len(calls), replay.helps) == (1, False)


def test_only_loader_options_are_replayed(engine):
    def read(session):
        users = list_users(session)
        return users, [session.scalar(sa.select(User.name).where(User.id == number)) for number in range(1, USERS + 1)]

    replay = querywatch.prove(read, engine=engine)
    assert [finding.subject for finding in replay.not_replayed] == ["users"]
    assert (replay.before.statements, replay.after.statements) == (2 * USERS + 1, USERS + 2)
    assert "Only loader options can be replayed. Not replayed:\n    users: Run one SELECT with " in str(replay)


def test_a_collection_that_no_option_fills_does_not_help(engine):
    def read(session):
        return [user.logins.all() for user in session.scalars(sa.select(User))]

    replay = querywatch.prove(read, engine=engine)
    assert not replay.helps
    assert "no proposed fix helps" in str(replay) or "no loader option to try" in str(replay)


def test_an_option_that_is_overridden_saves_nothing(engine):
    def read(session):
        total = 0
        for user in session.scalars(sa.select(User)):
            session.expire(user, ["orders"])
            total += len(user.orders)
        return total

    replay = querywatch.prove(read, engine=engine)
    assert not replay.helps
    assert replay.after == replay.before
    assert "It saves no query." in str(replay)


def test_a_callable_that_fails_with_the_fix_says_so(engine):
    def read(session):
        users = session.scalars(sa.select(User)).all()
        if "orders" in vars(users[0]):
            raise LookupError("orders are there")
        return [len(user.orders) for user in users]

    replay = querywatch.prove(read, engine=engine)
    assert [fix.problem for fix in replay.fixes] == ["With it the callable raises LookupError."]
    assert not replay.helps


def test_another_result_is_told(engine):
    def read(session):
        users = session.scalars(sa.select(User)).all()
        loaded = "orders" in vars(users[0])
        return loaded, [len(user.orders) for user in users]

    replay = querywatch.prove(read, engine=engine)
    assert [(fix.same_result, fix.helps) for fix in replay.fixes] == [(False, False)]
    assert "With it the callable returns something else." in str(replay)


@pytest.mark.parametrize(
    ("make_result", "same"),
    [
        pytest.param(lambda users: users, True, id="mapped-objects"),
        pytest.param(lambda users: {user.id: user.orders for user in users}, True, id="collections"),
        pytest.param(lambda _users: None, True, id="nothing"),
        pytest.param(lambda _users: object(), None, id="no-equality"),
    ],
)
def test_compares_what_can_be_compared(engine, make_result, same):
    def read(session):
        users = session.scalars(sa.select(User)).all()
        assert all(len(user.orders) == 2 for user in users)
        return make_result(users)

    replay = querywatch.prove(read, engine=engine)
    assert replay.helps
    assert replay.same_result is same
    assert ("cannot be compared" in str(replay)) is (same is None)


def test_a_result_that_varies_by_itself_says_nothing(engine):
    calls = iter(range(100))

    def read(session):
        list_users(session)
        return next(calls)

    replay = querywatch.prove(read, engine=engine)
    assert (replay.helps, replay.same_result) == (True, None)


def test_only_the_select_at_the_line_takes_the_option(engine):
    def read(session):
        first = session.scalars(sa.select(User).where(User.id == 1)).one().name
        session.expunge_all()
        return first, list_users(session)

    replay = querywatch.prove(read, engine=engine)
    assert replay.fixes[0].selects == 1
    assert (replay.before.statements, replay.after.statements) == (USERS + 2, 3)


# -- async


def test_an_async_callable_gets_an_async_session(async_url):
    async def read(session):
        assert isinstance(session, AsyncSession)
        return await session.run_sync(list_users)

    async def main():
        engine = create_async_engine(async_url)
        replay = await querywatch.aprove(read, engine=engine)
        await engine.dispose()
        return replay

    replay = asyncio.run(main())
    assert (replay.before.statements, replay.after.statements, replay.same_result) == (USERS + 1, 2, True)


def test_an_async_callable_may_use_its_own_sessions_and_yield(async_url):
    async def main():
        engine = create_async_engine(async_url)
        make_session = async_sessionmaker(engine)

        async def read():
            async with make_session() as session:
                for user in await session.scalars(sa.select(User)):
                    yield len(await user.awaitable_attrs.orders) if hasattr(user, "awaitable_attrs") else user.id
                yield await session.run_sync(list_users)

        with watching(engine):
            replay = await querywatch.aprove(read)
        await engine.dispose()
        return replay

    replay = asyncio.run(main())
    assert replay.before.statements > USERS
