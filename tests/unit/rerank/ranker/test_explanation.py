"""Explanations of scores, and matched terms."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.ranker.explanation import Factor, QueryWords, contributions, neutral_features, term_matches
from shelfwise.rerank.ranker.features import FEATURES, MERGED, Candidates, History
from shelfwise.rerank.ranker.onnx import OnnxRanker
from shelfwise.rerank.ranker.spec import RankerSpec, StoredRanker
from shelfwise.retrieval.encoders.base import unit_rows
from shelfwise.retrieval.index.token_states import SCALE, ProductTokens
from shelfwise.retrieval.text.highlight import TokenWords
from tests.rankers import REPORT, SPEC, building, linear_graph
from tests.unit.rerank.ranker.conftest import Exported
from tests.unit.rerank.ranker.random_candidates import candidates, scored
from tests.versions import DIMENSION

OF_THE_QUERY = ("words",)  # features that are the same for all candidates of a query
NEUTRAL = tuple(place / 10 - 0.5 for place in range(len(FEATURES)))
EXPLAINED_SPEC = msgspec.structs.replace(SPEC, neutral=NEUTRAL)
WEIGHTS = np.array(SPEC.event_weights)


def linear(folder: Path, spec: RankerSpec) -> OnnxRanker:
    building(5, linear_graph(5, len(spec.features)))(folder)
    return OnnxRanker(StoredRanker("ranker-0007", folder, spec, REPORT))


def explaining_ranker(exported: Exported) -> OnnxRanker:
    return OnnxRanker(StoredRanker("ranker-0007", exported.folder, EXPLAINED_SPEC, REPORT))


def changed(whole: Candidates, **columns: float) -> Candidates:
    features = whole.features.copy()
    for name, value in columns.items():
        features[:, FEATURES.index(name)] = value
    return dataclasses.replace(whole, features=features)


def without_query_tokens(whole: Candidates) -> Candidates:
    ids, states = np.full_like(whole.products.ids, -1), np.zeros_like(whole.products.states)
    return dataclasses.replace(changed(whole, has_states=0), products=ProductTokens(ids, states))


def test_every_feature_is_in_one_group() -> None:
    result = [name for factor in Factor for name in factor.value]
    assert sorted((*result, *OF_THE_QUERY)) == sorted(FEATURES)


def test_contributions_equal_rescoring(exported: Exported) -> None:
    whole = candidates(9)
    found = contributions(explaining_ranker(exported), whole)
    usual = dict(zip(FEATURES, NEUTRAL, strict=True))
    assert set(found) == set(Factor) - {Factor.HISTORY}

    def scores(each: Candidates) -> NDArray[np.float64]:
        return np.asarray(scored(exported.network, each)[0] @ WEIGHTS + SPEC.mix * each.features[:, MERGED])

    for factor in found:
        others = without_query_tokens(whole)
        if factor is not Factor.WORDS:
            others = changed(whole, **{name: usual[name] for name in factor.value})
        np.testing.assert_allclose(found[factor], scores(whole) - scores(others), atol=1e-4)
    assert all(np.abs(each).max() > 1e-3 for each in found.values())


def test_history_is_explained_if_the_ranker_reads_it(exported: Exported) -> None:
    ranker = explaining_ranker(exported)
    whole = candidates(6, events=3)
    found = contributions(ranker, whole)
    assert (Factor.HISTORY in found) == ranker.reads_history
    if ranker.reads_history:
        without, with_it = ranker.score([dataclasses.replace(whole, history=History.none(DIMENSION)), whole])
        np.testing.assert_allclose(found[Factor.HISTORY], with_it - without, atol=1e-5)


def test_ranker_without_means_is_explained_against_0(tmp_path: Path) -> None:
    assert not neutral_features(SPEC).any()
    whole = candidates(3)
    found = contributions(linear(tmp_path, SPEC), whole)
    assert (found[Factor.PRICE] != 0).all()
    again = contributions(linear(tmp_path, SPEC), changed(whole, price_gap=0, has_price=0))
    np.testing.assert_allclose(again[Factor.PRICE], 0, atol=1e-6)


def query(words: tuple[str, ...], word_of: list[int], states: list[list[float]], idf: list[float]) -> QueryWords:
    return QueryWords(product(words, word_of), unit_rows(np.array(states, np.float32)), np.array(idf, np.float32))


def product(words: tuple[str, ...], word_of: list[int]) -> TokenWords:
    return TokenWords(words, np.array(word_of, np.int64))


def stored(states: list[list[float]]) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    return np.rint(unit_rows(np.array(states, np.float32)) * SCALE).astype(np.int8)


def test_words_match_their_nearest_and_rare_words_come_first() -> None:
    asked = query(("for", "drill"), [0, 1], [[1, 0, 0], [0, 1, 0]], [1, 6])
    found = term_matches(asked, product(("saw", "screwdriver"), [0, 1]), stored([[1, 0, 0.2], [0, 3, 4]]))
    met = [(each.query_word, each.product_word, each.exact) for each in found]
    assert met == [("drill", "screwdriver", False), ("for", "saw", False)]
    assert abs(found[0].similarity - 3 / 5) < 0.01


def test_without_words_there_are_no_matches() -> None:
    nothing = query((), [-1], [[1, 0]], [1])
    assert term_matches(nothing, product(("saw",), [0]), stored([[1, 0]])) == ()
    asked = query(("drill",), [0], [[1, 0]], [1])
    assert term_matches(asked, product((), [-1]), stored([[1, 0]])) == ()
    assert term_matches(asked, product((), []), np.empty((0, 2), np.int8)) == ()
