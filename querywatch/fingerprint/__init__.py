"""What all executions of one statement share: an id, a readable text, a short name, its tables.

In:  the shape of a statement (or any SQL) and SQLAlchemy's name of the dialect.
Out: a `Fingerprint`.

The parser (`tree`) costs 0.3 ms for a short statement and tens for a long one, so it runs in the background, once per
shape. A statement that it does not know is told apart by its tokens (`tokens`): never lost, only less well normalised.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING

from querywatch.fingerprint.tokens import read_tokens
from querywatch.records import Fingerprint
from querywatch.shape import CUT_MARK, take_shape

if TYPE_CHECKING:
    from types import ModuleType

#: Raised whenever the rules give a statement another id; ids of two versions are not comparable.
FINGERPRINT_VERSION = 1

#: Characters of a shape that are parsed; a longer one is grouped by its tokens.
PARSE_LIMIT = 20_000

#: Characters of `Fingerprint.sql`, and of its summary, which OpenTelemetry bounds.
SQL_LIMIT = 4_096
SUMMARY_LIMIT = 255


def take_fingerprint(shape: str, dialect: str) -> Fingerprint:
    """Tell which statement a text is. Never raises.

    Args:
        shape: What `take_shape` returned; a text with literals is reduced to its shape first.
        dialect: SQLAlchemy's name, such as `postgresql`; an unknown one is read as standard SQL.

    Returns:
        The fingerprint. Its id depends on the text and on `FINGERPRINT_VERSION` alone: not on the process, the
        driver's paramstyle or the SQLAlchemy version.
    """
    shape = take_shape(shape, dialect)
    reading = None
    if shape and len(shape) <= PARSE_LIMIT and not shape.endswith(CUT_MARK):
        reading = _tree().read_tree(shape, dialect)
    reading = reading or read_tokens(shape)
    digest = hashlib.blake2b(f"{FINGERPRINT_VERSION}\n{reading.sql}".encode(), digest_size=8)
    return Fingerprint(
        id=digest.hexdigest(),
        version=FINGERPRINT_VERSION,
        sql=_bound(reading.sql, SQL_LIMIT),
        summary=_bound(" ".join([reading.target, *reading.tables]), SUMMARY_LIMIT),
        operation=reading.operation,
        tables=reading.tables,
    )


def _bound(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - len(CUT_MARK)] + CUT_MARK


@cache
def _tree() -> ModuleType:
    # sqlglot takes 0.4 s to import: paid in the background by the first statement, not by `import querywatch`.
    from querywatch.fingerprint import tree  # noqa: PLC0415

    return tree
