"""The live changes that a rebuild folds in: those that stand in the version before, and those that came since."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from indexer.before import Before
from indexer.cleaning.settler import Settler
from retrieval.changes import after
from retrieval.journal import Journal
from retrieval.product_json import product_from_json, product_to_json
from retrieval.records import Product
from retrieval.standing import Standing


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
        change = self._changes.get(product_id)
        if change is None:
            return feed
        rebased = Standing(change.id, self._settled(change.base), self._settled(change.live)).rebased(
            self._settled(None if feed is None else product_from_json(feed))
        )
        if rebased.stands:
            self.standing.append(rebased)
        return None if rebased.live is None else product_to_json(rebased.live)

    def _settled(self, product: Product | None) -> Product | None:
        return product if product is None or self._settler is None else self._settler.settle(product)


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
