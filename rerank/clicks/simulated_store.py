"""A store for simulated shoppers: what is true of each query and product, and in which order it lists them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from rerank.clicks.arrays import Floats, Ints
from rerank.clicks.click_log import NOTHING
from retrieval.errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedStore:
    """The truth that shoppers act by; arrays (pairs,) unless said otherwise, of probabilities."""

    rankings: Ints
    """(periods, queries, length): the pairs that each query lists, best first, in each of the equally long periods
    between two changes of the ranking; -1 past the end."""
    traffic: Floats
    """(queries,): how often each is asked; sums to 1."""
    attractiveness: Floats
    """Of a click, once the product is looked at."""
    satisfaction: Floats
    """Of ending the search, once clicked."""
    cart: Floats
    """Of going into the cart, once clicked."""
    purchase: Floats
    """Of being bought, once in the cart."""
    trend: Floats
    """The factor, not a probability, by which attractiveness has changed at the end of the window; 1 for no change."""

    def attractiveness_at(self, passed: Floats, pairs: npt.NDArray[np.integer]) -> Floats:
        """The attractiveness of `pairs` once the share `passed` of the window, alike in shape, is over."""
        return np.asarray(np.minimum(self.attractiveness[pairs] * self.trend[pairs] ** passed, 1.0))


@dataclass(frozen=True, slots=True)
class GradedBehaviour:
    """How grades show in what shoppers do. Each range runs from the lowest grade's probability to the highest's,
    along the gain 2^grade - 1 (as in Ai et al. 2018, Unbiased learning to rank with unbiased propensity estimation,
    section 5.1)."""

    attractiveness: tuple[float, float] = (0.05, 0.6)
    satisfaction: tuple[float, float] = (0.1, 0.7)
    cart: tuple[float, float] = (0.05, 0.3)
    purchase: tuple[float, float] = (0.2, 0.5)
    ranking_noise: float = 0.3
    """Deviation of the ranker's score from the gain, which runs from 0 to 1: 0 ranks by grade."""
    periods: int = 3
    """How many rankings follow each other; half of the noise's variance is drawn anew for each."""
    zipf: float = 0.8
    """The n-th most frequent query is asked 1 / n^zipf times as often as the first."""
    trending: float = 0.0
    """The share of pairs whose attractiveness rises or falls, half of them each."""
    trend: float = 3.0
    """The factor by which it has risen, or fallen, at the end."""


def graded_store(
    grades: Mapping[str, Mapping[str, float]], behaviour: GradedBehaviour = GradedBehaviour(), seed: int = 0
) -> tuple[SimulatedStore, pl.DataFrame]:
    """A store whose shoppers want what was judged good, and its table of pairs.

    `grades` is query to product to grade. The table has the columns pair, query, product_id, grade, and stands in the
    order of the pairs. Raises InputError without any grade.
    """
    table = pl.DataFrame(
        [(query, product, float(grade)) for query, judged in grades.items() for product, grade in judged.items()],
        schema={"query": pl.String, "product_id": pl.String, "grade": pl.Float64},
        orient="row",
    )
    if not table.height:
        raise InputError("there are no grades to simulate shoppers from: judge at least one product")
    random = np.random.default_rng(seed)
    gain = _relative_gain(table["grade"].to_numpy())
    lengths = np.array([len(judged) for judged in grades.values() if judged])
    traffic = 1.0 / random.permutation(np.arange(1, len(lengths) + 1)) ** behaviour.zipf

    def along(ends: tuple[float, float]) -> Floats:
        return np.asarray(ends[0] + (ends[1] - ends[0]) * gain)

    store = SimulatedStore(
        _rankings(gain, lengths, behaviour, random),
        traffic / traffic.sum(),
        along(behaviour.attractiveness),
        along(behaviour.satisfaction),
        along(behaviour.cart),
        along(behaviour.purchase),
        _trends(len(gain), behaviour, random),
    )
    return store, table.with_row_index("pair").with_columns(pl.col("pair").cast(pl.Int32))


def _relative_gain(grades: Floats) -> Floats:
    """2^(grade - lowest) - 1 as a share of the highest; ones where all grades are the same."""
    gain = np.exp2(grades - grades.min()) - 1.0
    highest = gain.max()
    return np.asarray(gain / highest if highest > 0 else np.ones(len(gain)))


def _rankings(gain: Floats, lengths: Ints, behaviour: GradedBehaviour, random: np.random.Generator) -> Ints:
    queries, length = len(lengths), int(lengths.max())
    filled = np.arange(length) < lengths[:, None]
    scores = np.full((behaviour.periods, queries, length), -np.inf)
    lasting = random.normal(size=len(gain))
    noise = (lasting + random.normal(size=(behaviour.periods, len(gain)))) / np.sqrt(2.0)
    scores[:, filled] = gain + behaviour.ranking_noise * noise
    pairs = np.full((queries, length), NOTHING, np.int32)
    pairs[filled] = np.arange(len(gain))
    order = np.argsort(-scores, axis=2, kind="stable")
    return np.take_along_axis(np.broadcast_to(pairs, scores.shape), order, axis=2)


def _trends(count: int, behaviour: GradedBehaviour, random: np.random.Generator) -> Floats:
    trending = random.random(count) < behaviour.trending
    direction = random.choice((-1.0, 1.0), count)
    return np.asarray(np.where(trending, behaviour.trend**direction, 1.0))
