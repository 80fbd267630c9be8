"""`shelfwise serve`: an index directory behind uvicorn, until it is told to end, and then without losing a request."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import threading
from functools import partial
from types import FrameType
from typing import cast

import structlog
import uvicorn
from fastapi import FastAPI

from retrieval.errors import SettingError
from service.engine import SearchEngine
from service.http.access.key_file import KEYS_FILE, KeyFile
from service.http.app import create_app
from service.http.connections import BoundedProtocol, ConnectionBounds, Doorkeeper
from service.http.context import is_loopback
from service.http.tracing import Tracing
from service.setting_sources import SourcedSettings
from service.settings import ServiceSettings

_FILES_BESIDE_CONNECTIONS = 1_000
_KEEP_ALIVE_SECONDS = 65
"""Longer than load balancers and clients keep an idle connection, 60 seconds at most as they come: whoever closes first
does so while the other may be sending, and of the two only the client knows that it is not."""
DRAIN_SECONDS = 30
"""Requests under way when the server is told to end have so long."""


class _Server(uvicorn.Server):
    """Tells that it is draining before it stops to listen, so that a load balancer may look elsewhere first."""

    def __init__(self, config: uvicorn.Config, draining: threading.Event, notice: float) -> None:
        super().__init__(config)
        self._draining = draining
        self._notice = notice

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A second signal ends the notice."""
        if self._draining.is_set() or not self._notice:
            self._end(sig, frame)
            return
        self._draining.set()
        timer = threading.Timer(self._notice, self._end, (signal.SIGTERM, None))
        timer.daemon = True
        timer.start()

    def _end(self, sig: int, frame: FrameType | None) -> None:
        self._draining.set()
        super().handle_exit(sig, frame)
        # uvicorn would raise it once more after all is answered, and kill the process before its engine is closed.
        self._captured_signals.clear()


def serve(engine: SearchEngine, sourced: SourcedSettings, *, notice: float = 0.0) -> None:
    """Answers until SIGTERM or SIGINT; `notice` is for how many seconds it then says that it is not ready, and answers
    still.

    Raises SettingError where others than this machine would be served and there is no key.
    """
    settings = sourced.settings.service
    keys = KeyFile(settings.keys or engine.root / KEYS_FILE)
    if not keys.is_there and not is_loopback(settings.host):
        raise SettingError(
            f"service.host is {settings.host}, which others reach, and there is no key: make one first "
            f"(shelfwise keys create web --scope search --index {engine.root}), or serve 127.0.0.1"
        )
    configure_logs()
    app = create_app(engine, settings, opened_tracing(settings.traces) if settings.traces else None, sourced)
    bounds = ConnectionBounds(
        head_seconds=settings.body_seconds,
        most=settings.connections,
        most_of_address=settings.connections_per_address,
        proxies=settings.proxies,
    )
    allow_files(2 * bounds.most + _FILES_BESIDE_CONNECTIONS)
    config = server_config(app, settings, Doorkeeper(bounds))
    _Server(config, app.state.draining, notice).run()


def server_config(app: FastAPI, settings: ServiceSettings, keeper: Doorkeeper) -> uvicorn.Config:
    """How uvicorn runs an application."""
    return uvicorn.Config(
        app,
        settings.host,
        settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        # h11 underneath: it bounds the bytes of a request's head
        http=cast(type[asyncio.Protocol], partial(BoundedProtocol, keeper)),
        ws="none",
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=list(settings.proxies) or None,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )


def opened_tracing(endpoint: str) -> Tracing:
    """Raises SettingError where the packages that it takes are not there."""
    try:
        from service.http.traces import open_tracing
    except ImportError:
        raise SettingError("service.traces needs OpenTelemetry; run: pip install 'shelfwise[trace]'") from None
    return open_tracing(endpoint)


def allow_files(wanted: int) -> None:
    """Raises the number of files that the process may have open, connections among them, as far as it is let."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def configure_logs() -> None:
    """One JSON object a line on standard error, from uvicorn as well."""
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
