"""`shelfwise serve` in a process, for tests that end it, overload it or run several; and keys for it."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import httpx2
from fastapi import FastAPI
from fastapi.testclient import TestClient

from shelfwise.retrieval.memory import process_memory
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.events.event_log import EventLog
from shelfwise.service.http.auth import AdminToken, KeyFile, Scope, narrow_key, new_key
from shelfwise.service.settings import Settings
from tests.machine import within

PROGRAM = (sys.executable, "-c", "from shelfwise.service.cli.main import main; main()")
_STARTING_SECONDS = 60
TLS = ssl.create_default_context()
"""One context for all requests, as loading the certificates takes longer than a request."""


@dataclass(frozen=True, slots=True)
class Service:
    process: subprocess.Popen[bytes]
    port: int
    log: Path
    index: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        """The token of the index directory."""
        return AdminToken(self.index).read()

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return httpx2.get(f"{self.address}{path}", headers=headers, timeout=20, verify=TLS)

    def metrics(self) -> str:
        return self.get("/metrics", **{"X-API-Key": self.token}).text

    def is_ready(self) -> bool:
        try:
            return self.get("/health/ready").status_code == 200
        except httpx2.HTTPError:
            return False

    def memory(self) -> int:
        """Resident bytes of the process without mapped files."""
        return process_memory(process=self.process.pid)

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


class Shoppers(ABC):
    """Three threads that send requests until the block ends."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        """Requests by status, or by the name of their error."""
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(3)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        for _ in self.visits(number):
            if self._stop.wait(0.02):  # leaves processor time to the service
                return

    @abstractmethod
    def visits(self, number: int) -> Iterator[None]:
        """Sends the requests of a thread; pauses at each yield."""

    def get(self, client: httpx2.Client, path: str, **parameters: str | int) -> httpx2.Response | None:
        """A response, or None if there is none; both are counted."""
        try:
            answer = client.get(path, params=parameters)
        except httpx2.HTTPError as error:
            self.outcomes[type(error).__name__] += 1
            return None
        self.outcomes[str(answer.status_code)] += 1
        return answer


def service(index: Path, log: Path, *options: str, **settings: object) -> AbstractContextManager[Service]:
    """Serves an index until the context ends; `settings` are those of the table `service`."""
    return serving(PROGRAM, log, str(index), *options, **settings)


@contextmanager
def serving(program: Sequence[str], log: Path, /, *arguments: str, **settings: object) -> Iterator[Service]:
    """Serves by a given program, with the arguments of its command `serve`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [*program, "serve", *arguments, "--port", str(port)]
    output = {f"SHELFWISE_SERVICE__{name.upper()}": str(value) for name, value in settings.items()}
    with log.open("wb") as written:
        process = subprocess.Popen(command, env={**os.environ, **output}, stderr=written)  # noqa: S603 - this interpreter
    running = Service(process, port, log, Path(arguments[0]))
    try:
        started = within(_STARTING_SECONDS, lambda: running.is_ready() or process.poll() is not None)
        assert started and process.poll() is None, log.read_text("utf-8")
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def add_key(
    keys: KeyFile,
    *scopes: Scope,
    filters: str = "",
    expires: datetime | None = None,
    indexes: tuple[str, ...] = (),
    requests_per_minute: int | None = None,
    secured: bool = False,
) -> str:
    limits = {"filters": filters, "expires": expires, "indexes": indexes, "requests_per_minute": requests_per_minute}
    key, stored = new_key("test", scopes, now=datetime.now(UTC), **limits)  # type: ignore[arg-type]
    keys.add(keys.as_parent(key, stored) if secured else stored)
    return key


def narrowed(key: str, **narrower: Any) -> str:  # noqa: ANN401 - as narrow_key takes them
    """A narrowed key that hardly ends."""
    return narrow_key(key, expires=datetime(2100, 1, 1, tzinfo=UTC), **narrower)


def hidden_word(engine: SearchEngine) -> tuple[str, str, str]:
    """A brand, its misspelling, and a filter that no product with the brand's name passes."""
    for each in engine.search("", size=0, facets=["brand"]).facets["brand"].counts:
        brand, others = str(each.value), f'brand != "{each.value}"'
        if brand.isalpha() and len(brand) > 6 and not engine.search(brand, stage="bm25", filters=others).total:
            return brand.lower(), f"{brand[:3]}{brand[4]}{brand[3]}{brand[5:]}".lower(), others
    raise AssertionError("each brand is named by the products of another")


def local_client(app: FastAPI) -> TestClient:
    """The owner's browser on a page of the service; it returns exceptions of the application as responses."""
    client = TestClient(app, "http://localhost", client=("127.0.0.1", 50_000), raise_server_exceptions=False)
    client.headers["Sec-Fetch-Site"] = "same-origin"
    client.cookies.set("shelfwise", app.state.shared.token.ensure())
    return client


def recorded_events(root: Path) -> list[dict[str, Any]]:
    """All events of an index directory, oldest day first."""
    with EventLog.open(root, Settings(backend="embedded")) as log:
        days = sorted(log.store.days())
        return [row for table in log.store.read(days[0], days[-1]) for row in table.to_dicts()] if days else []


def events_of_query(root: Path, query_id: str, wanted: int = 1, seconds: float = 5) -> list[dict[str, Any]]:
    """The events of an answer, once that many are recorded or the time is over."""
    found: list[dict[str, Any]] = []

    def are_there() -> bool:
        found[:] = [row for row in recorded_events(root) if row["query_id"] == query_id]
        return len(found) >= wanted

    within(seconds, are_there)
    return found
