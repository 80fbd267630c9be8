"""Complaints of users of search programs in public trackers, as cases; the docstring of each names its thread."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product as combinations
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.retrieval.encoders.base import Encoder
from shelfwise.retrieval.encoders.weights import DEFAULT_MODEL
from shelfwise.retrieval.errors import EncoderError
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.curation.rules import Match, Pin, Rule, When
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.request import SearchOptions
from shelfwise.service.engine.snapshot import Connection, open_snapshot
from shelfwise.service.settings import Settings
from tests.catalogs import ids, write_feed
from tests.machine import build_once

SETTINGS = Settings(backend="embedded")
BRANDS = ("Torvald", "Quillon", "Maribel", "Osterby", "Fennimore")
COLOURS = ("black", "red", "blue", "green")
KINDS = {
    "hiking backpack": ("lightweight", "padded hip belt and rain cover for days in the mountains", 60),
    "electric kettle": ("stainless steel", "boils a litre and a half of water and switches itself off", 25),
    "cordless drill": ("compact", "two-speed gearbox, LED and two batteries in a case", 80),
    "office chair": ("ergonomic", "adjustable lumbar support and armrests for long working days", 150),
    "wireless headphones": ("noise cancelling", "thirty hours of music and a folding headband", 90),
    "camping tent": ("two person", "waterproof flysheet, aluminium poles and a small porch", 120),
    "desk lamp": ("dimmable", "swivel arm and warm light for reading", 30),
    "coffee grinder": ("conical burr", "eighteen settings from espresso to French press", 70),
    "yoga mat": ("non-slip", "thick natural rubber for home and studio", 35),
    "gaming keyboard": ("mechanical", "quiet switches and lights behind every key", 65),
}
"""A kind to its adjective, its description and its lowest price."""
BACKPACK, KETTLE, CHAIR, SHOE, CARD = "hiking backpack", "electric kettle", "office chair", "running shoes", "gift card"
EQUALS = 40
HIKING = "lightweight backpack for hiking"
BY_MEANING = "rucksack for trekking"
"""No product has one of its words, and more products are near it than an engine takes neighbours."""
QUERIES = (HIKING, BY_MEANING, BACKPACK, CHAIR, "red kettle for the office")
PINNED = "chair-50"
NEW = Product("new-1", "Zweeble whistling teapot", description="A porcelain teapot.", category=("teapot",), price=39.0)


def listing(number: int, kind: str) -> Product:
    adjective, description, lowest = KINDS[kind]
    brand = BRANDS[number % len(BRANDS)]
    colour = COLOURS[number // len(BRANDS) % len(COLOURS)]
    return Product(
        f"{kind.rsplit(maxsplit=1)[-1]}-{number}",
        f"{brand} {adjective} {kind}, {colour}, model {number + 10}",
        description=f"The {adjective} {kind} by {brand}: {description}.",
        brand=brand,
        category=(kind,),
        price=lowest + (number * 37 % 64) * 1.5,
        identifiers={"sku": (f"{kind[:2].upper()}-{4100 + [*KINDS].index(kind) * 64 + number}-{'ABCD'[number % 4]}",)},
        attributes={"colour": colour},
    )


def shoe(brand: str, colour: str, size: str) -> Product:
    group = f"shoe-{brand.lower()}"
    return Product(
        f"{group}-{colour}-{size}",
        f"{brand} running shoes, {colour}, size {size}",
        description=f"Running shoes by {brand} with a soft sole for roads and parks.",
        brand=brand,
        category=(SHOE,),
        price=70.0 + 5 * BRANDS.index(brand),
        attributes={"colour": colour, "size": size, "item_group_id": group},
    )


def catalog() -> list[Product]:
    """1,011 products: one kind of more products than an engine takes neighbours, five shoes of fifteen variants, and
    equal gift cards without a colour."""
    shoes = [
        shoe(brand, colour, size)
        for brand, colour, size in combinations(BRANDS, COLOURS, ("40", "41", "42", "43"))
        if (colour, size) != (COLOURS[BRANDS.index(brand) % len(COLOURS)], "43")
    ]
    card = {"description": "A gift card for the whole shop.", "brand": "Fennimore", "category": (CARD,), "price": 25.0}
    cards = [Product(f"card-{number:02d}", "Fennimore gift card", **card) for number in range(EQUALS)]  # type: ignore[arg-type]
    plain = [listing(number, kind) for kind in KINDS for number in range(320 if kind == BACKPACK else 64)]
    return [*plain, *shoes, *cards]


class FailingEncoder:
    """An encoder whose device is lost."""

    def __init__(self, real: Encoder) -> None:
        self.identity, self.dimension = real.identity, real.dimension

    def encode_queries(self, texts: list[str]) -> NDArray[np.float32]:
        raise EncoderError(f"the device is gone; {len(texts)} texts were not encoded")


@pytest.fixture(scope="module")
def shop(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchEngine]:
    def build(folder: Path) -> None:
        feed = write_feed(folder / "products.jsonl", catalog())
        rebuild(folder / "index", RebuildOptions((str(feed),), cache, encoder=DEFAULT_MODEL, workers=1))

    built = build_once(tmp_path_factory, "complaints", build)
    index = shutil.copytree(built / "index", tmp_path_factory.mktemp("complaints") / "index")
    with SearchEngine.open(index, settings=SETTINGS) as engine:
        yield engine


def found(shop: SearchEngine, text: str, size: int = 10, page: int = 1, **options: object) -> list[str]:
    return ids(shop.search(text, **cast(SearchOptions, {"size": size, "page": page, **options})))


def kinds(shop: SearchEngine, text: str, size: int) -> list[str]:
    return [hit.product.category[0] for hit in shop.search(text, size=size).hits]


def paged(shop: SearchEngine, text: str, pages: int, size: int = 10, **options: object) -> list[str]:
    return [hit for page in range(1, pages + 1) for hit in found(shop, text, size, page, **options)]


def counts(shop: SearchEngine, text: str, field: str, **options: object) -> dict[str, int]:
    chosen = cast(SearchOptions, {"facets": [field], **options})
    return {str(each.value): each.count for each in shop.search(text, **chosen).facets[field].counts}


@contextmanager
def added(shop: SearchEngine, product: Product = NEW) -> Iterator[None]:
    shop.upsert([product])
    try:
        yield
    finally:
        shop.delete([product.id])


@contextmanager
def pinned(shop: SearchEngine, text: str) -> Iterator[None]:
    shop.rules.put([Rule("complaint", (Pin((PINNED,)),), When(text, Match.EXACT))])
    try:
        yield
    finally:
        shop.rules.delete(["complaint"])


def test_facets_follow_the_query(shop: SearchEngine) -> None:
    """Facets count what the query finds, not the whole index (meilisearch/meilisearch#6590)."""
    found_kinds = counts(shop, KETTLE, "category")
    assert 32 <= sum(found_kinds.values()) < 500
    assert max(found_kinds, key=found_kinds.__getitem__) == KETTLE


def test_facets_count_all_pages(shop: SearchEngine) -> None:
    """Facets are about all hits, whatever the page shows (typesense/typesense#1244)."""
    few = counts(shop, KETTLE, "brand", size=5)
    assert few == counts(shop, KETTLE, "brand", size=50) == counts(shop, KETTLE, "brand", size=5, page=3)


def test_facets_add_up_to_the_total(shop: SearchEngine) -> None:
    """The counts of a field that each hit has once add up to the total (opensearch-project/neural-search#509)."""
    assert sum(counts(shop, KETTLE, "brand").values()) == shop.search(KETTLE).total


@pytest.mark.parametrize("query", [KETTLE, BY_MEANING])
def test_a_chosen_value_has_its_count(shop: SearchEngine, query: str) -> None:
    """Choosing a facet's value gives as many hits as its count promised (typesense/typesense#1714)."""
    for brand, count in counts(shop, query, "brand").items():
        assert shop.search(query, filters=f'brand = "{brand}"').total == count


def test_facets_count_groups(shop: SearchEngine) -> None:
    """Grouped results count groups in facets and total, not their members (typesense/typesense#2366)."""
    only = f'category = "{SHOE}"'
    assert set(counts(shop, SHOE, "brand", filters=only, group="variants").values()) == {1}
    assert shop.search(SHOE, filters=only, group="variants").total == 5


def test_total_is_equal_on_all_pages_and_for_all_sizes(shop: SearchEngine) -> None:
    """The total of a search is the same on each page and for each size (meilisearch/meilisearch#5972,
    opensearch-project/OpenSearch#22823)."""
    views = [(page, 20) for page in range(1, 6)] + [(1, 1), (1, 50)]
    assert len({shop.search(HIKING, page=page, size=size).total for page, size in views}) == 1


@pytest.mark.parametrize("query", QUERIES)
def test_pages_are_the_parts_of_one_list(shop: SearchEngine, query: str) -> None:
    """No hit is on two pages or skipped, and the size changes no order (weaviate/weaviate#5432, lancedb/lancedb#4027,
    lancedb/lancedb#3765, opensearch-project/neural-search#325)."""
    assert paged(shop, query, 6, size=7) == found(shop, query, 42)
    assert found(shop, query, 5) == found(shop, query, 50)[:5]


@pytest.mark.parametrize("query", [HIKING, BY_MEANING])
def test_the_last_page_is_reached(shop: SearchEngine, query: str) -> None:
    """All hits that the total counts can be paged to (elastic/elasticsearch#124632)."""
    total = shop.search(query, size=1).total
    assert len(set(paged(shop, query, total // 50 + 1, size=50))) == total


def test_equal_products_keep_an_order(shop: SearchEngine) -> None:
    """Equal scores are always in one order, over pages and repetitions (qdrant/qdrant#3834)."""
    only = f'category = "{CARD}"'
    assert len({tuple(found(shop, CARD, 20, filters=only)) for _ in range(5)}) == 1
    assert len(set(paged(shop, CARD, 4, filters=only))) == EQUALS


def test_a_narrow_filter_keeps_its_hits(shop: SearchEngine) -> None:
    """A page is full of what was meant, while enough of it passes a filter for 2% of all (lancedb/lancedb#2762)."""
    page = shop.search(BY_MEANING, size=10, filters="brand = Quillon AND attributes.colour = blue")
    assert [hit.product.category for hit in page.hits] == [(BACKPACK,)] * 10


def test_no_hit_breaks_the_filter(shop: SearchEngine) -> None:
    """The filter binds what meaning finds as well as what words find (weaviate/weaviate#7681)."""
    page = shop.search("backpack", size=50, filters="price < 80")
    assert page.hits and max(hit.product.price or 0 for hit in page.hits) < 80


def test_not_equal_keeps_missing_values(shop: SearchEngine) -> None:
    """A product without a colour is not red (weaviate/weaviate#3017)."""
    cards = {each for each in found(shop, CARD, 50, filters="attributes.colour != red") if each.startswith("card")}
    assert len(cards) == EQUALS


def test_conditions_bind_one_variant(shop: SearchEngine) -> None:
    """A filter on colour and size means one variant that has both, not two that have one each (qdrant/qdrant#3838)."""
    assert (
        found(
            shop,
            "Torvald running shoes",
            filters="attributes.colour = black AND attributes.size = 43 AND brand = Torvald",
        )
        == []
    )


def test_an_empty_text_lists_what_passes(shop: SearchEngine) -> None:
    """Without a text, the filter's products are listed, and nothing else (meilisearch/meilisearch#724)."""
    page = shop.search("", size=50, filters=f'category = "{CARD}"')
    assert page.total == len(page.hits) == EQUALS


@pytest.mark.parametrize("query", [CHAIR, "comfortable seating"])
def test_a_pin_is_first_unless_it_is_filtered(shop: SearchEngine, query: str) -> None:
    """A pin survives reranking, holds where only meaning answers, and respects the filter (typesense/typesense#2702,
    typesense/typesense#2592, typesense/typesense#1416)."""
    with pinned(shop, query):
        assert found(shop, query)[0] == PINNED
        assert PINNED not in found(shop, query, filters=f"brand != {shop.product(PINNED).brand}")


def test_a_sort_orders_all_hits(shop: SearchEngine) -> None:
    """A sort by price orders all pages of a search, and leaves in what it found; the size changes no order
    (weaviate/weaviate#3276, opensearch-project/neural-search#1067)."""
    hits = paged(shop, CHAIR, 4, sort="price")
    prices = [shop.product(hit).price for hit in hits]
    assert prices == sorted(prices, key=float)  # type: ignore[arg-type]
    assert prices[0] == KINDS[CHAIR][2]
    assert found(shop, CHAIR, 5, sort="price") == found(shop, CHAIR, 50, sort="price")[:5]


@pytest.mark.parametrize("query", ["xqzvbn wplkjt", "kubernetes ingress controller"])
def test_senseless_queries_find_nothing(shop: SearchEngine, query: str) -> None:
    """A query that fits nothing has no hits, rather than the nearest of what there is (weaviate/weaviate#4315)."""
    assert found(shop, query) == []


def test_meaning_answers_where_no_word_matches(shop: SearchEngine) -> None:
    """A search whose words match nothing answers by meaning, and hits name what found them (lancedb/lancedb#2249,
    qdrant/qdrant#5116)."""
    assert kinds(shop, BY_MEANING, 5) == [BACKPACK] * 5
    for hit in shop.search(BY_MEANING).hits:
        assert hit.stages["dense"].rank is not None
        assert "bm25" not in hit.stages or hit.stages["bm25"].score == 0
    assert all(hit.stages["bm25"].score > 0 for hit in shop.search(BACKPACK).hits)


def test_words_answer_without_the_encoder(shop: SearchEngine) -> None:
    """While the encoder fails, words still find products, and the answer says so (typesense/typesense#1314)."""
    store = Store(shop.root)
    connection = Connection(store, SETTINGS)
    encoder = cast(Encoder, FailingEncoder(shop.snapshot.encoder))
    with SearchEngine(store, open_snapshot(store, connection, encoder=encoder), connection) as broken:
        page = broken.search(KETTLE)
    assert {hit.product.category for hit in page.hits} == {(KETTLE,)}
    assert page.degraded


@pytest.mark.parametrize(
    ("typed", "kind"),
    [("keyborad", "gaming keyboard"), ("grindr", "coffee grinder"), ("hedphones", "wireless headphones")],
)
def test_misspelled_words_are_found(shop: SearchEngine, typed: str, kind: str) -> None:
    """A misspelled word finds what the right one finds, also beside vectors (typesense/typesense#815)."""
    assert kinds(shop, typed, 5) == [kind] * 5


def test_a_number_finds_its_product(shop: SearchEngine) -> None:
    """A product number finds its product first, not what is near it in meaning (typesense/typesense#278)."""
    tried = [each for each in catalog()[::37] if each.identifiers]
    assert [found(shop, each.identifiers["sku"][0])[0] for each in tried] == [each.id for each in tried]


@pytest.mark.parametrize(
    "query",
    [
        "backpack: {0}, [1] (2)",
        'AND OR NOT "backpack',
        "backpack~ +rain -cover*",
        "hiking/backpack? \\ ^2 && ||",
        "l'électrique — backpack’s %_;'--",
        "背包 backpack 🎒",
        " ".join([BACKPACK, *(f"word{number}" for number in range(1_198))])[:9_900],
    ],
    ids=range(7),
)
def test_odd_and_long_texts_are_text(shop: SearchEngine, query: str) -> None:
    """Signs of a query language raise no error and lose no hit, and a text of 1,200 words is searched for
    (lancedb/lancedb#1617, elastic/elasticsearch#119124)."""
    assert BACKPACK in kinds(shop, query, 3)


def test_variants_are_one_hit(shop: SearchEngine) -> None:
    """Grouping works in a search by words and meaning, and a page is full while there are groups
    (weaviate/weaviate#3408, milvus-io/milvus#35777)."""
    hits = found(shop, "shoes", 5, group="variants", filters=f'category = "{SHOE}"')
    assert len({shop.product(hit).brand for hit in hits}) == 5
    assert {shop.product(hit).category for hit in found(shop, SHOE, 5, group="variants")} == {(SHOE,)}


def test_changes_are_found_at_once(shop: SearchEngine) -> None:
    """A new product is found by its words and its meaning, a changed one by its new text and price, a deleted one not
    (lance-format/lance#3014, weaviate/weaviate#2102, lancedb/lancedb#1365, weaviate/weaviate#3867)."""
    with added(shop):
        assert found(shop, "zweeble")[0] == found(shop, "porcelain pot for tea")[0] == NEW.id
        shop.patch(NEW.id, price=9.0)
        assert NEW.id in found(shop, "whistling teapot", 50, filters="price < 10")
        assert NEW.id not in found(shop, "whistling teapot", 50, filters="price >= 30")
        shop.patch(NEW.id, title="Zweeble folding bicycle", description="A city bike with three gears.")
        assert found(shop, "bike for commuting")[0] == NEW.id
        assert NEW.id not in found(shop, "porcelain pot for tea")
    assert NEW.id not in found(shop, "zweeble teapot", 50)
