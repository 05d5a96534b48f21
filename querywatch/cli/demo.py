"""`querywatch demo`: a shop under real traffic, and what querywatch finds in it.

In:  options.
Out: the tour of querywatch/demo; it ends by itself and leaves two reports.
"""

from __future__ import annotations

import logging
import signal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from querywatch.errors import MissingExtraError

if TYPE_CHECKING:
    from types import FrameType


class Format(StrEnum):
    """What standard output gets."""

    text = "text"
    json = "json"


def demo(  # noqa: PLR0913  one argument is one option
    *,
    duration: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds of traffic.")] = 12.0,
    database_url: Annotated[
        str | None,
        typer.Option(help="A PostgreSQL or SQLite database. Without it, a temporary SQLite file.", show_default=False),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the shop; 0 takes a free one.")] = 0,
    metrics_port: Annotated[int, typer.Option(min=0, max=65535, help="Of the metrics; 0 takes a free one.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of the reports.")] = Path(),
    format_: Annotated[Format, typer.Option("--format", help="json: the snapshot on standard output.")] = Format.text,
) -> None:
    """Run a small shop under real traffic, and show what querywatch finds in it."""
    try:
        from querywatch.demo.tour import Options, give_tour  # noqa: PLC0415  its packages are an extra of their own
    except ImportError as error:
        # An error in our own files must not be told as a missing package.
        if error.name is None or error.name.startswith("querywatch"):
            raise
        raise MissingExtraError("The demo", "demo") from None
    from querywatch.report.json import dump_snapshot  # noqa: PLC0415  loads with the demo

    console = Console(stderr=format_ is Format.json)
    before = [(number, signal.signal(number, _stop)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        snapshot = give_tour(Options(duration, database_url, port, metrics_port, out), console)
    except KeyboardInterrupt:
        console.print("stopped; the shop is closed and its tables are gone", highlight=False)
        return
    finally:
        for number, handler in before:
            signal.signal(number, handler)
    if format_ is Format.json:
        print(dump_snapshot(snapshot), end="")  # noqa: T201  the answer to --format json


def _stop(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001  the signature of a signal handler
    # A polite kill cleans up like Ctrl-C does, and a second Ctrl-C must not leave tables behind: closing takes seconds.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    # An interrupt while the pool closes a connection is told there as an error, with a traceback, and raised on.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    raise KeyboardInterrupt
