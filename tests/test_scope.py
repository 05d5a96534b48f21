from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import threading

import pytest
import sqlalchemy as sa
from counted import count, watching
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

import querywatch
from querywatch import samples
from querywatch.samples import OpenScope, current_scope, open_scopes
from querywatch.scope import close_scope, open_scope, split_scope


@pytest.fixture
def engine(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'shop.db'}", connect_args={"check_same_thread": False})
    yield engine
    engine.dispose()


@pytest.fixture
def monitor(engine):
    with watching(engine) as monitor:
        yield monitor


@pytest.fixture(autouse=True)
def no_scope_is_left():
    before = list(open_scopes.values())
    yield
    assert current_scope.get() is None
    assert [scope for scope in open_scopes.values() if scope not in before] == []


def ask(engine):
    with engine.connect() as connection:
        connection.scalar(sa.select(1))


def calls_by_scope(monitor):
    assert monitor.flush()
    return {(stats.name, stats.kind): (stats.scopes, stats.calls) for stats in monitor.snapshot().scopes}


def test_an_inner_scope_has_its_own_statements(engine, monitor):
    with querywatch.watch("outer"):
        ask(engine)
        with querywatch.watch("inner"):
            ask(engine)
            ask(engine)
        ask(engine)
    assert calls_by_scope(monitor) == {("outer", "watch"): (1, 2), ("inner", "watch"): (1, 2)}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_decorator_opens_a_scope_for_each_call(engine, monitor, is_async):
    if is_async:

        @querywatch.watch("job")
        async def work(depth):
            """Recurse."""
            ask(engine)
            await asyncio.sleep(0)
            return depth and 1 + await work(depth - 1)

        async def main():
            return [await asyncio.gather(work(2), work(2))]

        assert asyncio.run(main()) == [[2, 2]]
    else:

        @querywatch.watch("job")
        def work(depth):
            """Recurse."""
            ask(engine)
            return depth and 1 + work(depth - 1)

        assert [work(2), work(2)] == [2, 2]
    assert (work.__name__, work.__doc__) == ("work", "Recurse.")
    assert calls_by_scope(monitor) == {("job", "watch"): (6, 6)}


def test_a_generators_scope_holds_what_its_code_does(engine, monitor):
    @querywatch.watch("export")
    def export():
        for number in range(3):
            ask(engine)
            yield number
        ask(engine)

    with querywatch.watch("job"):
        for _ in export():
            ask(engine)
            with querywatch.watch("inner"):
                ask(engine)
    assert calls_by_scope(monitor) == {
        ("export", "watch"): (1, 4),
        ("job", "watch"): (1, 3),
        ("inner", "watch"): (3, 3),
    }


def test_a_generator_that_is_abandoned_ends_its_scope(engine, monitor):
    @querywatch.watch("export")
    def export():
        try:
            ask(engine)
            yield
        finally:
            ask(engine)

    with querywatch.watch("job"):
        rows = export()
        next(rows)
        never_begun = export()
    del rows, never_begun
    gc.collect()
    assert calls_by_scope(monitor) == {("export", "watch"): (1, 2)}


def test_a_scope_that_a_generator_opens_in_one_step_and_closes_in_another_is_only_its_own(engine, monitor):
    @querywatch.watch("export")
    def export():
        with querywatch.watch("part"):
            ask(engine)
            yield
            ask(engine)
        ask(engine)

    for _ in export():
        ask(engine)
    assert calls_by_scope(monitor) == {
        ("export", "watch"): (1, 1),
        ("part", "watch"): (1, 2),
        (None, "checkout"): (1, 1),
    }


def test_a_generator_may_go_on_in_another_thread(engine, monitor):
    @querywatch.watch("export")
    def export():
        for _ in range(3):
            ask(engine)
            yield current_scope.get()

    rows = export()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        scopes = {next(rows), pool.submit(next, rows).result(), next(rows)}
        assert pool.submit(current_scope.get).result() is None
    rows.close()
    assert len(scopes) == 1
    assert calls_by_scope(monitor) == {("export", "watch"): (1, 3)}


def test_an_async_generators_scope_holds_what_its_code_does(engine, monitor):
    @querywatch.watch("export")
    async def export():
        for number in range(3):
            ask(engine)
            await asyncio.sleep(0)
            yield number

    async def read():
        async for _ in export():
            ask(engine)

    async def main():
        with querywatch.watch("job"):
            await asyncio.gather(read(), read())

    asyncio.run(main())
    assert calls_by_scope(monitor) == {("export", "watch"): (2, 6), ("job", "watch"): (1, 6)}


def test_a_coroutine_that_is_never_finished_ends_its_scope(engine, monitor):
    @querywatch.watch("job")
    async def work():
        ask(engine)
        await asyncio.sleep(0)

    coroutine = work()
    coroutine.send(None)
    coroutine.close()
    assert calls_by_scope(monitor) == {("job", "watch"): (1, 1)}


def test_a_decorator_without_a_name_says_how_to_write_it():
    with pytest.raises(querywatch.ConfigError) as caught:

        @querywatch.watch
        def send_mails():
            pass

    assert str(caught.value) == (
        "watch needs a name for the scope, got the function "
        "test_a_decorator_without_a_name_says_how_to_write_it.<locals>.send_mails. "
        'Write it above the function as @querywatch.watch("send_mails").'
    )


def test_what_follows_a_split_is_a_scope_of_its_own_wherever_it_runs(engine, monitor):
    scope = open_scope("GET /", "request")
    ask(engine)
    assert count(monitor) == 1
    elsewhere = contextvars.copy_context()
    split_scope(scope, "background:GET /", "task")
    elsewhere.run(ask, engine)
    ask(engine)
    assert count(monitor) == 3
    close_scope(scope)
    split_scope(scope, "late", "task")
    assert calls_by_scope(monitor) == {("GET /", "request"): (1, 1), ("background:GET /", "task"): (1, 2)}


def test_async_with(engine, monitor):
    async def main():
        async with querywatch.watch("job", kind="task"):
            ask(engine)

    asyncio.run(main())
    assert calls_by_scope(monitor) == {("job", "task"): (1, 1)}


def test_an_exception_ends_the_scope_and_passes(engine, monitor):
    @querywatch.watch("job")
    def work():
        ask(engine)
        raise LookupError("theirs")

    with pytest.raises(LookupError, match="theirs"):
        work()
    assert calls_by_scope(monitor) == {("job", "watch"): (1, 1)}


def test_outside_of_every_scope_a_checkout_is_one(engine, monitor):
    for _ in range(3):
        with engine.connect() as connection:
            connection.scalar(sa.select(1))
            connection.scalar(sa.select(2))
    assert calls_by_scope(monitor) == {(None, "checkout"): (3, 6)}


def test_a_checkout_that_lasts_is_counted_while_it_lasts(engine, monitor):
    with engine.connect() as connection:
        connection.scalar(sa.select(1))
        assert count(monitor) == 1
        connection.scalar(sa.select(1))
        assert count(monitor) == 2


def test_a_checkout_of_an_async_session_may_end_in_another_task(tmp_path):
    async def main():
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}")
        with watching(engine) as monitor:
            session = AsyncSession(engine)
            await session.scalar(sa.select(1))
            await asyncio.create_task(session.close())
            assert await monitor.aflush()
            assert [(stats.kind, stats.calls) for stats in monitor.snapshot().scopes] == [("checkout", 1)]
        await engine.dispose()

    asyncio.run(main())


def test_a_thread_of_a_pool_has_no_scope_and_to_thread_keeps_it(engine, monitor):
    async def main():
        with querywatch.watch("job"):
            await asyncio.to_thread(ask, engine)
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                pool.submit(ask, engine).result()

    asyncio.run(main())
    assert calls_by_scope(monitor) == {("job", "watch"): (1, 1), (None, "checkout"): (1, 1)}


def test_a_scope_may_be_closed_in_another_task(engine, monitor):
    async def main():
        scope = open_scope("stream", "request")
        ask(engine)

        async def close():
            close_scope(scope, "GET /stream")
            close_scope(scope, "ignored")

        await asyncio.create_task(close())
        assert scope.closed
        ask(engine)  # the contextvar of this task still holds the closed scope

    asyncio.run(main())
    assert calls_by_scope(monitor) == {("GET /stream", "request"): (1, 1), (None, "checkout"): (1, 1)}


def test_what_a_background_task_does_after_the_scope_is_not_lost_and_not_the_scopes(engine, monitor):
    async def main():
        closed = asyncio.Event()

        async def work():
            ask(engine)
            await closed.wait()
            ask(engine)

        with querywatch.watch("job"):
            task = asyncio.create_task(work())
            await asyncio.sleep(0)
        closed.set()
        await task

    asyncio.run(main())
    assert count(monitor) == 2
    assert calls_by_scope(monitor) == {("job", "watch"): (1, 1), (None, "checkout"): (1, 1)}


def test_a_connection_that_outlives_its_scope_begins_one_of_its_own(engine, monitor):
    with querywatch.watch("job"):
        connection = engine.connect()
        connection.scalar(sa.select(1))
    connection.scalar(sa.select(1))
    connection.close()
    assert calls_by_scope(monitor) == {("job", "watch"): (1, 1), (None, "checkout"): (1, 1)}


def test_scopes_that_are_never_closed_are_counted_and_end_at_the_limit(engine, monitor, monkeypatch):
    for left in list(open_scopes.values()):
        close_scope(left)  # of another test; the oldest ones would end first
    monkeypatch.setattr(samples, "OPEN_SCOPES_LIMIT", 10)
    scopes = []

    def leak():
        for _ in range(25):
            scopes.append(open_scope("leaked", "request"))
            ask(engine)

    contextvars.copy_context().run(leak)
    assert sum(scope.closed for scope in scopes) == 15
    assert [scope.closed for scope in scopes] == sorted((scope.closed for scope in scopes), reverse=True)
    assert count(monitor) == 25
    for scope in scopes:
        close_scope(scope)
    assert calls_by_scope(monitor) == {("leaked", "request"): (25, 25)}


def test_outer_scope_that_was_closed_first_does_not_come_back():
    outer = open_scope("outer", "request")
    inner = querywatch.watch("inner")
    with inner:
        close_scope(outer)
    assert current_scope.get() is None


def test_one_watch_may_be_shared_by_threads(engine, monitor):
    shared = querywatch.watch("shared")
    barrier = threading.Barrier(2)

    def work(statements):
        with shared:
            barrier.wait()
            for _ in range(statements):
                ask(engine)
            barrier.wait()

    # Each leaves while the other one is the latest that entered.
    threads = [threading.Thread(target=work, args=[number]) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ask(engine)
    assert calls_by_scope(monitor) == {("shared", "watch"): (2, 3), (None, "checkout"): (1, 1)}


def test_a_scope_that_sends_nothing_is_told_to_nobody(engine, monitor):
    with querywatch.watch("idle"):
        pass
    assert calls_by_scope(monitor) == {}


def test_a_name_given_late_is_the_scopes(engine, monitor):
    scope = open_scope(None, "request")
    ask(engine)
    close_scope(scope, "GET /users/{id}")
    assert calls_by_scope(monitor) == {("GET /users/{id}", "request"): (1, 1)}
    assert isinstance(scope, OpenScope)


# -- limits of a scope's own


def send_four(engine):
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE seen (id INTEGER)"))
        for number in range(3):
            connection.execute(sa.text("INSERT INTO seen (id) VALUES (:id)"), {"id": number})


@pytest.mark.parametrize(("limit", "found"), [(None, []), (3, ["scope-budget"]), (4, [])])
@pytest.mark.parametrize("form", ["with", "decorator"])
def test_a_watch_may_have_a_budget(engine, monitor, limit, found, form):
    watch = querywatch.watch("job", max_queries=limit)
    if form == "with":
        with watch:
            send_four(engine)
    else:
        watch(send_four)(engine)
    monitor.flush()
    assert [finding.code for finding in monitor.findings()] == found


@pytest.mark.parametrize("limits", [{"max_queries": 0}, {"max_db_s": 0.0}, {"max_db_s": -1}])
def test_a_budget_is_above_0(limits):
    with pytest.raises(querywatch.ConfigError, match=r"must be above 0, got .* leave it out"):
        querywatch.watch("job", **limits)
