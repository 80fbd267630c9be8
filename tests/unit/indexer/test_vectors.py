"""Vectors at hand and vectors to make: what is reused, what is kept of interrupted work, and what damage costs."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import indexer.embedding
from indexer.build import RebuildOptions, RebuildReport, rebuild
from indexer.embedding import copy_to_duplicates, encode_rows, missing_rows
from indexer.embedding_cache import EncodingCheckpoints, Keys, VectorCache, key_array, text_key
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

VECTOR_COLUMNS = 4


def vectors_of(texts: Sequence[str]) -> NDArray[np.float32]:
    rows = [np.frombuffer(text_key(text), dtype=np.uint32).astype(np.float32) for text in texts]
    return np.array(rows, dtype=np.float32).reshape(len(texts), VECTOR_COLUMNS)


class Recorder:
    identity = "recorder"
    dimension = VECTOR_COLUMNS

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return vectors_of(texts)

    def encode_products(
        self, texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        self.calls.append(list(texts))
        if progress:
            progress(len(texts))
        return vectors_of(texts)


def keys_of(texts: Sequence[str]) -> Keys:
    return key_array([text_key(text) for text in texts])


def is_known(known: VectorCache, text: str) -> bool:
    return bool(known.contains(keys_of([text]))[0])


def filled(known: VectorCache, texts: Sequence[str]) -> NDArray[np.float32]:
    into = np.zeros((len(texts), VECTOR_COLUMNS), dtype=np.float32)
    known.fill(keys_of(texts), np.arange(len(texts)), into)
    return into


def ignore(amount: int) -> None:
    pass


def test_a_key_has_sixteen_bytes_for_any_text() -> None:
    assert len({text_key(text) for text in ("", "a", "A", "a ", "\ud800", "电钻")}) == 6
    assert key_array([text_key("a"), text_key("\ud800")]).shape == (2, 16)
    assert key_array([]).shape == key_array(b"").shape == (0, 16)


class TestKnownVectors:
    @given(sources=st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=6), max_size=4), data=st.data())
    def test_fill_copies_exactly_the_vectors_asked_for(self, sources: list[list[str]], data: st.DataObject) -> None:
        known = VectorCache(VECTOR_COLUMNS)
        for source in sources:
            known.add(keys_of(source), vectors_of(source))
        there = sorted({text for source in sources for text in source})
        assert [text for text in "abcdefgh" if is_known(known, text)] == there
        asked = data.draw(st.lists(st.sampled_from(there), max_size=10)) if there else []
        assert np.array_equal(filled(known, asked), vectors_of(asked))

    def test_the_first_vector_of_a_key_stays(self) -> None:
        known = VectorCache(VECTOR_COLUMNS)
        keys = keys_of("a")
        known.add(keys, vectors_of(["a"]))
        known.add(keys, np.zeros((1, VECTOR_COLUMNS), dtype=np.float32))
        assert np.array_equal(filled(known, ["a"]), vectors_of(["a"]))

    def test_a_key_without_a_vector_is_told(self) -> None:
        known = VectorCache(VECTOR_COLUMNS)
        known.add(keys_of("a"), vectors_of("a"))
        with pytest.raises(KeyError, match="1 texts have no vector"):
            filled(known, "ab")

    @pytest.mark.parametrize(
        "shape", [(2, VECTOR_COLUMNS + 1), (2, VECTOR_COLUMNS - 1), (2,), (1, VECTOR_COLUMNS), (3, VECTOR_COLUMNS)]
    )
    def test_vectors_of_another_dimension_or_number_are_of_no_use(self, shape: tuple[int, ...]) -> None:
        known = VectorCache(VECTOR_COLUMNS)
        known.add(keys_of("ab"), np.ones(shape, dtype=np.float32))
        assert not is_known(known, "a")
        known.add(keys_of("a"), vectors_of(["a"]))
        assert np.array_equal(filled(known, ["a"]), vectors_of(["a"]))


@pytest.fixture
def chunks(tmp_path: Path) -> EncodingCheckpoints:
    return EncodingCheckpoints(tmp_path / "chunks", VECTOR_COLUMNS)


class TestChunkFolder:
    def test_chunks_come_back_exactly(self, chunks: EncodingCheckpoints, tmp_path: Path) -> None:
        for texts in (["a", "b"], ["c"]):
            chunks.save(keys_of(texts), vectors_of(texts))
        known = VectorCache(VECTOR_COLUMNS)
        assert EncodingCheckpoints(tmp_path / "chunks", VECTOR_COLUMNS).load(known) == 3
        assert np.array_equal(filled(known, "cab"), vectors_of("cab"))

    def test_a_half_written_chunk_is_not_taken_for_one(self, chunks: EncodingCheckpoints, tmp_path: Path) -> None:
        (tmp_path / "chunks" / ".chunk-0123.npz.new").write_bytes(b"PK\x03\x04")
        assert chunks.load(VectorCache(VECTOR_COLUMNS)) == 0

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"garbage" * 100, b"\x93NUMPY\x01\x00"])
    def test_garbage_is_removed_and_the_other_chunks_are_kept(
        self, chunks: EncodingCheckpoints, tmp_path: Path, content: bytes
    ) -> None:
        chunks.save(keys_of("b"), vectors_of("b"))
        damaged = tmp_path / "chunks" / "chunk-0.npz"
        damaged.write_bytes(content)
        known = VectorCache(VECTOR_COLUMNS)
        assert chunks.load(known) == 1
        assert np.array_equal(filled(known, "b"), vectors_of("b"))
        assert not damaged.exists()

    def test_a_chunk_without_its_keys_is_removed(self, chunks: EncodingCheckpoints, tmp_path: Path) -> None:
        np.savez(tmp_path / "chunks" / "chunk-1.npz", vectors=vectors_of("a"))
        assert chunks.load(VectorCache(VECTOR_COLUMNS)) == 0
        assert list((tmp_path / "chunks").iterdir()) == []

    @pytest.mark.parametrize("bit", [0x01, 0x08, 0x80])
    def test_whichever_bit_flips_a_chunk_gives_its_vectors_or_none(
        self, chunks: EncodingCheckpoints, tmp_path: Path, bit: int
    ) -> None:
        chunks.save(keys_of("ab"), vectors_of("ab"))
        (path,) = (tmp_path / "chunks").iterdir()
        whole = path.read_bytes()
        refused = 0
        for place in range(len(whole)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
            known = VectorCache(VECTOR_COLUMNS)
            chunks.load(known)
            there = [text for text in "ab" if is_known(known, text)]
            assert np.array_equal(filled(known, there), vectors_of(there))
            refused += not there
        assert refused > len(whole) // 2

    def test_wherever_it_is_cut_a_chunk_gives_nothing(self, chunks: EncodingCheckpoints, tmp_path: Path) -> None:
        chunks.save(keys_of("ab"), vectors_of("ab"))
        (path,) = (tmp_path / "chunks").iterdir()
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            known = VectorCache(VECTOR_COLUMNS)
            assert chunks.load(known) == 0
            assert not is_known(known, "a")


class TestMissingRows:
    def test_they_are_the_first_of_each_text_without_a_vector(self) -> None:
        known = VectorCache(VECTOR_COLUMNS)
        known.add(keys_of("b"), vectors_of("b"))
        assert missing_rows(keys_of("abcacb"), known).tolist() == [0, 2]
        assert missing_rows(keys_of("bb"), known).tolist() == []
        assert missing_rows(keys_of(""), known).tolist() == []

    @given(texts=st.lists(st.sampled_from("abcdef"), max_size=12))
    def test_spreading_their_vectors_fills_the_other_rows(self, texts: list[str]) -> None:
        keys = keys_of(texts)
        rows = missing_rows(keys, VectorCache(VECTOR_COLUMNS))
        into = np.zeros((len(texts), VECTOR_COLUMNS), dtype=np.float32)
        into[rows] = vectors_of([texts[row] for row in rows])
        copy_to_duplicates(keys, rows, into)
        assert np.array_equal(into, vectors_of(texts))


class TestEncodeRows:
    def encode(
        self,
        texts: Sequence[str],
        chunks: EncodingCheckpoints,
        encoder: Recorder,
        advance: Callable[[int], None] = ignore,
    ) -> NDArray[np.float32]:
        into = np.zeros((len(texts), VECTOR_COLUMNS), dtype=np.float32)
        for rows, made in encode_rows(
            np.arange(len(texts)), keys_of(texts), texts.__getitem__, encoder, chunks, advance
        ):
            into[rows] = made
        return into

    def test_every_row_gets_the_vector_of_its_text(self, chunks: EncodingCheckpoints) -> None:
        assert np.array_equal(self.encode("cab", chunks, Recorder()), vectors_of("cab"))

    def test_every_chunk_is_kept_before_the_next_begins(
        self, chunks: EncodingCheckpoints, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(indexer.embedding, "CHUNK", 2)
        kept: list[int] = []

        class Looking(Recorder):
            def encode_products(
                self, texts: Sequence[str], progress: Callable[[int], None] | None = None
            ) -> NDArray[np.float32]:
                kept.append(chunks.load(VectorCache(VECTOR_COLUMNS)))
                return super().encode_products(texts, progress)

        done: list[int] = []
        self.encode("abcde", chunks, Looking(), done.append)
        assert kept == [0, 2, 4]
        assert done == [2, 2, 1]

    def test_texts_of_one_length_are_encoded_together(
        self, chunks: EncodingCheckpoints, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(indexer.embedding, "CHUNK", 2)
        encoder = Recorder()
        self.encode(["long text", "a", "long words", "b"], chunks, encoder)
        assert encoder.calls == [["a", "b"], ["long text", "long words"]]


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
        return self.store.version_folder(self.store.current())

    def states(self) -> StoredStates:
        return StoredStates(self.folder / STATES_FOLDER)

    def contents(self) -> list[bytes]:
        return [(self.folder / STATES_FOLDER / name).read_bytes() for name in STATES_FILES]


@pytest.fixture(scope="module")
def first(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = Shop(tmp_path_factory.mktemp("first") / "index", cache)
    shop.rebuild()
    return shop


@pytest.fixture
def built(first: Shop, tmp_path: Path) -> Shop:
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
