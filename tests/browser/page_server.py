"""An HTTP server for the pages of this folder and of others, at another origin than the service."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_HERE = Path(__file__).parent


class _Files(SimpleHTTPRequestHandler):
    def __init__(self, *args: object, folders: Mapping[str, Path], **more: object) -> None:
        self._folders = folders
        super().__init__(*args, directory=str(_HERE), **more)  # type: ignore[arg-type]

    def translate_path(self, path: str) -> str:
        """The file of the folder that the path's first part names, else of this folder."""
        _, first, *rest = path.split("/", 2)
        if first not in self._folders or not rest:
            return super().translate_path(path)
        self.directory, before = str(self._folders[first]), self.directory
        try:
            return super().translate_path(f"/{rest[0]}")
        finally:
            self.directory = before

    def log_message(self, *_arguments: object) -> None:
        """Logs nothing: failing tests report errors."""


@contextmanager
def page_server(**folders: Path) -> Iterator[str]:
    """The address of a server of this folder, with other folders under their names."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Files, folders=folders))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
