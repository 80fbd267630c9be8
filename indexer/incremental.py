"""The previous version, and the live changes that a rebuild merges into the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from indexer.cleaning.spelling import SpellingNormalizer, brand_key, level_key
from indexer.embedding_cache import VectorCache
from retrieval.errors import StoreDamagedError, StoreError
from retrieval.filters.schema import FieldCatalog
from retrieval.index.keyword_documents import LINES_FILE
from retrieval.index.token_states import MOST_TOKENS, STATES_FILES, StoredStates, TokenRuns
from retrieval.index.vectors import VECTORS_FILE
from retrieval.records import Product
from retrieval.store.files import file_problem, load_array
from retrieval.store.manifest import (
    FIELDS_FILE,
    KEYWORD_FOLDER,
    PENDING_UPDATES_FILE,
    STATES_FOLDER,
    TEXT_KEYS_FILE,
    VECTORS_FOLDER,
    Manifest,
    read_fields,
)
from retrieval.store.products import RECIPE, FieldWeights, ProductStore, product_from_json, product_to_json
from retrieval.store.versions import ServingVersion, Store
from retrieval.text.analysis import RULES
from retrieval.updates.changes import apply_change
from retrieval.updates.journal import Journal
from retrieval.updates.three_way_merge import PendingUpdate, read_pending_updates


class PreviousVersion:
    """The version that serves, opened for reading."""

    def __init__(self, store: Store, serving: ServingVersion) -> None:
        self.manifest = serving.manifest
        self.damaged = serving.damaged
        """Versions that were skipped."""
        self.is_undamaged = not serving.notices
        """Whether nothing damaged was skipped to find it."""
        self.folder = store.version_folder(self.manifest.version)
        self.products = ProductStore(self.folder)
        self.catalog = read_fields(self.folder / FIELDS_FILE)

    @property
    def keyword(self) -> Path:
        return self.folder / KEYWORD_FOLDER

    def shares_analysis(self, catalog: FieldCatalog, weights: FieldWeights) -> bool:
        """Whether an unchanged product has the same terms and columns in an index of `catalog`."""
        made = self.manifest
        made_by = (made.analyzer.partition("+")[0], made.recipe, made.weights, self.catalog.category_roots)
        return made_by == (RULES, RECIPE, weights, catalog.category_roots) and (self.keyword / LINES_FILE).is_file()

    def product(self, product_id: str) -> Product | None:
        """The product of this id, as it was published."""
        row = self.products.row_of(product_id)
        return None if row is None else self.products[row]

    def pending_updates(self) -> Iterator[PendingUpdate]:
        path = self.folder / PENDING_UPDATES_FILE
        return read_pending_updates(path) if path.exists() else iter(())


class PreviousProducts:
    """Cursor over the products of the previous version in the order of ids."""

    def __init__(self, previous: PreviousVersion | None) -> None:
        self._lines = enumerate(previous.products.lines()) if previous else iter(())
        self._head = next(self._lines, None)

    def at(self, product_id: bytes) -> tuple[int, bytes]:
        """The row and the line of a product, or -1 and nothing; ids must come in ascending order."""
        while self._head is not None and self._head[1][0] < product_id:
            self._head = next(self._lines, None)
        if self._head is None or self._head[1][0] != product_id:
            return -1, b""
        return self._head[0], self._head[1][1]


def open_previous_version(store: Store) -> PreviousVersion | None:
    """The version that serves, if any."""
    try:
        return PreviousVersion(store, store.find_serving())
    except StoreError:
        return None


def cache_version_vectors(
    store: Store, encoder: str, cache: VectorCache, first: str = "", state_dimension: int = 0
) -> None:
    """Adds the vectors of every version that this encoder made, those of the version `first` before the others.

    Where states of `state_dimension` are wanted, only a version with such states is of use. A version with other damage
    still gives its vectors where these are whole.
    """
    names = sorted(store.versions(), key=lambda name: (name == first, name), reverse=True)
    for name in names:
        try:
            manifest = store.manifest(name)
            if manifest.encoder == encoder and _are_whole(store, manifest, with_states=state_dimension > 0):
                folder = store.version_folder(name)
                vectors = load_array(folder / VECTORS_FOLDER / VECTORS_FILE, mapped=True)
                tokens = _tokens(folder / STATES_FOLDER, encoder, state_dimension) if state_dimension else None
                cache.add(load_array(folder / TEXT_KEYS_FILE), vectors, tokens)
        except StoreDamagedError:
            continue


def _tokens(folder: Path, encoder: str, dimension: int) -> TokenRuns | None:
    """The tokens of a version, where its states are such as would be made now."""
    states = StoredStates(folder)
    facts = states.info
    return states.runs if (facts.encoder, facts.dimension, facts.most) == (encoder, dimension, MOST_TOKENS) else None


def _are_whole(store: Store, manifest: Manifest, *, with_states: bool) -> bool:
    prefix = f"versions/{manifest.version}"
    states = (f"{STATES_FOLDER}/{name}" for name in STATES_FILES) if with_states else ()
    for name in (TEXT_KEYS_FILE, f"{VECTORS_FOLDER}/{VECTORS_FILE}", *states):
        entry = manifest.files.get(f"{prefix}/{name}")
        if entry is None or file_problem(store.root / prefix / name, entry):
            return False
    return True


_SPELLED: Mapping[str, Callable[[Any], object]] = {
    "brand": brand_key,
    "category": lambda levels: tuple(map(level_key, levels)),
}


class UpdateMerge:
    """Live changes, merged into the products of a feed: those pending in the previous version, and those since.

    `sequence` is the number of the last one.
    """

    def __init__(self, changes: dict[str, PendingUpdate] | None = None, sequence: int = 0) -> None:
        self._changes = {product_id.encode(): change for product_id, change in (changes or {}).items()}
        self._normalizer: SpellingNormalizer | None = None
        self.ids = sorted(self._changes)
        self.sequence = sequence
        self.pending: list[PendingUpdate] = []
        """Those that differ from the feed, in the order of ids, as far as `merge` was called."""

    def use_spelling(self, normalizer: SpellingNormalizer) -> UpdateMerge:
        """Sets the spelling of the catalog; returns itself."""
        self._normalizer = normalizer
        return self

    @property
    def products(self) -> Iterator[Product]:
        """The changed products, without those that were deleted."""
        return (change.live for change in self._changes.values() if change.live is not None)

    def merge(self, product_id: bytes, feed: bytes | None) -> bytes | None:
        """The product of an id as JSON, given that of the feed; None where there is none. Call it once for each id."""
        rebased = self.rebase(product_id, feed)
        if rebased is None or not rebased.is_pending:
            return feed
        self.pending.append(rebased)
        return None if rebased.live is None else product_to_json(rebased.live)

    def rebase(self, product_id: bytes, feed: bytes | None) -> PendingUpdate | None:
        """The change of a product, rebased onto the product of the feed; None where there is no change."""
        change = self._changes.get(product_id)
        if change is None:
            return None
        now = self._normalized(None if feed is None else product_from_json(feed))
        base, live = _respelled(self._normalized(change.base), self._normalized(change.live), now)
        return PendingUpdate(change.id, base, live).rebase(now)

    def _normalized(self, product: Product | None) -> Product | None:
        return product if product is None or self._normalizer is None else self._normalizer.normalize(product)


def _respelled(
    base: Product | None, live: Product | None, feed: Product | None
) -> tuple[Product | None, Product | None]:
    """`base` and `live` in the spelling of `feed`: another spelling in the catalog is no change of a value."""
    for name, key in _SPELLED.items():
        if base is None or feed is None:
            break
        before, now = getattr(base, name), getattr(feed, name)
        if before != now and key(before) == key(now):
            base = replace(base, **{name: now})
            live = replace(live, **{name: now}) if live and getattr(live, name) == before else live
    return base, live


def load_updates(root: Path, previous: PreviousVersion | None) -> UpdateMerge:
    """The live changes that the next version merges; raises StoreDamagedError for a journal that cannot be read."""
    changes = {each.id: each for each in previous.pending_updates()} if previous else {}
    sequence = previous.manifest.last_merged_change if previous else 0
    with Journal(root) as journal:
        for entry in journal.since(sequence):
            sequence, product_id = entry.seq, entry.change.id
            if product_id not in changes:
                product = previous.product(product_id) if previous else None
                changes[product_id] = PendingUpdate(product_id, product, product)
            known = changes[product_id]
            changes[product_id] = PendingUpdate(product_id, known.base, apply_change(known.live, entry.change))
    return UpdateMerge(changes, sequence)


def prune_journal(root: Path, merged: list[int]) -> None:
    """Removes from the journal what every kept version has merged; `merged` are the numbers of their last changes."""
    with Journal(root) as journal:
        if merged and min(merged) > 0:
            journal.forget(min(merged))
