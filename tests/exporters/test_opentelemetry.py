import json
import subprocess
import sys
import threading

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from querywatch.config import Config
from querywatch.exporters import opentelemetry
from querywatch.records import Database
from querywatch.tracing import current_context


@pytest.fixture
def memory():
    return InMemorySpanExporter()


@pytest.fixture
def provider(memory):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    yield provider
    provider.shutdown()


@pytest.fixture
def export(provider, memory):
    """Run records through an exporter on a thread of its own, as the monitor does; return the spans it built."""

    def run(*records):
        exporter = opentelemetry.OpenTelemetryExporter(provider)
        memory.clear()
        thread = threading.Thread(target=exporter.on_pass, args=(records,))
        thread.start()
        thread.join()
        assert exporter.notes == ()
        return memory.get_finished_spans()

    return run


@pytest.fixture
def request_span(provider):
    """A request that is over by the time its statements are exported."""
    with provider.get_tracer("test").start_as_current_span("GET /users") as span:
        pass
    return span


def test_a_span_keeps_the_parent_and_the_times_of_then(export, make_span, request_span):
    (span,) = export(make_span(parent=request_span.get_span_context()))
    assert span.name == "SELECT users"
    assert span.kind is SpanKind.CLIENT
    assert span.parent == request_span.get_span_context()
    assert span.context.trace_id == request_span.get_span_context().trace_id
    assert span.start_time == 1_700_000_000_250_000_000
    assert span.end_time == 1_700_000_000_750_000_000
    assert span.instrumentation_scope.name == "querywatch"
    assert span.status.status_code is StatusCode.UNSET


PLAIN = {
    "db.system.name": "postgresql",
    "db.namespace": "shop",
    "db.query.text": "SELECT users.id FROM users WHERE users.id = ?",
    "db.query.summary": "SELECT users",
    "server.address": "db.example",
    "server.port": 5432,
    "code.file.path": "shop/views.py",
    "code.line.number": 44,
    "querywatch.kind": "slow",
    "querywatch.fingerprint": "0123456789abcdef",
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, {}, id="slow"),
        pytest.param(
            {"kind": "failed", "error_type": "UniqueViolation", "sqlstate": "23505"},
            {"querywatch.kind": "failed", "error.type": "UniqueViolation", "db.response.status_code": "23505"},
            id="failed",
        ),
        pytest.param(
            {"kind": "n-plus-one", "calls": 50, "total_s": 0.25},
            {"querywatch.kind": "n-plus-one", "querywatch.calls": 50, "querywatch.total_s": 0.25},
            id="burst",
        ),
        pytest.param({"batch_size": 2}, {"db.operation.batch.size": 2}, id="batch-of-two"),
        pytest.param({"batch_size": 1}, {}, id="batch-of-one-is-none"),
        pytest.param(
            {"operation": "SELECT", "collection": "users"},
            {"db.operation.name": "SELECT", "db.collection.name": "users"},
            id="compiled-statement-names-its-table",
        ),
        pytest.param({"call_site": None}, {"code.file.path": None, "code.line.number": None}, id="no-line-known"),
        pytest.param(
            {"database": Database("shop.db", "sqlite", "sqlite")},
            {
                "db.system.name": "sqlite",
                "db.namespace": "shop.db",
                "server.address": None,
                "server.port": None,
            },
            id="file",
        ),
    ],
)
def test_attributes_are_those_of_the_stable_conventions(export, make_span, request_span, changes, expected):
    (span,) = export(make_span(parent=request_span.get_span_context(), **changes))
    wanted = PLAIN | expected
    assert dict(span.attributes) == {name: value for name, value in wanted.items() if value is not None}


def test_a_failure_has_error_status_and_no_message_of_the_driver(export, make_span, request_span):
    (span,) = export(make_span(parent=request_span.get_span_context(), kind="failed", error_type="DataError"))
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert span.events == ()


def test_text_that_no_encoder_takes_is_cleaned_and_bounded(export, make_span, request_span):
    fingerprint = make_span().fingerprint
    fingerprint = type(fingerprint)("f" * 16, 1, "\udcff" + "x" * 5_000_000, "", "SELECT", ())
    (span,) = export(make_span(parent=request_span.get_span_context(), fingerprint=fingerprint))
    assert span.name == "postgresql"
    assert span.attributes["db.query.text"].startswith("\ufffdxxx")
    assert len(span.attributes["db.query.text"]) == 10_000
    assert "db.query.summary" not in span.attributes


def test_a_context_serves_as_parent_too(export, make_span, request_span):
    parent = trace.set_span_in_context(request_span, otel_context.Context())
    (span,) = export(make_span(parent=parent))
    assert span.parent == request_span.get_span_context()


@pytest.mark.parametrize(
    "parent",
    [
        pytest.param(None, id="no-parent"),
        pytest.param(trace.INVALID_SPAN_CONTEXT, id="invalid"),
        pytest.param(trace.SpanContext(1, 2, is_remote=False, trace_flags=trace.TraceFlags(0)), id="not-sampled"),
        pytest.param(otel_context.Context(), id="context-without-span"),
    ],
)
def test_builds_nothing_where_nobody_records(export, make_span, parent):
    assert export(make_span(parent=parent)) == ()


def test_builds_nothing_under_a_request_that_the_sdk_does_not_sample(export, make_span):
    unsampled = TracerProvider(sampler=ParentBased(ALWAYS_OFF)).get_tracer("test")
    with unsampled.start_as_current_span("GET /users") as span:
        assert current_context() is None
        assert export(make_span(parent=span.get_span_context())) == ()


def test_an_end_before_the_start_is_moved_to_it(export, make_span, request_span):
    (span,) = export(make_span(parent=request_span.get_span_context(), ended_at=1_600_000_000.0))
    assert span.end_time == span.start_time


def test_the_setting_none_starts_nothing():
    assert opentelemetry.start(Config(spans="none"), lambda: None) is None


def test_builds_nothing_after_close(provider, memory, make_span, request_span):
    exporter = opentelemetry.OpenTelemetryExporter(provider)
    memory.clear()
    exporter.close()
    exporter.on_pass([make_span(parent=request_span.get_span_context())])
    assert memory.get_finished_spans() == ()


class _BrokenProvider(trace.NoOpTracerProvider):
    def get_tracer(self, *args, **kwargs):
        raise RuntimeError("literal 'secret'")


def test_a_tracer_that_fails_is_noted_once_and_not_raised(make_span, request_span):
    exporter = opentelemetry.OpenTelemetryExporter(_BrokenProvider())
    exporter.on_pass([make_span(parent=request_span.get_span_context())] * 2)
    assert exporter.notes == ("A span could not be built: the tracer raised RuntimeError.",)


def test_uses_the_provider_that_the_host_sets_later(tmp_path):
    program = """
import json, sys
sys.path.insert(0, sys.argv[1])
from querywatch.config import Config
from querywatch.exporters import opentelemetry
exporter = opentelemetry.start(Config(), None)

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
memory = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(memory))
trace.set_tracer_provider(provider)

from dataclasses import replace
from conftest import SPAN
from querywatch.tracing import current_context
with trace.get_tracer("app").start_as_current_span("GET /users"):
    parent = current_context()
exporter.on_pass([replace(SPAN, parent=parent)])
print(json.dumps([span.name for span in memory.get_finished_spans()]))
"""
    here = __file__.rpartition("/")[0]
    done = subprocess.run([sys.executable, "-c", program, here], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["GET /users", "SELECT users"]
