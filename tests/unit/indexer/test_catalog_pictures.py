"""Pictures in a rebuild: read or fetched, encoded once, with counted failures, and resumed."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from shelfwise.indexer import pictures
from shelfwise.indexer.build import RebuildReport
from shelfwise.indexer.pictures import NONE, PictureOptions
from shelfwise.retrieval.errors import EncoderUnavailableError
from shelfwise.retrieval.index.faiss import FaissIndex, PreviousVectors, VectorIndexKind, build_index
from shelfwise.retrieval.pictures import CatalogPictures, PictureCache, PictureFetcher, PictureKeys, is_public
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.manifest import PICTURES_FOLDER
from shelfwise.service.demo.catalog import PICTURE_MODEL
from shelfwise.service.demo.looks import DOTS, Look
from tests import pictured_store
from tests.unit.indexer.conftest import Shop

_MODEL = str(PICTURE_MODEL)
PRODUCTS = pictured_store.products()[:6]


@pytest.fixture
def shop(tmp_path: Path, cache: Path) -> Shop:
    pictured_store.write_pictures(tmp_path / "pictures")
    return Shop(tmp_path / "index", cache)


def build(
    shop: Shop,
    products: list[Product] = PRODUCTS,
    model: str = _MODEL,
    **more: Any,  # noqa: ANN401
) -> RebuildReport:
    folder = shop.root.with_name("pictures")
    return shop.rebuild(
        products,
        progress=more.pop("progress", None),
        force=True,
        pictures=PictureOptions(model, more.pop("folder", folder), **more),
    )


class Counting(NullProgress):
    """Counts the encoded pictures, and stops the run after `most`."""

    def __init__(self, most: int = 1_000) -> None:
        self.encoded, self._phase, self._most = 0, "", most

    def begin(self, phase: str, total: int | None, unit: str) -> None:
        self._phase = phase

    def advance(self, count: int) -> None:
        if self._phase == "encode pictures":
            self.encoded += count
            if self.encoded >= self._most:
                raise KeyboardInterrupt


def encoded(shop: Shop, products: list[Product] = PRODUCTS, **more: Any) -> int:  # noqa: ANN401
    """Number of pictures that a rebuild encodes."""
    progress = Counting()
    build(shop, products, progress=progress, **more)
    return progress.encoded


def test_only_changed_pictures_are_encoded_again(shop: Shop) -> None:
    assert encoded(shop) == 6
    report = build(shop)
    assert not report.published
    assert report.pictures
    assert report.pictures.pictures == 6
    folder = shop.root.with_name("pictures")
    (folder / "t0.webp").write_bytes(pictured_store.picture_of("Backpack", Look("Green", DOTS)))
    first = np.load(shop.folder / PICTURES_FOLDER / "vectors.npy")
    assert encoded(shop, model="") == 1
    second = np.load(shop.folder / PICTURES_FOLDER / "vectors.npy")
    assert (first != second).any(axis=1).tolist() == [True, *[False] * 5]
    assert build(shop, model=NONE).pictures is None
    assert not (shop.folder / PICTURES_FOLDER).exists()


def test_index_of_many_pictures_is_extended(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    extended: list[PreviousVectors | None] = []

    def quantised(folder: Path, before: PreviousVectors | None = None) -> VectorIndexKind:
        extended.append(before)
        return build_index(folder, VectorIndexKind.QUANTISED, before)

    monkeypatch.setattr(pictures, "build_index", quantised)
    build(shop)
    before = shop.folder
    changed = [replace(PRODUCTS[0], images=("file:b0.webp",)), *PRODUCTS[1:]]
    build(shop, changed)
    first, second = extended
    assert first is None
    assert second
    assert (second.folder, second.rows.tolist()) == (before / PICTURES_FOLDER, [-1, 1, 2, 3, 4, 5])
    found = FaissIndex(shop.folder / PICTURES_FOLDER)
    assert [found.search(found.vector(row), 1).rows.tolist() for row in range(6)] == [[row] for row in range(6)]


def test_equal_pictures_are_encoded_once(shop: Shop) -> None:
    alike = [replace(each, images=("file:t0.webp",)) for each in PRODUCTS]
    assert encoded(shop, alike) == 1
    vectors = np.load(shop.folder / PICTURES_FOLDER / "vectors.npy")
    assert (vectors == vectors[0]).all()


def test_pictures_that_cannot_be_used_are_counted_with_their_reasons(shop: Shop) -> None:
    folder = shop.root.with_name("pictures")
    (folder / "text.webp").write_text("no picture")
    (folder / "inside").symlink_to("/etc")
    (folder / "folder.webp").mkdir()
    outside = ("file:../feed.jsonl", "file:///etc/passwd", "file:inside/passwd", "file://host/t0.webp")
    bad = ("file:text.webp", "file:gone.webp", "file:folder.webp", *outside)
    named = [Product(f"x{number}", f"Thing {number}", images=(each,)) for number, each in enumerate(bad)]
    report = build(shop, [*PRODUCTS, *named, Product("y", "Thing without a picture")])
    assert report.pictures
    assert report.pictures.pictures == 6
    expected = {
        "it is a file outside the folder of pictures": 4,
        "it is not JPEG, PNG, WebP or GIF, or it is damaged": 1,
        "it is not a file": 1,
        "its file cannot be read (No such file or directory)": 1,
    }
    assert report.pictures.failed == expected
    quality = json.loads((shop.root / "quality.json").read_bytes())
    assert quality["pictures"] == expected
    assert "outside the folder of pictures" in (shop.root / "quality.html").read_text("utf-8")


def test_no_file_is_read_without_a_folder(shop: Shop) -> None:
    report = build(shop, folder=None)
    assert report.pictures
    assert report.pictures.failed == {"it is a file, and no folder of pictures is set": 6}
    assert report.pictures.pictures == 0


def test_stopped_rebuild_resumes_with_its_encoded_pictures(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_TOGETHER", 2)
    with pytest.raises(KeyboardInterrupt):
        build(shop, progress=Counting(4))
    assert encoded(shop) == 2


def test_model_that_reads_no_pictures_is_refused(shop: Shop) -> None:
    with pytest.raises(EncoderUnavailableError, match="does not read pictures"):
        build(shop, model="all-MiniLM-L6-v2")
    with pytest.raises(EncoderUnavailableError, match="no-such-model"):
        build(shop, model="no-such-model")


Answer = tuple[int, Mapping[str, str]]


class PictureServer(BaseHTTPRequestHandler):
    """Sends each path its answers in turn, and repeats the last one; the picture depends on how many are left."""

    answers: ClassVar[dict[str, list[Answer]]] = {}
    requests: ClassVar[list[tuple[str, float]]] = []
    running: ClassVar[list[int]] = [0, 0]
    lock: ClassVar[threading.Lock] = threading.Lock()

    def do_GET(self) -> None:
        with self.lock:
            self.requests.append((self.path, time.monotonic()))
            self.running[0] += 1
            self.running[1] = max(self.running)
        threading.Event().wait(0.05)
        with self.lock:
            self.running[0] -= 1
        waiting = self.answers.get(self.path, [(200, {})])
        seed = len(self.path) + 100 * len(waiting)
        status, headers = waiting[0] if len(waiting) == 1 else waiting.pop(0)
        self.send_response(status)
        for name, value in {"Content-Type": "image/webp", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if status == 200:
            self.wfile.write(pictured_store.picture_of("Backpack", Look("Green", DOTS), seed))

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    PictureServer.answers.clear()
    PictureServer.requests.clear()
    PictureServer.running[:] = [0, 0]
    server = ThreadingHTTPServer(("127.0.0.1", 0), PictureServer)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def test_pictures_are_fetched_once_and_a_few_at_a_time(
    shop: Shop, server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shelfwise.indexer.pictures.PER_HOST", 2)
    port = server.server_port
    make_fetcher = partial(
        PictureFetcher,
        resolve=lambda host, _port: {"shop.example": ["127.0.0.1"], "inner.example": ["10.0.0.7"]}.get(host, [host]),
        allows=lambda address, number: (address, number) == ("127.0.0.1", port) or is_public(address, number),
    )
    images = [f"http://shop.example:{port}/{'x' * number}.webp" for number in range(4)]
    images += ["http://inner.example/a.webp", f"http://shop.example:{port}/moved"]
    PictureServer.answers["/moved"] = [(302, {"Location": "http://169.254.169.254/"})]
    products = [replace(each, images=(image,)) for each, image in zip(PRODUCTS, images, strict=True)]
    options: dict[str, Any] = {"make_fetcher": make_fetcher}
    report = build(shop, products, **options)
    assert report.pictures
    assert report.pictures.pictures == 4
    assert report.pictures.failed == {"its address is not public": 2}
    assert len(PictureServer.requests) == 5
    assert PictureServer.running[1] <= 2
    assert not build(shop, products, **options).published
    assert len(PictureServer.requests) == 5


@dataclass
class Fetching:
    """Fetches pictures of a scripted server into a cache, as in successive rebuilds."""

    folder: Path
    port: int

    def __call__(self, answers: Mapping[str, Sequence[Answer]]) -> PictureKeys:
        """Fetches the pictures of some paths; then makes the cached ones eight days older."""
        PictureServer.answers.update({path: [*each] for path, each in answers.items()})
        PictureServer.requests.clear()
        make_fetcher = partial(PictureFetcher, 4, 2, lambda _host, _port: ["127.0.0.1"], lambda _address, _port: True)
        found = CatalogPictures(PictureCache(self.folder, 10_000_000), None, make_fetcher, 4).keys(
            [f"http://shop.example:{self.port}{path}" for path in answers], lambda _: None
        )
        for path in self.folder.iterdir():
            os.utime(path, (time.time(), path.stat().st_mtime - 8 * 86_400))
        return found

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in PictureServer.requests]


@pytest.fixture
def fetching(tmp_path: Path, server: ThreadingHTTPServer) -> Fetching:
    return Fetching(tmp_path / "cache", server.server_port)


def test_old_picture_is_fetched_again(fetching: Fetching) -> None:
    first = fetching({"/a": [(200, {})]})
    assert fetching({"/a": [(200, {}), (500, {})]}).keys != first.keys
    assert fetching.paths == ["/a"]


def test_picture_is_requested_again_after_the_delay_of_the_server(fetching: Fetching) -> None:
    found = fetching({"/a": [(429, {"Retry-After": "1"}), (200, {})]})
    assert len(found.keys) == 1
    first, second = (time for _, time in PictureServer.requests)
    assert 0.9 < second - first < 10


@pytest.mark.parametrize("wait", ["3600", "Wed, 30 Nov 2089 10:00:00 GMT"])
def test_server_with_a_delay_of_an_hour_gets_no_more_requests(fetching: Fetching, wait: str) -> None:
    found = fetching({f"/{number}": [(503, {"Retry-After": wait})] for number in range(10)})
    assert len(fetching.paths) <= 2
    assert found.failed == {"its server did not respond before, or asked to wait": 10}


def test_server_that_is_down_gets_few_requests_and_old_pictures_stay(fetching: Fetching) -> None:
    before = fetching({f"/{number}": [(200, {})] for number in range(20)})
    down: dict[str, list[Answer]] = {f"/{number}": [(500, {})] for number in range(30)}
    found = fetching(down)
    assert len(fetching.paths) <= 9
    assert (found.keys, found.old, found.failed.total()) == (before.keys, 20, 10)
    # A picture that the server reports as missing is removed.
    assert not fetching({"/0": [(404, {})]}).keys


def test_rebuild_keeps_all_of_its_own_pictures_and_no_others(tmp_path: Path) -> None:
    PictureCache(tmp_path / "cache", 10_000).write("old", bytes(5_000))
    os.utime(tmp_path / "cache" / "old", (1.0, 1.0))
    own = PictureCache(tmp_path / "cache", 10_000, keeps_used=True)
    for number in range(20):
        own.write(f"{number}", bytes(1_000))
    assert {path.name for path in (tmp_path / "cache").iterdir()} == set(map(str, range(20)))
