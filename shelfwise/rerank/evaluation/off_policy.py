"""Off-policy evaluation: estimates what other rankings would have achieved, from the log of the served ones.

The value of a ranking is the number of acts that a search brings on its first K positions. A product gains examination
times attractiveness, so a ranking B of queries q, each searched n_q times, brings

    sum over q, k of  n_q * examination(B_q, k) * attractiveness(q, B_q[k])

The estimate is CDR, which needs no lists that vary by exploration. A click is weighted by the ratio of the
probabilities of clicking its product under the new ranking and under the logged ones (CIPS: Tanaka et al. 2026, Off-
Policy Evaluation for Ranking Policies under Deterministic Logging Policies, arXiv 2603.21485). Attractiveness cancels:
what remains is the examination of the new position over the mean examination that its query's lists gave the product. A
direct model makes it doubly robust (for clicks: Oosterhuis 2023, Doubly robust estimation for correcting position bias
in click feedback for unbiased learning to rank). Weights that sum to one cancel the direct model wherever a product was
shown, so it matters only for products that never were.

Examination is that of the user browsing model, by position and last click above; under a new ranking, the clicks above
are expected ones. Shoppers are weighted by the Bayesian bootstrap (Rubin 1981), and examination
is fitted again each time. Clicks do not show how attractive a product is that was never shown: at the lower end it
counts as nothing, at the upper end as much as the rest of its ranking. Both ends are as wide as such a range needs
(Imbens & Manski 2004, Confidence intervals for partially identified parameters). No click model is exact, so both ends
are widened by as much as the position-based model would move them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from shelfwise.rerank.click_models.click_log import NOTHING, ClickLog, Flags, Floats, Ints, outcomes, shown_places, sums
from shelfwise.rerank.click_models.models import (
    Cells,
    PairPrior,
    PositionBased,
    last_click,
    rank_prior,
    slot_examination,
)
from shelfwise.rerank.evaluation.statistics import ALPHA

if TYPE_CHECKING:
    import polars as pl

OUTCOMES = ("clicks", "carts", "purchases")
"""The last axis of `LoggedSearches.acts`."""
FIRST = 10
"""The number of positions that count."""
MIN_EFFECTIVE = 100.0
"""The effective acts (Kish) that an estimate needs: with fewer, a few heavily weighted ones decide it."""
MIN_OVERLAP = 0.5
"""The share of the new ranking, by examination, that the log must have shown."""
_REPLICATES = 100
_TINY = 1e-12
_NO_SEARCH = "there is no search to evaluate it on"


@dataclass(frozen=True, slots=True, eq=False)
class LoggedSearches:
    """Answered searches, and the acts on them."""

    log: ClickLog
    """The n lists. The pairs of the rankings to evaluate use the same numbers."""
    acts: Flags
    """(n, depth, 3): whether the product at each position was clicked, carted, bought."""
    query: Ints
    """(pairs,): the number of each pair's query."""
    shopper: Ints
    """(n,): the number of each list's shopper, from 0. Shoppers are independent of each other, their lists are not."""
    evaluated: Flags
    """(n,): the lists that are evaluated; the others are used only to estimate examination. Lists on which a ranking
    was trained must not be among them."""


def logged_searches(
    events: pl.DataFrame,
    rankings: Sequence[Mapping[str, Sequence[str]]],
    begins: datetime | None = None,
    *,
    first: int = FIRST,
    depth: int = 20,
) -> tuple[LoggedSearches, tuple[Ints, ...]]:
    """The log of cleaned events, and rankings, given as product ids by query, best first, for the same queries.

    `events` has the columns of `shelfwise.rerank.click_models.click_log.click_log`, and who or shopper. The lists of
    the rankings' queries that were shown from `begins` on are evaluated, on the `first` positions; the first `depth`
    positions are read.
    """
    import polars as pl

    happened = outcomes(events, depth)
    numbers = {query: at for at, query in enumerate(happened.pairs["query"].unique(maintain_order=True))}
    places = dict(zip(happened.pairs.select("query", "product_id").iter_rows(), range(happened.log.count), strict=True))
    query = list(happened.query)
    made = [np.full((len(numbers), first), NOTHING, np.int32) for _ in rankings]
    for ranking, table in zip(rankings, made, strict=True):
        for name, products in ranking.items():
            for at, product in enumerate(products[:first] if name in numbers else ()):
                table[numbers[name], at] = places.setdefault((name, product), len(places))
                query += [numbers[name]] * (len(places) - len(query))
    whose = "who" if "who" in events.columns else "shopper"
    impressions = events.filter((pl.col("kind").cast(pl.String) == "impression") & (pl.col("query_id") != ""))
    shown = impressions.group_by("query_id").agg(pl.col(whose).min(), start=pl.col("time").min())
    lists = shown_places(events, depth).select("row", "query_id", "query").unique("row").join(shown, on="query_id")
    lists = lists.sort("row")
    is_later = np.ones(lists.height, np.bool_) if begins is None else (lists["start"] >= begins).to_numpy()
    known = lists["query"].is_in(list(rankings[0])).to_numpy()
    log = ClickLog(happened.log.pairs, happened.log.clicks, len(places))
    shopper = lists[whose].rank("dense").to_numpy().astype(np.int32) - 1
    searches = LoggedSearches(log, happened.acts, np.array(query, np.int32), shopper, is_later & known)
    return searches, tuple(made)


@dataclass(frozen=True, slots=True)
class OutcomeEstimate:
    """One outcome of a search with the new ranking."""

    outcome: str
    """One of `OUTCOMES`."""
    before: float
    """The outcome per search of the reference: as observed, or estimated for another ranking."""
    after: float
    """The outcome per search of the new ranking."""
    difference: float
    low: float
    high: float
    """Ends of the 95% interval of the difference."""
    effective: float
    """Effective acts (Kish 1965, Survey Sampling, section 11.7) that the estimate rests on."""

    @property
    def is_sure(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class OffPolicyEstimate:
    """A ranking's estimates, clicks first; outcomes with fewer than `MIN_EFFECTIVE` acts are left out."""

    searches: int
    shoppers: int
    depth: int
    """The number of positions that count."""
    overlap: float
    """0 to 1: the share of the new ranking, by examination, that the log has shown for its query."""
    outcomes: tuple[OutcomeEstimate, ...] = ()
    refusal: str = ""
    """The reason why the log does not suffice; empty if it does."""

    def describe(self, name: str, before: str = "what was served") -> str:
        """A sentence for display; `name` is that of the new ranking, `before` that of its reference."""
        if self.refusal:
            return f"The log does not show what {name} would have achieved: {self.refusal}"
        clicks = self.outcomes[0]
        difference, low, high = (
            each / max(clicks.before, _TINY) for each in (clicks.difference, clicks.low, clicks.high)
        )
        sure = "surely more" if clicks.low > 0 else "surely fewer" if clicks.high < 0 else "which may be chance"
        return (
            f"By the clicks of {self.searches:,} searches, {name} would have brought {clicks.after:.3f} clicks a "
            f"search and {before} {clicks.before:.3f}: {difference:+.1%} (95%: {low:+.1%} to {high:+.1%}), {sure}"
        )


def evaluate_rankings(
    searches: LoggedSearches,
    rankings: Sequence[Ints],
    base: Ints | None = None,
    *,
    replicates: int = _REPLICATES,
    seed: int = 0,
) -> tuple[OffPolicyEstimate, ...]:
    """Estimates of rankings (queries, K): the pairs that each query would show, best first, -1 if there is none.

    The first K positions count, at most as many as the log has. The reference is `base`, a ranking of the same shape,
    or what the evaluated lists showed.
    """
    if not searches.evaluated.any():
        return tuple(OffPolicyEstimate(0, 0, each.shape[1], 0.0, refusal=_NO_SEARCH) for each in rankings)
    counts, random = _Counts(searches), np.random.default_rng(seed)
    policies, simpler = (
        [_Policy(each, ranking, None if base is None else _Policy(each, base)) for ranking in rankings]
        for each in (counts, _Counts(searches, by_last_click=False))
    )
    drawn = np.empty((len(policies), replicates, 2, len(OUTCOMES)))
    # Threads of small equations busy-wait for each other, on a loaded machine for most of the time.
    with threadpool_limits(1):
        for number in range(replicates):
            evidence = counts.weighed(random.standard_exponential(counts.shoppers))
            drawn[:, number] = [policy.bounds(evidence) for policy in policies]
        parts = zip(policies, simpler, drawn, strict=True)
        return tuple(_estimate(counts, *each) for each in parts)


@dataclass(frozen=True, slots=True, eq=False)
class _Evidence:
    """The evaluated lists under one weighting of the shoppers."""

    lists: Floats
    """(queries,): the weighted number of lists."""
    gamma: Floats
    """(depth, depth): the examination of each position - 1 by the position of the last click above, 0 for none."""
    looks: Floats
    """(places,): examinations at each place of the evaluated lists, times the weight of the list."""
    acts: Floats
    """(cells, 3)"""
    examined: Floats
    """(pairs,): the sum of the looks."""
    rates: Floats
    """(pairs, 3): acts per examination; 0 for pairs that were never shown."""

    @property
    def total(self) -> float:
        return max(float(self.lists.sum()), _TINY)


class _Counts:
    """A log by cells, which are pairs at positions; its shoppers can be weighted repeatedly.

    The examination of a position depends on where the last click above was, as in the user browsing model (Dupret &
    Piwowarski 2008), or on nothing else, as in the position-based one.
    """

    def __init__(self, searches: LoggedSearches, *, by_last_click: bool = True) -> None:
        log = searches.log
        self.searches, self.depth, self.pairs = searches, log.depth, log.count
        self.queries = int(searches.query.max(initial=-1)) + 1
        shown = log.shown
        row, position = np.nonzero(shown)
        keys = log.pairs[shown].astype(np.int64) * log.depth + position
        self.keys, cell = np.unique(keys, return_inverse=True)
        self.pair, self.position = np.divmod(self.keys, log.depth)
        slots = np.arange(log.depth) * log.depth + (last_click(log) if by_last_click else 0 * log.pairs)
        self.slots, slot = np.unique(
            log.pairs[shown].astype(np.int64) * log.depth**2 + slots[shown], return_inverse=True
        )
        _, self._number = np.unique(searches.shopper, return_inverse=True)
        self.shoppers = int(self._number.max(initial=-1)) + 1
        here, acted = searches.evaluated[row], searches.acts[shown]
        self._all, self._clicked = (slot, row), (slot[log.clicks[shown]], row[log.clicks[shown]])
        self._places = [(cell[each], row[each]) for each in (here, *(here & each for each in acted.T))]
        self._slot = slots[shown][here]
        self._query = np.append(searches.query, NOTHING)[log.pairs.max(axis=1, initial=NOTHING)]
        self._counted = searches.evaluated & (self._query != NOTHING)
        was_shown = np.zeros(self.pairs, np.bool_)
        was_shown[self.pair[cell[here]]] = True
        self.was_shown, self.unseen = was_shown, np.flatnonzero(~was_shown)

    def weighed(self, weights: Floats) -> _Evidence:
        """The evidence with these weights (shoppers,)."""
        rows = weights[self._number]
        gamma = self._examination(rows)
        acts = [sums(cell, rows[row], len(self.keys)) for cell, row in self._places[1:]]
        cell, row = self._places[0]
        looks = rows[row] * gamma.ravel()[self._slot]
        examined = sums(self.pair[cell], looks, self.pairs)
        totals = np.column_stack([sums(self.pair, each, self.pairs) for each in acts])
        rates = np.divide(totals, examined[:, None], out=np.zeros(totals.shape), where=examined[:, None] > 0)
        lists = sums(self._query[self._counted], rows[self._counted], self.queries)
        return _Evidence(lists, gamma, looks, np.column_stack(acts), examined, rates)

    def _examination(self, rows: Floats) -> Floats:
        """(depth, depth): `_Evidence.gamma` from all lists with the weights (n,)."""
        shown, clicks = (sums(slot, rows[row], len(self.slots)) for slot, row in (self._all, self._clicked))
        pair, slot = np.divmod(self.slots, self.depth**2)
        # Slots that occur in no list are left out: the equations are then solved in a fraction of the time.
        known, slot = np.unique(slot, return_inverse=True)
        found = np.full(self.depth**2, np.nan)
        found[known] = slot_examination(Cells(pair, slot, clicks, shown - clicks, self.pairs, len(known)))
        gamma = found.reshape(self.depth, self.depth)
        alone = np.nan_to_num(gamma[:, :1])
        return np.where(np.isnan(gamma), alone, gamma)

    def served(self, evidence: _Evidence, depth: int) -> tuple[Floats, Floats]:
        """The outcomes of the lists on their first positions (3,), and how often each product was examined (pairs,)."""
        cell = self._places[0][0]
        first = self.position[cell] < depth
        observed = evidence.acts[self.position < depth].sum(axis=0) / evidence.total
        return observed, sums(self.pair[cell[first]], evidence.looks[first], self.pairs)

    @cached_property
    def whole(self) -> _Evidence:
        """The evidence with every shopper counted once."""
        return self.weighed(np.ones(self.shoppers))

    @cached_property
    def evaluated_shoppers(self) -> int:
        """The number of shoppers of evaluated lists."""
        return len(np.unique(self._number[self._counted]))

    @cached_property
    def moved_clicks(self) -> int:
        """Clicks on products that their query's lists had at several positions, which determine examination."""
        several = np.bincount(self.pair, minlength=self.pairs) > 1
        return int(several[self.slots[self._clicked[0]] // self.depth**2].sum())

    @cached_property
    def prior(self) -> PairPrior:
        """The prior of attractiveness, by a product's positions in the query's lists and by the query's level; a
        product that was never in them counts like the query's least attractive one."""
        searches = self.searches
        log = searches.log.rows(searches.evaluated)
        prior = rank_prior(log, PositionBased.fit(log, iterations=0), searches.query)
        mean = prior.mean
        # The worst product that a query shows is a bound for those that it never shows.
        of_query, known = searches.query[self.was_shown], mean[self.was_shown]
        least = np.full(self.queries, known.min(initial=1.0))
        least[of_query] = 1.0
        np.minimum.at(least, of_query, known)
        return PairPrior(np.where(self.was_shown, mean, least[searches.query]), prior.strength)

    @cached_property
    def direct_model(self) -> Floats:
        """(pairs, 3): acts per examination by that prior."""
        acts = self.whole.acts.sum(axis=0)
        return np.asarray(self.prior.mean[:, None] * (acts / max(acts[0], _TINY)))


class _Policy:
    """A ranking to evaluate, flattened: one entry for each of its places."""

    def __init__(self, counts: _Counts, ranking: Ints, base: _Policy | None = None) -> None:
        self.counts, self._base, self._ranking, self.depth = counts, base, ranking, ranking.shape[1]
        self._query, self._position = np.nonzero(ranking != NOTHING)
        self._pair = ranking[self._query, self._position].astype(np.int64)

    def _looks(self, evidence: _Evidence) -> Floats:
        """(places,): lists times examination by the user browsing model, averaged over all possible clicks above."""
        clicks = evidence.rates[:, 0] * evidence.examined
        attracted = np.append(self.counts.prior.posterior(clicks, evidence.examined).clip(0.0, 1.0), 0.0)[self._ranking]
        last = np.zeros((len(attracted), self.depth + 1))
        last[:, 0] = 1.0
        looks = np.empty(attracted.shape)
        for position in range(self.depth):
            above = last[:, : position + 1]
            each = above * evidence.gamma[position, : position + 1]
            looks[:, position] = each.sum(axis=1)
            clicked = each * attracted[:, position, None]
            above -= clicked
            last[:, position + 1] = clicked.sum(axis=1)
        return np.asarray((looks * evidence.lists[:, None])[self._query, self._position])

    def _examined(self, evidence: _Evidence) -> Floats:
        """(pairs,): how often the ranking would have each product examined."""
        return sums(self._pair, self._looks(evidence), self.counts.pairs)

    def _compared(self, evidence: _Evidence) -> tuple[Floats, Floats]:
        """The outcomes of the reference (3,), and how often each product is examined under it (pairs,)."""
        if self._base is None:
            return self.counts.served(evidence, self.depth)
        examined = self._base._examined(evidence)
        rates = np.where(self.counts.was_shown[:, None], evidence.rates, self.counts.direct_model)
        return examined @ rates / evidence.total, examined

    def overlap(self, evidence: _Evidence) -> float:
        """The share of examinations on products that the log has shown; of both rankings, the smaller one."""
        looks = self._looks(evidence)
        own = float(looks[self.counts.was_shown[self._pair]].sum()) / max(float(looks.sum()), _TINY)
        return own if self._base is None else min(own, self._base.overlap(evidence))

    def effective(self, evidence: _Evidence) -> Floats:
        """(3,): effective acts, each weighted as in the estimate."""
        known = evidence.examined > 0
        weights = np.divide(self._examined(evidence), evidence.examined, out=np.zeros(len(known)), where=known)
        acts = evidence.rates * evidence.examined[:, None]
        return np.asarray((weights @ acts) ** 2 / np.maximum(weights**2 @ acts, _TINY))

    def figures(self, evidence: _Evidence) -> tuple[Floats, Floats]:
        """(3,) each: the outcomes of the reference per search, and the difference from them."""
        before, compared = self._compared(evidence)
        moved, unseen = self._examined(evidence) - compared, self.counts.unseen
        known = moved @ evidence.rates / evidence.total
        return before, np.asarray(known + moved[unseen] @ self.counts.direct_model[unseen] / evidence.total)

    def bounds(self, evidence: _Evidence) -> Floats:
        """(2, 3): the difference if products that were never shown count as nothing, and if they count as much as the
        rest of the ranking."""
        _, compared = self._compared(evidence)
        examined, unseen = self._examined(evidence), self.counts.unseen
        moved = examined - compared
        typical = examined @ evidence.rates / max(float(examined.sum() - examined[unseen].sum()), _TINY)
        ends = np.array([np.minimum(moved[unseen], 0.0).sum(), np.maximum(moved[unseen], 0.0).sum()])
        return np.asarray((moved @ evidence.rates + ends[:, None] * typical) / evidence.total)


def _estimate(counts: _Counts, policy: _Policy, simpler: _Policy, drawn: Floats) -> OffPolicyEstimate:
    """`drawn` (replicates, 2, 3) are bounds; `simpler` is the policy under the position-based model."""
    overlap, effective = policy.overlap(counts.whole), policy.effective(counts.whole)
    made = OffPolicyEstimate(round(counts.whole.total), counts.evaluated_shoppers, policy.depth, overlap)
    made = replace(made, refusal=_refusal(counts, overlap, float(effective[0])))
    if made.refusal:
        return made
    ends, spread = policy.bounds(counts.whole), drawn.std(axis=0, ddof=1)
    model_error = np.abs(simpler.bounds(simpler.counts.whole) - ends)
    outcomes = _outcomes(policy.figures(counts.whole), ends, spread, model_error, effective)
    return replace(made, outcomes=tuple(outcomes))


def _refusal(counts: _Counts, overlap: float, effective: float) -> str:
    if counts.moved_clicks < MIN_EFFECTIVE:
        return (
            f"{counts.moved_clicks:,} clicks are on products that a query's lists had at several positions, but "
            f"{MIN_EFFECTIVE:.0f} are needed to separate position and product; ranker.exploration varies positions"
        )
    if overlap < MIN_OVERLAP:
        return f"the log has shown {overlap:.0%} of what the new ranking shows first, {MIN_OVERLAP:.0%} are needed"
    if effective < MIN_EFFECTIVE:
        return f"the estimate would rest on {effective:,.0f} effective clicks, {MIN_EFFECTIVE:.0f} are needed"
    return ""


def _outcomes(
    found: tuple[Floats, Floats], ends: Floats, spread: Floats, model_error: Floats, effective: Floats
) -> Iterator[OutcomeEstimate]:
    """`found` are the figures of a policy; `ends`, their standard errors `spread` and their model errors are (2, 3)."""
    for at, outcome in enumerate(OUTCOMES):
        if at and effective[at] < MIN_EFFECTIVE:
            continue
        before, difference = (float(each[at]) for each in found)
        reach = bounds_quantile(float(ends[1, at] - ends[0, at]), float(spread[:, at].max()))
        low, high = (float(each) for each in ends[:, at] + (reach * spread[:, at] + model_error[:, at]) * (-1, 1))
        yield OutcomeEstimate(
            outcome,
            before,
            before + difference,
            difference,
            min(low, difference),
            max(high, difference),
            float(effective[at]),
        )


def bounds_quantile(width: float, deviation: float, alpha: float = ALPHA) -> float:
    """The number of standard deviations by which an interval extends beyond two bounds at this distance to contain the
    truth with probability 1 - alpha: the two-sided quantile if they coincide, near the one-sided one if they are far
    apart (Imbens & Manski 2004, section 4)."""
    normal = NormalDist()
    low, high = normal.inv_cdf(1.0 - alpha), normal.inv_cdf(1.0 - alpha / 2)
    apart = width / max(deviation, _TINY)
    for _ in range(40):
        middle = (low + high) / 2
        holds = normal.cdf(middle + apart) - normal.cdf(-middle) >= 1.0 - alpha
        low, high = (low, middle) if holds else (middle, high)
    return high
