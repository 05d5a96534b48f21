"""The corpus of 284 pairs collected from other tools' tests, against our rules."""

import json
from pathlib import Path

import pytest

from querywatch.fingerprint import take_fingerprint
from querywatch.shape import take_shape

CASES = json.loads((Path(__file__).parent / "data" / "fingerprint_cases.json").read_text())

# The corpus names sqlglot's dialects. "mixed" statements are of no one database: they get the generic reading.
DIALECTS = {
    "postgres": "postgresql",
    "mysql": "mysql",
    "tsql": "mssql",
    "oracle": "oracle",
    "snowflake": "snowflake",
    "mixed": "",
}

#: Pairs whose label we do not follow, by their two texts. Each has to stay wrong by the corpus, or leave this list.
EXCEPTIONS = {
    (
        "SELECT * FROM x WHERE y = $1",
        "SELECT * FROM x WHERE y = ANY ($1)",
    ): "One row by key and many rows by list are the two sides of an N+1: merging them would hide the fix.",
    (
        "SELECT * FROM t_20210301_x",
        "SELECT * FROM t_20210302_x",
    ): "Two tables have two sets of indexes and two plans; digits in a name are not known to be a date.",
    (
        "UNLISTEN virtual",
        "UNLISTEN *",
    ): "One channel by name and all channels are two commands, and names matter everywhere else too.",
    (
        "INSERT INTO t (ts) VALUES (NOW())",
        "INSERT INTO t (ts) VALUES ('()', '\\(', '\\)')",
    ): "A function call is part of the statement, not a value; the pair stems from a tool that drops all of VALUES.",
}


def _pair(case):
    return case["sql_a"], case["sql_b"]


def _is_same(case):
    dialect = DIALECTS[case["dialect"]]
    first, second = (take_fingerprint(take_shape(sql, dialect), dialect) for sql in _pair(case))
    return first.id == second.id


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{number}-{case['kind']}") for number, case in enumerate(CASES)]
)
def test_follows_the_corpus(case):
    # An exception that agrees with the corpus fails here: it is none any more.
    expected = (case["kind"] == "same") != (_pair(case) in EXCEPTIONS)
    assert _is_same(case) == expected, EXCEPTIONS.get(_pair(case), "the corpus says otherwise")


def test_every_exception_is_in_the_corpus():
    assert len(CASES) == 284
    assert EXCEPTIONS.keys() <= {_pair(case) for case in CASES}
