"""A small store with simulated shoppers of each click model, for tests of fitted models."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache

import numpy as np
import polars as pl

from tests.unit.rerank.click_models.click_simulation import (
    Shopper,
    SimulatedStore,
    Simulation,
    browsing_shopper,
    falling_examination,
    falling_gamma,
    graded_store,
    position_shopper,
    simulate,
)

DEPTH = 6
SESSIONS = 40_000
SHOPPERS: Mapping[str, Shopper] = {
    "pbm": position_shopper(falling_examination(1.0, DEPTH)),
    "ubm": browsing_shopper(falling_gamma(0.7, DEPTH)),
}


@cache
def small_store() -> SimulatedStore:
    random = np.random.default_rng(5)
    grades = {f"q{row:02}": {f"p{column}": float(random.integers(4)) for column in range(8)} for row in range(20)}
    return graded_store(grades, seed=5)[0]


@cache
def simulated(model: str) -> Simulation:
    return simulate(small_store(), SHOPPERS[model], SESSIONS, seed=11, depth=DEPTH, exploration=0.1)


def simulated_events(
    simulation: Simulation, store: SimulatedStore, pairs: pl.DataFrame, start: datetime, seed: int = 0
) -> pl.DataFrame:
    """The events of simulated sessions, with carts and purchases, in the order of time.

    `pairs` has the query and product_id of each pair, in order.
    """
    random = np.random.default_rng(seed)
    log = simulation.log
    chance = random.random((2, *log.pairs.shape))
    carts = log.clicks & (chance[0] < store.cart[log.pairs])
    purchases = carts & (chance[1] < store.purchase[log.pairs])
    parts = []
    # Seconds after the search: impressions at once, then clicks in list order, then carts and purchases.
    kinds = (("impression", log.shown, 0), ("click", log.clicks, 5), ("cart", carts, 300), ("purchase", purchases, 900))
    for kind, happened, wait in kinds:
        rows, columns = np.nonzero(happened)
        seconds = simulation.day[rows] * 86_400 + wait + (columns + 1) * (wait > 0)
        cells = {"query_id": rows, "position": (columns + 1).astype(np.int32), "pair": log.pairs[rows, columns]}
        parts.append(pl.DataFrame({**cells, "seconds": seconds}).with_columns(kind=pl.lit(kind)))
    return (
        pl.concat(parts)
        .join(pairs.select("pair", "query", "product_id"), on="pair", how="left")
        .with_columns(
            query_id=pl.format("q{}", "query_id"),
            time=pl.lit(start) + pl.duration(microseconds=(pl.col("seconds") * 1e6).cast(pl.Int64)),
        )
        .sort("time", "query_id", "position", "kind")
        .select("kind", "query_id", "query", "product_id", "position", "time")
    )
