"""OpenTelemetry: spans for slow statements, failed statements and bursts, in the trace of the request that sent them.

In:  `SpanRecord`s, after the statements are over.
Out: spans of the stable database conventions, with the times and the parent of then.

A record without a parent becomes no span: alone in a trace of its own it would tell nobody whose request was slow, and
the finding tells the rest. Only the API is used, so spans go wherever the host's SDK sends its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from querywatch.exporters.cleaning import clean
from querywatch.exporters.version import read_version

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer, TracerProvider

    from querywatch.config import Config
    from querywatch.records import Finding, Snapshot, SpanRecord

_TEXT_LIMIT = 10_000
_NAME_LIMIT = 250


def start(config: Config, source: Callable[[], Snapshot]) -> OpenTelemetryExporter | None:  # noqa: ARG001 - the protocol's
    """Build spans with the tracer provider that the host has set, now or later.

    Returns:
        The exporter, or None if `spans="none"`.
    """
    return OpenTelemetryExporter() if config.spans != "none" else None


class OpenTelemetryExporter:
    """Builds spans in the background.

    Args:
        tracer_provider: Used instead of the process's own, None for that one.
    """

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        self._provider = tracer_provider
        self._tracer: Tracer | None = None
        self._closed = False
        self.notes: tuple[str, ...] = ()

    def on_finding(self, finding: Finding) -> None:
        """Do nothing: a finding is no span."""

    def on_pass(self, spans: Sequence[SpanRecord]) -> None:
        """Build one span of each record whose caller's trace is being recorded."""
        for record in spans:
            if record.parent is None or self._closed:
                continue
            try:
                self._build(record)
            except Exception as error:  # noqa: BLE001 - a foreign tracer's fault must not stop the background thread
                self._note(f"A span could not be built: the tracer raised {type(error).__name__}.")

    def close(self) -> None:
        """Build no more spans; those built belong to the host's SDK."""
        self._closed = True

    def _build(self, record: SpanRecord) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode  # noqa: PLC0415 - only where there is a trace

        context = _parent_context(record.parent)
        if context is None:
            return
        started_ns = _nanoseconds(record.started_at)
        span = self._get_tracer().start_span(
            clean(record.fingerprint.summary, _NAME_LIMIT) or record.database.system,
            context=context,
            kind=SpanKind.CLIENT,
            attributes=_attributes(record),
            start_time=started_ns,
        )
        if record.error_type is not None:
            # No description: the driver's message holds literals of the statement.
            span.set_status(Status(StatusCode.ERROR))
        # The wall clock may have been set back in between.
        span.end(max(started_ns, _nanoseconds(record.ended_at)))

    def _get_tracer(self) -> Tracer:
        if self._tracer is None:
            from opentelemetry import trace  # noqa: PLC0415 - only where there is a trace

            self._tracer = trace.get_tracer("querywatch", read_version(), tracer_provider=self._provider)
        return self._tracer

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes = (*self.notes, sentence)


def _nanoseconds(at_s: float) -> int:
    # A float holds a Unix time to a quarter of a microsecond; rounded to a whole one, it is the same on every way.
    return round(at_s * 1e6) * 1000


def _parent_context(parent: Any) -> Context | None:
    """Return the context to build under, None if nobody records that trace.

    Args:
        parent: `SpanContext` or `Context`.
    """
    from opentelemetry import trace  # noqa: PLC0415 - only where there is a trace

    is_span = isinstance(parent, trace.SpanContext)
    context: Context = trace.set_span_in_context(trace.NonRecordingSpan(parent)) if is_span else parent
    span_context = trace.get_current_span(context).get_span_context()
    return context if span_context.is_valid and span_context.trace_flags.sampled else None


def _attributes(record: SpanRecord) -> dict[str, str | int | float]:
    """Return what the database and code conventions name, then what is ours; what is not known is left out."""
    database, site = record.database, record.call_site
    burst = record.calls > 1
    attributes: dict[str, str | int | float | None] = {
        "db.system.name": database.system,
        "db.namespace": database.name or None,
        "db.query.text": record.fingerprint.sql,
        "db.query.summary": clean(record.fingerprint.summary, _NAME_LIMIT) or None,
        "db.operation.name": record.operation,
        "db.collection.name": record.collection,
        # One row is no batch, says the convention.
        "db.operation.batch.size": record.batch_size if (record.batch_size or 0) > 1 else None,
        "db.response.status_code": record.sqlstate,
        "error.type": record.error_type,
        "server.address": database.server_address,
        "server.port": database.server_port,
        "code.file.path": site.file if site else None,
        "code.line.number": site.line if site else None,
        "querywatch.kind": record.kind,
        "querywatch.fingerprint": record.fingerprint.id,
        "querywatch.calls": record.calls if burst else None,
        "querywatch.total_s": record.total_s if burst else None,
    }
    return {
        name: clean(value, _TEXT_LIMIT) if isinstance(value, str) else value
        for name, value in attributes.items()
        if value is not None
    }
