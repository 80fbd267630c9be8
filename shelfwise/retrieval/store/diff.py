"""The differences between two versions of an index: products, fields, settings, encoder, rows of the feed."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.filters.schema import FieldCatalog
from shelfwise.retrieval.store.manifest import FIELDS_FILE, SYNONYMS_FILE, Manifest, read_fields
from shelfwise.retrieval.store.products import ProductStore
from shelfwise.retrieval.store.versions import Store

EXAMPLES = 5
_NESTED = ("identifiers", "attributes")
_SETTINGS = (
    ("schema", "schema"),
    ("text analysis", "analyzer"),
    ("recipe", "recipe"),
    ("field weights", "weights"),
    ("vector index", "vectors"),
    ("encoder", "encoder"),
    ("encoder name", "encoder_name"),
    ("dimension", "dimension"),
)
"""The name of a setting and its field in a manifest."""


class VersionSummary(msgspec.Struct, frozen=True):
    """One of two versions, with the row counts of its rebuild."""

    version: str
    created: str
    products: int
    rows_read: int
    rows_rejected: int


class ProductList(msgspec.Struct, frozen=True):
    """Products of one kind of change: their number, and the ids of the first."""

    count: int = 0
    examples: tuple[str, ...] = ()


class ProductChanges(msgspec.Struct, frozen=True):
    """Products that were added, removed and changed."""

    added: ProductList
    removed: ProductList
    changed: ProductList
    fields: dict[str, int]
    """The number of products in which each field changed, highest first."""


class FieldChanges(msgspec.Struct, frozen=True):
    """Fields that appeared, disappeared, or changed the kind of their values."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    retyped: dict[str, tuple[str, str]] = {}
    """The kinds of a field before and after, such as ("number", "number, text")."""


class SettingChange(msgspec.Struct, frozen=True):
    """A setting that changed."""

    name: str
    before: str
    after: str


class VersionDiff(msgspec.Struct, frozen=True):
    """All differences between two versions."""

    before: VersionSummary
    after: VersionSummary
    products: ProductChanges
    fields: FieldChanges
    settings: tuple[SettingChange, ...]
    encoder_changed: bool

    @property
    def is_empty(self) -> bool:
        """Whether both versions give equal results."""
        made = self.products
        products = made.added.count + made.removed.count + made.changed.count
        return not products and not self.settings and self.fields == FieldChanges()


def compare_versions(store: Store, before: str, after: str, *, examples: int = EXAMPLES) -> VersionDiff:
    """Compares two versions in one pass over each; needs memory for one product of each."""
    for name in (before, after):
        store.check_known(name)
    one, other = store.manifest(before), store.manifest(after)
    first, second = store.version_folder(before), store.version_folder(after)
    return VersionDiff(
        _side(one),
        _side(other),
        _product_changes(ProductStore(first), ProductStore(second), examples),
        _field_changes(read_fields(first / FIELDS_FILE), read_fields(second / FIELDS_FILE)),
        (*_setting_changes(one, other), *_synonym_changes(first, second)),
        one.encoder != other.encoder,
    )


def _side(manifest: Manifest) -> VersionSummary:
    read, rejected = manifest.report.get("read", 0), manifest.report.get("rejected", {})
    counted = sum(count for count in rejected.values() if isinstance(count, int)) if isinstance(rejected, dict) else 0
    rows = read if isinstance(read, int) else 0
    return VersionSummary(manifest.version, manifest.created, manifest.products, rows, counted)


def _product_changes(before: ProductStore, after: ProductStore, most: int) -> ProductChanges:
    counts: Counter[str] = Counter()
    examples: dict[str, list[str]] = {"added": [], "removed": [], "changed": []}
    fields: Counter[str] = Counter()
    for product_id, one, other in _side_by_side(before, after):
        if one == other:
            continue
        kind = "added" if one is None else "removed" if other is None else "changed"
        counts[kind] += 1
        if len(examples[kind]) < most:
            examples[kind].append(product_id.decode())
        if one is not None and other is not None:
            fields.update(_changed_fields(one, other))
    lists = {kind: ProductList(counts[kind], tuple(ids)) for kind, ids in examples.items()}
    return ProductChanges(**lists, fields=dict(sorted(fields.items(), key=lambda each: (-each[1], each[0]))))


def _side_by_side(before: ProductStore, after: ProductStore) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    """Each id of either version, in order, with its line in both."""
    sides = [zip(store.lines(), itertools.repeat(side)) for side, store in enumerate((before, after))]
    for product_id, found in itertools.groupby(heapq.merge(*sides), key=lambda each: each[0][0]):
        lines = {side: line for (_, line), side in found}
        yield product_id, lines.get(0), lines.get(1)


def _changed_fields(before: bytes, after: bytes) -> Iterator[str]:
    """The fields in which two stored products differ; identifiers and attributes are compared one by one."""
    one, other = _record(before), _record(after)
    for name in one.keys() | other.keys():
        if one.get(name) == other.get(name):
            continue
        if name in _NESTED:
            inner, outer = one.get(name, {}), other.get(name, {})
            yield from (f"{name}.{key}" for key in inner.keys() | outer.keys() if inner.get(key) != outer.get(key))
        else:
            yield name


_decode = msgspec.json.Decoder(dict[str, Any]).decode


def _record(line: bytes) -> dict[str, Any]:
    try:
        return _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StoreDamagedError(f"a stored product cannot be read: {error}; see: shelfwise index verify") from error


def _field_changes(before: FieldCatalog, after: FieldCatalog) -> FieldChanges:
    one, other = _kinds(before), _kinds(after)
    return FieldChanges(
        tuple(sorted(other.keys() - one.keys())),
        tuple(sorted(one.keys() - other.keys())),
        {name: (one[name], other[name]) for name in sorted(one.keys() & other.keys()) if one[name] != other[name]},
    )


def _kinds(catalog: FieldCatalog) -> Mapping[str, str]:
    return {info.name: ", ".join(sorted(info.kinds)) for info in catalog.fields.values() if info.products}


def _setting_changes(before: Manifest, after: Manifest) -> Iterator[SettingChange]:
    for name, attribute in _SETTINGS:
        one, other = getattr(before, attribute), getattr(after, attribute)
        if one != other:
            yield SettingChange(name, str(one), str(other))


def _synonym_changes(before: Path, after: Path) -> Iterator[SettingChange]:
    one, other = _rules(before), _rules(after)
    if one != other:
        new, gone = len(other - one), len(one - other)
        yield SettingChange("synonyms", f"{len(one):,} rules", f"{len(other):,} rules: {new:,} new, {gone:,} gone")


def _rules(folder: Path) -> frozenset[str]:
    path = folder / SYNONYMS_FILE
    try:
        return frozenset(path.read_text("utf-8").splitlines()) if path.exists() else frozenset()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreDamagedError(f"{path} cannot be read ({error}); see: shelfwise index verify") from error
