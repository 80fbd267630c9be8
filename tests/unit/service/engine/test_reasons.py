"""Reasons and explanations of hits."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import numpy as np
import pytest

from shelfwise.rerank.ranker.explanation import Factor
from shelfwise.rerank.ranker.features import FEATURES, popularity_feature
from shelfwise.rerank.ranker.memory import MemoryRows, QueryMemory, product_hashes
from shelfwise.retrieval.records import Contribution, Explanation, Hit, Product, Reason, ReasonKind
from shelfwise.service.curation.relevance import Relevance, Signal
from shelfwise.service.curation.rules import Boost, Bury, Pin, Rule
from shelfwise.service.engine.engine import DEGRADED, SearchEngine
from shelfwise.service.engine.reasons import DESCRIPTIONS, OF_PREFERENCES, HitFacts, reason_line
from shelfwise.service.engine.request import STAGES
from shelfwise.service.engine.search import EXPLANATION
from shelfwise.service.events.signals import write_memory, write_popularity
from tests.catalogs import ids
from tests.unit.service.engine.demo_rankers import attending_graph, failing, weighted_graph
from tests.unit.service.engine.demo_visits import MADE

QUERY = "cordless drill"


@pytest.fixture(scope="module")
def ranked(open_ranked: Callable[..., SearchEngine]) -> SearchEngine:
    """An engine with a ranker that reads every feature with a reason."""
    weights = {"bm25": 2.0, "cosine": 2.0, "query_product": 1.0, "popularity": 1.0, "rating": 1.0}
    return open_ranked(weighted_graph(**weights), mix=0.2)


def kinds(hit: Hit) -> set[ReasonKind]:
    return {reason.kind for reason in hit.reasons}


def test_a_hit_without_the_named_words_falls(ranked: SearchEngine) -> None:
    page = ranked.search(QUERY, size=50, reasons="en")
    hit = next(each for each in page.hits if ReasonKind.WORDS in kinds(each))
    (reason,) = (each for each in hit.reasons if each.kind is ReasonKind.WORDS)
    assert set(reason.values) <= {"cordless", "drill"}
    assert reason.ranks >= 1
    before = ids(page).index(hit.product.id)
    ranked.upsert([dataclasses.replace(hit.product, title="sample", description="", category=(), attributes={})])
    found = ids(ranked.search(QUERY, size=50))
    ranked.upsert([hit.product])
    assert hit.product.id not in found[: before + 1]


def test_effects_that_move_no_hit_are_no_reasons(ranked: SearchEngine) -> None:
    """A single hit has no hits to be ranked above."""
    (hit,) = ranked.search(QUERY, filters=f'id = "{ranked.search(QUERY).hits[0].product.id}"', reasons="en").hits
    assert hit.reasons == ()


def test_choices_of_shoppers_are_a_reason_only_for_their_query(ranked: SearchEngine) -> None:
    product = ranked.search(QUERY, size=20).hits[9].product.id
    key = " ".join(sorted(QUERY.split()))
    ratios = [np.array([ratio]) for ratio in (8.0, 1.0, 1.0, 0.9, 1.0)]
    known = [ranked.snapshot.products.id_of(row) for row in range(len(ranked.snapshot.products))]
    rows = MemoryRows(["query"], [key], ["product"], [product], ratios)
    write_memory(ranked.root, QueryMemory.of_rows(rows, [(name, "product", name) for name in known]), MADE)
    write_popularity(ranked.root, {product: 5.0, known[0]: 5.0}, MADE)
    ranked.reload_if_changed()
    page = ranked.search(QUERY, reasons="en")
    chosen = [hit for hit in page.hits if ReasonKind.CHOSEN in kinds(hit)]
    assert [hit.product.id for hit in chosen] == [product]
    assert "often chosen by others who searched this" in chosen[0].reason_line
    assert product in [hit.product.id for hit in page.hits if ReasonKind.POPULAR in kinds(hit)]


def test_memory_of_other_queries_is_not_the_querys_own() -> None:
    """The product is chosen for other queries, and the ratio of this one is only that prior."""
    scopes, keys = ["all", "query", "query"], ["", "drill", "drill"]
    members = ["a", "a", "b"]
    ratios = [np.array(each) for each in ([4.0, 3.65, 4.0], [1.0] * 3, [1.0] * 3, [0.9, 0.1, 0.9], [1.0] * 3)]
    memory = QueryMemory.of_rows(MemoryRows(scopes, keys, ["product"] * 3, members, ratios))
    assert memory.features("drill", product_hashes(["a"]))[0, 0] > 1
    assert memory.chosen("drill", product_hashes(["a", "b", "c"])).tolist() == [False, True, False]


def test_the_store_is_always_named(ranked: SearchEngine) -> None:
    plain = ids(ranked.search(QUERY))
    rules = (
        Rule("first", (Pin((plain[5],)),)),
        Rule("up", (Boost(f'id = "{plain[9]}"', 3.0),)),
        Rule("down", (Bury(f'id = "{plain[0]}"', 0.01),)),
    )
    page = ranked.search(QUERY, reasons="en", rules=rules)
    found = {hit.product.id: hit for hit in page.hits}
    assert found[plain[5]].reasons == (Reason(ReasonKind.PINNED, ("first",)),)
    assert found[plain[5]].reason_line == "Placed here by the store"
    assert Reason(ReasonKind.BOOSTED, ("up",)) in found[plain[9]].reasons
    assert Reason(ReasonKind.BURIED, ("down",)) in found[plain[0]].reasons
    assert found[plain[0]].reason_line.endswith("moved down by the store")
    browsed = ranked.search("", reasons="zh", rules=rules).hits[0]
    assert (browsed.product.id, browsed.reason_line) == (plain[5], "商店置于此处")


def test_signals_of_the_store_are_named_without_their_fields(ranked: SearchEngine) -> None:
    page = ranked.search(QUERY, reasons="en", relevance=Relevance(signals=(Signal("price", 3.0),)))
    moved = [hit for hit in page.hits if ReasonKind.SIGNALS in kinds(hit)]
    assert moved
    assert all("preferred by the store" in hit.reason_line for hit in moved)
    assert "price" not in str([hit.reasons for hit in moved])


def test_values_and_types_are_named_as_in_the_query(ranked: SearchEngine) -> None:
    page = ranked.search("drill under 100", reasons="en", size=40)
    values = {
        value for hit in page.hits for each in hit.reasons if each.kind is ReasonKind.VALUE for value in each.values
    }
    assert values == {"≤ 100"}
    types = {each.values[0] for hit in page.hits for each in hit.reasons if each.kind is ReasonKind.TYPE}
    assert any("drill" in name for name in types)


def test_identifier_is_the_only_reason(ranked: SearchEngine) -> None:
    product = next(each for each in (hit.product for hit in ranked.search("drill").hits) if each.identifiers)
    number = next(iter(product.identifiers.values()))[0]
    hit = ranked.search(number, reasons="en").hits[0]
    assert hit.reasons == (Reason(ReasonKind.IDENTIFIER, (number,)),)


@pytest.mark.parametrize(
    "options", [{"sort": "price"}, {"stage": "bm25"}, {"stage": "dense"}, {"merge": "rrf", "stage": "merged"}]
)
def test_other_orders_have_no_reasons(ranked: SearchEngine, options: dict[str, str]) -> None:
    page = ranked.search(QUERY, reasons="en", **options)  # type: ignore[arg-type]
    assert all(hit.reasons == () for hit in page.hits)
    merged = ranked.search(QUERY, reasons="en", stage="merged")
    assert {ReasonKind.TYPE, ReasonKind.WORDS} <= {kind for hit in merged.hits for kind in kinds(hit)}


def test_chinese_query_has_chinese_reasons(ranked: SearchEngine) -> None:
    page = ranked.search("充电电钻", reasons="auto")
    lines = [hit.reason_line for hit in page.hits if ReasonKind.WORDS in kinds(hit)]
    assert lines
    assert all(line.startswith("匹配 ") for line in lines)


def test_line_names_what_matches_once_and_three_others() -> None:
    reasons = (
        Reason(ReasonKind.WORDS, ("cordless", "drills", "18v"), 5),
        Reason(ReasonKind.TYPE, ("cordless drill",), 4),
        Reason(ReasonKind.MEANING, (), 3),
        Reason(ReasonKind.CHOSEN, (), 3),
        Reason(ReasonKind.POPULAR, (), 2),
        Reason(ReasonKind.RATED, ("4.6",), 2),
        Reason(ReasonKind.HISTORY, (), 1),
        Reason(ReasonKind.BOOSTED, ("week",)),
    )
    others = "often chosen by others who searched this; popular; rated 4.6 of 5; moved up by the store"
    assert reason_line(reasons, "auto", "drill") == f"Matches cordless drill, 18v; {others}"
    assert reason_line(reasons[2:3], "en", "钻") == "Close in meaning"
    assert reason_line(reasons[:2], "zh", "drill") == "匹配 cordless drill、18v"
    assert reason_line((), "auto", "drill") == ""


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
    monkeypatch.setattr("shelfwise.service.engine.reranking.DEPTH", 5)
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
