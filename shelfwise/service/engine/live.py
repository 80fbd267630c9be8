"""Live changes over an opened version: searchable within moments, without a rebuild.

Rows of the version keep their numbers, and its files stay unchanged. An added product gets the next free row, so among
equal scores it follows older products until the next version orders all products by id.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

from shelfwise.retrieval.encoders.base import as_token_encoder
from shelfwise.retrieval.encoders.registry import LazyEncoder
from shelfwise.retrieval.errors import (
    EncoderUnavailableError,
    OutsideFilterError,
    QueryError,
    SettingError,
    ShelfwiseError,
)
from shelfwise.retrieval.filters.conditions import Condition, fields_of, matches
from shelfwise.retrieval.filters.schema import FieldCatalog, extend_catalog, product_columns
from shelfwise.retrieval.index.keyword import DocumentChange
from shelfwise.retrieval.index.token_states import TokenRuns, quantise_tokens
from shelfwise.retrieval.index.vectors import ChangedVectors, Vectors
from shelfwise.retrieval.records import Product, images_of
from shelfwise.retrieval.store.files import file_stamp
from shelfwise.retrieval.store.manifest import CURRENT
from shelfwise.retrieval.store.products import encoder_text, keyword_document, product_to_json
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.updates.changes import Change, Upsert, apply_change, same_product
from shelfwise.retrieval.updates.journal import Journal, JournalEntry, OutrunError
from shelfwise.service.engine.snapshot import (
    Connection,
    Products,
    Snapshot,
    condition_of,
    open_snapshot,
    ordered_ids,
    unknown_product,
)


@dataclass(frozen=True, slots=True)
class ChangedProducts:
    """The products of a version with changes applied over it."""

    base: Products
    changed: Mapping[int, Product | None] = field(default_factory=dict)
    """Products by row; None for a deleted one."""
    added: Mapping[str, int] = field(default_factory=dict)
    """Rows of ids that the base does not have, including deleted ones."""

    def __len__(self) -> int:
        return len(self.base) + len(self.added)

    def __getitem__(self, row: int) -> Product:
        if row not in self.changed:
            return self.base[row]
        product = self.changed[row]
        if product is None:
            raise IndexError(f"the product of row {row} was deleted")
        return product

    def id_of(self, row: int) -> str:
        return self[row].id if row in self.changed else self.base.id_of(row)

    def row_of(self, product_id: str) -> int | None:
        row = self.place_of(product_id)
        return None if row is None or self.changed.get(row, _THERE) is None else row

    def place_of(self, product_id: str) -> int | None:
        """The present or former row of an id."""
        row = self.base.row_of(product_id)
        return self.added.get(product_id) if row is None else row

    def with_changes(self, changed: Mapping[int, Product | None], added: Mapping[str, int]) -> ChangedProducts:
        """These products with more changes, of which later ones win."""
        return replace(self, changed={**self.changed, **changed}, added={**self.added, **added})


_THERE = Product("", "")


Found = Mapping[str, Product | None]
"""Products by id; None for a deleted one."""


@dataclass(frozen=True, slots=True)
class _EncodedText:
    """The encoding of a text; without tokens if the version has no states or the encoder is unavailable."""

    vector: Vectors
    tokens: TokenRuns | None = None


@dataclass(frozen=True, slots=True)
class AppliedChanges:
    """Changes that are durable."""

    sequence: int
    """Journal number of the last change; 0 if there was nothing to change."""
    products: int
    """Number of changed products."""


class LiveSnapshot:
    """A version with the journal's entries applied over it. Used by one thread at a time; snapshots may be shared."""

    def __init__(self, base: Snapshot) -> None:
        self.snapshot = base
        self.sequence = base.manifest.last_merged_change
        """Number of the last entry in the snapshot."""
        self._products = ChangedProducts(base.products)
        self._vectors = ChangedVectors(base.vectors)
        self._states = base.states
        self._signals = base.signals
        self._texts: dict[str, _EncodedText] = {}

    def product(self, product_id: str) -> Product | None:
        """A product in its current state."""
        row = self._products.row_of(product_id)
        return None if row is None else self._products[row]

    def has(self, product_id: str) -> bool:
        """Whether a product exists, without reading it."""
        return self._products.row_of(product_id) is not None

    def prepare(self, found: Found) -> None:
        """Encodes the texts of changed products, so that an encoder failure rejects them before they are in the
        journal."""
        self._texts = self._encoded(found)

    def apply(self, entries: Iterable[JournalEntry]) -> None:
        """Applies more journal entries to the version; raises EncoderError if a text cannot be encoded.

        If the encoder is unavailable, or loaded only to check changes, products with new texts are found by words.
        """
        pending = list(entries)
        if not pending:
            return
        found = outcome_of((entry.change for entry in pending), self.product)
        nothing = _EncodedText(np.zeros(self.snapshot.vectors.dimension, np.float32))
        encoded = dict.fromkeys(self._new_texts(found), nothing)
        with suppress(EncoderUnavailableError):
            if not isinstance(self.snapshot.encoder, LazyEncoder):
                encoded = self._encoded(found)
        self._lay(found, encoded, {entry.change.id: entry.seq for entry in pending}, self._added(pending))
        self.sequence = pending[-1].seq
        self._texts = {}

    def _encoded(self, found: Found) -> dict[str, _EncodedText]:
        """The vectors and tokens of the texts that are new; a price change has none."""
        missing = sorted(self._new_texts(found) - self._texts.keys())
        return {**self._texts, **dict(zip(missing, self._made(missing), strict=True))}

    def _made(self, texts: Sequence[str]) -> list[_EncodedText]:
        if not texts:
            return []
        encoder, states = self.snapshot.encoder, self._states
        telling = as_token_encoder(encoder) if states else None
        if states is None or telling is None:
            return [_EncodedText(vector) for vector in encoder.encode_products(texts)]
        vectors, tokens = telling.encode_products_with_tokens(texts)
        runs = (quantise_tokens([each], states.dimension) for each in tokens)
        return [_EncodedText(vector, run) for vector, run in zip(vectors, runs, strict=True)]

    def _new_texts(self, found: Found) -> set[str]:
        pairs = ((product, self.product(key)) for key, product in found.items() if product)
        texts = ((encoder_text(product), encoder_text(known) if known else "") for product, known in pairs)
        return {new for new, old in texts if new != old}

    def _added(self, entries: Iterable[JournalEntry]) -> dict[str, int]:
        """The rows of new products: the next free ones in journal order, the same in every engine, however many entries
        it reads at a time."""
        added: dict[str, int] = {}
        for entry in entries:
            product_id = entry.change.id
            is_new = isinstance(entry.change, Upsert) and self._products.place_of(product_id) is None
            if is_new and product_id not in added:
                added[product_id] = len(self._products) + len(added)
        return added

    def _lay(
        self, found: Found, encoded: Mapping[str, _EncodedText], sequences: Mapping[str, int], added: Mapping[str, int]
    ) -> None:
        known = ((key, added[key] if key in added else self._products.place_of(key)) for key in found)
        places = {key: row for key, row in known if row is not None}
        rows = {row: found[key] for key, row in places.items()}
        present = {row: product for row, product in rows.items() if product is not None}
        catalog = self._catalog(present.values())
        # Unchanged ones, too: another engine may have written their intermediate states to a shared index.
        changes = [self._document(row, found[key], catalog, sequences[key]) for key, row in places.items()]
        keyword = self.snapshot.keyword.apply_changes(changes, catalog) if changes else self.snapshot.keyword
        laid: dict[int, _EncodedText | None] = {row: None for row, product in rows.items() if product is None}
        laid |= {row: encoded[text] for row, product in present.items() if (text := encoder_text(product)) in encoded}
        self._vectors = self._vectors.with_changes({row: each.vector if each else None for row, each in laid.items()})
        if self._states:
            tokens = {row: each.tokens if each else None for row, each in laid.items()}
            self._states = self._states.with_changes(tokens)
        self._signals = self._signals.with_changes(rows)
        pictures = self.snapshot.pictures
        if pictures:
            others = frozenset(row for row, product in rows.items() if self._has_other_picture(row, product))
            pictures = replace(pictures, index=pictures.index.without(others))
        self._products = self._products.with_changes(rows, added)
        self.snapshot = replace(
            self.snapshot,
            products=self._products,
            catalog=catalog,
            keyword=keyword,
            vectors=self._vectors,
            states=self._states,
            signals=self._signals,
            types=self.snapshot.types.with_changes(rows),
            groups=self.snapshot.groups.with_changes(rows),
            pictures=pictures,
        )

    def _has_other_picture(self, row: int, product: Product | None) -> bool:
        """Whether the stored picture of a row is no longer that of the product."""
        if row >= self.snapshot.manifest.products:
            return False
        return product is None or images_of(self._products.base[row])[:1] != images_of(product)[:1]

    def _document(self, row: int, product: Product | None, catalog: FieldCatalog, sequence: int) -> DocumentChange:
        if product is None:
            return DocumentChange(row, sequence, None)
        document = keyword_document(row, product, self.snapshot.analyzer, catalog, self.snapshot.manifest.weights)
        return DocumentChange(row, sequence, document, product_to_json(product))

    def _catalog(self, products: Iterable[Product]) -> FieldCatalog:
        """The fields, with new ones as far as the keyword index has room for them."""
        catalog = extend_catalog(self.snapshot.catalog, products)
        room = self.snapshot.keyword.field_capacity
        if all(info.slot < room for info in catalog.fields.values()):
            return catalog
        fields = {name: info for name, info in catalog.fields.items() if info.slot < room}
        return FieldCatalog(fields, catalog.category_roots)


def outcome_of(changes: Iterable[Change], find: Callable[[str], Product | None]) -> dict[str, Product | None]:
    """The products that changes name, after all changes; `find` returns them before."""
    found: dict[str, Product | None] = {}
    for change in changes:
        known = found[change.id] if change.id in found else find(change.id)
        found[change.id] = apply_change(known, change)
    return found


class CurrentProducts:
    """The current products of an engine, including stored changes that searches do not show yet."""

    def __init__(self, live: LiveSnapshot, pending: Found, filters: str) -> None:
        """`pending` are the products of changes that are not shown yet; products must pass `filters`."""
        self._live = live
        self._pending = pending
        self._where = condition_of(live.snapshot, filters)

    def find(self, product_id: str) -> Product | None:
        """A product by its id; None if there is none."""
        product = self._product(product_id)
        return product if product is None or self._passes(product, self._where) else None

    def ids(self, filters: str) -> Iterator[str]:
        """The ids of the products that pass another filter, which includes that of these products."""
        where = condition_of(self._live.snapshot, filters)
        shown = ordered_ids(self._live.snapshot, filters).rest
        yield from (each for each in shown if each not in self._pending)
        yield from (key for key, product in self._pending.items() if product and self._passes(product, where))

    def changed(self, changes: Iterable[Change]) -> Found:
        """The products that differ after all of some changes.

        Raises UnknownProductError for a patch or a delete of a product that does not pass the filter, and
        OutsideFilterError for an upsert that would replace one, or for a product that would not pass after its change.
        """
        found: dict[str, Product | None] = {}
        for change in changes:
            known = found[change.id] if change.id in found else self._product(change.id)
            is_visible = known is not None and self._passes(known, self._where)
            if self._where is not None and not is_visible and not isinstance(change, Upsert):
                raise unknown_product(self._live.snapshot, change.id)
            if known is not None and not is_visible:
                raise OutsideFilterError(f"product {change.id!r}: another product has this id; choose another one")
            product = found[change.id] = apply_change(known, change)
            if product is not None and not self._passes(product, self._where):
                raise OutsideFilterError(
                    f"product {change.id!r} would not pass the filter of this key after the change; keep the values "
                    "that the filter requires, or use a key without that filter"
                )
        return {key: product for key, product in found.items() if self._differs(key, product)}

    def _differs(self, product_id: str, product: Product | None) -> bool:
        if product is None and product_id not in self._pending:
            return self._live.has(product_id)
        return not same_product(product, self._product(product_id))

    def _product(self, product_id: str) -> Product | None:
        return self._pending[product_id] if product_id in self._pending else self._live.product(product_id)

    def _passes(self, product: Product, where: Condition | None) -> bool:
        if where is None:
            return True
        return matches(where, product_columns(product, self._live.snapshot.catalog.category_roots, fields_of(where)))


Plan = Callable[[CurrentProducts], Sequence[Change]]
"""Makes validated live changes from the current products."""

_AGAIN_SECONDS = 5.0
"""Seconds until a version that could not be opened is tried again."""


class FollowedVersion:
    """The version that an engine searches, with live changes applied, replaced when another one is published. Threads
    may share it; a snapshot stays valid."""

    def __init__(self, store: Store, snapshot: Snapshot, connection: Connection, *, follow: bool) -> None:
        """Without `follow`, neither live changes nor later versions are loaded."""
        self._store = store
        self._connection = connection
        self._follow = follow
        self._journal = Journal(store.root)
        self._swap = threading.Lock()
        """Held while the snapshot is replaced, by a live change or a new version."""
        self._appending = threading.Lock()
        """Held while changes that are shown later are planned and stored."""
        self._pending: dict[str, tuple[int, Product | None]] = {}
        """Products of changes with the number of the change, until searches show them."""
        self._stored_last = 0
        """Number of the last change that is pending or shown."""
        self._shown = threading.Condition()
        self._opening = threading.Lock()
        """Held while a new version is opened."""
        self._is_closed = False
        self._seen = file_stamp(store.root / CURRENT)
        self._seen_changes: tuple[int, ...] | None = None
        self._trouble: dict[str, str] = {}
        self._again = math.inf
        """Time of the next attempt to open a version that could not be opened, by the monotonic clock."""
        self._live = LiveSnapshot(snapshot)
        self.changed: float | None = None
        """Time at which live changes were last loaded, in seconds since 1970; None before the first."""

    @property
    def snapshot(self) -> Snapshot:
        """The current snapshot."""
        return self._live.snapshot

    @property
    def notices(self) -> tuple[str, ...]:
        """Problems in loading changes or versions."""
        return (*self._journal.notices, *self._trouble.values())

    @property
    def is_due(self) -> bool:
        """Whether another version is published, or a failed one may be tried again."""
        is_new = file_stamp(self._store.root / CURRENT) != self._seen
        return (is_new or time.monotonic() > self._again) and not self._opening.locked()

    def catch_up(self) -> None:
        """Loads live changes of other processes; `notices` has the reason if that fails."""
        with self._swap:
            if self._is_closed:
                return
            stamp = self._journal.changed_stamp()
            if stamp != self._seen_changes and self._try_apply():
                self._seen_changes = stamp

    @property
    def sequence(self) -> int:
        """Number of the last live change that searches show."""
        return self._live.sequence

    @property
    def last_sequence(self) -> int:
        """Number of the last live change that any process stored."""
        return max(self._journal.last(), self.sequence)

    def change(self, plan: Plan, filters: str = "") -> AppliedChanges:
        """Stores the changes that a plan makes durably, all or none, and shows them in searches. Raises what the plan
        raises, and UnknownProductError or OutsideFilterError for a change outside `filters`."""
        self._check_following()
        while True:
            with self._swap, suppress(OutrunError):
                self._apply_new()
                products = CurrentProducts(self._live, {}, filters)
                whole, found = self._planned(plan, products)
                self._live.prepare(found)
                applied = self._stored(whole, found, self._live.sequence)
                # It is stored, whatever happens next: an error would claim the opposite.
                self._try_apply()
                return applied

    def append(self, plan: Plan, filters: str = "") -> AppliedChanges:
        """Like `change`, but searches show the changes only once their texts are encoded, which takes seconds for a
        thousand of them; see `wait_for`. `sequence` is never 0: without an effect it is that of the last changes."""
        self._check_following()
        while True:
            with self._appending, suppress(OutrunError):
                pending = self._read_pending()
                whole, found = self._planned(plan, CurrentProducts(self._live, pending, filters))
                applied = self._stored(whole, found, self._stored_last)
                return applied if applied.sequence else AppliedChanges(self._stored_last, 0)

    def _read_pending(self) -> Found:
        """The products of changes that any process stored and that searches do not show yet."""
        shown = self.sequence
        self._pending = {key: each for key, each in self._pending.items() if each[0] > shown}
        self._stored_last = max(self._stored_last, shown)
        for entry in self._journal.since(self._stored_last):
            key = entry.change.id
            known = self._pending[key][1] if key in self._pending else self._live.product(key)
            self._pending[key] = entry.seq, apply_change(known, entry.change)
            self._stored_last = entry.seq
        return {key: product for key, (_, product) in self._pending.items()}

    def _planned(self, plan: Plan, products: CurrentProducts) -> tuple[Sequence[Change], Found]:
        """The changes of a plan, and the products that they change."""
        # Rejected before they are stored: a change in the journal is final.
        self.snapshot.keyword.check_changeable()
        whole = plan(products)
        return whole, products.changed(whole)

    def _stored(self, whole: Sequence[Change], found: Found, after: int) -> AppliedChanges:
        """Stores what was planned on top of all changes up to a number; raises OutrunError if there is a later one."""
        wanted = [change for change in whole if change.id in found]
        numbers = self._journal.append(wanted, above=self.snapshot.manifest.last_merged_change, after=after)
        return AppliedChanges(numbers[-1] if numbers else 0, len(found))

    def _check_following(self) -> None:
        if self._is_closed:
            raise QueryError("the engine is closed; open it again with SearchEngine.open")
        if not self._follow:
            raise SettingError("this engine was opened with follow=False: it searches the published version only")

    def wait_for(self, sequence: int, seconds: float) -> bool:
        """Waits until searches show a live change, at most for the given time; returns whether they do."""
        with self._shown:
            return self._shown.wait_for(lambda: self.sequence >= sequence, seconds)

    def refresh(self) -> bool:
        """Switches to the published version; returns whether it is another one. If the new one cannot be opened, the
        old one keeps serving, and the error is raised."""
        with self._opening:
            self._again = math.inf
            self._seen = file_stamp(self._store.root / CURRENT)
            newer = LiveSnapshot(open_snapshot(self._store, self._connection, encoder=self.snapshot.encoder))
            if self._follow:
                newer.apply(self._journal.since(newer.sequence))
            with self._swap:
                if self._follow:
                    newer.apply(self._journal.since(newer.sequence))
                is_other = newer.snapshot.manifest.version != self.snapshot.manifest.version
                if newer.sequence > self._live.sequence:
                    self.changed = time.time()
                self._live = newer
            self._trouble.pop("version", None)
            return is_other

    def postpone(self, error: ShelfwiseError) -> None:
        """Schedules another try for a version that cannot be opened, as on a full disk; `notices` has the reason."""
        message = f"{self.snapshot.manifest.version} still serves: the new version cannot be opened: {error}"
        self._trouble["version"] = message
        self._again = time.monotonic() + _AGAIN_SECONDS

    def close(self) -> None:
        """Stops loading changes."""
        with self._swap:
            self._is_closed = True
            self._journal.close()

    def _try_apply(self) -> bool:
        """Loads new live changes; on failure, `notices` has the reason, and the next check tries again."""
        try:
            self._apply_new()
        except ShelfwiseError as error:
            self._trouble["journal"] = f"live changes are not loaded: {error}"
            return False
        self._trouble.pop("journal", None)
        return True

    def _apply_new(self) -> None:
        before = self._live.sequence
        self._live.apply(self._journal.since(before))
        if self._live.sequence > before:
            self.changed = time.time()
            with self._shown:
                self._shown.notify_all()


_ATTRIBUTE = "attributes."


def add_measures(product: Product, values: Mapping[str, object]) -> dict[str, object]:
    """The values of a valid patch, with measures (`weight_g`) derived from changed attributes like in the feed's
    cleaning.

    Measures in the patch itself take precedence, and a number that was never derived from the attribute stays.
    """
    followed: dict[str, object] = {}
    for key, value in values.items():
        if not key.startswith(_ATTRIBUTE):
            continue
        name = key.removeprefix(_ATTRIBUTE)
        old, new = _measure(name, product.attributes.get(name)), _measure(name, value)
        if old and product.attributes.get(old[0]) == old[1]:
            followed[_ATTRIBUTE + old[0]] = None
        if new and (_ATTRIBUTE + new[0] in followed or new[0] not in product.attributes):
            followed[_ATTRIBUTE + new[0]] = new[1]
    return {**followed, **values}


def _measure(name: str, value: object) -> tuple[str, float] | None:
    """The name and the number of an attribute's measure; None if it is not one quantity."""
    if not isinstance(value, str) or not value[:1].isdecimal():
        return None
    from shelfwise.indexer.cleaning.text import parse_quantity

    found = parse_quantity(value)
    return (f"{name}_{found[0]}", found[1]) if found else None
