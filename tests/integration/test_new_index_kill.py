"""A service that is killed while clients write to new indexes."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

from shelfwise.service.app import create_app
from shelfwise.service.http.auth import KEYS_FILE, KeyFile, Scope
from shelfwise.service.settings import ServiceSettings
from tests.services import TLS, add_key, local_client, service


def test_a_killed_service_loses_no_acknowledged_write_to_a_new_index(demo_index: Path, tmp_path: Path) -> None:
    stores = tmp_path / "stores"
    shutil.copytree(demo_index, stores / "shop")
    headers = {"X-Algolia-API-Key": add_key(KeyFile(stores / KEYS_FILE), Scope.ADMIN)}
    acknowledged: list[str] = []

    with service(stores, tmp_path / "log") as running, ThreadPoolExecutor(4) as threads:

        def write(name: str) -> None:
            try:
                url = f"{running.address}/1/indexes/{name}/k"
                sent = httpx2.put(url, json={"name": "Kettle"}, headers=headers, timeout=60, verify=TLS)
            except httpx2.HTTPError:
                return
            assert sent.status_code == 200, sent.text
            acknowledged.append(name)

        writes = {name: threads.submit(write, name) for name in ("one", "two", "three", "four")}
        while not acknowledged and not all(each.done() for each in writes.values()):
            time.sleep(0.001)
        running.process.kill()  # while the others are being created
        [each.result() for each in writes.values()]
    assert acknowledged
    with local_client(create_app(stores, ServiceSettings())) as client:
        for name in writes:
            found = client.get(f"/1/indexes/{name}/k", headers=headers)
            assert found.status_code == 200 or name not in acknowledged, (name, found.text)
        assert client.put("/1/indexes/after/k", json={"name": "Kettle"}, headers=headers).status_code == 200
        assert not client.app.state.indexes.notices  # type: ignore[attr-defined]
