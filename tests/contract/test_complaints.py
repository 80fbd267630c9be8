"""Complaints of users of search programs in public trackers, as cases; the docstring of each names its thread."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.retrieval.encoders.base import Encoder
from shelfwise.retrieval.encoders.weights import DEFAULT_MODEL
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.snapshot import Connection, open_snapshot
from shelfwise.service.settings import Settings
from tests.catalogs import ids, write_feed
from tests.encoders import BrokenEncoder
from tests.machine import build_once

SETTINGS = Settings(backend="embedded")
BRANDS = ("Torvald", "Quillon", "Maribel", "Osterby", "Fennimore")
COLOURS = ("black", "red", "blue", "green")
KINDS = {
    "hiking backpack": ("lightweight", "padded hip belt and rain cover for days in the mountains"),
    "electric kettle": ("stainless steel", "boils a litre and a half of water and switches itself off"),
    "cordless drill": ("compact", "two-speed gearbox, LED and two batteries in a case"),
    "office chair": ("ergonomic", "adjustable lumbar support and armrests for long working days"),
    "wireless headphones": ("noise cancelling", "thirty hours of music and a folding headband"),
    "camping tent": ("two person", "waterproof flysheet, aluminium poles and a small porch"),
    "desk lamp": ("dimmable", "swivel arm and warm light for reading"),
    "yoga mat": ("non-slip", "thick natural rubber for home and studio"),
}
"""A kind to its adjective and its description."""
BACKPACK, KETTLE, CARD = "hiking backpack", "electric kettle", "gift card"
EQUALS = 40
BY_MEANING = "rucksack for trekking"
"""No product has one of its words, and more products are near it than an engine takes neighbours."""
NEW = Product("new-1", "Zweeble whistling teapot", description="A porcelain teapot.", category=("teapot",), price=39.0)


def listing(number: int, kind: str) -> Product:
    adjective, description = KINDS[kind]
    brand = BRANDS[number % len(BRANDS)]
    colour = COLOURS[number // len(BRANDS) % len(COLOURS)]
    return Product(
        f"{kind.rsplit(maxsplit=1)[-1]}-{number}",
        f"{brand} {adjective} {kind}, {colour}, model {number + 10}",
        description=f"The {adjective} {kind} by {brand}: {description}.",
        brand=brand,
        category=(kind,),
        attributes={"colour": colour},
    )


def catalog() -> list[Product]:
    """500 products: one kind of more products than an engine takes neighbours, and equal gift cards."""
    plain = [listing(number, kind) for kind in KINDS for number in range(320 if kind == BACKPACK else 20)]
    card = Product("", "Fennimore gift card", description="A gift card for the whole shop.", category=(CARD,))
    return [*plain, *(replace(card, id=f"card-{number:02d}") for number in range(EQUALS))]


@pytest.fixture(scope="module")
def shop(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchEngine]:
    def build(folder: Path) -> None:
        feed = write_feed(folder / "products.jsonl", catalog())
        rebuild(folder / "index", RebuildOptions((str(feed),), cache, encoder=DEFAULT_MODEL, workers=1))

    built = build_once(tmp_path_factory, "complaints", build)
    index = shutil.copytree(built / "index", tmp_path_factory.mktemp("complaints") / "index")
    with SearchEngine.open(index, settings=SETTINGS) as engine:
        yield engine


def found(shop: SearchEngine, text: str, size: int = 10, page: int = 1, filters: str = "") -> list[str]:
    return ids(shop.search(text, size=size, page=page, filters=filters))


def kinds(shop: SearchEngine, text: str, size: int) -> list[str]:
    return [hit.product.category[0] for hit in shop.search(text, size=size).hits]


def test_facets_pages_and_the_total_agree_where_meaning_answers(shop: SearchEngine) -> None:
    """Counts of a facet add up to the total, each is kept by a filter, and all hits can be paged to
    (opensearch-project/neural-search#509, typesense/typesense#1714, elastic/elasticsearch#124632)."""
    page = shop.search(BY_MEANING, size=1, facets=["brand"])
    counts = {each.value: each.count for each in page.facets["brand"].counts}
    assert sum(counts.values()) == page.total
    assert {brand: shop.search(BY_MEANING, filters=f'brand = "{brand}"').total for brand in counts} == counts
    paged = [hit for at in range(1, page.total // 50 + 2) for hit in found(shop, BY_MEANING, 50, at)]
    assert len(set(paged)) == len(paged) == page.total


def test_equal_products_keep_an_order(shop: SearchEngine) -> None:
    """Equal scores are always in one order, over pages and repetitions (qdrant/qdrant#3834)."""
    only = f'category = "{CARD}"'
    assert len({tuple(found(shop, CARD, 20, filters=only)) for _ in range(5)}) == 1
    assert len({hit for page in range(1, 5) for hit in found(shop, CARD, 10, page, only)}) == EQUALS


def test_a_narrow_filter_keeps_its_hits(shop: SearchEngine) -> None:
    """A page is full of what was meant, while enough of it passes a filter for 2% of all (lancedb/lancedb#2762)."""
    page = shop.search(BY_MEANING, size=10, filters="brand = Quillon AND attributes.colour = blue")
    assert [hit.product.category for hit in page.hits] == [(BACKPACK,)] * 10


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
    encoder = cast(Encoder, BrokenEncoder(shop))
    with SearchEngine(store, open_snapshot(store, connection, encoder=encoder), connection) as broken:
        page = broken.search(KETTLE)
    assert {hit.product.category for hit in page.hits} == {(KETTLE,)}
    assert page.degraded


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


def test_changes_are_found_at_once(shop: SearchEngine) -> None:
    """A new product is found by its words and its meaning, a changed one by its new text and price, a deleted one not
    (lance-format/lance#3014, weaviate/weaviate#2102, lancedb/lancedb#1365, weaviate/weaviate#3867)."""
    shop.upsert([NEW])
    assert found(shop, "zweeble")[0] == found(shop, "porcelain pot for tea")[0] == NEW.id
    shop.patch(NEW.id, price=9.0)
    assert NEW.id in found(shop, "whistling teapot", 50, filters="price < 10")
    assert NEW.id not in found(shop, "whistling teapot", 50, filters="price >= 30")
    shop.patch(NEW.id, title="Zweeble folding bicycle", description="A city bike with three gears.")
    assert ids(shop.search("bike for commuting", size=1, stage="dense")) == [NEW.id]
    assert NEW.id not in found(shop, "porcelain pot for tea")
    shop.delete([NEW.id])
    assert NEW.id not in found(shop, "zweeble teapot", 50)
