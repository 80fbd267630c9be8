"""`shelfwise serve`: an index directory behind uvicorn, until it is told to end, and then without losing a request."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType

import structlog
import uvicorn

from retrieval.errors import SettingError
from service.engine import SearchEngine
from service.http.access.key_file import KEYS_FILE, KeyFile
from service.http.app import create_app
from service.http.context import is_loopback
from service.settings import ServiceSettings

_MOST_CONNECTIONS = 1_000
_KEEP_ALIVE_SECONDS = 5
_DRAIN_SECONDS = 30
"""Requests under way when the server is told to end have so long."""


class _Server(uvicorn.Server):
    """Tells that it is draining before it stops to listen, so that a load balancer may look elsewhere first."""

    def __init__(self, config: uvicorn.Config, draining: threading.Event, notice: float) -> None:
        super().__init__(config)
        self._draining = draining
        self._notice = notice

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A second signal ends it at once."""
        if self._draining.is_set() or not self._notice:
            super().handle_exit(sig, frame)
            return
        self._draining.set()
        timer = threading.Timer(self._notice, super().handle_exit, (signal.SIGTERM, None))
        timer.daemon = True
        timer.start()


def serve(engine: SearchEngine, settings: ServiceSettings, *, notice: float = 0.0) -> None:
    """Answers until SIGTERM or SIGINT; `notice` is for how many seconds it then says that it is not ready, and answers
    still.

    Raises SettingError where others than this machine would be served and there is no key.
    """
    keys = KeyFile(settings.keys or engine.root / KEYS_FILE)
    if not keys.is_there and not is_loopback(settings.host):
        raise SettingError(
            f"service.host is {settings.host}, which others reach, and there is no key: make one first "
            f"(shelfwise keys create web --scope search --index {engine.root}), or serve 127.0.0.1"
        )
    configure_logs()
    app = create_app(engine, settings)
    config = uvicorn.Config(
        app,
        settings.host,
        settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        http="h11",  # it bounds the headers of a request
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=list(settings.proxies) or None,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    _Server(config, app.state.draining, notice).run()


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
