"""The application: an engine behind HTTP, with everything that a request goes through."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

from service.engine.engine import SearchEngine
from service.experiments.store import ServedExperiments
from service.http import health
from service.http.auth import KEYS_FILE, KeyFile
from service.http.context import Context
from service.http.errors import handle_errors
from service.http.impressions import Exposures
from service.http.limits import Rates, Workers
from service.http.middleware import Bounds, Edge
from service.http.request import OpenPaths
from service.http.routes import curation, ingest, pages, search, store
from service.http.tasks import ServedTasks
from service.http.tracing import Tracing
from service.instantsearch import routes as instantsearch
from service.instantsearch.recommend import ServedBehaviour
from service.settings import SourcedSettings, shown_settings

if TYPE_CHECKING:
    from service.settings import ServiceSettings

_LEAST_COMPRESSED = 1_000
"""Bytes."""
_ROUTERS = (
    health.router,
    search.suggest_router,
    search.search_router,
    ingest.product_router,
    ingest.event_router,
    curation.experiment_router,
    curation.rule_router,
    curation.synonym_router,
    store.settings_router,
    store.store_router,
    store.task_router,
    instantsearch.router,
)


def create_app(
    engine: SearchEngine,
    settings: ServiceSettings,
    tracing: Tracing | None = None,
    sourced: SourcedSettings | None = None,
) -> FastAPI:
    """An ASGI application that answers for an engine; whoever made the engine closes it, after the application ended.
    `sourced` are all settings of the process, `settings` among them, where somebody may look at them.

    Any ASGI server runs it; `shelfwise serve` is one.
    """

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        yield
        context.workers.close()
        context.exposures.close()
        if tracing is not None:
            tracing.close()
        context.tasks.close()

    app = FastAPI(
        title="Shelfwise",
        summary="Product search for web stores",
        version="1",
        lifespan=life,
        docs_url="/docs",
        redoc_url=None,
        openapi_url="/v1/openapi.json",
    )
    context = Context(
        engine,
        KeyFile(settings.keys or engine.root / KEYS_FILE),
        Rates(settings.requests_per_minute_key, settings.requests_per_minute_address),
        Workers(settings.worker_threads, settings.queue),
        Exposures(engine.record),
        ServedExperiments(engine.root),
        ServedTasks(engine.root, settings.feeds),
    )
    app.state.context = context
    app.state.draining = threading.Event()
    app.state.settings = shown_settings(sourced or SourcedSettings.of_service(settings))
    app.state.behaviour = ServedBehaviour(engine.root)
    for router in _ROUTERS:
        app.include_router(router)
    if settings.pages:
        app.state.page_key = settings.page_key
        app.include_router(pages.router)
    handle_errors(app)
    app.add_middleware(GZipMiddleware, minimum_size=_LEAST_COMPRESSED, compresslevel=4)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["X-Request-ID", "Retry-After", "ETag"],
        )
    bounds = Bounds(settings.body_bytes, settings.body_seconds, settings.deadline, settings.bodies_bytes)
    app.add_middleware(Edge, bounds=bounds, draining=app.state.draining, tracing=tracing)
    app.add_middleware(OpenPaths)
    return app
