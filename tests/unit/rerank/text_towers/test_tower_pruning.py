"""Towers with fewer layers: the kept layers, their training, and resuming after a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from shelfwise.rerank.text_towers.layer_pruning import (
    LayerPruning,
    LayerPruningOptions,
    check_layers,
    keep_layers,
    prune_layers,
)
from shelfwise.rerank.text_towers.model import TextTower, open_text_tower
from shelfwise.rerank.text_towers.validation import PoolEvaluator
from shelfwise.rerank.training.trainer import LoopOptions
from shelfwise.retrieval.encoders.weights import ModelSource
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.progress import NullProgress, Progress
from tests.unit.rerank.text_towers.tiny_towers import PRODUCTS, make_encoder, random_retrieval, shop

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = LayerPruningOptions(LoopOptions(epochs=3, learning_rate=5e-3, warm_up=5, patience=3), batch=16, texts=100)


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> TextTower:
    folder = make_encoder(tmp_path_factory.mktemp("pruning") / "tiny", layers=4, dropout=0.0)
    made = open_text_tower(ModelSource("tiny", folder), 16, device="cpu")
    # Random layers change little, so two of them give nearly the same as four.
    with torch.no_grad():
        for name, weight in made.model.named_parameters():
            weight.mul_(12.0 if ".layer." in name and weight.ndim == 2 else 1.0)
    return made


def task(tower: TextTower, folder: Path, progress: Progress | None = None) -> LayerPruning:
    judge = PoolEvaluator(shop(), random_retrieval(), PRODUCTS, 60, 0)
    return LayerPruning(tower, shop(), PRODUCTS, judge, folder, OPTIONS, progress or NullProgress())


def stack(model: SentenceTransformer) -> Any:  # noqa: ANN401 - the library's own
    body: Any = model[0]
    return body.auto_model.encoder.layer


def layer(tower: TextTower, place: int) -> torch.Tensor:
    found: torch.Tensor = stack(tower.model)[place].output.dense.weight.detach()
    return found


def similarity(tower: TextTower, other: TextTower) -> float:
    texts = [product.title for product in PRODUCTS]
    return float((tower.encode_products(texts) * other.encode_products(texts)).sum(axis=1).mean())


@pytest.mark.parametrize(("layers", "kept"), [(1, [0]), (2, [0, 3]), (3, [0, 2, 3])])
def test_kept_layers_are_spread_from_first_to_last(
    tower: TextTower, tmp_path: Path, layers: int, kept: list[int]
) -> None:
    fewer = keep_layers(tower, layers)
    assert all(torch.equal(layer(fewer, place), layer(tower, old)) for place, old in enumerate(kept))
    fewer.save(tmp_path / "fewer")
    opened = SentenceTransformer(str(tmp_path / "fewer"), device="cpu")
    assert len(stack(opened)) == layers
    assert np.allclose(fewer.encode_queries(["red bulb"]), opened.encode(["red bulb"], normalize_embeddings=True))
    assert len(stack(tower.model)) == 4


def test_pruned_model_learns_the_vectors_of_the_full_model(tower: TextTower, tmp_path: Path) -> None:
    before = weights(tower)
    student, curve = prune_layers(task(tower, tmp_path), 2)
    assert [epoch.number for epoch in curve] == [0, 1, 2, 3]
    losses = [epoch.loss for epoch in curve[1:] if epoch.loss is not None]
    assert losses == sorted(losses, reverse=True)
    assert similarity(student, tower) > similarity(keep_layers(tower, 2), tower) + 0.02
    assert torch.equal(weights(tower), before)
    assert not student.model.training


def weights(tower: TextTower) -> torch.Tensor:
    return torch.cat([weight.detach().reshape(-1) for weight in tower.model.parameters()])


@pytest.mark.parametrize("layers", [0, 4, 5])
def test_layer_count_must_be_smaller(tower: TextTower, layers: int) -> None:
    with pytest.raises(SettingError, match=f"--layers is {layers}, the model has 4"):
        check_layers(tower, layers)


def test_model_without_layers_is_refused(tower: TextTower) -> None:
    with pytest.raises(SettingError, match="this model's are not found"):
        check_layers(replace(tower, model=SentenceTransformer(modules=[torch.nn.Identity()], device="cpu")), 1)
