"""Searches by a picture, and by text over pictures, in an index whose texts do not describe looks."""

from __future__ import annotations

import io
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from shelfwise.retrieval.encoders.picture_encoder import load_picture_encoder
from shelfwise.retrieval.encoders.torch import gpu_ready
from shelfwise.retrieval.errors import MissingExtraError, PictureError, QueryError, UnknownProductError
from shelfwise.retrieval.index.faiss import FaissIndex, gpu_count
from shelfwise.retrieval.pictures import CATALOG_WIDTH, decode, on_white
from shelfwise.retrieval.records import ReasonKind
from shelfwise.retrieval.store.manifest import PICTURES_FOLDER
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.app import create_app
from shelfwise.service.demo.looks import STRIPES, Look
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.reasons import OF_PICTURE
from shelfwise.service.settings import ServiceSettings
from tests import pictured_store
from tests.machine import build_once
from tests.services import local_client

STRIPED_RED_SHIRT = pictured_store.picture_of("T-Shirt", Look("Red", STRIPES), 99)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    built = build_once(tmp_path_factory, "pictured-store", lambda folder: pictured_store.build(folder, cache))
    return Path(shutil.copytree(built / "index", tmp_path_factory.mktemp("pictured") / "index"))


@pytest.fixture(scope="module")
def looking(root: Path) -> Iterator[SearchEngine]:
    with SearchEngine.open(root) as engine:
        yield engine


def ids(engine: SearchEngine, text: str, count: int) -> list[str]:
    return [hit.product.id for hit in engine.search(text, size=count).hits]


def test_picture_is_read_from_a_path_and_filtered(looking: SearchEngine, tmp_path: Path) -> None:
    path = tmp_path / "shirt.webp"
    path.write_bytes(STRIPED_RED_SHIRT)
    found = looking.search_by_picture(path, size=3, filters="id IN (b0, b1, b4)")
    assert {hit.product.id for hit in found.hits} == {"b0", "b1", "b4"}
    assert found.hits[0].product.id == "b1"
    with pytest.raises(PictureError, match=r"gone\.webp cannot be used: its file cannot be read"):
        looking.search_by_picture(tmp_path / "gone.webp")


def test_text_finds_products_by_their_pictures(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # With so few products, most titles are similar to most pictures of their kind, so none stands out.
    monkeypatch.setattr("shelfwise.retrieval.index.picture_index.FLOOR", 0.0)
    monkeypatch.setattr("shelfwise.retrieval.index.picture_index.WEIGHT", 10.0)
    with SearchEngine.open(root, follow=False) as engine:
        assert set(ids(engine, "striped t-shirt", 2)) == {"t1", "t4"}
        assert set(ids(engine, "polka dot backpack", 2)) == {"b2", "b5"}


def test_hit_that_its_picture_moved_up_says_so(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shelfwise.retrieval.index.picture_index.FLOOR", 0.0)
    monkeypatch.setattr("shelfwise.retrieval.index.picture_index.WEIGHT", 10.0)
    with SearchEngine.open(root, follow=False) as engine:
        page = engine.search("striped t-shirt", size=18, reasons="auto", explain=True)
        first = page.hits[0]
        assert ReasonKind.LOOKS in {reason.kind for reason in first.reasons}
        assert "looks like what you searched for" in first.reason_line
        assert "外观与您搜索的相符" in engine.search("striped t-shirt", reasons="zh").hits[0].reason_line
        assert first.explanation
        (part,) = (each for each in first.explanation.contributions if each.name == OF_PICTURE)
        assert part.contribution > 0
        assert re.fullmatch(r"\d+\.\d deviations above unrelated pictures", part.value)
    (reason,) = (each for each in first.reasons if each.kind is ReasonKind.LOOKS)
    copy = Path(shutil.copytree(root, tmp_path / "index"))
    with SearchEngine.open(copy) as engine:
        engine.upsert([replace(first.product, images=("https://shop.example/new.jpg",))])
        assert ids(engine, "striped t-shirt", 18).index(first.product.id) == reason.ranks


def test_similar_by_looks_leaves_the_product_itself_out(looking: SearchEngine) -> None:
    found = [hit.product.id for hit in looking.similar("t1", size=17, by="looks").hits]
    assert "t1" not in found
    assert len(found) == 17
    assert found.index("t4") < found.index("b3")
    with pytest.raises(UnknownProductError):
        looking.similar("ghost", by="looks")
    with pytest.raises(QueryError, match="'text' or 'looks'"):
        looking.similar("t1", by="smell")  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_pictures_are_encoded_and_found_alike_on_cpu_and_gpu(root: Path, looking: SearchEngine, device: str) -> None:
    if device == "cuda" and not (gpu_ready() and gpu_count()):
        pytest.skip("no GPU that torch and faiss can use")
    pictures, version = looking.snapshot.pictures, looking.manifest.version
    assert pictures
    encoder = load_picture_encoder(root / "encoders" / pictures.index.info.encoder)
    encoder._model.to(device)
    (vector,) = encoder.encode_pictures([on_white(decode(STRIPED_RED_SHIRT, CATALOG_WIDTH))])
    assert vector == pytest.approx(pictures.encode(STRIPED_RED_SHIRT), abs=1e-3)
    assert encoder.encode_queries(["striped"]) == pytest.approx(pictures.encoder.encode_queries(["striped"]), abs=1e-3)
    searched = FaissIndex(Store(root).version_folder(version) / PICTURES_FOLDER, gpu=device == "cuda")
    found = replace(pictures.index, vectors=searched).nearest(vector, 18)
    assert found.rows.tolist() == pictures.index.nearest(vector, 18).rows.tolist()


def large(side: int) -> bytes:
    output = io.BytesIO()
    Image.new("1", (side, side)).save(output, "PNG")
    return output.getvalue()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JPEG"),
        (b"%PDF-1.7", "not JPEG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not JPEG"),
        (STRIPED_RED_SHIRT[:200], "damaged"),
        (bytes(10_000_001), "more than 10,000,000 bytes"),
        (large(10_000), "more than 40,000,000 pixels"),
        (large(20_000), "more than 40,000,000 pixels"),
    ],
)
def test_file_that_is_no_picture_is_refused(looking: SearchEngine, content: bytes, reason: str) -> None:
    with pytest.raises(PictureError, match=reason):
        looking.search_by_picture(content)


def test_first_frame_of_an_animation_counts(looking: SearchEngine) -> None:
    with Image.open(io.BytesIO(STRIPED_RED_SHIRT)) as first:
        output = io.BytesIO()
        first.save(output, "GIF", save_all=True, append_images=[Image.new("RGB", first.size)] * 20)
    assert looking.search_by_picture(output.getvalue(), size=1).hits[0].product.id == "t1"


def test_live_change_of_a_picture_hides_it_until_the_next_rebuild(root: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "index"))
    with SearchEngine.open(copy) as engine:
        engine.patch("t1", price=9.0)
        engine.upsert([replace(engine.product("t1"), description="With its picture, which is a file.")])
        assert engine.search_by_picture(STRIPED_RED_SHIRT, size=1).hits[0].product.id == "t1"
        engine.delete(["t1"])
        engine.upsert([replace(engine.product("t4"), images=("https://shop.example/new.jpg",))])
        found = {hit.product.id for hit in engine.search_by_picture(STRIPED_RED_SHIRT, size=20).hits}
        assert found == {each.id for each in pictured_store.products()} - {"t1", "t4"}
        assert not engine.similar("t4", by="looks").hits


def test_index_without_pictures_says_so(engine: SearchEngine) -> None:
    assert engine.snapshot.pictures is None
    with pytest.raises(QueryError, match="shelfwise rebuild INDEX FEED --pictures MODEL"):
        engine.search_by_picture(STRIPED_RED_SHIRT)


def test_damaged_model_of_pictures_leaves_the_rest(root: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "index"))
    info = Store(copy).find_serving().manifest.pictures
    assert info
    (copy / "encoders" / info.encoder / "model" / "model.safetensors").write_bytes(b"lost")
    with SearchEngine.open(copy, follow=False) as engine:
        assert engine.search("t-shirt").hits
        assert engine.snapshot.pictures is None
        assert "pictures are not searched" in engine.notices[0]


def test_search_by_picture_names_the_extra_that_it_lacks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "shelfwise.retrieval.encoders.picture_encoder", raising=False)
    monkeypatch.delitem(sys.modules, "shelfwise.retrieval.encoders.torch", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    missing = r"this needs torch, which is not installed: pip install 'shelfwise\[train\]'"
    with SearchEngine.open(root, follow=False) as engine:
        assert re.search(missing, engine.notices[0])
        with pytest.raises(MissingExtraError, match=missing):
            engine.search_by_picture(STRIPED_RED_SHIRT)
        with local_client(create_app(engine, ServiceSettings())) as client:
            assert client.post("/v1/search/picture", content=STRIPED_RED_SHIRT).status_code == 501


@pytest.fixture
def shop(looking: SearchEngine) -> Iterator[TestClient]:
    with local_client(create_app(looking, ServiceSettings())) as client:
        yield client


def test_route_takes_a_picture_as_its_body(shop: TestClient) -> None:
    found = shop.post("/v1/search/picture", params={"size": 2, "fields": "title"}, content=STRIPED_RED_SHIRT)
    assert found.status_code == 200
    hits = found.json()["hits"]
    assert hits[0]["product"]["id"] == "t1"
    assert len(hits) == 2
    refused = shop.post("/v1/search/picture", content=b"<svg/>")
    assert refused.status_code == 400
    reason = "the picture cannot be used: it is not JPEG, PNG, WebP or GIF, or it is damaged"
    assert refused.json()["error"]["message"] == reason
    message = shop.post("/v1/search/picture", files={"file": STRIPED_RED_SHIRT}).json()["error"]["message"]
    assert message.startswith("the body is not a picture; send the file itself, not a form")
    assert shop.post("/v1/search/picture", content=b"").json()["error"]["message"] == reason


def test_route_of_similar_products_goes_by_looks(shop: TestClient) -> None:
    found = shop.get("/v1/products/t1/similar", params={"by": "looks", "size": 1})
    assert found.json()["hits"][0]["product"]["id"] in {"t4", "t0", "t2"}


def test_picture_of_a_file_is_sent_from_the_rebuild_s_copy(shop: TestClient) -> None:
    sent = shop.get("/v1/products/t1/pictures/0", params={"width": 160}, headers={"Accept": "image/webp"})
    assert sent.status_code == 200
    with Image.open(io.BytesIO(sent.content)) as picture:
        assert picture.size == (160, 160)


def test_page_knows_that_pictures_are_searched(shop: TestClient) -> None:
    assert shop.get("/assets/store.json").json()["searches_pictures"] is True
