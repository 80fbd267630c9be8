"""A small catalog whose titles say what a store's titles say: brands, kinds, sizes, finishes, purposes."""

from __future__ import annotations

from itertools import product as pairs
from random import Random

from rerank.training.query_generation import CatalogWords, ProductFacts, QueryWriter, read_brand, read_facts
from rerank.training.query_text import read_words
from retrieval.records import Product

KINDS = ("Cordless Drill", "Claw Hammer", "Wall Plate", "Ceiling Fan", "Garden Hose")
BRANDS = ("Acme", "Nordwerk", "Blue Heron")
TITLES = tuple(
    f"{brand} {size} in. Compact {kind} in {finish}"
    for (brand, kind), (size, finish) in pairs(pairs(BRANDS, KINDS), ((8, "Chrome"), (12, "Bronze")))
)
PRODUCTS = tuple(Product(f"p{number}", title) for number, title in enumerate(TITLES))

CHINESE_KINDS = ("剃须刀", "充电宝", "羽毛球", "保温杯", "电饭煲")
CHINESE_TITLES = tuple(
    f"{brand}{colour}家用{kind}" for brand, colour, kind in pairs(("松下", "苏泊尔"), ("黑色", "白色"), CHINESE_KINDS)
)
CHINESE_PRODUCTS = tuple(Product(f"c{number}", title) for number, title in enumerate(CHINESE_TITLES))


def words_of(products: tuple[Product, ...]) -> CatalogWords:
    return CatalogWords([read_words(product.title) for product in products], list(map(read_brand, products)))


def facts_of(product: Product, beside: tuple[Product, ...] = PRODUCTS) -> ProductFacts:
    return read_facts(product, read_words(product.title), words_of((product, *beside)))


def shopper_for(product: Product, beside: tuple[Product, ...] = PRODUCTS) -> QueryWriter:
    return QueryWriter(facts_of(product, beside), words_of((product, *beside)), Random(0))
