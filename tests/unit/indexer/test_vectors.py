"""Vectors at hand and vectors to make: what is reused, what is kept of interrupted work, and what damage costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import indexer.embedding
from indexer.embedding import copy_to_duplicates, encode_rows, missing_rows
from indexer.embedding_cache import EncodingCheckpoints, Keys, VectorCache, key_array, text_key

DIMENSION = 4


def vectors_of(texts: Sequence[str]) -> NDArray[np.float32]:
    """A vector for each text, another one for another text, (n, DIMENSION)."""
    rows = [np.frombuffer(text_key(text), dtype=np.uint32).astype(np.float32) for text in texts]
    return np.array(rows, dtype=np.float32).reshape(len(texts), DIMENSION)


class Recorder:
    """Stands where an encoder does, and remembers what it was requested."""

    identity = "recorder"
    dimension = DIMENSION

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
    into = np.zeros((len(texts), DIMENSION), dtype=np.float32)
    known.fill(keys_of(texts), np.arange(len(texts)), into)
    return into


def ignore(amount: int) -> None:
    pass


def test_a_key_has_sixteen_bytes_for_any_text() -> None:
    assert len({text_key(text) for text in ("", "a", "A", "a ", "\ud800", "电钻")}) == 6
    assert key_array([text_key("a"), text_key("\ud800")]).shape == (2, 16)
    assert key_array([]).shape == key_array(b"").shape == (0, 16)


class TestKnownVectors:
    @given(
        sources=st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=6), max_size=4),
        data=st.data(),
    )
    def test_fill_copies_exactly_the_vectors_asked_for(self, sources: list[list[str]], data: st.DataObject) -> None:
        known = VectorCache(DIMENSION)
        for source in sources:
            known.add(keys_of(source), vectors_of(source))
        there = sorted({text for source in sources for text in source})
        assert [text for text in "abcdefgh" if is_known(known, text)] == there
        asked = data.draw(st.lists(st.sampled_from(there), max_size=10)) if there else []
        assert np.array_equal(filled(known, asked), vectors_of(asked))

    def test_the_first_vector_of_a_key_stays(self) -> None:
        known = VectorCache(DIMENSION)
        keys = keys_of("a")
        known.add(keys, vectors_of(["a"]))
        known.add(keys, np.zeros((1, DIMENSION), dtype=np.float32))
        assert np.array_equal(filled(known, ["a"]), vectors_of(["a"]))

    def test_a_key_without_a_vector_is_told(self) -> None:
        known = VectorCache(DIMENSION)
        known.add(keys_of("a"), vectors_of("a"))
        with pytest.raises(KeyError, match="1 texts have no vector"):
            filled(known, "ab")

    @pytest.mark.parametrize("shape", [(2, DIMENSION + 1), (2, DIMENSION - 1), (2,), (1, DIMENSION), (3, DIMENSION)])
    def test_vectors_of_another_dimension_or_number_are_of_no_use(self, shape: tuple[int, ...]) -> None:
        known = VectorCache(DIMENSION)
        known.add(keys_of("ab"), np.ones(shape, dtype=np.float32))
        assert not is_known(known, "a")
        known.add(keys_of("a"), vectors_of(["a"]))
        assert np.array_equal(filled(known, ["a"]), vectors_of(["a"]))


@pytest.fixture
def chunks(tmp_path: Path) -> EncodingCheckpoints:
    return EncodingCheckpoints(tmp_path / "chunks", DIMENSION)


class TestChunkFolder:
    def test_chunks_come_back_exactly(self, chunks: EncodingCheckpoints, tmp_path: Path) -> None:
        for texts in (["a", "b"], ["c"]):
            chunks.save(keys_of(texts), vectors_of(texts))
        known = VectorCache(DIMENSION)
        assert EncodingCheckpoints(tmp_path / "chunks", DIMENSION).load(known) == 3
        assert np.array_equal(filled(known, "cab"), vectors_of("cab"))

    def test_a_half_written_chunk_is_not_taken_for_one(self, chunks: EncodingCheckpoints, tmp_path: Path) -> None:
        (tmp_path / "chunks" / ".chunk-0123.npz.new").write_bytes(b"PK\x03\x04")
        assert chunks.load(VectorCache(DIMENSION)) == 0

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"garbage" * 100, b"\x93NUMPY\x01\x00"])
    def test_garbage_is_removed_and_the_other_chunks_are_kept(
        self, chunks: EncodingCheckpoints, tmp_path: Path, content: bytes
    ) -> None:
        chunks.save(keys_of("b"), vectors_of("b"))
        damaged = tmp_path / "chunks" / "chunk-0.npz"
        damaged.write_bytes(content)
        known = VectorCache(DIMENSION)
        assert chunks.load(known) == 1
        assert np.array_equal(filled(known, "b"), vectors_of("b"))
        assert not damaged.exists()

    def test_a_chunk_without_its_keys_is_removed(self, chunks: EncodingCheckpoints, tmp_path: Path) -> None:
        np.savez(tmp_path / "chunks" / "chunk-1.npz", vectors=vectors_of("a"))
        assert chunks.load(VectorCache(DIMENSION)) == 0
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
            known = VectorCache(DIMENSION)
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
            known = VectorCache(DIMENSION)
            assert chunks.load(known) == 0
            assert not is_known(known, "a")


class TestMissingRows:
    def test_they_are_the_first_of_each_text_without_a_vector(self) -> None:
        known = VectorCache(DIMENSION)
        known.add(keys_of("b"), vectors_of("b"))
        assert missing_rows(keys_of("abcacb"), known).tolist() == [0, 2]
        assert missing_rows(keys_of("bb"), known).tolist() == []
        assert missing_rows(keys_of(""), known).tolist() == []

    @given(texts=st.lists(st.sampled_from("abcdef"), max_size=12))
    def test_spreading_their_vectors_fills_the_other_rows(self, texts: list[str]) -> None:
        keys = keys_of(texts)
        rows = missing_rows(keys, VectorCache(DIMENSION))
        into = np.zeros((len(texts), DIMENSION), dtype=np.float32)
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
        into = np.zeros((len(texts), DIMENSION), dtype=np.float32)
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
                kept.append(chunks.load(VectorCache(DIMENSION)))
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
