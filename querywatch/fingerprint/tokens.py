"""A statement that no parser knows, told apart by its words.

In:  the shape of a statement.
Out: a `Reading` whose text folds the case of keywords and the space between tokens, and nothing else.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Reading(NamedTuple):
    """What was understood of a statement.

    Args:
        sql: Normalised text; equal texts are one statement.
        operation: First keyword in upper case, empty for an empty text.
        target: The operation and what it is done to, such as `CREATE TABLE`; begins the summary.
        tables: Names without quotes, in order of appearance, each once.
    """

    sql: str
    operation: str
    target: str
    tables: tuple[str, ...]


_TOKEN = re.compile(r"""(?:"[^"]*+"|`[^`]*+`|\[[^\]]*+\])|[\w$@#]++|[-+*/<>=~!%^&|:]++|\S""")
_NO_SPACE = re.compile(r" (?=[,;.)\]])|(?<=[(\[.]) |(?<=\w) (?=\()")
_MAIN_KEYWORD = re.compile(r"\b(?:SELECT|INSERT|UPDATE|DELETE|MERGE)\b")
_TABLE = re.compile(
    r"\b(?:FROM|JOIN|INTO|(?<!FOR )(?<!DO )(?<!KEY )UPDATE|TABLE) (?>(?:ONLY |IF (?:NOT )?EXISTS )?)"
    r"""(?!(?:SELECT|SET|LATERAL|UNNEST)\b)((?>(?:"[^"]+"|`[^`]+`|\[[^\]]+\]|[\w$#]++|\.)+))(?!\()"""
)
_QUOTES = re.compile(r'["`\[\]]')

# Not all keywords: those that a driver or a person may write in either case in a statement sent by a program.
_KEYWORDS = frozenset(
    """
    ADD ALL ALTER ANALYZE AND ANY AS ASC ATTACH BEGIN BETWEEN BY CALL CASCADE CASE CAST CHECK CLOSE COLUMN COMMENT
    COMMIT CONFLICT CONSTRAINT COPY CREATE CROSS CURSOR DATABASE DEALLOCATE DECLARE DEFAULT DELETE DESC DETACH
    DISTINCT DO DROP ELSE END EXCEPT EXEC EXECUTE EXISTS EXPLAIN EXTENSION FALSE FETCH FIRST FOR FOREIGN FROM FULL
    FUNCTION GRANT GROUP HAVING IF IN INDEX INNER INSERT INTERSECT INTO IS ISOLATION JOIN KEY LAST LATERAL LEFT
    LEVEL LIKE LIMIT LISTEN LOCK MATERIALIZED MERGE NATURAL NEXT NOT NOTHING NOTIFY NULL NULLS OFFSET ON ONLY OPEN
    OR ORDER OUTER OVER PARTITION PREPARE PRIMARY PROCEDURE RECURSIVE REFERENCES REFRESH RELEASE RENAME REPLACE
    RESET RETURNING REVOKE RIGHT ROLLBACK ROW ROWS SAVEPOINT SCHEMA SELECT SEQUENCE SET SHOW START TABLE TEMPORARY
    THEN TO TOP TRANSACTION TRIGGER TRUE TRUNCATE TYPE UNION UNIQUE UNLISTEN UNLOCK UPDATE USE USING VACUUM VALUES
    VIEW WHEN WHERE WINDOW WITH
    """.split()  # noqa: SIM905 (a hundred quotes are no easier to read)
)


def read_tokens(shape: str) -> Reading:
    """Read *shape* word by word.

    Tables are the names that follow FROM, JOIN, INTO, UPDATE or TABLE: a guess that is good enough for a label.
    """
    words = (word.upper() if word.upper() in _KEYWORDS else word for word in _TOKEN.findall(shape))
    sql = _NO_SPACE.sub("", " ".join(words))
    operation = first_word(sql)
    if operation == "WITH" and (main := _MAIN_KEYWORD.search(sql)):
        operation = main.group()
    tables = tuple(dict.fromkeys(_QUOTES.sub("", name) for name in _TABLE.findall(sql)))
    return Reading(sql, operation, operation, tables)


def first_word(sql: str) -> str:
    """Return the first word in upper case, empty where there is none."""
    found = re.search(r"[A-Za-z]+", sql)
    return found.group().upper() if found else ""
