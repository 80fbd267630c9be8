"""Serves a page of this folder and the files of npm packages, at another origin than the search service."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_HERE = Path(__file__).parent
_NPM = "/npm/"


class _Files(SimpleHTTPRequestHandler):
    def __init__(self, *args: object, packages: Path, **more: object) -> None:
        self._packages = packages
        super().__init__(*args, directory=str(_HERE), **more)  # type: ignore[arg-type]

    def translate_path(self, path: str) -> str:
        """Of the packages what is asked for below /npm/."""
        if not path.startswith(_NPM):
            return super().translate_path(path)
        self.directory, before = str(self._packages), self.directory
        try:
            return super().translate_path(path.removeprefix(_NPM.rstrip("/")))
        finally:
            self.directory = before

    def log_message(self, *_told: object) -> None:
        """Nothing: the tests say what went wrong."""


@contextmanager
def page_server(packages: Path) -> Iterator[str]:
    """The address of the folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Files, packages=packages))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
