"""The live changes that a rebuild folds in: those that stand in the version before, and those that came since."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from indexer.before import Before
from indexer.cleaning.settler import Settler
from indexer.cleaning.spellings import brand_key, level_key
from retrieval.changes import after
from retrieval.journal import Journal
from retrieval.product_json import product_from_json, product_to_json
from retrieval.records import Product
from retrieval.standing import Standing

_SPELLED: Mapping[str, Callable[[Any], object]] = {
    "brand": brand_key,
    "category": lambda levels: tuple(map(level_key, levels)),
}


class Folding:
    """Live changes by the UTF-8 bytes of their product's id, and what is left of them once the feed is known.

    `sequence` is the number of the last one among them.
    """

    def __init__(self, changes: dict[str, Standing] | None = None, sequence: int = 0) -> None:
        self._changes = {product_id.encode(): change for product_id, change in (changes or {}).items()}
        self._settler: Settler | None = None
        self.ids = sorted(self._changes)
        self.sequence = sequence
        self.standing: list[Standing] = []
        """Those that stand on, in the order of ids, as far as `line` was asked."""

    def using(self, settler: Settler) -> Folding:
        """This folding, with products in a catalog's spelling."""
        self._settler = settler
        return self

    @property
    def products(self) -> Iterator[Product]:
        """What the changes made, those that were deleted left out."""
        return (change.live for change in self._changes.values() if change.live is not None)

    def line(self, product_id: bytes, feed: bytes | None) -> bytes | None:
        """The product of an id as JSON, given what the feed says; None where there is none. Each is asked for once."""
        rebased = self.rebased(product_id, feed)
        if rebased is None or not rebased.stands:
            return feed
        self.standing.append(rebased)
        return None if rebased.live is None else product_to_json(rebased.live)

    def rebased(self, product_id: bytes, feed: bytes | None) -> Standing | None:
        """The change of a product on top of what the feed says of it now; None where there is no change."""
        change = self._changes.get(product_id)
        if change is None:
            return None
        now = self._settled(None if feed is None else product_from_json(feed))
        base, live = _respelled(self._settled(change.base), self._settled(change.live), now)
        return Standing(change.id, base, live).rebased(now)

    def _settled(self, product: Product | None) -> Product | None:
        return product if product is None or self._settler is None else self._settler.settle(product)


def _respelled(
    base: Product | None, live: Product | None, feed: Product | None
) -> tuple[Product | None, Product | None]:
    """`base` and `live` in the spelling of `feed`: how the rest of the catalog spells a value is no change of it."""
    for name, key in _SPELLED.items():
        if base is None or feed is None:
            break
        before, now = getattr(base, name), getattr(feed, name)
        if before != now and key(before) == key(now):
            base = _with(base, name, now)
            live = _with(live, name, now) if live and getattr(live, name) == before else live
    return base, live


def _with(product: Product, name: str, value: object) -> Product:
    return replace(product, **{name: value})  # type: ignore[arg-type]


def pending_changes(root: Path, before: Before | None) -> Folding:
    """What the next version has to fold in; raises StoreDamagedError for a journal that cannot be read."""
    changes = {each.id: each for each in before.standing()} if before else {}
    sequence = before.manifest.folded if before else 0
    with Journal(root) as journal:
        for entry in journal.since(sequence):
            sequence, product_id = entry.seq, entry.change.id
            known = changes.get(product_id) or _untouched(product_id, before)
            changes[product_id] = Standing(product_id, known.base, after(known.live, entry.change))
    return Folding(changes, sequence)


def _untouched(product_id: str, before: Before | None) -> Standing:
    product = before.product(product_id) if before else None
    return Standing(product_id, product, product)


def forget_folded(root: Path, folded: list[int]) -> None:
    """Removes from the journal what every kept version has in it; `folded` are their last changes' numbers."""
    with Journal(root) as journal:
        if folded and min(folded) > 0:
            journal.forget(min(folded))
