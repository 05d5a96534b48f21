"""Prometheus: a metrics page on a port of its own.

In:  the monitor's snapshot, at each scrape.
Out: the page, as text or OpenMetrics, whichever the scraper asks for.

The registry is our own: the application's default one may be scraped, forked or cleared by others. What stands on the
page is decided in `prometheus_metrics`.
"""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING

from querywatch.errors import ConfigError
from querywatch.records import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prometheus_client import Metric

    from querywatch.config import Config
    from querywatch.exporters.metrics_server import MetricsServer
    from querywatch.records import Finding, SpanRecord


def start(config: Config, source: Callable[[], Snapshot]) -> PrometheusExporter | None:
    """Serve metrics on `prometheus_port`.

    Returns:
        The exporter, or None if no port is set.

    Raises:
        ConfigError: The port is in use or not allowed, or the address is not one of this machine.
    """
    if config.prometheus_port is None:
        return None
    from prometheus_client import CollectorRegistry, make_wsgi_app  # noqa: PLC0415 - only where it is asked for

    from querywatch.exporters.metrics_server import MetricsServer  # noqa: PLC0415 - imports http.server

    registry = CollectorRegistry()
    registry.register(SnapshotCollector(source))
    try:
        server = MetricsServer(make_wsgi_app(registry), config.prometheus_address, config.prometheus_port)
    except (OSError, UnicodeError) as error:
        raise ConfigError(_explain(error, config.prometheus_address, config.prometheus_port)) from error
    return PrometheusExporter(server)


class PrometheusExporter:
    """A running metrics page.

    Args:
        server: Listens already.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, server: MetricsServer) -> None:
        self._server = server
        self.address = server.address
        self.port = server.port

    @property
    def url(self) -> str:
        """Where to scrape, such as `http://127.0.0.1:9464/metrics`."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.port}/metrics"

    def on_finding(self, finding: Finding) -> None:
        """Do nothing: a scrape reads findings from the snapshot."""

    def on_pass(self, spans: Sequence[SpanRecord]) -> None:
        """Do nothing: metrics are pulled."""

    def close(self) -> None:
        """Free the port."""
        self._server.close()


class SnapshotCollector:
    """What a `prometheus_client` registry asks at each scrape.

    Args:
        source: Returns the monitor's snapshot.
    """

    def __init__(self, source: Callable[[], Snapshot]) -> None:
        from querywatch.exporters.prometheus_metrics import MetricsPage  # noqa: PLC0415 - imports prometheus_client

        self._source = source
        self._page = MetricsPage()
        self._failures = 0
        self._lock = threading.Lock()

    def describe(self) -> Iterable[Metric]:
        """Name the families, so that a registry notices a clash before the first scrape."""
        from querywatch.exporters.prometheus_metrics import MetricsPage  # noqa: PLC0415 - imports prometheus_client

        return [*MetricsPage().families(Snapshot(taken_at=0.0, started_at=0.0)), self._failure_family()]

    def collect(self) -> Iterable[Metric]:
        """Return the families of now. Two scrapes at once wait for each other: places are given in one order."""
        with self._lock:
            try:
                families = list(self._page.families(self._source()))
            except Exception:  # noqa: BLE001 - a traceback per scrape would fill the host's stderr; the counter tells
                self._failures += 1
                families = []
            return [*families, self._failure_family()]

    def _failure_family(self) -> Metric:
        from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415 - only where it is asked for

        family = CounterMetricFamily(
            "querywatch_internal_errors",
            "Failures of querywatch itself, by stage; the application was not affected.",
            labels=("stage",),
        )
        family.add_metric(("prometheus",), self._failures)
        return family


def _explain(error: OSError | UnicodeError, address: str, port: int) -> str:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return (
            f"prometheus_port {port} on {address} is in use by another program or worker. "
            "Choose another port, or 0 to take a free one."
        )
    if number == errno.EACCES:
        return f"prometheus_port {port} on {address} may not be opened by this user. Choose a port from 1024 on."
    reason = getattr(error, "strerror", None) or "it is not a host name"
    return (
        f"prometheus_address {address!r} with port {port} cannot be listened on ({reason}). "
        "Use 127.0.0.1, or an address of this machine."
    )
