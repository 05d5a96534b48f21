"""Where an engine sends its statements, without credentials.

In:  an engine's URL and dialect.
Out: a `records.Database`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from querywatch.records import Database

if TYPE_CHECKING:
    from sqlalchemy import Engine

# OpenTelemetry's `db.system.name` where it is not SQLAlchemy's name.
_SYSTEMS = {"mssql": "microsoft.sql_server", "oracle": "oracle.db"}


def describe_database(engine: Engine) -> Database:
    """Name the database of *engine*.

    Args:
        engine: A sync engine.
    """
    url, name = engine.url, engine.dialect.name
    database = url.database or ":memory:"
    return Database(
        # Without a host it is a file, whose folders may hold a user's name.
        name=database if url.host is not None else Path(database).name or database,
        system=_SYSTEMS.get(name, name),
        dialect=name,
        server_address=url.host,
        server_port=url.port,
    )
