"""Lines that read attributes for everybody, as an application's base model or serializer has: never the culprit."""

from __future__ import annotations

from typing import Any


def read(row: Any, name: str) -> Any:
    """Return one attribute of a row."""
    return getattr(row, name)


def serialize(row: Any, *names: str) -> dict[str, Any]:
    """Return a row's attributes by name."""
    return {name: getattr(row, name) for name in names}
