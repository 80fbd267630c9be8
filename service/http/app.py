"""The application: an engine behind HTTP, with everything that a request goes through."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

from service.engine import SearchEngine
from service.http import change_routes, event_routes, health_routes, search_routes
from service.http.access.key_file import KEYS_FILE, KeyFile
from service.http.access.rates import Rates
from service.http.context import Context
from service.http.edge import Bounds, Edge
from service.http.errors import handle_errors
from service.http.exposures import Exposures
from service.http.workers import Workers

if TYPE_CHECKING:
    from service.settings import ServiceSettings

_LEAST_COMPRESSED = 1_000
"""Bytes."""
_ROUTERS = (health_routes.router, search_routes.router, change_routes.router, event_routes.router)


def create_app(engine: SearchEngine, settings: ServiceSettings) -> FastAPI:
    """An ASGI application that answers for an engine; whoever made the engine closes it, after the application ended.

    Any ASGI server runs it; `shelfwise serve` is one.
    """

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        yield
        context.workers.close()
        context.exposures.close()

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
    )
    app.state.context = context
    app.state.draining = threading.Event()
    for router in _ROUTERS:
        app.include_router(router)
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
    app.add_middleware(Edge, bounds=Bounds(settings.body_bytes, settings.body_seconds, settings.deadline))
    return app
