"""Exploration: propensities against simulations, orders that differ by one product, and marks in events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shelfwise.rerank.ranker.memory import MemoryRows, QueryMemory
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.records import Availability, Hit
from shelfwise.service.app import create_app
from shelfwise.service.curation.rules import Bury, Hide, Pin, Rule
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.request import SearchRequest
from shelfwise.service.experiments.assignment import ExplorationMark, ShopperSearch, answer_search, read_marks
from shelfwise.service.experiments.experiment import (
    Experiment,
    ExperimentStore,
    Mode,
    StoredExperiments,
    Variant,
    VariantOptions,
)
from shelfwise.service.experiments.exploration import FIRST_RANK, LAST_RANK, Exploration, highest_chances
from shelfwise.service.settings import RankerSettings, ServiceSettings, Settings, load_settings
from tests.services import events_of_query, local_client

SETTINGS = Settings(backend="embedded", ranker=RankerSettings(exploration=0.2))
QUERY = "steel"
KEY = b"a key of 32 bytes, as they are.."
SHOPPERS = tuple(f"u{number}" for number in range(40))
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "filtered": {"filters": "price < 100"},
    "grouped": {"group": "variants"},
    "by brand": {"group": "brand", "per_group": 2},
    "diverse": {"diversity": 0.5, "group": "variants"},
    "merged": {"stage": "merged"},
}


@pytest.fixture(scope="module")
def exploring(demo_index: Path) -> Iterator[SearchEngine]:
    with SearchEngine.open(demo_index, settings=SETTINGS, follow=False) as opened:
        yield opened


def products(hits: Sequence[Hit]) -> list[str]:
    return [hit.product.id for hit in hits]


@given(st.lists(st.tuples(st.floats(0.01, 30), st.floats(0.5, 30)), min_size=1, max_size=8), st.integers(0, 2**32))
def test_chances_are_those_of_the_highest_draw(given: list[tuple[float, float]], seed: int) -> None:
    shape, rate = np.array(given).T
    chances = highest_chances(shape, rate)
    assert chances.sum() == pytest.approx(1)
    drawn = np.random.default_rng(seed).gamma(shape, 1 / rate, (4_000, len(shape)))
    shares = np.bincount(drawn.argmax(axis=1), minlength=len(shape)) / len(drawn)
    assert np.abs(chances - shares).max() < 0.05


def test_logged_propensity_is_the_frequency_over_shoppers(
    exploring: SearchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The products differ in evidence, and some have too much of it to be explored."""
    placed: list[tuple[Any, ...]] = []
    choose = partial(Exploration.choose)
    monkeypatch.setattr(Exploration, "choose", lambda _self, *given, **named: placed.append((given, named)))
    who = next(each for each in SHOPPERS if exploring.search(QUERY, explore=each) and placed)
    ids = products(exploring.search(QUERY, size=40).hits)[10:]
    ratios = [np.linspace(0.2, 4, 30), np.ones(30), np.ones(30), np.linspace(0, 0.9, 30), np.full(30, 2.0)]
    memory = QueryMemory.of_rows(MemoryRows(["all"] * 30, [""] * 30, ["product"] * 30, ids, ratios))
    (given, named), key = placed[0], SearchRequest(QUERY).query_key
    assert Exploration.of_search(0.2, who, key, memory)
    made = [Exploration.of_search(0.2, str(number), key, memory) for number in range(8_000)]
    explored = [choose(each, *given, **named) for each in made if each]
    assert stats.binomtest(len(explored), len(made), 0.2).pvalue > 0.001
    propensity = {(each.row, each.rank): each.propensity for each in explored if each}
    by_row, by_rank = dict[int, float](), Counter[int]()
    for (row, rank), share in propensity.items():
        assert all(propensity.get((row, other), share) == share for other in range(FIRST_RANK, LAST_RANK + 1))
        by_row[row] = share * (LAST_RANK - FIRST_RANK + 1)
        by_rank[rank] += 1
    assert len(by_row) > 5
    assert by_rank.keys() == set(range(FIRST_RANK, LAST_RANK + 1))
    assert sum(by_row.values()) == pytest.approx(0.2, rel=0.01), "rare products may be missing"
    rows = Counter(each.row for each in explored if each)
    often = [row for row, share in by_row.items() if share * len(made) >= 5]
    observed = [rows[row] for row in often]
    expected = np.array([by_row[row] for row in often])
    assert stats.chisquare(observed, expected * sum(observed) / expected.sum()).pvalue > 0.001
    ranks = Counter(each.rank for each in explored if each)
    assert stats.chisquare(list(ranks.values())).pvalue > 0.001
    known = {row for row, evidence in zip(ids, ratios[3], strict=True) if evidence >= 0.5}
    assert not known & {exploring.snapshot.products.id_of(row) for row in rows}


@given(st.sampled_from(SHOPPERS), st.sampled_from([*KINDS]), st.integers(1, 30))
def test_pages_of_an_answer_neither_repeat_nor_lose_a_product(
    exploring: SearchEngine, who: str, kind: str, size: int
) -> None:
    options: dict[str, Any] = {**KINDS[kind], "facets": ["brand"]}
    plain, whole = (exploring.search(QUERY, size=60, explore=each, **options) for each in ("", who))
    pages = [
        exploring.search(QUERY, size=size, page=page, explore=who, **options) for page in range(1, -(-60 // size) + 1)
    ]
    assert [product for page in pages for product in products(page.hits)][: len(whole.hits)] == products(whole.hits)
    assert sorted(products(whole.hits)) == sorted(products(plain.hits)) or whole.total > 60
    assert (whole.total, whole.facets) == (plain.total, plain.facets)
    explored = [hit for hit in whole.hits if hit.explored]
    assert len(explored) <= 1
    for hit in explored:
        assert hit.propensity is not None
        assert 0 < hit.propensity <= 0.2
        assert hit.product.availability in (None, Availability.IN_STOCK)
        groups, plain_groups = ([each for each in page.hits if each.group_rank == 1] for page in (whole, plain))
        assert FIRST_RANK <= groups.index(hit) + 1 <= LAST_RANK
        others = [each for each in products(plain_groups) if each != hit.product.id]
        assert [each for each in products(groups) if each != hit.product.id] == others[: len(groups) - 1]
        assert hit.product.id not in products(plain.hits)[:LAST_RANK]


def test_a_share_of_the_shoppers_explores_and_others_see_the_order_as_it_is(exploring: SearchEngine) -> None:
    plain = products(exploring.search(QUERY).hits)
    pages = [exploring.search(QUERY, explore=who) for who in SHOPPERS]
    explored = [page for page in pages if any(hit.explored for hit in page.hits)]
    assert 1 <= len(explored) <= len(SHOPPERS) / 2
    assert all(products(page.hits) == plain for page in pages if page not in explored)
    assert not any(
        hit.explored for hit in exploring.search(QUERY, sort="price", explore=first_explorer(exploring)).hits
    )


def first_explorer(engine: SearchEngine, **options: Any) -> str:  # noqa: ANN401 - a search's options
    """The first shopper who is shown an explored product."""
    pages = ((who, engine.search(QUERY, size=10, explore=who, **options)) for who in SHOPPERS)
    return next(who for who, page in pages if any(hit.explored for hit in page.hits))


def test_rules_hold(exploring: SearchEngine) -> None:
    order = products(exploring.search(QUERY, size=60).hits)
    hidden, pinned = order[10:20], {3: order[50], 4: order[2], 6: order[45]}
    pins = [Pin((product,), position=place) for place, product in pinned.items()]
    cheaper = "price < 60"
    rules = [Rule("r", (*pins, Hide(tuple(hidden)), Bury(cheaper, strength=0.1)))]
    seen = set()
    for who in SHOPPERS:
        page = exploring.search(QUERY, size=60, explore=who, rules=rules)
        found = products(page.hits)
        assert {place: found[place - 1] for place in pinned} == pinned
        explored = [hit.product for hit in page.hits if hit.explored]
        assert all(each.price and each.price >= 60 for each in explored)
        seen |= {each.id for each in explored}
    assert seen
    assert not seen & {*hidden, *pinned.values()}


def test_an_explanation_says_so(exploring: SearchEngine) -> None:
    page = exploring.search(QUERY, size=10, explain=True, explore=first_explorer(exploring))
    (hit,) = [hit for hit in page.hits if hit.explored]
    assert hit.explanation is not None
    part = hit.explanation.contributions[-1]
    assert (part.name, part.value) == ("exploration", f"at this rank by chance, probability {hit.propensity:.2%}")


DRILL = ShopperSearch(SearchRequest(QUERY, size=5), shopper="u1")
NONE = StoredExperiments(key=KEY)


def test_query_id_of_the_page_has_rank_and_propensity(exploring: SearchEngine) -> None:
    marked = 0
    for who in SHOPPERS:
        for number in (1, 2):
            search = replace(DRILL, shopper=who, request=replace(DRILL.request, page=number))
            found = answer_search(exploring, NONE, search)
            hits = [(rank, hit) for rank, hit in enumerate(found.page.hits, 5 * number - 4) if hit.explored]
            marks = read_marks(found.query_id, KEY)
            assert [*map(str, marks)] == [f"explored:{rank}:{hit.propensity:.4e}" for rank, hit in hits]
            marked += len(marks)
    assert marked


@pytest.mark.parametrize(
    "search",
    [
        replace(DRILL, shopper=""),
        replace(DRILL, request=replace(DRILL.request, group="brand", per_group=2)),
        replace(DRILL, request=replace(DRILL.request, sort="price")),
        replace(DRILL, request=replace(DRILL.request, text=" ")),
    ],
)
def test_searches_that_cannot_report_do_not_explore(exploring: SearchEngine, search: ShopperSearch) -> None:
    for who in SHOPPERS if search.shopper else [""]:
        found = answer_search(exploring, NONE, replace(search, shopper=who))
        assert found.query_id.isalnum()
        assert not any(hit.explored for hit in found.page.hits)
    without_key = [answer_search(exploring, StoredExperiments(), replace(DRILL, shopper=who)) for who in SHOPPERS]
    assert not any(hit.explored for each in without_key for hit in each.page.hits)


def test_interleaved_lists_do_not_explore(exploring: SearchEngine) -> None:
    variants = (Variant("now"), Variant("rrf", VariantOptions(merge="rrf")))
    stored = Experiment("draft", variants, mode=Mode.INTERLEAVE)
    found = [
        answer_search(exploring, replace(NONE, documents=(stored,)), replace(DRILL, shopper=who)) for who in SHOPPERS
    ]
    assert not any(hit.explored for each in found for hit in each.page.hits)


def test_events_of_a_service_have_the_propensity(root: Path) -> None:
    with (
        SearchEngine.open(root, settings=SETTINGS) as engine,
        local_client(create_app(engine, ServiceSettings())) as client,
    ):
        key = ExperimentStore(root).read().key
        for who in SHOPPERS:
            found = client.get("/v1/search", params={"q": QUERY, "shopper": who}).json()
            explored = [hit for hit in found["hits"] if hit["explored"]]
            if explored:
                break
        (hit,) = explored
        stored = events_of_query(root, found["query_id"], 1 + len(found["hits"]))
        (mark,) = read_marks(stored[0]["query_id"], key)
        assert isinstance(mark, ExplorationMark)
        assert mark.propensity == pytest.approx(hit["propensity"], rel=1e-4)
        shown = {each["position"]: each["product_id"] for each in stored if each["kind"] == "impression"}
        assert shown[mark.rank] == hit["product"]["id"]


def test_instantsearch_pages_have_the_propensity(root: Path) -> None:
    asked = {"indexName": root.name, "query": QUERY, "clickAnalytics": True, "getRankingInfo": True}
    with (
        SearchEngine.open(root, settings=SETTINGS) as engine,
        local_client(create_app(engine, ServiceSettings())) as client,
    ):
        requests = [asked | {"userToken": who} for who in SHOPPERS]
        results = client.post("/1/indexes/*/queries", json={"requests": requests}).json()["results"]
    explored = [each for each in results if any(hit["_rankingInfo"].get("explored") for hit in each["hits"])]
    assert 0 < len(explored) < len(results)
    assert all(("~explored:" in each["queryID"]) == (each in explored) for each in results)


def test_a_share_above_the_bound_is_refused() -> None:
    with pytest.raises(SettingError, match=r"ranker\.exploration"):
        load_settings(environment={"SHELFWISE_RANKER__EXPLORATION": "0.3"})
