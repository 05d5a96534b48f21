"""`querywatch run script.py`: watch a program that knows nothing of querywatch.

In:  a script or a module with its arguments.
Out: the program's own output and exit code, and a summary of findings on stderr when it ends.

The whole program is one scope, so that a loop that connects or commits on every turn is still seen as one loop.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path  # noqa: TC003  typer reads the annotations at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

import querywatch
from querywatch.cli.program import find_program, run_program
from querywatch.errors import ConfigError
from querywatch.report import facts, wording
from querywatch.report.json import dump_snapshot
from querywatch.report.saving import save_report
from querywatch.report.text import render_finding

if TYPE_CHECKING:
    from querywatch.records import Snapshot

#: For typer: what follows the program's name belongs to the program, options too.
SETTINGS: dict[str, Any] = {"context_settings": {"allow_interspersed_args": False}}

_FLUSH_LIMIT_S = 10.0


class Format(StrEnum):
    """How the summary is written."""

    text = "text"
    json = "json"


def run(
    program: Annotated[str, typer.Argument(metavar="PROGRAM", help="A Python file, or with -m the name of a module.")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ARGS", help="The program's own.")] = None,
    *,
    module: Annotated[bool, typer.Option("-m", help="PROGRAM is a module, as for python -m.")] = False,
    format_: Annotated[
        Format, typer.Option("--format", help="Of the summary; json is what `querywatch report` reads.")
    ] = Format.text,
    out: Annotated[Path | None, typer.Option(help="A file for the summary, instead of standard error.")] = None,
) -> None:
    """Run a program, and say what its database queries do wrong.

    Every SQLAlchemy engine of the program is watched, with no change to its code. The program is one scope, so this
    is for scripts and jobs; a web application is better served by querywatch.install(engine, app=app). The exit code
    is the program's own.
    """
    if out is not None and not out.parent.is_dir():
        raise ConfigError(f"--out: there is no folder {str(out.parent)!r}. Create it, or choose another file.")
    found = find_program(program, is_module=module)
    # The program may go to another folder, and the reader would not look for the file there.
    out = out.absolute() if out is not None else None
    process = os.getpid()
    # It costs what nobody minds in a run by hand; who set it has said what they want.
    reads = {} if "QUERYWATCH_UNUSED_EAGER_LOADS" in os.environ else {"unused_eager_loads": 1.0}
    monitor = querywatch.install(**reads)
    with querywatch.watch(found.name, kind="script"):
        code = run_program(found, arguments or [])
    # A forked child that ends by returning comes here too; the summary is its parent's.
    if os.getpid() == process and monitor.config.enabled:
        monitor.flush(_FLUSH_LIMIT_S)
        _write(monitor.snapshot(), found.name, format_, out)
        monitor.close()
    raise typer.Exit(code)


def _write(snapshot: Snapshot, name: str, format_: Format, out: Path | None) -> None:
    text = dump_snapshot(snapshot) if format_ is Format.json else _summarize(snapshot, name)
    if out is None:
        print(text, file=sys.stderr, end="")  # noqa: T201  standard output is the program's
        return
    try:
        save_report(out, text)
    except OSError as error:
        raise ConfigError(f"--out: {str(out)!r} cannot be written ({error.strerror}).") from None


def _summarize(snapshot: Snapshot, name: str) -> str:
    """Return what was found, the worst first, under one line of totals."""
    calls = sum(query.calls for query in snapshot.queries)
    total_s = sum(query.total_s for query in snapshot.queries)
    totals = f"{wording.counted(calls, 'query', 'queries')}, {wording.duration(total_s)} in the database"
    findings = facts.to_mend(snapshot.findings)
    head = (
        f"{wording.counted(len(findings), 'finding')} in {name}: {totals}"
        if findings
        else f"no findings in {name}: {totals}"
    )
    blocks = [render_finding(finding, advice=facts.advice_for(finding, snapshot)) for finding in findings]
    return "\n\n".join([f"\nquerywatch: {head}", *blocks]) + "\n"
