"""FastAPI: an N+1 has the route, the relationship, the handler's line and the option that ends it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient
from integration_shop import USERS, User
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, selectinload

import querywatch


def line_of(mark):
    return next(n for n, line in enumerate(Path(__file__).read_text().splitlines(), 1) if line.endswith(f"# {mark}"))


def assert_one_lazy_load(monitor, scope, mark, function):
    monitor.flush()
    [finding] = monitor.findings()
    assert (finding.code, finding.kind, finding.subject) == ("n-plus-one", "lazy_load", "User.orders")
    assert finding.scope == scope
    assert finding.count == USERS
    assert finding.fix_kind == "selectinload"
    assert "selectinload(User.orders)" in finding.fix
    assert Path(finding.call_site.file).name == Path(__file__).name
    assert finding.call_site.line == line_of(mark)
    assert finding.call_site.function.endswith(function)


def make_app(engine):
    app = FastAPI()

    def open_session():
        with Session(engine) as session:
            yield session

    Opened = Annotated[Session, Depends(open_session)]  # noqa: N806  a type

    @app.get("/teams/{team_id}/users")
    def list_users(team_id: int, session: Opened):
        users = session.scalars(select(User)).all()
        counts = []
        for user in users:
            counts.append(len(user.orders))  # noqa: PERF401  # line in a sync handler
        return counts

    @app.get("/fixed")
    def list_fixed(session: Opened):
        return [len(user.orders) for user in session.scalars(select(User).options(selectinload(User.orders)))]

    @app.get("/refused")
    def refuse(session: Opened):
        session.scalars(select(User)).all()
        raise HTTPException(418, "short and stout")

    return app


def test_sync_engine(engine):
    app = make_app(engine)
    monitor = querywatch.install(engine, app=app)
    client = TestClient(app)
    assert client.get("/teams/3/users").json() == [2] * USERS
    assert client.get("/fixed").json() == [2] * USERS
    assert_one_lazy_load(monitor, "GET /teams/{team_id}/users", "line in a sync handler", "list_users")


@pytest.mark.parametrize("way", ["awaitable_attrs", "run_sync"])
def test_async_engine(database, way):
    engine = create_async_engine(f"sqlite+aiosqlite:///{database}")
    app = FastAPI()

    def count(session):
        return [len(user.orders) for user in session.scalars(select(User))]  # line in run_sync

    @app.get("/awaitable_attrs/{n}")
    async def read_awaitable(n: int):
        async with AsyncSession(engine) as session:
            users = (await session.scalars(select(User))).all()
            return [len(await user.awaitable_attrs.orders) for user in users]  # line in awaitable_attrs

    @app.get("/run_sync/{n}")
    async def read_run_sync(n: int):
        async with AsyncSession(engine) as session:
            return await session.run_sync(count)

    monitor = querywatch.install(engine, app=app)
    with TestClient(app) as client:
        assert client.get(f"/{way}/7").json() == [2] * USERS
        client.portal.call(engine.dispose)
    function = {"awaitable_attrs": "read_awaitable", "run_sync": "count"}[way]
    try:
        assert_one_lazy_load(monitor, f"GET /{way}/{{n}}", f"line in {way}", function)
    finally:
        querywatch.uninstall(engine)


def test_an_http_error_is_what_it_was_and_ends_its_scope(engine):
    app = make_app(engine)
    monitor = querywatch.install(engine, app=app)
    response = TestClient(app).get("/refused")
    assert (response.status_code, response.json()) == (418, {"detail": "short and stout"})
    monitor.flush()
    assert [(scope.name, scope.scopes) for scope in monitor.snapshot().scopes if scope.name] == [("GET /refused", 1)]


def test_requests_at_the_same_time_are_counted_apart(engine):
    app = make_app(engine)
    monitor = querywatch.install(engine, app=app)
    with TestClient(app) as client, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: client.get(("/fixed", f"/teams/{n}/users")[n % 2]), range(40)))
    monitor.flush()
    scopes = {scope.name: (scope.scopes, scope.calls, scope.max_calls) for scope in monitor.snapshot().scopes}
    assert scopes["GET /fixed"] == (20, 40, 2)
    assert scopes["GET /teams/{team_id}/users"] == (20, 20 * (1 + USERS), 1 + USERS)
    [finding] = monitor.findings()
    assert finding.count == 20 * USERS


def test_the_application_is_the_same_object(engine):
    app = make_app(engine)
    assert querywatch.install(engine, app=app).app is app
    assert asyncio.iscoroutinefunction(app.__call__)


def test_what_a_dependency_and_a_background_task_do_after_the_response_is_a_scope_of_its_own(engine):
    app = FastAPI()

    def open_session():
        with Session(engine) as session:
            yield session
            session.scalars(select(User.id)).all()

    def count_users(times):
        with Session(engine) as session:
            for _ in range(times):
                session.scalars(select(User.id)).all()

    @app.get("/users/{n}")
    def read(n: int, session: Annotated[Session, Depends(open_session)], tasks: BackgroundTasks):
        tasks.add_task(count_users, 2)
        return len(session.scalars(select(User)).all())

    monitor = querywatch.install(engine, app=app)
    assert TestClient(app).get("/users/7").json() == USERS
    assert monitor.flush()
    assert {(scope.name, scope.kind): (scope.scopes, scope.calls) for scope in monitor.snapshot().scopes} == {
        ("GET /users/{n}", "request"): (1, 1),
        ("background:GET /users/{n}", "task"): (1, 3),
    }
