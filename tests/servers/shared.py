"""Servers that all processes of a test run share; the first process that needs one starts it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
from filelock import FileLock

from tests.servers import ServerUnavailableError
from tests.servers.configuration import Options
from tests.servers.server import Server, start


@dataclass(frozen=True, slots=True)
class SharedServers:
    """The servers of a run, registered in `folder`; they end with the process `owner` at the latest."""

    folder: Path
    owner: int

    def get(self, name: str, options: Options) -> Server:
        """The server of a name, started if no process of the run has started it.

        Raises like `start`; missing requirements are looked for once per run.
        """
        running, missing = (self.folder / f"{name}.{kind}" for kind in ("json", "missing"))
        with FileLock(self.folder / f"{name}.lock"):
            if missing.exists():
                raise ServerUnavailableError(missing.read_text("utf-8"))
            if running.exists():
                return _read(running)
            try:
                server = start(options, self.owner)
            except ServerUnavailableError as error:
                missing.write_text(str(error), "utf-8")
                raise
            running.write_bytes(msgspec.json.encode(server, enc_hook=str))
            return server

    def stop(self) -> None:
        with contextlib.ExitStack() as stopping:
            for path in self.folder.glob("*.json"):
                stopping.callback(_read(path).stop)


def _read(path: Path) -> Server:
    return msgspec.json.decode(path.read_bytes(), type=Server, dec_hook=lambda kind, text: kind(text))
