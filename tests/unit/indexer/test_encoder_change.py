"""Which texts a rebuild encodes: with another encoder all, once; with the same one only what nobody encoded before."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

import indexer.embedding
from indexer.build import RebuildOptions, RebuildReport, rebuild
from retrieval.encoders.base import Tokens
from retrieval.encoders.onnx import OnnxEncoder
from retrieval.encoders.registry import open_encoder, store_encoder
from retrieval.errors import EncoderError
from retrieval.index.vectors import VECTORS_FILE
from retrieval.records import Availability, Product
from retrieval.store.manifest import VECTORS_FOLDER
from retrieval.store.versions import Store
from service.engine.engine import SearchEngine
from tests.catalogs import write_feed
from tests.conftest import ENCODER
from tests.unit.rerank.text_towers.tiny_towers import make_encoder

CATALOG = tuple(
    Product(f"p{place:02d}", f"{what} {place}", price=9.0) for place, what in enumerate(("drill", "saw") * 5)
)


@dataclasses.dataclass
class Encoded:
    texts: list[str] = dataclasses.field(default_factory=list)
    fails_after: int | None = None


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Encoded:
    seen, encode = Encoded(), OnnxEncoder.encode_products_with_tokens

    def counting(
        encoder: OnnxEncoder, texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> tuple[NDArray[np.float32], list[Tokens]]:
        if seen.fails_after is not None and len(seen.texts) + len(texts) > seen.fails_after:
            raise EncoderError("the device is gone")
        seen.texts += texts
        return encode(encoder, texts, progress)

    monkeypatch.setattr(OnnxEncoder, "encode_products_with_tokens", counting)
    return seen


@pytest.fixture(scope="session")
def other_encoder(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = store_encoder(open_encoder(ENCODER, "onnx-int8", cache), tmp_path_factory.mktemp("encoders") / "other")
    spec = msgspec.json.decode((folder / "encoder.json").read_bytes())
    (folder / "encoder.json").write_bytes(msgspec.json.encode({**spec, "identity": "other", "name": "other"}))
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("models") / "trained")


@dataclasses.dataclass(frozen=True)
class Shop:
    root: Path
    cache: Path

    def rebuild(self, products: Sequence[Product] = CATALOG, encoder: str | Path = ENCODER) -> RebuildReport:
        feed = write_feed(self.root.with_name("feed.jsonl"), products)
        options = RebuildOptions((str(feed),), self.cache, encoder=str(encoder), runtime="onnx-int8", workers=1)
        return rebuild(self.root, options)

    def vectors(self) -> NDArray[np.float32]:
        folder = Store(self.root).version_folder(Store(self.root).current())
        return np.array(np.load(folder / VECTORS_FOLDER / VECTORS_FILE))


@pytest.fixture
def shop(tmp_path: Path, cache: Path, encoded: Encoded) -> Shop:
    made = Shop(tmp_path / "index", cache)
    made.rebuild()
    encoded.texts.clear()
    return made


def changed(**values: object) -> list[Product]:
    return [dataclasses.replace(CATALOG[0], **values), *CATALOG[1:]]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [
        {"price": 1.0, "currency": "EUR"},
        {"availability": Availability.OUT_OF_STOCK, "attributes": {"stock": 0.0}},
        {"rating": 4.5, "rating_count": 10, "identifiers": {"ean": ("4006381333931",)}},
    ],
)
def test_prices_stock_and_ratings_encode_nothing(shop: Shop, encoded: Encoded, values: dict[str, object]) -> None:
    before = shop.vectors()
    report = shop.rebuild(changed(**values))
    assert (report.published, report.encoded, encoded.texts) == (True, 0, [])
    assert np.array_equal(shop.vectors(), before)


def test_a_changed_text_is_encoded_alone_and_found_again_when_it_comes_back(shop: Shop, encoded: Encoded) -> None:
    before = shop.vectors()
    shop.rebuild(changed(title="band saw"))
    assert encoded.texts == ["band saw"]
    shop.rebuild()
    assert encoded.texts == ["band saw"]
    assert np.array_equal(shop.vectors(), before)


def test_going_back_to_an_encoder_finds_its_vectors_in_the_versions_kept(
    shop: Shop, encoded: Encoded, other_encoder: Path
) -> None:
    before = shop.vectors()
    there = shop.rebuild(encoder=other_encoder)
    assert (there.version, there.published, there.encoded, len(encoded.texts)) == ("v000002", True, 10, 10)
    assert Store(shop.root).serving()[0].encoder == "other"
    encoded.texts.clear()
    back = shop.rebuild(changed(title="band saw"))
    assert (back.version, back.encoded, encoded.texts) == ("v000003", 1, ["band saw"])
    assert np.array_equal(shop.vectors()[1:], before[1:])


def test_a_folder_is_known_from_any_working_directory(
    cache: Path, tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(tmp_path / "store", cache)
    monkeypatch.chdir(trained.parent)
    shop.rebuild(encoder=trained.name)
    assert Store(shop.root).serving()[0].encoder_name == str(trained.resolve())


@pytest.mark.parametrize("runtimes", [("auto",), pytest.param(("auto", "onnx-fp32"), marks=pytest.mark.slow)])
def test_cut_vectors_stay_cut_in_the_rebuilds_after(
    cache: Path, tmp_path: Path, trained: Path, runtimes: tuple[str, ...]
) -> None:
    feed = str(write_feed(tmp_path / "feed.jsonl", CATALOG))
    shop = Shop(tmp_path / "index", cache)
    rebuild(shop.root, RebuildOptions((feed,), cache, encoder=str(trained), runtime="onnx-int8", dimension=16))
    assert shop.vectors().shape == (10, 16)
    for place, runtime in enumerate(runtimes):
        feed = str(write_feed(tmp_path / "feed.jsonl", changed(title=f"band saw {place}")))
        rebuild(shop.root, RebuildOptions((feed,), cache, runtime=runtime))
        assert Store(shop.root).serving()[0].dimension == 16
    with SearchEngine.open(shop.root) as engine:
        assert engine.search("band saw").hits[0].product.id == "p00"


def test_an_engine_that_is_open_serves_the_old_encoder_until_it_takes_up_the_new_one(
    shop: Shop, other_encoder: Path
) -> None:
    with SearchEngine.open(shop.root) as engine:
        assert engine.manifest.version == "v000001"
        shop.rebuild(encoder=other_encoder)
        engine.refresh()
        assert (engine.manifest.version, engine.snapshot.encoder.identity) == ("v000002", "other")
        assert engine.search("drill 4", stage="dense").hits[0].product.id == "p04"


class TestAFailureWhileEncoding:
    @pytest.fixture(autouse=True)
    def _small_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(indexer.embedding, "CHUNK", 2)

    def test_the_served_version_stays_and_the_next_run_encodes_only_the_rest(
        self, shop: Shop, encoded: Encoded, other_encoder: Path
    ) -> None:
        encoded.fails_after = 6
        with pytest.raises(EncoderError, match="the device is gone"):
            shop.rebuild(encoder=other_encoder)
        assert Store(shop.root).current() == "v000001"
        with SearchEngine.open(shop.root) as engine:
            assert engine.snapshot.encoder.identity != "other"
            assert engine.search("drill 4").hits[0].product.id == "p04"
        done, encoded.fails_after = list(encoded.texts), None
        report = shop.rebuild(encoder=other_encoder)
        assert (len(done), report.encoded, report.version) == (6, 4, "v000002")
        assert sorted(encoded.texts) == sorted(product.title for product in CATALOG)

    def test_what_one_encoder_had_done_is_not_taken_for_anothers(
        self, shop: Shop, encoded: Encoded, other_encoder: Path
    ) -> None:
        encoded.fails_after = 6
        with pytest.raises(EncoderError):
            shop.rebuild(encoder=other_encoder)
        encoded.texts.clear()
        encoded.fails_after = None
        assert shop.rebuild(changed(title="band saw")).encoded == 1
        assert encoded.texts == ["band saw"]
