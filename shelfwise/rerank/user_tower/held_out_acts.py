"""Held-out evaluation of user towers on the next product of shoppers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.click_models.click_log import Floats
from shelfwise.rerank.user_tower.histories import Histories, Ints, visit_numbers
from shelfwise.rerank.user_tower.tower import UserTower

_MAX_SCORES = 1 << 24
"""Scores per block: a visit has one for every product."""


Score = Callable[[Histories, NDArray[np.float64] | None], NDArray[np.floating]]
"""Scores (v, N) of all products for v shoppers at times (v,)."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutActs:
    """v visits of shoppers, and the n products that were chosen in them."""

    histories: Histories
    """(v): the shopper's acts before each visit."""
    targets: Ints
    """(n,): rows of products."""
    visits: Ints
    """(n,): the number of the visit of each target, ascending; every visit has one or more."""
    now: NDArray[np.float64] | None = None
    """(v,): seconds since 1970; NaN or None if unknown."""
    hide_seen: bool = False
    """Whether what the shopper had chosen before a visit is hidden in it; a repeated choice is then a miss."""

    def some(self, most: int, seed: int = 0) -> HeldOutActs:
        """A random sample of the targets, with their visits."""
        count = len(self.targets)
        return self.only(np.sort(np.random.default_rng(seed).permutation(count)[:most]))

    def seen(self) -> list[Ints]:
        """The rows that the shopper of each visit had chosen."""
        done = self.histories
        return [done.products[done.of_shopper(each)] for each in range(len(done))]

    def only(self, numbers: Ints) -> HeldOutActs:
        """The targets of these numbers, ascending, with their visits."""
        kept, visits = np.unique(self.visits[numbers], return_inverse=True)
        now = None if self.now is None else self.now[kept]
        return HeldOutActs(self.histories.some(kept), self.targets[numbers], visits, now, self.hide_seen)


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
        return _without_last(histories, hide_seen=hide_seen)
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
    numbers, of_visit = np.unique(owner[targets], return_inverse=True)
    now = histories.times[opening[numbers]]
    return before, HeldOutActs(before.some(numbers), histories.products[targets], of_visit, now, hide_seen)


def _without_last(histories: Histories, *, hide_seen: bool) -> tuple[Histories, HeldOutActs]:
    numbers = np.flatnonzero(histories.lengths > 1)
    last = histories.starts[1:][numbers] - 1
    is_last = np.zeros(len(histories.products), np.bool_)
    is_last[last] = True
    before = histories.only(~is_last)
    visits = np.arange(len(numbers))
    return before, HeldOutActs(before.some(numbers), histories.products[last], visits, histories.times[last], hide_seen)


def ranks_of(tower: UserTower, held: HeldOutActs) -> Ints:
    """Ranks (n,) of the targets among all products, without those that are hidden."""
    return ranks_by(tower.scores, held, len(tower.catalog))


def ranks_by(score: Score, held: HeldOutActs, count: int) -> Ints:
    """Ranks for any scorer of a catalog of `count` products; see `ranks_of`."""
    found = [np.empty(0, np.int64)]
    for part, seen in in_parts(held, count):
        found.append(ranks(hide(score(part.histories, part.now), seen), part.targets, part.visits))
    return np.concatenate(found)


def in_parts(held: HeldOutActs, count: int) -> Iterator[tuple[HeldOutActs, list[Ints] | None]]:
    """Blocks of visits whose scores of `count` products fit into memory, with the rows to `hide` of each visit."""
    step = max(1, _MAX_SCORES // max(count, 1))
    for start in range(0, len(held.histories), step):
        part = held.only(np.arange(*np.searchsorted(held.visits, (start, start + step))))
        yield part, part.seen() if held.hide_seen else None


def hide(scores: NDArray[np.floating], hidden: Sequence[Ints] | None) -> NDArray[np.floating]:
    """Scores (v, N) in which the rows that are hidden of each visit rank last."""
    if hidden is None:
        return scores
    shown = np.array(scores)
    for number, rows in enumerate(hidden):
        shown[number, rows] = -np.inf
    return shown


def ranks(scores: NDArray[np.floating], targets: Ints, visits: Ints) -> Ints:
    """Ranks (n,) of the targets among all products, from 1, by the scores (v, N) of their visits (n,), ascending. Ties
    and non-finite scores rank the target last."""
    found = np.ones(len(targets), np.int64)
    bounds = np.searchsorted(visits, np.arange(len(scores) + 1))
    for number, shown in enumerate(scores):
        wanted = slice(bounds[number], bounds[number + 1])
        found[wanted] = (~(shown < shown[targets[wanted], None])).sum(axis=1)
    return found


def hit_rate(found: Ints, depth: int = 10) -> Floats:
    """(n,): 1 if the rank is within the depth."""
    return (found <= depth).astype(np.float64)


def ndcg(found: Ints, depth: int = 10) -> Floats:
    """(n,): nDCG of one relevant item, 1 / log2(rank + 1) within the depth (Järvelin & Kekäläinen 2002, section 3)."""
    return np.where(found <= depth, 1.0 / np.log2(found + 1.0), 0.0)
