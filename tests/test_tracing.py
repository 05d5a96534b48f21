import subprocess
import sys

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from querywatch.tracing import current_context


def test_gives_the_context_of_the_span_that_is_current():
    tracer = TracerProvider(sampler=ALWAYS_ON).get_tracer("test")
    with tracer.start_as_current_span("GET /users") as span:
        assert current_context() == span.get_span_context()
    assert current_context() is None


def test_gives_nothing_where_the_trace_is_not_sampled():
    with TracerProvider(sampler=ALWAYS_OFF).get_tracer("test").start_as_current_span("GET /users"):
        assert current_context() is None


class _BrokenSpan(trace.NonRecordingSpan):
    def get_span_context(self):
        raise RuntimeError("no")


def test_gives_nothing_where_a_foreign_span_fails():
    with trace.use_span(_BrokenSpan(trace.INVALID_SPAN_CONTEXT)):
        assert current_context() is None


@pytest.mark.parametrize("imported", [pytest.param("sys", id="nothing"), pytest.param("opentelemetry.trace", id="api")])
def test_imports_nothing_and_finds_nothing_without_a_trace(imported):
    program = f"""
import sys, {imported}
from querywatch.tracing import current_context
before = set(sys.modules)
assert current_context() is None
print(sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
