"""Rules in searches of the demo store: what they do to hits, counts, facets, pages and order."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import service.engine.candidates
from retrieval.errors import QueryError
from retrieval.records import Page, PastAct, Product
from service.curation.rules import Boost, Bury, Hide, Match, Pin, Redirect, Restrict, Rule, When
from service.engine.candidates import Stages
from service.engine.editors import compile_rules
from service.engine.engine import SearchEngine
from service.engine.request import SearchRequest
from service.engine.search import Search

DRILL = When("drill", Match.CONTAINS)
ALL = 600


def ids(page: Page) -> list[str]:
    return [hit.product.id for hit in page.hits]


def found(engine: SearchEngine, query: str, filters: str = "") -> list[str]:
    return ids(engine.search(query, size=ALL, filters=filters, rules=False))


def one(*actions: Pin | Boost | Bury | Hide | Restrict | Redirect, when: When = DRILL) -> list[Rule]:
    return [Rule("it", actions, when)]


def test_pinned_products_stand_at_their_places(engine: SearchEngine) -> None:
    plain, strange = found(engine, "drill"), found(engine, "mug")[0]
    rules = one(Pin((plain[30], strange), 2))
    page = engine.search("cordless drills", size=ALL, rules=rules)
    assert ids(page)[1:3] == [plain[30], strange]
    assert [hit.rule for hit in page.hits[:4]] == ["", "it", "it", ""]
    others = [each for each in found(engine, "cordless drills") if each not in (plain[30], strange)]
    assert [each for each in ids(page) if each not in (plain[30], strange)] == others
    assert page.rules == ("it",)
    assert page.total == len(others) + 2


def test_a_pinned_product_is_counted_once_in_facets(engine: SearchEngine) -> None:
    brand = engine.product(found(engine, "mug")[0]).brand
    plain = engine.search("drill", facets=["brand"], rules=False)
    page = engine.search("drill", facets=["brand"], rules=one(Pin((found(engine, "mug")[0],))))
    assert count_of(page, brand) == count_of(plain, brand) + 1
    again = engine.search("drill", facets=["brand"], rules=one(Pin((found(engine, "drill")[9],))))
    assert (again.total, again.facets) == (plain.total, plain.facets)


def count_of(page: Page, brand: str) -> int:
    return sum(each.count for each in page.facets["brand"].counts if each.value == brand)


def test_a_pinned_product_respects_the_filter(engine: SearchEngine) -> None:
    strange = engine.product(found(engine, "mug")[0])
    rules = one(Pin((strange.id, "no such product")))
    assert strange.id not in ids(engine.search("drill", size=ALL, filters=f'NOT id = "{strange.id}"', rules=rules))
    page = engine.search("drill", size=ALL, filters=f'brand = "{strange.brand}"', rules=rules)
    assert ids(page)[0] == strange.id


def test_a_pinned_product_that_passes_the_filter_is_the_answer(engine: SearchEngine) -> None:
    strange = found(engine, "mug")[0]
    filters = f'id = "{strange}"'
    assert engine.search("drill", filters=filters, rules=False).relaxed
    page = engine.search("drill", filters=filters, rules=one(Pin((strange,))), facets=["brand"])
    assert (page.relaxed, page.total, len(page.facets["brand"].counts)) == (False, 1, 1)


def test_pages_go_on_behind_the_ranked_part(engine: SearchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.engine.candidates, "KEYWORD_DEPTH", 5)
    monkeypatch.setattr(service.engine.candidates, "DENSE_DEPTH", 5)
    plain = found(engine, "steel")
    assert len(plain) > 20
    rules = one(Pin((plain[-1], plain[2]), 9), Bury(f'id IN ("{plain[0]}", "{plain[-2]}")', 5), when=When())
    pages = [engine.search("steel", size=3, page=number, rules=rules) for number in range(1, len(plain) // 3 + 2)]
    gathered = [product for page in pages for product in ids(page)]
    assert gathered == ids(engine.search("steel", size=ALL, rules=rules))
    assert sorted(gathered) == sorted(plain)
    assert gathered[8:10] == [plain[-1], plain[2]]
    scores = [hit.score for page in pages for hit in page.hits if hit.rule == ""]
    assert scores == sorted(scores, reverse=True)


def test_an_exact_identifier_stays_before_what_is_pinned(engine: SearchEngine) -> None:
    product = engine.product(found(engine, "drill")[0])
    sku, other = product.identifiers["sku"][0], found(engine, "mug")[0]
    page = engine.search(sku, rules=one(Pin((other, product.id)), Bury(f'id = "{product.id}"', 9), when=When()))
    assert ids(page)[:2] == [product.id, other]
    assert page.hits[0].identifier == sku


def test_hidden_products_are_nowhere(engine: SearchEngine) -> None:
    plain = engine.search("drill", size=ALL, facets=["brand"], rules=False)
    brand = plain.hits[0].product.brand
    rules = one(Hide((ids(plain)[3],), f'brand = "{brand}"'))
    page = engine.search("drill", size=ALL, facets=["brand"], rules=rules)
    kept = [hit.product.id for hit in plain.hits if hit.product.brand != brand and hit.product.id != ids(plain)[3]]
    # Those that were past the ends of both retrievers may come in their place.
    assert set(kept) <= set(ids(page))
    assert all(hit.product.brand != brand for hit in page.hits)
    assert ids(plain)[3] not in ids(page)
    assert count_of(page, brand) == 0
    assert page.total == len(page.hits)


def test_what_one_rule_hides_no_other_pins(engine: SearchEngine) -> None:
    first = found(engine, "drill")[0]
    rules = [Rule("a", (Pin((first,)),), DRILL, priority=9), Rule("b", (Hide((first,)),), DRILL)]
    assert first not in ids(engine.search("drill", size=ALL, rules=rules))


def test_a_restriction_is_as_if_the_shopper_had_filtered(engine: SearchEngine) -> None:
    page = engine.search("drill", size=ALL, facets=["brand"], rules=one(Restrict("price < 60")))
    plain = engine.search("drill", size=ALL, facets=["brand"], filters="price < 60", rules=False)
    assert (ids(page), page.total, page.facets) == (ids(plain), plain.total, plain.facets)


@pytest.mark.parametrize("stage", ["merged", "bm25", "dense", "ranked"])
def test_boosts_and_burials_are_in_deviations_of_the_best_scores(engine: SearchEngine, stage: str) -> None:
    plain = engine.search("drill", size=ALL, stage=stage, rules=False)
    unit = float(np.std([hit.score for hit in plain.hits[:100]]))
    up, down = ids(plain)[-1], ids(plain)[1]
    rules = one(Boost(f'id = "{up}"', 1.5), Bury(f'id = "{down}"', 0.5))
    page = engine.search("drill", size=ALL, stage=stage, rules=rules)
    scores = {hit.product.id: hit.score for hit in plain.hits}
    scores[up] += 1.5 * unit
    scores[down] -= 0.5 * unit
    assert {hit.product.id: hit.score for hit in page.hits} == pytest.approx(scores)
    assert ids(page) == sorted(ids(plain), key=lambda each: -scores[each])
    assert {hit.product.id: hit.rule for hit in page.hits if hit.rule} == {up: "it", down: "it"}
    assert all(hit.stages == was.stages for hit in page.hits for was in plain.hits if hit.product == was.product)


def test_browsing_has_pins_and_no_boosts(engine: SearchEngine) -> None:
    plain = found(engine, "")
    rules = one(Pin((plain[300], plain[2]), 3), Boost(f'id = "{plain[9]}"', 9), Hide((plain[0],)), when=When())
    pages = [engine.search("", size=50, page=number, rules=rules, facets=["language"]) for number in range(1, 13)]
    gathered = [product for page in pages for product in ids(page)]
    kept = [each for each in plain[1:] if each not in (plain[300], plain[2])]
    assert gathered == [*kept[:2], plain[300], plain[2], *kept[2:]]
    assert {page.total for page in pages} == {ALL - 1}
    assert sum(each.count for each in pages[0].facets["language"].counts) == ALL - 1
    assert pages[0].hits[2].rule == "it"


@pytest.mark.parametrize("query", ["drill", ""])
def test_an_order_that_the_shopper_asked_for_goes_before_pins(engine: SearchEngine, query: str) -> None:
    strange = found(engine, "mug")[0]
    rules = one(Pin((strange,)), Boost("price > 0", 5), when=When())
    page = engine.search(query, size=ALL, sort="price", rules=rules)
    prices = [hit.product.price for hit in page.hits if hit.product.price is not None]
    assert prices == sorted(prices)
    assert sorted(ids(page)) == sorted(ids(engine.search(query, size=ALL, rules=rules)))
    assert not any(hit.rule for hit in page.hits)


def test_a_redirect_is_told_beside_the_hits(engine: SearchEngine) -> None:
    page = engine.search("drill", rules=one(Redirect("/drills")))
    assert page.redirect == "/drills"
    assert ids(page) == ids(engine.search("drill", rules=False))
    assert engine.search("mug", rules=one(Redirect("/drills"))).redirect == ""
    assert engine.search("!!!", rules=one(Redirect("/help"), when=When("!!!", Match.EXACT))).redirect == "/help"


def test_rules_hold_for_a_shopper_with_a_history(engine: SearchEngine) -> None:
    plain = found(engine, "drill")
    history = [PastAct(plain[7]), PastAct(plain[20])]
    rules = one(Pin((plain[30],), 1), Hide((plain[7],)))
    page = engine.search("drill", size=ALL, history=history, rules=rules)
    assert ids(page)[0] == plain[30]
    assert plain[7] not in ids(page)


def test_a_rule_for_what_was_typed_holds_where_another_word_is_searched_for(engine: SearchEngine) -> None:
    rules = one(Redirect("/typo"), when=When("cordless drlil", Match.EXACT))
    assert engine.search("cordless drlil", rules=rules).redirect == "/typo"


def test_rules_hold_where_the_words_of_a_cluster_are_lost(engine: SearchEngine) -> None:
    strange, first = found(engine, "mug")[0], ids(engine.search("drill", stage="dense", rules=False))[0]
    rules = one(Pin((strange,), 2), Hide((first,)), when=When())
    compiled = compile_rules(rules, engine.snapshot)
    with ThreadPoolExecutor(2) as threads:
        for text in ("drill", ""):
            request = SearchRequest(text, ALL, stage="merged", facets=("brand",))
            snapshot = engine.snapshot.without_cluster
            page = Search(snapshot, Stages(snapshot, threads), request, ("bm25",), compiled).page()
            assert len(set(ids(page))) == page.total == len(page.hits)
            assert first not in ids(page)
            assert ids(page)[1:2] == [strange] * bool(text)


def test_rules_that_match_nothing_change_nothing(engine: SearchEngine) -> None:
    plain = engine.search("drill", facets=["brand"], rules=False)
    page = engine.search("drill", facets=["brand"], rules=one(Hide(filters="price > 0"), when=When("mug", Match.EXACT)))
    assert replace(page, timings={}) == replace(plain, timings={})


@pytest.mark.parametrize("rules", ["it", [3], [None]])
def test_rules_that_are_none_are_refused(engine: SearchEngine, rules: Sequence[Rule]) -> None:
    with pytest.raises(QueryError, match="rules must be"):
        engine.search("drill", rules=rules)


def test_products_are_the_same_with_their_rules_off(engine: SearchEngine) -> None:
    product: Product = engine.search("drill", rules=False).hits[0].product
    assert engine.search("drill", rules=[]).hits[0].product == product
