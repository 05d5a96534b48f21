"""A function whose code runs inside of something, and that stays of the kind it is.

In:  a function, async function, generator or async generator, and what its code is to run in.
Out: one of the same kind, because frameworks treat each kind in a way of its own.
"""

from __future__ import annotations

import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from querywatch.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
    from contextlib import AbstractContextManager
    from types import TracebackType

Function = TypeVar("Function", bound="Callable[..., Any]")


class Suspended(Protocol):
    """What the code of a generator runs in: entered for each step, ended once, maybe more often."""

    def __enter__(self) -> Any: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...

    def end(self) -> None:
        """Tell that no step follows."""


def decorate(
    function: Function, enter: Callable[[], AbstractContextManager[Any]], suspend: Callable[[], Suspended]
) -> Function:
    """Return a function of the same kind whose code runs inside of something.

    Args:
        function: A function, method, static or class method, or another object that can be called.
        enter: Called for each call of a function that is no generator.
        suspend: Called when a generator takes its first step.

    Raises:
        ConfigError: *function* is a class, or cannot be called.
    """
    if isinstance(function, staticmethod | classmethod):
        return type(function)(decorate(function.__func__, enter, suspend))
    if inspect.isclass(function) or not callable(function):
        raise ConfigError(
            f"watch decorates a function, got {describe(function)}. Write it above the function or method instead."
        )
    # Of another object that can be called, the class knows the kind.
    is_plain = inspect.isroutine(function) or isinstance(function, functools.partial)
    code = function if is_plain else type(function).__call__
    run: Callable[..., Any]
    if inspect.iscoroutinefunction(code):
        run = _decorate_async(function, enter)
    elif inspect.isgeneratorfunction(code):
        run = _decorate_generator(function, suspend)
    elif inspect.isasyncgenfunction(code):
        run = _decorate_async_generator(function, suspend)
    else:
        run = _decorate_plain(function, enter)
    return functools.wraps(function)(run)  # type: ignore[return-value]


def describe(thing: object) -> str:
    """Return what *thing* is, for a message. Never its repr(), which may show what must not be shown."""
    name = getattr(thing, "__qualname__", None)
    if isinstance(thing, type):
        return f"the class {name}"
    return f"the function {name}" if isinstance(name, str) else f"an object of class {type(thing).__qualname__}"


def _decorate_plain(
    function: Callable[..., Any], enter: Callable[[], AbstractContextManager[Any]]
) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        with enter():
            return function(*args, **kwargs)

    return run


def _decorate_async(
    function: Callable[..., Any], enter: Callable[[], AbstractContextManager[Any]]
) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        with enter():
            return await function(*args, **kwargs)

    return run


def _decorate_generator(function: Callable[..., Any], suspend: Callable[[], Suspended]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        return (yield from _Steps(function(*args, **kwargs), suspend()))

    return run


class _Steps:
    """Passes each step of a generator on; has the methods that `yield from` asks for."""

    def __init__(self, generator: Generator[Any, Any, Any], inside: Suspended) -> None:
        self._generator = generator
        self._inside = inside

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return self._step(self._generator.__next__)

    def send(self, value: Any) -> Any:
        return self._step(self._generator.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._generator.throw, *error)

    def close(self) -> None:
        self._step(self._generator.close)
        self._inside.end()

    def _step(self, step: Callable[..., Any], *arguments: Any) -> Any:
        try:
            with self._inside:
                return step(*arguments)
        except BaseException:
            # Also StopIteration: whatever it raises, the generator has ended.
            self._inside.end()
            raise


def _decorate_async_generator(function: Callable[..., Any], suspend: Callable[[], Suspended]) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator = function(*args, **kwargs)
        inside = suspend()
        step = _take_first_step(generator)
        try:
            while True:
                try:
                    with inside:
                        value = await step
                except StopAsyncIteration:
                    return
                try:
                    sent = yield value
                except GeneratorExit:
                    with inside:
                        await generator.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - whatever is thrown in is for the generator
                    step = generator.athrow(error)
                else:
                    step = generator.asend(sent)
        finally:
            inside.end()

    return run


def _take_first_step(generator: AsyncGenerator[Any, Any]) -> Awaitable[Any]:
    """Return the first step of *generator*, which the event loop hears nothing of.

    A loop that shuts down closes all the generators it knows, at once. This one is closed by the one around it, and a
    second one that does the same at the same time would be told off in the application's log.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return generator.__anext__()
    finally:
        sys.set_asyncgen_hooks(*hooks)
