"""The version before: what a rebuild may take over from it, and how it differs from what is being built."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from indexer.known import KnownVectors
from retrieval.analysis import RULES
from retrieval.arrays import load_array
from retrieval.errors import StoreDamagedError, StoreError
from retrieval.fields import FieldCatalog
from retrieval.keyword_lines import LINES_FILE
from retrieval.layout import (
    FIELDS_FILE,
    KEYWORD_FOLDER,
    STANDING_FILE,
    STATES_FOLDER,
    TEXT_KEYS_FILE,
    VECTORS_FOLDER,
    read_fields,
)
from retrieval.manifest import Manifest, file_problem
from retrieval.product_store import ProductStore
from retrieval.product_text import RECIPE
from retrieval.published import Serving, Store
from retrieval.records import Product
from retrieval.standing import Standing, read_standing
from retrieval.stored_vectors import VECTORS_FILE
from retrieval.token_states import MOST_TOKENS, STATES_FILES, StoredStates, TokenRuns


class Before:
    """A whole version that was published earlier, opened for reading."""

    def __init__(self, store: Store, serving: Serving) -> None:
        self.manifest = serving.manifest
        self.damaged = serving.damaged
        """Versions that were passed over for it."""
        self.is_unharmed = not serving.notices
        """Whether nothing damaged had to be passed over to find it."""
        self.folder = store.version_folder(self.manifest.version)
        self.products = ProductStore(self.folder)
        self.catalog = read_fields(self.folder / FIELDS_FILE)

    @property
    def keyword(self) -> Path:
        """The folder of its keyword index."""
        return self.folder / KEYWORD_FOLDER

    def shares_analysis(self, catalog: FieldCatalog) -> bool:
        """Whether an unchanged product has the same terms and columns in an index of `catalog`."""
        made_by = (self.manifest.analyzer.partition("+")[0], self.manifest.recipe, self.catalog.category_roots)
        return made_by == (RULES, RECIPE, catalog.category_roots) and (self.keyword / LINES_FILE).is_file()

    def product(self, product_id: str) -> Product | None:
        """The product of this id, as it was published."""
        row = self.products.row_of(product_id)
        return None if row is None else self.products[row]

    def standing(self) -> Iterator[Standing]:
        """The live changes that stand in it."""
        path = self.folder / STANDING_FILE
        return read_standing(path) if path.exists() else iter(())


class Cursor:
    """Walks through the products of the version before, in the order of ids, beside another walk in that order."""

    def __init__(self, before: Before | None) -> None:
        self._lines = enumerate(before.products.lines()) if before else iter(())
        self._head = next(self._lines, None)

    def at(self, product_id: bytes) -> tuple[int, bytes]:
        """The row and the line of a product, or -1 and nothing; ids are asked for in ascending order."""
        while self._head is not None and self._head[1][0] < product_id:
            self._head = next(self._lines, None)
        if self._head is None or self._head[1][0] != product_id:
            return -1, b""
        return self._head[0], self._head[1][1]


def open_before(store: Store) -> Before | None:
    """The version that serves, if any."""
    try:
        return Before(store, store.find_serving())
    except StoreError:
        return None


def add_vectors_of_versions(
    store: Store, encoder: str, known: KnownVectors, first: str = "", state_dimension: int = 0
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
                known.add(load_array(folder / TEXT_KEYS_FILE), vectors, tokens)
        except StoreDamagedError:
            continue


def _tokens(folder: Path, encoder: str, dimension: int) -> TokenRuns | None:
    """The tokens of a version, where its states are such as would be made now."""
    states = StoredStates(folder)
    facts = states.facts
    return states.runs if (facts.encoder, facts.dimension, facts.most) == (encoder, dimension, MOST_TOKENS) else None


def _are_whole(store: Store, manifest: Manifest, *, with_states: bool) -> bool:
    prefix = f"versions/{manifest.version}"
    states = (f"{STATES_FOLDER}/{name}" for name in STATES_FILES) if with_states else ()
    for name in (TEXT_KEYS_FILE, f"{VECTORS_FOLDER}/{VECTORS_FILE}", *states):
        entry = manifest.files.get(f"{prefix}/{name}")
        if entry is None or file_problem(store.root / prefix / name, entry):
            return False
    return True
