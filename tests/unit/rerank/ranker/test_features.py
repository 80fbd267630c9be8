"""Features of the ranker, and those of its query memory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.rerank.ranker.features import (
    FEATURES,
    PADDING,
    FirstStage,
    RankerInputs,
    Signals,
    feature_matrix,
    pad_batch,
    popularity_feature,
    popularity_share,
)
from shelfwise.rerank.ranker.memory import MEMORY, NO_MEMORY, MemoryRows, QueryMemory, Scope, product_hashes
from shelfwise.rerank.ranker.network import Inputs
from shelfwise.retrieval.store.signals import SignalColumns
from tests.unit.rerank.ranker.random_candidates import candidates
from tests.versions import DIMENSION

_NAN = math.nan
FIRST = FirstStage(
    merged=np.array([3.0, 2.0, 1.0]),
    bm25=np.array([12.0, 6.0, 0.0]),
    cosine=np.array([0.7, 0.5, 0.6]),
    similarity=np.array([4.0, 2.0, 3.0]),
    of_type=np.array([1.0, 0.4, 2.5]),
    words=3,
    best_bm25=24.0,
)
SIGNALS = Signals(
    SignalColumns(
        price=np.array([50, 200, _NAN], np.float32),
        rating=np.array([5, 3.5, _NAN], np.float32),
        rating_count=np.array([10, _NAN, 40], np.float32),
        created=np.array([910, 1_030, _NAN], np.float32),
        availability=np.array([1, -1, _NAN], np.float32),
    ),
    popularity=np.array([0, 0.009, 1], np.float32),
    has_states=np.array([True, True, False]),
    today=1_000.0,
)


def column(name: str, first: FirstStage = FIRST, signals: Signals = SIGNALS, usual: float = 100.0) -> list[float]:
    found: list[float] = feature_matrix(first, signals, usual)[:, FEATURES.index(name)].tolist()
    return found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("merged", [3, 2, 1]),
        ("bm25_per_word", [12 / 3, 6 / 3, 0]),
        ("bm25_share", [12 / 24, 6 / 24, 0]),
        ("bm25", [12 / 20, 6 / 20, 0]),
        ("cosine", [0.7, 0.5, 0.6]),
        ("similarity", [4, 2, 3]),
        ("words", [math.log(1 + 3)] * 3),
        ("has_states", [1, 1, 0]),
        ("price_gap", [math.log(50 / 100), math.log(200 / 100), 0]),
        ("has_price", [1, 1, 0]),
        ("availability", [1, -1, 0]),
        # A product chosen a thousandth as often as the first one has almost no popularity.
        ("popularity", [0, math.log(1 + 1_000 * 0.009) / math.log(1 + 1_000), 1]),
        # Half after 90 days; a product with tomorrow's date has the maximum.
        ("freshness", [0.5, 1, 0]),
        ("has_created", [1, 1, 0]),
        # Like ten more ratings of 3.5; an unknown count counts as one.
        ("rating", [(5 * 10 + 3.5 * 10) / 20 - 3.5, 0, 0]),
        ("has_rating", [1, 1, 0]),
    ],
)
def test_each_feature_is_in_its_column(name: str, expected: list[float]) -> None:
    assert column(name) == pytest.approx(expected)


def test_price_feature_is_neutral_without_a_reference_price() -> None:
    assert column("price_gap", usual=_NAN) == [0, 0, 0]
    assert column("has_price", usual=_NAN) == [0, 0, 0]


def test_extreme_prices_give_finite_features() -> None:
    columns = dataclasses.replace(SIGNALS.catalog, price=np.array([0, 1e30, -5], np.float32))
    signals = dataclasses.replace(SIGNALS, catalog=columns)
    assert column("price_gap", signals=signals) == [0, 3, 0]
    assert column("has_price", signals=signals) == [0, 1, 0]


@pytest.mark.parametrize("share", [0.0, 1e-4, 0.013, 0.5, 1.0])
def test_popularity_feature_is_invertible(share: float) -> None:
    feature = popularity_feature(np.array([share], np.float32))
    assert 0 <= feature[0] <= 1
    assert popularity_share(float(feature[0])) == pytest.approx(share, rel=1e-4, abs=1e-7)


def test_query_without_matching_words_has_share_0() -> None:
    nothing = dataclasses.replace(FIRST, bm25=np.zeros(3), words=0, best_bm25=0.0)
    for name in ("bm25_share", "bm25_per_word", "bm25"):
        assert column(name, nothing) == [0, 0, 0]


def test_network_inputs_are_in_order() -> None:
    assert tuple(field.name for field in dataclasses.fields(RankerInputs)) == Inputs._fields
    assert tuple(pad_batch([candidates(1)], DIMENSION).arrays()) == Inputs._fields


def test_lists_are_padded_at_the_end() -> None:
    lists = [candidates(2, words=3, tokens=4, events=1), candidates(5, words=1, tokens=6, events=3)]
    batch = pad_batch(lists, DIMENSION)
    for place, each in enumerate(lists):
        count, words, events = len(each.features), len(each.query.ids), len(each.history.kinds)
        tokens = each.products.ids.shape[1]
        for found, expected, inside in (
            (batch.query_ids, each.query.ids, (words,)),
            (batch.query_states, each.query.states, (words,)),
            (batch.query_idf, each.query_idf, (words,)),
            (batch.product_ids, each.products.ids, (count, tokens)),
            (batch.product_states, each.products.states, (count, tokens)),
            (batch.features, each.features, (count,)),
            (batch.candidate_vectors, each.vectors, (count,)),
            (batch.history_vectors, each.history.vectors, (events,)),
            (batch.history_kinds, each.history.kinds, (events,)),
            (batch.history_gaps, each.history.gaps, (events,)),
        ):
            filled = tuple(slice(length) for length in inside)
            np.testing.assert_array_equal(found[place][filled], expected)
            outside = found[place].copy()
            padding = PADDING if np.issubdtype(found.dtype, np.int64) else 0
            outside[filled] = padding
            assert (outside == padding).all()


ROWS = [
    ("all", "", "product", "a", 2.0, 1.0, 0.5, 0.8),
    ("all", "", "product", "b", 0.5, 1.0, 1.0, 0.4),
    ("query", "drill red", "product", "a", 4.0, 2.0, 1.0, 0.9),
    ("query", "drill red", "category", "Drills", 1.5, 1.0, 1.0, 0.7),
    ("word", "drill", "product", "a", 3.0, 1.0, 1.0, 0.6),
    ("word", "red", "product", "a", 1.5, 1.0, 1.0, 0.2),
    ("word", "drill", "product", "c", 0.0, 1.0, 1.0, 0.5),
    ("word", "drill", "category", "Drills", 1.25, 1.0, 1.0, 0.3),
    ("query", "drill red", "brand", "Torvane", 0.5, 1.0, 1.0, 0.1),
]
Row = tuple[str, str, str, str, float, float, float, float]
CATALOG = [("new", "category", "Drills"), ("new", "brand", "Torvane"), ("a", "brand", "Other"), ("c", "price", "3")]


def memory_of(rows: list[Row], catalog: Sequence[tuple[str, str, str]] = CATALOG) -> QueryMemory:
    ratios = np.array([(*row[4:], 3.0) for row in rows], np.float64).reshape(-1, 5).T
    scopes, keys, kinds, members = ([str(row[column]) for row in rows] for column in range(4))
    return QueryMemory.of_rows(MemoryRows(scopes, keys, kinds, members, [*ratios]), catalog)


def remembered(memory: QueryMemory, text: str, product: str) -> dict[str, float]:
    return dict(zip(MEMORY, memory.features(text, product_hashes([product]))[0].tolist(), strict=True))


def test_each_scope_has_its_features() -> None:
    found = remembered(memory_of(ROWS), "Red DRILLS", "a")
    words = (0.6 * math.log(3.0) + 0.2 * math.log(1.5)) / (0.6 + 0.2)
    assert found["query_product"] == 0  # of another query: "drills red"
    assert found["words_product"] == pytest.approx(words)
    assert found["query_purchase"] == pytest.approx(math.log(0.5))
    same = remembered(memory_of(ROWS), "drill  red", "a")
    assert same["query_product"] == pytest.approx(math.log(4.0))
    assert same["query_cart"] == pytest.approx(math.log(2.0))


def test_a_new_product_has_the_features_of_its_category_and_brand() -> None:
    found = remembered(memory_of(ROWS), "red drill", "new")
    expected = {
        "query_category": math.log(1.5),
        "query_category_evidence": 0.7,
        "words_category": math.log(1.25),
        "words_category_evidence": 0.3,
        "query_brand": math.log(0.5),
        "query_brand_evidence": 0.1,
    }
    assert {name: value for name, value in found.items() if value} == pytest.approx(expected)


def test_shares_count_products_with_known_ids() -> None:
    memory = memory_of(ROWS)
    assert memory.share_in_catalog() == 1 / 2  # "a", not "b"
    assert memory.share_known(product_hashes(["a", "new", "c", "elsewhere"])) == 3 / 4
    assert (NO_MEMORY.share_in_catalog(), NO_MEMORY.share_known(product_hashes(["a"]))) == (1, 1)


def test_unknown_products_and_queries_are_0() -> None:
    memory = memory_of(ROWS)
    assert not any(remembered(memory, "drill red", "elsewhere").values())
    assert not any(remembered(NO_MEMORY, "drill red", "a").values())
    assert not any(remembered(memory, "", "new").values())
    assert memory.features("drill", product_hashes([])).shape == (0, len(MEMORY))


keys = st.tuples(st.sampled_from([scope.value for scope in Scope]), st.sampled_from("xyz"), st.sampled_from("abcdef"))


@given(st.dictionaries(keys, st.floats(0.25, 4, width=32), max_size=30))
def test_lookup_agrees_with_a_dictionary(held: dict[tuple[str, str, str], float]) -> None:
    memory = memory_of([(*key[:2], "product", key[2], ratio, 1.0, 1.0, 0.5) for key, ratio in held.items()], ())
    assert memory.problem() == ""
    found = memory.features("x", product_hashes([*"abcdef"]))[:, MEMORY.index("query_product")]
    expected = [math.log(held.get(("query", "x", product), 1.0)) for product in "abcdef"]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"starts": np.array([0, 2, 5, 8, 99])}, "bounds that do not match its rows"),
        ({"starts": np.array([0, 0, 5, 8, 9])}, "keys that are not in order"),
        ({"cart": np.ones(3, np.float32)}, "different numbers of members and ratios"),
        ({"brand": np.ones(1, np.uint64)}, "different numbers of products, categories"),
        ({"evidence": np.full(9, np.nan, np.float32)}, "not finite"),
    ],
)
def test_damaged_arrays_are_described(change: dict[str, np.ndarray], message: str) -> None:
    memory = memory_of(ROWS)
    fields = {name: getattr(memory, name) for name in QueryMemory.__dataclass_fields__}
    assert message in QueryMemory(**{**fields, **change}).problem()
