"""FastAPI on an async engine: the same one line.

Run it:  cd examples/fastapi_shop && uvicorn async_app:app
Then ask for /users, and see /findings.
"""

from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory

from fastapi import FastAPI
from models import Model, User, make_users
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import selectinload

import querywatch

folder = TemporaryDirectory()
engine = create_async_engine(f"sqlite+aiosqlite:///{folder.name}/shop.db")


@asynccontextmanager
async def lifespan(_app):
    async with engine.begin() as connection:
        await connection.run_sync(Model.metadata.create_all)
    async with AsyncSession(engine) as session:
        session.add_all(make_users())
        await session.commit()
    yield
    monitor.close()
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
monitor = querywatch.install(engine, app=app)


@app.get("/users")
async def list_users():
    async with AsyncSession(engine) as session:
        users = await session.scalars(select(User))
        return [{"name": user.name, "orders": len(await user.awaitable_attrs.orders)} for user in users]


@app.get("/users/fixed")
async def list_users_fixed():
    async with AsyncSession(engine) as session:
        users = await session.scalars(select(User).options(selectinload(User.orders)))
        return [{"name": user.name, "orders": len(user.orders)} for user in users]


@app.get("/findings")
async def list_findings():
    await monitor.aflush()
    return [
        {"code": one.code, "scope": one.scope, "subject": one.subject, "at": str(one.call_site), "fix": one.fix}
        for one in monitor.findings()
    ]
