"""Slices of held-out queries that a new ranker must not be worse on, however good it is on the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rerank.clicks.arrays import Flags, Floats

TRAFFIC_NAMES = ("head queries", "torso queries", "tail queries")
NEW_PRODUCTS = "new products"


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """Some of n queries."""

    name: str
    rows: Flags
    """(n,): which ones."""


def traffic_slices(traffic: Floats) -> tuple[Slice, ...]:
    """Head, torso and tail: queries by thirds of the traffic (n,), the most frequent first.

    Queries that are asked equally often are never parted: they go together to the third that their middle is in.
    """
    levels, place, counts = np.unique(-traffic, return_inverse=True, return_counts=True)
    sums = -levels * counts
    middle = (np.cumsum(sums) - sums / 2) / max(float(sums.sum()), np.finfo(np.float64).tiny)
    third = np.minimum((middle * 3).astype(np.int64), 2)[place]
    return tuple(Slice(name, third == number) for number, name in enumerate(TRAFFIC_NAMES))


def new_product_slice(gains: Floats, is_new: Flags) -> Slice:
    """Queries that a new product answers: one of their candidates, (n, c) both, is new and gains something.

    A ranker that lives on past clicks alone loses these.
    """
    return Slice(NEW_PRODUCTS, np.asarray(((gains > 0) & is_new).any(axis=1)))


def language_slices(languages: Sequence[str]) -> tuple[Slice, ...]:
    """One slice for each language of n queries, by name; none where all queries are of one. "" is of no language."""
    of = np.array(languages, dtype=np.str_)
    found = sorted({*languages} - {""})
    return tuple(Slice(f"language {name}", of == name) for name in found) if len(set(languages)) > 1 else ()
