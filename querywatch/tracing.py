"""The caller's place in an OpenTelemetry trace, without needing OpenTelemetry.

In:  the context of the running code.
Out: a `SpanContext` that a span built later can name as its parent, or None.

Called on the application's thread, so nothing is imported: a program that never imported OpenTelemetry has no trace.
"""

from __future__ import annotations

import sys
from typing import Any


def current_context() -> Any:
    """Return the `SpanContext` of the span that is current here; it holds no object of the application.

    Returns:
        The context, or None if there is no trace, or its spans are not sampled: a span under it would go nowhere.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    try:
        context = trace.get_current_span().get_span_context()
        sampled = context.is_valid and context.trace_flags.sampled
    except Exception:  # noqa: BLE001 - the application's statement goes on, whatever a foreign span class does
        return None
    return context if sampled else None
