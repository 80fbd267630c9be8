"""Explained hits of the demo store: explanations equal repeated scores of the ranker."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from shelfwise.rerank.ranker.explanation import Factor
from shelfwise.rerank.ranker.features import FEATURES, popularity_feature
from shelfwise.retrieval.records import Contribution, Explanation, Hit, Product
from shelfwise.service.curation.relevance import Relevance, Signal
from shelfwise.service.engine.engine import DEGRADED, SearchEngine
from shelfwise.service.engine.explain import DESCRIPTIONS, OF_PREFERENCES, HitFacts
from shelfwise.service.engine.request import STAGES
from shelfwise.service.engine.reranking import Reranking
from shelfwise.service.engine.search import EXPLANATION
from tests.unit.service.engine.demo_rankers import attending_graph, failing, weighted_graph

NAMES = {name for name, _ in DESCRIPTIONS.values()}
OF_TYPE = DESCRIPTIONS[Factor.TYPE][0]
NEUTRAL = tuple(0.25 for _ in FEATURES)


@pytest.fixture(scope="module")
def explaining(engine: SearchEngine, open_ranked: Callable[..., SearchEngine]) -> SearchEngine:
    """An engine whose ranker is a small network with cross-attention."""
    values = {"mix": 0.3, "event_weights": (1.0, 0.5, 0.2), "neutral": NEUTRAL, "layers": 1}
    return open_ranked(attending_graph(engine.snapshot), **values)


def explanation_of(hit: Hit) -> Explanation:
    assert hit.explanation is not None
    return hit.explanation


def by_name(hit: Hit) -> dict[str, Contribution]:
    return {each.name: each for each in explanation_of(hit).contributions}


def test_contributions_are_differences_of_the_score(open_ranked: Callable[..., SearchEngine]) -> None:
    """The ranker weights only price and cosine, so that contributions can be calculated by hand."""
    opened = open_ranked(weighted_graph(price_gap=2.0, cosine=3.0), neutral=NEUTRAL)
    page = opened.search("cordless drill", explain=True)
    assert len(page.hits) > 10
    for hit in page.hits:
        found = by_name(hit)
        price, cosine = found["price"].contribution, found["similar in meaning"].contribution
        assert cosine == pytest.approx(3 * (hit.stages["dense"].score - 0.25), abs=1e-4)
        assert price + cosine + found[OF_TYPE].contribution == pytest.approx(hit.score - 5 * 0.25, abs=1e-4)
        others = [each for each in found.values() if each.name not in ("price", "similar in meaning", OF_TYPE)]
        assert all(each.contribution == 0 for each in others)
        assert [abs(each.contribution) for each in explanation_of(hit).contributions] == sorted(
            (abs(each.contribution) for each in found.values()), reverse=True
        )


def test_explanation_does_not_change_the_page(explaining: SearchEngine) -> None:
    plain, page = explaining.search("drill"), explaining.search("drill", explain=True)
    assert [hit.explanation for hit in plain.hits] == [None] * 20
    assert tuple(dataclasses.replace(hit, explanation=None) for hit in page.hits) == plain.hits
    assert page.degraded == ()
    for hit in page.hits:
        assert set(by_name(hit)) == NAMES - {DESCRIPTIONS[Factor.HISTORY][0]}


def test_signals_are_among_the_contributions(explaining: SearchEngine) -> None:
    relevance = Relevance(signals=(Signal("price", 2),))
    page = explaining.search("cordless drill", explain=True, relevance=relevance)
    found = [by_name(hit)["signal price"] for hit in page.hits[:10]]
    assert [each.value for each in found] == [f"{hit.product.price:g}" for hit in page.hits[:10]]
    assert len({each.contribution for each in found}) > 1


def test_a_measure_in_the_query_counts_as_a_preference(explaining: SearchEngine) -> None:
    page = explaining.search("usb-c cable 6 ft", size=40, explain=True)
    gained = {hit.product.title: by_name(hit).get(OF_PREFERENCES) is not None for hit in page.hits}
    assert not page.preferred, "no filter says it"
    assert gained == {title: re.search(r"\b6 ft", title) is not None for title in gained}
    assert {*gained.values()} == {True, False}


def test_unranked_hit_has_no_explanation(explaining: SearchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [explaining.search("drill", stage=stage, explain=True) for stage in STAGES[:3]]
    pages += [explaining.search(text, explain=True) for text in ("", "!!!")]
    monkeypatch.setattr("shelfwise.service.engine.served_models.Reranking", partial(Reranking, depth=5))
    first, second = (explaining.search("steel", size=8, page=page, explain=True) for page in (1, 2))
    assert [hit.explanation is not None for hit in first.hits] == [True] * 5 + [False] * 3
    assert all(hit.explanation is None for page in (*pages, second) for hit in page.hits)
    assert explaining.search("drill", size=0, explain=True).hits == ()


def test_query_words_match_the_title(explaining: SearchEngine) -> None:
    page = explaining.search("cordless drill", filters="language = en", explain=True)
    titled = [hit for hit in page.hits if {"cordless", "drill"} <= set(hit.product.title.casefold().split())]
    assert titled
    for hit in titled:
        assert {
            (each.query_word, each.product_word.casefold(), each.exact) for each in explanation_of(hit).matches
        } == {("cordless", "cordless", True), ("drill", "drill", True)}
        assert " = " in by_name(hit)["its words, in context"].value


def test_a_query_of_many_words_is_explained(explaining: SearchEngine) -> None:
    page = explaining.search(" ".join(f"steel{number} pan" for number in range(700)), size=3, explain=True)
    assert page.hits
    for hit in page.hits:
        met = [each.query_word for each in explanation_of(hit).matches]
        # At most the tokens that the ranker reads, though "pan" is repeated.
        assert 2 < len(met) <= 32
        assert len(set(met)) == len(met)
        assert all(-1 <= each.similarity <= 1 for each in explanation_of(hit).matches)


@pytest.mark.usefixtures("untyped")
def test_page_reports_a_failed_explanation(open_ranked: Callable[..., SearchEngine]) -> None:
    opened = open_ranked(failing(candidates=100))
    before = DEGRADED.labels(EXPLANATION)._value.get()
    plain, page = (opened.search("lamp for the desk", explain=each) for each in (False, True))
    assert (plain.degraded, page.degraded) == ((), (EXPLANATION,))
    assert page.hits == plain.hits
    assert DEGRADED.labels(EXPLANATION)._value.get() == before + 1


def hit_of(product: Product = Product("1", "drill"), **features: float) -> HitFacts:  # noqa: B008 - frozen
    values = np.zeros(len(FEATURES), np.float32)
    for name, value in features.items():
        values[FEATURES.index(name)] = value
    return HitFacts(product, values, 3, 0.2, ())


def popularity(share: float) -> float:
    return float(popularity_feature(np.array(share, np.float32)))


@pytest.mark.parametrize(
    ("factor", "explanation_of", "words"),
    [
        (Factor.KEYWORDS, hit_of(bm25=16.4 / 20, bm25_share=0.92), "16.4, 92% of the best match"),
        (Factor.MEANING, hit_of(cosine=0.7), "0.70; unrelated products have 0.20"),
        (Factor.PRICE, hit_of(has_price=1, price_gap=np.log(0.8)), "20% below what such products usually cost"),
        (Factor.PRICE, hit_of(has_price=1, price_gap=np.log(3.2)), "3.2 times what such products usually cost"),
        (Factor.POPULARITY, hit_of(popularity=popularity(0.123)), "12% of the most chosen product's"),
        (Factor.AGE, hit_of(has_created=1, freshness=0.5 ** (12 / 90)), "listed 12 days ago"),
        (Factor.AGE, hit_of(has_created=1, freshness=0.5 ** (1461 / 90)), "listed 4 years ago"),
        (Factor.AGE, hit_of(has_created=1), "listed decades ago"),
        (Factor.RATING, hit_of(Product("1", "drill", rating=4.6, rating_count=1_200)), "4.6 of 5, 1,200 ratings"),
    ],
)
def test_values_are_described_in_words(factor: Factor, explanation_of: HitFacts, words: str) -> None:
    assert DESCRIPTIONS[factor][1](explanation_of) == words


def test_words_of_hidden_fields_are_not_named(explaining: SearchEngine) -> None:
    def unknown_words() -> set[str]:
        """Words in explanations that are not in titles, brands or categories."""
        page = explaining.search("keyless gearbox for wood and metal", size=50, explain=True)
        found = ((hit.product, match.product_word) for hit in page.hits for match in explanation_of(hit).matches)
        named = {(word, f"{each.title} {each.brand} {' '.join(each.category)}") for each, word in found}
        return {word for word, shown in named if word not in shown}

    assert unknown_words()
    explaining.relevance.put([Relevance(hidden=("description", "rating"))])
    try:
        assert not unknown_words()
        page = explaining.search("keyless gearbox for wood and metal", explain=True)
        described = {by_name(hit)["rating"].value for hit in page.hits}
        assert described == {"none yet"}
    finally:
        explaining.relevance.put([Relevance()])
