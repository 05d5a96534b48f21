"""A snapshot as JSON, saved and read back without loss.

In:  a snapshot.
Out: text that `load_snapshot` turns into an equal snapshot; evidence comes back as `SavedEvidence`.

The reader follows the type hints of records.py, so a new field needs no line here. A field with a default may be
absent and an unknown field is ignored: adding one does not need a new format version; renaming or retyping one does.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from querywatch import records
from querywatch.errors import SnapshotError
from querywatch.records import Evidence, SavedEvidence, Snapshot
from querywatch.report.wording import installed_version

FORMAT = "querywatch-snapshot"
FORMAT_VERSION = 1

#: A double lies between 2**-1074 and 2**1024; a bucket outside of that was not written by querywatch.
_BUCKET_LIMIT = 8 * 1000


def dump_snapshot(snapshot: Snapshot) -> str:
    """Return *snapshot* as JSON text.

    Args:
        snapshot: What a monitor knew at one moment.

    Returns:
        ASCII text with the format's name and version beside the snapshot, and a newline at the end.
    """
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "querywatch": installed_version(),
        "snapshot": _plain(snapshot),
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def load_snapshot(text: str) -> Snapshot:
    """Read a snapshot that `dump_snapshot` wrote.

    Args:
        text: The whole file.

    Returns:
        A snapshot equal to the one saved.

    Raises:
        SnapshotError: The text is not JSON, not a snapshot of querywatch, of a newer format, or damaged.
    """
    try:
        document = json.loads(text)
    except RecursionError:
        raise SnapshotError("This is not a saved snapshot of querywatch: its JSON is nested too deeply.") from None
    except ValueError as error:
        raise SnapshotError(f"This is not a saved snapshot of querywatch: it is not JSON ({error}).") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise SnapshotError(
            f'This is JSON, but not a saved snapshot of querywatch: it has no "format": "{FORMAT}". '
            "Save one with the JSON report."
        )
    version = document.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise SnapshotError(f'This snapshot is damaged: "format_version" must be a number from 1, got {version!r}.')
    if version > FORMAT_VERSION:
        raise SnapshotError(
            f"This snapshot has format version {version}, written by querywatch {document.get('querywatch')}; "
            f"querywatch {installed_version()} reads up to version {FORMAT_VERSION}. Upgrade querywatch to read it."
        )
    try:
        snapshot: Snapshot = _read_record(Snapshot, document.get("snapshot"), "snapshot")
    except RecursionError:
        raise SnapshotError("This snapshot is damaged: a plan in it is nested too deeply.") from None
    return snapshot


def _plain(value: Any) -> Any:
    """Return *value* as what JSON knows."""
    if isinstance(value, float) and not math.isfinite(value):
        # JSON has no infinity; a text is read back exactly where the record says float.
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, tuple | list | set | frozenset):
        return [_plain(item) for item in value]
    if hasattr(value, "as_dict"):
        value = value.as_dict()
    elif dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return str(value)


@cache
def _hints(record: Any) -> dict[str, Any]:
    # records.py imports Mapping for type checkers only.
    return get_type_hints(record, vars(records), {"Mapping": Mapping})


def _read_record(record: Any, value: Any, where: str) -> Any:
    """Build *record* from a JSON object; *where* names the place for the error."""
    value = _checked(value, dict, "an object", where)
    hints = _hints(record)
    arguments = {}
    for field in dataclasses.fields(record):
        place = f"{where}.{field.name}"
        if field.name in value:
            arguments[field.name] = _read(hints[field.name], value[field.name], place)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise SnapshotError(f"This snapshot is damaged: {place} is missing.")
    return record(**arguments)


def _read(hint: Any, value: Any, where: str) -> Any:
    """Turn JSON's *value* into what *hint* asks for."""
    arguments = get_args(hint)
    if type(None) in arguments:
        if value is None:
            return None
        [hint] = [argument for argument in arguments if argument is not type(None)]
        return _read(hint, value, where)
    if hint is Evidence:
        return SavedEvidence(_checked(value, dict, "an object", where))
    if dataclasses.is_dataclass(hint):
        return _read_record(hint, value, where)
    read = _READERS.get(get_origin(hint))
    return read(arguments, value, where) if read else _read_scalar(hint, value, where)


def _read_literal(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if value not in arguments:
        raise _damaged(where, " or ".join(arguments), value)
    return value


def _read_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    items = _checked(value, list, "a list", where)
    return tuple(_read(arguments[0], item, f"{where}[{number}]") for number, item in enumerate(items))


def _read_mapping(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    items = _checked(value, dict, "an object", where).items()
    return {_read_key(arguments[0], key, where): _read(arguments[1], item, f"{where}.{key}") for key, item in items}


_READERS: dict[Any, Callable[[tuple[Any, ...], Any, str], Any]] = {
    Literal: _read_literal,
    tuple: _read_tuple,
    Mapping: _read_mapping,
}


def _checked(value: Any, expected: type[Any], description: str, where: str) -> Any:
    if not isinstance(value, expected):
        raise _damaged(where, description, value)
    return value


def _read_key(hint: Any, key: str, where: str) -> Any:
    """Turn a JSON key, always a text, into what *hint* asks for."""
    if hint is not int:
        return key
    try:
        number = int(key)
    except ValueError:
        raise _damaged(where, "numbers as keys", key) from None
    if abs(number) > _BUCKET_LIMIT:
        raise _damaged(where, f"bucket numbers up to {_BUCKET_LIMIT:,}", key)
    return number


def _read_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and value in ("inf", "-inf", "nan"):
        return float(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise _damaged(where, "a number", "an integer beyond any float") from None
    # bool is an int to Python, and not to a reader of JSON.
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise _damaged(where, {str: "a text", bool: "true or false"}.get(hint, "a number"), value)
    return value


def _damaged(where: str, expected: str, value: Any) -> SnapshotError:
    seen = repr(value)
    seen = seen if len(seen) <= 60 else f"{seen[:57]}..."  # noqa: PLR2004  one line in a terminal
    return SnapshotError(f"This snapshot is damaged: {where} must be {expected}, got {seen}.")
