"""Run a program in this process as `python program` would, and say how it ended.

In:  a script's path or a module's name, and the program's arguments.
Out: the exit code that Python would have ended with.

The program's module stays `__main__` after it ended, because its threads and exit handlers may still look there.
"""

from __future__ import annotations

import builtins
import io
import runpy
import sys
import threading
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from querywatch.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

#: What a shell reports for a program that Ctrl-C ended: 128 + SIGINT.
INTERRUPTED = 130


class Program(NamedTuple):
    """A program that exists.

    Args:
        target: Path of the script, or the module's name.
        is_module: Whether *target* is a module's name.
    """

    target: str
    is_module: bool

    @property
    def name(self) -> str:
        """What people call it: the script's file name, or the module's name."""
        return self.target if self.is_module else Path(self.target).name


def find_program(target: str, *, is_module: bool) -> Program:
    """Make sure that there is something to run, and put its folder on the import path.

    Args:
        target: Path of a script, or the name of a module.
        is_module: As `python -m`: *target* is the name of a module.

    Raises:
        ConfigError: There is no such script or module.
    """
    # Python puts the script's folder there, for -m the working directory; now it holds the folder of our own command.
    if is_module:
        sys.path[0] = str(Path.cwd())
        if not _is_module(target):
            raise ConfigError(f"there is no module named {target!r}. For a script leave out -m and give its path.")
        return Program(target, is_module)
    path = Path(target)
    if not path.is_file():
        what = "is a folder, not a Python file" if path.is_dir() else "does not exist"
        raise ConfigError(f"{target!r} {what}. Give the path of a script, or the name of a module after -m.")
    sys.path[0] = str(path.resolve().parent)
    return Program(target, is_module)


def run_program(program: Program, arguments: Sequence[str]) -> int:
    """Run *program* as `__main__` until it and its threads have ended.

    Args:
        program: What `find_program` returned.
        arguments: The program's own.

    Returns:
        The exit code Python would have ended with; an exception's traceback is on stderr then.
    """
    sys.argv = [program.target, *arguments]
    try:
        _run(program)
        code = 0
    except SystemExit as exit_:
        code = _read_code(exit_)
    except KeyboardInterrupt as error:
        _show(error)
        code = INTERRUPTED
    except BaseException as error:  # noqa: BLE001  whatever it is, Python would have shown it and ended with 1
        _show(error)
        code = 1
    _join_threads()
    return code


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _run(program: Program) -> None:
    if program.is_module:
        runpy.run_module(program.target, run_name="__main__", alter_sys=True)
        return
    module = ModuleType("__main__")
    file = str(Path(program.target).absolute())
    module.__file__ = file
    module.__loader__ = SourceFileLoader("__main__", file)
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    with io.open_code(file) as source:
        # dont_inherit: the program decides on its own __future__ imports.
        code = compile(source.read(), file, "exec", dont_inherit=True)
    exec(code, module.__dict__)  # noqa: S102  running the user's program is the job


def _read_code(exit_: SystemExit) -> int:
    if exit_.code is None:
        return 0
    if isinstance(exit_.code, int):
        return exit_.code
    print(exit_.code, file=sys.stderr)  # noqa: T201  as Python does
    return 1


def _show(error: BaseException) -> None:
    """Show an exception as Python does, without the frames that ran the program."""
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None and _is_ours(traceback.tb_frame.f_code.co_filename):
        traceback = traceback.tb_next
    sys.excepthook(type(error), error.with_traceback(traceback), traceback)


def _is_ours(file: str) -> bool:
    return file == __file__ or file.startswith("<frozen ")


def _join_threads() -> None:
    """Wait for the program's threads, as Python does before it ends."""
    try:
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
    except KeyboardInterrupt:
        # The second Ctrl-C of someone who does not want to wait; Python would stop waiting too.
        return
