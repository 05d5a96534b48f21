"""What every use of the SQL parser shares: its name of a dialect, its limit, and its silence.

In:  SQLAlchemy's name of a dialect.
Out: sqlglot's name; a block in which sqlglot logs nothing, because what it logs holds the text.
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Nodes that the parser may build, counting those it throws away: it tries `a JOIN b JOIN c` in 2**n ways.
NODE_LIMIT = 10_000

_LANGUAGES = {
    "postgresql": "postgres",
    "cockroachdb": "postgres",
    "mysql": "mysql",
    "mariadb": "mysql",
    "sqlite": "sqlite",
    "mssql": "tsql",
    "oracle": "oracle",
}


def find_language(dialect: str) -> str:
    """Return sqlglot's name of a dialect, empty for one that is read as standard SQL.

    Args:
        dialect: SQLAlchemy's name, such as `postgresql`.
    """
    return _LANGUAGES.get(dialect, "")


_this_thread = threading.local()


class _NotWhileParsing(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 (the signature is logging's)
        return not getattr(_this_thread, "parses", False)


_NOT_WHILE_PARSING = _NotWhileParsing()


@contextmanager
def quiet_parser() -> Iterator[None]:
    """Keep sqlglot from logging what it does not know. What the application parses in another thread, it hears."""
    logging.getLogger("sqlglot").addFilter(_NOT_WHILE_PARSING)
    _this_thread.parses = True
    try:
        yield
    finally:
        _this_thread.parses = False
