"""Start, health check and end of an Elasticsearch of one or several nodes."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import httpx2

from tests.servers import ServerStartError, security
from tests.servers.account import Account, find_account
from tests.servers.configuration import NodeCommand, NodeFiles, Options, node_command, write_nodes
from tests.servers.distribution import elasticsearch_home, find_java

T = TypeVar("T")

READY_SECONDS = 120
_STOP_MILLISECONDS = 30_000
_LOG_LINES = 30
_WATCH = 'trap : TERM; tail --pid="$1" -s 0.2 -f /dev/null; kill -s KILL -- $3; until rm -rf "$2"; do sleep 0.2; done'
"""Waits for the end of a process or for SIGTERM, kills process groups and removes a folder. A test process that is
killed by SIGKILL cannot end its servers, so another process does."""
_STARTED: list[subprocess.Popen[bytes]] = []
"""Processes that this one started; most of them outlive the function that started them."""


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    port: int
    process: int


@dataclass(frozen=True, slots=True)
class Server:
    """A running server on 127.0.0.1. Leaving it as a context manager stops it.

    `passwords` has those of `owner`, with all rights, and of `reader`, who may only search; without security it is
    empty, and `ca_certificate` is None.
    """

    version: str
    nodes: tuple[Node, ...]
    watcher: int
    folder: Path
    passwords: Mapping[str, str]
    ca_certificate: Path | None

    @property
    def port(self) -> int:
        return self.nodes[0].port

    @property
    def urls(self) -> tuple[str, ...]:
        scheme = "https" if self.ca_certificate else "http"
        return tuple(f"{scheme}://127.0.0.1:{node.port}" for node in self.nodes)

    @property
    def url(self) -> str:
        return self.urls[0]

    @property
    def password(self) -> str:
        """The password of `owner`; empty without security."""
        return self.passwords.get(security.SUPERUSER, "")

    def request(
        self, method: str, path: str, body: object = None, user: str | None = security.SUPERUSER
    ) -> httpx2.Response:
        auth = (user, self.passwords[user]) if user is not None and user in self.passwords else None
        trust = ssl.create_default_context(cafile=self.ca_certificate)
        return httpx2.request(method, f"{self.url}{path}", json=body, auth=auth, verify=trust, timeout=30)

    def kill(self, node: int = 0) -> None:
        """Kills one node by SIGKILL, as in a crash; its files stay until `stop`."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.nodes[node].process, signal.SIGKILL)

    def stop(self) -> None:
        _stop(self.watcher)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(options: Options = Options(), owner: int | None = None) -> Server:  # noqa: B008 (it is frozen)
    """Starts a server that runs until `stop`, or until the process `owner`, by default this one, ends.

    Raises ServerUnavailableError if Java, Maven or the network are missing, ServerStartError if it does not become
    ready.
    """
    java = find_java(options.version)
    account = find_account()
    home = elasticsearch_home(options.version, java, account.cache)
    folder = account.new_folder()
    running: list[subprocess.Popen[bytes]] = []
    try:
        passwords = security.new_passwords() if options.secured else {}
        nodes = write_nodes(options, home, folder, passwords)
        account.own(folder)
        commands = [node_command(node, options, home, java) for node in nodes]
        for command in commands:
            running.append(_start_node(command, account, folder))  # noqa: PERF401 (those that did start are ended)
        watcher = _start_watcher(owner or os.getpid(), folder, running)
    except BaseException:
        for process in running:
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
        raise
    try:
        return _Starting(nodes, running, watcher, time.monotonic() + READY_SECONDS).server(options, passwords)
    except BaseException:
        _stop(watcher)
        raise


def _start_node(node: NodeCommand, account: Account, folder: Path) -> subprocess.Popen[bytes]:
    """Starts a node in a process group of its own: Ctrl-C in the terminal is for the tests only."""
    with Path(node.log).open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            node.command,
            env=node.environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            user=account.user,
            group=account.group,
            extra_groups=account.extra_groups,
            start_new_session=True,
        )
    _STARTED.append(process)
    return process


def _start_watcher(owner: int, folder: Path, nodes: list[subprocess.Popen[bytes]]) -> int:
    groups = " ".join(f"-{node.pid}" for node in nodes)
    command = ["/bin/sh", "-c", _WATCH, "watch", str(owner), str(folder), groups]
    watcher = subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    _STARTED.append(watcher)
    return watcher.pid


@dataclass(frozen=True, slots=True)
class _Starting:
    nodes: list[NodeFiles]
    running: list[subprocess.Popen[bytes]]
    watcher: int
    deadline: float

    def server(self, options: Options, passwords: Mapping[str, str]) -> Server:
        """Waits until all nodes form one cluster that responds."""
        if len(self.nodes) > 1:
            seeds = self._ports("transport")
            for node in self.nodes:
                node.seed(seeds)
        folder = self.nodes[0].folder.parent
        server = Server(
            version=options.version,
            nodes=tuple(
                Node(node.name, port, process.pid)
                for node, port, process in zip(self.nodes, self._ports("http"), self.running, strict=True)
            ),
            watcher=self.watcher,
            folder=folder,
            passwords=passwords,
            ca_certificate=folder / security.CA_CERTIFICATE if options.secured else None,
        )
        self._until(lambda: True if _healthy(server) else None, "a healthy cluster")
        return server

    def _ports(self, kind: str) -> list[int]:
        return [self._until(partial(node.port, kind), f"the {kind} port of {node.name}") for node in self.nodes]

    def _until(self, found: Callable[[], T | None], awaited: str) -> T:
        while (value := found()) is None:
            if any(process.poll() is not None for process in self.running):
                raise ServerStartError(f"Elasticsearch ended before there was {awaited}:\n{self._logs()}")
            if time.monotonic() > self.deadline:
                raise ServerStartError(f"there was not {awaited} in {READY_SECONDS} s:\n{self._logs()}")
            time.sleep(0.1)
        return value

    def _logs(self) -> str:
        lines = ((node.name, node.console.read_text("utf-8", "replace").splitlines()) for node in self.nodes)
        return "\n".join(f"[{name}] {line}" for name, printed in lines for line in printed[-_LOG_LINES:])


def _healthy(server: Server) -> bool:
    """Whether the cluster is healthy; this build has no `GET /`."""
    try:
        wanted = f"wait_for_status=yellow&wait_for_nodes={len(server.nodes)}&timeout=1s"
        return server.request("GET", f"/_cluster/health?{wanted}").is_success
    except httpx2.HTTPError:
        return False


def _stop(watcher: int) -> None:
    """Ends what the watcher waits with, so that it kills the nodes and removes their folder."""
    with contextlib.suppress(ProcessLookupError):
        watched = os.pidfd_open(watcher)
        try:
            os.killpg(watcher, signal.SIGTERM)
            ended = select.poll()
            ended.register(watched, select.POLLIN)
            if not ended.poll(_STOP_MILLISECONDS):
                raise TimeoutError(f"process {watcher}, which watches a server, did not end")
        finally:
            os.close(watched)
