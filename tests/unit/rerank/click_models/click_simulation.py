"""Simulated sessions: shoppers go through a store's rankings.

The truth is known, so that estimates from the clicks can be compared with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl

from shelfwise.rerank.click_models.click_log import NOTHING, ClickLog, Flags, Floats, Ints
from shelfwise.retrieval.errors import InputError


@dataclass(frozen=True, slots=True)
class Conditions:
    """Conditions under which a simulated log is recorded."""

    depth: int = 10
    """The number of positions that are shown."""
    days: float = 28.0
    """The period over which the sessions are spread evenly."""
    exploration: float = 0.05
    """The share of sessions whose whole list is shuffled. Without it, and with a single ranking, no model can separate
    a position from its product."""


DEFAULT_CONDITIONS = Conditions()


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """Sessions, earliest first, including what a log does not record."""

    log: ClickLog
    day: Floats
    """(n,): the time, in days from the beginning of the window."""
    query: Ints
    """(n,): the query's place in the store."""
    examined: Flags
    """(n, depth)"""

    @property
    def examination(self) -> Floats:
        """(depth,): the share of impressions at each position that were examined."""
        return np.asarray(self.examined.sum(axis=0) / np.maximum(self.log.shown.sum(axis=0), 1))


def simulate(
    store: SimulatedStore,
    shopper: SimulatedShopper,
    sessions: int,
    conditions: Conditions = DEFAULT_CONDITIONS,
    seed: int = 0,
) -> Simulation:
    """Draws sessions; the same seed gives the same sessions."""
    random = np.random.default_rng(seed)
    day = np.sort(random.random(sessions)) * conditions.days
    query = random.choice(len(store.traffic), sessions, p=store.traffic).astype(np.int32)
    pairs = _lists(store, query, day / conditions.days, conditions, random)
    shown = pairs != NOTHING
    view = ShownLists(*(np.where(shown, rate[pairs], 0.0) for rate in (store.attractiveness, store.satisfaction)))
    clicks, examined = shopper.browse(view, random)
    return Simulation(ClickLog(pairs, clicks & shown, len(store.attractiveness)), day, query, examined & shown)


def _lists(
    store: SimulatedStore, query: Ints, passed: Floats, conditions: Conditions, random: np.random.Generator
) -> Ints:
    """(n, depth): the list shown in each session."""
    periods = len(store.rankings)
    period = np.minimum((passed * periods).astype(np.int64), periods - 1)
    depth = min(conditions.depth, store.rankings.shape[2])
    shown = np.full((len(query), conditions.depth), NOTHING, np.int32)
    shown[:, :depth] = store.rankings[period, query, :depth]
    explored = random.random(len(query)) < conditions.exploration
    whole = store.rankings[period[explored], query[explored]]
    # Places after the end of a list sort last.
    order = np.argsort(np.where(whole == NOTHING, 2.0, random.random(whole.shape)), axis=1)
    shown[explored, :depth] = np.take_along_axis(whole, order[:, :depth], axis=1)
    return shown


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedStore:
    """The true behaviour of shoppers; probabilities in arrays (pairs,) unless said otherwise."""

    rankings: Ints
    """(periods, queries, length): the pairs that each query lists, best first, in each of the equally long periods
    between two changes of the ranking; -1 past the end."""
    traffic: Floats
    """(queries,): the share of each; sums to 1."""
    attractiveness: Floats
    """The probability of a click on an examined product."""
    satisfaction: Floats
    """The probability that a click ends the search."""
    cart: Floats
    """The probability that a clicked product goes into the cart."""
    purchase: Floats
    """The probability that a product in the cart is bought."""


@dataclass(frozen=True, slots=True)
class GradedStoreOptions:
    """The effect of grades on shoppers. Each range extends from the lowest grade's probability to the highest's, along
    the gain 2^grade - 1 (as in Ai et al. 2018, Unbiased learning to rank with unbiased propensity estimation, section
    5.1)."""

    attractiveness: tuple[float, float] = (0.05, 0.6)
    satisfaction: tuple[float, float] = (0.1, 0.7)
    cart: tuple[float, float] = (0.05, 0.3)
    purchase: tuple[float, float] = (0.2, 0.5)
    ranking_noise: float = 0.3
    """Deviation of the ranker's score from the gain, which is 0 to 1: a deviation of 0 ranks by grade."""
    periods: int = 3
    """The number of successive rankings; half of the noise's variance is drawn again for each."""
    zipf: float = 0.8
    """The n-th most frequent query has 1 / n^zipf times the traffic of the first."""


def graded_store(
    grades: Mapping[str, Mapping[str, float]], behaviour: GradedStoreOptions = GradedStoreOptions(), seed: int = 0
) -> tuple[SimulatedStore, pl.DataFrame]:
    """A store whose shoppers prefer products by grade, and its table of pairs.

    `grades` is query to product to grade. The table has the columns pair, query, product_id, grade, ordered by pair.
    Raises InputError if there are no grades.
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
    )
    return store, table.with_row_index("pair").with_columns(pl.col("pair").cast(pl.Int32))


def _relative_gain(grades: Floats) -> Floats:
    """2^(grade - lowest) - 1 as a share of the highest; ones if all grades are equal."""
    gain = np.exp2(grades - grades.min()) - 1.0
    highest = gain.max()
    return np.asarray(gain / highest if highest > 0 else np.ones(len(gain)))


def _rankings(gain: Floats, lengths: Ints, behaviour: GradedStoreOptions, random: np.random.Generator) -> Ints:
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


@dataclass(frozen=True, slots=True, eq=False)
class ShownLists:
    """The lists shown to shoppers; arrays (n, depth), 0 for empty places."""

    attractiveness: Floats
    """The probability of a click on an examined product."""
    satisfaction: Floats
    """The probability that a click ends the search."""


class SimulatedShopper(Protocol):
    """Draws examinations and clicks from the hidden events of a click model.

    Implementations share no code with the models that are fitted, so that each tests the other.
    """

    def browse(self, view: ShownLists, random: np.random.Generator) -> tuple[Flags, Flags]:
        """Clicks and examinations, (n, depth) each."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class PositionShopper:
    """Examines each position with its own probability (the PBM)."""

    examination: Floats
    """(depth,)"""

    def browse(self, view: ShownLists, random: np.random.Generator) -> tuple[Flags, Flags]:
        shape = view.attractiveness.shape
        examined = random.random(shape) < self.examination[: shape[1]]
        return examined & (random.random(shape) < view.attractiveness), examined


@dataclass(frozen=True, slots=True, eq=False)
class BrowsingShopper:
    """Examines a position with a probability that depends on the last click (the UBM)."""

    gamma: Floats
    """(depth, depth): by position - 1 and the last click's position, 0 for none."""

    def browse(self, view: ShownLists, random: np.random.Generator) -> tuple[Flags, Flags]:
        shape = view.attractiveness.shape
        examined, clicks = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        last = np.zeros(shape[0], np.int64)
        for position in range(shape[1]):
            examined[:, position] = random.random(shape[0]) < self.gamma[position, last]
            attracted = random.random(shape[0]) < view.attractiveness[:, position]
            clicks[:, position] = examined[:, position] & attracted
            last[clicks[:, position]] = position + 1
        return clicks, examined


def falling_examination(strength: float, depth: int = 10) -> Floats:
    """(depth,): examination 1 / position^strength, the curve by which position bias is usually simulated.

    Joachims, Swaminathan & Schnabel 2017 (Unbiased learning-to-rank with biased feedback, section 6.1). Strength 0 is
    no bias.
    """
    return np.asarray(1.0 / np.arange(1, depth + 1) ** strength)


def falling_gamma(strength: float, depth: int = 10) -> Floats:
    """(depth, depth): examination for a `BrowsingShopper`, 1 / (positions since the last click)^strength, with 0.8 of
    that after a click."""
    position, last = np.arange(1, depth + 1)[:, None], np.arange(depth)[None, :]
    since = np.maximum(position - last, 1)
    gamma = np.where(last == 0, 1.0, 0.8) / since**strength
    return np.asarray(np.where(last < position, gamma, 0.0))
