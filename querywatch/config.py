"""Every setting: a keyword of `install`, a field here, and an environment variable `QUERYWATCH_<FIELD>`.

In:  keywords and the environment; a keyword wins.
Out: one frozen, checked `Config`.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from querywatch.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of one monitor.

    Args:
        enabled: False makes `install` do nothing at all.
        capture: `methods` wraps the dialect instance's methods; `events` uses the public cursor events (slower).
        slow_query_s: A call that takes at least this many seconds is slow. Above 0; `inf` reports none.
        n_plus_one_threshold: Executions in one scope from which a repeated statement is an N+1. At least 2.
        large_result_rows: Rows fetched at once from which a result is large. At least 1.
        long_transaction_s: Seconds a connection may be held while no query runs. Above 0; `inf` reports none.
        pool_wait_s: Seconds from which waiting for a connection of the pool is reported. Above 0; `inf` reports none.
        max_queries: Executions a scope may have; None for any number. At least 1.
        max_db_s: Seconds a scope may spend in the databases; None for any time. Above 0.
        unused_eager_loads: Share of scopes, 0 to 1, in which reads of relationships are watched for eager loads unused.
        sample_scopes: Share of scopes, 0 to 1, that are examined for findings. Statistics count all of them.
        allow: Findings to leave out: codes, subjects, `code:subject`, scopes, databases, `file:line`; `*` for any text.
        explain: Ask the database for the plans of slow and busy statements.
        explain_per_minute: At most this many EXPLAINs a minute. At least 1.
        explain_timeout_s: Limit of one EXPLAIN on the server, in seconds. Above 0, at most a day.
        advise: Propose indexes; needs `explain`.
        large_table_rows: A scan of fewer rows than this earns no index. At least 1.
        log_findings: Log each new finding: by structlog where it is configured, else by the logger `querywatch`.
        spans: Which statements become OpenTelemetry spans: `findings` (slow, failed, N+1) or `none`.
        prometheus_port: Serve metrics on this port; None serves none, 0 takes a free port.
        prometheus_address: Address of that endpoint; loopback unless set.
        interval_s: Seconds between two passes of the background thread. Above 0, at most a day.
        max_statements: Statements with statistics of their own; further ones are counted as `other`. At least 1.
        max_findings: Findings kept; the oldest leaves first. At least 1.
        max_plans: Plans kept; the oldest leaves first. At least 1.
    """

    enabled: bool = True
    capture: Literal["methods", "events"] = "methods"
    slow_query_s: float = 0.1
    n_plus_one_threshold: int = 5
    large_result_rows: int = 10_000
    long_transaction_s: float = 1.0
    pool_wait_s: float = 0.1
    max_queries: int | None = None
    max_db_s: float | None = None
    unused_eager_loads: float = 0.0
    sample_scopes: float = 1.0
    allow: tuple[str, ...] = ()
    explain: bool = True
    explain_per_minute: int = 20
    explain_timeout_s: float = 1.0
    advise: bool = True
    large_table_rows: int = 10_000
    log_findings: bool = True
    spans: Literal["findings", "none"] = "findings"
    prometheus_port: int | None = None
    prometheus_address: str = "127.0.0.1"
    interval_s: float = 0.5
    max_statements: int = 5_000
    max_findings: int = 1_000
    max_plans: int = 500

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: A value is of the wrong type or out of its range.
        """
        allow: object = self.allow
        if isinstance(allow, list | set | frozenset):
            object.__setattr__(self, "allow", tuple(allow))  # what people write, kept as what cannot change
        for name, hint in _hints().items():
            _check_type(name, getattr(self, name), hint)
        _check_above_zero("slow_query_s", self.slow_query_s, "To report no slow queries, set it to float('inf').")
        _check_above_zero("long_transaction_s", self.long_transaction_s, _REPORT_NONE)
        _check_above_zero("pool_wait_s", self.pool_wait_s, _REPORT_NONE)
        if self.max_db_s is not None:
            _check_above_zero("max_db_s", self.max_db_s, "For no limit, leave it out.")
        for name in ("unused_eager_loads", "sample_scopes"):
            _check_share(name, getattr(self, name))
        _check_above_zero("explain_timeout_s", self.explain_timeout_s, "To ask for no plans, set explain=False.")
        _check_above_zero("interval_s", self.interval_s, "0.5 is a good value.")
        _check_at_most_a_day("explain_timeout_s", self.explain_timeout_s)
        _check_at_most_a_day("interval_s", self.interval_s)
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} must be at least {least}, got {value!r}. The default is {_default(name)}.")
        if self.prometheus_port is not None and not 0 <= self.prometheus_port <= _HIGHEST_PORT:
            raise ConfigError(
                f"prometheus_port must be from 0 to {_HIGHEST_PORT}, got {self.prometheus_port!r}. "
                "0 takes a free port; None serves no metrics."
            )


_HIGHEST_PORT = 65_535
_REPORT_NONE = "To report none, set it to float('inf')."
_DAY_S = 86_400
_LEAST = {
    "n_plus_one_threshold": 2,
    "large_result_rows": 1,
    "max_queries": 1,
    "explain_per_minute": 1,
    "large_table_rows": 1,
    "max_statements": 1,
    "max_findings": 1,
    "max_plans": 1,
}


def read_config(settings: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Config:
    """Build a `Config` from keywords and the environment.

    Args:
        settings: Keywords of `install`; each wins over its environment variable.
        environ: Read for `QUERYWATCH_<FIELD>`.

    Raises:
        ConfigError: A name is unknown or a value is wrong.
    """
    hints = _hints()
    for name in settings:
        if name not in hints:
            raise ConfigError(f"{name!r} is not a setting of querywatch. Settings: {', '.join(hints)}.")
    values = dict(settings)
    for name, hint in hints.items():
        text = environ.get(f"QUERYWATCH_{name.upper()}")
        if name not in values and text is not None:
            values[name] = _parse(name, text, hint)
    return Config(**values)


def _hints() -> dict[str, Any]:
    return get_type_hints(Config)


def _default(name: str) -> object:
    return next(field.default for field in dataclasses.fields(Config) if field.name == name)


def _check_above_zero(name: str, value: float, advice: str) -> None:
    if not value > 0:
        raise ConfigError(f"{name} must be above 0 seconds, got {value!r}. {advice}")


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} must be from 0 to 1, got {value!r}. The default is {_default(name)}.")


def _check_at_most_a_day(name: str, value: float) -> None:
    # A thread and a server are told to wait this long, and neither takes infinity.
    if value > _DAY_S:
        raise ConfigError(f"{name} must be at most {_DAY_S} seconds, got {value!r}. The default is {_default(name)}.")


def _check_type(name: str, value: object, hint: Any) -> None:
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            choices = " or ".join(repr(choice) for choice in get_args(hint))
            raise ConfigError(f"{name} must be {choices}, got {value!r}.")
        return
    if get_origin(hint) is tuple:
        if not isinstance(value, tuple) or not all(isinstance(each, str) for each in value):
            raise ConfigError(f"{name} must be a list of texts such as ['User.orders'], got {value!r}.")
        return
    wanted = get_args(hint) or (hint,)
    if float in wanted:
        wanted = (*wanted, int)
    # bool is an int to Python, not to the person who wrote slow_query_s=True.
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        names = " or ".join("None" if kind is type(None) else kind.__name__ for kind in wanted)
        raise ConfigError(f"{name} must be {names}, got {value!r}.")


def _parse(name: str, text: str, hint: Any) -> object:
    variable = f"QUERYWATCH_{name.upper()}"
    wanted = get_args(hint) or (hint,)
    if get_origin(hint) is Literal or hint is str:
        return text
    if get_origin(hint) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if hint is bool:
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise ConfigError(f"{variable} must be 1 or 0, got {text!r}.")
    if type(None) in wanted and not text:
        return None
    number, kind = (float, "number") if float in wanted else (int, "whole number")
    try:
        return number(text)
    except ValueError:
        raise ConfigError(f"{variable} must be a {kind}, got {text!r}.") from None
