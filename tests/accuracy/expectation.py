"""What a program is marked with: what must be found in it, or that nothing must be.

    @finds("n-plus-one", "lazy_load", "User.orders", fix="selectinload")
    def one_to_many(session):
        for user in session.scalars(select(User)):  # <- parents
            len(user.orders)  # <- here

A program is a function of one parameter: `session`, `connection` or `engine`; a coroutine function takes the async
one of that name. A marker comment stands on the line that a finding has to name. Where the text of the issue allows
two labels, a tuple takes either of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from accuracy import models

Label = str | tuple[str, ...]
Function = TypeVar("Function", bound=Callable[..., Any])

_ATTRIBUTE = "accuracy_program"


class Place(NamedTuple):
    """One line of a program."""

    file: Path
    line: int


@dataclass(frozen=True)
class Expected:
    """One finding that a program must cause.

    Args:
        code: Of the finding.
        kinds: One of these; empty where the code has one kind only.
        subject: None for the scope, which bears the program's name.
        fixes: One of these fix kinds.
        line: Name of the marker on its line.
        parents: Name of the marker on the line that loads the parents.
        options: The loader options that the fix has to spell, None where there are none to type.
        optional: Whether it may be missing: a second view of a waste that another finding tells.
    """

    code: str
    kinds: tuple[str, ...]
    subject: str | None
    fixes: tuple[str, ...]
    line: str = "here"
    parents: str = "parents"
    options: str | None = None
    optional: bool = False

    @property
    def row(self) -> str:
        """The row of the table that it counts in."""
        return name_row(self.code, self.kinds[0] if self.kinds else None)


@dataclass(frozen=True)
class Program:
    """A function, what must be said about it, and what it is run with.

    Args:
        function: What is run.
        expected: What must be found; nothing else may be.
        near: For a program without a waste: the row of the table whose waste it looks like.
        settings: Of the monitor, over the defaults.
        session: Keywords of the session.
        engine: Keywords of the engine.
        databases: Where it can run.
        scoped: False if it opens its scopes itself, or shows what is found without any.
        twin: False if it makes no sense in `AsyncSession.run_sync`.
    """

    function: Callable[..., Any]
    expected: tuple[Expected, ...] = ()
    near: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    session: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)
    databases: tuple[str, ...] = ("sqlite", "postgresql")
    scoped: bool = True
    twin: bool = True

    @property
    def name(self) -> str:
        """Name of the program, and of its scope."""
        return self.function.__name__

    @property
    def takes(self) -> str:
        """`session`, `connection` or `engine`."""
        return next(iter(inspect.signature(self.function).parameters))

    @property
    def is_async(self) -> bool:
        """Whether it awaits."""
        return inspect.iscoroutinefunction(self.function)

    @property
    def modes(self) -> tuple[str, ...]:
        """How it is run: `sync`, `async` or both."""
        if self.is_async:
            return ("async",)
        return ("sync", "async") if self.twin and self.takes != "engine" else ("sync",)

    def find_marker(self, name: str) -> set[Place]:
        """Return the lines that bear `# <- name`: in the program, else in its module and the models."""
        lines, first = inspect.getsourcelines(self.function)
        file = Path(inspect.getfile(self.function)).resolve()
        found = {Place(file, first + n) for n, line in enumerate(lines) if line.rstrip().endswith(f"# <- {name}")}
        if found or name in {"here", "parents"}:
            return found
        for path in (file, Path(models.__file__).resolve()):
            texts = path.read_text().splitlines()
            found |= {Place(path, n) for n, line in enumerate(texts, 1) if line.endswith(f"# <- {name}")}
        return found


def finds(
    code: str,
    kind: Label | None,
    subject: str | None = None,
    *,
    fix: Label,
    line: str = "here",
    parents: str = "parents",
    options: str | None = None,
    optional: bool = False,
) -> Callable[[Function], Function]:
    """Mark a program with a finding that it must cause; for two findings, mark it twice."""
    expected = Expected(code, _each(kind), subject, _each(fix), line, parents, options, optional)

    def mark(function: Function) -> Function:
        program = _read(function)
        return _write(function, expected=(expected, *program.expected))

    return mark


def finds_nothing(near: str) -> Callable[[Function], Function]:
    """Mark a program in which nothing must be found.

    Args:
        near: The waste it looks like: `code` or `code/kind`.
    """

    def mark(function: Function) -> Function:
        return _write(function, near=near)

    return mark


def given(**circumstances: Any) -> Callable[[Function], Function]:
    """Mark a program with what it is run with: fields of `Program`."""

    def mark(function: Function) -> Function:
        return _write(function, **circumstances)

    return mark


def name_row(code: str, kind: str | None) -> str:
    """Return a row's name, such as `n-plus-one/lazy_load`."""
    return f"{code}/{kind}" if kind else code


def read_programs(module: Any) -> list[Program]:
    """Return the programs of a module, in their order."""
    functions = filter(inspect.isfunction, vars(module).values())
    return [getattr(function, _ATTRIBUTE) for function in functions if hasattr(function, _ATTRIBUTE)]


def _read(function: Callable[..., Any]) -> Program:
    program: Program = getattr(function, _ATTRIBUTE, Program(function))
    return program


def _write(function: Function, **fields: Any) -> Function:
    setattr(function, _ATTRIBUTE, replace(_read(function), **fields))
    return function


def _each(label: Label | None) -> tuple[str, ...]:
    if label is None:
        return ()
    return (label,) if isinstance(label, str) else label
