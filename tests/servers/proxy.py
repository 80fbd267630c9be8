"""A TCP proxy to a server on this machine, with which a test makes the server unreachable or unresponsive, and restores
it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from enum import Enum, auto
from typing import Self

_HOST = "127.0.0.1"
_CHUNK = 1 << 16
_SECONDS = 10.0


class Mode(Enum):
    """The proxy's response to connections."""

    FORWARD = auto()  # connects to the server
    REFUSE = auto()  # refuses connections, like the port of a dead process
    SILENT = auto()  # accepts connections and never answers, like a hanging machine


class Proxy:
    """A proxy to a port, in a thread. Leaving it as a context manager closes it.

    Connections stay open when the proxy falls silent; all are closed when it refuses, or forwards again: data sent
    meanwhile is lost.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._mode = Mode.REFUSE
        # Bound and never listening while the proxy exists, so that no other process takes the port while it refuses.
        self._held = _bound(0)
        self.port: int = self._held.getsockname()[1]
        self._listening: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._conversations: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self.switch(Mode.FORWARD)

    @property
    def url(self) -> str:
        return f"http://{_HOST}:{self.port}"

    def switch(self, mode: Mode) -> None:
        asyncio.run_coroutine_threadsafe(self._switch(mode), self._loop).result(_SECONDS)

    def close(self) -> None:
        self.switch(Mode.REFUSE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_SECONDS)
        self._loop.close()
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _switch(self, mode: Mode) -> None:
        before, self._mode = self._mode, mode
        if mode is Mode.REFUSE and self._listening is not None:
            self._listening.close()
            self._listening = None
        if mode is Mode.REFUSE or (before is Mode.SILENT and mode is Mode.FORWARD):
            await self._close_connections()
        if mode is not Mode.REFUSE and self._listening is None:
            self._listening = await asyncio.start_server(self._converse, sock=_bound(self.port))

    async def _close_connections(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        if self._conversations:
            await asyncio.wait(self._conversations)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._conversations.add(task)
        try:
            with self._kept(writer), contextlib.suppress(OSError):
                if self._mode is Mode.REFUSE:
                    return
                far_reader, far_writer = await asyncio.open_connection(_HOST, self._server_port)
                with self._kept(far_writer):
                    await asyncio.gather(self._relay(reader, far_writer), self._relay(far_reader, writer))
        finally:
            self._conversations.discard(task)

    @contextlib.contextmanager
    def _kept(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forwards data until its sender ends; data received in silent mode is dropped."""
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self._mode is Mode.FORWARD:
                    writer.write(data)
                    await writer.drain()
        writer.close()


def _bound(port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((_HOST, port))
    return made
