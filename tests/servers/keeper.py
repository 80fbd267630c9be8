"""A process that starts a server's nodes, and ends them when the test process that owns them ends, even by a kill.

A process killed by SIGKILL cannot clean up, so another process has to watch it. The keeper waits on the owner's pidfd,
which, unlike a pipe, no other process can hold open by mistake. It runs as a separate program and needs only the
standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LOOK_MILLISECONDS = 500


@dataclass(frozen=True, slots=True)
class NodeCommand:
    command: list[str]
    environment: dict[str, str]
    log: str


@dataclass(frozen=True, slots=True)
class Order:
    """A keeper's instructions: the nodes run until the process `owner` ends, then `folder` is removed."""

    owner: int
    folder: str
    nodes: list[NodeCommand]
    user: int | None = None
    group: int | None = None
    extra_groups: list[int] | None = None


@dataclass(frozen=True, slots=True)
class RunningNodes:
    keeper: int
    nodes: list[int]


def start_keeper(order: Order) -> RunningNodes:
    """Starts a keeper and its nodes. The keeper is not a child of this process: any process may end it, by SIGTERM."""
    fields = json.dumps(dataclasses.asdict(order))
    command = [sys.executable, "-I", __file__]
    answer = subprocess.run(command, input=fields, capture_output=True, text=True, check=False)  # noqa: S603
    if not answer.stdout:
        raise OSError(f"the keeper of {order.folder} ended: {answer.stderr.strip()}")
    return RunningNodes(**json.loads(answer.stdout))


def _main() -> None:
    fields = json.load(sys.stdin)
    order = Order(**{**fields, "nodes": [NodeCommand(**node) for node in fields["nodes"]]})
    if os.fork():
        return
    # Ctrl-C in the terminal is for the tests only; the nodes end after them.
    os.setsid()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    nodes: list[subprocess.Popen[bytes]] = []
    try:
        for node in order.nodes:
            nodes.append(_start(node, order))  # noqa: PERF401 (those that did start are ended when one does not)
        print(json.dumps(dataclasses.asdict(RunningNodes(os.getpid(), [node.pid for node in nodes]))), flush=True)  # noqa: T201
        _detach_from_the_starter()
        _wait_for_exit(order.owner, nodes)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end(nodes)
        shutil.rmtree(order.folder, ignore_errors=True)


def _start(node: NodeCommand, order: Order) -> subprocess.Popen[bytes]:
    with Path(node.log).open("wb") as log:
        return subprocess.Popen(  # noqa: S603
            node.command,
            env=node.environment,
            cwd=order.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            user=order.user,
            group=order.group,
            extra_groups=order.extra_groups,
            start_new_session=True,
            preexec_fn=_exit_with_the_keeper,  # noqa: PLW1509 (the keeper has one thread)
        )


def _exit_with_the_keeper() -> None:
    """Asks Linux to kill the launcher when the keeper ends; the server ends when its launcher does."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _detach_from_the_starter() -> None:
    """Closes the standard streams, as the starter reads until every copy of them is closed."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)


def _wait_for_exit(owner: int, nodes: list[subprocess.Popen[bytes]]) -> None:
    with contextlib.suppress(ProcessLookupError):
        ended = select.poll()
        ended.register(os.pidfd_open(owner), select.POLLIN)
        while not ended.poll(_LOOK_MILLISECONDS):
            for node in nodes:
                node.poll()  # a node that ended would otherwise look alive to the starter


def _end(nodes: list[subprocess.Popen[bytes]]) -> None:
    for node in nodes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(node.pid, signal.SIGKILL)
        node.wait()


if __name__ == "__main__":
    _main()
