"""Token states, ranges of facets and the local keyword index."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.retrieval.encoders.base import Tokens
from shelfwise.retrieval.errors import InputError, StoreDamagedError, StoreError
from shelfwise.retrieval.filters.schema import FieldCounter
from shelfwise.retrieval.index.keyword import DocumentChange
from shelfwise.retrieval.index.keyword_documents import LINES_FILE, LineWriter, read_lines
from shelfwise.retrieval.index.ranges import quantile_bounds
from shelfwise.retrieval.index.tantivy import TantivyBuilder, TantivyIndex
from shelfwise.retrieval.index.token_states import (
    DIMENSION,
    IDF_FILE,
    IDS_FILE,
    MAX_TOKENS,
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
from shelfwise.retrieval.records import Facet, FacetCount
from shelfwise.retrieval.store.products import keyword_document
from shelfwise.retrieval.text.analysis import Analyzer
from shelfwise.service.engine.engine import SearchEngine
from tests.catalogs import numbered
from tests.machine import full_disk

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
        assert (stored.size, stored.encoder, stored.info.tokens) == (4, "encoder-1", 3 + 0 + 1 + MAX_TOKENS)

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
            kept = ids[:MAX_TOKENS]
            assert padded == kept + [PADDING] * (len(padded) - len(kept))
        frequency = [sum(token in ids[:MAX_TOKENS] for ids in products) for token in range(VOCABULARY)]
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


PRICES = st.one_of(st.integers(1, 40).map(float), st.floats(0.01, 1e6), st.floats(-1e300, 1e300))


def facet(values: list[float]) -> Facet:
    return Facet("price", tuple(FacetCount(value, count) for value, count in Counter(values).items()))


@given(st.lists(PRICES, min_size=2, max_size=60).filter(lambda values: len(set(values)) > 1))
def test_no_automatic_range_is_empty(values: list[float]) -> None:
    first, *bounds = quantile_bounds(facet(values))
    assert first == -math.inf
    assert 1 <= len(bounds) <= 5
    for low, high in pairwise((first, *bounds, math.inf)):
        assert any(low <= value < high for value in values)


def test_automatic_bounds_are_round() -> None:
    prices = [2.5, 3.99, 7.0, 14.99, 19.0, 26.5, 49.0, 89.0, 99.0, 210.0, 480.0, 1_999.0]
    assert quantile_bounds(facet(prices)) == (-math.inf, 3.5, 10, 25, 80, 200)
    assert quantile_bounds(facet([4.1, 4.3, 4.3, 4.5])) == (-math.inf, 4.3, 4.5)
    assert quantile_bounds(facet([-1.0, 1_999_999_999.0])) == (-math.inf, 1e9)
    assert quantile_bounds(facet([5.0, 5.0])) == quantile_bounds(facet([])) == ()


@pytest.mark.parametrize("query", ["backpack", "drill", ""])
@pytest.mark.parametrize("group", ["", "variants"])
@pytest.mark.parametrize("filters", ["", "brand EXISTS AND price < 90"])
def test_range_counts_equal_hits_filtered_by_the_range(
    engine: SearchEngine, query: str, group: str, filters: str
) -> None:
    page = engine.search(query, size=0, group=group, filters=filters, ranges=["price:0,20.5,50,1000", "rating"])
    bounds = [(each.low, each.high) for each in page.ranges["price"]]
    assert bounds == [(0, 20.5), (20.5, 50), (50, 1_000), (1_000, None)]
    assert len(page.ranges["rating"]) > 1
    for each in (*page.ranges["price"], *page.ranges["rating"]):
        chosen = f"({filters or 'id EXISTS'}) AND {each.filter}"
        assert engine.search(query, size=0, group=group, filters=chosen).total == each.count


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ("pric", "did you mean price"),
        ("brand", "brand has no numbers; use a numeric field, such as"),
        ("price:50,20", "the bounds must be ascending numbers, such as price:0,50,100"),
        ("price:0,nan", "the bounds must be ascending numbers"),
        (f"price:{','.join(map(str, range(101)))}", "ranges has 101 bounds of price; at most 100 are allowed"),
    ],
)
def test_invalid_ranges_are_refused(engine: SearchEngine, ranges: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        engine.search("", ranges=[ranges])


def test_full_disk_raises_a_store_error(tmp_path: Path) -> None:
    """Regression: the ValueError of tantivy was not converted, and commands showed it as a programming error."""
    counter = FieldCounter()
    with full_disk(), pytest.raises(StoreError, match=r"keyword cannot be written to .*check the disk"):
        TantivyBuilder(tmp_path / "keyword", counter.catalog())


def test_changes_apply_after_a_full_disk(tmp_path: Path) -> None:
    """Regression: the files of a failed writer had names that the next one needed, so no change was found any more."""
    products = numbered(20)
    counter = FieldCounter()
    for product in products:
        counter.add(product)
    catalog, analyzer = counter.catalog(), Analyzer()
    documents = [keyword_document(row, product, analyzer, catalog) for row, product in enumerate(products)]
    builder = TantivyBuilder(tmp_path / "keyword", catalog)
    builder.add(documents)

    def changes(replaced: slice, gone: int) -> list[DocumentChange]:
        laid = [DocumentChange(document.row, 1, document) for document in documents[replaced]]
        return [*laid, DocumentChange(gone, 1, None)]

    index = TantivyIndex(builder.finish(), catalog).apply_changes(changes(slice(1), 1), catalog)
    for room in (0, 100, 200, 300, 400, 600, 1_000, 2_000):
        with full_disk(room), pytest.raises(StoreError):
            index.apply_changes(changes(slice(2, 4), 5), catalog)
    assert index.size == 19
    assert index.apply_changes(changes(slice(2, 4), 5), catalog).size == 18


LINES = [bytes([65 + place % 26]) * (1 + 977 * place % 5_000) for place in range(400)]


def written(folder: Path, lines: list[bytes]) -> Path:
    with LineWriter(folder) as writer:
        for line in lines:
            writer.write(line)
    return folder


@pytest.mark.parametrize("lines", [LINES, [], [bytes(range(256)) * 4_000, b"x"]], ids=["many", "none", "a long one"])
def test_keyword_documents_round_trip_in_order(tmp_path: Path, lines: list[bytes]) -> None:
    assert list(read_lines(written(tmp_path, lines))) == lines


def test_truncated_file_is_damaged(tmp_path: Path) -> None:
    """Regression: a frame without its end was read as complete if it was cut between two lines."""
    path = written(tmp_path, LINES[:100]) / LINES_FILE
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(StoreDamagedError, match=r"lines\.zst cannot be read .*rebuild the index"):
            list(read_lines(tmp_path))
