"""Live changes over an opened version: what came since it was built, searchable within moments, without a rebuild."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.changes import Change, after
from retrieval.errors import EncoderUnavailableError
from retrieval.field_counter import extended
from retrieval.fields import FieldCatalog
from retrieval.journal import Entry
from retrieval.product_text import encoder_text, keyword_document
from retrieval.records import Product
from retrieval.standing import same_product
from retrieval.vectors import Vectors
from service.overlay import ChangedProducts, ChangedVectors
from service.snapshot import Snapshot

Found = Mapping[str, Product | None]
"""What products are by their ids; None for one that is gone."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A change that was taken: it is durable, and searches of this engine find it."""

    sequence: int
    """The number of the last change, as the journal counts them; 0 where there was nothing to change."""
    products: int
    """How many products it was about."""


class LiveSnapshot:
    """A version, and what the journal's entries make of it. Used by one thread at a time; snapshots are for all."""

    def __init__(self, base: Snapshot) -> None:
        self.snapshot = base
        self.sequence = base.manifest.folded
        """The number of the last entry that is in the snapshot."""
        self._products = ChangedProducts(base.products)
        self._vectors = ChangedVectors.over(base.vectors)
        self._texts: dict[str, Vectors] = {}

    def product(self, product_id: str) -> Product | None:
        """A product as it is now."""
        row = self._products.row_of(product_id)
        return None if row is None else self._products[row]

    def effective(self, changes: Sequence[Change]) -> list[Change]:
        """Those changes whose product would not be the same after all of them.

        Their vectors are made at once, so that a failing encoder refuses them before they are taken.
        """
        found = self._outcome(changes)
        self._texts = self._encoded(found)
        return [change for change in changes if change.id in found]

    def apply(self, entries: Iterable[Entry]) -> None:
        """Lays more entries of the journal over the version; raises EncoderError where a text cannot be encoded.

        Where the version's encoder is lost, products whose text is new are found by words alone.
        """
        taken = list(entries)
        if not taken:
            return
        found = self._outcome(entry.change for entry in taken)
        try:
            vectors = self._encoded(found)
        except EncoderUnavailableError:
            vectors = dict.fromkeys(self._new_texts(found), np.zeros(self.snapshot.vectors.dimension, np.float32))
        self._lay(found, vectors)
        self.sequence = taken[-1].seq
        self._texts = {}

    def _outcome(self, changes: Iterable[Change]) -> dict[str, Product | None]:
        """What the products that changes name are after all of them, those that stay as they are left out."""
        found: dict[str, Product | None] = {}
        for change in changes:
            known = found[change.id] if change.id in found else self.product(change.id)
            found[change.id] = after(known, change)
        return {
            product_id: product
            for product_id, product in found.items()
            if not same_product(product, self.product(product_id))
        }

    def _encoded(self, found: Found) -> dict[str, Vectors]:
        """The vectors of the texts that are new: a price changes none."""
        missing = sorted(self._new_texts(found) - self._texts.keys())
        made = self.snapshot.encoder.encode_products(missing) if missing else ()
        return {**self._texts, **dict(zip(missing, made, strict=True))}

    def _new_texts(self, found: Found) -> set[str]:
        products = [product for product in found.values() if product]
        return {text for product in products if (text := encoder_text(product)) != self._text(product)}

    def _text(self, product: Product) -> str:
        """The text that the product's vector was made of, if it has one."""
        known = self.product(product.id)
        return encoder_text(known) if known else ""

    def _lay(self, found: Found, vectors: Mapping[str, Vectors]) -> None:
        rows, added = self._rows(found)
        present = {row: product for row, product in rows.items() if product is not None}
        snapshot = self.snapshot
        catalog = self._catalog(present.values())
        documents = [keyword_document(row, product, snapshot.analyzer, catalog) for row, product in present.items()]
        keyword = snapshot.keyword.changed(documents, [row for row, each in rows.items() if each is None], catalog)
        laid: dict[int, Vectors | None] = {row: None for row, product in rows.items() if product is None}
        laid |= {row: vectors[text] for row, product in present.items() if (text := encoder_text(product)) in vectors}
        self._vectors = self._vectors.with_changes(laid)
        self._products = self._products.with_changes(rows, added)
        self.snapshot = dataclasses.replace(
            snapshot, products=self._products, catalog=catalog, keyword=keyword, vectors=self._vectors
        )

    def _rows(self, found: Found) -> tuple[dict[int, Product | None], dict[str, int]]:
        """The row of each product, and those among them that are new."""
        added: dict[str, int] = {}
        rows: dict[int, Product | None] = {}
        for product_id, product in found.items():
            row = self._products.place_of(product_id)
            if row is None:
                row = added[product_id] = len(self._products) + len(added)
            rows[row] = product
        return rows, added

    def _catalog(self, products: Iterable[Product]) -> FieldCatalog:
        """The fields, with those that are new as far as the keyword index has room for them."""
        catalog = extended(self.snapshot.catalog, products)
        room = self.snapshot.keyword.places
        if all(info.place < room for info in catalog.fields.values()):
            return catalog
        fields = {name: info for name, info in catalog.fields.items() if info.place < room}
        return FieldCatalog(fields, catalog.category_roots)
