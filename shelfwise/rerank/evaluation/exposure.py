"""Exposure of groups of products: how attention is divided among them, compared with their merit.

The exposure of a product is the sum of the probabilities that its impressions were examined, from a click model. Its
target gives each product of a query exposure in proportion to its merit (Singh & Joachims 2018, Fairness of Exposure in
Rankings, section 4.2; Biega, Gummadi & Weikum 2018, Equity of Attention), and merit is the rate of clicks for each
examined impression, or a grade.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.evaluation.statistics import Estimate

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_SMOOTHING = 5.0
"""The weight of the mean click rate in the merit of a pair of query and product, in examined impressions."""


@dataclass(frozen=True, slots=True, eq=False)
class PairExposure:
    """The p pairs of a query and a product in a log."""

    query: Indices
    """(p,): the query's number, from 0."""
    group: Indices
    """(p,): the product's group number, from 0."""
    exposure: Floats
    """(p,): examined impressions."""
    clicks: Floats
    """(p,): the number of clicks."""


@dataclass(frozen=True, slots=True)
class GroupShare:
    """One group's shares of all exposure."""

    exposure: float
    target: float
    """The share that it deserves by merit."""
    ratio: Estimate
    """Exposure per unit of the target: 1 corresponds to merit; the interval is from a bootstrap over queries."""


@dataclass(frozen=True, slots=True)
class ExpectedExposure:
    """Expected exposure of one or more queries (Diaz et al. 2020, Evaluating Stochastic Rankings with Expected
    Exposure, section 3.2), as means over queries."""

    loss: float
    """The squared distance of exposure and target: disparity - 2 relevance + the square of the target."""
    disparity: float
    """The square of the exposure: lowest if all products of a query have the same."""
    relevance: float
    """The inner product of exposure and target."""


def target_by_merit(pairs: PairExposure) -> Floats:
    """(p,): the exposure of each query, divided in proportion to merit: clicks per examined impression, shrunk to the
    mean rate."""
    rate = float(pairs.clicks.sum()) / max(float(pairs.exposure.sum()), 1e-12)
    merit = (pairs.clicks + _SMOOTHING * rate) / (pairs.exposure + _SMOOTHING)
    of_query = np.bincount(pairs.query, pairs.exposure)
    total = np.bincount(pairs.query, merit).clip(min=1e-12)
    return np.asarray(of_query[pairs.query] * merit / total[pairs.query])


def group_shares(pairs: PairExposure, groups: int, resamples: int = 1_000, seed: int = 7) -> list[GroupShare]:
    """The shares of each of `groups` groups."""
    queries = int(pairs.query.max(initial=-1)) + 1
    cell, size = pairs.query * groups + pairs.group, queries * groups
    exposure, target = (
        np.bincount(cell, values, size).reshape(queries, groups) for values in (pairs.exposure, target_by_merit(pairs))
    )
    whole = max(float(exposure.sum()), 1e-12)
    chances = np.full(max(queries, 1), 1 / max(queries, 1))
    drawn = np.random.default_rng(seed).multinomial(queries, chances, resamples)[:, :queries].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (drawn @ exposure) / (drawn @ target)
        means = exposure.sum(axis=0) / target.sum(axis=0)
    found = []
    for group in range(groups):
        known = ratios[np.isfinite(ratios[:, group]), group]
        ends = np.percentile(known, [2.5, 97.5]).tolist() if len(known) else (None, None)
        mean = float(means[group]) if np.isfinite(means[group]) else 0.0
        ratio = Estimate(mean, *ends)
        found.append(GroupShare(float(exposure[:, group].sum()) / whole, float(target[:, group].sum()) / whole, ratio))
    return found


def gini(values: Floats) -> float:
    """The Gini coefficient of non-negative values (n,): 0 if all are equal, near 1 if one has everything."""
    ordered, count = np.sort(values), len(values)
    total = float(ordered.sum())
    if not count or total <= 0:
        return 0.0
    return float(2 * (np.arange(1, count + 1) @ ordered) / (count * total) - (count + 1) / count)


def attention_distance(shares: Sequence[float], target: Sequence[float]) -> float:
    """Attention-weighted rank fairness (Sapiezynski et al. 2019, Quantifying the Impact of User Attention on Fair Group
    Representation in Ranked Lists; AWRF in Raj & Ekstrand 2022, Measuring Fairness in Ranked Results): the total
    variation distance between the groups' shares of attention and a target; 0 if they are equal, at most 1."""
    return float(np.abs(np.asarray(shares) - np.asarray(target)).sum() / 2)


def expected_exposure(query: Indices, exposure: Floats, target: Floats) -> ExpectedExposure:
    """Expected exposure over pairs (p,) of queries and products; a query counts once, by shares of its exposure."""
    total = np.bincount(query, exposure).clip(min=1e-12)[query]
    own, wanted = exposure / total, target / total
    queries = max(len(np.unique(query)), 1)
    loss, disparity, relevance = (float(each.sum()) / queries for each in ((own - wanted) ** 2, own**2, own * wanted))
    return ExpectedExposure(loss, disparity, relevance)
