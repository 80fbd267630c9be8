"""A real Prometheus, configured as compose.yaml has it, over a real service: it reads the metrics with its key, loads
the alerts, and every panel of the dashboard gets an answer."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import yaml

from service.http.auth import KEYS_FILE, KeyFile, Scope
from tests.deploy.documents import ALERTS, DEPLOY, Document, alerts, documents, expressions, filled_in
from tests.machine import within
from tests.servers.skips import program_or_skip
from tests.services import Service, made, service

_VARIABLES = {"$__rate_interval": "30s", "$job": ".*", "$instance": ".*"}
_ALWAYS_THERE = (
    "Requests a second by route A",
    "Searches C",
    "What serves A",
    "Ready A",
    "Requests in progress B",
    "Memory A",
)


class Prometheus:
    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}/api/v1"

    def get(self, path: str, **parameters: str) -> Document:
        """Raises HTTPError, too, while it starts: it says so in plain text."""
        told = httpx2.get(f"{self._address}/{path}", params=parameters, timeout=10)
        answer = told.raise_for_status().json()
        assert answer["status"] == "success", answer
        data: Document = answer["data"]
        return data

    def is_scraping(self) -> bool:
        try:
            targets = self.get("targets")["activeTargets"]
        except httpx2.HTTPError:
            return False
        return [each["health"] for each in targets] == ["up"]

    def value(self, expression: str) -> list[Any]:
        found: list[Any] = self.get("query", query=expression)["result"]
        return found


@contextmanager
def prometheus(folder: Path, running: Service, key: str) -> Iterator[Prometheus]:
    program = program_or_skip("prometheus", "prometheus")
    (told,) = documents(DEPLOY / "prometheus" / "prometheus.yaml")
    (folder / "key").write_text(key)
    (job,) = told["scrape_configs"]
    job["static_configs"][0]["targets"] = [f"127.0.0.1:{running.port}"]
    job["authorization"]["credentials_file"] = str(folder / "key")
    told["rule_files"] = [str(ALERTS)]
    told["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(told))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [
        program,
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - a program of the system
    try:
        yield Prometheus(port)
    finally:
        process.kill()
        process.wait()


def test_prometheus_reads_a_service_with_its_key_and_answers_every_panel(demo_index: Path, tmp_path: Path) -> None:
    index = Path(shutil.copytree(demo_index, tmp_path / "store"))
    keys = KeyFile(index / KEYS_FILE)
    searching, watching = made(keys, Scope.SEARCH), made(keys, Scope.METRICS)
    with service(index, tmp_path / "log") as running, prometheus(tmp_path, running, watching) as watcher:
        assert within(20, watcher.is_scraping), (tmp_path / "log").read_text("utf-8")
        for number in range(20):
            path = f"/v1/search?q=drill&size={number}"
            httpx2.get(f"{running.address}{path}", headers={"X-API-Key": searching}, timeout=10)
        asked = {name: filled_in(expression, _VARIABLES) for name, expression in expressions()}
        # A rate needs two looks at what a search made.
        assert within(20, lambda: all(watcher.value(asked[name]) for name in _ALWAYS_THERE))
        for expression in asked.values():
            watcher.value(expression)
        loaded = [rule for group in watcher.get("rules")["groups"] for rule in group["rules"]]
        assert {rule["name"] for rule in loaded} == {alert["alert"] for alert in alerts()}
        assert {rule["health"] for rule in loaded} <= {"ok", "unknown"}
        assert not watcher.value('ALERTS{alertstate="firing"}')
