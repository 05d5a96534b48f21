"""A whole request as the callable: its handler runs in another thread and opens a scope of its own."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import sqlalchemy as sa
from counted import watching
from fastapi import Depends, FastAPI
from replay_shop import USERS, User, fill, list_users
from sqlalchemy.orm import Session

import querywatch
from querywatch import ReplayError


@pytest.fixture
def engine(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/shop.db")
    fill(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def app(engine):
    app = FastAPI()

    def open_session():
        with Session(engine) as session:
            yield session

    @app.get("/users")
    def get_users(session: Session = Depends(open_session)):  # noqa: B008, FAST002 - as FastAPI has it
        return list_users(session)

    @app.post("/users")
    def post_user(session: Session = Depends(open_session)):  # noqa: B008, FAST002
        session.add(User(name="new", bio=""))
        session.commit()

    with watching(engine, app=app):
        yield app


async def send(app, method):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        return (await client.request(method, "/users")).json()


def test_a_request_is_replayed(app):
    replay = asyncio.run(querywatch.aprove(lambda: send(app, "GET")))
    assert (replay.before.statements, replay.after.statements) == (USERS + 1, 2)
    assert replay.same_result is True


def test_a_request_that_commits_is_refused(app, engine):
    with pytest.raises(ReplayError, match="commits"):
        asyncio.run(querywatch.aprove(lambda: send(app, "POST")))
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(User)) == USERS
