"""Random histories of an index (feeds, live changes, rollbacks) with the expected products.

The expected products are computed slowly and simply: field by field, from the feed's value, the published value and the
live changes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from shelfwise.indexer.cleaning.cleaner import clean_products
from shelfwise.indexer.cleaning.spelling import SpellingCensus, SpellingNormalizer, brand_key, level_key
from shelfwise.retrieval.records import Availability, Product
from shelfwise.retrieval.updates.changes import Change, Delete, Patch, Upsert, apply_change
from tests import catalogs

IDS = tuple(f"p{number}" for number in range(7))
TITLES = st.lists(st.sampled_from(catalogs.WORDS), min_size=1, max_size=4).map(" ".join)
VALUES: Mapping[str, st.SearchStrategy[Any]] = {
    "title": TITLES,
    "description": st.sampled_from(("", "a red case", "for wood and steel")),
    "brand": st.sampled_from(catalogs.BRANDS),
    "category": st.sampled_from((*catalogs.PATHS, ("tools", "DRILLS"), ("Drills",))),
    "price": st.sampled_from(catalogs.PRICES),
    "availability": st.sampled_from((None, *Availability)),
    "attributes": catalogs.attributes(),
    "identifiers": st.sampled_from(({}, {"sku": ("AB-12",)}, {"sku": ("x9", "0012")})),
}
"""Possible values of a feed's fields."""
_PATCHED = (*(name for name in VALUES if name not in ("attributes", "identifiers")), "attributes.colour")


def products() -> st.SearchStrategy[Product]:
    return st.builds(Product, st.sampled_from(IDS), **VALUES)


@dataclass(frozen=True, slots=True)
class Round:
    feed: tuple[Product, ...]
    changes: tuple[Change, ...]
    rollback: int
    """Number of versions to go back from the newest before the feed is built; 0 for no rollback."""


@st.composite
def histories(draw: st.DrawFn, rounds: int = 3) -> list[Round]:
    """A first feed and later rounds: each feed has most of the products and values of the one before."""
    feed = {each.id: each for each in draw(st.lists(products(), min_size=2, max_size=6, unique_by=lambda one: one.id))}
    made = [Round(tuple(feed.values()), (), 0)]
    for _ in range(draw(st.integers(1, rounds))):
        changes = draw(st.lists(_changes(), max_size=4))
        for product_id in draw(st.lists(st.sampled_from(IDS), max_size=4)):
            feed = _edited(draw, feed, product_id)
        made.append(Round(tuple(feed.values()), tuple(changes), draw(st.sampled_from((0, 0, 1, 2)))))
    return made


def _changes() -> st.SearchStrategy[Change]:
    patches = st.builds(Patch, st.sampled_from(IDS), st.sampled_from(_PATCHED).flatmap(_patches))
    return st.one_of(st.builds(Upsert, products()), st.builds(Delete, st.sampled_from(IDS)), patches, patches)


def _patches(name: str) -> st.SearchStrategy[dict[str, object]]:
    values = VALUES[name] if name in VALUES else st.sampled_from((None, "red"))
    return values.map(lambda value: {name: value})


def _edited(draw: st.DrawFn, feed: dict[str, Product], product_id: str) -> dict[str, Product]:
    known = feed.get(product_id)
    if known is None:
        return {**feed, product_id: dataclasses.replace(draw(products()), id=product_id)}
    if len(feed) > 1 and draw(st.integers(0, 3)) == 0:
        return {key: each for key, each in feed.items() if key != product_id}
    name = draw(st.sampled_from(sorted(VALUES)))
    return {**feed, product_id: dataclasses.replace(known, **{name: draw(VALUES[name])})}


@dataclass(frozen=True, slots=True)
class ProductState:
    """One product of an index: the cleaned row of the feed, the product published for it, and its current state."""

    row: Product | None = None
    shown: Product | None = None
    live: Product | None = None


@dataclass
class Expected:
    """The expected products of an index after each step of a history."""

    products: dict[str, ProductState] = field(default_factory=dict)
    _changes: list[Change] = field(default_factory=list)
    _versions: dict[str, tuple[dict[str, ProductState], int]] = field(default_factory=dict)

    def change(self, changes: Iterable[Change]) -> None:
        self._changes += changes
        self._apply(changes)

    def roll_back(self, version: str) -> None:
        """Serves an earlier version, with every later change applied."""
        products, taken = self._versions[version]
        self.products = dict(products)
        self._apply(self._changes[taken:])

    def rebuild(self, feed: Sequence[Product], version: str) -> None:
        rows = {each.id: each for each in clean_products(feed).products}
        census = SpellingCensus()
        for each in rows.values():
            census.add(each)
        settler = census.normalizer()
        ids = sorted({*rows, *self.products}, key=str.encode)
        merged = {each: _merged(self.products.get(each, ProductState()), rows.get(each), settler) for each in ids}
        self.products = {key: known for key, known in merged.items() if known.row or known.live}
        self._versions[version] = dict(self.products), len(self._changes)

    @property
    def published(self) -> list[Product]:
        """The current products in the order of their ids."""
        return [known.live for known in self.products.values() if known.live is not None]

    def pending(self) -> list[Change]:
        """The live changes that the feed does not contain yet."""
        differing = {key: known.live for key, known in self.products.items() if known.live != known.shown}
        return [Delete(key) if live is None else Upsert(live) for key, live in differing.items()]

    def _apply(self, changes: Iterable[Change]) -> None:
        for each in changes:
            known = self.products.get(each.id, ProductState())
            self.products[each.id] = dataclasses.replace(known, live=apply_change(known.live, each))


def _merged(known: ProductState, row: Product | None, settler: SpellingNormalizer) -> ProductState:
    shown = settler.normalize(row) if row else None
    live = settler.normalize(known.live) if known.live else None
    if _compared(known.row) == _compared(row) and (live is None or row is None):
        return ProductState(row, shown, live)
    if known.row is None or live is None or row is None or shown is None or known.shown is None:
        return ProductState(row, shown, shown)
    feed_before, feed_now = _compared(known.row), _compared(row)
    was, is_now, result = flat(known.shown), flat(known.live), flat(shown)
    settled = flat(live)
    for name in {*was, *is_now}:
        if feed_before.get(name) == feed_now.get(name) and was.get(name) != is_now.get(name):
            result.pop(name, None)
            if name in settled:
                result[name] = settled[name]
    return ProductState(row, shown, _product(result))


def flat(product: Product | None) -> dict[str, tuple[type, Any]]:
    """Every value of a product by name, with its type, because True equals 1.0 in Python."""
    if product is None:
        return {}
    found: dict[str, Any] = {each.name: getattr(product, each.name) for each in dataclasses.fields(product)}
    for container in ("attributes", "identifiers"):
        found |= {f"{container}.{name}": value for name, value in found.pop(container).items()}
    return {name: (type(value), value) for name, value in found.items()}


def _compared(product: Product | None) -> dict[str, object]:
    """The values of `flat` for comparing feeds: spelling variants count as equal."""
    if product is None:
        return {}
    spelled = {"brand": brand_key(product.brand), "category": tuple(map(level_key, product.category))}
    return {**flat(product), **spelled}


def _product(flat: Mapping[str, tuple[type, Any]]) -> Product:
    values: dict[str, Any] = {"attributes": {}, "identifiers": {}}
    for name, (_, value) in flat.items():
        container, dot, member = name.partition(".")
        if dot:
            values[container][member] = value
        else:
            values[name] = value
    return Product(**values)
