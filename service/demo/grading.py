"""Grades from the catalog's latent structure: what a query is after, and how well each product answers it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.records import AttributeValue
from service.demo.catalog import Catalog, DemoProduct
from service.demo.dice import named_rng
from service.demo.grammar import Scalar

_UNRELATED = 20
"""Products of grade 0 that are judged for each query, half of them from the departments that it is about."""


@dataclass(frozen=True, slots=True)
class Wish:
    """One condition. `field` is an attribute, or brand, price, line or id; a price is a ceiling, all else is equality.

    `weight` is the number of grades that missing it costs.
    """

    field: str
    value: Scalar
    weight: int = 1

    def granted(self, item: DemoProduct) -> bool:
        """Whether the product fulfils it."""
        if self.field == "price":
            return isinstance(self.value, int) and (item.product.price or 0.0) <= self.value
        return _value(item, self.field) == self.value


@dataclass(frozen=True, slots=True)
class Intent:
    """What a query is after: types that it means, types that it could also use, and conditions."""

    targets: tuple[str, ...]
    near: tuple[str, ...]
    wishes: tuple[Wish, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Graded products of one query: positions in the catalog and grades 0 to 3, best first, then by position."""

    positions: NDArray[np.int32]
    grades: NDArray[np.int8]


class Grader:
    """Grades the whole catalog for an intent.

    3: a type that is meant, every wish granted; 2: one wish missed; 1: more missed, or a type that is only near;
    0: a sample of the rest.
    """

    def __init__(self, catalog: Catalog, seed: int) -> None:
        self._catalog = catalog
        self._seed = seed
        self._by_kind = {key: np.array(found, dtype=np.int32) for key, found in catalog.by_kind.items()}
        departments = sorted({kind.path[0] for kind in catalog.kinds.values()})
        self._by_department = {name: self._all_of(self._kinds_in(name)) for name in departments}

    def judge(self, name: str, intent: Intent) -> Judged:
        """All products of the types that are meant or near, and some that are neither (drawn by `name`)."""
        meant = self._all_of(intent.targets)
        near = self._all_of(key for key in intent.near if key not in intent.targets)
        rest = self._unrelated(name, intent)
        grades = np.concatenate(
            [self._graded(meant, intent.wishes), np.ones(len(near), np.int8), np.zeros(len(rest), np.int8)]
        )
        positions = np.concatenate([meant, near, rest])
        order = np.lexsort((positions, -grades))
        return Judged(positions[order], grades[order])

    def _graded(self, positions: NDArray[np.int32], wishes: tuple[Wish, ...]) -> NDArray[np.int8]:
        if not wishes:
            return np.full(len(positions), 3, np.int8)
        products = self._catalog.products
        missed = [sum(w.weight for w in wishes if not w.granted(products[at])) for at in positions.tolist()]
        return np.maximum(1, 3 - np.array(missed, dtype=np.int64)).astype(np.int8)

    def _unrelated(self, name: str, intent: Intent) -> NDArray[np.int32]:
        rng = named_rng(self._seed, f"grading/{name}")
        departments = {self._catalog.kinds[key].path[0] for key in intent.targets}
        close = np.concatenate([self._by_department[department] for department in sorted(departments)])
        drawn = np.concatenate(
            [close[rng.integers(len(close), size=_UNRELATED // 2)], rng.integers(len(self._catalog.products), size=20)]
        )
        related = {*intent.targets, *intent.near}
        kept = (at for at in drawn.tolist() if self._catalog.products[at].line.kind.key not in related)
        return np.array(list(dict.fromkeys(kept))[:_UNRELATED], dtype=np.int32)

    def _kinds_in(self, department: str) -> list[str]:
        return [key for key, kind in self._catalog.kinds.items() if kind.path[0] == department]

    def _all_of(self, keys: Iterable[str]) -> NDArray[np.int32]:
        return np.concatenate([np.empty(0, np.int32), *(self._by_kind[key] for key in keys)])


def _value(item: DemoProduct, name: str) -> AttributeValue | None:
    if name == "line":
        return item.line.number
    if name == "id":
        return item.product.id
    return item.product.brand if name == "brand" else item.product.attributes.get(name)
