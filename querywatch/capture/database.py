"""Where an engine sends its statements, without credentials.

In:  an engine's URL and dialect.
Out: a `records.Database`, whose name no other database of the process has.

Everything that is counted is told apart by that name, so two files or two servers with databases of one name must not
share it: the one that comes second is named by its folder or its host too.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from querywatch.records import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL, Engine

# OpenTelemetry's `db.system.name` where it is not SQLAlchemy's name.
_SYSTEMS = {"mssql": "microsoft.sql_server", "oracle": "oracle.db"}

_IN_MEMORY = ":memory:"
# Programs that make a database for each test or tenant must not grow this for ever: names begin anew then.
_NAMES_LIMIT = 10_000
_owners: dict[str, tuple[object, ...]] = {}


def describe_database(engine: Engine) -> Database:
    """Name the database of *engine*.

    Args:
        engine: A sync engine.
    """
    url, dialect = engine.url, engine.dialect.name
    return Database(
        name=_choose_name(url, dialect),
        system=_SYSTEMS.get(dialect, dialect),
        dialect=dialect,
        server_address=url.host,
        server_port=url.port,
    )


def _choose_name(url: URL, dialect: str) -> str:
    if len(_owners) >= _NAMES_LIMIT:
        _owners.clear()
    identity = (dialect, url.host, url.port, url.database or _IN_MEMORY)
    return next(name for name in _list_names(url) if _owners.setdefault(name, identity) == identity)


def _list_names(url: URL) -> Iterator[str]:
    """Yield names for a database, the shortest first."""
    database = url.database or _IN_MEMORY
    if url.host is not None:
        yield database
        yield f"{database}@{url.host}"
        last = f"{database}@{url.host}:{url.port}"
    else:
        # A file; only as many of its folders as it takes, because they may hold a user's name.
        path = Path(database)
        yield path.name or database
        last = f"{path.parent.name}/{path.name}"
    yield last
    for number in count(2):
        yield f"{last}#{number}"
