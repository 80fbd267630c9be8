"""Candidates of a search, and relevance settings."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.rerank.ranker.features import FEATURES
from shelfwise.retrieval.errors import QueryError, RelevanceError
from shelfwise.retrieval.filters.parser import parse_filter
from shelfwise.retrieval.index.fusion import METHODS
from shelfwise.retrieval.index.vectors import Cutoff
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.single_flight import SingleFlight
from shelfwise.retrieval.store.products import DEFAULT_WEIGHTS, FieldWeights, searched_fields
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.cli.verify import verify_version
from shelfwise.service.curation.relevance import Relevance, RelevanceStore, Signal, TypoTolerance
from shelfwise.service.demo import DemoFiles
from shelfwise.service.engine.candidates import Stages
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.ranking import Ranking
from shelfwise.service.engine.request import ResolvedRequest
from shelfwise.service.engine.reranking import SignalOrder, candidate_features
from shelfwise.service.engine.snapshot import Snapshot
from shelfwise.service.events.signals import NO_POPULARITY, Popularity
from tests.catalogs import ids
from tests.conftest import ENCODER


def test_concurrent_callers_share_one_result() -> None:
    once: SingleFlight[str, int] = SingleFlight()
    calls: list[int] = []
    all_here = threading.Barrier(4)

    def make() -> int:
        calls.append(1)
        return len(calls)

    def get(key: str) -> int:
        all_here.wait(10)
        return once.get(key, make)

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(get, ["a", "a", "a", "b"]))
    assert len(calls) == 2
    assert found[0] == found[1] == found[2] != found[3]


def test_available_alternative_key_is_used() -> None:
    once: SingleFlight[str, str] = SingleFlight()
    assert once.get("plain", lambda: "plain", rather="rich") == "plain"
    assert once.get("rich", lambda: "rich") == "rich"
    assert once.get("plain", lambda: "again", rather="rich") == "rich"


def test_error_reaches_all_waiting_callers() -> None:
    once: SingleFlight[str, int] = SingleFlight()

    def make() -> int:
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            once.get("a", make)
    assert once.get("a", lambda: 1) == 1


def test_most_recently_requested_values_are_kept() -> None:
    once: SingleFlight[str, int] = SingleFlight(2)
    for number, key in enumerate("abac"):
        once.get(key, lambda made=number: made)  # type: ignore[misc]
    assert [once.get(key, lambda: -1) for key in "acb"] == [0, 3, -1]
    assert [SingleFlight[str, int](0).get("a", lambda made=number: made) for number in range(2)] == [0, 1]  # type: ignore[misc]


NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def ranked(engine: SearchEngine, executor: ThreadPoolExecutor, text: str, **values: object) -> Ranking:
    snapshot = engine.snapshot
    request = ResolvedRequest(text, snapshot.analyzer.groups(text))
    return Stages(snapshot, executor).rank(dataclasses.replace(request, **values))  # type: ignore[arg-type]


def features(snapshot: Snapshot, ranking: Ranking, count: int | None = None) -> NDArray[np.float32]:
    count = len(ranking.rows) if count is None else count
    return candidate_features(snapshot, ranking, count, np.ones(count, bool), NOW, NO_POPULARITY)


def column(table: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    return table[:, FEATURES.index(name)]


def test_features_are_those_of_the_stages(engine: SearchEngine, executor: ThreadPoolExecutor) -> None:
    ranking = ranked(engine, executor, "cordless drill")
    table = features(engine.snapshot, ranking, 10)
    assert len(table) == 10
    for row, result in zip(ranking.rows[:10].tolist(), table, strict=True):
        stages, known = ranking.candidate(row).stages, dict(zip(FEATURES, result.tolist(), strict=True))
        assert known["merged"] == pytest.approx(stages["merged"].score, rel=1e-5)
        assert known["bm25"] * 20 == pytest.approx(stages["bm25"].score, rel=1e-5)
        assert known["bm25_per_word"] * 2 == pytest.approx(stages["bm25"].score, rel=1e-5)
        assert known["cosine"] == pytest.approx(stages["dense"].score, rel=1e-5)
        assert known["words"] == pytest.approx(math.log(3))
    assert column(table, "bm25_share").max() == 1


def test_price_is_relative_to_the_reference_price_of_the_query(
    engine: SearchEngine, executor: ThreadPoolExecutor
) -> None:
    ranking = ranked(engine, executor, "cordless drill")
    snapshot = engine.snapshot
    known = [snapshot.products[int(row)].price for row in ranking.about]
    usual = np.median([price for price in known if price])
    table = features(snapshot, ranking)
    for row, gap in zip(ranking.rows.tolist(), column(table, "price_gap").tolist(), strict=True):
        price = snapshot.products[row].price
        expected = np.clip(math.log(price / usual), -3, 3) if price else 0
        assert gap == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("merge", METHODS)
def test_features_do_not_depend_on_the_merging(engine: SearchEngine, executor: ThreadPoolExecutor, merge: str) -> None:
    default, other = ranked(engine, executor, "steel pan"), ranked(engine, executor, "steel pan", merge=METHODS[merge])
    expected = dict(zip(default.rows.tolist(), features(engine.snapshot, default).tolist(), strict=True))
    found = dict(zip(other.rows.tolist(), features(engine.snapshot, other).tolist(), strict=True))
    assert found == expected


def test_filter_does_not_change_features(engine: SearchEngine, executor: ThreadPoolExecutor) -> None:
    tree = parse_filter("price < 40")
    assert tree is not None
    where = engine.snapshot.catalog.compile(tree)
    everything, cheap = ranked(engine, executor, "steel pan"), ranked(engine, executor, "steel pan", where=where)
    expected = dict(zip(everything.rows.tolist(), features(engine.snapshot, everything), strict=True))
    assert 5 < len(cheap.rows) < len(everything.rows)
    for row, result in zip(cheap.rows.tolist(), features(engine.snapshot, cheap), strict=True):
        np.testing.assert_allclose(result, expected[row], rtol=1e-5, atol=1e-6)


def test_features_mark_products_with_states_and_use_the_current_time(
    engine: SearchEngine, executor: ThreadPoolExecutor
) -> None:
    ranking = ranked(engine, executor, "steel pan")
    has_states = np.arange(10) % 3 > 0
    one, later = (
        candidate_features(engine.snapshot, ranking, 10, has_states, now, NO_POPULARITY)
        for now in (NOW, NOW + 90 * 86_400)
    )
    np.testing.assert_array_equal(column(one, "has_states"), has_states)
    dated = column(one, "has_created") > 0
    assert dated.any()
    np.testing.assert_allclose(column(later, "freshness")[dated] * 2, column(one, "freshness")[dated], rtol=1e-3)


def test_popularity_is_mapped_by_product_id(engine: SearchEngine, executor: ThreadPoolExecutor) -> None:
    ranking, snapshot = ranked(engine, executor, "steel pan"), engine.snapshot
    first, third = (snapshot.products[int(ranking.rows[place])].id for place in (0, 2))
    popularity = Popularity.of_scores({third: 8.0, first: 2.0, "gone": 4.0})
    result = column(candidate_features(snapshot, ranking, 5, np.ones(5, bool), NOW, popularity), "popularity")
    share = math.log(1 + 1_000 / 4) / math.log(1 + 1_000)
    assert result.tolist() == pytest.approx([share, 0, 1, 0, 0])
    assert not column(features(snapshot, ranking), "popularity").any()


def test_a_live_change_counts_at_once(engine: SearchEngine, executor: ThreadPoolExecutor) -> None:
    ranking = ranked(engine, executor, "steel pan")
    row = int(ranking.rows[3])
    changed = dataclasses.replace(engine.snapshot.products[row], price=None, availability=None)
    signals = engine.snapshot.signals.with_changes({row: changed})
    table = features(dataclasses.replace(engine.snapshot, signals=signals), ranking, 10)
    assert (column(table, "has_price")[3], column(table, "availability")[3]) == (0, 0)


def test_products_below_the_cutoff_do_not_say_what_a_query_means(
    engine: SearchEngine, executor: ThreadPoolExecutor
) -> None:
    """Regression: the only product with a word unknown to the encoder ranked below the query's nearest ones."""
    near = engine.snapshot
    far = dataclasses.replace(near, manifest=msgspec.structs.replace(near.manifest, cutoff=Cutoff(1.0, -1.0)))
    request = ResolvedRequest("cup", near.analyzer.groups("cup"))
    sure = [Stages(snapshot, executor).rank(request).is_type_sure for snapshot in (near, far)]
    assert sure == [True, False]


def test_typo_tolerance_corrects_offers_or_neither(store: SearchEngine) -> None:
    def search(tolerance: TypoTolerance, *words: str) -> tuple[str, bool]:
        page = store.search("cordles dril", relevance=Relevance(typo_tolerance=tolerance, never_corrected=words))
        return page.suggestion, page.corrected

    assert search(TypoTolerance.ON) == ("cordless drill", True)
    assert search(TypoTolerance.OFFER) == ("cordless drill", False)
    assert search(TypoTolerance.OFF) == ("", False)
    assert search(TypoTolerance.ON, "Dril") == ("cordless dril", True)
    assert search(TypoTolerance.ON, "dril", "cordles") == ("", False)


def test_suggestions_are_corrected_as_the_settings_allow(live: SearchEngine) -> None:
    assert live.suggest("cordels").corrected == "cordless"
    for relevance in (Relevance(typo_tolerance=TypoTolerance.OFF), Relevance(never_corrected=("cordels",))):
        live.relevance.put([relevance])
        assert live.suggest("cordels").corrected == ""


def test_margin_and_cutoff_bound_the_candidates(store: SearchEngine) -> None:
    totals = [store.search("cordless drill", relevance=Relevance(margin=margin)).total for margin in (0.5, 3, 10)]
    assert totals[0] < totals[1] <= totals[2]
    assert store.search("cordless drill").total == totals[1]
    unknown = [store.search("gift for dad", relevance=Relevance(cutoff=cutoff)).nothing_fits for cutoff in (-3, 3)]
    assert unknown == [False, True]


def test_a_kind_that_many_products_have_brings_no_others(store: SearchEngine) -> None:
    """Regression: searches for flower pots in Chinese, or dog food, found 200 products, and the cheapest of these were
    screwdrivers."""
    for query in ("花盆", "耳机", "dog food"):
        assert 8 <= store.search(query).total < 50, query
    page = store.search("花盆", size=5, sort="price")
    assert page.product_type == "花盆"
    assert all("花盆" in hit.product.title for hit in page.hits)


def test_a_strong_signal_orders_the_head(store: SearchEngine) -> None:
    plain = store.search("drill", size=1_000)
    for descending in (True, False):
        page = store.search("drill", size=1_000, relevance=Relevance(signals=(Signal("price", 10, descending),)))
        head = [hit.product for hit in page.hits[:100]]
        prices = [product.price for product in head if product.price is not None]
        correlation = np.corrcoef(np.arange(len(prices)), prices)[0, 1]
        assert correlation < -0.5 if descending else correlation > 0.5
        assert set(ids(page)) == set(ids(plain))
        assert ids(page)[100:] == ids(plain)[100:]
        assert all(first.score >= second.score for first, second in pairwise(page.hits))


def test_signals_do_not_affect_identifiers_and_sort_orders(store: SearchEngine) -> None:
    relevance = Relevance(signals=(Signal("price", 10),))
    first = store.search("drill").hits[-1].product.id
    assert ids(store.search(first, relevance=relevance))[0] == first
    for options in ({"sort": "price"}, {"stage": "bm25"}, {"stage": "dense"}):
        assert ids(store.search("drill", relevance=relevance, **options)) == ids(store.search("drill", **options))  # type: ignore[arg-type]


def test_a_value_counts_by_its_rank_in_the_catalog(store: SearchEngine) -> None:
    order = SignalOrder([Signal("price")], store.snapshot)
    prices = np.array([product.price for product in map(store.snapshot.products.__getitem__, range(600))], float)
    known = prices[~np.isnan(prices)]
    low, middle, high = known.min(), np.median(known), known.max()
    shares = order._shares(np.array([[low], [middle], [high], [np.nan]]))[:, 0]
    # Half of the products of the same price count as lower.
    same = [(known == value).sum() / len(known) for value in (low, high)]
    assert shares == pytest.approx([same[0] - 1, 0, 1 - same[1], 0], abs=1 / len(known) + 1e-9)


def test_signal_applies_once_its_field_exists(live: SearchEngine, root: Path) -> None:
    relevance = Relevance(signals=(Signal("margin", 10),))
    with pytest.raises(RelevanceError, match="signals: no field 'margin'"):
        live.relevance.put([relevance])
    RelevanceStore(root).put([relevance])
    live.reload_if_changed()
    assert set(live.relevance.faults) == {"margin"}
    assert any("skipped signal 'margin'" in notice for notice in live.notices)
    live.patch(ids(live.search("drill", size=30))[-1], **{"attributes.margin": 40})
    assert live.relevance.faults == {}
    assert live.notices == ()
    assert ids(live.search("drill", size=30)) == ids(live.search("drill", size=30, relevance=Relevance()))


def test_field_weights_apply_from_the_next_rebuild(
    root: Path, demo: DemoFiles, cache: Path, live: SearchEngine
) -> None:
    weights = FieldWeights(title=8, description=0, attributes={"color": 3})
    with pytest.raises(RelevanceError, match=r"fields.attributes: no field .*did you mean attributes.color"):
        live.relevance.put([Relevance(fields=FieldWeights(attributes={"colour": 3}))])
    live.relevance.put([Relevance(fields=weights)])
    assert live.relevance.weights_in_effect == DEFAULT_WEIGHTS
    row = next(row for row in range(600) if isinstance(live.snapshot.products[row].attributes.get("color"), str))
    product = live.snapshot.products[row]
    described = live.snapshot.analyzer.terms(product.description)
    searched = {term for each in searched_fields(product, live.snapshot.analyzer, weights) for term in each.terms}
    only_described = next(word for word in described if word not in searched)

    def finds(text: str) -> bool:
        return row in live.snapshot.keyword.search(live.snapshot.analyzer.groups(text), 600).rows

    assert finds(only_described)
    options = RebuildOptions(
        (str(demo.products),), cache, encoder=ENCODER, weights=RelevanceStore(root).current().fields
    )
    assert rebuild(root, options).published
    live.refresh()
    assert live.relevance.weights_in_effect == weights
    assert not finds(only_described)
    with pytest.raises(QueryError, match="search_fields names description, which is not searched, since"):
        live.search(only_described, search_fields=["title", "description"])
    assert not rebuild(root, options).published
    assert not verify_version(Store(root), live.manifest.version, NullProgress()).problems
    live.patch(product.id, description=f"{product.description} xylophone")
    assert not finds("xylophone")
    live.patch(product.id, **{"attributes.color": "xylophone"})
    assert finds("xylophone")
