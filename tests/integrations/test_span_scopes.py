import contextvars
import subprocess
import sys
import threading

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from querywatch.integrations import opentelemetry as integration
from querywatch.integrations.opentelemetry import LateSpanScopes, attach_span_scopes, detach_span_scopes
from querywatch.samples import current_scope
from querywatch.scope import watch


@pytest.fixture
def tracer():
    """A provider whose root spans open scopes."""
    provider = TracerProvider()
    assert attach_span_scopes(provider)
    yield provider.get_tracer("test")
    detach_span_scopes()
    provider.shutdown()
    current_scope.set(None)


def test_a_root_span_is_a_scope_until_it_ends(tracer):
    assert current_scope.get() is None
    with tracer.start_as_current_span("GET"):
        scope = current_scope.get()
        assert (scope.name, scope.kind, scope.closed) == ("GET", "span", False)
    assert scope.closed
    assert current_scope.get() is None


def test_the_scope_takes_the_name_that_the_span_has_at_its_end(tracer):
    with tracer.start_as_current_span("GET") as span:
        scope = current_scope.get()
        span.update_name("GET /users/{id}")
    assert scope.name == "GET /users/{id}"


def test_a_span_inside_belongs_to_the_root(tracer):
    with tracer.start_as_current_span("GET /users"):
        scope = current_scope.get()
        with tracer.start_as_current_span("render"):
            assert current_scope.get() is scope
        assert not scope.closed


def test_a_parent_in_another_service_leaves_the_span_the_local_root(tracer):
    remote = trace.SpanContext(1, 2, is_remote=True, trace_flags=trace.TraceFlags(1))
    parent = trace.set_span_in_context(trace.NonRecordingSpan(remote), otel_context.Context())
    scopes = []
    for _ in range(2):  # two requests of one trace are two scopes
        with tracer.start_as_current_span("POST /orders", context=parent):
            scopes.append(current_scope.get())
    assert scopes[0] is not scopes[1]
    assert all(scope.closed for scope in scopes)


def test_a_scope_that_is_open_already_stays_the_one(tracer):
    with watch("nightly"):
        scope = current_scope.get()
        with tracer.start_as_current_span("job"):
            assert current_scope.get() is scope
        assert not scope.closed


def test_a_span_that_nobody_records_is_no_scope():
    provider = TracerProvider(sampler=ALWAYS_OFF)
    attach_span_scopes(provider)
    try:
        with provider.get_tracer("test").start_as_current_span("GET /users"):
            assert current_scope.get() is None
    finally:
        detach_span_scopes()


def test_a_span_may_end_on_another_thread(tracer):
    span = tracer.start_span("GET /users")
    scope = current_scope.get()
    thread = threading.Thread(target=span.end)
    thread.start()
    thread.join()
    assert scope.closed
    # The variable of this context still holds the closed scope; the next root span must not take it for an open one.
    with tracer.start_as_current_span("GET /orders"):
        assert current_scope.get() is not scope
        assert current_scope.get().name == "GET /orders"


def test_a_span_may_begin_in_a_context_that_is_gone(tracer):
    spans, scopes = [], []

    def begin():
        spans.append(tracer.start_span("GET /users"))
        scopes.append(current_scope.get())

    contextvars.copy_context().run(begin)
    assert current_scope.get() is None
    spans[0].end()
    assert scopes[0].closed
    assert scopes[0].name == "GET /users"


def test_spans_that_never_end_are_bounded(tracer, monkeypatch):
    monkeypatch.setattr(integration, "OPEN_SPANS_LIMIT", 2)
    spans, scopes = [], []

    def begin():
        spans.append(tracer.start_span("lost"))
        scopes.append(current_scope.get())

    for _ in range(4):
        contextvars.copy_context().run(begin)
    assert [scope.closed for scope in scopes] == [True, True, False, False]
    for span in spans:
        span.end()
    assert all(scope.closed for scope in scopes)


def test_attaching_twice_opens_one_scope(tracer, monkeypatch):
    opened = []
    provider = TracerProvider()
    original = provider.add_span_processor
    monkeypatch.setattr(provider, "add_span_processor", lambda each: (opened.append(each), original(each)))
    assert attach_span_scopes(provider)
    assert attach_span_scopes(provider)
    assert len(opened) == 1


def test_detached_opens_no_more_and_closes_what_is_open(tracer):
    span = tracer.start_span("GET /users")
    scope = current_scope.get()
    detach_span_scopes()
    span.end()
    assert scope.closed
    with tracer.start_as_current_span("GET /orders"):
        assert current_scope.get() is None


def test_spans_open_scopes_until_the_last_monitor_closes(tracer):
    one, two = LateSpanScopes(), LateSpanScopes()
    one.close()
    one.on_pass([])
    with tracer.start_as_current_span("GET /users"):
        assert current_scope.get() is not None
    two.close()
    two.on_pass([])
    with tracer.start_as_current_span("GET /users"):
        assert current_scope.get() is None


def test_a_placeholder_provider_has_no_spans_to_tell_of():
    assert not attach_span_scopes(trace.ProxyTracerProvider())
    assert not attach_span_scopes(trace.NoOpTracerProvider())


def test_attaches_when_the_host_sets_its_provider_later():
    program = """
import sys
from querywatch.integrations.opentelemetry import LateSpanScopes, attach_span_scopes
from querywatch.samples import current_scope
late = LateSpanScopes()
assert "opentelemetry" not in sys.modules
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
assert not attach_span_scopes()
trace.set_tracer_provider(TracerProvider())
with trace.get_tracer("app").start_as_current_span("before"):
    assert current_scope.get() is None
late.on_pass([])
with trace.get_tracer("app").start_as_current_span("GET /users"):
    print(current_scope.get().name)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "GET /users\n"
