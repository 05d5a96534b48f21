"""A database with users and orders, and a watched engine on it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest
from integration_shop import make_database
from sqlalchemy import Engine, create_engine

import querywatch
from querywatch.samples import current_scope

with warnings.catch_warnings():
    # Starlette's test client is moving to a successor of httpx, and says so once, when it is imported first.
    warnings.simplefilter("ignore")
    import starlette.testclient  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path)


@pytest.fixture
def engine(database: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{database}")
    yield engine
    querywatch.uninstall(engine)
    engine.dispose()


@pytest.fixture(autouse=True)
def no_slow_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine can make any query slow; these tests are about other findings."""
    monkeypatch.setenv("QUERYWATCH_SLOW_QUERY_S", "inf")


@pytest.fixture(autouse=True)
def no_scope_left() -> Iterator[None]:
    yield
    assert current_scope.get() is None
