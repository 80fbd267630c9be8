"""OpenTelemetry traces: a span for each request, with a child span for each stage of its searches.

Spans contain no query, filter, product or name. This is the only file that imports OpenTelemetry.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

_SEND_SECONDS = 2.0
_UNTRACED = frozenset({"/health/live", "/health/ready", "/metrics"})
"""Paths that probes and scrapers poll."""
_CONTEXT_HEADERS = (b"traceparent", b"tracestate")
_AFTER: Mapping[str, tuple[str, ...]] = {
    "bm25": (),
    "encode": (),
    "dense": ("encode",),
    "merge": ("bm25", "dense"),
    "rerank": ("merge",),
}
"""The stages that each stage of a search waits for: bm25 runs in parallel to encode and dense."""


class OpenTelemetry:
    """A source of spans."""

    def __init__(self, processor: SpanProcessor) -> None:
        self._provider = TracerProvider(resource=Resource.create({"service.name": "shelfwise"}), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("shelfwise")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, scope: Scope) -> RequestSpan | None:
        """The span of a request, in the client's trace if its headers name one; None for a path without traces."""
        if scope["path"] in _UNTRACED:
            return None
        parent = {
            name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _CONTEXT_HEADERS
        }
        span = self._tracer.start_span(scope["method"], self._propagator.extract(parent), SpanKind.SERVER)
        span.set_attribute("http.request.method", scope["method"])
        return RequestSpan(self._tracer, span, scope["method"])

    def close(self) -> None:
        """Sends the remaining spans, within seconds."""
        self._provider.shutdown()


class RequestSpan:
    """The span of one request."""

    def __init__(self, tracer: Tracer, span: Span, method: str) -> None:
        self._tracer = tracer
        self._span = span
        self._method = method
        self._inside: Context = set_span_in_context(span)

    def add_stages(self, timings: Mapping[str, float]) -> None:
        """Adds a span for each stage of a search that ends now; durations are in milliseconds."""
        placed = list(place_stages(timings))
        began = time.time_ns() - int(max((end for _, _, end in placed), default=0) * 1e6)
        for stage, start, end in placed:
            span = self._tracer.start_span(stage, self._inside, start_time=began + int(start * 1e6))
            span.end(began + int(end * 1e6))

    def end(self, route: str, status: int, request_id: str) -> None:
        """Ends the span with the response's status, named by the route's pattern."""
        self._span.update_name(f"{self._method} {route}".rstrip())
        self._span.set_attributes(
            {"http.route": route, "http.response.status_code": status, "shelfwise.request_id": request_id}
        )
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


def place_stages(timings: Mapping[str, float]) -> Iterator[tuple[str, float, float]]:
    """Each stage with its begin and end, in milliseconds from the begin of the search.

    Durations are measured; begins are computed from the stages that a stage waits for.
    """
    ends: dict[str, float] = {}
    for stage in sorted(timings, key=[*_AFTER, *timings].index):
        start = max((ends.get(before, 0.0) for before in _AFTER.get(stage, tuple(ends))), default=0.0)
        ends[stage] = start + timings[stage]
        yield stage, start, ends[stage]


def open_tracing(endpoint: str) -> OpenTelemetry:
    """Sends spans to an OTLP endpoint from a background thread; spans that cannot be sent are dropped."""
    return OpenTelemetry(BatchSpanProcessor(OTLPSpanExporter(endpoint, timeout=_SEND_SECONDS)))
