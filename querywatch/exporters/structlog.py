"""structlog: one event per new finding, in the log the application already has.

In:  findings that are new.
Out: `querywatch.finding` events, through structlog where the application set it up, else through logging.

Neither prints by itself: structlog that nobody configured writes to stdout, and logging without a handler to stderr. A
library must do neither, so without structlog's configuration a stdlib logger with a NullHandler takes the event.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from querywatch.config import Config
    from querywatch.records import Finding, Severity, Snapshot, SpanRecord

EVENT = "querywatch.finding"
LOGGER = "querywatch"

_LEVELS: Mapping[Severity, int] = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def start(config: Config, source: Callable[[], Snapshot]) -> StructlogExporter | None:  # noqa: ARG001 - the protocol's
    """Announce findings in the log, if the settings ask for it."""
    return StructlogExporter() if config.log_findings else None


class StructlogExporter:
    """Writes events. Which logging the application uses is asked at each event: it may be set up after us."""

    def __init__(self) -> None:
        self._logger = logging.getLogger(LOGGER)
        if not any(isinstance(handler, logging.NullHandler) for handler in self._logger.handlers):
            self._logger.addHandler(logging.NullHandler())
        self._closed = False
        self.notes: tuple[str, ...] = ()

    def on_finding(self, finding: Finding) -> None:
        """Log the finding at the level of its severity."""
        if self._closed:
            return
        try:
            self._log(finding.severity, _values(finding))
        except Exception as error:  # noqa: BLE001 - a foreign processor or handler must not stop the background thread
            sentence = f"A finding could not be logged: the log raised {type(error).__name__}."
            if sentence not in self.notes:
                self.notes = (*self.notes, sentence)

    def on_pass(self, spans: Sequence[SpanRecord]) -> None:
        """Do nothing: only findings are logged."""

    def close(self) -> None:
        """Log no more. The NullHandler stays: without it later loggers below this name would print."""
        self._closed = True

    def _log(self, severity: Severity, values: Mapping[str, str | int | float | None]) -> None:
        # Who never imported structlog cannot have configured it; importing it for them costs 50 ms.
        structlog = sys.modules.get("structlog")
        if structlog is not None and structlog.is_configured():
            getattr(structlog.get_logger(LOGGER), severity)(EVENT, **values)
            return
        level = _LEVELS[severity]
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s %s", EVENT, _render(values), extra=dict(values))


def _values(finding: Finding) -> dict[str, str | int | float | None]:
    values: dict[str, str | int | float | None] = {
        "code": finding.code,
        "kind": finding.kind,
        "subject": finding.subject,
        "severity": finding.severity,
        "scope": finding.scope,
        "count": finding.count,
        "total_s": finding.total_s,
        "call_site": str(finding.call_site) if finding.call_site else None,
        "fix": finding.fix,
        "database": finding.database,
        "fingerprint": finding.fingerprint,
    }
    return {key: _escape(value) if isinstance(value, str) else value for key, value in values.items()}


def _escape(text: str) -> str:
    """Show what is not printable as an escape: a line break in a table's name must not begin a line of the log."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _render(values: Mapping[str, str | int | float | None]) -> str:
    """Return `key=value` pairs, without those that are None."""
    return " ".join(f"{key}={_quote(value)}" for key, value in values.items() if value is not None)


def _quote(value: str | float) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    if text and not any(char in text for char in ' "='):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
