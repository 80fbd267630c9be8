"""Histories of many shoppers in flat arrays, and their input windows, in numpy for training and serving."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Self

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.ranker.features import ACT_KINDS, MAX_ACTS, PADDING
from shelfwise.retrieval.errors import InputError

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
NEWEST, FADING = 8, 0.9
"""The number of last products of a history with which others are compared by text, and the weight of each older one
relative to the next newer one."""
WORTH: Mapping[str, float] = {"cart": 1.1, "purchase": 0.7}
"""The weight of kinds of acts, 1 for others: higher for wanted products, lower for owned ones."""
ONE_CHOICE = 1_800.0
"""Seconds: consecutive acts of one shopper on one product within this pause are one choice, the last of them; those on
any products are one visit."""
MAX_COUNTED = 1_000
"""The number of newest acts of a history whose products count for item neighbours."""
_MINUTE, _HOUR, DAY = 60.0, 3_600.0, 86_400.0
_EDGES = np.array([_MINUTE, _HOUR, *(days * DAY for days in (1, 3, 7, 14, 30, 60, 90, 180, 365))])
GAPS = len(_EDGES) + 2
"""Classes of pauses on a logarithmic scale: 0 is unknown, 1 less than a minute."""


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """The last acts of n shoppers, oldest first, at most `MAX_ACTS` each: arrays (n, w), left-padded with PADDING."""

    products: Ints
    kinds: Ints
    """Indices in `shelfwise.rerank.ranker.features.ACT_KINDS`."""
    gaps: Ints
    """Classes of the pause after each act; the last one's is until the request."""


@dataclass(frozen=True, slots=True, eq=False)
class Histories:
    """The acts of n shoppers end to end, each shopper's oldest first."""

    products: Ints
    """(m,): product rows."""
    kinds: Ints
    """(m,): indices in `shelfwise.rerank.ranker.features.ACT_KINDS`."""
    times: NDArray[np.float64]
    """(m,): seconds since 1970; NaN if unknown."""
    starts: Ints
    """(n + 1,): acts of shopper i are `starts[i]` to `starts[i + 1]`."""

    @classmethod
    def of(
        cls,
        products: Sequence[Sequence[int]],
        kinds: Sequence[Sequence[int]] | None = None,
        times: Sequence[Sequence[float]] | None = None,
    ) -> Self:
        """Builds histories from one list per shopper; `kinds` default to purchases, `times` to unknown. Raises
        InputError if lists differ in length, or for an invalid kind or row."""
        lengths = [len(each) for each in products]
        for name, given in (("kinds", kinds), ("times", times)):
            if given is not None and [len(each) for each in given] != lengths:
                raise InputError(f"{name} are not as many as products: one for each act of each shopper")
        count = sum(lengths)
        made = cls(
            np.fromiter(chain.from_iterable(products), np.int64, count),
            np.full(count, ACT_KINDS.index("purchase"))
            if kinds is None
            else np.fromiter(chain.from_iterable(kinds), np.int64, count),
            np.full(count, np.nan) if times is None else np.fromiter(chain.from_iterable(times), np.float64, count),
            np.cumsum([0, *lengths], dtype=np.int64),
        )
        if count and not (made.kinds.min() >= 0 and made.kinds.max() < len(ACT_KINDS)):
            raise InputError(f"a kind of act must be an index in {', '.join(ACT_KINDS)}: 0 to {len(ACT_KINDS) - 1}")
        if count and made.products.min() < 0:
            raise InputError(f"a product has the row {made.products.min()}: rows count from 0")
        return made

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> Ints:
        """(n,): number of acts."""
        return np.diff(self.starts)

    def of_shopper(self, number: int) -> slice:
        return slice(int(self.starts[number]), int(self.starts[number + 1]))

    def only(self, keep: NDArray[np.bool_]) -> Histories:
        """Keeps the acts of a mask (m,), and all shoppers."""
        kept = np.concatenate([[0], np.cumsum(keep)])
        return Histories(self.products[keep], self.kinds[keep], self.times[keep], kept[self.starts].astype(np.int64))

    def some(self, numbers: Ints) -> Histories:
        lengths = self.lengths[numbers]
        places = np.repeat(self.starts[numbers] - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
        starts = np.concatenate([[0], np.cumsum(lengths)])
        return Histories(self.products[places], self.kinds[places], self.times[places], starts)

    def shuffled(self, random: np.random.Generator) -> Histories:
        """Shuffles simultaneous acts of one shopper, such as the products of a basket."""
        if not len(self.times) or np.isnan(self.times).any():
            return self
        owner = np.repeat(np.arange(len(self)), self.lengths)
        order = np.lexsort((random.random(len(owner)), self.times, owner))
        return Histories(self.products[order], self.kinds[order], self.times[order], self.starts)

    def newest(self, now: NDArray[np.float64] | None = None, width: int = MAX_ACTS) -> Windows:
        """The last acts of shoppers (n, width) at times `now` (n,), in seconds since 1970; NaN or None if unknown."""
        after = np.full(len(self), np.nan) if now is None else np.asarray(now, np.float64)
        return self.windows(np.arange(len(self)), self.starts[1:], after, width)

    def windows(self, owners: Ints, ends: Ints, after: NDArray[np.float64], width: int) -> Windows:
        """The `width` acts before each of `ends` (n,) of its owner; `after` (n,) is the time of the next act."""
        places = ends[:, None] - np.arange(width, 0, -1)
        is_act = places >= self.starts[owners][:, None]
        if not len(self.products):
            empty = np.full(places.shape, PADDING)
            return Windows(empty, empty, np.zeros(places.shape, np.int64))
        safe = np.where(is_act, places, 0)
        times = np.where(is_act, self.times[safe], np.nan)
        following = np.concatenate([times[:, 1:], after[:, None]], axis=1)
        return Windows(
            np.where(is_act, self.products[safe], PADDING),
            np.where(is_act, self.kinds[safe], PADDING),
            gap_classes(following - times),
        )


def visit_numbers(histories: Histories) -> Ints:
    """(m,): the number of each act's visit, ascending; each act with an unknown time is a separate visit."""
    is_first = ~(np.diff(histories.times, prepend=np.nan) <= ONE_CHOICE)
    is_first[histories.starts[:-1][histories.lengths > 0]] = True
    return np.cumsum(is_first).astype(np.int64) - 1


def gap_classes(seconds: NDArray[np.float64]) -> Ints:
    """Classes of pauses, by `GAPS`; 0 for NaN."""
    found = 1 + np.searchsorted(_EDGES, np.nan_to_num(seconds), side="right")
    return np.where(np.isnan(seconds), 0, found).astype(np.int64)


def newest_products(acts: Iterable[tuple[int, int]]) -> dict[int, float]:
    """The last products of acts, which are ordered newest first, as rows with kinds. By row, with the worth of their
    last acts; only as many acts as needed are read."""
    found: dict[int, float] = {}
    for row, kind in acts:
        if row not in found:
            found[row] = WORTH.get(ACT_KINDS[kind], 1.0) * FADING ** len(found)
        if len(found) == NEWEST:
            break
    return found


def certainty(chosen: Floats, prior: float) -> Floats:
    """The share of its own score that a product keeps, by how often (m,) it was chosen."""
    return np.asarray(chosen / np.maximum(chosen + prior, 1e-9), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class TextPlaces:
    """Scores by place: for N products, those that are known from choices."""

    texts: Floats
    """(N,): the similarity of each by its text, ascending."""
    known: Floats
    """(k,): the scores of known products, highest first."""

    @classmethod
    def of(cls, scores: Floats, texts: Floats, shares: Floats) -> Self:
        """The places of products with scores, similarity by text, and shares of their own scores to keep, (N,) each."""
        return cls(np.sort(texts), -np.sort(-scores[shares > 0]))

    def mixed(self, scores: Floats, texts: Floats, shares: Floats) -> Floats:
        """Scores (n,) of products, each of which keeps a share (n,); the rest is the score of the known product that is
        as high in the order of scores as this one is by `texts` (n,). So a new product, of share 0, gets the place that
        its text has, and a product that is chosen often keeps its own."""
        if not len(self.known):
            return scores
        nearer = len(self.texts) - np.searchsorted(self.texts, texts, side="right")
        there = self.known[np.minimum(nearer, len(self.known) - 1)]
        return np.asarray(shares * scores + (1 - shares) * there, np.float32)


def text_scores(vectors: Floats, histories: Histories) -> Floats:
    """The cosine (n, N) of products, given as unit vectors (N, d), with the nearest of each shopper's last products,
    weighted by their worth; -1 for an empty history."""
    made = np.full((len(histories), len(vectors)), -1.0, np.float32)
    for number in range(len(histories)):
        part = histories.of_shopper(number)
        acts = zip(histories.products[part][::-1].tolist(), histories.kinds[part][::-1].tolist(), strict=True)
        worth = newest_products(acts)
        alike = vectors[list(worth)] @ vectors.T * np.array(list(worth.values()), np.float32)[:, None]
        made[number] = alike.max(axis=0, initial=-1.0)
    return made
