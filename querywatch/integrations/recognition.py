"""What kind of application an object is, told from its classes and signature, with nothing imported."""

from __future__ import annotations

import inspect


def is_instance_of(app: object, module: str, name: str) -> bool:
    """Tell whether *app* is an object of the class *name* of *module*, or of a class derived from it."""
    return any(kind.__name__ == name and kind.__module__ == module for kind in type(app).__mro__)


def is_asynchronous(app: object) -> bool:
    """Tell whether calling *app* gives a coroutine."""
    return inspect.iscoroutinefunction(app) or (callable(app) and inspect.iscoroutinefunction(type(app).__call__))


def list_arguments(app: object) -> list[str]:
    """Return the names of the positional arguments *app* needs; none if it cannot be called or does not tell."""
    if isinstance(app, type) or not callable(app):
        return []
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [one.name for one in parameters if one.kind in positional and one.default is inspect.Parameter.empty]
