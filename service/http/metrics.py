"""What the HTTP API counts, in the process's default registry of Prometheus metrics."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram
from starlette.types import Scope

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

REQUESTS = Counter("shelfwise_http_requests", "Requests answered", ["route", "method", "status"])
SECONDS = Histogram("shelfwise_http_seconds", "Until a request was answered", ["route"], buckets=_SECONDS)
STAGE_SECONDS = Histogram("shelfwise_stage_seconds", "What each stage of a search took", ["stage"], buckets=_SECONDS)
SEARCHES = Counter("shelfwise_searches", "Searches answered", ["outcome"])
WAITING = Gauge("shelfwise_requests_in_progress", "Requests that are being answered, or wait for it")
REFUSED = Gauge("shelfwise_requests_refused", "Requests that found no place to wait")


def answered(scope: Scope, status: int, seconds: float) -> None:
    """Counts one request, by the pattern of its path: paths themselves may be anything."""
    route = getattr(scope.get("route"), "path", "none")
    REQUESTS.labels(route, scope["method"], str(status)).inc()
    SECONDS.labels(route).observe(seconds)
