"""Simulated sessions: shoppers go through a store's rankings. The truth is known, so that estimates can be compared.

Shoppers share no code with the models that are fitted, so that each tests the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from shelfwise.rerank.click_models.click_log import NOTHING, ClickLog, Flags, Floats, Ints

DAYS = 28.0
"""The period over which the sessions are spread evenly."""
PERIODS = 3
"""Rankings of a graded store; half of the noise's variance is drawn again for each."""
RANKING_NOISE = 0.3
"""Deviation of a graded store's scores from the gain, which is 0 to 1."""

Shopper = Callable[[Floats, np.random.Generator], tuple[Flags, Flags]]
"""Clicks and examinations, (n, depth) each, of lists with attractiveness (n, depth), 0 where nothing is shown."""


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """Sessions, earliest first, including what a log does not record."""

    log: ClickLog
    day: Floats
    """(n,): the time, in days from the beginning of the window."""
    examined: Flags
    """(n, depth)"""

    @property
    def examination(self) -> Floats:
        """(depth,): the share of impressions at each position that were examined."""
        return np.asarray(self.examined.sum(axis=0) / np.maximum(self.log.shown.sum(axis=0), 1))


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
    cart: Floats
    """The probability that a clicked product goes into the cart."""
    purchase: Floats
    """The probability that a product in the cart is bought."""


def simulate(
    store: SimulatedStore, shopper: Shopper, sessions: int, seed: int, *, depth: int = 10, exploration: float = 0.05
) -> Simulation:
    """Draws sessions, of which the share `exploration` has its whole list shuffled: without it, and with a single
    ranking, no model can separate a position from its product."""
    random = np.random.default_rng(seed)
    day = np.sort(random.random(sessions)) * DAYS
    query = random.choice(len(store.traffic), sessions, p=store.traffic).astype(np.int32)
    periods, _, length = store.rankings.shape
    period = np.minimum((day / DAYS * periods).astype(np.int64), periods - 1)
    length = min(depth, length)
    pairs = np.full((sessions, depth), NOTHING, np.int32)
    pairs[:, :length] = store.rankings[period, query, :length]
    explored = random.random(sessions) < exploration
    whole = store.rankings[period[explored], query[explored]]
    # Positions after the end of a list sort last.
    order = np.argsort(np.where(whole == NOTHING, 2.0, random.random(whole.shape)), axis=1)
    pairs[explored, :length] = np.take_along_axis(whole, order[:, :length], axis=1)
    shown = pairs != NOTHING
    clicks, examined = shopper(np.where(shown, store.attractiveness[pairs], 0.0), random)
    return Simulation(ClickLog(pairs, clicks & shown, len(store.attractiveness)), day, examined & shown)


def graded_store(grades: Mapping[str, Mapping[str, float]], seed: int) -> tuple[SimulatedStore, pl.DataFrame]:
    """A store whose shoppers prefer products by grade (query to product to grade), and its table of pairs.

    Probabilities extend from the lowest grade's to the highest's along the gain 2^grade - 1, as in Ai et al. 2018
    (Unbiased learning to rank with unbiased propensity estimation, section 5.1). The table has the columns pair, query,
    product_id, grade, ordered by pair.
    """
    table = pl.DataFrame(
        [(query, product, float(grade)) for query, judged in grades.items() for product, grade in judged.items()],
        schema={"query": pl.String, "product_id": pl.String, "grade": pl.Float64},
        orient="row",
    )
    random = np.random.default_rng(seed)
    gain = np.exp2(table["grade"].to_numpy() - table["grade"].to_numpy().min()) - 1.0
    gain /= gain.max()
    lengths = np.array([len(judged) for judged in grades.values()])
    traffic = 1.0 / random.permutation(np.arange(1, len(lengths) + 1)) ** 0.8
    store = SimulatedStore(
        _rankings(gain, lengths, random),
        traffic / traffic.sum(),
        attractiveness=0.05 + 0.55 * gain,
        cart=0.05 + 0.25 * gain,
        purchase=0.2 + 0.3 * gain,
    )
    return store, table.with_row_index("pair").with_columns(pl.col("pair").cast(pl.Int32))


def _rankings(gain: Floats, lengths: Ints, random: np.random.Generator) -> Ints:
    queries, length = len(lengths), int(lengths.max())
    filled = np.arange(length) < lengths[:, None]
    scores = np.full((PERIODS, queries, length), -np.inf)
    lasting = random.normal(size=len(gain))
    noise = (lasting + random.normal(size=(PERIODS, len(gain)))) / np.sqrt(2.0)
    scores[:, filled] = gain + RANKING_NOISE * noise
    pairs = np.full((queries, length), NOTHING, np.int32)
    pairs[filled] = np.arange(len(gain))
    order = np.argsort(-scores, axis=2, kind="stable")
    return np.take_along_axis(np.broadcast_to(pairs, scores.shape), order, axis=2)


def position_shopper(examination: Floats) -> Shopper:
    """Shoppers who examine each position with its own probability, (depth,): the PBM."""

    def browse(attractiveness: Floats, random: np.random.Generator) -> tuple[Flags, Flags]:
        examined = random.random(attractiveness.shape) < examination[: attractiveness.shape[1]]
        return examined & (random.random(attractiveness.shape) < attractiveness), examined

    return browse


def browsing_shopper(gamma: Floats) -> Shopper:
    """Shoppers who examine a position with a probability, (depth, depth), by position - 1 and the last click's
    position, 0 for none: the UBM."""

    def browse(attractiveness: Floats, random: np.random.Generator) -> tuple[Flags, Flags]:
        examined = np.zeros(attractiveness.shape, np.bool_)
        clicks = np.zeros(attractiveness.shape, np.bool_)
        last = np.zeros(len(clicks), np.int64)
        for position in range(len(gamma)):
            examined[:, position] = random.random(len(clicks)) < gamma[position, last]
            attracted = random.random(len(clicks)) < attractiveness[:, position]
            clicks[:, position] = examined[:, position] & attracted
            last[clicks[:, position]] = position + 1
        return clicks, examined

    return browse


def falling_examination(strength: float, depth: int = 10) -> Floats:
    """(depth,): examination 1 / position^strength, the curve by which position bias is usually simulated.

    Joachims, Swaminathan & Schnabel 2017 (Unbiased learning-to-rank with biased feedback, section 6.1).
    """
    return np.asarray(1.0 / np.arange(1, depth + 1) ** strength)


def falling_gamma(strength: float, depth: int = 10) -> Floats:
    """(depth, depth): examination for a `browsing_shopper`, 1 / (positions since the last click)^strength, with 0.8 of
    that after a click."""
    position, last = np.arange(1, depth + 1)[:, None], np.arange(depth)[None, :]
    since = np.maximum(position - last, 1)
    gamma = np.where(last == 0, 1.0, 0.8) / since**strength
    return np.asarray(np.where(last < position, gamma, 0.0))
