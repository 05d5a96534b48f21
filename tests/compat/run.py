"""Run SQLAlchemy's own tests twice, without and with querywatch on every engine, and show every difference.

    make compat                                       # test/engine, on SQLite
    make compat TESTS="test/engine test/orm" ARGS="-n 4"

The tests are those of the source distribution of the installed SQLAlchemy; they run against the installed one.
Options that this program does not know go to pytest. Exit code 1: a difference, or a run that proves nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "compat"
PLAIN, WATCHED = "without", "with querywatch"


@dataclass(frozen=True)
class Run:
    """One run of the suite.

    Args:
        outcomes: By test id: `outcome` and, of a failure, `text`.
        duration_s: Wall-clock seconds.
        calls: Calls that querywatch counted; None in the run without it.
        output: What pytest printed.
    """

    outcomes: dict[str, dict[str, str]]
    duration_s: float
    calls: int | None
    output: str

    def count(self, outcome: str) -> int:
        """Return how many tests ended like that."""
        return Counter(test["outcome"] for test in self.outcomes.values())[outcome]


def main(arguments: list[str]) -> int:
    """Run both, print the table and the differences, return the exit code."""
    parser = argparse.ArgumentParser(description="SQLAlchemy's own tests, without and with querywatch")
    parser.add_argument("tests", nargs="*", default=["test/engine"], help="directories or files of its source")
    parser.add_argument("--limit-s", type=float, default=1800.0, help="seconds after which a run is stopped")
    options, for_pytest = parser.parse_known_args(arguments)

    archive = fetch_source(version("sqlalchemy"))
    say(f"running {' '.join(options.tests)} of SQLAlchemy {version('sqlalchemy')} twice, side by side")
    # The suite mostly waits (pool timeouts): side by side both take as long as one.
    with ThreadPoolExecutor() as pool:
        plain, watched = pool.map(
            lambda name: run_suite(archive, name, [*options.tests, *for_pytest], options.limit_s), (PLAIN, WATCHED)
        )
    differences = compare(plain, watched)
    show_table({PLAIN: plain, WATCHED: watched})
    for test, before, after in differences:
        say(f"\nDIFFERENCE {test}\n  without: {before}\n  with:    {after}")
        say(watched.outcomes.get(test, {}).get("text") or plain.outcomes.get(test, {}).get("text") or "")
    for name, run in ((PLAIN, plain), (WATCHED, watched)):
        if not run.outcomes:
            say(f"\nNo test ran {name}:\n{run.output[-3000:]}")
    say(f"\n{len(differences)} differences; querywatch counted {watched.calls or 0:,} calls")
    if not watched.calls:
        say("A run in which querywatch saw nothing proves nothing: it failed.")
    return 1 if differences or not plain.outcomes or not watched.calls else 0


def fetch_source(release: str) -> Path:
    """Return the path of SQLAlchemy's source distribution, downloaded once."""
    name = f"sqlalchemy-{release}.tar.gz"
    if not (CACHE / name).exists():
        say(f"downloading {name}")
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--no-binary", "sqlalchemy",
             "--dest", CACHE, f"sqlalchemy=={release}"],
            check=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    found = next(path for path in CACHE.iterdir() if path.name.lower() == name)
    return found.rename(CACHE / name)


def run_suite(archive: Path, name: str, arguments: list[str], limit_s: float) -> Run:
    """Unpack the source anew and run its tests against the installed SQLAlchemy.

    Args:
        archive: The source distribution.
        name: `PLAIN` or `WATCHED`; the tests leave files behind, so each run has a directory of its own.
        arguments: For pytest.
        limit_s: Seconds after which the run is stopped; what it told until then is lost.
    """
    directory = CACHE / name.replace(" ", "-")
    shutil.rmtree(directory, ignore_errors=True)
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):  # Debian 12 has Python 3.11.2, which knows no filters
            tar.extraction_filter = tarfile.data_filter
        tar.extractall(directory)
    source = next(directory.glob("*/test/conftest.py")).parents[1]
    outcomes, calls = directory / "outcomes.json", directory / "calls.txt"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "record_outcomes", "--maxfail=0", "-q"]
    if name == WATCHED:
        command += ["-p", "install_querywatch"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")])),
        # Their conftest.py puts lib/ of the source in front of the installed SQLAlchemy unless this is set.
        "PYTHONNOUSERSITE": "1",
        "QUERYWATCH_COMPAT_OUTCOMES": str(outcomes),
        "QUERYWATCH_COMPAT_CALLS": str(calls),
    }
    began = time.monotonic()
    with (directory / "output.txt").open("w+") as output:
        try:
            subprocess.run(
                [*command, *arguments], cwd=source, env=environment,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=limit_s, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            output.write(f"\nstopped after {limit_s:.0f} s")
        output.seek(0)
        printed = output.read()
    return Run(
        outcomes=_read_json(outcomes),
        duration_s=time.monotonic() - began,
        calls=sum(int(line) for line in calls.read_text().splitlines()) if calls.exists() else None,
        output=printed,
    )


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else {}


def compare(plain: Run, watched: Run) -> list[tuple[str, str, str]]:
    """Return (test id, outcome without, outcome with) of every test that ended in another way."""

    def outcome(run: Run, test: str) -> str:
        return run.outcomes[test]["outcome"] if test in run.outcomes else "did not run"

    tests = sorted(plain.outcomes.keys() | watched.outcomes.keys())
    pairs = [(test, outcome(plain, test), outcome(watched, test)) for test in tests]
    return [(test, before, after) for test, before, after in pairs if before != after]


def say(text: str) -> None:
    """Print at once: a run takes minutes, and its reader waits."""
    print(text, flush=True)  # noqa: T201 - a program for people, not a library


def show_table(runs: dict[str, Run]) -> None:
    """Print one line a run."""
    columns = ("passed", "failed", "skipped", "xfailed")
    say(f"{'':18}" + "".join(f"{column:>9}" for column in columns) + f"{'seconds':>9}")
    for name, run in runs.items():
        say(f"{name:18}" + "".join(f"{run.count(column):>9}" for column in columns) + f"{run.duration_s:>9.0f}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
