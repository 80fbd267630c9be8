"""Vectors of a version: reused, and kept where a rebuild ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import shelfwise.indexer.embedding
import shelfwise.indexer.external_sort
from shelfwise.indexer.embedding import measure_cutoff
from shelfwise.indexer.embedding_cache import EncodingCheckpoints, Keys, VectorCache, key_array, text_key
from shelfwise.indexer.external_sort import Entry, ExternalSorter
from shelfwise.indexer.targets import choose_index
from shelfwise.retrieval.encoders.base import Encoder, as_token_encoder
from shelfwise.retrieval.encoders.onnx import OnnxEncoder
from shelfwise.retrieval.encoders.registry import load_encoder
from shelfwise.retrieval.errors import EncoderError, SettingError, StoreDamagedError
from shelfwise.retrieval.index.faiss import VectorIndexKind, vector_bytes
from shelfwise.retrieval.index.token_states import (
    DIMENSION,
    MAX_TOKENS,
    STATES_FILE,
    STATES_FILES,
    StoredStates,
    quantise_tokens,
)
from shelfwise.retrieval.index.vectors import NO_CUTOFF, Cutoff
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.manifest import STATES_FOLDER, VECTORS_FOLDER
from shelfwise.retrieval.store.products import ProductStore, encoder_text
from shelfwise.retrieval.store.signals import StoredSignals
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.value_texts import size_text
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.snapshot import serving_snapshot
from tests.progress import StoppedProgress
from tests.unit.indexer.conftest import Encoded, Shop, damage, replaced
from tests.versions import reseal

VECTOR_COLUMNS = 4


def vectors_of(texts: Sequence[str]) -> NDArray[np.float32]:
    rows = [np.frombuffer(text_key(text), dtype=np.uint32).astype(np.float32) for text in texts]
    return np.array(rows, dtype=np.float32).reshape(len(texts), VECTOR_COLUMNS)


def keys_of(texts: Sequence[str]) -> Keys:
    return key_array([text_key(text) for text in texts])


def is_known(known: VectorCache, text: str) -> bool:
    return bool(known.contains(keys_of([text]))[0])


def filled(known: VectorCache, texts: Sequence[str]) -> NDArray[np.float32]:
    into = np.zeros((len(texts), VECTOR_COLUMNS), dtype=np.float32)
    known.fill(keys_of(texts), np.arange(len(texts)), into)
    return into


class TestKnownVectors:
    @given(sources=st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=6), max_size=4), data=st.data())
    def test_fill_copies_exactly_the_requested_vectors(self, sources: list[list[str]], data: st.DataObject) -> None:
        known = VectorCache(VECTOR_COLUMNS)
        for source in sources:
            known.add(keys_of(source), vectors_of(source))
        there = sorted({text for source in sources for text in source})
        assert [text for text in "abcdefgh" if is_known(known, text)] == there
        asked = data.draw(st.lists(st.sampled_from(there), max_size=10)) if there else []
        assert np.array_equal(filled(known, asked), vectors_of(asked))

    @pytest.mark.parametrize(
        "shape", [(2, VECTOR_COLUMNS + 1), (2, VECTOR_COLUMNS - 1), (2,), (1, VECTOR_COLUMNS), (3, VECTOR_COLUMNS)]
    )
    def test_vectors_of_another_dimension_or_count_are_ignored(self, shape: tuple[int, ...]) -> None:
        known = VectorCache(VECTOR_COLUMNS)
        known.add(keys_of("ab"), np.ones(shape, dtype=np.float32))
        assert not is_known(known, "a")
        known.add(keys_of("a"), vectors_of(["a"]))
        assert np.array_equal(filled(known, ["a"]), vectors_of(["a"]))


@pytest.fixture
def chunks(tmp_path: Path) -> EncodingCheckpoints:
    return EncodingCheckpoints(tmp_path / "chunks", VECTOR_COLUMNS)


class TestChunkFolder:
    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"garbage" * 100, b"\x93NUMPY\x01\x00"])
    def test_invalid_chunks_are_removed_and_others_kept(
        self, chunks: EncodingCheckpoints, tmp_path: Path, content: bytes
    ) -> None:
        chunks.save(keys_of("b"), vectors_of("b"))
        damaged = tmp_path / "chunks" / "chunk-0.npz"
        damaged.write_bytes(content)
        known = VectorCache(VECTOR_COLUMNS)
        assert chunks.load(known) == 1
        assert np.array_equal(filled(known, "b"), vectors_of("b"))
        assert not damaged.exists()

        np.savez(tmp_path / "chunks" / "chunk-1.npz", vectors=vectors_of("a"))
        assert chunks.load(VectorCache(VECTOR_COLUMNS)) == 1
        assert len(list((tmp_path / "chunks").iterdir())) == 1

    @pytest.mark.parametrize("bit", [0x01, 0x80, None])
    def test_damaged_chunk_gives_its_vectors_or_none(
        self, chunks: EncodingCheckpoints, tmp_path: Path, bit: int | None
    ) -> None:
        chunks.save(keys_of("ab"), vectors_of("ab"))
        (path,) = (tmp_path / "chunks").iterdir()
        whole = path.read_bytes()
        refused = 0
        for place in range(len(whole)):
            path.write_bytes(whole[:place] + (bytes([whole[place] ^ bit]) + whole[place + 1 :] if bit else b""))
            known = VectorCache(VECTOR_COLUMNS)
            chunks.load(known)
            there = [text for text in "ab" if is_known(known, text)]
            assert np.array_equal(filled(known, there), vectors_of(there))
            refused += not there
        assert refused > len(whole) // 2 if bit else refused == len(whole)


LONG = "garden hose with a reel, brass fittings and a spray gun, "
SHORT_TITLES = ("steel frying pan", "hammer drill", "desk lamp", "tent", "saw")
TITLES = ("cordless drill 18 V", "hammer drill", LONG * 3, *SHORT_TITLES)
CATALOG = tuple(Product(f"p{place:02d}", title, price=10.0 + place) for place, title in enumerate(TITLES))


def states_of(shop: Shop) -> StoredStates:
    return StoredStates(shop.folder / STATES_FOLDER)


class TestTokenStates:
    def test_each_product_has_the_first_tokens_of_its_text(self, first: Shop) -> None:
        states, products = states_of(first), ProductStore(first.folder)
        manifest = first.store.serving()[0]
        encoder = as_token_encoder(load_encoder(first.store.encoders / manifest.encoder))
        assert encoder is not None
        texts = [encoder_text(products[row]) for row in range(len(products))]
        expected = quantise_tokens(encoder.encode_products_with_tokens(texts)[1], DIMENSION)
        result, wanted = states.gather(np.arange(len(texts))), expected.gather(np.arange(len(texts)))
        assert np.array_equal(result.ids, wanted.ids)
        assert np.array_equal(result.states, wanted.states)
        assert (result.ids[2] >= 0).sum() == MAX_TOKENS
        assert len(states.idf) == encoder.vocabulary

    def test_version_may_have_no_token_states(self, fresh: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        # The value is kept, as other tests use the same encoder afterwards.
        kept = property(lambda _: 0, lambda encoder, value: vars(encoder).update(state_dimension=value))
        monkeypatch.setattr(OnnxEncoder, "state_dimension", kept, raising=False)
        result = StoppedProgress()
        assert fresh.rebuild(CATALOG, progress=result).token_states == 0
        assert any("no token states" in message for message in result.summaries)
        assert fresh.store.serving()[0].states is None
        assert not (fresh.folder / STATES_FOLDER).exists()
        with SearchEngine.open(fresh.root) as engine:
            assert engine.snapshot.states is None
            assert engine.search("drill").hits


class TestReuse:
    def test_only_a_changed_text_is_encoded_and_old_vectors_are_found_again(
        self, built: Shop, encoded: Encoded, fresh: Shop
    ) -> None:
        before = built.vectors
        changed = replaced(CATALOG, 1, title="band saw with a stand")
        report = built.rebuild(changed)
        assert (report.encoded, report.reused) == (1, len(CATALOG) - 1)
        states = built.states
        built.rebuild(CATALOG)
        assert encoded.texts == ["band saw with a stand"]
        assert np.array_equal(built.vectors, before)
        fresh.rebuild(changed)
        assert states == fresh.states

    def test_a_price_keeps_states_and_renews_signals(self, built: Shop, encoded: Encoded) -> None:
        before = built.states
        built.rebuild(replaced(CATALOG, price=1.5))
        assert encoded.texts == []
        assert built.states == before
        assert StoredSignals(built.folder, len(CATALOG)).at(np.array([0])).price.tolist() == [1.5]

    @pytest.mark.parametrize("name", STATES_FILES)
    def test_damaged_states_are_not_reused(self, built: Shop, encoded: Encoded, name: str) -> None:
        whole = built.states
        damage(built.folder / STATES_FOLDER / name)
        built.rebuild(CATALOG)
        assert len(encoded.texts) == len(set(TITLES))
        assert built.states == whole


class TestInterruption:
    @pytest.fixture(autouse=True)
    def _small_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shelfwise.indexer.embedding, "CHUNK", 2)

    @pytest.fixture
    def interrupted(self, fresh: Shop, encoded: Encoded) -> Shop:
        encoded.most = 4
        with pytest.raises(EncoderError):
            fresh.rebuild(CATALOG)
        encoded.most = None
        return fresh

    @pytest.mark.parametrize(
        ("damage", "again"), [("none", 0), ("part", 0), ("missing", 4), ("short", 2), ("flipped", 2)]
    )
    def test_resumed_run_encodes_lost_chunks(self, interrupted: Shop, first: Shop, damage: str, again: int) -> None:
        (path,) = interrupted.store.staging.glob(f"vectors-*/tokens-{DIMENSION}.bin")
        content = path.read_bytes()
        path.unlink()
        damaged = {
            "none": content,
            "part": content + b"part of a chunk that no list names",
            "short": content[:-1],
            "flipped": bytes([content[0] ^ 1]) + content[1:],
        }
        if damage in damaged:
            path.write_bytes(damaged[damage])
        report = interrupted.rebuild(CATALOG)
        assert report.encoded == len(set(TITLES)) - 4 + again
        assert report.reused == len(CATALOG) - report.encoded
        assert interrupted.states == first.states
        assert not interrupted.store.staging.exists()


class TestOpening:
    def test_states_of_another_version_are_refused(self, built: Shop) -> None:
        states = states_of(built).info
        other = msgspec.structs.replace(states, encoder="another")
        reseal(built.root, "v000001", lambda manifest: msgspec.structs.replace(manifest, states=other))
        with pytest.raises(StoreDamagedError, match="is inconsistent: its token states"):
            SearchEngine.open(built.root)

    def test_states_inconsistent_with_their_metadata_are_refused(self, built: Shop) -> None:
        np.save(built.folder / STATES_FOLDER / STATES_FILE, np.zeros((3, DIMENSION), np.int8))
        reseal(built.root, "v000001")
        with pytest.raises(StoreDamagedError, match=STATES_FILE):
            SearchEngine.open(built.root)


class _LettersNearEncoder:
    """An encoder for which random letters are nearest to a product; queries from titles have cosines from 0.5."""

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        cosines = [0.5 + int(text.split()[-1]) / 1_000 if text[-1].isdigit() else 0.95 for text in texts]
        return np.array([(cosine, (1 - cosine**2) ** 0.5) for cosine in cosines], np.float32)


def test_the_cutoff_keeps_most_queries_of_the_catalog_where_random_letters_are_near() -> None:
    vectors = np.tile(np.array([[1, 0]], np.float32), (300, 1))
    cutoff = measure_cutoff(cast(Encoder, _LettersNearEncoder()), lambda row: f"lamp {100 + row}", vectors)
    assert cutoff.known == pytest.approx(0.603, abs=0.001)
    assert cutoff.unknown == pytest.approx(0.603, abs=0.001)


def test_vectors_of_another_encoder_get_its_cutoff(demo_index: Path) -> None:
    with serving_snapshot(demo_index) as snapshot:
        manifest = snapshot.manifest
        before = replace(snapshot, manifest=msgspec.structs.replace(manifest, cutoff=Cutoff(0.9, 0.9)))
        folder = Store(demo_index).version_folder(manifest.version) / VECTORS_FOLDER
        assert before.encoded_by(snapshot.encoder, folder).manifest.cutoff == manifest.cutoff != NO_CUTOFF


@pytest.mark.parametrize(
    ("count", "memory", "before", "kind"),
    [
        (50_000, 10**9, "", VectorIndexKind.EXACT),
        (50_000, 10**9, "quantised", VectorIndexKind.EXACT),
        (50_000, None, "exact", VectorIndexKind.EXACT),
        (50_000, 6 * 10**7, "exact", VectorIndexKind.QUANTISED),
        (50_000, 6 * 10**7, "quantised", VectorIndexKind.QUANTISED),
        (50_001, None, "exact", VectorIndexKind.QUANTISED),
    ],
)
def test_memory_and_size_decide_the_index_and_a_change_gives_a_notice(
    count: int, memory: int | None, before: str, kind: VectorIndexKind
) -> None:
    chosen, reason = choose_index(count, 384, memory, before)
    assert chosen is kind
    assert reason.endswith(f"; it was {before} before") is (before not in ("", kind))


def test_too_little_memory_is_refused_with_the_memory_that_would_do() -> None:
    needed = 2 * 150_000 * vector_bytes(VectorIndexKind.QUANTISED, 384)
    message = rf"--memory 1.0 MB cannot be met: 150,000 vectors of 384 columns need {size_text(needed)}"
    with pytest.raises(SettingError, match=message):
        choose_index(150_000, 384, 1_000_000)
    assert choose_index(150_000, 384, needed)[0] is VectorIndexKind.QUANTISED


def spooled(folder: Path, ids: list[str], run_bytes: int) -> ExternalSorter:
    spool = ExternalSorter(folder, run_bytes=run_bytes)
    for number, product_id in enumerate(ids):
        key = number.to_bytes(16, "big")
        spool.add(Entry(product_id.encode(), b"line", number % 3, number % 2 == 0, number + 5_000_000_000, key))
    return spool


@given(ids=st.lists(st.text("aé中-1", min_size=1, max_size=3), max_size=60), run_bytes=st.integers(1, 300))
def test_products_are_sorted_by_id_and_arrival(
    ids: list[str], run_bytes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    spool = spooled(tmp_path_factory.mktemp("spool"), ids, run_bytes)
    left = list(spool.sorted())
    numbered = sorted((product_id.encode(), number) for number, product_id in enumerate(ids))
    assert [(entry.id, int.from_bytes(entry.key, "big")) for entry in left] == numbered
    for entry, (_, number) in zip(left, numbered, strict=True):
        place = (entry.line, entry.file, entry.is_detected, entry.row)
        assert place == (b"line", number % 3, number % 2 == 0, number + 5_000_000_000)
    assert len(spool) == len(ids)
    assert list(spool.sorted()) == left, "it can be read again"


def test_many_sorted_runs_are_merged_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelfwise.indexer.external_sort, "MAX_RUNS", 4)
    ids = [f"{number * 37 % 101:03d}" for number in range(101)]
    spool = spooled(tmp_path, ids, run_bytes=1)
    assert len(list(tmp_path.iterdir())) <= 5
    assert [entry.id.decode() for entry in spool.sorted()] == sorted(ids)
