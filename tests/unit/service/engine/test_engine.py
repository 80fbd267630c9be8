"""The engine on the demo store: guarantees of a page's hits, total, facets and neighbouring pages."""

from __future__ import annotations

import random
import string
import threading
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import shelfwise.service.engine.candidates
import shelfwise.service.engine.engine
from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.retrieval.errors import QueryError, StoreDamagedError, UnknownFieldError, UnknownProductError
from shelfwise.retrieval.records import EventKind, Page, PastAct
from shelfwise.service.demo import DemoFiles
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.request import STAGES, SearchRequest, apply_operators
from tests.catalogs import ids
from tests.conftest import ENCODER

QUERIES = ("drill", "running shoes", "gift for a gardener", "耳机", "cordless drll", "red mug 350ml", "zzzz qqqq")


@pytest.mark.parametrize("query", [*QUERIES, "steel", "black"])
@pytest.mark.parametrize("depth", [1_000, 5])
def test_filter_keeps_the_order(engine: SearchEngine, query: str, depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelfwise.service.engine.candidates, "KEYWORD_DEPTH", depth)
    # Without a ranker, whose best 100 candidates differ under a filter.
    everything = engine.search(query, size=600, stage="merged")
    kept = [hit.product.id for hit in everything.hits if hit.product.price is not None and hit.product.price < 40]
    cheap = engine.search(query, size=600, filters="price < 40", stage="merged")
    assert kept == ids(cheap)
    assert bool(cheap.nearest) == (not kept)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("query", QUERIES)
def test_search_fields_select_products_and_keep_the_order(engine: SearchEngine, query: str, stage: str) -> None:
    fields, terms = ["title", "color"], engine.snapshot.analyzer.terms
    page = engine.search(query, size=600, search_fields=fields, facets=["brand"], stage=stage)
    suggestion = page.suggestion if page.corrected else query
    for hit in page.hits:
        words = {*terms(hit.product.title), *terms(str(hit.product.attributes.get("color", "")))}
        assert words & set(terms(suggestion))
    assert page.total == len(page.hits)
    assert sum(each.count for each in page.facets["brand"].counts) == sum(bool(hit.product.brand) for hit in page.hits)
    if stage != "ranked":
        wide = ids(engine.search(query, size=600, stage=stage))
        assert [each for each in ids(page) if each in wide] == [each for each in wide if each in ids(page)]


def test_search_fields_exclude_words_of_other_fields(engine: SearchEngine) -> None:
    product = engine.search("cordless drill").hits[0].product
    assert engine.search(product.brand, search_fields=["brand"], filters=f"id = {product.id}").total == 1
    nowhere = engine.search("cordless drill", search_fields=["brand"], filters="price < 100")
    assert (nowhere.total, nowhere.nothing_fits) == (0, False)
    assert ids(nowhere) == [] and all(hit.product.price < 100 for hit in nowhere.nearest)  # type: ignore[operator]
    assert engine.search("", search_fields=["title"]).total == engine.search("").total
    with pytest.raises(UnknownFieldError, match=r"no field 'colour'; did you mean attributes.color"):
        engine.search("drill", search_fields=["colour"])
    with pytest.raises(UnknownFieldError, match="no field 'price'"):
        engine.search("", search_fields=["price"])


@pytest.mark.parametrize(
    ("text", "words", "phrases", "excluded"),
    [
        ('"cordless drill" -Bosch', "cordless drill", ("cordless drill",), ("Bosch",)),
        ('drill -"hammer drill" kit', "drill kit", (), ("hammer drill",)),
        ('-saw -"a b"', "", (), ("saw", "a b")),
        ('17" monitor with 4" stand - black', '17" monitor with 4" stand - black', (), ()),
        ('drill-bit - "" "open', 'drill-bit - "" "open', (), ()),
    ],
)
def test_operators_are_read_where_they_are_allowed(
    text: str, words: str, phrases: tuple[str, ...], excluded: tuple[str, ...]
) -> None:
    plain = SearchRequest(text)
    assert apply_operators(plain) == plain
    found = apply_operators(replace(plain, advanced_syntax=True))
    assert (found.text, found.phrases, found.excluded) == (words, phrases, excluded)
    assert found.correct == (not phrases and not excluded)
    with pytest.raises(QueryError, match="excluded has 21 entries"):
        apply_operators(SearchRequest("-a " * 21, advanced_syntax=True))


def test_operators_bound_the_hits(engine: SearchEngine) -> None:
    def search(text: str) -> Page:
        return engine.search(text, size=600, facets=["brand"], advanced_syntax=True)

    drills = search('"cordless drill"')
    assert 0 < drills.total < search("cordless drill").total
    assert all("cordless drill" in str(hit.product).casefold() for hit in drills.hits)
    assert search('"drill cordless"').total == 0
    brand = str(drills.facets["brand"].counts[0].value)
    others = search(f'"cordless drill" -"{brand}"')
    assert others.total == drills.total - drills.facets["brand"].counts[0].count
    assert brand not in {hit.product.brand for hit in others.hits}
    everything = search(f'-"{brand}"')
    assert everything.total == len(everything.hits) < 600 and brand not in {h.product.brand for h in everything.hits}


def test_hits_have_the_score_of_each_stage(engine: SearchEngine) -> None:
    page = engine.search("steel", size=50, stage="merged")
    assert [hit.stages["merged"].rank for hit in page.hits] == list(range(1, 51))
    assert set(engine.search("cordless drill", stage="bm25").hits[0].stages) == {"bm25"}
    for hit in page.hits:
        assert set(hit.stages) == {"bm25", "dense", "merged"}
        assert hit.stages["merged"].score == hit.score
        assert hit.stages["bm25"].score == 0 or hit.stages["bm25"].rank is not None
    assert {"bm25", "dense", "encode", "merge"} <= set(page.timings)


@pytest.mark.parametrize("stage", STAGES)
def test_exact_identifier_is_first(engine: SearchEngine, stage: str) -> None:
    for row in range(0, 600, 60):
        product = engine.snapshot.products[row]
        for kind in ("sku", "ean", "mpn"):
            for typed in (product.identifiers[kind][0], product.identifiers[kind][0].lower().replace("-", " ")):
                hit = engine.search(typed, stage=stage).hits[0]
                assert hit.product.identifiers[kind] == product.identifiers[kind]
                assert hit.identifier == typed
        other = engine.search(product.identifiers["ean"][0], filters=f'NOT id = "{product.id}"')
        assert product.id not in ids(other)


@pytest.mark.parametrize("query", ["drill", ""])
def test_further_sort_keys_order_ties_of_the_first(engine: SearchEngine, query: str) -> None:
    page = engine.search(query, size=600, sort="-rating, price", all_types=True)
    key = [(-(hit.product.rating or 0), hit.product.price or 1e9) for hit in page.hits]
    assert key == sorted(key) and len({rating for rating, _ in key}) < len(key)
    for sort in ("price,", "-", "price,rating,price,rating,price,rating"):
        with pytest.raises(QueryError, match="it can be 1 to 5 fields"):
            engine.search("drill", sort=sort)


def test_sort_shows_the_type_that_the_query_names_with_its_own_total_and_facets(engine: SearchEngine) -> None:
    everything = engine.search("drill", size=600, sort="price", all_types=True)
    page = engine.search("drill", size=600, sort="price", facets=["brand"])
    assert (page.product_type, everything.product_type) == ("drill", "")
    assert 0 < page.total == len(page.hits) < everything.total
    assert not any("Bit" in hit.product.title for hit in page.hits)
    assert ids(page) == [each for each in ids(everything) if each in ids(page)]
    assert sum(each.count for each in page.facets["brand"].counts) == page.total
    second = engine.search("drill", size=5, page=2, sort="price", filters="price < 100")
    assert ids(second) == [hit.product.id for hit in page.hits if (hit.product.price or 999) < 100][5:10]


@pytest.mark.parametrize("stage", ["merged", "ranked"])
def test_price_in_the_query_ranks_matching_products_first(engine: SearchEngine, stage: str) -> None:
    plain, page = engine.search("backpack", size=600), engine.search("backpack under 90", size=600, stage=stage)
    assert (plain.preferred, [each.filter for each in page.preferred]) == ((), ["price <= 90"])
    assert sorted(ids(page)) == sorted(ids(plain)), "a preference leaves nothing out"
    before = {hit.product.id: hit.score for hit in engine.search("backpack", size=600, stage=stage).hits}
    gained = {hit.product.id: round(hit.score - before[hit.product.id], 3) for hit in page.hits}
    cheap = {hit.product.id for hit in page.hits if (hit.product.price or 99) <= 90}
    assert gained[page.hits[0].product.id] >= 2
    assert {each for product, each in gained.items() if product not in cheap} == {0}
    alone = engine.search("backpack", size=600, filters=page.preferred[0].filter)
    assert 0 < alone.total < page.total
    assert engine.search("backpack under 60", filters="price > 1").preferred == ()


@pytest.mark.parametrize("stage", ["merged", "ranked"])
@pytest.mark.parametrize(
    ("query", "meant"), [("cheap backpack", "backpack"), ("cheapest drill", "drill"), ("最便宜的耳机", "耳机")]
)
def test_a_low_price_in_the_query_ranks_cheap_products_of_the_type_first(
    engine: SearchEngine, query: str, meant: str, stage: str
) -> None:
    plain, page = (engine.search(text, size=600, stage=stage) for text in (meant, query))
    assert sorted(ids(page)) == sorted(ids(plain)), "a preference leaves nothing out"
    (price,) = page.preferred
    of_type = {*ids(engine.search(meant, size=600, sort="price"))}
    prices = sorted(hit.product.price or 0 for hit in page.hits if hit.product.id in of_type)
    assert (price.field, price.filter) == ("price", f"price <= {price.high:g}")
    assert prices[0] < (price.high or 0) < prices[-1]
    assert page.hits[0].product.id in of_type
    assert sum(hit.product.price or 0 for hit in page.hits[:5]) < sum(hit.product.price or 0 for hit in plain.hits[:5])
    before = {hit.product.id: hit.score for hit in plain.hits}
    gained = {hit.product.id: hit.score - before[hit.product.id] for hit in page.hits}
    assert max(gained.values()) >= 3.5
    if stage == "merged":
        assert all(abs(each) < 0.01 for product, each in gained.items() if product not in of_type)
    assert not engine.search(query, filters="price > 1").preferred


def test_a_low_price_says_nothing_without_a_type_of_product(engine: SearchEngine) -> None:
    assert not engine.search("cheap").preferred
    assert not engine.search("cheap qjxkvbz").preferred


@pytest.mark.parametrize(
    ("query", "meant", "lacked"),
    [
        ("drill without battery", "drill", "batter"),
        ("cordless drill without a case for beginners", "cordless drill for beginners", "case"),
        ("hoodie w/o zip", "hoodie", "zip"),
        ("不带工具箱的电钻", "电钻", "工具箱"),
    ],
)
def test_the_words_after_without_are_not_searched(engine: SearchEngine, query: str, meant: str, lacked: str) -> None:
    plain, page = engine.search(meant, size=600, stage="merged"), engine.search(query, size=600, stage="merged")
    assert sorted(ids(page)) == sorted(ids(plain)), "a preference leaves nothing out"
    before = {hit.product.id: hit.score for hit in plain.hits}
    gained = {hit.product.id: round(hit.score - before[hit.product.id], 3) for hit in page.hits}
    having = {hit.product.id for hit in page.hits if lacked in hit.product.title.lower()}
    assert {gained[each] for each in having} <= {0.0}
    assert gained[page.hits[0].product.id] >= 2
    assert not page.preferred, "no filter says it"


def test_products_with_lacking_phrases_come_first(engine: SearchEngine) -> None:
    assert "Grain Free" in engine.search("dog food without grain").hits[0].product.title
    assert "无硅油" in engine.search("不含硅油的洗发水").hits[0].product.title


@pytest.mark.parametrize("stage", ["merged", "ranked"])
def test_brand_and_colour_in_the_query_rank_matching_products_first(engine: SearchEngine, stage: str) -> None:
    page = engine.search("Trailmarrow backpack", size=600, stage=stage)
    (brand,) = page.preferred
    assert (brand.field, brand.values, brand.filter) == ("brand", ("Trailmarrow",), "brand IN (Trailmarrow)")
    alone = engine.search("Trailmarrow backpack", size=600, filters=brand.filter, stage=stage)
    assert alone.preferred == ()
    first = page.hits[: sum("backpack" in hit.product.title.lower() for hit in alone.hits)]
    assert {hit.product.brand for hit in first} == {"Trailmarrow"}
    white = engine.search("white backpack", stage=stage)
    assert [each.field for each in white.preferred] == ["attributes.color"]
    assert white.hits[0].product.attributes["color"] == "White"
    assert engine.search("backpack", stage=stage).preferred == ()


def test_empty_query_returns_all_products_by_popularity(engine: SearchEngine) -> None:
    page = engine.search("  ", size=20, facets=["language"])
    counts = [hit.product.rating_count or 0 for hit in page.hits]
    assert page.total == 600
    assert counts == sorted(counts, reverse=True)
    assert sum(each.count for each in page.facets["language"].counts) == 600
    assert engine.search("", filters="price < 0").total == 0


@pytest.mark.parametrize("query", ["!!!", "\u200b"])
def test_query_of_symbols_has_no_hits(engine: SearchEngine, query: str) -> None:
    page = engine.search(query, facets=["brand"])
    assert (page.total, page.hits, page.facets["brand"].counts) == (0, (), ())


def test_filter_without_candidates_returns_nearest_separately(engine: SearchEngine) -> None:
    row = next(row for row in range(600) if engine.snapshot.products[row].language == "zh")
    product = engine.snapshot.products[row]
    page = engine.search("cordless drill", filters=f'id = "{product.id}"', facets=["brand"])
    assert (page.total, page.hits, page.facets["brand"].counts) == (0, (), ())
    assert [hit.product.id for hit in page.nearest] == [product.id]
    assert not page.nothing_fits, "the catalog has drills"
    assert engine.search("cordless drill", filters="price < 0").nearest == ()


@pytest.mark.parametrize("query", ["asdfqwzx", "qjxkvbz wpfgh", "return policy"])
def test_query_that_nothing_fits_returns_only_nearest(engine: SearchEngine, query: str) -> None:
    page = engine.search(query, facets=["brand"], size=5)
    assert (page.total, page.hits, page.nothing_fits) == (0, (), True)
    assert page.facets["brand"].counts == ()
    assert len(page.nearest) == 5
    assert page.suggestion == "" or not page.corrected
    filtered = engine.search(query, filters="price < 40", size=5)
    assert filtered.nothing_fits
    assert all(hit.product.price is not None and hit.product.price < 40 for hit in filtered.nearest)


@pytest.mark.parametrize("query", ["printer", "wine", "tennis racket", "swimming pool", "vase"])
def test_a_common_word_that_the_catalog_lacks_has_no_correction(engine: SearchEngine, query: str) -> None:
    assert engine.search(query).suggestion == ""


@pytest.mark.parametrize(("typed", "meant"), [("dill bit", "drill bit"), ("garden hoes", "garden hose")])
def test_a_common_word_is_corrected_where_a_product_has_the_other_words(
    engine: SearchEngine, typed: str, meant: str
) -> None:
    page = engine.search(typed)
    assert (page.suggestion, page.corrected) == (meant, False)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("backpack not black", "backpack"),
        ("red backpack, but not in black", "red backpack,"),
        ("drill not kessholt", "drill"),
        ("不要黑色的双肩包", "双肩包"),
    ],
)
def test_a_value_that_is_not_wanted_is_not_preferred(engine: SearchEngine, typed: str, meant: str) -> None:
    page, expected = engine.search(typed), engine.search(meant)
    assert (ids(page), page.preferred) == (ids(expected), expected.preferred)


def test_few_hits_of_a_filter_come_with_other_near_products(engine: SearchEngine) -> None:
    texts = ("something to carry books", "keep coffee hot", "cordless drill", "gift for a gardener")
    offered = 0
    for text, bound in product(texts, (5, 10, 20, 60)):
        filters = f"price < {bound}"
        page = engine.search(text, filters=filters)
        offered += bool(page.hits and page.nearest)
        assert len(page.nearest) + min(page.total, 10) <= 10 or not page.total
        assert not set(ids(page)) & {hit.product.id for hit in page.nearest}
        assert all(hit.product.price is not None and hit.product.price < bound for hit in page.nearest)
        assert not engine.search(text, filters=filters, sort="price").nearest or not page.total
        assert not engine.search(text, filters=filters, page=2).nearest
    assert offered


def test_nearly_all_strings_of_random_letters_have_no_hits(engine: SearchEngine) -> None:
    dice = random.Random(11)
    words = ["".join(dice.choices(string.ascii_lowercase, k=dice.randint(5, 9))) for _ in range(60)]
    assert sum(engine.search(word, size=0).nothing_fits for word in words) >= 54
    cutoff = engine.manifest.cutoff
    assert -1 < cutoff.known <= cutoff.unknown < 1


def test_a_hit_shows_the_type_of_its_product(engine: SearchEngine) -> None:
    for hit in (*engine.search("cordless drill").hits, *engine.search("").hits, *engine.search("asdfqwzx").nearest):
        assert hit.product_type == engine.rules.product_types(hit.product.id).name
    assert "drill" in engine.search("cordless drill").hits[0].product_type
    with pytest.raises(UnknownProductError):
        engine.rules.product_types("nosuch")


@given(text=st.text(max_size=60))
@example("\ud800")
@example("a" * 10_000)
@example("drill " * 1_600)
@example('OR AND NOT ( ) : * ^ ~ "')
def test_arbitrary_text_is_answered(engine: SearchEngine, text: str) -> None:
    page = engine.search(text, size=3, facets=["brand"])
    assert page.total >= len(page.hits)
    assert page.suggestion or not page.corrected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "a" * 10_001}, "10001 characters, at most 10000"),
        ({"size": -1}, "size is -1"),
        ({"page": 0}, "page is 0, pages count from 1"),
        ({"page": 2**40}, "reaches past rank 100000"),
        ({"stage": "magic"}, "stage is 'magic', it can be bm25, dense, merged"),
        ({"facets": ["brand"] * 51}, "facets has 51 entries, it can have 50"),
        ({"search_fields": "title"}, r"search_fields must be .* such as \['title'\]"),
        ({"search_fields": ["title"] * 21}, "search_fields has 21 entries"),
        ({"per_group": 2}, "per_group is 2 without group"),
        ({"per_group": 21, "group": "brand"}, "per_group is 21, it can be 1 to 20"),
        ({"per_group": 3, "group": "brand", "size": 400}, "may have 1,200 hits; a page can have 1,000"),
        ({"diversity": float("nan")}, "diversity is nan, it can be 0 to 1"),
        ({"diversity": True}, "diversity is bool, it must be a number from 0 to 1"),
        ({"diversity": 0.5, "sort": "price"}, r"diversity is 0\.5 and sort is 'price'; leave out one of them"),
        ({"choices": 6}, "choices is 6, it can be 0 to 5"),
        ({"history": [PastAct("a", EventKind.QUERY)]}, "act 1 of the history"),
    ],
)
def test_invalid_argument_is_refused_by_name(engine: SearchEngine, options: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        engine.search(**{"text": "drill", **options})


def test_similar_excludes_the_product(engine: SearchEngine) -> None:
    product = engine.snapshot.products[3]
    page = engine.similar(product.id, size=10)
    assert len(page.hits) == 10
    assert product.id not in ids(page)
    with pytest.raises(UnknownProductError, match="'nope'"):
        engine.similar("nope")
    with pytest.raises(QueryError, match="product_id is int, it must be str"):
        engine.similar(7)  # type: ignore[arg-type]
    assert engine.product(product.id) == product


def test_searches_survive_a_publish(root: Path, demo: DemoFiles, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelfwise.service.engine.engine, "_LOOK_SECONDS", 0.01)
    failures: list[Exception] = []
    versions: set[str] = set()
    stop, none = threading.Event(), root / "none.txt"
    none.touch()

    def search(engine: SearchEngine) -> None:
        while not stop.wait(0.05):  # leaves processor time to the rebuild
            try:
                page = engine.search("cordless drill", facets=["brand"])
                versions.add(page.version)
                assert page.hits
            except Exception as error:
                failures.append(error)

    with SearchEngine.open(root) as engine:
        threads = [threading.Thread(target=search, args=(engine,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for synonyms in (none, demo.synonyms):
            rebuild(root, RebuildOptions((str(demo.products),), cache, encoder=ENCODER, synonyms=synonyms, keep=1))
        engine.refresh()
        last = engine.search("cordless drill").version
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert last == "v000003"
    assert len(versions) > 1


def test_unopenable_new_version_keeps_the_old_one(root: Path) -> None:
    with SearchEngine.open(root) as engine:
        for path in root.glob("versions/*/products.jsonl"):
            path.write_bytes(b"")
        with pytest.raises(StoreDamagedError, match=r"products\.jsonl has 0 bytes"):
            engine.refresh()
        assert engine.manifest.version == "v000001"
    with pytest.raises(QueryError, match="the engine is closed"):
        engine.search("drill")


def test_damaged_newer_version_is_reported_and_the_old_one_serves(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelfwise.service.engine.engine, "_LOOK_SECONDS", 0.01)
    with SearchEngine.open(root) as engine:
        for path in root.glob("versions/*/manifest.json"):
            path.write_bytes(b"{}")
        (root / "CURRENT").write_text("v000009")
        while not engine.notices:
            assert engine.search("cordless drill").hits
        assert "v000001 still serves" in engine.notices[0]
