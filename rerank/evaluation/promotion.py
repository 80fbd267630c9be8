"""The verdict on a newly trained ranker: whether it may serve, and what it was measured by.

The rule. A challenger is published where it has a ground to be, and nothing speaks against it.

A ground is either of
1. nDCG@10 is better: the whole interval of the difference is above 0;
2. nDCG@10 is not worse, the whole interval being above -`ndcg_margin`, and click likelihood is better: the whole
   interval of its difference is above 0.

Against it speaks, each by its interval lying wholly below 0,
3. any measure over all queries;
4. nDCG@10 or click likelihood on any slice.

Measures of fewer than `least_queries` queries decide nothing, and so no ranker is published on fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rerank.click_models.click_log import Flags, Floats
from rerank.evaluation.statistics import Difference, paired_bootstrap
from retrieval.errors import InputError

NDCG, MRR, LIKELIHOOD = "nDCG@10", "MRR", "click likelihood"
ALL_QUERIES = "all queries"


@dataclass(frozen=True, slots=True)
class GateRules:
    """The numbers in the rule."""

    confidence: float = 0.95
    """Of every interval."""
    ndcg_margin: float = 0.01
    """By how much nDCG@10 might at worst be lower where clicks are foretold better."""
    least_queries: int = 50
    resamples: int = 10_000
    seed: int = 7


DEFAULT_RULES = GateRules()


@dataclass(frozen=True, slots=True, eq=False)
class QueryMeasures:
    """What one ranker reaches on held-out queries, arrays (n,); NaN where a query does not have the measure."""

    ndcg: Floats
    """0 to 1; see `rerank.evaluation.metrics`."""
    reciprocal_rank: Floats
    """0 to 1; see `rerank.evaluation.metrics`."""
    click_likelihood: Floats
    """Natural logarithm, the mean over a query's sessions; see `rerank.evaluation.click_likelihood`. All NaN without
    sessions."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measure of two rankers on one slice."""

    measure: str
    slice: str
    queries: int
    """Those of the slice that have the measure."""
    challenger: float | None = None
    served: float | None = None
    """Weighted means over these queries."""
    difference: Difference | None = None
    """None where too few queries have the measure for it to decide anything."""

    @property
    def is_better(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.difference is not None and self.difference.low > 0

    @property
    def is_worse(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.difference is not None and self.difference.high < 0

    def __str__(self) -> str:
        named = self.measure if self.slice == ALL_QUERIES else f"{self.measure} on {self.slice}"
        found = self.difference
        if found is None:
            return f"{named}: {self.queries:,} queries have it, too few to tell"
        return f"{named} {found.mean:+z.4f} ({found.low:+z.4f} to {found.high:+z.4f}, {self.queries:,} queries)"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a ranker may serve."""

    publish: bool
    reasons: tuple[str, ...]
    """What it is published for, or everything that it is not."""
    comparisons: tuple[Comparison, ...]
    """Every measure over all queries, then those of the slices."""
    rules: GateRules = DEFAULT_RULES


def decide(
    challenger: QueryMeasures,
    served: QueryMeasures,
    traffic: Floats | None = None,
    slices: Sequence[Slice] = (),
    rules: GateRules = DEFAULT_RULES,
) -> Decision:
    """Applies the rule above to two rankers' measures on the same n held-out queries.

    `served` is what is served now: another ranker, or the merged order where there is none. `traffic` (n,) weighs the
    queries; equally without. Raises InputError where arrays differ in length.
    """
    count = len(challenger.ndcg)
    everything = Slice(ALL_QUERIES, np.ones(count, np.bool_))
    weights = np.ones(count) if traffic is None else traffic
    pairs = {
        NDCG: (challenger.ndcg, served.ndcg),
        MRR: (challenger.reciprocal_rank, served.reciprocal_rank),
        LIKELIHOOD: (challenger.click_likelihood, served.click_likelihood),
    }
    for part in (everything, *slices):
        _check_lengths(part, weights, *(array for pair in pairs.values() for array in pair))
    overall = {name: _compared(name, pair, weights, everything, rules) for name, pair in pairs.items()}
    guards = [_compared(name, pairs[name], weights, part, rules) for part in slices for name in (NDCG, LIKELIHOOD)]
    against = [f"worse: {each}" for each in (*overall.values(), *guards) if each.is_worse]
    ground, wanting = _ground(overall[NDCG], overall[LIKELIHOOD], rules)
    reasons = (ground,) if ground and not against else (*against, *wanting)
    return Decision(bool(ground) and not against, reasons, (*overall.values(), *guards), rules)


def _check_lengths(part: Slice, *arrays: Floats) -> None:
    lengths = {len(part.rows), *map(len, arrays)}
    if len(lengths) > 1:
        counts = ", ".join(map(str, sorted(lengths)))
        raise InputError(f"measures, traffic and {part.name} count {counts} queries: one entry for each in all of them")


def _compared(measure: str, pair: tuple[Floats, Floats], weights: Floats, part: Slice, rules: GateRules) -> Comparison:
    challenger, served = pair
    counted = part.rows & ~np.isnan(challenger - served) & (weights > 0)
    queries = int(counted.sum())
    if not queries:
        return Comparison(measure, part.name, 0)
    first, second, weights = challenger[counted], served[counted], weights[counted]
    means = float(np.average(first, weights=weights)), float(np.average(second, weights=weights))
    if queries < rules.least_queries:
        return Comparison(measure, part.name, queries, *means)
    difference = paired_bootstrap(
        first, second, weights, resamples=rules.resamples, confidence=rules.confidence, seed=rules.seed
    )
    return Comparison(measure, part.name, queries, *means, difference)


def _ground(ndcg: Comparison, likelihood: Comparison, rules: GateRules) -> tuple[str, tuple[str, ...]]:
    """What the challenger may be published for, or nothing, and then what each ground lacks beyond being worse."""
    if ndcg.difference is None:
        return "", (f"{NDCG}: {ndcg.queries:,} held-out queries have it; {rules.least_queries:,} are needed",)
    if ndcg.is_better:
        return f"better: {ndcg}", ()
    if ndcg.is_worse:
        return "", ()
    if ndcg.difference.low <= -rules.ndcg_margin:
        return "", (f"not surely better, and perhaps worse by {rules.ndcg_margin:g} or more: {ndcg}",)
    if likelihood.is_better:
        return f"better: {likelihood}; not worse: {ndcg}", ()
    return "", (f"not surely better: {ndcg}", f"not surely better: {likelihood}")


# Slices of held-out queries that a new ranker must not be worse on, however good it is on the whole.

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
