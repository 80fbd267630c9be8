"""What the demo store shows: a mediocre ranker's order for each query and category, another every two weeks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.demo.catalog import Catalog
from service.demo.dice import named_rng
from service.demo.queries import JudgedQuery

PAGE_SIZE = 10
PERIODS = 3
_DEPTH = 3 * PAGE_SIZE
_GRADE_WEIGHT, _POPULARITY_WEIGHT, _NOISE = 0.35, 0.25, 0.7


@dataclass(frozen=True, slots=True)
class Shelf:
    """Orders of products (positions in the catalog, best first): for each query by its number, each category by its
    narrowest path, and each period. Beside them, the grades of each query.
    """

    queries: tuple[JudgedQuery, ...]
    answers: tuple[tuple[Sequence[int], ...], ...]
    grades: tuple[Mapping[int, int], ...]
    """Query number, then product, to grade; a product that is not there has grade 0."""
    categories: Mapping[tuple[str, ...], tuple[Sequence[int], ...]]


def stock_shelf(catalog: Catalog, queries: tuple[JudgedQuery, ...], seed: int) -> Shelf:
    """Ranks every query's and every category's products, a noisy mix of grade and popularity."""
    popularity = np.log([item.line.popularity for item in catalog.products])
    rng = named_rng(seed, "shelf")
    answers = []
    grades = []
    for entry in queries:
        positions, graded = entry.judged.positions, entry.judged.grades
        orders = _orders(positions, graded.astype(float), popularity, rng)
        kept = {at for order in orders for at in order}
        answers.append(orders)
        grades.append({at: grade for at, grade in zip(positions.tolist(), graded.tolist(), strict=True) if at in kept})
    return Shelf(queries, tuple(answers), tuple(grades), _categories(catalog, popularity, rng))


def _orders(
    positions: NDArray[np.int32], grades: NDArray[np.float64], popularity: NDArray[np.float64], rng: np.random.Generator
) -> tuple[Sequence[int], ...]:
    steady = _GRADE_WEIGHT * grades + _POPULARITY_WEIGHT * popularity[positions]
    scores = [steady + _NOISE * rng.standard_normal(len(positions)) for _ in range(PERIODS)]
    return tuple(tuple(positions[np.argsort(-score, kind="stable")[:_DEPTH]].tolist()) for score in scores)


def _categories(
    catalog: Catalog, popularity: NDArray[np.float64], rng: np.random.Generator
) -> dict[tuple[str, ...], tuple[Sequence[int], ...]]:
    members: dict[tuple[str, ...], list[int]] = {}
    for at, item in enumerate(catalog.products):
        members.setdefault(item.product.category, []).append(at)
    found = {}
    for path, held in sorted(members.items()):
        positions = np.array(held, dtype=np.int32)
        found[path] = _orders(positions, np.zeros(len(positions)), popularity, rng)
    return found
