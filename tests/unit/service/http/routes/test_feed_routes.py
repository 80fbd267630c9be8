"""Feeds over HTTP: uploads are limited, checked, and published only on request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.requests import ClientDisconnect

from shelfwise.service.app import FEEDS_FOLDER, create_app
from shelfwise.service.curation.switches import ServedSwitches, SwitchedPart
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.http.errors import RequestError
from shelfwise.service.http.routes import feed_routes
from shelfwise.service.http.routes.feed_routes import FeedFolder
from shelfwise.service.http.tasks import UPLOADS, TaskState
from shelfwise.service.settings import ServiceSettings
from tests.machine import within
from tests.services import local_client

FEED = b"id,title,price\n1,Lamp,19.90\n2,Shade,cheap\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "feeds"
    made.mkdir()
    return made


@pytest.fixture
def calling(store: SearchEngine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(feed_routes, "FEED_BYTES", 3_000_000)
    settings = ServiceSettings(feeds=folder, body_bytes=1_000)
    with local_client(create_app(store, settings)) as client:
        yield client


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != "lock")


def test_upload_is_checked_and_published_on_request(calling: TestClient, folder: Path) -> None:
    uploaded = calling.put("/v1/feeds/uploads/lamps.csv", content=FEED)
    assert uploaded.status_code == 201
    assert names(folder) == ["lamps.csv"]
    listed = calling.get("/v1/feeds").json()
    assert (listed["enabled"], listed["feeds"], listed["most_bytes"]) == (True, [], 3_000_000)
    task = f"/v1/tasks/{uploaded.json()['check']['id']}"
    assert within(60, lambda: calling.get(task).json()["state"] == TaskState.DONE)
    (upload,) = calling.get("/v1/feeds").json()["uploads"]
    (rejected,) = upload["check"]["result"]["rejected"]["broken price"]["examples"]
    assert (upload["file"]["name"], upload["file"]["bytes"], rejected["line"]) == ("lamps.csv", len(FEED), 3)
    refused = calling.post("/v1/feeds/uploads/lamps.csv/publish", json={"feeds": ["nosuch.csv"]})
    assert (refused.status_code, calling.get("/v1/feeds").json()["feeds"]) == (400, [])
    published = calling.post("/v1/feeds/uploads/lamps.csv/publish", json={})
    assert (published.status_code, published.json()["kind"]) == (202, "rebuild")
    assert published.json()["arguments"] == {"feeds": ["lamps.csv"]}
    calling.post(f"/v1/tasks/{published.json()['id']}/cancel")
    assert ((folder / "lamps.csv").read_bytes(), calling.get("/v1/feeds").json()["uploads"]) == (FEED, [])


def test_columns_are_mapped_in_the_check_and_so_in_the_publication(calling: TestClient) -> None:
    def check(task: dict[str, Any]) -> dict[str, Any]:
        assert within(60, lambda: calling.get(f"/v1/tasks/{task['id']}").json()["state"] not in ("waiting", "running"))
        ended: dict[str, Any] = calling.get(f"/v1/tasks/{task['id']}").json()
        return ended

    feed = b"Nummer;Name;Preis\na1;Lamp one;19,90\na2;Lamp two;29,90\n"
    uploaded = calling.put("/v1/feeds/uploads/lampen.csv", content=feed).json()
    assert "--map id=Nummer" in check(uploaded["check"])["error"]
    assert calling.post("/v1/feeds/uploads/nosuch.csv/check", json={}).status_code == 404
    again = calling.post("/v1/feeds/uploads/lampen.csv/check", json={"map": ["id=Nummer"]})
    ended = check(again.json())
    assert (again.status_code, ended["state"], ended["result"]["products"]) == (202, "done", 2)
    assert "--map price=Preis" in ended["result"]["noted"]["price: no column is mapped"]["examples"][0]["title"]
    published = calling.post("/v1/feeds/uploads/lampen.csv/publish", json={}).json()
    assert published["arguments"] == {"feeds": ["lampen.csv"], "map": ["id=Nummer"]}
    calling.post(f"/v1/tasks/{published['id']}/cancel")


def test_changed_upload_is_published_after_its_own_check(calling: TestClient, folder: Path) -> None:
    (folder / UPLOADS).mkdir()
    (folder / UPLOADS / "lamps.csv").write_bytes(FEED)
    refused = calling.post("/v1/feeds/uploads/lamps.csv/publish", json={})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "unchecked")
    assert calling.delete("/v1/feeds/uploads/lamps.csv").json()["uploads"] == []
    assert calling.delete("/v1/feeds/uploads/lamps.csv").status_code == 404


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("big.csv", b"x" * 3_000_001, 413),
        ("empty.csv", b"", 400),
        (".hidden.csv", FEED, 400),
        ("lock", FEED, 400),
        ("a%2F..%2Fb.csv", FEED, 404),
        ("..%5Cb.csv", FEED, 400),
        ("n" * 121, FEED, 400),
    ],
)
def test_invalid_upload_leaves_nothing(
    calling: TestClient, folder: Path, name: str, content: bytes, status: int
) -> None:
    assert calling.put(f"/v1/feeds/uploads/{name}", content=content).status_code == status
    assert calling.put(f"/v1/feeds/uploads/{name}", content=iter([content])).status_code == status  # without a length
    assert names(folder) == []


def test_uploads_are_switched_on_where_no_setting_decides(
    store: SearchEngine, client: TestClient, calling: TestClient
) -> None:
    assert client.get("/v1/feeds").json()["enabled"] is False
    refused = client.put("/v1/feeds/uploads/a.csv", content=FEED)
    assert "switch them on in the tab Feeds" in refused.json()["error"]["message"]
    assert client.put("/v1/switches/feeds", json={"on": True}).json() == {"revision": 1}
    other = ServedSwitches(store.root)
    assert other.is_on(SwitchedPart.FEEDS)
    assert not other.is_on(SwitchedPart.SPONSORED)
    assert client.put("/v1/feeds/uploads/a.csv", content=FEED).status_code == 201
    assert names(store.root / FEEDS_FOLDER) == ["a.csv"]
    client.put("/v1/switches/feeds", json={"on": False})
    assert client.get("/v1/feeds").json() == {**client.get("/v1/feeds").json(), "enabled": False, "uploads": []}
    decided = calling.put("/v1/switches/feeds", json={"on": False})
    assert (decided.status_code, decided.json()["error"]["code"]) == (409, "decided_by_setting")
    assert "service.feeds" in decided.json()["error"]["message"]


async def parts(*pieces: bytes, then: Exception | None = None, pause: float = 0) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    await asyncio.sleep(pause)
    if then is not None:
        raise then


def test_interrupted_upload_leaves_nothing(folder: Path) -> None:
    feeds = FeedFolder(folder, 1_000, pause_seconds=0.01)
    for content, status in ((parts(FEED, then=ClientDisconnect()), 400), (parts(FEED, pause=30), 408)):
        with pytest.raises(RequestError) as refused:
            asyncio.run(feeds.store("lamps.csv", content))
        assert (refused.value.status, names(folder)) == (status, [])


def test_next_upload_removes_files_of_a_killed_one(folder: Path) -> None:
    feeds = FeedFolder(folder, 1_000, pause_seconds=10)
    (folder / UPLOADS).mkdir()
    (folder / UPLOADS / ".other.csv.new").write_bytes(b"id,ti")
    assert feeds.uploads() == ()
    assert asyncio.run(feeds.store("lamps.csv", parts(FEED[:5], FEED[5:]))).bytes == len(FEED)
    assert names(folder) == ["lamps.csv"]


def test_one_feed_is_uploaded_at_a_time(folder: Path) -> None:
    feeds = FeedFolder(folder, 1_000, pause_seconds=10)

    async def both() -> list[object]:
        stores = (feeds.store(name, parts(FEED, pause=0.05)) for name in ("one.csv", "other.csv"))
        return await asyncio.gather(*stores, return_exceptions=True)

    _, other = asyncio.run(both())
    assert isinstance(other, RequestError)
    assert (other.status, names(folder)) == (409, ["one.csv"])
