"""Grouped and diverse results: one hit per group of products, and orders whose products differ.

A group is a product with its variants and near duplicates, as found by the rebuild, or the products with the same value
of a field. Groups are counted over the whole candidate set, so that total, facets and pages agree.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shelfwise.retrieval.filters.ast import Value, value_text
from shelfwise.retrieval.filters.schema import FieldKind, field_values, fold_value
from shelfwise.retrieval.index.keyword import NO_ROWS, Rows
from shelfwise.retrieval.index.vectors import Vectors
from shelfwise.retrieval.records import Facet, Product
from shelfwise.retrieval.store.files import load_array
from shelfwise.retrieval.store.manifest import GROUPS_FILE

VARIANTS = "variants"
"""The group name of the rebuild's groups; other names are those of fields."""
MAX_SIBLINGS = 100
"""The most ids of other products of its group that a hit has."""

ProductOf = Callable[[int], Product]


class StoredGroups:
    """The groups of a version of `count` products, read on first use. Thread-safe."""

    def __init__(self, folder: Path, count: int) -> None:
        self._path = folder / GROUPS_FILE
        self._count = count
        self._values: dict[str, FieldValues] = {}

    @cached_property
    def _variants(self) -> NDArray[np.int32]:
        return load_array(self._path, mapped=True, dtype=np.int32, shape=(self._count,))

    def variants(self, rows: Rows) -> Rows:
        """The first row in the group of each row (n,); a row that is not in the version is its own group.

        Raises StoreDamagedError if the stored groups are not those of the version's products.
        """
        found = rows.copy()
        is_stored = rows < self._count
        found[is_stored] = self._variants[rows[is_stored]]
        return found

    def siblings(self, row: int) -> Rows:
        """The other rows in the group of a row, ascending; raises StoreDamagedError like `variants`."""
        if row >= self._count:
            return NO_ROWS
        found = np.flatnonzero(self._variants == self._variants[row])
        others: Rows = found[found != row]
        return others

    def values(self, name: str) -> FieldValues:
        """The values of a field."""
        if name not in self._values:
            self._values.setdefault(name, FieldValues(name, self._count))
        return self._values[name]


class FieldValues:
    """The values of a field of `count` products, read from each product on first use. Thread-safe."""

    def __init__(self, name: str, count: int) -> None:
        self._name = name
        self._numbers: dict[str, int] = {}
        """The number of each folded value."""
        self._codes = array("i")
        """The numbers of each product's values, in the order in which products were read."""
        self._starts = np.full(count, -1, np.int64)
        self._counts = np.zeros(count, np.int64)
        self._lock = threading.Lock()

    @property
    def texts(self) -> list[str]:
        """The values ordered by number, as `fold_value` folds them."""
        return list(self._numbers)

    def of(self, rows: Rows, product_of: ProductOf, changed: Rows) -> tuple[Rows, Rows]:
        """The number of values of each row (n,), and the numbers of all their values, row after row. `changed` rows,
        and rows that are not in the version, are read again each time."""
        is_stored = (rows < len(self._starts)) & ~np.isin(rows, changed)
        with self._lock:
            for row in rows[is_stored][self._starts[rows[is_stored]] < 0].tolist():
                codes = self._read(product_of(row))
                self._starts[row], self._counts[row] = len(self._codes), len(codes)
                self._codes.extend(codes)
            others = [self._read(product_of(row)) for row in rows[~is_stored].tolist()]
            starts, counts = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
            starts[is_stored], counts[is_stored] = self._starts[rows[is_stored]], self._counts[rows[is_stored]]
            own = np.array(list(chain.from_iterable(others)), np.int32)
            counts[~is_stored] = list(map(len, others))
            starts[~is_stored] = len(self._codes) + np.cumsum(counts[~is_stored]) - counts[~is_stored]
            known = np.concatenate([np.array(self._codes, np.int32), own])
        places = np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        return counts, known[places].astype(np.int64)

    def _read(self, product: Product) -> list[int]:
        values = (_text(kind, value) for name, kind, value in field_values(product) if name == self._name)
        return [self._numbers.setdefault(text, len(self._numbers)) for text in dict.fromkeys(values)]


def _text(kind: FieldKind, value: Value) -> str:
    """A value as shown in facets, folded."""
    is_time = kind is FieldKind.TIME
    return fold_value(datetime.fromtimestamp(float(value), UTC).isoformat() if is_time else value_text(value))


@dataclass(frozen=True, slots=True, eq=False)
class ProductGroups:
    """The groups of a snapshot's products: those of its version, with live changes applied."""

    stored: StoredGroups
    changed: Rows = field(default_factory=lambda: NO_ROWS)
    """The changed rows, ascending."""

    def with_changes(self, rows: Iterable[int]) -> ProductGroups:
        """These groups after changes of some rows. A changed product keeps its variants."""
        return replace(self, changed=np.union1d(self.changed, np.array([*rows], np.int64)))

    def of(self, rows: Rows, group: str, product_of: ProductOf) -> Rows:
        """The group of each row (n,): `VARIANTS`, or by a field's first value; for a category, the whole path. A
        product without a value is a group by itself."""
        if group == VARIANTS:
            return self.stored.variants(rows)
        counts, numbers = self.stored.values(group).of(rows, product_of, self.changed)
        ends = np.cumsum(counts)
        places = ends - 1 if group == "category" else ends - counts
        found, has_value = rows.copy(), counts > 0
        found[has_value] = -1 - numbers[places[has_value]]
        return found

    def repeated(self, name: str, rows: Rows, keys: Rows, product_of: ProductOf) -> dict[str, int]:
        """Number of times that a product at `rows` (n,) repeats a value that another product of its group has, by
        folded value; `keys` (n,) are the groups."""
        values = self.stored.values(name)
        counts, numbers = values.of(rows, product_of, self.changed)
        texts = values.texts
        groups = np.repeat(np.unique(keys, return_inverse=True)[1], counts)
        once = np.unique(groups * len(texts) + numbers) % max(len(texts), 1)
        surplus = np.bincount(numbers, minlength=len(texts)) - np.bincount(once, minlength=len(texts))
        return {texts[at]: int(surplus[at]) for at in np.flatnonzero(surplus).tolist()}


class CandidateGroups:
    """The groups of a search's candidates."""

    def __init__(self, rows: Rows, keys_of: Callable[[Rows], Rows]) -> None:
        """`rows` (n,) is the whole candidate set, in any order; `keys_of` returns the groups of given rows."""
        self._keys_of = keys_of
        self._rows = np.sort(rows)
        self._keys = keys_of(self._rows)
        self._groups, self._counts = np.unique(self._keys, return_counts=True)

    @property
    def total(self) -> int:
        """The number of groups."""
        return len(self._groups)

    def count(self, rows: Rows) -> int:
        """The number of groups among some candidates (n,)."""
        return len(np.unique(self._keys_of(rows)))

    def members(self, row: int) -> Rows:
        """The candidates in a row's group, ascending."""
        members: Rows = self._rows[self._keys == self._keys_of(np.array([row]))[0]]
        return members

    def collapse(self, rows: Rows, kept: Rows = NO_ROWS) -> Rows:
        """The first row of each group in the order of `rows` (n,), or the row in `kept` if the group has one."""
        keys, kept_keys = self._keys_of(rows), self._keys_of(kept)
        is_candidate = ~np.isin(keys, kept_keys) | np.isin(rows, kept)
        rows, keys = rows[is_candidate], keys[is_candidate]
        return rows[np.sort(np.unique(keys, return_index=True)[1])]

    def first(self, fetch: Callable[[int], Rows], end: int, kept: Rows = NO_ROWS) -> Rows:
        """At least the first `end` hits, or all; `fetch` returns that many first candidates in order, or all."""
        wanted = end
        while True:
            rows = fetch(wanted)
            found = self.collapse(rows, kept)
            if len(found) >= min(end, self.total) or len(rows) < wanted:
                return found
            wanted *= 4

    def facets(
        self, facets: Mapping[str, Facet], size: int, repeated: Callable[[str, Rows, Rows], Mapping[str, int]]
    ) -> dict[str, Facet]:
        """Facets over all candidates that count groups: a group counts once for each value that any of its products
        has, and `size` values are kept. `repeated` is that of `ProductGroups`."""
        is_shared = (self._counts > 1)[np.searchsorted(self._groups, self._keys)]
        rows, keys = self._rows[is_shared], self._keys[is_shared]
        return {name: _reduced(facet, repeated(name, rows, keys), size) for name, facet in facets.items()}


def _reduced(facet: Facet, repeated: Mapping[str, int], size: int) -> Facet:
    counts = [
        replace(each, count=each.count - repeated.get(fold_value(value_text(each.value)), 0)) for each in facet.counts
    ]
    counts.sort(key=lambda each: (-each.count, isinstance(each.value, str), each.value))
    return replace(facet, counts=tuple(counts[:size]))


def diversify(
    relevance: NDArray[np.float64], similarity: NDArray[np.float64], leading: int, diversity: float
) -> NDArray[np.int64]:
    """The order of c products by maximal marginal relevance (Carbonell & Goldstein 1998, section 2): the next has the
    highest (1 - diversity) * relevance - diversity * similarity to the most similar one before it; ties keep order.

    `relevance` (c,) and `similarity` (c, c) are between 0 and 1; the first `leading` products keep their places.
    """
    chosen = list(range(leading))
    rest = np.arange(leading, len(relevance))
    nearest = similarity[:, :leading].max(axis=1, initial=0.0)
    while len(rest):
        best = int(np.argmax((1 - diversity) * relevance[rest] - diversity * nearest[rest]))
        chosen.append(int(rest[best]))
        nearest = np.maximum(nearest, similarity[:, chosen[-1]])
        rest = np.delete(rest, best)
    return np.array(chosen, np.int64)


def product_similarity(vectors: Vectors, unrelated: float) -> NDArray[np.float64]:
    """The cosines of unit vectors (c, dimension), scaled from 0 for `unrelated` products to 1 (c, c)."""
    cosines = np.einsum("ik,jk->ij", vectors, vectors).astype(np.float64)
    return np.asarray(np.clip((cosines - unrelated) / (1 - unrelated), 0.0, 1.0))
