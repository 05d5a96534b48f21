"""Run every program on SQLite and PostgreSQL, sync and async, and print how right querywatch is about them.

In:  PROGRAMS, and what the command line selects.
Out: a table for each database; exit code 1 if anything is missed, a false alarm, or named, placed or mended wrongly.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from servers import start_postgres

from accuracy.databases import PostgresShops, Shops, SqliteShops
from accuracy.play import play
from accuracy.programs import PROGRAMS
from accuracy.table import render
from accuracy.verdict import Verdict, describe_differences, judge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from accuracy.expectation import Program

DATABASES = ("sqlite", "postgresql")
MODES = ("sync", "async")


def main() -> int:
    """Run what was asked for and print its tables."""
    options = _parse()
    warnings.simplefilter("error")
    programs = [program for program in PROGRAMS if options.k in program.name]
    if not programs:
        print(f"no program's name holds {options.k!r}", file=sys.stderr)
        return 2
    seen: list[Verdict] = []
    for database in options.database or DATABASES:
        began = time.perf_counter()
        with open_shops(database) as shops:
            verdicts = list(run_all(programs, shops, options.mode or MODES))
        title = f"SQLAlchemy {sa.__version__}, {database}: {len(verdicts)} runs in {time.perf_counter() - began:.0f} s"
        print(render(title, verdicts), end="\n\n", flush=True)
        seen += verdicts
    differences = describe_differences(seen)
    print("\n".join(differences) or "Nothing missed, no false alarm, each named, placed and mended as it must be.")
    return 1 if differences else 0


@contextlib.contextmanager
def open_shops(database: str) -> Iterator[Shops]:
    """Give the shops of one database; for PostgreSQL a server runs as long as the block."""
    if database == "postgresql":
        with start_postgres() as server, PostgresShops(server) as shops:
            yield shops
    else:
        with tempfile.TemporaryDirectory(prefix="accuracy-") as folder:
            yield SqliteShops(Path(folder))


def run_all(programs: list[Program], shops: Shops, modes: tuple[str, ...]) -> Iterator[Verdict]:
    """Run programs wherever they can run, and yield what each run showed."""
    for program in programs:
        if shops.name in program.databases:
            for mode in program.modes:
                if mode in modes:
                    yield run_one(program, shops, mode)


def run_one(program: Program, shops: Shops, mode: str) -> Verdict:
    """Run one program once and compare."""
    where = f"{shops.name} {mode}"
    try:
        return judge(program, where, play(program, shops, mode))
    except Exception as error:  # noqa: BLE001 - one broken program must not hide the others
        return judge(program, where, [], f"raised {type(error).__name__}: {error}".splitlines()[0])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-k", default="", metavar="PART", help="only programs with this in their name")
    parser.add_argument("--database", action="append", choices=DATABASES, help="only this one; may be repeated")
    parser.add_argument("--mode", action="append", choices=MODES, help="only this one; may be repeated")
    return parser.parse_args()
