"""Grouped and diverse results: one hit for each group of products, and orders whose products differ.

A group is a product with its variants and near copies, as the rebuild found them, or the products that share a field's
value. Groups are counted over the whole candidate set, so that total, facets and pages agree.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import StoreDamagedError
from retrieval.filters.ast import value_text
from retrieval.filters.schema import FieldCatalog, field_values, fold_value, product_columns
from retrieval.index.keyword import NO_ROWS, Rows, make_facet
from retrieval.index.vectors import Vectors
from retrieval.records import Facet, Product
from retrieval.store.files import load_array
from retrieval.store.manifest import GROUPS_FILE

VARIANTS = "variants"
"""The groups of the rebuild, in place of a field's name."""
MOST_SIBLINGS = 100
"""Ids that a hit has of the other products of its group."""
_UNKNOWN = np.iinfo(np.int64).min

ProductOf = Callable[[int], Product]


class StoredGroups:
    """The groups of a version of `count` products, read when they are first needed. Thread-safe."""

    def __init__(self, folder: Path, count: int) -> None:
        self._path = folder / GROUPS_FILE
        self._count = count
        self._by_field: dict[str, NDArray[np.int64]] = {}
        self._values: dict[str, int] = {}
        self._lock = threading.Lock()

    @cached_property
    def _variants(self) -> NDArray[np.int32]:
        stored = load_array(self._path, mapped=True)
        if stored.shape != (self._count,) or stored.dtype != np.int32:
            message = f"{self._path} holds {stored.dtype}{stored.shape}, not int32({self._count},); rebuild the index"
            raise StoreDamagedError(message)
        return stored

    def variants(self, rows: Rows) -> Rows:
        """The first row in the group of each row (n,); a row that the version does not have is its own group.

        Raises StoreDamagedError where the stored groups are not of the version's products.
        """
        found = rows.copy()
        is_stored = rows < self._count
        found[is_stored] = self._variants[rows[is_stored]]
        return found

    def by_field(self, name: str, rows: Rows, product_of: ProductOf, changed: Collection[int]) -> Rows:
        """The number of each row's value of a field (n,), below 0; the row where it has none. Values are equal as they
        are to a filter; of several the first counts, of a category path the whole. `changed` rows are not cached."""
        with self._lock:
            known = self._by_field.setdefault(name, np.full(self._count, _UNKNOWN))
            found = np.full(len(rows), _UNKNOWN)
            is_stored = (rows < self._count) & ~np.isin(rows, list(changed))
            found[is_stored] = known[rows[is_stored]]
            for place in np.flatnonzero(found == _UNKNOWN).tolist():
                row = int(rows[place])
                text = _value(product_of(row), name)
                found[place] = row if text is None else -1 - self._values.setdefault(text, len(self._values))
            known[rows[is_stored]] = found[is_stored]
            return found


def _value(product: Product, name: str) -> str | None:
    values = [fold_value(value_text(value)) for each, _, value in field_values(product) if each == name]
    return (values[-1] if name == "category" else values[0]) if values else None


@dataclass(frozen=True, slots=True, eq=False)
class ProductGroups:
    """The groups of a snapshot's products: those of its version, with live changes laid over them."""

    stored: StoredGroups
    changed: frozenset[int] = frozenset()

    def with_changes(self, rows: Iterable[int]) -> ProductGroups:
        """These groups after changes of some rows. A product that changed keeps its variants."""
        return replace(self, changed=self.changed.union(rows))

    def of(self, rows: Rows, group: str, product_of: ProductOf) -> Rows:
        """The group of each row (n,): `VARIANTS`, or by the values of a field."""
        if group == VARIANTS:
            return self.stored.variants(rows)
        return self.stored.by_field(group, rows, product_of, self.changed)


class CandidateGroups:
    """The groups of a search's candidates."""

    def __init__(self, rows: Rows, keys_of: Callable[[Rows], Rows]) -> None:
        """`rows` (n,) are the whole candidate set, in any order; `keys_of` gives the group of each of some rows."""
        self._keys_of = keys_of
        self._rows = np.sort(rows)
        self._keys = keys_of(self._rows)
        self._groups, self._counts = np.unique(self._keys, return_counts=True)

    @property
    def total(self) -> int:
        """The number of groups."""
        return len(self._groups)

    def members(self, row: int) -> Rows:
        """The candidates of a row's group, ascending."""
        members: Rows = self._rows[self._keys == self._keys_of(np.array([row]))[0]]
        return members

    def collapse(self, rows: Rows, kept: Rows = NO_ROWS) -> Rows:
        """The first of each group in the order of `rows` (n,); where one of `kept` is in the group, that one."""
        keys, kept_keys = self._keys_of(rows), self._keys_of(kept)
        is_candidate = ~np.isin(keys, kept_keys) | np.isin(rows, kept)
        rows, keys = rows[is_candidate], keys[is_candidate]
        return rows[np.sort(np.unique(keys, return_index=True)[1])]

    def first(self, fetch: Callable[[int], Rows], end: int, kept: Rows = NO_ROWS) -> Rows:
        """At least the first `end` hits, or all; `fetch` gives the first candidates in order, so many or all."""
        wanted = end
        while True:
            rows = fetch(wanted)
            found = self.collapse(rows, kept)
            if len(found) >= min(end, self.total) or len(rows) < wanted:
                return found
            wanted *= 4

    def facets(
        self, facets: Mapping[str, Facet], size: int, catalog: FieldCatalog, product_of: ProductOf
    ) -> dict[str, Facet]:
        """Facets over all candidates, counting groups: a group counts once for each value that any of its products
        has, and `size` values are kept."""
        is_shared = (self._counts > 1)[np.searchsorted(self._groups, self._keys)]
        repeated = _repeated_values(self._rows[is_shared], self._keys[is_shared], list(facets), catalog, product_of)
        return {name: _reduced(facet, repeated[name], size) for name, facet in facets.items()}


def _repeated_values(
    rows: Rows, keys: Rows, fields: Iterable[str], catalog: FieldCatalog, product_of: ProductOf
) -> dict[str, Counter[str]]:
    """By field: how often a product has a value that an earlier one of its group has, by the folded value."""
    repeated = {name: Counter[str]() for name in fields}
    met: set[tuple[int, str, str]] = set()
    for row, key in zip(rows.tolist(), keys.tolist(), strict=True) if repeated else ():
        columns = product_columns(product_of(row), catalog.category_roots, repeated)
        for name, counter in repeated.items():
            texts, numbers = columns.display.get(name, ()), columns.numbers.get(name, ())
            one_each = (((text, 1) for text in texts), ((number, 1) for number in numbers))
            for each in make_facet(catalog.fields[name], *one_each, len(texts) + len(numbers)).counts:
                value = fold_value(value_text(each.value))
                counter[value] += (key, name, value) in met
                met.add((key, name, value))
    return repeated


def _reduced(facet: Facet, repeated: Mapping[str, int], size: int) -> Facet:
    counts = [
        replace(each, count=each.count - repeated.get(fold_value(value_text(each.value)), 0)) for each in facet.counts
    ]
    counts.sort(key=lambda each: (-each.count, isinstance(each.value, str), each.value))
    return replace(facet, counts=tuple(counts[:size]))


def diversify(
    relevance: NDArray[np.float64], similarity: NDArray[np.float64], leading: int, diversity: float
) -> NDArray[np.int64]:
    """The order of c products by maximal marginal relevance (Carbonell & Goldstein 1998, section 2): the next one has
    the highest (1 - diversity) * relevance - diversity * similarity to the most similar one before it; ties in order.

    `relevance` (c,) and `similarity` (c, c) are from 0 to 1; the first `leading` products keep their places.
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
    """The cosines of unit vectors (c, dimension), from 0 for `unrelated` products to 1 (c, c)."""
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    return np.clip((cosines - unrelated) / (1 - unrelated), 0.0, 1.0)
