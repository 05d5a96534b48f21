"""The command `querywatch`: one file per command.

In:  arguments.
Out: an exit code; an error for people is one line on stderr, never a traceback.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from querywatch.errors import MissingExtraError, QuerywatchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import typer

#: In the order of `--help`. Each is a module of this folder with a function of the same name.
COMMANDS = ("demo", "run", "report")

#: Exit code of a wrong call or an environment that cannot do what was asked.
USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Without the program's name; None takes those of the process.

    Returns:
        The exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        program = _make_program()
        # Not standalone: typer would print a panel of several lines where one clear line is enough.
        code = program(args=given or ["--help"], prog_name="querywatch", standalone_mode=False)
    except QuerywatchError as error:
        return _complain(str(error))
    except Exception as error:
        # typer brings the exceptions of its command line along under a name that differs between its versions.
        if not hasattr(error, "format_message"):
            raise
        return _complain(f"{error.format_message().rstrip('.?')}. See: {_find_command(error)} --help")
    return code if isinstance(code, int) else 0


def _make_program() -> typer.Typer:
    """Build the command line.

    Raises:
        MissingExtraError: typer or rich is not installed.
    """
    try:
        import rich as _rich  # noqa: F401, PLC0415  checked here, so that no command fails half-way
        import typer  # noqa: PLC0415  an application that only imports querywatch must not need it
    except ImportError:
        raise MissingExtraError("The command line", "cli") from None

    program = typer.Typer(
        help="The database monitor that lives inside your SQLAlchemy application.",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
    )

    def print_version(wanted: bool) -> None:  # noqa: FBT001  typer calls it so
        if wanted:
            from querywatch.report.wording import installed_version  # noqa: PLC0415  not needed by a command

            print(f"querywatch {installed_version()}")  # noqa: T201  the answer to --version
            raise typer.Exit

    @program.callback()
    def options(
        version: bool = typer.Option(False, "--version", help="Print the version.", callback=print_version),  # noqa: FBT001, FBT003
    ) -> None:
        """Hold the options before a command."""

    options.__doc__ = program.info.help
    for name in COMMANDS:
        module: Any = import_module(f"querywatch.cli.{name}")
        program.command(name, **getattr(module, "SETTINGS", {}))(getattr(module, name))
    return program


def _complain(message: str) -> int:
    print(f"querywatch: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201  the one line for people
    return USAGE_ERROR


def _find_command(error: Any) -> str:
    context = getattr(error, "ctx", None)
    return str(context.command_path) if context is not None else "querywatch"
