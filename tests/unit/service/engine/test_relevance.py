"""Relevance settings of an engine: applied to searches, followed, previewed."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.retrieval.errors import QueryError, RelevanceError
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.store.products import DEFAULT_WEIGHTS, FieldWeights, searched_fields
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.cli.verify import verify_version
from shelfwise.service.curation.relevance import Relevance, RelevanceStore, Signal, TypoTolerance
from shelfwise.service.demo import DemoFiles
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.reranking import SignalOrder
from tests.catalogs import ids
from tests.conftest import ENCODER


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
    page = ids(live.search("drill", size=30))
    live.patch(page[-1], **{"attributes.margin": 40})
    assert live.relevance.faults == {}
    assert live.notices == ()
    assert ids(live.search("drill", size=30)) == page


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
    assert rebuild(root, replace(options, weights=DEFAULT_WEIGHTS)).published
