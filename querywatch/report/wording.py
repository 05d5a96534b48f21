"""Numbers, times and foreign text as people read them: the one place that decides on units and separators."""
# ruff: noqa: PLR2004 - each number here is where rounding or reading calls for the next unit; a name would not say more

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version

#: What a terminal or a browser obeys instead of showing: control characters, direction marks, lone surrogates.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")

#: Stands where a number is not known.
UNKNOWN = "\N{EN DASH}"

#: Below so many seconds: units per second, format, unit. A limit is where rounding would add a digit.
_DURATIONS = (
    (0.000_995, 1000, ".2g", "ms"),
    (0.009_95, 1000, ".1f", "ms"),
    (0.999_5, 1000, ".0f", "ms"),
    (9.95, 1, ".1f", "s"),
    (119.5, 1, ".0f", "s"),
)


@cache
def installed_version() -> str:
    """Return querywatch's version, `unknown` where it runs without being installed."""
    try:
        return version("querywatch")
    except PackageNotFoundError:
        return "unknown"


def visible(text: str) -> str:
    """Return *text* with characters that would act on the reader's screen written out, such as `<U+202E>`.

    Tabs and newlines stay.
    """
    return _OBEYED.sub(lambda match: f"<U+{ord(match[0]):04X}>", text)


def one_line(text: str) -> str:
    """Return *text* made `visible`, with every run of white space as one space."""
    return visible(" ".join(text.split()))


def function_name(qualified: str) -> str:
    """Return the name a reader looks for: of `add_routes.<locals>.list_users.<locals>.<listcomp>`, `list_users`."""
    named = [name for name in qualified.split(".<locals>.") if not name.startswith("<")]
    return one_line(named[-1] if named else qualified)


def count(number: float) -> str:
    """Return a count: `40,000`; 0.7 stays `0.7`, for means of counts. A dash for what is no number."""
    if not math.isfinite(number):
        return UNKNOWN
    rounded = round(number, 1)
    return f"{rounded:,.0f}" if rounded == int(rounded) or abs(rounded) >= 100 else f"{rounded:,.1f}"


def counted(number: float, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun: `1 query`, `51 queries`."""
    return f"{count(number)} {noun if number == 1 else plural or noun + 's'}"


def duration(seconds: float | None) -> str:
    """Return a duration with two or three significant digits: `0.4 ms`, `12 ms`, `1.3 s`, `4 min 5 s`.

    Args:
        seconds: The duration; None, not known, is a dash.
    """
    if seconds is None:
        return UNKNOWN
    if seconds <= 0:
        return "0 ms"
    if seconds < 1e-6:
        return "<0.001 ms"
    for limit_s, per_second, digits, unit in _DURATIONS:
        if seconds < limit_s:
            return f"{seconds * per_second:{digits}} {unit}"
    return _long_duration(seconds)


def _long_duration(seconds: float) -> str:
    if not seconds < 1e9:  # also what is no number
        return UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{count(hours)} h {minutes} min" if minutes else f"{count(hours)} h"


def share(ratio: float) -> str:
    """Return a ratio as per cent: `61%`, `0.4%`, `<0.1%`."""
    percent = ratio * 100
    if 0 < percent < 0.1:
        return "<0.1%"
    return f"{percent:.1f}%" if 0 < percent < 9.95 else f"{percent:.0f}%"


def percent(ratio: float) -> str:
    """Return a ratio as a length of SVG: `42.00%`."""
    return f"{ratio * 100:.2f}%"


def cost(units: float | None) -> str:
    """Return planner units: `8.44`, `1,042`; None, a database without costs, is a dash."""
    if units is None:
        return UNKNOWN
    return f"{units:,.2f}" if abs(units) < 100 else f"{units:,.0f}"


def size(amount: int | None) -> str:
    """Return bytes: `640 kB`, `1.2 MB`; None, not known, is a dash."""
    if amount is None:
        return UNKNOWN
    number, units = float(amount), ["bytes", "kB", "MB", "GB", "TB"]
    while number >= 999.5 and len(units) > 1:
        number, units = number / 1000, units[1:]
    digits = 1 if number < 10 and units[0] != "bytes" else 0
    return f"{number:,.{digits}f} {units[0]}"


def moment(unix: float, pattern: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return a Unix time in UTC; a dash where no calendar holds it."""
    try:
        return datetime.fromtimestamp(unix, UTC).strftime(pattern)
    except (OverflowError, ValueError, OSError):
        return UNKNOWN
