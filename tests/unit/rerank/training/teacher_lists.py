"""A small shop whose teacher prefers products with the query's words, which a network learns quickly."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.ranker.features import FEATURES, HAS_STATES, MERGED
from shelfwise.rerank.ranker.network import NetworkShape
from shelfwise.rerank.training.datasets import CandidateLists, ListData
from shelfwise.retrieval.encoders.base import Tokens, unit_rows
from shelfwise.retrieval.index.token_states import StatesWriter, StoredStates, quantise_tokens

STATE_DIMENSION = 8
PRODUCTS, WITHOUT_STATES = 60, 7  # the last ones have no tokens
_VOCABULARY = 25
SHAPE = NetworkShape(STATE_DIMENSION, 0, len(FEATURES), layers=1, feed_forward=8, hidden=8, history=0)


def teacher_data(folder: Path, lengths: list[int], seed: int = 0) -> ListData:
    rng = np.random.default_rng(seed)
    states = _states(folder)
    rows = np.concatenate([np.empty(0, np.int64), *(rng.permutation(PRODUCTS)[:length] for length in lengths)])
    features = rng.standard_normal((len(rows), len(FEATURES))).astype(np.float32)
    features[:, HAS_STATES] = states.gather(rows).has_any
    names = tuple(f"query {number}" for number in range(len(lengths)))
    lists = CandidateLists(names, np.cumsum([0, *lengths]), rows, features, np.zeros(len(rows), np.float32))
    queries = [_tokens(rng.integers(0, _VOCABULARY, 3)) for _ in lengths]
    data = ListData(lists, queries, states, np.zeros(len(rows), np.float32))
    return dataclasses.replace(data, targets=_liked(data))


def _liked(data: ListData) -> NDArray[np.float32]:
    products = data.states.gather(data.lists.rows).ids
    shares = [
        float(np.isin(data.queries[number].ids, products[place]).mean())
        for place, number in enumerate(data.lists.query_of.tolist())
    ]
    return np.asarray(3 * np.array(shares) + 0.3 * data.lists.features[:, MERGED], np.float32)


def _states(folder: Path) -> StoredStates:
    rng = np.random.default_rng(9)
    texts = [_tokens(rng.integers(0, _VOCABULARY, rng.integers(3, 9))) for _ in range(PRODUCTS - WITHOUT_STATES)]
    runs = quantise_tokens([*texts, *[_tokens(np.empty(0, np.int64))] * WITHOUT_STATES], STATE_DIMENSION)
    writer = StatesWriter(folder, "encoder-1", STATE_DIMENSION, _VOCABULARY)
    writer.add(runs.ids, runs.states, runs.lengths)
    writer.finish()
    return StoredStates(folder)


def _tokens(ids: NDArray[np.int64]) -> Tokens:
    table = np.random.default_rng(4).standard_normal((_VOCABULARY, STATE_DIMENSION)).astype(np.float32)
    return Tokens(ids.astype(np.int32), unit_rows(table[ids]))
