"""The test servers: they respond, enforce security, and leave no processes or files behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.machine import within
from tests.servers.server import Server

ROOT = Path(__file__).parents[2]
START = """
import time
from tests.servers.server import start
server = start()
print(server.port, server.folder, flush=True)
time.sleep(600)
"""


def is_open(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


eventually = partial(within, 10)


@pytest.mark.slow
@pytest.mark.elasticsearch
def test_a_killed_process_leaves_no_server_behind(elasticsearch: Server) -> None:
    with subprocess.Popen([sys.executable, "-c", START], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        port, folder = process.stdout.readline().split()
        was_open = is_open(int(port))
        os.kill(process.pid, signal.SIGKILL)
    assert was_open
    assert eventually(lambda: not is_open(int(port)))
    assert eventually(lambda: not Path(folder).exists())
    assert is_open(elasticsearch.port)
