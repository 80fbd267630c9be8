"""Held-out evaluation of user towers on the next product of shoppers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rerank.click_models.click_log import Floats
from rerank.user_tower.histories import Histories, Ints, visit_numbers
from rerank.user_tower.tower import UserTower

_MOST_SCORES = 1 << 24
"""Shoppers per block: each has a score for every product."""


Score = Callable[[Histories, NDArray[np.float64] | None], NDArray[np.floating]]
"""Scores (n, N) of all products for n shoppers at times (n,)."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutActs:
    """Histories of n shoppers with the next product and its time; NaN or no times if unknown."""

    histories: Histories
    targets: Ints
    """(n,): rows of products."""
    now: NDArray[np.float64] | None = None
    """(n,): seconds since 1970."""

    def some(self, most: int, seed: int = 0) -> HeldOutActs:
        """A random sample of the shoppers."""
        count = len(self.targets)
        return self.only(np.sort(np.random.default_rng(seed).permutation(count)[:most]))

    def only(self, numbers: Ints) -> HeldOutActs:
        now = None if self.now is None else self.now[numbers]
        return HeldOutActs(self.histories.some(numbers), self.targets[numbers], now)


def split_by_time(
    histories: Histories, share: float, *, hide_seen: bool = False, after: float = -np.inf, whole_visit: bool = False
) -> tuple[Histories, HeldOutActs]:
    """Splits by time: all acts before a moment, and the first product that known shoppers chose after it. The newest
    `share` of acts is held out; the moment is at least `after`, in seconds since 1970. With `hide_seen`, the target is
    the first product that the shopper had not chosen. With `whole_visit`, each later act of the same visit is a target,
    too. If times are unknown, the last act of every shopper with at least
    two is held out."""
    owner = np.repeat(np.arange(len(histories)), histories.lengths)
    if not len(owner) or np.isnan(histories.times).any():
        return _without_last(histories)
    cut = max(np.quantile(histories.times, 1.0 - share), after)
    is_before = histories.times <= cut
    before = histories.only(is_before)
    is_answer = ~is_before
    if hide_seen:
        chosen = owner * (int(histories.products.max()) + 1) + histories.products
        is_answer &= ~np.isin(chosen, chosen[is_before])
    later = np.flatnonzero(is_answer)
    owners, first = np.unique(owner[later], return_index=True)
    visits, opening = visit_numbers(histories), np.zeros(len(histories), np.int64)
    opening[owners] = later[first]
    targets = later[visits[later] == visits[opening[owner[later]]]] if whole_visit else later[first]
    targets = targets[before.lengths[owner[targets]] > 0]
    numbers = owner[targets]
    now = histories.times[opening[numbers]]
    return before, HeldOutActs(before.some(numbers), histories.products[targets], now)


def _without_last(histories: Histories) -> tuple[Histories, HeldOutActs]:
    numbers = np.flatnonzero(histories.lengths > 1)
    last = histories.starts[1:][numbers] - 1
    is_last = np.zeros(len(histories.products), np.bool_)
    is_last[last] = True
    before = histories.only(~is_last)
    return before, HeldOutActs(before.some(numbers), histories.products[last], histories.times[last])


def ranks_of(tower: UserTower, held: HeldOutActs, *, hide_seen: bool) -> Ints:
    """Ranks (n,) of the targets among all products, without those seen before if the tower hides them; a repeated
    choice is then a miss."""
    return ranks_by(tower.scores, held, len(tower.catalog), hide_seen=hide_seen)


def ranks_by(score: Score, held: HeldOutActs, count: int, *, hide_seen: bool) -> Ints:
    """The same for any scorer of a catalog of `count` products."""
    found = [np.empty(0, np.int64)]
    for part, seen in in_parts(held, count, hide_seen=hide_seen):
        found.append(ranks(score(part.histories, part.now), part.targets, seen))
    return np.concatenate(found)


def in_parts(held: HeldOutActs, count: int, *, hide_seen: bool) -> Iterator[tuple[HeldOutActs, list[Ints] | None]]:
    """Blocks of shoppers whose scores of `count` products fit into memory, with the seen rows to hide."""
    step = max(1, _MOST_SCORES // max(count, 1))
    for start in range(0, len(held.targets), step):
        part = held.only(np.arange(start, min(start + step, len(held.targets))))
        done = part.histories
        yield part, [done.products[done.of_shopper(each)] for each in range(len(done))] if hide_seen else None


def ranks(scores: NDArray[np.floating], targets: Ints, hidden: Sequence[Ints] | None = None) -> Ints:
    """Ranks (n,) of the targets among all products, from 1; scores (n, N). Hidden rows are ignored; a hidden target has
    the last rank. Ties and non-finite scores rank the target last."""
    shown = np.array(scores, copy=hidden is not None)
    target = shown[np.arange(len(shown)), targets].copy()
    for number, rows in enumerate(hidden or ()):
        shown[number, rows] = -np.inf
        if targets[number] in rows:
            target[number] = -np.inf
    before: Ints = (~(shown < target[:, None])).sum(axis=1).astype(np.int64)
    return np.maximum(before, np.int64(1))


def hit_rate(found: Ints, depth: int = 10) -> Floats:
    """(n,): 1 if the rank is within the depth."""
    return (found <= depth).astype(np.float64)


def ndcg(found: Ints, depth: int = 10) -> Floats:
    """(n,): nDCG of one relevant item, 1 / log2(rank + 1) within the depth (Järvelin & Kekäläinen 2002, section 3)."""
    return np.where(found <= depth, 1.0 / np.log2(found + 1.0), 0.0)
