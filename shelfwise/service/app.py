"""The HTTP service: the API, the InstantSearch protocol and the pages as one application, and its server."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import cast

import structlog
import uvicorn
from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

from shelfwise.retrieval.encoders.registry import LazyEncoder, open_encoder
from shelfwise.retrieval.encoders.weights import DEFAULT_MODEL
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.answers.questions import load_questions
from shelfwise.service.curation.switches import SwitchedPart
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.experiments.experiment import ExperimentStore
from shelfwise.service.http import health
from shelfwise.service.http.auth import KEYS_FILE, AdminToken, KeyFile
from shelfwise.service.http.connections import (
    Acceptor,
    ConnectionLimiter,
    ConnectionLimits,
    LimitedProtocol,
    refuse_new_connections,
)
from shelfwise.service.http.context import ServiceContext, SharedParts
from shelfwise.service.http.errors import handle_errors
from shelfwise.service.http.impressions import ImpressionRecorder
from shelfwise.service.http.indexes import IndexRegistry
from shelfwise.service.http.limits import BODY_SECONDS, RateLimiter, WorkerThreads
from shelfwise.service.http.middleware import (
    CorsMiddleware,
    EarlyRefusals,
    IndexPathMiddleware,
    RequestLimits,
    RequestMiddleware,
)
from shelfwise.service.http.routes import change_routes, curation_routes, feed_routes, search_routes, store_routes
from shelfwise.service.http.tasks import TaskRunner, command_job
from shelfwise.service.instantsearch import object_routes
from shelfwise.service.instantsearch import routes as instantsearch
from shelfwise.service.instantsearch.protocol_settings import ProtocolStore
from shelfwise.service.instantsearch.recommend import PurchaseStatistics
from shelfwise.service.settings import ServiceSettings, SourcedSettings, cache_folder, describe_settings
from shelfwise.service.web import pages, pictures
from shelfwise.service.worker_group import WorkerGroup

QUEUE = 32
"""Requests that may wait for a thread of a worker process; further ones are refused with 503."""
DRAIN_SECONDS = 30
"""Seconds for requests in progress after the signal to stop."""
_SWITCH_SECONDS = 0.0005
"""Seconds that the thread which accepts and refuses requests waits for Python's lock while searches run, several times
for each request. The default is ten times as long."""
_COLLECTIONS = (2_000, 10, 5_000)
"""Thresholds of Python's garbage collector. A collection stops all threads, for a second if it examines the objects of
20,000 changed products, so old objects are rarely examined; reference counts free nearly everything."""
_QUEUE_SECONDS = 0.5
"""Seconds to accept the connections whose clients connected before the server stopped listening."""
_KEEP_ALIVE_SECONDS = 65
"""Seconds until an idle connection is closed: more than the default of load balancers and clients, 60. The side that
closes first may do so while the other is sending, and only the client knows that it is not sending."""
_MIN_COMPRESSED = 1_000
"""Minimum size in bytes of a response that is compressed."""
FEEDS_FOLDER = "feeds"
"""The folder of an index directory for feeds, if no setting names one."""
_TURN_FILE = ".tasks.lock"
"""Lock file, in a directory of indexes, of the task that runs as a command."""
_OTHER_FILES = 1_000
"""Number of open files of the process that are not connections."""
_ROUTERS = (
    health.router,
    pictures.router,
    search_routes.suggest_router,
    search_routes.search_router,
    change_routes.product_router,
    change_routes.event_router,
    change_routes.webhook_router,
    curation_routes.experiment_router,
    curation_routes.question_router,
    curation_routes.ledger_router,
    curation_routes.router,
    store_routes.index_router,
    store_routes.alias_router,
    store_routes.store_router,
    store_routes.key_router,
    feed_routes.router,
    store_routes.task_router,
    object_routes.router,
    instantsearch.router,
)


def create_app(
    source: SearchEngine | Path,
    settings: ServiceSettings,
    sourced: SourcedSettings | None = None,
    group: WorkerGroup | None = None,
) -> FastAPI:
    """An ASGI application for an engine, which the caller closes after the application has ended, or for all indexes of
    a directory.

    `sourced` are all settings of the process, for the settings route; `group` are the workers of the service, if it has
    several. Any ASGI server can run it.
    """
    group = group or WorkerGroup()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        # In the background, so that no search waits for it.
        threading.Thread(target=_load_questions, name="load-questions", daemon=True).start()
        following = [asyncio.create_task(health.follow_notices(app))]
        if group.count > 1:
            following.append(asyncio.create_task(news.share()))
        yield
        for each in following:
            each.cancel()
        await app.state.pictures.close()
        shared.close()
        app.state.indexes.close()

    app = FastAPI(
        title="Shelfwise",
        summary="Product search for web stores",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    root = source if isinstance(source, Path) else source.root
    shared = SharedParts(
        KeyFile(settings.keys or root / KEYS_FILE),
        AdminToken(root),
        RateLimiter(settings.requests_per_minute_key, settings.requests_per_minute_address, group),
        WorkerThreads(settings.worker_threads, QUEUE),
        WorkerThreads(1, QUEUE),
        settings.page_key if settings.pages else "",
        {"shopify": settings.shopify_secret, "woocommerce": settings.woocommerce_secret},
        group,
        settings.trusted_proxies,
        pressed=group.array("pressed", (), bool),
    )
    app.state.shared = shared
    sourced = sourced or SourcedSettings.of_service(settings)
    app.state.indexes = _open_indexes(source, shared, sourced)
    app.state.draining = threading.Event()
    app.state.settings = describe_settings(sourced)
    news = health.WorkerNews(app)
    app.state.pictures = pictures.Pictures(root / pictures.FOLDER, sourced.settings.store)
    routers = [*_ROUTERS, pages.docs_router]
    if settings.pages:
        app.state.look = pages.read_look(sourced.settings.store)
        routers.append(pages.router)
    # Unchanged: `include_router` would build each route, with the schemas of its parameters, a second time.
    app.router.routes.extend(route for router in routers for route in router.routes)
    handle_errors(app)
    _add_middleware(app, settings)
    return app


def _load_questions() -> None:
    try:
        load_questions()
    except (OSError, ImportError) as error:  # no free file descriptors: the first question tries again
        structlog.get_logger("shelfwise.answers").warning("questions not loaded", error=str(error))


def _open_indexes(
    source: SearchEngine | Path, shared: SharedParts, sourced: SourcedSettings
) -> IndexRegistry[ServiceContext]:
    settings = sourced.settings

    def context_of(engine: SearchEngine, *, is_only: bool = False) -> ServiceContext:
        protocol, name = ProtocolStore(engine.root), engine.root.resolve().name

        def feeds_folder() -> Path | None:
            folder = settings.service.feeds
            if folder is None:
                folder = engine.root / FEEDS_FOLDER if engine.switches.is_on(SwitchedPart.FEEDS) else None
            elif not is_only:
                folder = folder / name
            if folder is not None and folder != settings.service.feeds:
                folder.mkdir(parents=True, exist_ok=True)
            return folder

        if engine.settings.ranker.exploration:
            ExperimentStore(engine.root).ensure_key()
        # While another thread loads them for the first time, a search would take part in none.
        engine.experiments.reload_if_changed(engine.snapshot)
        turn = source / _TURN_FILE if isinstance(source, Path) else None
        return ServiceContext(
            name,
            engine,
            shared,
            ImpressionRecorder(engine.record, engine.rules.exposure.count),
            TaskRunner(engine.root, command_job(engine.root, feeds_folder, turn)),
            feeds_folder,
            (protocol, PurchaseStatistics(engine.root)),
            protocol_name=(lambda: protocol.settings.name) if is_only else str,
            on_close=(lambda: None) if is_only else engine.close,
        )

    if isinstance(source, Path):
        import shelfwise.indexer.build  # noqa: F401 - loaded before the first write that makes an index: clients wait two seconds

        indexes = IndexRegistry(
            source,
            lambda path: context_of(SearchEngine.open(path, settings=settings)),
            settings.service.default_index,
            IndexMaker(lambda: indexes.opened, settings.service),
            settings.service.indexes,
        )
        indexes.follow()
        return indexes
    return IndexRegistry.of_one(context_of(source, is_only=True))


@dataclass(frozen=True, slots=True)
class IndexMaker:
    """Creates indexes without products, with the encoder of the settings or of the default index."""

    opened: Callable[[], Sequence[ServiceContext]]
    settings: ServiceSettings

    @property
    def label(self) -> str:
        """Name of the program's version and of the encoder."""
        return f"{version('shelfwise')}-{self._encoder()[0]}"

    def _encoder(self) -> tuple[str, Path | None]:
        """Name of the encoder, and its folder in the directory of a serving index: the folder of a shared encoder may
        belong to an index that no longer exists."""
        opened = sorted(self.opened(), key=lambda each: each.name != self.settings.default_index)
        engines = [each.engine for each in opened]
        name = engines[0].manifest.encoder_name if engines else DEFAULT_MODEL
        known = (
            Store(each.root).encoders / each.manifest.encoder for each in engines if each.manifest.encoder_name == name
        )
        return name, next(known, None)

    def __call__(self, path: Path) -> None:
        from shelfwise.indexer.build import create_index  # not needed by a service before that

        name, folder = self._encoder()
        create_index(path, LazyEncoder(folder) if folder else open_encoder(name, cache=cache_folder()), name)


def _add_middleware(app: FastAPI, settings: ServiceSettings) -> None:
    """Adds middleware; the last one added sees a request first."""
    app.add_middleware(GZipMiddleware, minimum_size=_MIN_COMPRESSED, compresslevel=4)
    all_bodies = max(settings.body_bytes, _BODIES_BYTES // app.state.shared.group.count)
    limits = RequestLimits(settings.body_bytes, BODY_SECONDS, settings.deadline, all_bodies)
    check_room = app.state.shared.threads.check_room
    app.add_middleware(RequestMiddleware, limits=limits, draining=app.state.draining, check_room=check_room)
    # Outside the others, so that pages of other origins can read why a request was refused.
    app.add_middleware(CorsMiddleware, origins=settings.cors_origins)
    app.add_middleware(IndexPathMiddleware)


def serve(
    source: SearchEngine | Path,
    sourced: SourcedSettings,
    listeners: Sequence[socket.socket],
    *,
    notice: float = 0.0,
    group: WorkerGroup | None = None,
    on_start: Callable[[], None] = lambda: None,
) -> None:
    """Serves connections of listening sockets until SIGTERM or SIGINT, as one process or as a worker of a group. For
    `notice` seconds after the signal, the server still answers but reports that it is not ready. `on_start` is called
    when it accepts connections."""
    settings = sourced.settings.service
    group = group or WorkerGroup()
    configure_logs(group.number if group.count > 1 else None)
    sys.setswitchinterval(_SWITCH_SECONDS)
    app = create_app(source, settings, sourced, group)
    limits = ConnectionLimits(proxies=settings.trusted_proxies)
    raise_file_limit(2 * limits.total + _OTHER_FILES)
    draining: threading.Event = app.state.draining
    refusals = EarlyRefusals(app.state.shared.threads, draining, cross_origin=bool(settings.cors_origins))
    limiter = ConnectionLimiter(limits, refusals, group)
    prevent_pauses()
    server = DrainingServer(app, settings, limiter, listeners, draining, notice)
    server.on_start = on_start
    server.run()


def prevent_pauses() -> None:
    """Exempts all objects from garbage collections."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTIONS)


class DrainingServer(uvicorn.Server):
    """Reports that it is not ready before it stops listening, so that a load balancer sends requests elsewhere."""

    def __init__(
        self,
        app: FastAPI,
        settings: ServiceSettings,
        limiter: ConnectionLimiter,
        listeners: Sequence[socket.socket],
        draining: threading.Event,
        notice: float = 0.0,
    ) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            # h11 limits the size of a request's head
            http=cast(type[asyncio.Protocol], partial(LimitedProtocol, limiter)),
            ws="none",
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies) or None,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
        super().__init__(config)
        self.on_start: Callable[[], None] = lambda: None
        """Called when the server accepts connections."""
        self._limiter = limiter
        self._listeners = listeners
        self._draining = draining
        self._notice = notice
        self._acceptors: list[Acceptor] = []

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stops after the notice, or at once on a second signal."""
        if self._draining.is_set() or not self._notice:
            self._stop(sig, frame)
            return
        self._draining.set()
        timer = threading.Timer(self._notice, self._stop, (signal.SIGTERM, None))
        timer.daemon = True
        timer.start()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Starts the application, then accepts connections."""
        await super().startup([])
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        protocol = partial(make, self.config, self.server_state, self.lifespan.state)
        self._acceptors = [Acceptor(each, protocol, self._limiter) for each in self._listeners]
        self.on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        """Accepts the connections that are queued, as other workers do, then ends all connections."""
        if self._limiter.workers == 1:
            for listener in self._listeners:
                refuse_new_connections(listener)
        await asyncio.sleep(_QUEUE_SECONDS)
        for each in self._acceptors:
            await each.close()
        await super().shutdown([])

    def _stop(self, sig: int, frame: FrameType | None) -> None:
        self._draining.set()
        super().handle_exit(sig, frame)
        # uvicorn would raise the signal again at its end, and so kill the process before the engine is closed.
        self._captured_signals.clear()


def raise_file_limit(wanted: int) -> None:
    """Raises the limit of open files, including connections, as far as the process may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def configure_logs(worker: int | None = None) -> None:
    """Logs one JSON object per line to standard error, including uvicorn's log; in a worker, with its number."""

    def add_worker(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        return event if worker is None else {**event, "worker": worker}

    shared: list[structlog.types.Processor] = [
        add_worker,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    render: list[structlog.types.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.JSONRenderer(),
    ]
    handler = logging.StreamHandler()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=render))
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    for name in ("uvicorn.error", "faiss.loader"):
        logging.getLogger(name).setLevel(logging.WARNING)


_BODIES_BYTES = 256_000_000
"""The bytes of all request bodies in memory; further requests are refused with 503."""
