"""Whether the service is alive and ready, and what is measured when somebody looks: ages, what waits, what was
refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from importlib.metadata import version

from fastapi import APIRouter, FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from retrieval.store.manifest import POPULARITY_FILE
from service.experiments.assignment import notices
from service.http.context import Contextual, MayWatch, ServiceContext
from service.http.errors import RequestError
from service.http.schemas import RESPONSES, HealthResponse, json_response


def render_metrics(app: FastAPI) -> bytes:
    """All metrics as Prometheus reads them: those of the process, then those of one application in it."""
    own = CollectorRegistry()
    own.register(ServiceCollector(app))
    return generate_latest(REGISTRY) + generate_latest(own)


class ServiceCollector(Collector):
    """Reads an application each time that it is asked."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._context: ServiceContext = app.state.context

    def collect(self) -> Iterator[Metric]:
        """Every family, as it is now."""
        yield from self._index()
        yield from self._load()
        yield from self._events()

    def _index(self) -> Iterator[Metric]:
        engine = self._context.engine
        snapshot = engine.snapshot
        manifest = snapshot.manifest
        age = max(0.0, time.time() - snapshot.built)
        yield _gauge("shelfwise_index_age_seconds", "Since the version that serves was built", age)
        yield _gauge("shelfwise_index_products", "Products of the version that serves", manifest.products)
        told = {
            "version": manifest.version,
            "ranker": engine.ranker,
            "encoder": manifest.encoder_name,
            "program": version("shelfwise"),
        }
        serving = GaugeMetricFamily("shelfwise_serving_info", "1, of what serves", labels=list(told))
        serving.add_metric(list(told.values()), 1)
        yield serving
        if engine.live_changed is not None:
            told_of = "When live changes were last taken up, in seconds since 1970"
            yield _gauge("shelfwise_live_changes_timestamp_seconds", told_of, engine.live_changed)
        wrong = len(engine.notices) + len(notices(engine, self._context.experiments))
        yield _gauge("shelfwise_notices", "Things that are wrong although searches are answered", wrong)

    def _load(self) -> Iterator[Metric]:
        workers = self._context.threads
        is_ready = readiness_error(self._app) is None
        yield _gauge("shelfwise_ready", "1 while requests may be sent here", float(is_ready))
        yield _gauge("shelfwise_threads", "Threads that answer", workers.threads)
        yield _gauge("shelfwise_requests_places", "Requests that may be answered or wait at once", workers.places)
        yield _gauge("shelfwise_requests_in_progress", "Requests that are being answered, or wait", workers.in_progress)
        refused = workers.refused
        yield _counter("shelfwise_requests_refused", "Requests that found no place to wait", refused)

    def _events(self) -> Iterator[Metric]:
        exposures = self._context.impressions
        yield _gauge("shelfwise_events_waiting", "Events of searches that are not on the disk yet", exposures.waiting)
        lag = exposures.lag
        yield _gauge("shelfwise_events_lag_seconds", "Age of the oldest event that is not on the disk yet", lag)
        yield _counter("shelfwise_events_lost", "Events of searches that could not be recorded", exposures.lost)
        made = self._tables_made()
        if made is not None:
            age = max(0.0, time.time() - made)
            yield _gauge("shelfwise_tables_age_seconds", "Since tables were last made of events", age)

    def _tables_made(self) -> float | None:
        """When the file was written that every refresh writes; None before the first."""
        try:
            return (self._context.engine.root / POPULARITY_FILE).stat().st_mtime
        except OSError:
            return None


def _gauge(name: str, told: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, told, value=value)


def _counter(name: str, told: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, told, value=value)


# Whether requests may be sent here: what `/health/ready` answers, and the metric of the same.


def readiness_error(app: FastAPI) -> RequestError | None:
    """The refusal, while the server drains or has more requests waiting than it can answer soon."""
    context: ServiceContext = app.state.context
    if app.state.draining.is_set():
        return RequestError(
            503, "the server is about to end; send requests to another one", code="draining", retry_after=5
        )
    if context.threads.is_pressed:
        return RequestError(503, "requests wait here; send new ones to another server", code="busy", retry_after=1)
    return None


# Whether a service answers, and what it counts.

router = APIRouter(tags=["health"])


@router.get("/health/live", response_model=HealthResponse, summary="Is the process alive?")
async def live() -> Response:
    """Always, while it can answer at all."""
    return json_response(HealthResponse("live"))


@router.get("/health/ready", response_model=HealthResponse, summary="May requests be sent here?", responses=RESPONSES)
async def ready(context: Contextual, request: Request) -> Response:
    """503, with the reason, while the server drains or has more requests waiting than it can answer soon."""
    refusal = readiness_error(request.app)
    if refusal is not None:
        raise refusal
    engine = context.engine
    manifest, ranker = engine.manifest, engine.ranker
    # A thread of its own: it may have a ranker to open, and is answered while those that search are busy.
    told = (*engine.notices, *await asyncio.to_thread(notices, engine, context.experiments))
    return json_response(HealthResponse("ready", manifest.version, manifest.products, ranker, told))


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(request: Request, _permit: MayWatch) -> Response:
    """For a key with the scope metrics."""
    told = await asyncio.to_thread(render_metrics, request.app)
    return Response(told, 200, {"Content-Type": CONTENT_TYPE_LATEST})
