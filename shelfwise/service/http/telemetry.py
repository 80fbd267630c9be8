"""Metrics of requests and searches in the process's default registry, and their sum over several processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.types import Scope

from shelfwise.retrieval.records import Page

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
WITHOUT_EFFECT = frozenset(
    """
    advancedSyntaxFeatures allowCompressionOfIntegerArray allowTyposOnNumericTokens alternativesAsExact analyticsTags
    aroundLatLngViaIP attributeCriteriaComputedBy attributeCriteriaComputedByMinProximity attributesForFaceting
    attributesToTransliterate camelCaseAttributes customNormalization customRanking decompoundQuery
    decompoundedAttributes disableExactOnAttributes disablePrefixOnAttributes disableTypoToleranceOnAttributes
    disableTypoToleranceOnWords enableABTest enablePersonalization enableReRanking exactOnSingleWordQuery explain
    facetingAfterDistinct ignorePlurals indexLanguages keepDiacriticsOnCharacters minProximity minWordSizefor1Typo
    minWordSizefor2Typos minimumAroundRadius mode naturalLanguages numericAttributesForFiltering optionalWords
    paginationLimitedTo percentileComputation personalizationImpact queryLanguages ranking reRankingApplyFilter
    relevancyStrictness removeStopWords removeWordsIfNoResults renderingContent replaceSynonymsInHighlight replicas
    responseFields restrictHighlightAndSnippetArrays searchableAttributes semanticSearch separatorsToIndex
    similarQuery sortFacetValuesBy sumOrFiltersScores synonyms unretrievableAttributes userData
    """.split()  # noqa: SIM905 - with a line for each name it would be a page
)
"""Parameters and settings of the protocol without effect, which are counted by name."""
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


def record_search(page: Page) -> None:
    """Counts a search by its outcome, and adds its stages to the metrics."""
    for stage, spent in page.timings.items():
        STAGE_SECONDS.labels(stage).observe(spent / 1_000)
    SEARCHES.labels("degraded" if page.degraded else "answered" if page.total else "nothing").inc()


def record_ignored(parameters: Iterable[str]) -> None:
    """Counts parameters without effect by name; names outside the protocol are counted together."""
    for name in parameters:
        IGNORED.labels(name if name in WITHOUT_EFFECT else "other").inc()


def record_request(scope: Scope, status: int, seconds: float) -> None:
    """Counts a request by route pattern and known method, since a client may send any path and any method."""
    route = getattr(scope.get("route"), "path", "none")
    method = scope["method"] if scope["method"] in _METHODS else "other"
    REQUESTS.labels(route, method, str(status)).inc()
    SECONDS.labels(route).observe(seconds)


# Metrics of several processes, merged to those of one service

_SUMMED_GAUGES = frozenset(
    {
        "shelfwise_workers",
        "shelfwise_threads",
        "shelfwise_requests_places",
        "shelfwise_requests_in_progress",
        "shelfwise_events_waiting",
        "process_virtual_memory_bytes",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
    }
)
"""Gauges that are summed; for others, the service has the largest value of its workers."""
_COUNTING = ("counter", "histogram")


class MetricFamily(msgspec.Struct, frozen=True, array_like=True):
    """A metric with its samples at one time."""

    name: str
    text: str
    kind: str
    samples: list[tuple[str, dict[str, str], float]]
    """Name, labels and value of each sample."""


METRICS = msgspec.msgpack.Decoder(list[MetricFamily])


def read_metrics(registry: CollectorRegistry) -> list[MetricFamily]:
    """The current metrics of a registry."""
    return [
        MetricFamily(
            each.name, each.documentation, each.type, [(one.name, one.labels, one.value) for one in each.samples]
        )
        for each in registry.collect()
    ]


def counts_of(families: Iterable[MetricFamily]) -> list[MetricFamily]:
    """The counters and histograms, which outlive the worker that counted them, so that no sum decreases."""
    return [each for each in families if each.kind in _COUNTING]


def merge_metrics(workers: Iterable[Sequence[MetricFamily]]) -> list[MetricFamily]:
    """The metrics of a service, merged from its workers: sums of counts, the largest of other values."""
    merged: dict[str, MetricFamily] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for family in (each for families in workers for each in families):
        merged.setdefault(family.name, family)
        found = values.setdefault(family.name, {})
        is_summed = family.kind in _COUNTING or family.name in _SUMMED_GAUGES
        for name, labels, value in family.samples:
            key = name, tuple(labels.items())
            if key not in found:
                found[key] = value
            elif name.endswith("_created"):
                found[key] = min(found[key], value)
            else:
                found[key] = found[key] + value if is_summed else max(found[key], value)
    return [
        msgspec.structs.replace(
            family, samples=[(name, dict(labels), value) for (name, labels), value in values[family.name].items()]
        )
        for family in merged.values()
    ]


class _MergedMetrics(Collector):
    def __init__(self, families: Iterable[MetricFamily]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.text, family.kind)
            for name, labels, value in family.samples:
                metric.add_sample(name, labels, value)
            yield metric


def format_metrics(families: Iterable[MetricFamily]) -> bytes:
    """Metrics in the Prometheus text format."""
    registry = CollectorRegistry()
    registry.register(_MergedMetrics(families))
    return generate_latest(registry)
