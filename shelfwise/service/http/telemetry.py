"""Metrics of requests and searches in the process's default registry, and their sum over several processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import Counter, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from starlette.types import Scope

from shelfwise.retrieval.records import Page

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
WITHOUT_EFFECT = frozenset(
    """
    advancedSyntaxFeatures allowCompressionOfIntegerArray allowTyposOnNumericTokens alternativesAsExact analyticsTags
    aroundLatLngViaIP aroundPrecision attributeCriteriaComputedBy attributeCriteriaComputedByMinProximity
    attributesForFaceting attributesToTransliterate camelCaseAttributes customNormalization customRanking
    decompoundQuery decompoundedAttributes disableExactOnAttributes disablePrefixOnAttributes
    disableTypoToleranceOnAttributes disableTypoToleranceOnWords enableABTest enablePersonalization enableReRanking
    exactOnSingleWordQuery explain facetingAfterDistinct ignorePlurals indexLanguages keepDiacriticsOnCharacters
    minProximity minWordSizefor1Typo minWordSizefor2Typos minimumAroundRadius mode naturalLanguages
    numericAttributesForFiltering optionalWords paginationLimitedTo percentileComputation personalizationImpact
    queryLanguages ranking reRankingApplyFilter relevancyStrictness removeStopWords removeWordsIfNoResults
    renderingContent replaceSynonymsInHighlight replicas responseFields restrictHighlightAndSnippetArrays
    searchableAttributes semanticSearch separatorsToIndex similarQuery sortFacetValuesBy sumOrFiltersScores synonyms
    unretrievableAttributes userData
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


def read_metrics(source: Collector) -> list[Metric]:
    """The current metrics of a registry or a collector."""
    return parse_metrics(generate_latest(source))


def parse_metrics(text: bytes) -> list[Metric]:
    """Metrics in the Prometheus text format."""
    return list(text_string_to_metric_families(text.decode()))


def counts_of(families: Iterable[Metric]) -> list[Metric]:
    """The counters and histograms, which outlive the worker that counted them, so that no sum decreases."""
    return [each for each in families if each.type in _COUNTING]


class MergedMetrics(Collector):
    """The metrics of a service, merged from its workers: sums of counts, the largest of other values."""

    def __init__(self, workers: Iterable[Iterable[Metric]]) -> None:
        self._families = [each for families in workers for each in families]

    def collect(self) -> Iterator[Metric]:
        """The metrics by name."""
        merged = {each.name: Metric(each.name, each.documentation, each.type) for each in self._families}
        values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {name: {} for name in merged}
        for family in self._families:
            totals = values[family.name]
            is_summed = family.type in _COUNTING or family.name in _SUMMED_GAUGES
            for sample in family.samples:
                key = sample.name, tuple(sample.labels.items())
                if key not in totals:
                    totals[key] = sample.value
                elif sample.name.endswith("_created"):
                    totals[key] = min(totals[key], sample.value)
                else:
                    totals[key] = totals[key] + sample.value if is_summed else max(totals[key], sample.value)
        for name, metric in merged.items():
            for (sample_name, labels), value in values[name].items():
                metric.add_sample(sample_name, dict(labels), value)
            yield metric
