"""Where findings, spans and numbers leave the process while it runs: one module per ecosystem.

In:  what a monitor hands over after each pass of its background thread, and its snapshot when somebody asks.
Out: a metrics page, spans, log events.

Each module imports its client library only when it has something to say: `import querywatch` stays quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from querywatch.exporters import opentelemetry, prometheus, structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from querywatch.config import Config
    from querywatch.examiner import Exporter
    from querywatch.records import Snapshot


class ExporterModule(Protocol):
    """A module of this folder."""

    def start(self, config: Config, source: Callable[[], Snapshot]) -> Exporter | None:
        """Start exporting.

        Args:
            config: Settings of the monitor.
            source: Returns the monitor's snapshot; may be called on any thread but the application's.

        Returns:
            The exporter, or None if the settings ask for none.

        Raises:
            ConfigError: A setting cannot be met, such as a port that is in use.
        """


#: In the order to start them: the one that can fail comes first, so that none is left running.
EXPORTERS: tuple[ExporterModule, ...] = (prometheus, opentelemetry, structlog)


def start_exporters(config: Config, source: Callable[[], Snapshot]) -> list[Exporter]:
    """Start what the settings ask for.

    Args:
        config: Settings of the monitor.
        source: Returns the monitor's snapshot.

    Raises:
        ConfigError: A setting cannot be met; nothing is left running.
    """
    started = (module.start(config, source) for module in EXPORTERS)
    return [exporter for exporter in started if exporter is not None]
