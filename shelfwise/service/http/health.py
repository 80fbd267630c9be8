"""Health probes, and the metrics that are measured on each scrape: ages, load, events and refusals."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any

import msgspec
import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shelfwise.retrieval.store.manifest import POPULARITY_FILE
from shelfwise.service.http.context import Indexes, MayReadMetrics, ServiceContext, SharedParts
from shelfwise.service.http.errors import RequestError
from shelfwise.service.http.indexes import IndexRegistry
from shelfwise.service.http.limits import WorkerThreads
from shelfwise.service.http.schemas import RESPONSES, HealthResponse, json_response
from shelfwise.service.http.telemetry import MergedMetrics, counts_of, parse_metrics, read_metrics
from shelfwise.service.worker_group import READY, WorkerGroup

router = APIRouter(tags=["health"])
_log = structlog.get_logger("shelfwise.notices")
_METRICS_RESPONSES: dict[int | str, dict[str, Any]] = {
    **RESPONSES,
    200: {"description": "The metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}},
}
_NOTICE_SECONDS = 1.0
_TICKS = 4
"""Number of times per second that live changes are shared between workers; metrics are shared once."""
_METRICS_NAME, _SEQUENCES_NAME = "metrics", "sequences"
"""Names under which workers share data."""
_SEQUENCES = msgspec.msgpack.Decoder(dict[str, int])


@router.get("/health/live", response_model=HealthResponse, summary="Liveness")
async def live() -> Response:
    """200 as long as the process responds."""
    return json_response(HealthResponse("live"))


@router.get("/health/ready", response_model=HealthResponse, summary="Readiness", responses=RESPONSES)
async def ready(indexes: Indexes, request: Request) -> Response:
    """503, with the reason, while the server drains or its queue is half full."""
    error = readiness_error(request.app)
    if error is not None:
        raise error
    engines = [each.engine for each in indexes.registry.opened]
    products = sum(each.manifest.products for each in engines)
    # Not in a worker thread: it may load a ranker, and must respond while the workers are busy.
    warnings = await asyncio.to_thread(service_notices, request.app)
    version_name, ranker = (engines[0].manifest.version, engines[0].ranker) if len(engines) == 1 else ("", "")
    return json_response(HealthResponse("ready", version_name, products, ranker, warnings, len(engines)))


@router.get("/metrics", summary="Prometheus metrics", response_class=Response, responses=_METRICS_RESPONSES)
async def metrics(request: Request, _permit: MayReadMetrics) -> Response:
    """Metrics in the Prometheus text format; needs the scope metrics."""
    content = await asyncio.to_thread(render_metrics, request.app)
    return Response(content, 200, {"Content-Type": CONTENT_TYPE_LATEST})


def readiness_error(app: FastAPI) -> RequestError | None:
    """The reason to send no requests to this server; None if it is ready."""
    shared: SharedParts = app.state.shared
    if app.state.draining.is_set():
        message = "the server is shutting down; send requests to another one"
        return RequestError(503, message, code="draining", retry_after=5)
    if shared.is_pressed:
        return RequestError(503, "this server is busy; send new requests to another one", code="busy", retry_after=1)
    return None


def service_notices(app: FastAPI) -> tuple[str, ...]:
    """Problems that do not stop searches, of all indexes and of the store page."""
    shared: SharedParts = app.state.shared
    notices: tuple[str, ...] = app.state.indexes.notices
    return (*notices, *shared.notices)


async def follow_notices(app: FastAPI) -> None:
    """Logs each notice when it appears and when it ends, until cancelled."""
    previous: frozenset[str] = frozenset()
    while True:
        current = frozenset(await asyncio.to_thread(service_notices, app))
        for notice in sorted(current - previous):
            _log.warning("notice", notice=notice)
        for notice in sorted(previous - current):
            _log.info("notice ended", notice=notice)
        previous = current
        await asyncio.sleep(_NOTICE_SECONDS)


def render_metrics(app: FastAPI) -> bytes:
    """The metrics of the service in the Prometheus text format: current ones of this process, and those that other
    workers shared last."""
    group: WorkerGroup = app.state.shared.group
    serving = group.published(READY)
    others = [
        parse_metrics(content) if number in serving else counts_of(parse_metrics(content))
        for number, content in group.published(_METRICS_NAME).items()
        if number != group.number
    ]
    return generate_latest(MergedMetrics([_own_metrics(app).collect(), *others]))


def _own_metrics(app: FastAPI) -> MergedMetrics:
    """This worker's metrics, including the counts of ended workers with the same number."""
    return MergedMetrics([read_metrics(REGISTRY), read_metrics(ServiceCollector(app)), app.state.counted_before])


class WorkerNews:
    """Data that a worker shares with its group: its metrics, and the live changes that its searches show."""

    def __init__(self, app: FastAPI) -> None:
        """Takes over the counts of an ended worker with the same number."""
        shared: SharedParts = app.state.shared
        self._app, self._group = app, shared.group
        before = self._group.published(_METRICS_NAME).get(self._group.number)
        app.state.counted_before = counts_of(parse_metrics(before)) if before else []

    async def share(self) -> None:
        """Shares the data until cancelled, at least once a second."""
        for count in itertools.count():
            await asyncio.to_thread(self._publish, is_whole=count % _TICKS == 0)
            await asyncio.sleep(_NOTICE_SECONDS / _TICKS)

    def _publish(self, *, is_whole: bool) -> None:
        shared: SharedParts = self._app.state.shared
        shared.share_pressure()
        indexes: IndexRegistry[ServiceContext] = self._app.state.indexes
        sequences = {each.name: each.engine.live.sequence for each in indexes.opened}
        self._group.publish(_SEQUENCES_NAME, msgspec.msgpack.encode(sequences))
        if is_whole:
            self._group.publish(_METRICS_NAME, generate_latest(_own_metrics(self._app)))


def is_shown_by_all(group: WorkerGroup, name: str, sequence: int = 0) -> bool:
    """Whether all other workers have opened an index, and their searches show its live changes up to a number."""
    sequences = map(_SEQUENCES.decode, group.of_others(_SEQUENCES_NAME))
    return all(each.get(name, -1) >= sequence for each in sequences)


class ServiceCollector(Collector):
    """Measures an application on each scrape; with a directory, metrics of an index have the label `index`."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._indexes: IndexRegistry[ServiceContext] = app.state.indexes

    def collect(self) -> Iterator[Metric]:
        contexts = self._indexes.opened
        yield from self._index(contexts)
        recorders = [each.impressions for each in contexts]
        threads: WorkerThreads = self._app.state.shared.threads
        gauges: tuple[tuple[str, str, float], ...] = (
            ("shelfwise_notices", "Problems that do not stop searches", len(service_notices(self._app))),
            ("shelfwise_ready", "1 if the server is ready for requests", readiness_error(self._app) is None),
            ("shelfwise_workers", "Number of worker processes", 1),
            ("shelfwise_threads", "Worker threads", threads.count),
            ("shelfwise_requests_places", "Maximum number of requests that run or wait", threads.places),
            ("shelfwise_requests_in_progress", "Requests that are running or waiting", threads.in_progress),
            (
                "shelfwise_events_waiting",
                "Events of searches that are not on disk yet",
                sum(each.waiting for each in recorders),
            ),
            (
                "shelfwise_events_lag_seconds",
                "Age of the oldest event that is not on disk yet",
                max((each.lag for each in recorders), default=0.0),
            ),
        )
        for name, text, value in gauges:
            yield GaugeMetricFamily(name, text, value=value)
        losses = sum(each.lost for each in recorders)
        yield CounterMetricFamily(
            "shelfwise_requests_refused", "Requests refused because the queue was full", value=threads.refused
        )
        yield CounterMetricFamily(
            "shelfwise_events_lost", "Events of searches that could not be recorded", value=losses
        )

    def _index(self, contexts: Sequence[ServiceContext]) -> Iterator[Metric]:
        ages = {each: max(0.0, time.time() - each.engine.snapshot.built) for each in contexts}
        yield self._gauges("shelfwise_index_age_seconds", "Age of the serving version", ages)
        products = {each: each.engine.manifest.products for each in contexts}
        yield self._gauges("shelfwise_index_products", "Products of the serving version", products)
        names = [*self._labels, "version", "ranker", "encoder", "program"]
        info = GaugeMetricFamily("shelfwise_serving_info", "1, labelled with what serves", labels=names)
        for each in contexts:
            manifest, ranker = each.engine.manifest, each.engine.ranker
            own = (manifest.version, ranker, manifest.encoder_name, version("shelfwise"))
            info.add_metric([*self._values(each), *own], 1)
        yield info
        times = {each: when for each in contexts if (when := each.engine.live.changed) is not None}
        if times:
            text = "Time of the last live change, in seconds since 1970"
            yield self._gauges("shelfwise_live_changes_timestamp_seconds", text, times)
        ages = {}
        for each in contexts:
            with suppress(OSError):
                refresh_time = (each.engine.root / POPULARITY_FILE).stat().st_mtime  # every refresh writes it
                ages[each] = max(0.0, time.time() - refresh_time)
        if ages:
            yield self._gauges("shelfwise_tables_age_seconds", "Time since the last refresh of the tables", ages)

    @property
    def _labels(self) -> tuple[str, ...]:
        return () if self._indexes.root is None else ("index",)

    def _values(self, context: ServiceContext) -> tuple[str, ...]:
        return (context.name,) if self._labels else ()

    def _gauges(self, name: str, text: str, values: Mapping[ServiceContext, float]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, text, labels=self._labels)
        for context, value in values.items():
            family.add_metric(self._values(context), value)
        return family
