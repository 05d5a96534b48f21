"""What is found in each program of tests/accuracy, and what is not: `make accuracy` prints the same as a table."""

from __future__ import annotations

import pytest
from accuracy.databases import PostgresShops, SqliteShops
from accuracy.measure import run_all
from accuracy.programs import PROGRAMS
from accuracy.verdict import describe_differences


@pytest.fixture(scope="session")
def sqlite_shops(tmp_path_factory):
    return SqliteShops(tmp_path_factory.mktemp("accuracy"))


def mode_of(program):
    # Sync where it can be: the async twin is quicker checked by `make accuracy`, with all the others.
    return program.modes[:1]


@pytest.mark.parametrize("program", [pytest.param(program, id=program.name) for program in PROGRAMS])
def test_finds_what_it_must_and_nothing_else(sqlite_shops, program):
    if "sqlite" not in program.databases:
        pytest.skip("runs on PostgreSQL only")
    assert describe_differences(list(run_all([program], sqlite_shops, mode_of(program)))) == []


def test_finds_the_same_on_postgresql(postgres_server):
    shops = PostgresShops(postgres_server)
    verdicts = [verdict for program in PROGRAMS for verdict in run_all([program], shops, mode_of(program))]
    assert describe_differences(verdicts) == []


def test_every_program_has_a_name_of_its_own():
    names = [program.name for program in PROGRAMS]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("program", [pytest.param(each, id=each.name) for each in PROGRAMS if each.expected])
def test_every_marker_that_is_named_is_there(program):
    named = {expected.line for expected in program.expected} - {"here"}
    assert [name for name in named if not program.find_marker(name)] == []
