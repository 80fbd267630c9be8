"""Features and inputs of the ranker."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

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
        for found, given, inside in (
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
            np.testing.assert_array_equal(found[place][filled], given)
            outside = found[place].copy()
            padding = PADDING if np.issubdtype(found.dtype, np.int64) else 0
            outside[filled] = padding
            assert (outside == padding).all()
