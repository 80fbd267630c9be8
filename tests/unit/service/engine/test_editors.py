"""Rules and synonyms of an engine: followed, changed, previewed and applied to searches."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import shelfwise.service.engine.candidates
from shelfwise.benchmarks.quality import run_stage
from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.retrieval.errors import QueryError, RuleError
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.text.product_types import TypeNames
from shelfwise.service.cli.verify import verify_version
from shelfwise.service.curation.rules import (
    Action,
    Boost,
    Bury,
    Classify,
    Data,
    Exposure,
    Hide,
    Match,
    Pin,
    Redirect,
    Restrict,
    Rule,
    RuleStore,
    When,
)
from shelfwise.service.curation.synonyms import Synonym, SynonymKind
from shelfwise.service.demo import DemoFiles
from shelfwise.service.engine.candidates import Stages
from shelfwise.service.engine.editors import compile_rules
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.request import SearchRequest
from shelfwise.service.engine.search import Search
from tests.catalogs import ids
from tests.conftest import ENCODER
from tests.machine import within

RULES_FILE = "rules.sqlite"
DRILL = When("drill", Match.CONTAINS)


def test_other_engines_follow_within_a_second(live: SearchEngine, root: Path) -> None:
    first = ids(live.search("drill", size=1))[0]
    RuleStore(root).put([Rule("it", (Hide((first,)),), DRILL)])
    assert within(1.0, lambda: first not in ids(live.search("drill")))
    # Two changes at once may give the file the same modification time.
    for turn in range(5):
        RuleStore(root).put([Rule("it", (Redirect(f"/{turn}"),), DRILL)])
        RuleStore(root).put([Rule("it", (Redirect(f"/{turn}b"),), DRILL)])
        wanted = f"/{turn}b"
        assert within(1.0, lambda: live.search("drill").redirect == wanted)  # noqa: B023  # asked within this turn


def test_rule_applies_once_its_field_exists(live: SearchEngine, root: Path) -> None:
    product = ids(live.search("drill", size=30))[-1]
    with pytest.raises(RuleError, match="no field 'campaign'"):
        live.rules.put([Rule("it", (Boost("campaign = winter", 10),), DRILL)])
    RuleStore(root).put([Rule("it", (Boost("campaign = winter", 10),), DRILL)])
    live.reload_if_changed()
    assert "no field 'campaign'" in live.rules.faults["it"]
    assert any("skipped rule 'it'" in notice for notice in live.notices)
    assert live.search("drill").rules == ()
    live.patch(product, **{"attributes.campaign": "winter"})
    assert ids(live.search("drill", size=1)) == [product]
    assert live.rules.faults == {}
    assert live.notices == ()


def test_counted_exposure_sets_the_strength_of_the_next_search(live: SearchEngine) -> None:
    first, second = ids(live.search("drill", size=2))
    live.rules.put([Rule("fair", (Exposure("price > 0", at_most=0.5), Pin((second,))))])
    page = live.search("drill", size=20)
    assert page.exposure_goals[0].pinned == (second,)
    assert live.search("drill", size=20, rules=False).exposure_goals == ()
    live.rules.exposure.count(page)
    assert live.rules.exposure_goals()[0].strength < 0
    after = live.search("drill", size=20, rules=[Rule("fair", (Exposure("price > 0", at_most=0.5),))])
    assert after.exposure_goals[0].strength == live.rules.exposure_goals()[0].strength
    assert {hit.rule for hit in after.hits if hit.product.id == first} == {"fair"}


def test_unreadable_rules_keep_the_previous_ones(live: SearchEngine, root: Path) -> None:
    live.rules.put([Rule("it", (Redirect("/a"),), DRILL)])
    whole = (root / RULES_FILE).read_bytes()
    (root / RULES_FILE).write_bytes(b"damaged" * 999)
    assert within(2.0, lambda: any("rules are not loaded" in notice for notice in live.notices))
    assert live.search("drill").redirect == "/a"
    (root / RULES_FILE).write_bytes(b"")
    time.sleep(0.2)
    assert live.search("drill").redirect == "/a"
    # The other file is from a backup, with fewer changes.
    (root / RULES_FILE).unlink()
    (root / RULES_FILE).write_bytes(whole)
    RuleStore(root).put([Rule("it", (Redirect("/b"),), DRILL)])
    assert within(2.0, lambda: live.search("drill").redirect == "/b")
    assert live.notices == ()
    (root / RULES_FILE).unlink()
    assert within(2.0, lambda: live.search("drill").redirect == "")


def test_an_index_with_damaged_rules_is_opened(root: Path) -> None:
    (root / RULES_FILE).write_bytes(b"damaged" * 999)
    with SearchEngine.open(root) as opened:
        assert opened.search("drill").hits
        assert "rules.sqlite is damaged" in opened.notices[0]


def test_classify_rule_gives_a_product_its_type_until_it_is_removed(live: SearchEngine, root: Path) -> None:
    live.upsert([Product("odd", "Drill Kettle", price=1.0)])

    def first(engine: SearchEngine) -> list[str]:
        by_price = engine.search("drill", size=1, sort="price")
        return [*ids(engine.search("drill", size=1, stage="merged")), *ids(by_price)]

    before = first(live)
    assert "odd" not in before
    assert live.rules.product_types("odd") == TypeNames(by_title="kettle")
    rules = [Rule("kettle", (Classify("drill", ("odd",)),))]
    preview = live.rules.preview("drill", rules, stage="merged")
    shown = next(move for move in (*preview.moved, *preview.gained) if move.product == "odd")
    assert (shown.after, shown.product_type) == (1, "drill")
    assert first(live) == before
    live.rules.put(rules)
    assert first(live) == ["odd", "odd"]
    assert live.rules.product_types("odd") == TypeNames(by_rule="drill")
    assert live.search("drill").rules == ()
    assert "odd" not in ids(live.search("drill", size=1, stage="merged", rules=False))
    with SearchEngine.open(root) as opened:
        assert first(opened) == ["odd", "odd"]
    live.rules.delete(["kettle"])
    assert first(live) == before


def test_classify_rule_adds_a_type_for_products_that_pass_its_filter(live: SearchEngine) -> None:
    front = {"load": "front"}
    live.upsert([Product(name, "Laundry Washing Machine Deluxe", attributes=front) for name in ("w1", "w2")])
    live.rules.put([Rule("washers", (Classify("Washing Machines", filters="load = front"),))])
    found = live.search("washing machine", sort="price")
    assert [(hit.product.id, hit.product_type) for hit in found.hits] == [
        ("w1", "Washing Machines"),
        ("w2", "Washing Machines"),
    ]
    assert found.product_type == "washing machine"
    live.patch("w2", **{"attributes.load": "top"})
    assert ids(live.search("washing machine", sort="price")) == ["w1"]
    assert live.rules.product_types("w2").by_rule == ""


def test_similar_products_respect_hide_rules(live: SearchEngine) -> None:
    product = ids(live.search("drill", size=1))[0]
    near = ids(live.similar(product))
    rules = [
        Rule("hide", (Hide((near[0],)),)),
        Rule("only", (Restrict("price < 100"),), When(filters="availability = in_stock")),
        Rule("pin", (Pin((near[5],)), Redirect("/a"))),
        Rule("query", (Hide((near[1],)),), DRILL),
    ]
    live.rules.put(rules)
    page = live.similar(product)
    assert ids(page)[:9] == near[1:10]
    assert page.rules == ("hide",)
    assert not page.redirect
    stocked = live.similar(product, filters="availability = in_stock")
    assert stocked.rules == ("hide", "only")
    assert all(hit.product.price is not None and hit.product.price < 100 for hit in stocked.hits)
    assert ids(live.similar(product, rules=False)) == near


def test_benchmarks_ignore_rules(live: SearchEngine) -> None:
    before = run_stage(live, ["drill", "mug"], "merged")
    live.rules.put([Rule("it", (Hide(filters="price > 0"),))])
    assert live.search("drill").total == 0
    assert run_stage(live, ["drill", "mug"], "merged") == before


class TestPreview:
    def test_preview_lists_added_removed_and_moved_hits(self, live: SearchEngine) -> None:
        before = ids(live.search("drill", size=6))
        strange = ids(live.search("mug", size=1))[0]
        rules = [Rule("a", (Pin((strange,), 2), Hide((before[0],))), DRILL)]
        found = live.rules.preview("drill", rules, size=5)
        assert ids(found.before) == before[:5]
        assert ids(found.after) == [before[1], strange, *before[2:5]]
        assert [(each.product, each.before, each.after, each.rule) for each in found.gained] == [
            (strange, None, 2, "a")
        ]
        assert [(each.product, each.before, each.after) for each in found.lost] == [(before[0], 1, None)]
        assert [(each.product, each.before, each.after) for each in found.moved] == [(before[1], 2, 1)]
        assert found.after.total == found.before.total
        assert found.moved[0].title == live.product(before[1]).title

    def test_preview_includes_the_other_rules(self, live: SearchEngine) -> None:
        first, second, third = ids(live.search("drill", size=3))
        live.rules.put([Rule("a", (Hide((first,)),), DRILL), Rule("b", (Hide((second,)),), DRILL)])
        found = live.rules.preview("drill", [Rule("c", (Redirect("/c"),))], delete=["b"], size=1)
        assert (ids(found.before), ids(found.after)) == ([third], [second])
        assert (found.before.rules, found.after.rules) == (("a", "b"), ("a", "c"))
        assert (found.before.redirect, found.after.redirect) == ("", "/c")

    def test_preview_positions_continue_across_pages(self, live: SearchEngine) -> None:
        tenth = ids(live.search("drill", size=10))[9]
        found = live.rules.preview("drill", [Rule("a", (Pin((tenth,), 7),), DRILL)], size=5, page=2)
        assert [(each.product, each.before, each.after) for each in found.moved if each.rule] == [(tenth, 10, 7)]


ALL = 600


def found(engine: SearchEngine, query: str, filters: str = "") -> list[str]:
    return ids(engine.search(query, size=ALL, filters=filters, rules=False))


def one(*actions: Action, when: When = DRILL) -> list[Rule]:
    return [Rule("it", actions, when)]


def test_pinned_product_that_passes_the_filter_is_the_only_hit(engine: SearchEngine) -> None:
    strange = found(engine, "mug")[0]
    filters = f'id = "{strange}"'
    before = engine.search("drill", filters=filters, rules=False)
    assert (before.total, [hit.product.id for hit in before.nearest]) == (0, [strange])
    page = engine.search("drill", filters=filters, rules=one(Pin((strange,))), facets=["brand"])
    assert (page.nearest, page.total, len(page.facets["brand"].counts)) == ((), 1, 1)


def test_pages_continue_after_the_ranked_head(engine: SearchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelfwise.service.engine.candidates, "KEYWORD_DEPTH", 5)
    monkeypatch.setattr(shelfwise.service.engine.candidates, "DENSE_DEPTH", 5)
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


def test_exact_identifier_precedes_pins(engine: SearchEngine) -> None:
    product = engine.product(found(engine, "drill")[0])
    sku, other = product.identifiers["sku"][0], found(engine, "mug")[0]
    page = engine.search(sku, rules=one(Pin((other, product.id)), Bury(f'id = "{product.id}"', 9), when=When()))
    assert ids(page)[:2] == [product.id, other]
    assert page.hits[0].identifier == sku


@pytest.mark.parametrize("stage", ["merged", "bm25", "dense", "ranked"])
def test_boosts_and_burials_are_in_standard_deviations(engine: SearchEngine, stage: str) -> None:
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


@pytest.mark.parametrize("query", ["drill", ""])
def test_sort_order_overrides_pins(engine: SearchEngine, query: str) -> None:
    strange = found(engine, "mug")[0]
    rules = one(Pin((strange,)), Boost("price > 0", 5), when=When())
    page = engine.search(query, size=ALL, sort="price", all_types=True, rules=rules)
    prices = [hit.product.price for hit in page.hits if hit.product.price is not None]
    assert prices == sorted(prices)
    assert sorted(ids(page)) == sorted(ids(engine.search(query, size=ALL, rules=rules)))
    assert not any(hit.rule for hit in page.hits)


def test_rule_of_a_context_adds_its_data(engine: SearchEngine) -> None:
    rules = one(Data({"banner": "New here"}), when=When("drill", Match.CONTAINS, contexts=("mobile", "app")))
    assert engine.search("cordless drill", rules=rules, contexts=["app"]).data == ({"banner": "New here"},)
    for contexts in ([], ["web"]):
        page = engine.search("cordless drill", rules=rules, contexts=contexts)
        assert (page.data, page.rules) == ((), ())


def test_optional_filters_order_hits_and_keep_them(engine: SearchEngine) -> None:
    plain = engine.search("drill", size=ALL, rules=False)
    brand = next(hit.product.brand for hit in plain.hits if hit.product.brand != plain.hits[0].product.brand)
    wanted, other = (
        engine.search("drill", size=ALL, rules=False, optional_filters=[f"{sign}brand = '{brand}'"])
        for sign in ("", "-")
    )
    assert sorted(ids(wanted)) == sorted(ids(other)) == sorted(ids(plain))
    assert wanted.hits[0].product.brand == brand != other.hits[0].product.brand
    assert wanted.hits[0].rule == ""
    places = [hit.product.brand == brand for hit in other.hits[:20]]
    assert sum(places) <= sum(hit.product.brand == brand for hit in plain.hits[:20])
    with pytest.raises(QueryError, match="optional_filters has an empty filter"):
        engine.search("drill", optional_filters=["-"])


def test_rules_apply_without_the_cluster(engine: SearchEngine) -> None:
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


PASSES: dict[str, Callable[[Product], bool]] = {
    "price < 40": lambda product: product.price is not None and product.price < 40,
    "NOT price < 100": lambda product: product.price is None or product.price >= 100,
    "availability = in_stock": lambda product: product.availability == "in_stock",
    "language = en": lambda product: product.language == "en",
}
QUERIES = ("drill", "cordless drill", "red mug 350ml", "耳机", "")
PRODUCTS = st.lists(st.integers(0, ALL + 5).map("d{:06}".format), min_size=1, max_size=4, unique=True).map(tuple)
ACTIONS: st.SearchStrategy[Action] = st.one_of(
    st.builds(Pin, PRODUCTS, st.integers(1, 40)),
    st.builds(Boost, st.sampled_from([*PASSES]), st.floats(0.1, 5)),
    st.builds(Bury, st.sampled_from([*PASSES]), st.floats(0.1, 5)),
    st.builds(Exposure, st.sampled_from([*PASSES]), st.floats(0.1, 0.9)),
    st.builds(Hide, PRODUCTS, st.sampled_from(["", *PASSES])),
    st.builds(Restrict, st.sampled_from([*PASSES])),
    st.builds(Redirect, st.sampled_from(["/a", "/b"])),
)
WHENS = st.sampled_from(
    [
        When(),
        When("drills", Match.CONTAINS),
        When("cordless drill", Match.EXACT),
        When("mug", Match.CONTAINS),
        When(filters="price < 40"),
    ]
)
RULES = st.lists(st.tuples(st.lists(ACTIONS, min_size=1, max_size=2).map(tuple), WHENS, st.integers(0, 1)), max_size=4)


def holding(rules: list[Rule], query: str, filters: str) -> list[Rule]:
    """The rules that a search matches, in the order of their application."""
    met = {"": True, "drills": "drill" in query, "cordless drill": query == "cordless drill", "mug": "mug" in query}
    matched = [rule for rule in rules if met[rule.when.query] and rule.when.filters in ("", filters)]
    return sorted(matched, key=lambda rule: (-rule.priority, rule.id))


def may_be_shown(rules: list[Rule], product: Product, filters: str) -> bool:
    actions = [action for rule in rules for action in rule.actions]
    hidden = any(
        product.id in action.products or (action.filters != "" and PASSES[action.filters](product))
        for action in actions
        if isinstance(action, Hide)
    )
    kept = all(PASSES[action.filters](product) for action in actions if isinstance(action, Restrict))
    return not hidden and kept and (not filters or PASSES[filters](product))


def with_pins(others: list[str], rules: list[Rule], shown: set[str]) -> list[str]:
    places: dict[int, str] = {}
    for action in (action for rule in rules for action in rule.actions if isinstance(action, Pin)):
        for place, product in enumerate(action.products, action.position):
            if product in shown and product not in places.values():
                places[next(free for free in range(place, 9_999) if free not in places)] = product
    order: list[str] = []
    while others or places:
        if len(order) + 1 in places or not others:
            order.append(places.pop(min(places)))
        else:
            order.append(others.pop(0))
    return order


@given(RULES, st.sampled_from(QUERIES), st.sampled_from(["", *PASSES]), st.integers(40, 300))
def test_random_rules_keep_page_invariants(
    engine: SearchEngine, drawn: list[tuple[tuple[Action, ...], When, int]], query: str, filters: str, size: int
) -> None:
    rules = [Rule(f"r{number}", each[0], each[1], priority=each[2]) for number, each in enumerate(drawn)]
    matched = holding(rules, query, filters)
    whole = engine.search(query, size=ALL, filters=filters, rules=rules, facets=["availability", "brand"])
    assert whole.rules == tuple(rule.id for rule in matched)
    redirects = [action.url for rule in matched for action in rule.actions if isinstance(action, Redirect)]
    assert whole.redirect == (redirects[0] if redirects else "")

    last = -(-whole.total // size)
    pages = [engine.search(query, size=size, page=page, filters=filters, rules=rules) for page in range(1, last + 2)]
    assert [product for page in pages for product in ids(page)] == ids(whole)
    assert len(set(ids(whole))) == len(ids(whole)) == whole.total
    assert {page.total for page in pages} == {whole.total}

    assert all(may_be_shown(matched, hit.product, filters) for hit in whole.hits)
    pins = {p for rule in matched for action in rule.actions if isinstance(action, Pin) for p in action.products}
    there = {product.id: product for product in (engine.snapshot.products[row] for row in range(ALL))}
    shown = {product for product in pins & there.keys() if may_be_shown(matched, there[product], filters)}
    assert shown <= set(ids(whole))
    assert ids(whole) == with_pins([each for each in ids(whole) if each not in shown], matched, shown)
    by_rule = {hit.product.id for hit in whole.hits if hit.rule and hit.product.id in pins}
    assert shown <= by_rule

    if whole.total:
        for field in ("availability", "brand"):
            for each in whole.facets[field].counts[:2]:
                # In brackets, so that rules for a filter that it contains still apply.
                narrower = f'({filters or "id EXISTS"}) AND {field} = "{each.value}"'
                chosen = engine.search(query, size=ALL, filters=narrower, rules=rules)
                assert chosen.total == len(chosen.hits) == each.count


ZORB = Synonym("zorb", SynonymKind.ONE_WAY, ("zorb",), ("drill",))


def found_by(engine: SearchEngine, text: str) -> set[str]:
    page = engine.search(text, size=200, stage="bm25", correct=False)
    assert page.total <= 200
    return set(ids(page))


def test_synonym_change_applies_to_the_next_search(live: SearchEngine) -> None:
    drills = found_by(live, "drill")
    assert not found_by(live, "zorb")
    live.synonyms.put([ZORB], who="m7")
    assert found_by(live, "zorb") == drills
    assert live.snapshot is live.snapshot
    live.synonyms.patch("zorb", {"enabled": False})
    assert not found_by(live, "zorb")
    live.synonyms.patch("zorb", {"enabled": True})
    live.synonyms.delete(["zorb"])
    assert not found_by(live, "zorb")


def test_synonyms_of_the_version_still_apply(live: SearchEngine) -> None:
    sofas = found_by(live, "couch")
    live.synonyms.put([Synonym("couch", SynonymKind.ONE_WAY, ("couch",), ("kettle",))])
    assert found_by(live, "couch") == sofas | found_by(live, "kettle")


def test_live_changes_and_synonyms_combine(live: SearchEngine) -> None:
    live.synonyms.put([ZORB])
    live.upsert([Product("p1", "Pillar drill of the newest kind")])
    assert "p1" in found_by(live, "zorb")
    live.delete(["p1"])
    assert "p1" not in found_by(live, "zorb")
    assert found_by(live, "zorb") == found_by(live, "drill")


def test_version_is_not_changed(root: Path, demo: DemoFiles, cache: Path, live: SearchEngine, tmp_path: Path) -> None:
    live.synonyms.put([ZORB])
    before = live.manifest
    assert live.snapshot.analyzer.identity != before.analyzer
    live.refresh()
    assert (live.manifest, bool(found_by(live, "zorb"))) == (before, True)
    assert not verify_version(Store(root), live.manifest.version, NullProgress()).problems
    none = tmp_path / "none.txt"
    none.touch()
    report = rebuild(root, RebuildOptions((str(demo.products),), cache, encoder=ENCODER, synonyms=none))
    assert report.published
    live.refresh()
    assert live.manifest.version != before.version
    assert found_by(live, "zorb") == found_by(live, "drill")
    assert not found_by(live, "settee"), "the new version was built without synonyms"


def test_synonym_is_not_treated_as_a_misspelling(live: SearchEngine) -> None:
    assert live.search("dril").corrected
    live.synonyms.put([Synonym("dril", SynonymKind.ONE_WAY, ("dril",), ("kettle",))])
    page = live.search("dril", stage="bm25", size=200)
    assert not page.corrected
    assert set(ids(page)) == found_by(live, "kettle")


def test_a_phrase_with_synonyms_counts_as_all_of_its_words(live: SearchEngine) -> None:
    """Half of a query's words must match. Regression: a phrase that became one group counted once, and lost its hits. A
    rarer synonym leaves the scores of the typed words unchanged."""
    live.upsert([Product("p1", "Zagg blurp")])
    assert "p1" in found_by(live, "heliotrope quartz zagg blurp")
    scores = {hit.product.id: hit.stages["bm25"].score for hit in live.search("zagg blurp", stage="bm25").hits}
    live.synonyms.put([Synonym("zagg", SynonymKind.ONE_WAY, ("zagg blurp",), ("quorvax",))])
    assert "p1" in found_by(live, "heliotrope quartz zagg blurp")
    after = {hit.product.id: hit.stages["bm25"].score for hit in live.search("zagg blurp", stage="bm25").hits}
    assert after["p1"] == pytest.approx(scores["p1"], rel=1e-4)
