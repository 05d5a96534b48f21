"""`querywatch report`: render a saved snapshot, whenever and wherever."""

from __future__ import annotations

import os
import shutil
import sys
from enum import StrEnum
from pathlib import Path  # noqa: TC003  typer reads the annotations when the program runs
from typing import TYPE_CHECKING, Annotated

import typer

from querywatch.errors import QuerywatchError
from querywatch.report import facts
from querywatch.report.html import render_html
from querywatch.report.json import dump_snapshot, load_snapshot
from querywatch.report.saving import save_report
from querywatch.report.text import render_text

if TYPE_CHECKING:
    from typing import NoReturn

    from querywatch.records import Snapshot


class Format(StrEnum):
    """How a report is written."""

    text = "text"
    json = "json"
    html = "html"


def report(
    snapshot_file: Annotated[Path, typer.Argument(help="Snapshot saved as JSON.", show_default=False)],
    report_format: Annotated[Format, typer.Option("--format", help="How to write the report.")] = Format.text,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write instead of the terminal; only you can read it.")
    ] = None,
) -> None:
    """Render a saved snapshot. Exits with 1 if it has findings to mend, with 2 if it cannot be read."""
    try:
        snapshot = load_snapshot(snapshot_file.read_text(encoding="utf-8"))
        text = _render(snapshot, report_format, width=_width(to_terminal=out is None))
    except QuerywatchError as error:
        _stop(f"{snapshot_file}: {error}")
    except UnicodeDecodeError:
        _stop(f"{snapshot_file}: This is not a saved snapshot of querywatch: it is not text.")
    except OSError as error:
        _stop(f"cannot read {snapshot_file}: {error.strerror or error}")
    if out is None:
        _show(text)
    else:
        try:
            save_report(out, text)
        except OSError as error:
            _stop(f"cannot write {out}: {error.strerror or error}")
        typer.echo(f"report  {out}", err=True)
    raise typer.Exit(1 if facts.to_mend(snapshot.findings) else 0)


def _render(snapshot: Snapshot, report_format: Format, *, width: int) -> str:
    if report_format is Format.html:
        return render_html(snapshot)
    return dump_snapshot(snapshot) if report_format is Format.json else render_text(snapshot, width=width)


def _show(text: str) -> None:
    try:
        # Not every text can be encoded; a report must not end in the middle because of one name.
        typer.echo(text.encode(errors="backslashreplace"), nl=False)
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough. Python would complain again when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _width(*, to_terminal: bool) -> int:
    columns = shutil.get_terminal_size((100, 24)).columns if to_terminal else 100
    # Lines longer than this are hard to read, however wide the terminal.
    return max(40, min(columns, 140))


def _stop(message: str) -> NoReturn:
    typer.echo(f"querywatch: {message}", err=True)
    raise typer.Exit(2)
