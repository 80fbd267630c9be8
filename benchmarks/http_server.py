"""A service in a process of its own, as `shelfwise serve` makes it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from retrieval.errors import StoreError

_STARTING_SECONDS = 60
_ENDING_SECONDS = 60
_SETTINGS = {"SHELFWISE_SERVICE__REQUESTS_PER_MINUTE_ADDRESS": "100000000"}
"""One address sends all requests here; as the limit of one shopper's it would be all that is measured."""


@dataclass(frozen=True, slots=True)
class Served:
    """A service that answers."""

    address: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Ends it at once, as a lost machine does."""
        self.process.kill()
        self.process.wait()


@contextmanager
def served(index: Path, settings: Mapping[str, str] | None = None) -> Iterator[Served]:
    """Serves an index, with `settings` as environment variables. It ends with the context; raises StoreError where it
    does not start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = "from service.cli import main; main()"
    command = [sys.executable, "-c", program, "serve", "--index", str(index), "--port", str(port)]
    environment = {**os.environ, **_SETTINGS, **(settings or {})}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    started = Served(f"http://127.0.0.1:{port}", process)
    try:
        _wait_until_ready(started)
        yield started
    finally:
        process.terminate()
        process.wait(timeout=_ENDING_SECONDS)


def _wait_until_ready(started: Served) -> None:
    until = time.monotonic() + _STARTING_SECONDS
    while time.monotonic() < until and started.process.poll() is None:
        try:
            if httpx2.get(f"{started.address}/health/ready", timeout=2.0).status_code == 200:
                return
        except httpx2.HTTPError:
            time.sleep(0.1)
    raise StoreError("the service did not start; see what it says: shelfwise serve --index DIR")
