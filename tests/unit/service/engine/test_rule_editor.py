"""Rules of an engine: followed, changed, previewed and applied to searches."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import service.engine.candidates
from benchmarks.quality import run_stage
from retrieval.errors import QueryError, RuleError, UnknownFieldError
from retrieval.filters.schema import FieldCatalog
from retrieval.records import Page, PastAct, Product
from service.curation.rules import Boost, Bury, Hide, Match, Pin, Redirect, Restrict, Rule, RuleStore, When
from service.engine.candidates import Stages
from service.engine.editors import ServedRules, compile_rules
from service.engine.engine import SearchEngine
from service.engine.request import SearchRequest
from service.engine.search import Search
from tests.machine import within

RULES_FILE = "rules.sqlite"
DRILL = When("drill", Match.CONTAINS)


def ids(page: Page) -> list[str]:
    return [hit.product.id for hit in page.hits]


@pytest.fixture
def root(demo_index: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_index, tmp_path / "index"))


@pytest.fixture
def own(root: Path) -> Iterator[SearchEngine]:
    """An engine of an index that no other test has."""
    with SearchEngine.open(root) as opened:
        yield opened


def test_a_change_holds_in_the_next_search(own: SearchEngine) -> None:
    first, second = ids(own.search("drill", size=2))
    own.rules.put([Rule("it", (Hide((first,)),), DRILL)], who="m7")
    assert ids(own.search("drill", size=1)) == [second]
    assert ids(own.search("drill", size=1, rules=False)) == [first]
    own.rules.patch("it", {"enabled": False})
    assert ids(own.search("drill", size=1)) == [first]
    own.rules.restore(1)
    assert ids(own.search("drill", size=1)) == [second]
    own.rules.delete(["it"])
    assert ids(own.search("drill", size=1)) == [first]
    assert own.rules.revision == 4
    assert [change.who for change in own.rules.history("it")] == ["", "", "", "m7"]
    assert own.rules.list() == ()


def test_other_engines_follow_within_a_second(own: SearchEngine, root: Path) -> None:
    first = ids(own.search("drill", size=1))[0]
    RuleStore(root).put([Rule("it", (Hide((first,)),), DRILL)])
    assert within(1.0, lambda: first not in ids(own.search("drill")))
    # Twice in one moment: the file may have one time of change for both.
    for turn in range(5):
        RuleStore(root).put([Rule("it", (Redirect(f"/{turn}"),), DRILL)])
        RuleStore(root).put([Rule("it", (Redirect(f"/{turn}b"),), DRILL)])
        wanted = f"/{turn}b"
        assert within(1.0, lambda: own.search("drill").redirect == wanted)  # noqa: B023  # asked within this turn


def test_a_version_that_is_published_later_has_the_rules(own: SearchEngine) -> None:
    own.rules.put([Rule("it", (Redirect("/a"),), DRILL)])
    own.refresh()
    assert own.search("drill").redirect == "/a"


def test_an_engine_that_follows_nothing_has_the_rules_that_were_there(root: Path) -> None:
    RuleStore(root).put([Rule("it", (Redirect("/a"),), DRILL)])
    with SearchEngine.open(root, follow=False) as opened:
        assert opened.search("drill").redirect == "/a"


def test_a_field_that_comes_later_makes_a_rule_hold(own: SearchEngine, root: Path) -> None:
    product = ids(own.search("drill", size=30))[-1]
    with pytest.raises(RuleError, match="no field 'campaign'"):
        own.rules.put([Rule("it", (Boost("campaign = winter", 10),), DRILL)])
    RuleStore(root).put([Rule("it", (Boost("campaign = winter", 10),), DRILL)])
    own.reload_if_changed()
    assert "no field 'campaign'" in own.rules.faults["it"]
    assert any("passed over: rule 'it'" in notice for notice in own.notices)
    assert own.search("drill").rules == ()
    own.patch(product, **{"attributes.campaign": "winter"})
    assert ids(own.search("drill", size=1)) == [product]
    assert own.rules.faults == {}
    assert own.notices == ()


def test_rules_of_fields_that_a_version_lacks_are_passed_over(engine: SearchEngine, tmp_path: Path) -> None:
    served = ServedRules(tmp_path)
    served.store.put([Rule("brand", (Boost("brand = Bosch"),)), Rule("price", (Boost("price < 9"),))])
    served.reload_if_changed(engine.snapshot)
    compiled = served.compiled(engine.snapshot)
    assert compiled is not None
    assert compiled.faults == {}
    fields = {name: info for name, info in engine.snapshot.catalog.fields.items() if name != "brand"}
    older = replace(engine.snapshot, catalog=FieldCatalog(fields))
    compiled = served.compiled(older)
    assert compiled is not None
    assert list(compiled.faults) == ["brand"]
    assert compiled.effect([engine.snapshot.analyzer.analyze("x")], None, 0).rules == ("price",)
    again = served.compiled(engine.snapshot)
    assert again is not None
    assert again.faults == {}


def test_what_cannot_be_read_leaves_the_rules_as_they_were(own: SearchEngine, root: Path) -> None:
    own.rules.put([Rule("it", (Redirect("/a"),), DRILL)])
    whole = (root / RULES_FILE).read_bytes()
    (root / RULES_FILE).write_bytes(b"damaged" * 999)
    assert within(2.0, lambda: any("rules are not loaded" in notice for notice in own.notices))
    assert own.search("drill").redirect == "/a"
    (root / RULES_FILE).write_bytes(b"")
    time.sleep(0.2)
    assert own.search("drill").redirect == "/a"
    # The other one is a file from a backup, in which fewer changes were made.
    (root / RULES_FILE).unlink()
    (root / RULES_FILE).write_bytes(whole)
    RuleStore(root).put([Rule("it", (Redirect("/b"),), DRILL)])
    assert within(2.0, lambda: own.search("drill").redirect == "/b")
    assert own.notices == ()
    (root / RULES_FILE).unlink()
    assert within(2.0, lambda: own.search("drill").redirect == "")


def test_an_index_with_damaged_rules_is_opened(root: Path) -> None:
    (root / RULES_FILE).write_bytes(b"damaged" * 999)
    with SearchEngine.open(root) as opened:
        assert opened.search("drill").hits
        assert "rules.sqlite is damaged" in opened.notices[0]


def test_similar_products_are_without_those_that_rules_keep_out(own: SearchEngine) -> None:
    product = ids(own.search("drill", size=1))[0]
    near = ids(own.similar(product))
    rules = [
        Rule("hide", (Hide((near[0],)),)),
        Rule("only", (Restrict("price < 100"),), When(filters="availability = in_stock")),
        Rule("pin", (Pin((near[5],)), Redirect("/a"))),
        Rule("query", (Hide((near[1],)),), DRILL),
    ]
    own.rules.put(rules)
    page = own.similar(product)
    assert ids(page)[:9] == near[1:10]
    assert page.rules == ("hide",)
    assert not page.redirect
    stocked = own.similar(product, filters="availability = in_stock")
    assert stocked.rules == ("hide", "only")
    assert all(hit.product.price is not None and hit.product.price < 100 for hit in stocked.hits)
    assert ids(own.similar(product, rules=False)) == near


def test_what_is_measured_does_not_go_by_rules(own: SearchEngine) -> None:
    before = run_stage(own, ["drill", "mug"], "merged")
    own.rules.put([Rule("it", (Hide(filters="price > 0"),))])
    assert own.search("drill").total == 0
    assert run_stage(own, ["drill", "mug"], "merged") == before


class TestPreview:
    def test_it_tells_what_would_come_go_and_move(self, own: SearchEngine) -> None:
        before = ids(own.search("drill", size=6))
        strange = ids(own.search("mug", size=1))[0]
        rules = [Rule("a", (Pin((strange,), 2), Hide((before[0],))), DRILL)]
        found = own.rules.preview("drill", rules, size=5)
        assert ids(found.before) == before[:5]
        assert ids(found.after) == [before[1], strange, *before[2:5]]
        assert [(each.product, each.before, each.after, each.rule) for each in found.gained] == [
            (strange, None, 2, "a")
        ]
        assert [(each.product, each.before, each.after) for each in found.lost] == [(before[0], 1, None)]
        assert [(each.product, each.before, each.after) for each in found.moved] == [(before[1], 2, 1)]
        assert found.after.total == found.before.total
        assert found.moved[0].title == own.product(before[1]).title

    def test_nothing_is_changed(self, own: SearchEngine, root: Path) -> None:
        page = own.search("drill")
        own.rules.preview("drill", [Rule("a", (Hide(filters="price > 0"),))])
        assert ids(own.search("drill")) == ids(page)
        assert own.rules.list() == ()
        assert not (root / RULES_FILE).exists()

    def test_it_counts_with_the_rules_that_stay(self, own: SearchEngine) -> None:
        first, second, third = ids(own.search("drill", size=3))
        own.rules.put([Rule("a", (Hide((first,)),), DRILL), Rule("b", (Hide((second,)),), DRILL)])
        found = own.rules.preview("drill", [Rule("c", (Redirect("/c"),))], delete=["b"], size=1)
        assert (ids(found.before), ids(found.after)) == ([third], [second])
        assert (found.before.rules, found.after.rules) == (("a", "b"), ("a", "c"))
        assert (found.before.redirect, found.after.redirect) == ("", "/c")

    def test_places_go_on_over_pages(self, own: SearchEngine) -> None:
        tenth = ids(own.search("drill", size=10))[9]
        found = own.rules.preview("drill", [Rule("a", (Pin((tenth,), 7),), DRILL)], size=5, page=2)
        assert [(each.product, each.before, each.after) for each in found.moved if each.rule] == [(tenth, 10, 7)]

    def test_what_could_not_be_put_is_refused(self, own: SearchEngine) -> None:
        with pytest.raises(RuleError, match="no field 'colr'"):
            own.rules.preview("drill", [Rule("a", (Boost("colr = red"),))])
        with pytest.raises(RuleError, match="no rule 'b'"):
            own.rules.preview("drill", delete=["b"])
        with pytest.raises(UnknownFieldError):
            own.rules.preview("drill", filters="colr = red")


def test_a_rule_instead_of_a_list_is_told(own: SearchEngine) -> None:
    with pytest.raises(RuleError, match="must be a list"):
        own.rules.put(Rule("a", (Redirect("/a"),)))  # type: ignore[arg-type]
    with pytest.raises(RuleError, match="must be a list"):
        own.rules.delete("a")


ALL = 600


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
