"""A decorated function is of the kind it was, and behaves as it did."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
from contextlib import nullcontext

import pytest

from querywatch.decoration import decorate
from querywatch.errors import ConfigError


class Inside:
    """Notes when code of the generator runs, and the end."""

    def __init__(self):
        self.depth = 0
        self.steps = 0
        self.ends = 0

    def __enter__(self):
        self.depth += 1
        self.steps += 1

    def __exit__(self, *error):
        self.depth -= 1

    def end(self):
        self.ends += 1


@pytest.fixture
def inside():
    return Inside()


@pytest.fixture
def decorated(inside):
    return lambda function: decorate(function, nullcontext, lambda: inside)


def plain():
    """Work."""


async def asynchronous():
    """Work."""


def generating():
    """Work."""
    yield


async def generating_async():
    """Work."""
    yield


@pytest.mark.parametrize("function", [plain, asynchronous, generating, generating_async], ids=lambda f: f.__name__)
def test_the_kind_and_the_name_stay(decorated, function):
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    found = decorated(function)
    assert [is_kind(found) for is_kind in kinds] == [is_kind(function) for is_kind in kinds]
    assert (found.__name__, found.__doc__, found.__wrapped__) == (function.__name__, "Work.", function)


def test_a_partial_is_of_the_kind_of_its_function(decorated):
    assert inspect.isasyncgenfunction(decorated(functools.partial(generating_async)))


def test_methods_of_every_sort(decorated):
    class Service:
        value = 1

        @decorated
        def method(self, more):
            return self.value + more

        @decorated
        @staticmethod
        def inner_static(more):
            return more

        @staticmethod
        @decorated
        def outer_static(more):
            return more

        @decorated
        @classmethod
        def inner_class(cls, more):
            return cls.value + more

        @classmethod
        @decorated
        def outer_class(cls, more):
            return cls.value + more

        @property
        @decorated
        def attribute(self):
            return self.value

    service = Service()
    assert [service.method(1), service.inner_class(1), service.outer_class(1), service.attribute] == [2, 2, 2, 1]
    assert [Service.inner_static(5), service.outer_static(5)] == [5, 5]


def test_an_object_that_can_be_called(decorated):
    class Job:
        async def __call__(self, value):
            return value

    assert asyncio.run(decorated(Job())(3)) == 3


@pytest.mark.parametrize(
    ("thing", "seen"),
    [
        pytest.param(Inside, "the class Inside", id="class"),
        pytest.param(7, "an object of class int", id="number"),
        pytest.param(property(plain), "an object of class property", id="property"),
    ],
)
def test_anything_else_is_refused(decorated, thing, seen):
    with pytest.raises(ConfigError) as caught:
        decorated(thing)
    assert str(caught.value) == (
        f"watch decorates a function, got {seen}. Write it above the function or method instead."
    )


def test_a_generator_is_what_it_was(decorated, inside):
    @decorated
    def talk(first):
        got = [first]
        try:
            while True:
                assert inside.depth == 1
                try:
                    got.append((yield len(got)))
                except KeyError as error:
                    got.append(error)
        except LookupError:
            return got
        finally:
            assert inside.depth == 1

    generator = talk("a")
    error = KeyError("k")
    assert inside.steps == 0
    assert [next(generator), generator.send("b"), generator.throw(error)] == [1, 2, 3]
    assert (inside.depth, inside.ends) == (0, 0)
    with pytest.raises(StopIteration) as ended:
        generator.throw(LookupError())
    assert ended.value.value == ["a", "b", error]
    assert inside.ends == 1


@pytest.mark.parametrize("end", ["close", "let-go", "exception"])
def test_a_generator_ends_once(decorated, inside, end):
    cleaned = []

    @decorated
    def rows():
        try:
            yield 1
            raise RuntimeError("theirs")
        finally:
            cleaned.append(inside.depth)

    generator = rows()
    assert next(generator) == 1
    if end == "close":
        generator.close()
    elif end == "exception":
        with pytest.raises(RuntimeError, match="theirs"):
            next(generator)
    else:
        del generator
        gc.collect()
    assert cleaned == [1]
    assert inside.ends >= 1
    assert inside.depth == 0


def test_an_async_generator_is_what_it_was(decorated, inside):
    @decorated
    async def talk(first):
        got = [first]
        try:
            while True:
                await asyncio.sleep(0)
                assert inside.depth == 1
                try:
                    got.append((yield len(got)))
                except KeyError as error:
                    got.append(error)
        finally:
            await asyncio.sleep(0)
            assert inside.depth == 1

    async def main():
        generator = talk("a")
        error = KeyError("k")
        assert inside.steps == 0
        assert await anext(generator) == 1
        assert await generator.asend("b") == 2
        assert await generator.athrow(error) == 3
        assert (inside.depth, inside.ends) == (0, 0)
        with pytest.raises(ValueError, match="theirs"):
            await generator.athrow(ValueError("theirs"))
        assert inside.ends == 1
        with pytest.raises(StopAsyncIteration):
            await anext(generator)

    asyncio.run(main())


@pytest.mark.parametrize("end", ["aclose", "exhausted", "break", "loop-ends", "cancelled"])
def test_an_async_generator_ends_once_and_quietly(decorated, inside, end):
    cleaned, complaints = [], []
    closed = asyncio.Event()

    @decorated
    async def rows():
        try:
            yield 1
            if end == "cancelled":
                await asyncio.Event().wait()
        finally:
            # Takes a while, so that a second one who closes it would come in between.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            cleaned.append(inside.depth)
            closed.set()

    kept = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        generator = rows()
        assert await anext(generator) == 1
        if end == "aclose":
            await generator.aclose()
        elif end == "exhausted":
            assert [value async for value in generator] == []
        elif end == "cancelled":
            task = asyncio.ensure_future(anext(generator))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        elif end == "loop-ends":
            kept.append(generator)
        else:
            del generator
            gc.collect()
            # The loop closes it in a task of its own.
            await closed.wait()

    asyncio.run(main())
    assert cleaned == [1]
    assert complaints == []
    assert inside.ends >= 1
    assert inside.depth == 0


def test_arguments_that_do_not_fit_are_told_by_the_function_itself(decorated, inside):
    with pytest.raises(TypeError, match=r"generating\(\) takes 0 positional arguments"):
        next(decorated(generating)(1))
    assert inside.steps == inside.ends == 0
