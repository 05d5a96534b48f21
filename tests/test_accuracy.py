"""What is found in each program of tests/accuracy, and what is not: `make accuracy` prints the same as a table."""

from __future__ import annotations

import inspect

import pytest
from accuracy.databases import PostgresShops, SqliteShops
from accuracy.measure import run_all
from accuracy.play import play
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
    with PostgresShops(postgres_server) as shops:
        verdicts = [verdict for program in PROGRAMS for verdict in run_all([program], shops, mode_of(program))]
    assert describe_differences(verdicts) == []


# -- Every fix that is proposed ends what it was proposed for


#: DESIGN.md's fix kinds of what a scope decides.
FIX_KINDS = (
    "selectinload", "joinedload", "passive_deletes", "recursion", "in_query", "aggregate", "window", "expire_on_commit",
    "eager_defaults", "undefer", "selectin_polymorphic", "cache", "executemany", "bulk_add", "single_commit",
    "no_autoflush", "upsert", "remove_eager", "name_columns", "paginate", "shorten", "pool_size",
)  # fmt: skip
BY_NAME = {program.name: program for program in PROGRAMS}
PAIRS = [name.removesuffix("_before") for name in BY_NAME if name.endswith("_before")]


def find_fix(pair):
    """Return what the program before the fix is told, of the fix kind that the pair is named for."""
    fixes = [each for each in BY_NAME[f"{pair}_before"].expected if pair.startswith(each.fixes[0])]
    assert [each.fixes for each in fixes] == [(fixes[0].fixes[0],)]
    return fixes[0]


@pytest.mark.parametrize("fix_kind", FIX_KINDS)
def test_every_fix_kind_has_a_pair_of_programs(fix_kind):
    assert fix_kind in {find_fix(pair).fixes[0] for pair in PAIRS}


@pytest.mark.parametrize("pair", PAIRS)
def test_the_proposed_fix_ends_the_finding(sqlite_shops, pair):
    fix = find_fix(pair)
    before, after = (BY_NAME[f"{pair}_{when}"] for when in ("before", "after"))
    told = play(before, sqlite_shops, before.modes[0])
    assert (fix.code, fix.fixes[0]) in {(finding.code, finding.fix_kind) for finding in told}
    # What the fix says to type is what was typed.
    assert (fix.options or "") in inspect.getsource(after.function)
    assert (fix.options or "") in next(finding.fix for finding in told if finding.fix_kind == fix.fixes[0])
    left = play(after, sqlite_shops, after.modes[0])
    assert fix.fixes[0] not in {finding.fix_kind for finding in left}


# -- The programs themselves


def test_every_program_has_a_name_of_its_own():
    names = [program.name for program in PROGRAMS]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("program", [pytest.param(each, id=each.name) for each in PROGRAMS if each.expected])
def test_every_marker_that_is_named_is_there(program):
    named = {expected.line for expected in program.expected} - {"here"}
    assert [name for name in named if not program.find_marker(name)] == []
