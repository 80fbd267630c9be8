"""Metrics of requests and searches, in the process's default registry, and the trace of the current request."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram
from starlette.types import Scope

from retrieval.records import Page

if TYPE_CHECKING:
    from service.http.otlp import RequestSpan

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_WITHOUT_EFFECT = frozenset(
    [
        "advancedSyntaxFeatures",
        "allowTyposOnNumericTokens",
        "alternativesAsExact",
        "analyticsTags",
        "aroundLatLng",
        "aroundLatLngViaIP",
        "aroundPrecision",
        "aroundRadius",
        "attributeCriteriaComputedByMinProximity",
        "customRanking",
        "decompoundQuery",
        "disableExactOnAttributes",
        "disableTypoToleranceOnAttributes",
        "enableABTest",
        "enablePersonalization",
        "enableReRanking",
        "exactOnSingleWordQuery",
        "explain",
        "facetingAfterDistinct",
        "ignorePlurals",
        "insideBoundingBox",
        "insidePolygon",
        "keepDiacriticsOnCharacters",
        "minProximity",
        "minWordSizefor1Typo",
        "minWordSizefor2Typos",
        "minimumAroundRadius",
        "mode",
        "naturalLanguages",
        "optionalWords",
        "percentileComputation",
        "personalizationImpact",
        "queryLanguages",
        "ranking",
        "relevancyStrictness",
        "removeStopWords",
        "removeWordsIfNoResults",
        "renderingContent",
        "replaceSynonymsInHighlight",
        "responseFields",
        "restrictHighlightAndSnippetArrays",
        "semanticSearch",
        "similarQuery",
        "sortFacetValuesBy",
        "sumOrFiltersScores",
        "synonyms",
    ]
)
"""Parameters of the protocol that are counted by name."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

REQUESTS = Counter("shelfwise_http_requests", "HTTP requests", ["route", "method", "status"])
SECONDS = Histogram("shelfwise_http_request_duration_seconds", "Duration of HTTP requests", ["route"], buckets=_SECONDS)
STAGE_SECONDS = Histogram(
    "shelfwise_stage_duration_seconds", "Duration of each stage of a search", ["stage"], buckets=_SECONDS
)
SEARCHES = Counter("shelfwise_searches", "Searches by outcome", ["outcome"])
IGNORED = Counter(
    "shelfwise_ignored_parameters", "Parameters of InstantSearch requests that have no effect", ["parameter"]
)
CONNECTIONS_CLOSED = Counter("shelfwise_connections_closed", "Connections closed by the server, by reason", ["reason"])

for _outcome in ("answered", "nothing", "degraded"):
    SEARCHES.labels(_outcome)  # exported as 0 from the start, so that the first one is a rise


CURRENT_TRACE: ContextVar[RequestSpan | None] = ContextVar("shelfwise_trace", default=None)
"""The trace of the request that this task or thread works for."""


def record_search(page: Page) -> None:
    """Counts a search by its outcome, and adds its stages to the metrics and to the request's trace."""
    for stage, spent in page.timings.items():
        STAGE_SECONDS.labels(stage).observe(spent / 1_000)
    SEARCHES.labels("degraded" if page.degraded else "answered" if page.total else "nothing").inc()
    if trace := CURRENT_TRACE.get():
        trace.add_stages(page.timings)


def record_ignored(parameters: Iterable[str]) -> None:
    """Counts parameters without an effect by name; names that the protocol does not have are counted together."""
    for name in parameters:
        IGNORED.labels(name if name in _WITHOUT_EFFECT else "other").inc()


def record_request(scope: Scope, status: int, seconds: float) -> None:
    """Counts a request by route pattern and known method: a client may send any path and any method."""
    route = getattr(scope.get("route"), "path", "none")
    method = scope["method"] if scope["method"] in _METHODS else "other"
    REQUESTS.labels(route, method, str(status)).inc()
    SECONDS.labels(route).observe(seconds)
