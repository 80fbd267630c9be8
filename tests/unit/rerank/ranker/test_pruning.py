"""Pruning: the scores are those with every pruned part replaced by its mean."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shelfwise.rerank.ranker.features import FEATURES
from shelfwise.rerank.ranker.network import CrossAttention, RankerNetwork, load_network
from shelfwise.rerank.ranker.pruning import PartImportance, PruningTarget, Sample, measure_importance, prune_network
from shelfwise.retrieval.errors import InputError, ModelDamagedError
from tests.unit.rerank.ranker.random_candidates import candidates, near, network, scored, tensors

WEIGHTS = (0.5, 0.3, 0.2)
LISTS = [candidates(9, words=3, events=2), candidates(4, words=1, seed=2), candidates(13, words=6, tokens=9, seed=3)]


def sample() -> Sample:
    places = torch.arange(9)[None] < torch.tensor([[9], [4]])
    return [(tensors(*LISTS[:2]), places), (tensors(LISTS[2]), torch.ones(1, 13, dtype=torch.bool))]


def layer_of(by: RankerNetwork) -> CrossAttention:
    (layer,) = by.attention
    assert isinstance(layer, CrossAttention)
    return layer


@contextmanager
def replacing(module: nn.Module, places: list[int], mean: Tensor) -> Iterator[None]:
    def hook(_module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        changed = given[0].clone()
        changed[..., places] = mean[places]
        return (changed,)

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def same_scores(one: RankerNetwork, other: RankerNetwork) -> bool:
    return all(near(a, b) for a, b in zip(scored(one, *LISTS), scored(other, *LISTS), strict=True))


@pytest.fixture(scope="module")
def by() -> RankerNetwork:
    return network(1)


@pytest.fixture(scope="module")
def found(by: RankerNetwork) -> PartImportance:
    return measure_importance(by, sample(), WEIGHTS)


@pytest.mark.parametrize(
    "left", [PruningTarget(), PruningTarget(heads=4, feed_forward=12, layers=1)], ids=["unsaid", "said"]
)
def test_pruning_nothing_changes_nothing(by: RankerNetwork, found: PartImportance, left: PruningTarget) -> None:
    made = prune_network(by, found, left)
    assert made.shape == by.shape
    assert made is not by
    assert same_scores(made, by)


@pytest.mark.parametrize("heads", [1, 2, 3])
@pytest.mark.parametrize("with_means", [False, True], ids=["zeroed", "at its mean"])
def test_pruned_heads_are_replaced_by_nothing_or_their_mean(
    by: RankerNetwork, found: PartImportance, heads: int, with_means: bool
) -> None:
    measured = found if with_means else dataclasses.replace(found, read=torch.zeros(8))
    made = prune_network(by, measured, PruningTarget(heads=heads))
    kept = made.shape.kept_heads
    assert list(kept) == sorted(np.argsort(-found.heads)[:heads].tolist())
    lost = [column for head in range(4) if head not in kept for column in (2 * head, 2 * head + 1)]
    with replacing(layer_of(by).output, lost, measured.read):
        assert same_scores(made, by)
    assert not same_scores(made, by)


@pytest.mark.parametrize("units", [0, 1, 7])
def test_pruned_units_are_replaced_by_their_mean(by: RankerNetwork, found: PartImportance, units: int) -> None:
    made = prune_network(by, found, PruningTarget(feed_forward=units))
    assert made.shape.feed_forward == units
    lost = np.argsort(-found.units)[units:].tolist()
    feed_forward = layer_of(by).feed_forward
    assert isinstance(feed_forward, nn.Sequential)
    with replacing(feed_forward[2], lost, found.fired):
        assert same_scores(made, by)


def test_pruned_layer_is_replaced_by_its_mean(by: RankerNetwork, found: PartImportance) -> None:
    made = prune_network(by, found, PruningTarget(heads=1, layers=0))
    assert (made.shape.layers, made.shape.kept_heads) == (0, ())
    scalars = len(FEATURES) + 6
    mean = torch.cat([torch.zeros(scalars), found.pooled])
    with replacing(by.mlp[0], list(range(scalars, scalars + 16)), mean):
        assert same_scores(made, by)


@pytest.mark.parametrize(
    ("left", "why"),
    [
        (PruningTarget(heads=0), "0 heads cannot be kept in this ranker; allowed are 1 to 4"),
        (PruningTarget(feed_forward=-1), "-1 feed-forward units cannot be kept in this ranker; allowed are 0 to 12"),
        (PruningTarget(layers=2), "2 layers cannot be kept in this ranker; allowed are 0 to 1"),
    ],
)
def test_invalid_pruning_is_refused(by: RankerNetwork, found: PartImportance, left: PruningTarget, why: str) -> None:
    with pytest.raises(InputError, match=why):
        prune_network(by, found, left)


def test_file_with_nonexistent_heads_is_damaged(by: RankerNetwork, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    result = msgspec.to_builtins(by.shape) | {"kept_heads": [1, 4]}
    save_file(dict(by.state_dict()), tmp_path / "weights", {"shape": msgspec.json.encode(result).decode()})
    with pytest.raises(ModelDamagedError, match="kept_heads"):
        load_network(tmp_path / "weights")
