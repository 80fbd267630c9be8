"""Purchases for tests of recommending: shops in which one product always follows another."""

from __future__ import annotations

import numpy as np

from benchmarks.studies.purchases import Case, Ints, Material, Part, Purchases, PurchaseSet
from retrieval.events.stored import DAY_MS

PAIRS = 20
PRODUCTS = 2 * PAIRS + 2
"""After product p < 20, p + 20 is bought; nobody bought the last two."""


def chained(shoppers: int, seed: int = 0, *, timed: bool = True) -> Purchases:
    """Three pairs of each shopper, p, p + 20, q, q + 20, r, r + 20: one product a day, each shopper a day later."""
    random = np.random.default_rng(seed)
    first = np.array([random.permutation(PAIRS)[:3] for _ in range(shoppers)])
    products = np.stack((first, first + PAIRS), axis=2).reshape(-1)
    who = np.repeat(np.arange(shoppers), 6)
    times = (np.tile(np.arange(1, 7), shoppers) + who) * DAY_MS
    return Purchases(who, products, np.arange(len(who)), times, timed)


def case(history: list[int], targets: list[int], shopper: int = 0) -> Case:
    """Purchases a day apart, and what came a day after the last."""
    times = np.arange(1, len(history) + 1) * DAY_MS
    return Case(shopper, rows(history), times, rows(targets), (len(history) + 1) * DAY_MS)


def rows(numbers: list[int]) -> Ints:
    """As an array, also where there are none."""
    return np.array(numbers, np.int64)


def unit_vectors(products: int = PRODUCTS, dimension: int = 8) -> np.ndarray:
    """The two of a pair are near to each other, others as it falls."""
    random = np.random.default_rng(5)
    drawn = random.normal(size=(products, dimension))
    drawn[PAIRS : 2 * PAIRS] = drawn[:PAIRS] + 0.1 * drawn[PAIRS : 2 * PAIRS]
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


def material(purchases: Purchases, *, hide_seen: bool = True) -> Material:
    """Of a catalog without categories."""
    return Material(purchases, unit_vectors(), None, hide_seen, seed=1)


def chained_set(shoppers: int) -> PurchaseSet:
    """All pairs teach; a shopper who bought p is to be found p + 20, twice with other shoppers."""
    purchases = chained(shoppers)
    cases = tuple(case([first], [first + PAIRS], shopper) for shopper, first in enumerate(range(PAIRS)))
    more = (case([3, 23, 4], [24, 23], 1), case([], [7], 50), case([5], [41], 51))
    return PurchaseSet(Part(purchases, cases), Part(purchases, (*cases, *more)), "as a test wants it")
