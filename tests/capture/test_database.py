"""Names of databases: short, without credentials, and each of one database only."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from querywatch.capture import database
from querywatch.capture.database import describe_database


def describe(url):
    return describe_database(sa.create_engine(url))


@pytest.mark.parametrize(
    ("urls", "names"),
    [
        pytest.param(["sqlite://", "sqlite:///:memory:"], [":memory:", ":memory:"], id="in-memory"),
        pytest.param(["sqlite:///a/app.db", "sqlite:///a/app.db"], ["app.db", "app.db"], id="one-file"),
        pytest.param(["sqlite:///a/app.db", "sqlite:///b/app.db"], ["app.db", "b/app.db"], id="two-files"),
        pytest.param(
            ["sqlite:///a/app.db", "sqlite:///x/b/app.db", "sqlite:///y/b/app.db"],
            ["app.db", "b/app.db", "b/app.db#2"],
            id="three-files",
        ),
        pytest.param(
            ["postgresql+psycopg://u:secret@one/app", "postgresql+psycopg://u:secret@two/app"],
            ["app", "app@two"],
            id="two-servers",
        ),
        pytest.param(
            ["postgresql+psycopg://one:1/app", "postgresql+psycopg://one:2/app", "postgresql+psycopg://one:3/app"],
            ["app", "app@one", "app@one:3"],
            id="three-ports",
        ),
    ],
)
def test_names(urls, names):
    assert [describe(url).name for url in urls] == names


def test_no_credential_is_in_it():
    described = describe("postgresql+psycopg://someone:secret@db.example:5433/app?password=secret2")
    assert (described.server_address, described.server_port, described.system) == ("db.example", 5433, "postgresql")
    assert "secret" not in repr(described)
    assert "someone" not in repr(described)


def test_names_begin_anew_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(database, "_NAMES_LIMIT", 2)
    assert [describe(f"sqlite:///{folder}/app.db").name for folder in "abc"] == ["app.db", "b/app.db", "app.db"]
