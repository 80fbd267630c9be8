"""Live changes over an opened version: what came since it was built, searchable within moments, without a rebuild."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.changes import Change, Upsert, after
from retrieval.encoder import with_tokens
from retrieval.errors import EncoderUnavailableError
from retrieval.field_counter import extended
from retrieval.fields import FieldCatalog
from retrieval.journal import Entry
from retrieval.keyword import DocumentChange
from retrieval.product_json import product_to_json
from retrieval.product_text import encoder_text, keyword_document
from retrieval.records import Product
from retrieval.standing import same_product
from retrieval.token_states import TokenRuns, quantised
from retrieval.vectors import Vectors
from service.changed_states import ChangedSignals, ChangedStates
from service.overlay import ChangedProducts, ChangedVectors
from service.snapshot import Snapshot

Found = Mapping[str, Product | None]
"""What products are by their ids; None for one that is gone."""


@dataclass(frozen=True, slots=True)
class _Encoded:
    """What the encoder makes of a text; without tokens where the version has no states, or the encoder is lost."""

    vector: Vectors
    tokens: TokenRuns | None = None


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
        self._states = ChangedStates(base.states, base.manifest.products) if base.states else None
        self._signals = ChangedSignals(base.signals, base.manifest.products)
        self._texts: dict[str, _Encoded] = {}

    def product(self, product_id: str) -> Product | None:
        """A product as it is now."""
        row = self._products.row_of(product_id)
        return None if row is None else self._products[row]

    def effective(self, changes: Sequence[Change]) -> list[Change]:
        """Those changes whose product would not be the same after all of them.

        Their vectors are made at once, so that a failing encoder refuses them before they are taken.
        """
        outcome = self._outcome(changes)
        found = {key: each for key, each in outcome.items() if not same_product(each, self.product(key))}
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
            encoded = self._encoded(found)
        except EncoderUnavailableError:
            nothing = _Encoded(np.zeros(self.snapshot.vectors.dimension, np.float32))
            encoded = dict.fromkeys(self._new_texts(found), nothing)
        self._lay(found, encoded, {entry.change.id: entry.seq for entry in taken}, self._added(taken))
        self.sequence = taken[-1].seq
        self._texts = {}

    def _outcome(self, changes: Iterable[Change]) -> dict[str, Product | None]:
        """What the products that changes name are after all of them."""
        found: dict[str, Product | None] = {}
        for change in changes:
            known = found[change.id] if change.id in found else self.product(change.id)
            found[change.id] = after(known, change)
        return found

    def _encoded(self, found: Found) -> dict[str, _Encoded]:
        """The vectors and tokens of the texts that are new: a price changes none."""
        missing = sorted(self._new_texts(found) - self._texts.keys())
        return {**self._texts, **dict(zip(missing, self._made(missing), strict=True))}

    def _made(self, texts: Sequence[str]) -> list[_Encoded]:
        if not texts:
            return []
        encoder, states = self.snapshot.encoder, self._states
        telling = with_tokens(encoder) if states else None
        if states is None or telling is None:
            return [_Encoded(vector) for vector in encoder.encode_products(texts)]
        vectors, tokens = telling.encode_products_with_tokens(texts)
        runs = (quantised([each], states.dimension) for each in tokens)
        return [_Encoded(vector, run) for vector, run in zip(vectors, runs, strict=True)]

    def _new_texts(self, found: Found) -> set[str]:
        products = [product for product in found.values() if product]
        return {text for product in products if (text := encoder_text(product)) != self._text(product)}

    def _text(self, product: Product) -> str:
        """The text that the product's vector was made of, if it has one."""
        known = self.product(product.id)
        return encoder_text(known) if known else ""

    def _added(self, entries: Iterable[Entry]) -> dict[str, int]:
        """The rows of products that are new: the next free ones, in the order in which the journal brings them.

        So every engine gives a product the same row, however many entries it reads at a time.
        """
        added: dict[str, int] = {}
        for entry in entries:
            product_id = entry.change.id
            is_new = isinstance(entry.change, Upsert) and self._products.place_of(product_id) is None
            if is_new and product_id not in added:
                added[product_id] = len(self._products) + len(added)
        return added

    def _lay(
        self, found: Found, encoded: Mapping[str, _Encoded], sequences: Mapping[str, int], added: Mapping[str, int]
    ) -> None:
        places = {key: added[key] if key in added else self._products.place_of(key) for key in found}
        rows = {place: found[key] for key, place in places.items() if place is not None}
        present = {row: product for row, product in rows.items() if product is not None}
        catalog = self._catalog(present.values())
        # Those that stay as they are, too: another engine may have written to a shared index what they were in between.
        changes = [
            self._document(place, found[key], catalog, sequences[key])
            for key, place in places.items()
            if place is not None
        ]
        keyword = self.snapshot.keyword.changed(changes, catalog) if changes else self.snapshot.keyword
        laid: dict[int, _Encoded | None] = {row: None for row, product in rows.items() if product is None}
        laid |= {row: encoded[text] for row, product in present.items() if (text := encoder_text(product)) in encoded}
        self._vectors = self._vectors.with_changes({row: each.vector if each else None for row, each in laid.items()})
        if self._states:
            tokens = {row: each.tokens if each else None for row, each in laid.items()}
            self._states = self._states.with_changes(tokens)
        self._signals = self._signals.with_changes(rows)
        self._products = self._products.with_changes(rows, added)
        self.snapshot = dataclasses.replace(
            self.snapshot,
            products=self._products,
            catalog=catalog,
            keyword=keyword,
            vectors=self._vectors,
            states=self._states,
            signals=self._signals,
        )

    def _document(self, row: int, product: Product | None, catalog: FieldCatalog, sequence: int) -> DocumentChange:
        if product is None:
            return DocumentChange(row, sequence, None)
        document = keyword_document(row, product, self.snapshot.analyzer, catalog)
        return DocumentChange(row, sequence, document, product_to_json(product))

    def _catalog(self, products: Iterable[Product]) -> FieldCatalog:
        """The fields, with those that are new as far as the keyword index has room for them."""
        catalog = extended(self.snapshot.catalog, products)
        room = self.snapshot.keyword.places
        if all(info.place < room for info in catalog.fields.values()):
            return catalog
        fields = {name: info for name, info in catalog.fields.items() if info.place < room}
        return FieldCatalog(fields, catalog.category_roots)
