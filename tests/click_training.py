"""Small trainings of rankers on clicks, alone and in a federation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from threading import Barrier
from typing import cast

import numpy as np
import polars as pl

from shelfwise.rerank.ranker.network import RankerNetwork
from shelfwise.rerank.training.click_training import ClickOptions, Validation, new_network
from shelfwise.rerank.training.datasets import ListData, full_batches
from shelfwise.rerank.training.list_scores import scores_of
from shelfwise.rerank.training.trainer import LoopOptions, State
from tests.unit.rerank.training.clicked_shop import Shop
from tests.unit.rerank.training.teacher_lists import SHAPE

OPTIONS = ClickOptions(loop=LoopOptions(epochs=8, learning_rate=5e-3, warm_up=5, patience=9))


def validation(made: Shop) -> Validation:
    data = made.data
    gains = made.relevance.astype(np.float32)
    return Validation(ListData(data.lists, data.queries, data.states, gains), np.arange(len(data.lists)))


def start(made: Shop) -> RankerNetwork:
    return new_network(SHAPE, made.data.lists.features, seed=0)


def reached(made: Shop, network: RankerNetwork) -> float:
    return made.ndcg(scores_of(network, full_batches(made.data, np.arange(len(made.data.lists)))))


@dataclass
class Threads:
    """A federation of stores that train in threads of one process."""

    stores: int
    rounds: int
    given: list[tuple[float, State]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._full, self._read = Barrier(self.stores), Barrier(self.stores, self.given.clear)

    def average(self, state: State, weight: float) -> State:
        self.given.append((weight, state))
        self._full.wait()
        total = sum(weight for weight, _ in self.given)
        parts = sorted(self.given, key=lambda each: each[0])  # the sum must not depend on the order of arrival
        mean = {name: np.asarray(sum(part / total * each[name] for part, each in parts)) for name in state}
        self._read.wait()
        return cast(Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]], mean)


def shoppers(events: pl.DataFrame, count: int) -> pl.DataFrame:
    """The events with `who`: their lists divided among `count` shoppers."""
    return events.with_columns(who=pl.format("u{}", pl.col("query_id").hash(seed=1) % count))


def without_attention(made: Shop) -> RankerNetwork:
    return new_network(replace(SHAPE, layers=0), made.data.lists.features, seed=0)
