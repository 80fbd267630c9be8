"""What the HTTP API counts, in the process's default registry of Prometheus metrics."""

from __future__ import annotations

from prometheus_client import Counter, Histogram
from starlette.types import Scope

from retrieval.records import Page
from service.http.tracing import CURRENT

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OUTCOMES = ("answered", "nothing", "degraded")

REQUESTS = Counter("shelfwise_http_requests", "Requests answered", ["route", "method", "status"])
SECONDS = Histogram(
    "shelfwise_http_request_duration_seconds", "Until a request was answered", ["route"], buckets=_SECONDS
)
STAGE_SECONDS = Histogram(
    "shelfwise_stage_duration_seconds", "What each stage of a search took", ["stage"], buckets=_SECONDS
)
SEARCHES = Counter("shelfwise_searches", "Searches, by what came of them", ["outcome"])
CONNECTIONS_CLOSED = Counter(
    "shelfwise_connections_closed", "Connections that were ended because their client was slow", ["reason"]
)

# At 0 from the start: the first of them is then a rise.
for _outcome in _OUTCOMES:
    SEARCHES.labels(_outcome)


def count_search(page: Page) -> None:
    """Counts one search by what came of it, and what its stages took, in the request's trace, too."""
    for stage, spent in page.timings.items():
        STAGE_SECONDS.labels(stage).observe(spent / 1_000)
    SEARCHES.labels("degraded" if page.degraded else "answered" if page.total else "nothing").inc()
    trace = CURRENT.get()
    if trace is not None:
        trace.add_stages(page.timings)


def count_request(scope: Scope, status: int, seconds: float) -> None:
    """Counts one request, by the pattern of its path and a method that there is: both may be anything in a request."""
    route = getattr(scope.get("route"), "path", "none")
    method = scope["method"] if scope["method"] in _METHODS else "other"
    REQUESTS.labels(route, method, str(status)).inc()
    SECONDS.labels(route).observe(seconds)
