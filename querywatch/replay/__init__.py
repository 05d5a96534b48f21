"""`prove` and `aprove`: run a callable as it is and with the proposed loader options, and see what they save.

In:  a callable.
Out: a `Replay`: queries and time before and after, for each fix that an N+1 finding proposes.

It is for a test, a shell, or a developer's machine: while it runs, no commit goes through in the whole process.
"""

from __future__ import annotations

import functools
import inspect
from contextlib import AsyncExitStack, ExitStack
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Engine
from sqlalchemy.orm import Session
from sqlalchemy.util import greenlet_spawn

from querywatch.capture.engine import find_capture
from querywatch.config import read_config
from querywatch.errors import ConfigError, QuerywatchError
from querywatch.replay.guard import Guard, list_engines
from querywatch.replay.loader_options import Injection
from querywatch.replay.record import Cost, Replay, ReplayedFix
from querywatch.replay.runs import Outcome, advance, plan_runs

if TYPE_CHECKING:
    from collections.abc import Callable

    from querywatch.replay.loader_options import Suggestion

    _Suggestions = tuple[Suggestion, ...]

__all__ = ["Cost", "Replay", "ReplayedFix", "aprove", "prove"]


class _Given(NamedTuple):
    engine: Any
    session: Any
    is_async: bool


def prove(
    function: Callable[..., Any], *, engine: Any = None, session: Callable[[], Any] | None = None, **settings: Any
) -> Replay:
    """Run a callable as it is and with the loader options that its N+1 findings propose; roll everything back.

    It runs once, and where there is something to try twice for each way, in turns: as it is, with each fix alone, with
    all of them. What it does outside of its databases, it does each time.

    Args:
        function: Takes nothing, or one argument: a fresh session for each run. A generator is read to its end.
        engine: Engine of that session. May be left out if a monitor watches exactly one.
        session: Makes that session instead, such as a `sessionmaker`.
        settings: Fields of `querywatch.Config`; `n_plus_one_threshold` matters most.

    Returns:
        What it showed; `str()` of it is for people.

    Raises:
        ReplayError: It commits, or does something else that could not be rolled back. Nothing of it was kept.
        ConfigError: A setting is wrong, or no engine is known for the session that *function* takes.
        Exception: Whatever *function* raises as it is.
    """
    name = _find_name(function)
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"{name} is async. Write: await querywatch.aprove({name})")
    config = read_config(settings)
    make_session = _choose_session(function, name, _Given(engine, session, is_async=False))
    plan = plan_runs(name, config)
    with Guard(name, config) as guard:
        step = advance(plan, None)
        while not isinstance(step, Replay):
            step = advance(plan, _run(function, make_session, guard, step))
        return step


async def aprove(
    function: Callable[..., Any], *, engine: Any = None, session: Callable[[], Any] | None = None, **settings: Any
) -> Replay:
    """`prove` for an async callable; it gets an `AsyncSession`.

    Args:
        function: As for `prove`, but what it returns is awaited; an async generator is read to its end.
        engine: The `AsyncEngine` of its session.
        session: Such as an `async_sessionmaker`.
        settings: As for `prove`.

    Returns:
        As `prove`.

    Raises:
        ReplayError: As `prove`.
        ConfigError: As `prove`.
        Exception: As `prove`.
    """
    name = _find_name(function)
    config = read_config(settings)
    make_session = _choose_session(function, name, _Given(engine, session, is_async=True))
    plan = plan_runs(name, config)
    with Guard(name, config) as guard:
        step = advance(plan, None)
        while not isinstance(step, Replay):
            step = advance(plan, await _arun(function, make_session, guard, step))
        return step


def _run(
    function: Callable[..., Any], make_session: Callable[[], Any] | None, guard: Guard, suggestions: _Suggestions
) -> Outcome:
    outcome = Outcome()
    try:
        with guard.running(Injection(suggestions)) as run, ExitStack() as stack:
            arguments = () if make_session is None else (stack.enter_context(make_session()),)
            started = perf_counter()
            result = function(*arguments)
            if inspect.isgenerator(result):
                result = list(result)
            outcome.take(run, perf_counter() - started, result)
            _refuse_awaitable(function, result)
    except Exception as error:  # noqa: BLE001 - the callable may raise anything
        outcome.error = _forgive(error, suggestions)
    finally:
        guard.clean_up()
    return outcome


async def _arun(
    function: Callable[..., Any], make_session: Callable[[], Any] | None, guard: Guard, suggestions: _Suggestions
) -> Outcome:
    outcome = Outcome()
    try:
        with guard.running(Injection(suggestions)) as run:
            async with AsyncExitStack() as stack:
                arguments = () if make_session is None else (await stack.enter_async_context(make_session()),)
                started = perf_counter()
                result = function(*arguments)
                if inspect.isasyncgen(result):
                    result = [each async for each in result]
                elif inspect.isawaitable(result):
                    result = await result
                outcome.take(run, perf_counter() - started, result)
    except Exception as error:  # noqa: BLE001 - the callable may raise anything
        outcome.error = _forgive(error, suggestions)
    finally:
        await greenlet_spawn(guard.clean_up)
    return outcome


def _forgive(error: Exception, suggestions: _Suggestions) -> str:
    """Return the class of an exception that a fix brought; raise any other one again."""
    if not suggestions or isinstance(error, QuerywatchError):
        raise error
    return type(error).__name__


def _refuse_awaitable(function: Callable[..., Any], result: Any) -> None:
    if inspect.iscoroutine(result):
        result.close()
    if inspect.isawaitable(result):
        name = _find_name(function)
        raise ConfigError(f"{name} returns an awaitable. Write: await querywatch.aprove({name})")


# -- the session of a callable that takes one


def _choose_session(function: Callable[..., Any], name: str, given: _Given) -> Callable[[], Any] | None:
    """Return what makes the callable's session, None if it takes none."""
    count = _count_arguments(function)
    if count > 1:
        raise ConfigError(
            f"{name} takes {count} arguments, and prove() has one to give: a session. "
            f"Bind the others: functools.partial({name}, ...)."
        )
    if count == 0:
        if given.session is not None:
            raise ConfigError(f"{name} takes no argument, so session has nobody to go to. Leave it out.")
        return None
    if given.session is not None:
        if not callable(given.session):
            raise ConfigError(
                f"session must make a new session each time, as a sessionmaker does; got {_name_type(given.session)}."
            )
        make_session: Callable[[], Any] = given.session
        return make_session
    engine = given.engine if given.engine is not None else _find_watched_engine(name, is_async=given.is_async)
    if not given.is_async:
        if not isinstance(engine, Engine):
            advice = " Write: await querywatch.aprove(...)" if hasattr(engine, "sync_engine") else ""
            raise ConfigError(f"engine must be a SQLAlchemy Engine, got {_name_type(engine)}.{advice}")
        return functools.partial(Session, engine)
    # Only a program with an AsyncEngine comes here, and it has imported this.
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession  # noqa: PLC0415

    if isinstance(engine, Engine) and engine.dialect.is_async:
        engine = AsyncEngine(engine)
    if not isinstance(engine, AsyncEngine):
        raise ConfigError(f"engine must be a SQLAlchemy AsyncEngine, got {_name_type(engine)}.")
    return functools.partial(AsyncSession, engine)


def _count_arguments(function: Callable[..., Any]) -> int:
    """Count the arguments that have no default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 0  # written in C: it is called, and says itself what it misses
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return sum(each.default is inspect.Parameter.empty and each.kind not in variadic for each in parameters)


def _find_watched_engine(name: str, *, is_async: bool) -> Engine:
    engines = [
        engine for engine in list_engines() if engine.dialect.is_async is is_async and find_capture(engine) is not None
    ]
    if len(engines) == 1:
        return engines[0]
    kind = "async engines" if is_async else "engines"
    raise ConfigError(
        f"{name} takes a session, and {len(engines)} {kind} are watched: say of which it is. "
        f"Write: prove({name}, engine=engine) or prove({name}, session=SessionLocal)."
    )


def _find_name(function: Callable[..., Any]) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return str(name).rpartition("<locals>.")[2]


def _name_type(value: object) -> str:
    return type(value).__qualname__
