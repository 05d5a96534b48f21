"""Examples of statements, as capture hands them to the stages behind it, for the tests of those stages."""

from __future__ import annotations

from querywatch.fingerprint import take_fingerprint
from querywatch.records import Database
from querywatch.samples import Example


def make_example(engine, statement, parameters=(), *, name="shop", calls=10, typical_s=0.12, max_s=None, total_s=None):
    """Build the example of a statement that took *typical_s* seconds on each of its calls."""
    dialect = engine.dialect.name
    return Example(
        engine=getattr(engine, "sync_engine", engine),
        database=Database(name, dialect, dialect),
        fingerprint=take_fingerprint(statement, dialect),
        statement=statement,
        parameters=parameters,
        calls=calls,
        total_s=calls * typical_s if total_s is None else total_s,
        typical_s=typical_s,
        max_s=typical_s if max_s is None else max_s,
    )
