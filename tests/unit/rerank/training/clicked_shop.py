"""A small shop whose shoppers want products with the query's words, but which lists them in another order: clicks
depend on both, and only the former is to be learned."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shelfwise.rerank.click_models.click_log import NOTHING
from shelfwise.rerank.training.click_dataset import ClickData, ClickLists, click_lists, fit_evidence
from shelfwise.rerank.training.datasets import ListData, merged_scores
from shelfwise.rerank.training.list_scores import ndcg
from tests.unit.rerank.click_models.click_simulation import (
    SimulatedStore,
    falling_examination,
    position_shopper,
    simulate,
)
from tests.unit.rerank.click_models.simulated_logs import simulated_events
from tests.unit.rerank.training.teacher_lists import teacher_data

START = datetime(2026, 5, 1)
DEPTH = 10


@dataclass(frozen=True, slots=True, eq=False)
class Shop:
    data: ListData
    relevance: NDArray[np.float64]  # (m,): the share of the query's words that each candidate has

    def events(self, sessions: int, strength: float = 1.5, seed: int = 1) -> pl.DataFrame:
        lists = self.data.lists
        table = pl.DataFrame(
            {
                "pair": np.arange(len(lists.rows), dtype=np.int32),
                "query": [lists.queries[number] for number in lists.query_of.tolist()],
                "product_id": [f"p{row}" for row in lists.rows.tolist()],
            }
        )
        store = self._store()
        shopper = position_shopper(falling_examination(strength, DEPTH))
        simulation = simulate(store, shopper, sessions, seed, depth=DEPTH, exploration=0.1)
        return simulated_events(simulation, store, table, START, seed)

    def ndcg(self, scores: NDArray[np.floating]) -> float:
        return float(ndcg(scores, self.relevance.astype(np.float32), self.data.lists.lengths).mean())

    def _store(self) -> SimulatedStore:
        lists = self.data.lists
        merged = merged_scores(lists)
        rankings = np.full((1, len(lists), int(lists.lengths.max())), NOTHING, np.int32)
        for number in range(len(lists)):
            place = lists.place(number)
            order = np.argsort(-merged[place], kind="stable") + place.start
            rankings[0, number, : len(order)] = order
        attractive = 0.05 + 0.7 * self.relevance
        alike = np.ones(len(attractive))
        traffic = np.full(len(lists), 1 / len(lists))
        return SimulatedStore(rankings, traffic, attractive, 0.4 * alike, 0.5 * alike)


def shop(folder: Path, queries: int = 60, candidates: int = 16) -> Shop:
    data = teacher_data(folder, [candidates] * queries, seed=2)
    return Shop(data, np.clip(data.targets - 0.3 * merged_scores(data.lists), 0, None).astype(np.float64) / 3)


def row_of(product: str) -> int | None:
    return int(product.removeprefix("p"))


def learned_lists(made: Shop, events: pl.DataFrame, most: int = 16) -> ClickLists:
    return click_lists(fit_evidence(events), made.data.lists, row_of, most)


def click_data(made: Shop, clicks: ClickLists) -> ClickData:
    data = made.data
    return ClickData(clicks, ListData(clicks.lists, data.queries, data.states, clicks.gains, clicks.weights))
