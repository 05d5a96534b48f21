"""OpenTelemetry as a source of scopes: the local root span is the request, job or message.

In:  spans that the host's SDK starts and ends.
Out: a scope of kind `span` around each local root span, unless an integration or `watch` opened one already.

The local root, never the trace id alone: one trace crosses services and may hold hundreds of requests, and a trace id
does not tell when one of them is over. A span that the SDK does not record opens no scope, because the SDK does not
tell of it.
"""

from __future__ import annotations

import sys
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from querywatch.samples import current_scope
from querywatch.scope import close_scope, open_scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

    from querywatch.records import Finding, SpanRecord
    from querywatch.samples import OpenScope

#: Root spans open at one time; past it the oldest is taken for one that nobody will ever end.
OPEN_SPANS_LIMIT = 10_000

#: An SDK has no way to remove a processor, so each provider gets one for good, which is idle while nobody uses it.
_providers: weakref.WeakSet[Any] = weakref.WeakSet()
_users: weakref.WeakSet[LateSpanScopes] = weakref.WeakSet()
_lock = threading.Lock()


class SpanScopes:
    """Opens and closes the scopes. The methods that the SDK calls run on the application's threads."""

    def __init__(self) -> None:
        self.active = True
        self._open: dict[tuple[int, int], OpenScope] = {}
        self._lock = threading.Lock()

    def span_started(self, span: Span) -> None:
        """Open a scope if *span* is a local root and none is open here."""
        if not self.active or not (span.parent is None or span.parent.is_remote):
            return
        around = current_scope.get()
        # One that was closed in another context is still this context's value.
        if around is not None and not around.closed:
            return
        scope = open_scope(span.name, "span")
        forgotten = None
        with self._lock:
            if len(self._open) >= OPEN_SPANS_LIMIT:
                forgotten = self._open.pop(next(iter(self._open)))
            self._open[_key(span)] = scope
        if forgotten is not None:
            close_scope(forgotten)

    def span_ended(self, span: ReadableSpan) -> None:
        """Close the scope that *span* opened, if any, under the name that the span has by now."""
        if not self._open:
            return
        with self._lock:
            scope = self._open.pop(_key(span), None)
        if scope is not None:
            # A web framework's span gets its route only after routing.
            close_scope(scope, span.name)


_scopes = SpanScopes()


def attach_span_scopes(provider: Any = None) -> bool:
    """Open a scope with each local root span of the process's tracer provider.

    May be called again at any time: a provider gets one processor, once. It costs under a microsecond as long as the
    program has not imported the SDK.

    Args:
        provider: Used instead of the process's own, None for that one.

    Returns:
        True if the provider's spans open scopes now, False if there is no SDK to tell of spans (yet).
    """
    if "opentelemetry.sdk.trace" not in sys.modules:
        return False
    from opentelemetry import trace  # noqa: PLC0415 - the host has imported it

    provider = provider or trace.get_tracer_provider()
    # The placeholder that stands where no provider was set has no such method; wrappers of other tools do.
    add_span_processor = getattr(provider, "add_span_processor", None)
    if add_span_processor is None:
        return False
    with _lock:
        _scopes.active = True
        if provider not in _providers:
            add_span_processor(_build_processor(_scopes))
            _providers.add(provider)
    return True


def detach_span_scopes() -> None:
    """Open no more scopes; those that are open close with their spans."""
    _scopes.active = False


class LateSpanScopes:
    """Attaches on a later pass, where the host sets up its SDK after `install`. Give it to a monitor as an exporter.

    The spans open scopes until the last of these is closed.
    """

    notes: tuple[str, ...] = ()

    def __init__(self) -> None:
        _users.add(self)
        attach_span_scopes()

    def on_finding(self, finding: Finding) -> None:
        """Do nothing."""

    def on_pass(self, spans: Sequence[SpanRecord]) -> None:  # noqa: ARG002 - the protocol's
        """Look whether there is a provider by now."""
        if self in _users:
            attach_span_scopes()

    def close(self) -> None:
        """Open no more scopes, unless another monitor wants them."""
        _users.discard(self)
        if not _users:
            detach_span_scopes()


def _key(span: ReadableSpan) -> tuple[int, int]:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


def _build_processor(scopes: SpanScopes) -> SpanProcessor:
    from opentelemetry.sdk.trace import SpanProcessor  # noqa: PLC0415 - the host has imported it

    class ScopeProcessor(SpanProcessor):
        def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 - the SDK's
            # The SDK would pass an exception on into the application.
            with suppress(Exception):
                scopes.span_started(span)

        def on_end(self, span: ReadableSpan) -> None:
            with suppress(Exception):
                scopes.span_ended(span)

    return ScopeProcessor()
