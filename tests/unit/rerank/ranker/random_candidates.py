"""Random candidates of every shape that a ranker can get, and small networks that score them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shelfwise.rerank.ranker.features import ACT_KINDS, FEATURES, HAS_STATES, Candidates, History, pad_batch
from shelfwise.rerank.ranker.network import Inputs, NetworkShape, RankerNetwork
from shelfwise.retrieval.encoders.base import Tokens, unit_rows
from shelfwise.retrieval.index.token_states import SCALE, ProductTokens
from tests.versions import DIMENSION

STATE_DIMENSION = 8
_VOCABULARY = 12  # few, so that queries and products share tokens


def network(layers: int, *, history: int = 6, seed: int = 3) -> RankerNetwork:
    torch.manual_seed(seed)
    made = RankerNetwork(shape(layers, history))
    with torch.no_grad():
        for weight in made.parameters():
            if weight.requires_grad:
                weight.add_(0.2 * torch.randn(weight.shape))
    made.fit_scale(torch.from_numpy(candidates(40, seed=seed).features))
    return made.eval()


def shape(layers: int, history: int = 6) -> NetworkShape:
    return NetworkShape(
        STATE_DIMENSION, DIMENSION, len(FEATURES), layers=layers, feed_forward=12, hidden=8, history=history
    )


def candidates(count: int, words: int = 4, tokens: int = 5, events: int = 0, seed: int = 0) -> Candidates:
    rng = np.random.default_rng((seed, count, words, tokens, events))
    products = _products(rng, count, tokens)
    features = rng.standard_normal((count, len(FEATURES))).astype(np.float32)
    features[:, HAS_STATES] = products.has_any
    return Candidates(
        Tokens(rng.integers(0, _VOCABULARY, words).astype(np.int32), _units(rng, words, STATE_DIMENSION)),
        rng.uniform(1, 9, words).astype(np.float32),
        products,
        features,
        _units(rng, count, DIMENSION),
        History(
            _units(rng, events, DIMENSION),
            rng.integers(0, len(ACT_KINDS), events),
            rng.uniform(0, 50, events).astype(np.float32),
        ),
    )


def tensors(*lists: Candidates) -> Inputs:
    return Inputs(*(torch.from_numpy(array) for array in pad_batch(lists, DIMENSION).arrays().values()))


def scored(by: RankerNetwork, *lists: Candidates) -> list[NDArray[np.float32]]:
    with torch.inference_mode():
        scores: Tensor = by(*tensors(*lists))
    return [scores[place, : len(each.features)].numpy() for place, each in enumerate(lists)]


def near(found: NDArray[np.floating], expected: NDArray[np.floating]) -> bool:
    return found.shape == expected.shape and bool(np.allclose(found, expected, rtol=1e-4, atol=1e-5))


def _products(rng: np.random.Generator, count: int, tokens: int) -> ProductTokens:
    lengths = rng.integers(1, tokens + 2, count).clip(max=tokens) * (rng.random(count) > 0.2)
    is_token = np.arange(tokens) < lengths[:, None]
    ids = np.where(is_token, rng.integers(0, _VOCABULARY, (count, tokens)), -1).astype(np.int32)
    states = _units(rng, count * tokens, STATE_DIMENSION).reshape(count, tokens, STATE_DIMENSION)
    return ProductTokens(ids, np.rint(states * SCALE * is_token[:, :, None]).astype(np.int8))


def _units(rng: np.random.Generator, count: int, dimension: int) -> NDArray[np.float32]:
    return unit_rows(rng.standard_normal((count, dimension)).astype(np.float32))
