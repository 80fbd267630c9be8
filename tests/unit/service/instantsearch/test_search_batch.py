"""Batches of searches, and recommendations, of a real engine: shared work, true scores, filters of a key."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from msgspec import UNSET

from shelfwise.rerank.sessions.options import DeriveOptions, Window
from shelfwise.rerank.sessions.tables import publish
from shelfwise.retrieval.errors import QueryError, UnknownFieldError
from shelfwise.retrieval.records import Page, RelationKind
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER, RELATIONS_FILE
from shelfwise.service.curation.relations import RelationCorrection
from shelfwise.service.curation.rules import Data, Match, Rule, When
from shelfwise.service.engine.candidates import EncodedQuery
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.suggest import Suggestions
from shelfwise.service.events.event_log import DERIVED_FOLDER
from shelfwise.service.events.signals import Relations, write_popularity, write_relations
from shelfwise.service.experiments.assignment import MarkedPage, ShopperSearch
from shelfwise.service.http.auth import combine_filters
from shelfwise.service.instantsearch.protocol_request import Hooks, JsonObject
from shelfwise.service.instantsearch.recommend import PurchaseStatistics, Recommender
from shelfwise.service.instantsearch.search_batch import SearchBatch
from tests.catalogs import ids

NOW = datetime(2026, 12, 1, tzinfo=UTC)


class HookRecorder:
    """Records the calls of the hooks."""

    def __init__(self, narrowed_by: str = "", tried: Callable[[ShopperSearch], MarkedPage] | None = None) -> None:
        self.pages: list[Page] = []
        self.shown: list[tuple[str, str, int, str]] = []
        self.hooks = Hooks(
            lambda given: combine_filters((narrowed_by, given)),
            lambda _typed, _size: Suggestions(),
            self.pages.append,
            tried,
            lambda query_id, query, page, shopper: self.shown.append((query_id, query, len(page.hits), shopper)),
        )


def test_equal_searches_of_a_request_run_once(store: SearchEngine) -> None:
    result = HookRecorder()
    batch = SearchBatch(store, result.hooks)
    same = {"query": "lamp", "indexName": "a", "clickAnalytics": True, "userToken": "u"}
    params = [same, {**same, "indexName": "b", "highlightPreTag": "<i>"}, {**same, "query": "drill"}] * 3
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(batch.answer, params))
    assert len(result.pages) == 2
    assert [getattr(each, "index", "") for each in results[:3]] == ["a", "b", "a"]
    # Each list has its own query id, which a click reports.
    assert len({query_id for query_id, *_ in result.shown}) == len(params)


def test_text_is_encoded_once_for_all_filters(store: SearchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[EncodedQuery] = []

    def counting(*parts: Any) -> EncodedQuery:  # noqa: ANN401
        encoded.append(EncodedQuery(*parts))
        return encoded[-1]

    monkeypatch.setattr("shelfwise.service.engine.candidates.EncodedQuery", counting)
    batch = SearchBatch(store, HookRecorder().hooks)
    text = "lamp that no other test asks for"
    for size, color in ((20, "Black"), (0, "Red"), (0, "Green"), (20, "Red")):
        batch.answer({"query": text, "hitsPerPage": size, "facetFilters": [f"color:{color}"], "indexName": "a"})
    assert len(encoded) == 1


@pytest.mark.parametrize("facets", [["brand"], ["brand", "hierarchicalCategories.lvl1"]])
def test_search_of_a_shopper_follows_experiments(store: SearchEngine, facets: list[str]) -> None:
    params: list[ShopperSearch] = []

    def tried(search: ShopperSearch) -> MarkedPage:
        params.append(search)
        return MarkedPage(store.search(replace(search.request, size=2, stage="bm25")), "q1~trial")

    result = HookRecorder(tried=tried)
    payload: JsonObject = {"query": "lamp", "clickAnalytics": True, "userToken": "u", "facets": facets}
    batch = SearchBatch(store, result.hooks)
    found, plain = batch.search(payload, "a"), batch.search({**payload, "clickAnalytics": False}, "a")
    ids = [hit.product.id for hit in store.search("lamp", size=2, stage="bm25").hits]
    assert [hit["objectID"] for hit in found.hits] == ids
    assert (found.query_id, result.shown) == ("q1~trial", [("q1~trial", "lamp", 2, "u")])
    assert (params[0].request.text, params[0].shopper, len(params)) == ("lamp", "u", 1)
    assert set(found.facets) == set(plain.facets) == set(facets)


def test_distinct_returns_several_hits_per_group_with_their_rank(store: SearchEngine) -> None:
    batch = SearchBatch(store, HookRecorder().hooks)
    payload = {"query": "backpack", "distinct": 3, "hitsPerPage": 2}
    found, page = batch.search(payload, "a"), store.search("backpack", group="variants", per_group=3, size=2)
    shown = [(hit.product.id, hit.group_rank - 1) for hit in page.hits]
    assert [(hit["objectID"], hit["_distinctSeqID"]) for hit in found.hits] == shown
    assert (found.nb_hits, found.nb_pages) == (page.total, math.ceil(page.total / 2))
    assert 2 < len(shown) <= 6
    # A window that begins within a page also begins with a group.
    whole = batch.search({**payload, "hitsPerPage": 3}, "a").hits
    rest = batch.search({"query": "backpack", "distinct": 3, "offset": 1, "length": 2}, "a").hits
    assert [hit["objectID"] for hit in rest] == [hit["objectID"] for hit in whole[-len(rest) :]]
    assert [hit["_distinctSeqID"] for hit in rest].count(0) == 2


@pytest.mark.parametrize(
    ("parameters", "group"),
    [
        ({"distinct": True}, "variants"),
        ({"params": "distinct=1&attributeForDistinct=color"}, "color"),
        ({"distinct": False, "attributeForDistinct": "brand"}, ""),
        ({"distinct": "2", "attributeForDistinct": "nosuch"}, ""),
    ],
)
def test_distinct_returns_one_hit_per_group(store: SearchEngine, parameters: JsonObject, group: str) -> None:
    batch = SearchBatch(store, HookRecorder().hooks)
    payload = {"query": "backpack", "facets": ["brand"], **parameters}
    found = batch.search(payload, "a")
    page = store.search("backpack", group=group, facets=["brand"])
    assert [hit["objectID"] for hit in found.hits] == [hit.product.id for hit in page.hits]
    assert found.nb_hits == page.total
    assert found.facets["brand"] == {each.value: each.count for each in page.facets["brand"].counts}
    is_distinct = parameters.get("distinct") is not False
    assert [hit.get("_groupSize") for hit in found.hits] == [
        hit.group_size if is_distinct else None for hit in page.hits
    ]
    best = page.facets["brand"].counts[0]
    assert batch.facet_search({**payload, "facetQuery": str(best.value)}, "brand").facet_hits[0].count == best.count


@pytest.mark.parametrize(
    ("attributes", "fields"),
    [(["name"], ["title"]), (["title", "color"], ["title", "attributes.color"]), (["categories.lvl0"], ["category"])],
)
def test_searched_attributes_are_restricted(store: SearchEngine, attributes: list[str], fields: list[str]) -> None:
    batch = SearchBatch(store, HookRecorder().hooks)
    payload: JsonObject = {"query": "black backpack", "facets": ["brand"], "restrictSearchableAttributes": attributes}
    found = batch.search(payload, "a")
    page = store.search("black backpack", prefix=True, search_fields=fields, facets=["brand"])
    assert ([hit["objectID"] for hit in found.hits], found.nb_hits) == (ids(page), page.total)
    assert found.facets["brand"] == {each.value: each.count for each in page.facets["brand"].counts}
    with pytest.raises(UnknownFieldError, match="no field 'price'"):
        batch.search({**payload, "restrictSearchableAttributes": ["price"]}, "a")


def test_operators_are_read_with_advanced_syntax(store: SearchEngine) -> None:
    batch, payload = SearchBatch(store, HookRecorder().hooks), {"query": '"cordless drill" -brushless'}
    page = store.search("cordless drill", phrases=["cordless drill"], excluded=["brushless"])
    found = batch.search({**payload, "advancedSyntax": True}, "a")
    assert [hit["objectID"] for hit in found.hits] == ids(page)
    assert found.nb_hits == page.total != batch.search(payload, "a").nb_hits


def test_optional_filters_order_hits(store: SearchEngine) -> None:
    batch = SearchBatch(store, HookRecorder().hooks)
    plain = batch.search({"query": "backpack", "hitsPerPage": 100}, "a")
    color = next(each["color"] for each in plain.hits if each["color"] != plain.hits[0]["color"])
    for optional in ([f"color:{color}"], [[f"color:{color}<score=3>", "brand:nosuch"]], f'["color:{color}"]'):
        found = batch.search({"query": "backpack", "hitsPerPage": 100, "optionalFilters": optional}, "a")
        assert (found.nb_hits, found.hits[0]["color"]) == (plain.nb_hits, color)
    found = batch.search({"query": "backpack", "optionalFilters": [f"color:-{plain.hits[0]['color']}"]}, "a")
    assert found.hits[0]["color"] != plain.hits[0]["color"]
    with pytest.raises(QueryError, match=r"filters: 'brand' must be an attribute and a value"):
        batch.search({"query": "backpack", "optionalFilters": ["brand"]}, "a")


def test_rules_of_contexts_answer_with_their_data(live: SearchEngine) -> None:
    values: dict[str, object] = {"banner": {"title": "Drills"}}
    live.rules.put([Rule("b", (Data(values),), When("drill", Match.CONTAINS, contexts=("app",)))])
    batch = SearchBatch(live, HookRecorder().hooks)
    assert batch.search({"query": "drill", "ruleContexts": ["app", "web"]}, "a").user_data == [values]
    assert batch.search({"query": "drill", "ruleContexts": ["web"]}, "a").user_data is UNSET
    assert batch.search({"query": "drill", "ruleContexts": "app", "enableRules": False}, "a").user_data is UNSET


@pytest.mark.parametrize(("tolerance", "finds"), [("min", True), ("false", False)])
def test_typo_tolerance_can_be_turned_off(store: SearchEngine, tolerance: object, finds: bool) -> None:
    batch = SearchBatch(store, HookRecorder().hooks)
    payload = {"query": "cordles dril", "queryType": "prefixNone", "typoTolerance": tolerance}
    assert ("searched for cordless drill" in str(batch.search(payload, "a").message)) is finds


PURCHASES = ("kind", "product_id", "neighbour_id", "similarity", "rank")


def test_coviews_count_for_related_products_only(store: SearchEngine) -> None:
    product = store.search("lamp").hits[0].product
    texts = [hit.product.id for hit in store.similar(product.id, size=30, filters='language = "en"').hits]
    write_relations(store.root, Relations.of_pairs([(product.id, texts[25], 0.9, None)]), NOW)
    store.reload_if_changed()
    params = {"objectID": product.id, "maxRecommendations": 5, "indexName": "a"}
    related, alike = (
        recommender(store).answer({"model": model, **params}).hits for model in ("related-products", "looking-similar")
    )
    (store.root / RELATIONS_FILE).unlink()
    store.reload_if_changed()
    assert [hit["objectID"] for hit in related] == [texts[25], *texts[:4]]
    assert related[0]["_score"] == 100
    assert [hit["objectID"] for hit in alike] == texts[:5]


def test_bought_together_scores_are_cosines_of_buyers(store: SearchEngine) -> None:
    statistics = PurchaseStatistics(store.root)
    first, second, third = (hit.product.id for hit in store.search("lamp", size=3).hits)
    params: JsonObject = {"model": "bought-together", "objectID": first, "maxRecommendations": 3}
    found = recommender(store).answer(params)
    assert len(found.hits) == 3
    assert "these are similar products" in str(found.message)
    assert statistics.bought_with(first, 9) == {}
    rows = [("purchase", first, second, 0.25, 2), ("purchase", first, third, 0.5, 1), ("view", first, "other", 0.9, 1)]
    rows.append(("purchase", first, "x", 0.1, 3))
    table = pl.DataFrame(rows, schema=PURCHASES, orient="row")
    derived = store.root / EVENTS_FOLDER / DERIVED_FOLDER
    publish(derived, {"neighbours": table}, {}, Window(NOW, NOW), DeriveOptions(), NOW)
    found = Recommender(store, HookRecorder().hooks, statistics).answer(params)
    assert [(hit["objectID"], hit["_score"]) for hit in found.hits] == [(third, 50.0), (second, 25.0)]
    assert found.message is UNSET
    above = Recommender(store, HookRecorder().hooks, statistics).answer({**params, "threshold": 50})
    assert [hit["objectID"] for hit in above.hits] == [third]


def test_corrections_of_the_store_come_first_or_take_away(store: SearchEngine) -> None:
    statistics = PurchaseStatistics(store.root)
    first, bought, added = (hit.product.id for hit in store.search("lamp", size=3).hits)
    english = store.similar(first, size=30, filters='language = "en"').hits
    far, near = (english[place].product.id for place in (25, 0))
    table = pl.DataFrame([("purchase", first, bought, 0.25, 1)], orient="row", schema=PURCHASES)
    publish(
        store.root / EVENTS_FOLDER / DERIVED_FOLDER, {"neighbours": table}, {}, Window(NOW, NOW), DeriveOptions(), NOW
    )
    pairs = [(RelationKind.SUBSTITUTE, far, False), (RelationKind.SUBSTITUTE, near, True)]
    pairs += [(RelationKind.COMPLEMENT, added, False), (RelationKind.COMPLEMENT, bought, True)]
    corrections = [RelationCorrection(kind, first, other, removed) for kind, other, removed in pairs]
    recommending = Recommender(store, HookRecorder().hooks, statistics)

    def products(model: str) -> list[tuple[str, float]]:
        hits = recommending.answer({"model": model, "objectID": first, "maxRecommendations": 5}).hits
        return [(hit["objectID"], hit["_score"]) for hit in hits]

    before = products("related-products")
    assert (before[0][0], products("bought-together")) == (near, [(bought, 25.0)])
    alike = products("looking-similar")
    store.relations.put(corrections)
    assert products("related-products") == [(far, 100.0), *before[1:]]
    assert products("bought-together") == [(added, 100.0)]
    assert products("looking-similar") == alike
    for each in corrections:
        store.relations.delete([each.id])
    assert products("related-products") == before


def test_trending_products_are_first_with_their_share(store: SearchEngine) -> None:
    unknown = recommender(store).answer({"model": "trending-items", "maxRecommendations": 3})
    assert "there is no popularity data" in str(unknown.message)
    assert {hit["_score"] for hit in unknown.hits} == {0.0}
    first, second, third = (hit.product for hit in store.search("lamp", size=3).hits)
    write_popularity(store.root, {second.id: 8.0, first.id: 2.0, third.id: 4.0, "gone": 9.0}, NOW)
    found = recommender(store).answer({"model": "trending-items"})
    ranked = [(second.id, 8), (third.id, 4), (first.id, 2)]
    assert [(hit["objectID"], hit["_score"]) for hit in found.hits] == [
        (product, round(100 * share / 9, 2)) for product, share in ranked
    ]
    of_brand = {"model": "trending-items", "facetName": "brand", "facetValue": first.brand}
    assert {hit["brand"] for hit in recommender(store).answer(of_brand).hits} == {first.brand}
    values = recommender(store).answer({"model": "trending-facets", "facetName": "brand"}).hits
    assert values[0]["facetValue"] in {first.brand, second.brand, third.brand}
    assert values[0]["_score"] == 100
    # A key that cannot see a product does not learn that it is popular.
    kept = recommender(store, f'id != "{second.id}"').answer({"model": "trending-items"}).hits
    assert [hit["objectID"] for hit in kept] == [third.id, first.id]
    chinese = store.search("", size=1, filters='language = "zh"').hits[0].product.id
    write_popularity(store.root, {second.id: 8.0, third.id: 4.0, chinese: 1.0}, NOW)
    trending = {"model": "trending-items", "queryParameters": {"queryLanguages": ["zh"]}}
    found = recommender(store).answer(trending)
    assert [hit["objectID"] for hit in found.hits] == [chinese, second.id, third.id]


@pytest.mark.parametrize(
    "payload",
    [
        {"model": "crystal-ball"},
        {"model": "trending-facets"},
        {"threshold": 101},
        {"maxRecommendations": -1},
        {"queryParameters": []},
    ],
)
def test_unknown_recommendation_models_are_refused(store: SearchEngine, payload: dict[str, object]) -> None:
    valid = {"model": "related-products", "objectID": "nosuch"}
    found = recommender(store).answer(valid)
    assert (found.hits, found.message) == ([], "there is no product with the id 'nosuch'")
    with pytest.raises(QueryError):
        recommender(store).answer({**valid, **payload})


def recommender(store: SearchEngine, narrowed_by: str = "") -> Recommender:
    return Recommender(store, HookRecorder(narrowed_by).hooks, PurchaseStatistics(store.root))
