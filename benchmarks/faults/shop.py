"""A small shop that never rests: its feed changes before every rebuild, and live changes come in between."""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.faults.truth import Call, Catalog, Fields, product_of
from retrieval.product_json import product_to_json

PRODUCTS = 200
CALLS = 12
_THINGS = ("cordless drill", "garden hose", "kettle", "floor lamp", "hand saw", "paint roller")
_BRANDS = ("Bosch", "Makita", "Torvald")
_STATES = ("in_stock", "out_of_stock", "preorder", "backorder")
_COLOURS = ("red", "blue", "green", "black")


class Shop:
    """Draws feeds and changes. No title and no price comes twice, so every state of a product is another one."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self._counter = 0
        self.feed: Catalog = {f"p{self._count():06d}": self._fields() for _ in range(PRODUCTS)}

    def _count(self) -> int:
        self._counter += 1
        return self._counter

    def _price(self) -> float:
        return 10 + self._count() / 100

    def _title(self) -> str:
        return f"{self.dice.choice(_THINGS)} mk{self._count():06d}"

    def _fields(self) -> Fields:
        dice = self.dice
        values = {"brand": dice.choice(_BRANDS), "availability": dice.choice(_STATES), "colour": dice.choice(_COLOURS)}
        return {"title": self._title(), "price": self._price(), **values}

    def next_feed(self, path: Path) -> Catalog:
        """Writes the next feed: a tenth of the products changed, some gone, some new."""
        feed = dict(self.feed)
        for product_id in self.dice.sample(sorted(feed), len(feed) // 10):
            name, draw = self.dice.choice((("price", self._price), ("title", self._title)))
            feed[product_id] = {**feed[product_id], name: draw()}
        gone = self.dice.randint(0, 3)
        for product_id in self.dice.sample(sorted(feed), gone):
            del feed[product_id]
        feed |= {f"p{self._count():06d}": self._fields() for _ in range(PRODUCTS - len(feed))}
        self.feed = feed
        path.write_bytes(b"".join(product_to_json(product_of(*each)) + b"\n" for each in feed.items()))
        return feed

    def calls(self, catalog: Catalog) -> list[Call]:
        """Live changes to a catalog, each of which changes something when they come in this order."""
        drawn = []
        for _ in range(CALLS):
            kinds = ("patch", "patch", "upsert") if len(catalog) < PRODUCTS else ("patch", "patch", "upsert", "delete")
            drawn.append(call := self._call(self.dice.choice(kinds), sorted(catalog)))
            catalog = call.applied(catalog)
        return drawn

    def _call(self, kind: str, ids: list[str]) -> Call:
        if kind == "delete":
            return Call(kind, tuple((product_id, {}) for product_id in self.dice.sample(ids, 2)))
        if kind == "upsert":
            return Call(kind, ((self.dice.choice(ids), self._fields()), (f"p{self._count():06d}", self._fields())))
        values: Fields = {"price": self._price()}
        if self.dice.random() < 0.3:
            values = {"title": self._title(), "colour": self.dice.choice(_COLOURS), **values}
        return Call(kind, ((self.dice.choice(ids), values),))
