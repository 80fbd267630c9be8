"""The gate for a shopper tower: what it foretells of the newest acts, against what serves now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rerank.clicks.arrays import Flags, Floats
from rerank.gate.bootstrap import paired_bootstrap
from rerank.ranker.inputs import ACT_KINDS
from rerank.shoppers.files import TowerReport, Way
from rerank.shoppers.held_out import Held, Score, ranks_by
from rerank.shoppers.histories import Histories, Ints
from rerank.shoppers.measures import hit_rate, ndcg
from retrieval.events.event import EventKind
from service.recommending import FADING, NEWEST, WORTH

LEAST_JUDGED = 50
"""Shoppers whose next act is known."""
TOWER, SERVING, NEAR = "the new tower", "the tower that serves", "near to the last products"
POPULAR, POPULAR_THERE = "popularity", "popularity within the last categories"


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """The ranks of what n shoppers chose next, by one way of recommending."""

    name: str
    found: Ints
    """(n,)."""

    def way(self, rows: Flags) -> Way:
        """What it reaches on some of them (n,)."""
        return Way(self.name, float(hit_rate(self.found[rows]).mean()), float(ndcg(self.found[rows]).mean()))


@dataclass(frozen=True, slots=True, eq=False)
class TowerGate:
    """What a challenger is measured on."""

    vectors: NDArray[np.float32]
    """(N, d): of all products."""
    categories: Ints
    """(N,): numbers of theirs, -1 for none."""
    learned: Histories
    """What was trained on."""
    held: Held
    hide_seen: bool

    def report(self, challenger: Score, serving: Score | None) -> TowerReport:
        """What ways of recommending reach on the same shoppers, and why the challenger is kept aside, if it is.

        It serves where its nDCG@10 is better than that of what serves now, the whole interval of the difference being
        above 0, among 50 shoppers or more. Where no tower serves that is what is near to the last products, or
        popularity within their categories where that is better for sure; that popularity it must not be below in any
        case.
        """
        new = self.judged(TOWER, challenger)
        near, popular_there = self.judged(NEAR, self.near), self.judged(POPULAR_THERE, self.popular_there)
        is_near = paired_bootstrap(ndcg(popular_there.found), ndcg(near.found), seed=7).low <= 0
        towers = [new, *([self.judged(SERVING, serving)] if serving else [])]
        old = towers[1] if serving else near if is_near else popular_there
        ways = [*towers, near, popular_there, self.judged(POPULAR, self.popular)]
        difference = paired_bootstrap(ndcg(new.found), ndcg(old.found), seed=7)
        told = f"nDCG@10 {difference.mean:+.4f} ({difference.low:+.4f} to {difference.high:+.4f}) from {old.name}"
        aside: tuple[str, ...] = ()
        if difference.queries < LEAST_JUDGED:
            aside = (f"{difference.queries:,} shoppers can judge it; {LEAST_JUDGED} are needed",)
        elif difference.low <= 0:
            aside = (f"not surely better: {told}, {difference.queries:,} shoppers",)
        elif (above := float((ndcg(new.found) - ndcg(popular_there.found)).mean())) <= 0:
            aside = (f"no better than {POPULAR_THERE}: nDCG@10 {above:+.4f}, {difference.queries:,} shoppers",)
        everybody = np.ones(len(new.found), np.bool_)
        return TowerReport(
            created="",
            shoppers=len(new.found),
            against=old.name,
            without="near" if is_near else "in-categories",
            ways=tuple(each.way(everybody) for each in ways),
            difference=difference,
            slices={name: tuple(each.way(rows) for each in ways) for name, rows in self.slices().items() if rows.any()},
            aside=aside,
        )

    def judged(self, name: str, score: Score) -> Judged:
        """By whole catalogs, those seen before left out where shops leave them out."""
        found = ranks_by(score, self.held, len(self.vectors), hide_seen=self.hide_seen)
        return Judged(name, found)

    def near(self, histories: Histories, _now: NDArray[np.float64] | None = None) -> NDArray[np.floating]:
        """As `service.recommending` does without a tower."""
        scores = np.full((len(histories), len(self.vectors)), -1.0, np.float32)
        for number in range(len(histories)):
            part = histories.of_shopper(number)
            worth: dict[int, float] = {}
            for row, kind in zip(
                histories.products[part].tolist()[::-1], histories.kinds[part].tolist()[::-1], strict=True
            ):
                if row not in worth and len(worth) < NEWEST:
                    worth[row] = WORTH.get(EventKind(ACT_KINDS[kind]), 1.0) * FADING ** len(worth)
            alike = self.vectors[list(worth)] @ self.vectors.T * np.array(list(worth.values()), np.float32)[:, None]
            scores[number] = alike.max(axis=0, initial=-1.0)
        return scores

    def popular(self, histories: Histories, _now: NDArray[np.float64] | None = None) -> NDArray[np.floating]:
        """What was chosen most."""
        return np.tile(self._counts().astype(np.float32), (len(histories), 1))

    def popular_there(self, histories: Histories, _now: NDArray[np.float64] | None = None) -> NDArray[np.floating]:
        """What was chosen most in the categories of what the shopper chose, then all other products."""
        counts = self._counts().astype(np.float32)
        scores = self.popular(histories)
        for number in range(len(histories)):
            there = self.categories[histories.products[histories.of_shopper(number)]]
            scores[number] += (counts.max() + 1) * np.isin(self.categories, there[there >= 0])
        return scores

    def slices(self) -> Mapping[str, Flags]:
        """Shoppers (n,) by what they had done, and by how often what came next had been chosen."""
        acts, chosen = self.held.histories.lengths, self._counts()[self.held.targets]
        return {
            "shoppers of 1 act": acts == 1,
            "of 2 to 5": (acts >= 2) & (acts <= 5),
            "of more": acts > 5,
            "products that nobody had chosen": chosen == 0,
            "chosen 1 to 10 times": (chosen >= 1) & (chosen <= 10),
            "chosen more often": chosen > 10,
        }

    def _counts(self) -> Floats:
        return np.bincount(self.learned.products, minlength=len(self.vectors)).astype(np.float64)
