"""Which line of the application asked for a statement.

In:  the running stack.
Out: a code object and a line number on the application's thread; a `CallSite` later, in the background.

The stack is walked by hand, because `traceback.extract_stack` costs ten times as much, and it goes on where an
async session's greenlet was started, because there the stack ends. A frame is the application's unless its file
belongs to Python, to an installed package, or to no file at all. Where every frame is installed (an application
installed as a package), the innermost one of the package of the mapped class is taken, else the innermost one outside
of SQLAlchemy and querywatch. A line that reads whatever attribute it is told to (`getattr(self, name)` in a base class)
is not the one that asked: the line that called it is.
"""

from __future__ import annotations

import dis
import os
import sys
import sysconfig
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from querywatch.records import CallSite

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

_APPLICATION, _INSTALLED, _NOBODY, _SQLALCHEMY, _BOUNDARY = range(5)

# Functions of SQLAlchemy on the stack -> what they say of why a statement is sent; the same in 2.0 and 2.1.
_ACTS = {
    "_autoflush": "autoflush",
    "_flush": "flush",
    "_get_impl": "get",
    "_load_for_path": "immediate",
    "_merge": "merge",
    "initialize": "connect",
    "cascade_iterator": "cascade",
    "merge": "merge",
    "refresh": "refresh",
}
# How an attribute is read, written and deleted, with its name in `self.key`.
_ACCESSES = frozenset({"__get__", "__set__", "__delete__"})
_PROXY = "_AssociationProxy_"
_NOTED = _ACTS.keys() | _ACCESSES
_COMPREHENSIONS = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "<lambda>"})
# How a program reads an attribute whose name it does not know.
_READERS = frozenset({"getattr", "attrgetter", "__getattribute__"})
# Instructions of CPython that call, and that make one text of several.
_CALLS = frozenset({"CALL", "CALL_FUNCTION_EX", "CALL_KW", "PRECALL"})
_JOINS = frozenset({"BINARY_OP", "BUILD_STRING"})

_OWN_FOLDER = str(Path(__file__).parent) + os.sep
# Where a request or a task begins: what called the server or the worker did not ask for its statements.
_OWN_BOUNDARIES = (_OWN_FOLDER + "integrations" + os.sep,)
_OWN_APPLICATIONS = tuple(_OWN_FOLDER + name + os.sep for name in ("demo",))

# By file name, not by code object: there are fewer of them, and they never hold anything alive.
_owners: dict[str, int] = {}


class Caller(NamedTuple):
    """Where a statement came from.

    Args:
        code: Code object of the application's line, None if the stack holds no line that could be shown.
        line: Its line number, 0 with no code.
        acts: What the ORM was doing, such as `flush`; innermost first.
        attribute: Name of the mapped attribute whose read or write led here, None for anything else.
        flush: SQLAlchemy's object of the flush that is at work, None outside of one.
        frame: The line's frame, for `find_outer`. Not to be kept: it holds the application's objects.
        greenlet: The greenlet that the frame was found in, None for the running one.
    """

    code: CodeType | None
    line: int
    acts: tuple[str, ...] = ()
    attribute: str | None = None
    flush: Any = None
    frame: FrameType | None = None
    greenlet: Any = None


class _Climb:
    """One walk up a stack: where it stands, and what it passed."""

    __slots__ = ("acts", "attribute", "fallback", "flush", "greenlet", "package", "preferred")

    def __init__(self, package: str | None) -> None:
        self.package = package
        self.acts: tuple[str, ...] = ()
        self.attribute: str | None = None
        self.flush: Any = None
        #: Innermost frame of an installed package, and of the one that the mapped class belongs to.
        self.fallback: FrameType | None = None
        self.preferred: FrameType | None = None
        self.greenlet: Any = None

    def find_application(self, frame: FrameType | None) -> FrameType | None:
        """Return the first frame of the application from *frame* outwards, None if there is none."""
        owners = _owners
        while True:
            while frame is not None:
                code = frame.f_code
                file = code.co_filename
                owner = owners.get(file)
                if owner is None:
                    owner = owners[file] = _find_owner(file)
                if owner == _SQLALCHEMY:
                    if code.co_name in _NOTED:
                        self._note(frame, code.co_name)
                # A compiled jinja2 template carries its template's file name, but line numbers of generated code.
                elif owner == _APPLICATION and "__jinja_template__" not in frame.f_globals:
                    return frame
                elif owner == _BOUNDARY:
                    return None
                elif owner == _INSTALLED:
                    self._note_installed(frame)
                frame = frame.f_back
            self.greenlet = _find_parent(self.greenlet)
            if self.greenlet is None:
                return None
            frame = self.greenlet.gr_frame

    def _note_installed(self, frame: FrameType) -> None:
        self.fallback = self.fallback or frame
        if self.preferred is None and self.package is not None and _belongs(frame, self.package):
            self.preferred = frame

    def _note(self, frame: FrameType, name: str) -> None:
        if name in _ACCESSES:
            # The outermost one: of an association proxy, the name that the application wrote.
            self.attribute = _find_key(frame.f_locals) or self.attribute
            return
        self.acts += (_ACTS[name],)
        if name == "_flush":
            self.flush = frame.f_locals.get("flush_context")


def _find_key(variables: Mapping[str, Any]) -> str | None:
    """Return the name of an attribute, from the variables of the function that reads it for everybody."""
    descriptor = variables.get("self")
    key: str | None = getattr(descriptor, "key", None)
    if key is None or not key.startswith(_PROXY):
        return key
    # A proxy's own key is made up; only the class knows its name.
    owner = variables.get("owner") or type(variables.get("instance", variables.get("obj")))
    found = (name for each in owner.__mro__ for name, value in vars(each).items() if value is descriptor)
    return next(found, None)


def find_caller(package: str | None = None) -> Caller:
    """Return the application's innermost line on the running stack, in 2 to 5 microseconds.

    Args:
        package: Top-level package of the mapped class, None where unknown.
    """
    climb = _Climb(package)
    frame = climb.find_application(sys._getframe(1))  # noqa: SLF001 - the documented way that inspect and logging use too
    acts, attribute, flush = climb.acts, climb.attribute, climb.flush
    # Where an installed package stands in between (a template engine, a serializer), it did the reading.
    if frame is not None and attribute is not None and climb.fallback is None:
        frame = _find_reader(climb, frame, attribute) or frame
    frame = frame or climb.preferred or climb.fallback
    if frame is None:
        return Caller(None, 0, acts, attribute, flush)
    return Caller(frame.f_code, frame.f_lineno, acts, attribute, flush, frame, climb.greenlet)


def find_outer(caller: Caller) -> Caller | None:
    """Return the application's line that called the function of *caller*; None if there is none.

    Args:
        caller: Of the running stack.
    """
    if caller.frame is None:
        return None
    frame = _find_function(caller.frame)
    # Of an application that is installed as a package, its own frames are meant.
    is_installed = _owners.get(frame.f_code.co_filename) == _INSTALLED
    climb = _Climb(str(frame.f_globals.get("__name__", "")).partition(".")[0] if is_installed else None)
    climb.greenlet = caller.greenlet
    outer = climb.find_application(frame.f_back)
    outer = climb.preferred or outer
    return None if outer is None else Caller(outer.f_code, outer.f_lineno, frame=outer, greenlet=climb.greenlet)


def _find_reader(climb: _Climb, frame: FrameType, attribute: str) -> FrameType | None:
    """Return the first frame, from *frame* outwards, that does not read whatever it is told to; None if all do."""
    found: FrameType | None = frame
    while found is not None:
        function = _find_function(found)
        if not _reads_any(function.f_code) or _names(function.f_code, attribute):
            return found
        found = climb.find_application(function.f_back)
    return None


def _find_function(frame: FrameType) -> FrameType:
    """Return the frame of the function that a comprehension stands in: a function to Python, but to nobody else."""
    while frame.f_code.co_name in _COMPREHENSIONS:
        outer = frame.f_back
        # A generator may be run, and a lambda called, from anywhere.
        if outer is None or frame.f_code not in outer.f_code.co_consts:
            break
        frame = outer
    return frame


def _reads_any(code: CodeType) -> bool:
    """Tell whether a function, or a comprehension in it, reads attributes by names that it is given."""
    if not _READERS.isdisjoint(code.co_names) and _takes_names(code):
        return True
    return any(_reads_any(each) for each in code.co_consts if _is_comprehension(each))


@lru_cache(maxsize=1024)
def _takes_names(code: CodeType) -> bool:
    """Tell whether a name that is read is not written there, as that of `getattr(request, "user", None)` is."""
    is_open = is_written = False  # between the reader's own name and its call
    for step in dis.get_instructions(code):
        if step.opname.startswith("LOAD_") and step.argval in _READERS:
            is_open, is_written = True, False
        elif step.opname == "LOAD_CONST" and isinstance(step.argval, str):
            is_written = is_written or step.argval.replace(".", "").isidentifier()
        elif step.opname in _JOINS:
            is_written = False
        elif is_open and step.opname in _CALLS:
            if not is_written:
                return True
            is_open = False
    return False


def _names(constant: object, attribute: str) -> bool:
    """Tell whether a function, a text such as `author.name`, or one of several, names *attribute*."""
    if isinstance(constant, CodeType):
        return attribute in constant.co_names or any(_names(each, attribute) for each in constant.co_consts)
    if isinstance(constant, tuple | frozenset):
        return any(_names(each, attribute) for each in constant)
    return isinstance(constant, str) and attribute in constant.split(".")


def _is_comprehension(constant: object) -> TypeGuard[CodeType]:
    return isinstance(constant, CodeType) and constant.co_name in _COMPREHENSIONS


def _belongs(frame: FrameType, package: str) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == package


# A line is described once for each scope it appears in.
@lru_cache(maxsize=4096)
def describe_caller(code: CodeType, line: int) -> CallSite:
    """Turn what `find_caller` returned into a record.

    Args:
        code: Code object of the line.
        line: Line number.
    """
    # Of `make_app.<locals>.list_users.<locals>.<listcomp>` a reader looks for `list_users`.
    names = [name for name in code.co_qualname.split(".<locals>.") if not name.startswith("<")]
    return CallSite(file=_shorten(code.co_filename), line=line, function=names[-1] if names else code.co_qualname)


def is_application(code: CodeType) -> bool:
    """Tell whether *code* was written for the application, and is not Python's or an installed package's."""
    return _find_owner(code.co_filename) == _APPLICATION


def _find_parent(greenlet: Any) -> Any:
    """Return the greenlet that started *greenlet* (None: the running one), None at the end or without greenlet."""
    module = sys.modules.get("greenlet")
    if module is None:
        return None
    if greenlet is None:
        greenlet = module.getcurrent()
    return greenlet.parent


def _find_owner(file: str) -> int:
    # "<string>", "<stdin>", "<sqlalchemy generated ...>", "<frozen importlib>": no line that a person could open.
    if file.startswith("<"):
        return _NOBODY
    path = os.path.abspath(file)  # noqa: PTH100 - Path.resolve would follow links, which the user did not write
    owner = next((owner for prefixes, owner in _OWNERS if path.startswith(prefixes)), _APPLICATION)
    if owner != _SQLALCHEMY and any(name in path for name in _PACKAGE_FOLDERS) and not path.startswith(_OWN_FOLDER):
        return _INSTALLED
    return owner


def _shorten(file: str) -> str:
    """Make a path relative to the working directory, if it lies below it."""
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return file


def _prefixes(*folders: str | None) -> tuple[str, ...]:
    """Return folders as prefixes of paths, as they are written and with links followed."""
    known = [Path(folder) for folder in folders if folder]
    return tuple({f"{path}{os.sep}" for folder in known for path in (folder, folder.resolve())})


def _package_folder(name: str) -> str | None:
    spec = find_spec(name)
    return str(Path(spec.origin).parent) if spec is not None and spec.origin else None


# What runs below or around an application's line and is never "the line" itself. Wherever it is installed: for a user,
# by the system, or from a folder that somebody works on.
_MACHINERY = _prefixes(_package_folder("sqlalchemy"), _package_folder("greenlet"))
# Starters such as `bin/uvicorn`.
_SCRIPTS = _prefixes(sysconfig.get_path("scripts"))
_PACKAGES = _prefixes(sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
# The user's own packages, and Debian's.
_PACKAGE_FOLDERS = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_STANDARD_LIBRARY = _prefixes(sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
# The first that fits: folders within folders come first.
_OWNERS = (
    (_OWN_BOUNDARIES, _BOUNDARY),
    (_OWN_APPLICATIONS, _APPLICATION),
    ((_OWN_FOLDER,), _NOBODY),
    (_MACHINERY, _SQLALCHEMY),
    (_SCRIPTS, _NOBODY),
    (_PACKAGES, _INSTALLED),
    (_STANDARD_LIBRARY, _NOBODY),
)
