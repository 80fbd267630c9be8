"""The previous version, what a rebuild reuses of it, and the live changes that are merged into the next one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from shelfwise import retrieval
from shelfwise.indexer.cleaning.spelling import SpellingNormalizer, brand_key, level_key
from shelfwise.indexer.embedding_cache import KeyTable, VectorCache
from shelfwise.indexer.external_sort import Entry
from shelfwise.indexer.feeds.base import Record, RejectedRow
from shelfwise.indexer.feeds.row_parser import FieldNames
from shelfwise.indexer.quality.findings import AGES, Failures, Findings
from shelfwise.indexer.quality.norms import CategoryPath, Norm, Norms
from shelfwise.indexer.quality.rules import DAY, MOMENTS, QualityRule
from shelfwise.retrieval.errors import StoreDamagedError, StoreError
from shelfwise.retrieval.filters.schema import FieldCatalog
from shelfwise.retrieval.index.keyword_documents import LINES_FILE
from shelfwise.retrieval.index.token_states import MAX_TOKENS, STATES_FILES, StoredStates
from shelfwise.retrieval.index.vectors import VECTORS_FILE, Rows
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.files import load_array, load_json, read_seal, sealed_problem
from shelfwise.retrieval.store.manifest import (
    FIELDS_FILE,
    KEYWORD_FOLDER,
    PENDING_UPDATES_FILE,
    STATES_FOLDER,
    TEXT_KEYS_FILE,
    VECTORS_FOLDER,
)
from shelfwise.retrieval.store.products import RECIPE, FieldWeights, ProductStore, product_from_json, product_to_json
from shelfwise.retrieval.store.signals import Floats, StoredSignals
from shelfwise.retrieval.store.versions import ServingVersion, Store
from shelfwise.retrieval.text.analysis import RULES
from shelfwise.retrieval.updates.changes import PendingUpdate, apply_change, read_pending_updates
from shelfwise.retrieval.updates.journal import Journal


class PreviousVersion:
    """The serving version, opened for reading."""

    def __init__(self, store: Store, serving: ServingVersion) -> None:
        self.manifest = serving.manifest
        self.damaged = serving.damaged
        """Versions that were skipped."""
        self.is_undamaged = not serving.notices
        """Whether no damaged version was skipped to find it."""
        self.folder = store.version_folder(self.manifest.version)
        self.products = ProductStore(self.folder)
        self.catalog = load_json(self.folder / FIELDS_FILE, FieldCatalog)

    @cached_property
    def text_keys(self) -> NDArray[np.uint8]:
        """The fingerprint of each row's text (n, 16)."""
        return load_array(self.folder / TEXT_KEYS_FILE, mapped=True)

    @cached_property
    def signals(self) -> Floats:
        """The signals of each row (n, 5)."""
        return StoredSignals(self.folder, len(self.products)).table

    @property
    def keyword(self) -> Path:
        return self.folder / KEYWORD_FOLDER

    def shares_analysis(self, catalog: FieldCatalog, weights: FieldWeights) -> bool:
        """Whether an unchanged product has the same terms and columns in an index of `catalog`."""
        manifest = self.manifest
        made_by = (manifest.analyzer.partition("+")[0], manifest.recipe, manifest.weights, self.catalog.category_roots)
        return made_by == (RULES, RECIPE, weights, catalog.category_roots) and (self.keyword / LINES_FILE).is_file()

    def product(self, product_id: str) -> Product | None:
        """The published product with this id."""
        row = self.products.row_of(product_id)
        return None if row is None else self.products[row]

    def pending_updates(self) -> Iterator[PendingUpdate]:
        path = self.folder / PENDING_UPDATES_FILE
        return read_pending_updates(path) if path.exists() else iter(())


class PreviousProducts:
    """Cursor over the products of the previous version, ordered by id."""

    def __init__(self, previous: PreviousVersion | None) -> None:
        self._lines = enumerate(previous.products.lines()) if previous else iter(())
        self._head = next(self._lines, None)

    def at(self, product_id: bytes) -> tuple[int, bytes]:
        """The row and the line of a product, or -1 and an empty line; ids must be passed in ascending order."""
        while self._head is not None and self._head[1][0] < product_id:
            self._head = next(self._lines, None)
        if self._head is None or self._head[1][0] != product_id:
            return -1, b""
        return self._head[0], self._head[1][1]


def open_previous_version(store: Store) -> PreviousVersion | None:
    """The serving version, if any."""
    try:
        return PreviousVersion(store, store.find_serving())
    except StoreError:
        return None


INSPECTION_FOLDER = "inspection"
SIGNATURES_FOLDER = "signatures"
_FACTS_FILE, _BITS_FILE = "facts.json", "bits.npy"


class _Facts(msgspec.Struct, frozen=True):
    made_by: str
    """A fingerprint of the program and the rules."""
    now: float
    norms: list[tuple[CategoryPath, Norm]]
    filled: dict[str, int]
    ages: dict[str, int]
    prices: list[tuple[tuple[str, int], int]]
    languages: dict[str, int]


def _made_by(rules: Sequence[QualityRule]) -> str:
    return xxhash.xxh3_128_hexdigest(f"{program_key()}\n{rules!r}".encode())


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """The findings of an inspection of all n products of a version."""

    folder: Path
    """The folder with the signatures of the products."""
    names: Sequence[str]
    """The names of the rules."""
    now: float
    """The time of the inspection, in seconds since 1970."""
    norms: Norms
    counts: Findings
    """The findings over all products, without single failures."""
    bits: NDArray[np.uint8]
    """(n, bytes): for each product, one bit for whether its language was detected, then one per rule that it fails."""

    @classmethod
    def load(cls, version: Path, rules: Sequence[QualityRule]) -> Inspection | None:
        """The inspection in a version's folder; None if there is none with these rules."""
        folder = version / INSPECTION_FOLDER
        try:
            facts = msgspec.json.decode((folder / _FACTS_FILE).read_bytes(), type=_Facts)
            bits = load_array(folder / _BITS_FILE, mapped=True)
        except (OSError, msgspec.MsgspecError, StoreDamagedError):
            return None
        if facts.made_by != _made_by(rules):
            return None
        counts = Findings(
            len(bits),
            filled=Counter(facts.filled),
            ages=Counter(facts.ages),
            prices=Counter(dict(facts.prices)),
            languages=Counter(facts.languages),
        )
        return cls(folder, [rule.name for rule in rules], facts.now, Norms(dict(facts.norms)), counts, bits)

    def has(self, index: int, rows: Rows) -> NDArray[np.bool_]:
        """One bit of some products (r,)."""
        bits: NDArray[np.bool_] = (self.bits[rows, index // 8] >> (index % 8) & 1).astype(bool)
        return bits

    def findings(self, rows_before: Rows, rows: Rows) -> Findings:
        """The failures of some products (r,), whose new rows are `rows`; without examples."""
        result = Findings()
        for index, name in enumerate(self.names, 1):
            failing = rows[self.has(index, rows_before)]
            if len(failing):
                result.failing[name] = [failing.astype(np.int32)]
                result.failures[name] = Failures(len(failing))
        return result


ROW_KEY_BYTES = 16
NO_ROW_KEY = bytes(ROW_KEY_BYTES)
_READING_FILE, _ROW_KEYS_FILE = "reading.json", "row_keys.npy"


class Reading(msgspec.Struct, frozen=True):
    """Mapping and field names with which the rows of a version were read."""

    made_by: str
    """A fingerprint of the program and the mapping."""
    fields: FieldNames
    """The user's field names that no row had, and the field names of rows, if there are some of the former."""


def row_key(record: Record | RejectedRow) -> bytes:
    """A fingerprint of a row as it is in its feed; NO_ROW_KEY for a row without one."""
    if isinstance(record, RejectedRow) or record.format == "rejected":
        return NO_ROW_KEY
    try:
        row = record.row if isinstance(record.row, bytes) else msgspec.msgpack.encode(record.row)
    except (TypeError, OverflowError, UnicodeEncodeError):
        return NO_ROW_KEY
    return xxhash.xxh3_128_digest(record.format.encode() + b"\0" + row)


@cache
def program_key() -> str:
    """A fingerprint of the code that makes and inspects products: another program repeats the work."""
    digest = xxhash.xxh3_128()
    for package in (Path(__file__).parent, Path(retrieval.__file__).parent):
        for path in sorted([*package.rglob("*.py"), *package.rglob("*.toml")]):
            digest.update(path.read_bytes())
    return digest.hexdigest()


class KnownRows:
    """The rows of feeds from which the previous version's products were made; they are not read again."""

    def __init__(self, version: Path, reading: Reading) -> None:
        folder = version / INSPECTION_FOLDER
        self.reading = reading
        self._keys = load_array(folder / _ROW_KEYS_FILE)
        self._detected = load_array(folder / _BITS_FILE, mapped=True)[:, 0] & 1
        self._table = KeyTable(self._keys)
        self._products = ProductStore(version)
        self._lines = np.zeros(len(self._keys), np.int64)
        self._files = np.zeros(len(self._keys), np.int64)

    @classmethod
    def load(cls, version: Path, made_by: str) -> KnownRows | None:
        """The rows in a version's folder; None if they were read with other settings, or there are none."""
        try:
            content = (version / INSPECTION_FOLDER / _READING_FILE).read_bytes()
            reading = msgspec.json.decode(content, type=Reading)
            return cls(version, reading) if reading.made_by == made_by and len(ProductStore(version)) else None
        except (OSError, msgspec.MsgspecError, StoreDamagedError):
            return None

    def unknown(self, records: Sequence[Record | RejectedRow], files: Mapping[str, int]) -> list[Record | RejectedRow]:
        """The records that must be read; the places of the others are noted. `files` numbers the feeds."""
        keys = np.frombuffer(b"".join(map(row_key, records)), np.uint8).reshape(-1, ROW_KEY_BYTES)
        rows = np.where(keys.any(axis=1), self._table.find(keys), -1)
        rest: list[Record | RejectedRow] = []
        for record, row in zip(records, rows.tolist(), strict=True):
            if row < 0 or self._lines[row]:
                rest.append(record)
            else:
                self._lines[row], self._files[row] = record.line, files[record.file]
        return rest

    @cached_property
    def rows(self) -> Rows:
        """The rows of the previous version whose products were found again, ascending; complete after all records."""
        return np.flatnonzero(self._lines)

    @property
    def undeclared(self) -> int:
        """The number of these products without a declared language."""
        return int(self._detected[self.rows].sum())

    def entries(self) -> Iterator[Entry]:
        """The products that were found again, ordered by id."""
        for row in self.rows.tolist():
            yield Entry(
                self._products.id_of(row).encode(),
                self._products.line(row),
                int(self._files[row]),
                bool(self._detected[row]),
                int(self._lines[row]),
                self._keys[row].tobytes(),
            )


def save_reading(version: Path, reading: Reading, keys: bytes | bytearray) -> None:
    """Saves the keys of the rows from which a version's products were made, and how they were read; called after
    `save_inspection`."""
    folder = version / INSPECTION_FOLDER
    (folder / _READING_FILE).write_bytes(msgspec.json.encode(reading, order="deterministic"))
    np.save(folder / _ROW_KEYS_FILE, np.frombuffer(keys, np.uint8).reshape(-1, ROW_KEY_BYTES))


def save_inspection(
    version: Path,
    findings: Findings,
    rules: Sequence[QualityRule],
    norms: Norms,
    now: datetime,
    detected: bytes | bytearray,
) -> None:
    """Saves the findings of a version. `detected` has a byte per product, 1 if its language was detected."""
    folder = version / INSPECTION_FOLDER
    folder.mkdir(exist_ok=True)
    bits = np.zeros((len(detected), len(rules) // 8 + 1), np.uint8)
    bits[:, 0] = np.frombuffer(detected, np.uint8)
    for index, rule in enumerate(rules, 1):
        for rows in findings.failing.get(rule.name, ()):
            bits[rows, index // 8] |= np.uint8(1 << index % 8)
    np.save(folder / _BITS_FILE, bits)
    facts = _Facts(
        _made_by(rules),
        now.timestamp(),
        list(norms.categories.items()),
        dict(findings.filled),
        dict(findings.ages),
        sorted(findings.prices.items()),
        dict(findings.languages),
    )
    (folder / _FACTS_FILE).write_bytes(msgspec.json.encode(facts))


class _DatedProduct(msgspec.Struct, frozen=True):
    """The fields of a product that decide whether it must be inspected again."""

    brand: str = ""
    category: tuple[str, ...] = ()
    price: float | None = None
    currency: str = ""
    language: str = ""
    created: datetime | None = None
    updated: datetime | None = None
    expires: datetime | None = None


_decode = msgspec.json.Decoder(_DatedProduct).decode


class UnchangedProducts:
    """Decides which products are the same as in the previous version and would have the same findings.

    Findings differ if a norm of the category, or the age of a date, has crossed a limit of a rule or of the report. So
    the report is the same as that of an inspection of all products.
    """

    def __init__(self, before: Inspection, normalizer: SpellingNormalizer, norms: Norms, now: datetime) -> None:
        self._detected = before.has(0, np.arange(len(before.bits))).tobytes()
        self._normalizer = normalizer
        days = [*MOMENTS.values(), *(-most for most in AGES.values() if most < np.inf)]
        self._passed = [(before.now + day * DAY, now.timestamp() + day * DAY) for day in days]
        """The intervals of dates whose age has crossed a limit."""
        self._norms_of = cache(lambda category: (before.norms.of(category), norms.of(category)))

    def has(self, row: int, before: bytes, line: bytes, is_detected: int) -> bool:
        """Whether a product is unchanged, by its previous row or -1, its previous and current line, and 1 if its
        language was detected."""
        if row < 0 or before != line or self._detected[row] != is_detected:
            return False
        judged = _decode(line)
        settler = self._normalizer
        if judged.brand in settler.brands or not settler.levels.keys().isdisjoint(judged.category):
            return False
        times = [time.timestamp() for time in (judged.created, judged.updated, judged.expires) if time]
        if any(low <= time <= high for low, high in self._passed for time in times):
            return False
        was, now = self._norms_of(judged.category)
        return was == now or not any(_is_odd(judged, norm) for norm in (was, now))


def _is_odd(product: _DatedProduct, norm: Norm) -> bool:
    prices = norm.prices.get(product.currency)
    usual = (product.currency, norm.currency), (product.language, norm.language)
    return bool(prices and product.price and prices.is_outlier(product.price)) or any(
        value and each and value != each.value for value, each in usual
    )


def cache_version_vectors(
    store: Store, encoder: str, cache: VectorCache, first: str = "", state_dimension: int = 0
) -> None:
    """Adds the vectors of every version with this encoder, those of the version `first` before the others.

    If states of `state_dimension` are needed, only a version with such states is used. A version with damage elsewhere
    is used if its vectors are intact.
    """
    names = sorted(store.versions(), key=lambda name: (name == first, name), reverse=True)
    for name in names:
        try:
            manifest = store.manifest(name)
            folder = store.version_folder(name)
            if manifest.encoder == encoder and _are_whole(folder, with_states=state_dimension > 0):
                vectors = load_array(folder / VECTORS_FOLDER / VECTORS_FILE, mapped=True)
                tokens = None
                if state_dimension:
                    states = StoredStates(folder / STATES_FOLDER)
                    facts = (states.info.encoder, states.info.dimension, states.info.most)
                    tokens = states.runs if facts == (encoder, state_dimension, MAX_TOKENS) else None
                cache.add(load_array(folder / TEXT_KEYS_FILE), vectors, tokens)
        except StoreDamagedError:
            continue


def _are_whole(folder: Path, *, with_states: bool) -> bool:
    entries = read_seal(folder)
    states = [f"{STATES_FOLDER}/{name}" for name in STATES_FILES] if with_states else []
    names = (TEXT_KEYS_FILE, f"{VECTORS_FOLDER}/{VECTORS_FILE}", *states)
    return all(name in entries and not sealed_problem(folder / name, entries[name]) for name in names)


_SPELLED: Mapping[str, Callable[[Any], object]] = {
    "brand": brand_key,
    "category": lambda levels: tuple(map(level_key, levels)),
}


class UpdateMerge:
    """Merges live changes into the products of a feed: those pending in the previous version, and those made since.

    `sequence` is the number of the last one.
    """

    def __init__(self, changes: dict[str, PendingUpdate] | None = None, sequence: int = 0) -> None:
        self._changes = {product_id.encode(): change for product_id, change in (changes or {}).items()}
        self._normalizer: SpellingNormalizer | None = None
        self.ids = sorted(self._changes)
        self.sequence = sequence
        self.pending: list[PendingUpdate] = []
        """The updates that differ from the feed, ordered by id, for the ids passed to `merge` so far."""

    def use_spelling(self, normalizer: SpellingNormalizer) -> UpdateMerge:
        """Sets the spelling of the catalog; returns this object."""
        self._normalizer = normalizer
        return self

    @property
    def products(self) -> Iterator[Product]:
        """The changed products, without deleted ones."""
        return (change.live for change in self._changes.values() if change.live is not None)

    def merge(self, product_id: bytes, feed: bytes | None) -> bytes | None:
        """The product of an id as JSON, given that of the feed; None if there is none. Call it once for each id."""
        rebased = self.rebase(product_id, feed)
        if rebased is None or not rebased.is_pending:
            return feed
        self.pending.append(rebased)
        return None if rebased.live is None else product_to_json(rebased.live)

    def rebase(self, product_id: bytes, feed: bytes | None) -> PendingUpdate | None:
        """The change of a product, rebased onto the product of the feed; None if there is no change."""
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
    """`base` and `live` in the spelling of `feed`: another spelling in the catalog is not a change of a value."""
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
            sequence = entry.seq
            product_id = entry.change.id
            if product_id not in changes:
                product = previous.product(product_id) if previous else None
                changes[product_id] = PendingUpdate(product_id, product, product)
            update = changes[product_id]
            changes[product_id] = PendingUpdate(product_id, update.base, apply_change(update.live, entry.change))
    return UpdateMerge(changes, sequence)


def prune_journal(root: Path, merged: list[int]) -> None:
    """Removes from the journal the changes that every kept version contains; `merged` are their last change numbers."""
    with Journal(root) as journal:
        if merged and min(merged) > 0:
            journal.forget(min(merged))
