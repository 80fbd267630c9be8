"""Promotion of trained models: the measured differences with which a challenger may replace the serving model.

Each kind of model has a table of requirements on differences, the challenger minus its reference. Text towers and user
towers must meet every row of theirs. Click rankers are published if one of `RANKER_GROUNDS` is met over all queries
and no measure is worse (its whole interval below 0) over all queries or on a slice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from shelfwise.rerank.click_models.click_log import Flags, Floats
from shelfwise.rerank.evaluation.statistics import Difference, paired_bootstrap

NDCG, MRR, LIKELIHOOD = "nDCG@10", "MRR", "click likelihood"
ALL_QUERIES = "all queries"


@dataclass(frozen=True, slots=True)
class Requirement:
    """A bound that one end of a measure's difference must exceed."""

    measure: str
    end: Literal["low", "mean", "high"] = "low"
    bound: float = 0.0
    or_equal: bool = False
    failure: str = "not surely better: {}"
    """The reason for a rejection; {} is the difference, {against} the reference model."""

    def is_met(self, difference: Difference) -> bool:
        value = float(getattr(difference, self.end))
        return value >= self.bound if self.or_equal else value > self.bound


MIN_JUDGED = 50
"""The fewest queries, or shoppers, for a comparison: measures on fewer decide nothing."""
MERGED_GAIN, SERVED_GAIN = "merged order", "order that serves"
TEXT_TOWERS_GATE = (
    Requirement(MERGED_GAIN),
    Requirement(
        SERVED_GAIN,
        "mean",
        or_equal=True,
        failure="what serves now with its ranker is better than what would serve with them ({}); a ranker can be "
        "trained on them once they serve",
    ),
)
TOWER_GAIN, POPULARITY_GAIN = "what serves", "popularity within the last categories"
USER_TOWER_GATE = (
    Requirement(TOWER_GAIN, failure="not surely better: {}, compared with {against}"),
    Requirement(POPULARITY_GAIN, "mean", failure=f"no better than {POPULARITY_GAIN}: {{}}"),
)


def rejection_reasons(
    gate: Sequence[Requirement], differences: Mapping[str, Difference], unit: str = "queries", against: str = ""
) -> tuple[str, ...]:
    """The reasons why a challenger may not serve, one per failed requirement; empty if it may.

    Rows of the gate without a difference are skipped. `against` names what the challenger would replace.
    """
    judged = min(each.queries for each in differences.values())
    if judged < MIN_JUDGED:
        return (shortage(judged, unit),)
    return tuple(
        row.failure.format(f"{NDCG} {found} over {found.queries:,} {unit}", against=against)
        for row in gate
        if (found := differences.get(row.measure)) is not None and not row.is_met(found)
    )


def shortage(judged: int, unit: str) -> str:
    """The reason if too few queries, or shoppers, can judge."""
    return f"{judged:,} {unit} can be tested on; {MIN_JUDGED} are needed"


NDCG_MARGIN = 0.01
"""Distance by which the interval of nDCG@10 may extend below 0 if click likelihood is better."""
RESAMPLES, _SEED = 10_000, 7


QueryMeasures = Mapping[str, Floats]
"""A ranker's measures on held-out queries (n,), NaN if a query does not have the measure: `NDCG`; with clicks, also
`MRR` and `LIKELIHOOD`, the mean over a query's sessions (see `shelfwise.rerank.click_models.evaluation`)."""

RANKER_GROUNDS = (Requirement(NDCG), Requirement(LIKELIHOOD))
"""A gain in one of these is a ground to publish; for the second, nDCG@10 must also be within `NDCG_MARGIN`."""
RANKER_GUARDS = tuple(Requirement(name, "high", or_equal=True, failure="worse: {}") for name in (NDCG, MRR, LIKELIHOOD))
SLICE_GUARDS = (NDCG, LIKELIHOOD)
"""The measures that are compared on every slice."""


@dataclass(frozen=True, slots=True)
class MeasureComparison:
    """One measure of two rankers on one slice."""

    measure: str
    slice: str
    queries: int
    """The number of queries in the slice that have the measure."""
    challenger: float | None = None
    served: float | None = None
    """Weighted means over these queries."""
    difference: Difference | None = None
    """The difference; None if too few queries have the measure to decide anything."""

    @property
    def is_worse(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.difference is not None and self.difference.high < 0

    def __str__(self) -> str:
        named = self.measure if self.slice == ALL_QUERIES else f"{self.measure} on {self.slice}"
        if self.difference is None:
            return f"{named}: {self.queries:,} queries have it, too few to decide"
        return f"{named} {str(self.difference)[:-1]}, {self.queries:,} queries)"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a ranker may serve."""

    publish: bool
    reasons: tuple[str, ...]
    """The ground for publishing it, or everything that speaks against it."""
    comparisons: tuple[MeasureComparison, ...]
    """Every measure over all queries, then those of the slices."""

    @property
    def rejection_reasons(self) -> tuple[str, ...]:
        """Empty if it may serve."""
        return () if self.publish else self.reasons

    def __str__(self) -> str:
        return f"{'may serve' if self.publish else 'may not serve'}: {'; '.join(self.reasons)}"


def decide(
    challenger: QueryMeasures, served: QueryMeasures, traffic: Floats | None = None, slices: Sequence[Slice] = ()
) -> Decision:
    """Applies the rule for click rankers to two rankers' measures on the same n held-out queries.

    `served` is what serves now: another ranker, or the merged order if there is none. `traffic` (n,) weights the
    queries; without it, all weigh the same.
    """
    count = len(challenger[NDCG])
    everything = Slice(ALL_QUERIES, np.ones(count, np.bool_))
    weights = np.ones(count) if traffic is None else traffic
    pairs = {name: (new, served[name]) for name, new in challenger.items()}
    overall = {name: _compare(name, pair, weights, everything) for name, pair in pairs.items()}
    guarded = [name for name in SLICE_GUARDS if name in pairs]
    sliced = [_compare(name, pairs[name], weights, part) for part in slices for name in guarded]
    comparisons = (*overall.values(), *sliced)
    guards = {row.measure: row for row in RANKER_GUARDS}
    failed = [
        (guards[each.measure], each)
        for each in comparisons
        if each.difference is not None and not guards[each.measure].is_met(each.difference)
    ]
    against = [row.failure.format(each) for row, each in failed]
    ground, missing = _find_ground(overall)
    reasons = (ground,) if ground and not against else (*against, *missing)
    return Decision(bool(ground) and not against, reasons, comparisons)


def _compare(measure: str, pair: tuple[Floats, Floats], weights: Floats, part: Slice) -> MeasureComparison:
    challenger, served = pair
    counted = part.rows & ~np.isnan(challenger - served) & (weights > 0)
    queries = int(counted.sum())
    if not queries:
        return MeasureComparison(measure, part.name, 0)
    first, second, weights = challenger[counted], served[counted], weights[counted]
    means = float(np.average(first, weights=weights)), float(np.average(second, weights=weights))
    if queries < MIN_JUDGED:
        return MeasureComparison(measure, part.name, queries, *means)
    difference = paired_bootstrap(first, second, weights, resamples=RESAMPLES, seed=_SEED)
    return MeasureComparison(measure, part.name, queries, *means, difference)


def _find_ground(overall: Mapping[str, MeasureComparison]) -> tuple[str, tuple[str, ...]]:
    """The ground to publish, or else what is missing for one; neither if nDCG@10 is worse, which is a reason by
    itself."""
    ndcg, grounds = overall[NDCG], [row for row in RANKER_GROUNDS if row.measure in overall]
    if ndcg.difference is None:
        return "", (f"{NDCG}: {ndcg.queries:,} held-out queries have it; {MIN_JUDGED:,} are needed",)
    met = [row for row in grounds if (found := overall[row.measure].difference) and row.is_met(found)]
    within = Requirement(
        NDCG, bound=-NDCG_MARGIN, failure=f"not surely better, and perhaps worse by {NDCG_MARGIN:g} or more: {{}}"
    )
    if ndcg.is_worse:
        return "", ()
    if met and met[0].measure == NDCG:
        return f"better: {ndcg}", ()
    if not within.is_met(ndcg.difference):
        return "", (within.failure.format(ndcg),)
    if met:
        return f"better: {overall[LIKELIHOOD]}; not worse: {ndcg}", ()
    return "", tuple(row.failure.format(overall[row.measure]) for row in grounds)


# Slices of held-out queries on which a new ranker must not be worse, however good it is on the whole.

TRAFFIC_NAMES = ("head queries", "torso queries", "tail queries")
NEW_PRODUCTS, NEW_QUERIES = "new products", "new queries"


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """A subset of n queries."""

    name: str
    rows: Flags
    """(n,): whether each query is in it."""


def traffic_slices(traffic: Floats) -> tuple[Slice, ...]:
    """Head, torso and tail: queries by thirds of the traffic (n,), the most frequent first.

    Queries of equal traffic are in one slice: the third of their middle.
    """
    levels, place, counts = np.unique(-traffic, return_inverse=True, return_counts=True)
    sums = -levels * counts
    middle = (np.cumsum(sums) - sums / 2) / max(float(sums.sum()), np.finfo(np.float64).tiny)
    third = np.minimum((middle * 3).astype(np.int64), 2)[place]
    return tuple(Slice(name, third == number) for number, name in enumerate(TRAFFIC_NAMES))


def new_product_slice(gains: Floats, is_new: Flags) -> Slice:
    """Queries that a new product answers: one of their candidates, (n, c) both, is new and has a gain.

    A ranker that relies on past clicks alone is worse on these.
    """
    return Slice(NEW_PRODUCTS, np.asarray(((gains > 0) & is_new).any(axis=1)))


def new_query_slice(queries: Sequence[str], known: Collection[str]) -> Slice:
    """The queries, of n, that are not among the `known` ones."""
    return Slice(NEW_QUERIES, np.array([query not in known for query in queries], np.bool_))


def language_slices(languages: Sequence[str]) -> tuple[Slice, ...]:
    """One slice for each language of n queries, by name; empty if all have the same. "" means no language."""
    of = np.array(languages, dtype=np.str_)
    found = sorted({*languages} - {""})
    return tuple(Slice(f"language {name}", of == name) for name in found) if len(set(languages)) > 1 else ()
