"""The token states of a version: written, read back, and refused by file name if damaged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.retrieval.encoders.base import Tokens
from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.index.token_states import (
    DIMENSION,
    FACTS_FILE,
    IDF_FILE,
    IDS_FILE,
    MOST_TOKENS,
    OFFSETS_FILE,
    PADDING,
    STATES_FILE,
    STATES_FILES,
    ProductTokens,
    StatesWriter,
    StoredStates,
    TokenRuns,
    inverse_frequency,
    quantise_tokens,
)

WIDE, D, VOCABULARY = 12, 8, 50


def tokens_of(ids: Sequence[int], wide: int = WIDE) -> Tokens:
    states = [np.random.default_rng(each).standard_normal(wide) for each in ids]
    unit = np.array(states, np.float32).reshape(len(ids), wide)
    return Tokens(np.array(ids, np.int32), unit / np.linalg.norm(unit, axis=1, keepdims=True))


def write(folder: Path, products: Sequence[Sequence[int]], pieces: int = 1) -> StoredStates:
    writer = StatesWriter(folder, "encoder-1", D, VOCABULARY)
    for start in range(0, len(products), pieces):
        runs = quantise_tokens([tokens_of(ids) for ids in products[start : start + pieces]], D)
        writer.add(runs.ids, runs.states, runs.lengths)
    facts = writer.finish()
    opened = StoredStates(folder)
    assert opened.info == facts
    return opened


PRODUCTS: tuple[list[int], ...] = ([3, 4, 3], [], [7], list(range(40)))


@pytest.fixture
def stored(tmp_path: Path) -> StoredStates:
    return write(tmp_path / "states", PRODUCTS)


class TestQuantised:
    def test_quantisation_preserves_cosines(self) -> None:
        result = tokens_of(range(30), 128).narrowed(DIMENSION)
        states = quantise_tokens([result], DIMENSION).states.astype(np.float32) / 127
        assert np.abs(states @ states.T - result.states @ result.states.T).max() < 0.02


class TestStoredStates:
    def test_gather_gives_each_products_tokens_padded(self, stored: StoredStates) -> None:
        result = stored.gather(np.array([2, 1, 0]))
        assert result.ids.tolist() == [[7, PADDING, PADDING], [PADDING] * 3, [3, 4, 3]]
        assert result.states.shape == (3, 3, D)
        assert np.array_equal(result.states[2], quantise_tokens([tokens_of([3, 4, 3])], D).states)
        assert not result.states[1].any()
        lengths = np.linalg.norm(result.states[result.ids >= 0].astype(np.float64), axis=1)
        assert np.abs(lengths - 127).max() < 2
        assert stored.gather(np.empty(0, np.int64)).ids.shape == (0, 0)
        assert stored.gather(np.array([1, 1])).states.shape == ProductTokens.none(2, D).states.shape == (2, 0, D)
        assert (stored.size, stored.encoder, stored.info.tokens) == (4, "encoder-1", 3 + 0 + 1 + MOST_TOKENS)

    def test_query_is_truncated_to_the_columns_of_the_products(self, stored: StoredStates) -> None:
        query = tokens_of([3, 4])
        cut = stored.narrow_query(query)
        assert cut.states.shape == (2, D)
        assert np.allclose(cut.states, query.narrowed(D).states)

    def test_idf_counts_products_not_occurrences(self, stored: StoredStates) -> None:
        assert stored.idf.shape == (VOCABULARY,)
        # Tokens 3 and 7 are in two of four products each, 5 in one, 45 in none.
        expected = [math.log(5 / (2 + 1)) + 1, math.log(5 / (2 + 1)) + 1, math.log(5 / (1 + 1)) + 1, math.log(5) + 1]
        assert np.allclose(stored.idf[[3, 7, 5, 45]], expected)

    @given(
        products=st.lists(st.lists(st.integers(0, VOCABULARY - 1), max_size=40), max_size=9), pieces=st.integers(1, 4)
    )
    def test_states_round_trip_in_any_batching(
        self, tmp_path_factory: pytest.TempPathFactory, products: list[list[int]], pieces: int
    ) -> None:
        stored = write(tmp_path_factory.mktemp("states"), products, pieces)
        result = stored.gather(np.arange(len(products)))
        for ids, padded in zip(products, result.ids.tolist(), strict=True):
            kept = ids[:MOST_TOKENS]
            assert padded == kept + [PADDING] * (len(padded) - len(kept))
        frequency = [sum(token in ids[:MOST_TOKENS] for ids in products) for token in range(VOCABULARY)]
        assert np.array_equal(stored.idf, inverse_frequency(np.array(frequency), len(products)))

    @pytest.mark.parametrize("name", STATES_FILES)
    @pytest.mark.parametrize("damage", ["missing", "short", "empty", "garbage"])
    def test_error_names_damaged_file(self, stored: StoredStates, tmp_path: Path, name: str, damage: str) -> None:
        path = tmp_path / "states" / name
        content = path.read_bytes()
        path.unlink()
        if damage != "missing":
            path.write_bytes({"short": content[:-3], "empty": b"", "garbage": b"garbage" * 9}[damage])
        with pytest.raises(StoreDamagedError, match=rf"{name}.*rebuild the index"):
            StoredStates(tmp_path / "states")
        assert stored.size == 4

    @pytest.mark.parametrize(
        ("name", "other"),
        [
            (STATES_FILE, np.zeros((36, D + 1), np.int8)),
            (IDS_FILE, np.zeros(35, np.int32)),
            (IDF_FILE, np.zeros(VOCABULARY - 1, np.float32)),
            (OFFSETS_FILE, np.array([0, 3, 3, 4], np.int64)),
            (OFFSETS_FILE, np.array([0, 3, 2, 4, 36], np.int64)),
            (OFFSETS_FILE, np.array([1, 3, 3, 4, 36], np.int64)),
        ],
    )
    def test_mismatched_arrays_are_refused(
        self, stored: StoredStates, tmp_path: Path, name: str, other: np.ndarray[tuple[int, ...], np.dtype[np.generic]]
    ) -> None:
        np.save(tmp_path / "states" / name, other)
        with pytest.raises(StoreDamagedError, match=name):
            StoredStates(tmp_path / "states")
        assert stored.size == 4

    @pytest.mark.parametrize("change", [{"format": 2}, {"dimension": 0}, {"tokens": -1}])
    def test_other_formats_and_impossible_metadata_are_refused(
        self, stored: StoredStates, tmp_path: Path, change: dict[str, int]
    ) -> None:
        facts = msgspec.structs.replace(stored.info, **change)
        (tmp_path / "states" / FACTS_FILE).write_bytes(msgspec.json.encode(facts))
        with pytest.raises(StoreDamagedError, match=FACTS_FILE):
            StoredStates(tmp_path / "states")


class TestStatesWriter:
    @pytest.mark.parametrize("wrong", [VOCABULARY, -1])
    def test_an_id_outside_the_vocabulary_is_refused(self, tmp_path: Path, wrong: int) -> None:
        writer = StatesWriter(tmp_path, "encoder-1", D, VOCABULARY)
        with pytest.raises(ValueError, match=f"but a vocabulary of {VOCABULARY}"):
            writer.add(np.array([wrong], np.int32), np.zeros((1, D), np.int8), np.array([1], np.int32))


def test_token_runs_may_start_anywhere() -> None:
    states = np.arange(10, dtype=np.int8).reshape(5, 2)
    runs = TokenRuns(np.arange(5, dtype=np.int32), states, np.array([3, 0]), np.array([2, 1], np.int32))
    result = runs.gather(np.array([1, 0]))
    assert result.ids.tolist() == [[0, PADDING], [3, 4]]
    assert result.states.tolist() == [[[0, 1], [0, 0]], [[6, 7], [8, 9]]]
