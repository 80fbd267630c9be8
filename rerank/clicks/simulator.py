"""Simulated sessions: shoppers go through a store's rankings, among robots, chance clicks and trends.

What is true is known, so what is learned from the clicks can be held against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from rerank.clicks.arrays import Flags, Floats, Ints
from rerank.clicks.click_log import NOTHING, ClickLog
from rerank.clicks.shoppers import Shopper, View
from rerank.clicks.simulated_store import SimulatedStore


@dataclass(frozen=True, slots=True)
class Conditions:
    """What lies between the shoppers and the log."""

    depth: int = 10
    """Positions that are shown."""
    days: float = 28.0
    """Over which the sessions are spread evenly."""
    exploration: float = 0.05
    """The share of sessions whose whole list is shuffled. Without any, and with one ranking, no model can tell a
    position from the product that always stands there."""
    chance_clicks: float = 0.0
    """The probability that a product is clicked by mistake, looked at or not."""
    robots: float = 0.0
    """The share of sessions that are robots': half of them click everything, half of them every second result at
    random."""


USUAL = Conditions()


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """Sessions, the earliest first, and what a log would not tell of them."""

    log: ClickLog
    day: Floats
    """(n,): when, in days from the beginning of the window."""
    query: Ints
    """(n,): which query, by its place in the store."""
    robot: Flags
    """(n,)"""
    examined: Flags
    """(n, depth): what was looked at; for robots, what they clicked."""

    @property
    def examination(self) -> Floats:
        """(depth,): the share of what was shown to shoppers at each position that they looked at."""
        shown = self.log.shown & ~self.robot[:, None]
        return np.asarray((self.examined & shown).sum(axis=0) / np.maximum(shown.sum(axis=0), 1))


def simulate(
    store: SimulatedStore, shopper: Shopper, sessions: int, conditions: Conditions = USUAL, seed: int = 0
) -> Simulation:
    """Draws sessions; the same seed gives the same."""
    random = np.random.default_rng(seed)
    day = np.sort(random.random(sessions)) * conditions.days
    query = random.choice(len(store.traffic), sessions, p=store.traffic).astype(np.int32)
    pairs = _lists(store, query, day / conditions.days, conditions, random)
    shown = pairs != NOTHING
    passed = np.broadcast_to((day / conditions.days)[:, None], pairs.shape)
    view = View(
        np.where(shown, store.attractiveness_at(passed, pairs), 0.0), np.where(shown, store.satisfaction[pairs], 0.0)
    )
    clicks, examined = shopper.visit(view, random)
    if conditions.chance_clicks:
        clicks = clicks | (random.random(pairs.shape) < conditions.chance_clicks)
    robot = random.random(sessions) < conditions.robots
    clicks[robot] = _robot_clicks(int(robot.sum()), conditions.depth, random)
    clicks &= shown
    examined[robot] = clicks[robot]
    log = ClickLog(pairs, clicks, len(store.attractiveness))
    return Simulation(log, day, query, robot, examined & shown)


def _lists(
    store: SimulatedStore, query: Ints, passed: Floats, conditions: Conditions, random: np.random.Generator
) -> Ints:
    """(n, depth): what each session is shown."""
    periods = len(store.rankings)
    period = np.minimum((passed * periods).astype(np.int64), periods - 1)
    depth = min(conditions.depth, store.rankings.shape[2])
    shown = np.full((len(query), conditions.depth), NOTHING, np.int32)
    shown[:, :depth] = store.rankings[period, query, :depth]
    explored = random.random(len(query)) < conditions.exploration
    whole = store.rankings[period[explored], query[explored]]
    # What is past the end of a list sorts behind everything.
    order = np.argsort(np.where(whole == NOTHING, 2.0, random.random(whole.shape)), axis=1)
    shown[explored, :depth] = np.take_along_axis(whole, order[:, :depth], axis=1)
    return shown


def _robot_clicks(count: int, depth: int, random: np.random.Generator) -> Flags:
    everything = random.random((count, 1)) < 0.5
    return np.asarray(everything | (random.random((count, depth)) < 0.5))


def simulated_events(
    simulation: Simulation, store: SimulatedStore, pairs: pl.DataFrame, start: datetime, seed: int = 0
) -> pl.DataFrame:
    """The same sessions as a store's log holds them, with carts and purchases, in the order of time.

    `pairs` has the query and product_id of each pair, in order. Columns: kind, query_id (one a session), query,
    product_id, position (Int32, from 1), time. Robots put nothing into carts. One row an impression: for small logs.
    """
    random = np.random.default_rng(seed)
    log = simulation.log
    chance = random.random((2, *log.pairs.shape))
    carts = log.clicks & ~simulation.robot[:, None] & (chance[0] < store.cart[log.pairs])
    purchases = carts & (chance[1] < store.purchase[log.pairs])
    kinds = {"impression": log.shown, "click": log.clicks, "cart": carts, "purchase": purchases}
    parts = [_cells(simulation, kind, happened) for kind, happened in kinds.items()]
    # Seconds from the search on: results show at once, clicks follow down the list, carts and purchases after them.
    wait = pl.col("kind").replace_strict({"impression": 0, "click": 5, "cart": 300, "purchase": 900})
    seconds = pl.col("day") * 86_400 + wait + pl.when(pl.col("kind") == "impression").then(0).otherwise("position")
    return (
        pl.concat(parts)
        .join(pairs.select("pair", "query", "product_id"), on="pair", how="left")
        .with_columns(time=pl.lit(start) + pl.duration(microseconds=(seconds * 1e6).cast(pl.Int64)))
        .sort("time", "query_id", "position", "kind")
        .select("kind", "query_id", "query", "product_id", "position", "time")
    )


def _cells(simulation: Simulation, kind: str, happened: npt.NDArray[np.bool_]) -> pl.DataFrame:
    rows, columns = np.nonzero(happened)
    return pl.DataFrame(
        {
            "query_id": rows,
            "position": (columns + 1).astype(np.int32),
            "pair": simulation.log.pairs[rows, columns],
            "day": simulation.day[rows],
        }
    ).with_columns(pl.lit(kind).alias("kind"), pl.format("q{}", "query_id").alias("query_id"))
