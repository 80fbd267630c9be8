"""Simulated shoppers of the demo store who each prefer one brand, or none: their lists, acts and preferences."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from shelfwise.service.engine.snapshot import Snapshot
from shelfwise.service.training.ranker_dataset import candidate_lists

QUERIES = (
    "cordless drill",
    "impact driver",
    "screwdriver set",
    "frying pan",
    "travel mug",
    "electric kettle",
    "headphones",
    "usb-c cable",
    "running shoes",
    "tent",
    "dog bed",
    "rain jacket",
    "wireless mouse",
    "garden hose",
    "chef knife",
    "water bottle",
    "desk lamp",
    "shampoo",
    "bluetooth speaker",
    "backpack",
    "cutting board",
    "phone case",
    "yoga mat",
    "gloves",
)
START = datetime(2026, 5, 1)
DEPTH = 10
_ACTED = ("shopper", "product_id", "kind", "time")


@dataclass(frozen=True, slots=True)
class SimulatedClicks:
    lists: pl.DataFrame
    """Lists like `shelfwise.rerank.sessions.tables.DerivedTables.lists`."""
    acts: pl.DataFrame
    """Acts like `shelfwise.rerank.sessions.tables.DerivedTables.acts`."""


def simulate_clicks(
    snapshot: Snapshot, *, preferences: bool, shoppers: int = 300, searches: int = 14, seed: int = 3
) -> SimulatedClicks:
    rng = np.random.default_rng(seed)
    found = candidate_lists(snapshot, QUERIES, 0.0, depth=DEPTH)
    brands = np.array([snapshot.products[row].brand for row in found.rows.tolist()])
    looks = 1 / np.arange(1, DEPTH + 1) ** 0.5
    asks = [rng.choice(len(QUERIES), 3, replace=False) for _ in range(shoppers)]
    liked = [str(rng.choice(np.concatenate([brands[found.place(number)] for number in each]))) for each in asks]
    rows = []
    for at, shopper in enumerate(rng.permutation(np.repeat(np.arange(shoppers), searches)).tolist()):
        number = int(rng.choice(asks[shopper]))
        shown = rng.permutation(np.arange(len(found.rows))[found.place(number)])
        wanted = np.where(brands[shown] == liked[shopper], 0.9, 0.05) if preferences else np.full(len(shown), 0.3)
        clicked = rng.random(len(shown)) < looks[: len(shown)] * wanted
        asked = START + timedelta(minutes=10 * at)
        for position, place in enumerate(shown.tolist(), 1):
            common = (f"q{at}", QUERIES[number], snapshot.products.id_of(int(found.rows[place])), position)
            rows.append(("impression", *common, asked, f"u{shopper}"))
            if clicked[position - 1]:
                rows.append(("click", *common, asked + timedelta(seconds=5 + position), f"u{shopper}"))
    names = ("kind", "query_id", "query", "product_id", "position", "time", "shopper")
    lists = pl.DataFrame(rows, schema=names, orient="row").with_columns(
        pl.col("position").cast(pl.Int32), who="shopper"
    )
    return SimulatedClicks(
        lists.sort("time", "query_id", "position"), lists.filter(pl.col("kind") == "click").select(_ACTED)
    )
