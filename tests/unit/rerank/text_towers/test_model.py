"""The text tower in training: adapters, mixtures and averages of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer
from torch import nn

from shelfwise.rerank.text_towers.model import ADAPTER_FOLDER, SHARES, TextTower, mix, open_text_tower
from shelfwise.rerank.text_towers.task import NegativeOptions, TextTowerOptions, TextTowerTask, TrainedTowers
from shelfwise.rerank.text_towers.text_tower_training import average, train_towers
from shelfwise.rerank.training.trainer import RunState, weights_of
from shelfwise.retrieval.encoders.weights import ModelSource
from tests.progress import StoppedProgress
from tests.unit.rerank.text_towers.tiny_towers import PRODUCTS, make_encoder, random_retrieval, shop

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = TextTowerOptions(
    epochs=3,
    batch=16,
    learning_rate=2e-2,
    max_length=16,
    negatives=NegativeOptions(1, 20, 100),
    precision="fp32",
    lora=4,
    seed=3,
)
QUERIES = ["red bulb", "blue tap"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    return ModelSource("tiny", make_encoder(tmp_path_factory.mktemp("towers") / "tiny"))


def opened(encoder: ModelSource) -> TextTower:
    return open_text_tower(encoder, 16, device="cpu")


def trained(
    tower: TextTower, folder: Path, options: TextTowerOptions = OPTIONS, *, after: int | None = None
) -> TrainedTowers:
    progress = StoppedProgress(after)
    return train_towers(TextTowerTask(tower, shop(), random_retrieval(), PRODUCTS, options, folder, progress))


def test_only_adapters_are_trained_and_then_merged(encoder: ModelSource, tmp_path: Path) -> None:
    before, tower = opened(encoder), opened(encoder)
    done = trained(tower, tmp_path)
    assert done.best.validation > done.curve[0].validation + 0.05
    old, new = before.model.state_dict(), tower.model.state_dict()
    assert old.keys() == new.keys()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed
    assert all(name.endswith("weight") and old[name].ndim == 2 and "embeddings" not in name for name in changed)
    written = tmp_path / ADAPTER_FOLDER
    assert {path.name for path in written.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    matrices = load_file(written / "adapter_model.safetensors")
    assert {min(matrix.shape) for matrix in matrices.values()} == {4}
    # The folder, applied to the original model, gives the same tower.
    again = SentenceTransformer(str(encoder.folder), device="cpu")
    body: Any = again[0]
    body.model = PeftModel.from_pretrained(body.model, str(tmp_path / ADAPTER_FOLDER))
    read = again.encode([tower.ready_query(query) for query in QUERIES], normalize_embeddings=True)
    np.testing.assert_allclose(read, tower.encode_queries(QUERIES), atol=1e-5)


class CountingModule(nn.Module):
    def __init__(self, values: list[float], count: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))
        self.register_buffer("count", torch.tensor(count))


START = {"values": torch.tensor([0.0, 8.0]), "count": torch.tensor(1)}


@pytest.mark.parametrize("share", SHARES)
def test_best_interpolation_is_kept(share: float) -> None:
    network = CountingModule([4.0, 0.0], 7)

    def judge() -> float:
        return -abs(network.values[0].item() - 4 * share)

    mixed = mix(network, START, -9.0, judge)
    assert (mixed.share, mixed.validation) == (share, 0.0)
    assert network.values.tolist() == [4 * share, 8 - 8 * share]
    assert network.state_dict()["count"].item() == 7


@pytest.mark.parametrize("reached", [0.5, 0.6])
def test_tie_keeps_the_trained_weights_exactly(reached: float) -> None:
    network = CountingModule([0.1, 0.2], 7)
    before = weights_of(network)
    mixed = mix(network, START, reached, lambda: 0.5)
    assert (mixed.share, mixed.validation) == (1.0, reached)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


class AverageRun:
    def __init__(self, *validations: float) -> None:
        self.network = nn.Linear(1, 1, bias=False)
        self.state = RunState()
        self._validations = iter(validations)
        self.judged: list[float] = []

    def part(self, weight: float, validation: float) -> tuple[float, int, float]:
        self.network.weight.data.fill_(weight)
        average(self.network, self.state, validation, self._judge)
        assert self.network.weight.item() == weight
        mean, progress = self.state.averaged["weight"].item(), self.state.progress
        return mean, progress.averaged, progress.averaged_best

    def _judge(self) -> float:
        self.judged.append(self.network.weight.item())
        return next(self._validations)


@pytest.mark.parametrize(
    ("together", "alone", "mean"),
    [(0.3, 0.35, (2.0, 1, 0.4)), (0.45, 0.5, (4.0, 1, 0.5))],
    ids=["worse average is dropped", "better weights restart the average"],
)
def test_average_that_is_not_better_is_dropped(together: float, alone: float, mean: tuple[float, int, float]) -> None:
    result = AverageRun(together)
    result.part(2.0, 0.4)
    assert result.part(4.0, alone) == mean


def test_average_that_is_not_worse_is_kept() -> None:
    result = AverageRun(0.5, 0.5)
    assert result.part(2.0, 0.4) == (2.0, 1, 0.4)
    assert result.part(4.0, 0.45) == (3.0, 2, 0.5)
    mean, members, reached = result.part(6.0, 0.45)
    assert (members, reached) == (3, 0.5)
    assert mean == pytest.approx(4.0)
    assert result.judged == pytest.approx([3.0, 4.0])
