"""Token states and signals in a rebuild: made with the vectors, reused by their text, kept over interruptions."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

import indexer.embedding
from indexer.build import RebuildOptions, RebuildReport, rebuild
from retrieval.encoders.base import Tokens, as_token_encoder
from retrieval.encoders.onnx import OnnxEncoder
from retrieval.encoders.registry import load_encoder
from retrieval.errors import EncoderError, StoreDamagedError
from retrieval.index.token_states import (
    DIMENSION,
    MOST_TOKENS,
    STATES_FILE,
    STATES_FILES,
    StoredStates,
    quantise_tokens,
)
from retrieval.progress import NullProgress
from retrieval.records import Availability, Product
from retrieval.store.manifest import STATES_FOLDER, TEXT_KEYS_FILE
from retrieval.store.products import ProductStore, encoder_text
from retrieval.store.signals import SIGNALS_FILE, StoredSignals
from retrieval.store.versions import Store
from service.engine.engine import SearchEngine
from tests.catalogs import write_feed
from tests.conftest import ENCODER
from tests.versions import reseal

LONG = "garden hose with a reel, brass fittings and a spray gun, "
TITLES = (
    "cordless drill 18 V",
    "hammer drill",
    LONG * 3,
    "steel frying pan",
    "hammer drill",
    "desk lamp",
    "tent",
    "saw",
)
CATALOG = tuple(Product(f"p{place:02d}", title, price=10.0 + place) for place, title in enumerate(TITLES))


class Told(NullProgress):
    """Keeps what the rebuild says at the end of each phase."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def end(self, summary: str) -> None:
        self.said.append(summary)


@dataclasses.dataclass(frozen=True)
class Shop:
    root: Path
    cache: Path

    def rebuild(
        self, products: Sequence[Product] = CATALOG, *, progress: NullProgress | None = None, states: int = DIMENSION
    ) -> RebuildReport:
        feed = write_feed(self.root.with_name(f"{self.root.name}.jsonl"), products)
        return rebuild(
            self.root,
            RebuildOptions(
                (str(feed),), self.cache, encoder=ENCODER, runtime="onnx-int8", workers=1, state_dimension=states
            ),
            progress,
        )

    @property
    def store(self) -> Store:
        return Store(self.root)

    @property
    def folder(self) -> Path:
        """That of the version that serves."""
        return self.store.version_folder(self.store.current())

    def states(self) -> StoredStates:
        return StoredStates(self.folder / STATES_FOLDER)

    def contents(self) -> list[bytes]:
        return [(self.folder / STATES_FOLDER / name).read_bytes() for name in STATES_FILES]


@pytest.fixture(scope="module")
def first(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """An index of the catalog, built once; no test changes it."""
    shop = Shop(tmp_path_factory.mktemp("first") / "index", cache)
    shop.rebuild()
    return shop


@pytest.fixture
def built(first: Shop, tmp_path: Path) -> Shop:
    """A copy of it that a test may change."""
    return Shop(Path(shutil.copytree(first.root, tmp_path / "index")), first.cache)


@pytest.fixture
def fresh(cache: Path, tmp_path: Path) -> Shop:
    return Shop(tmp_path / "index", cache)


def with_title(row: int, title: str) -> list[Product]:
    return [dataclasses.replace(each, title=title) if at == row else each for at, each in enumerate(CATALOG)]


class TestWhatIsBuilt:
    def test_each_product_has_the_first_tokens_that_the_encoder_tells_of_its_text(self, first: Shop) -> None:
        states, products = first.states(), ProductStore(first.folder)
        manifest = first.store.serving()[0]
        encoder = as_token_encoder(load_encoder(first.store.encoders / manifest.encoder))
        assert encoder is not None
        texts = [encoder_text(products[row]) for row in range(len(products))]
        expected = quantise_tokens(encoder.encode_products_with_tokens(texts)[1], DIMENSION)
        told, wanted = states.gather(np.arange(len(texts))), expected.gather(np.arange(len(texts)))
        assert np.array_equal(told.ids, wanted.ids)
        assert np.array_equal(told.states, wanted.states)
        assert (told.ids[2] >= 0).sum() == MOST_TOKENS
        assert len(states.idf) == encoder.vocabulary

    def test_the_manifest_and_the_report_tell_of_them(self, fresh: Shop) -> None:
        told = Told()
        report = fresh.rebuild(progress=told)
        facts = fresh.states().info
        manifest = fresh.store.serving()[0]
        assert manifest.states == facts
        assert (facts.encoder, facts.dimension, facts.products) == (manifest.encoder, DIMENSION, len(CATALOG))
        assert report.token_states == facts.tokens > 0
        assert any(f"{facts.tokens:,} token states" in said for said in told.said)
        assert {f"versions/v000001/{STATES_FOLDER}/{name}" for name in STATES_FILES} <= set(manifest.files)

    def test_they_can_be_left_out_and_that_is_said(self, fresh: Shop) -> None:
        told = Told()
        assert fresh.rebuild(progress=told, states=0).token_states == 0
        assert any("no token states" in said for said in told.said)
        assert fresh.store.serving()[0].states is None
        assert not (fresh.folder / STATES_FOLDER).exists()
        with SearchEngine.open(fresh.root) as engine:
            assert engine.snapshot.states is None
            assert engine.search("drill").hits

    def test_an_encoder_without_states_gives_none_and_that_is_said(
        self, fresh: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(OnnxEncoder, "_state_dimension", lambda _: 0)
        told = Told()
        assert fresh.rebuild(progress=told).token_states == 0
        assert any("no token states" in said for said in told.said)
        with SearchEngine.open(fresh.root) as engine:
            assert engine.snapshot.states is None

    def test_signals_are_those_of_the_products(self, fresh: Shop) -> None:
        sold_out = dataclasses.replace(CATALOG[0], availability=Availability.OUT_OF_STOCK, rating=4.0, rating_count=3)
        fresh.rebuild([sold_out, *CATALOG[1:]])
        told = StoredSignals(fresh.folder, len(CATALOG)).at(np.array([0, 3]))
        assert told.price.tolist() == [10, 13]
        assert (told.rating[0], told.rating_count[0], told.availability[0]) == (4, 3, -1)
        assert np.isnan(told.rating[1])


class TestReuse:
    @pytest.fixture
    def encoded(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What the encoder is given."""
        seen: list[str] = []
        encode = OnnxEncoder.encode_products_with_tokens

        def counting(
            encoder: OnnxEncoder, texts: Sequence[str], progress: Callable[[int], None] | None = None
        ) -> tuple[NDArray[np.float32], list[Tokens]]:
            seen.extend(texts)
            return encode(encoder, texts, progress)

        monkeypatch.setattr(OnnxEncoder, "encode_products_with_tokens", counting)
        return seen

    def test_only_a_changed_text_is_encoded_and_all_have_states(
        self, built: Shop, encoded: list[str], fresh: Shop, tmp_path: Path
    ) -> None:
        changed = with_title(1, "band saw with a stand")
        assert built.rebuild(changed).encoded == 1
        assert encoded == ["band saw with a stand"]
        other = Shop(tmp_path / "scratch", fresh.cache)
        other.rebuild(changed)
        assert built.contents() == other.contents()

    def test_a_price_keeps_states_and_renews_signals(self, built: Shop, encoded: list[str]) -> None:
        before = built.contents()
        built.rebuild([dataclasses.replace(CATALOG[0], price=1.5), *CATALOG[1:]])
        assert encoded == []
        assert built.contents() == before
        assert StoredSignals(built.folder, len(CATALOG)).at(np.array([0])).price.tolist() == [1.5]

    @pytest.mark.parametrize("name", STATES_FILES)
    def test_damaged_states_are_not_taken_over(self, built: Shop, encoded: list[str], name: str) -> None:
        whole = built.contents()
        path = built.folder / STATES_FOLDER / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        built.rebuild()
        assert len(encoded) == len(set(TITLES))
        assert built.contents() == whole

    def test_another_dimension_is_another_version(self, built: Shop, encoded: list[str]) -> None:
        assert built.rebuild(states=64).published
        assert built.states().dimension == 64
        assert len(encoded) == len(set(TITLES))
        assert not built.rebuild(states=64).published

    def test_a_version_without_states_gets_them(self, fresh: Shop, first: Shop, encoded: list[str]) -> None:
        fresh.rebuild(states=0)
        assert encoded == []
        assert fresh.rebuild().published
        assert len(encoded) == len(set(TITLES))
        assert fresh.contents() == first.contents()


class TestInterruption:
    @pytest.fixture(autouse=True)
    def _small_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(indexer.embedding, "CHUNK", 2)

    @pytest.fixture
    def interrupted(self, fresh: Shop) -> Shop:
        """An index whose first rebuild failed after four texts."""
        with pytest.MonkeyPatch.context() as patch:
            encode = OnnxEncoder.encode_products_with_tokens
            seen: list[str] = []

            def failing(
                encoder: OnnxEncoder, texts: Sequence[str], progress: Callable[[int], None] | None = None
            ) -> tuple[NDArray[np.float32], list[Tokens]]:
                if len(seen) == 4:
                    raise EncoderError("the device is gone")
                seen.extend(texts)
                return encode(encoder, texts, progress)

            patch.setattr(OnnxEncoder, "encode_products_with_tokens", failing)
            with pytest.raises(EncoderError):
                fresh.rebuild()
        return fresh

    def spool(self, shop: Shop) -> Path:
        (path,) = shop.store.staging.glob(f"vectors-*/tokens-{DIMENSION}.bin")
        return path

    def test_the_next_run_goes_on_and_gives_what_an_uninterrupted_one_gives(
        self, interrupted: Shop, first: Shop
    ) -> None:
        report = interrupted.rebuild()
        assert (report.encoded, report.reused) == (len(set(TITLES)) - 4, len(CATALOG) - len(set(TITLES)) + 4)
        assert interrupted.contents() == first.contents()
        assert not interrupted.store.staging.exists()

    def test_a_part_that_a_kill_left_is_passed_over(self, interrupted: Shop, first: Shop) -> None:
        with self.spool(interrupted).open("ab") as file:
            file.write(b"part of a chunk that no list names")
        assert interrupted.rebuild().encoded == len(set(TITLES)) - 4
        assert interrupted.contents() == first.contents()

    @pytest.mark.parametrize("damage", ["missing", "short", "flipped"])
    def test_damaged_tokens_are_encoded_again(self, interrupted: Shop, first: Shop, damage: str) -> None:
        path = self.spool(interrupted)
        content = path.read_bytes()
        path.unlink()
        if damage == "short":
            path.write_bytes(content[:-1])
        if damage == "flipped":
            path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        again = 4 if damage == "missing" else 2
        assert interrupted.rebuild().encoded == len(set(TITLES)) - 4 + again
        assert interrupted.contents() == first.contents()

    def test_chunks_without_tokens_are_encoded_again(self, fresh: Shop, first: Shop, interrupted: Shop) -> None:
        for path in interrupted.store.staging.glob("vectors-*/chunk-*.npz"):
            with np.load(path) as chunk:
                kept = {name: chunk[name] for name in ("keys", "vectors")}
            np.savez(path, allow_pickle=False, **kept)
        assert interrupted.rebuild().encoded == len(set(TITLES))
        assert fresh.contents() == first.contents()


class TestOpening:
    @pytest.mark.parametrize("name", [*(f"{STATES_FOLDER}/{name}" for name in STATES_FILES), SIGNALS_FILE])
    def test_a_version_with_a_damaged_file_is_refused_by_its_name(self, built: Shop, name: str) -> None:
        path = built.folder / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(StoreDamagedError, match=rf"{name} has another checksum"):
            SearchEngine.open(built.root)

    def test_states_that_are_another_versions_are_refused(self, built: Shop) -> None:
        states = built.states().info
        other = msgspec.structs.replace(states, encoder="another")
        reseal(built.root, "v000001", lambda manifest: msgspec.structs.replace(manifest, states=other))
        with pytest.raises(StoreDamagedError, match="does not agree with itself: its token states"):
            SearchEngine.open(built.root)

    def test_states_that_do_not_fit_their_facts_are_refused_also_where_checksums_agree(self, built: Shop) -> None:
        np.save(built.folder / STATES_FOLDER / STATES_FILE, np.zeros((3, DIMENSION), np.int8))
        reseal(built.root, "v000001")
        with pytest.raises(StoreDamagedError, match=STATES_FILE):
            SearchEngine.open(built.root)

    def test_text_keys_and_states_are_of_the_same_products(self, first: Shop) -> None:
        assert len(np.load(first.folder / TEXT_KEYS_FILE)) == first.states().size == len(CATALOG)
