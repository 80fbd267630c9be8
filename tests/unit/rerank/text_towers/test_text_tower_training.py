"""Training of text towers: improvement, the same result after a kill, and errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from shelfwise.rerank.text_towers.model import TextTower, open_text_tower
from shelfwise.rerank.text_towers.task import NegativeOptions, TextTowerOptions, TextTowerTask, TrainedTowers
from shelfwise.rerank.text_towers.text_tower_training import ExamplePart, build_part, train_towers
from shelfwise.rerank.text_towers.tower_loss import LossOptions, TowerLoss
from shelfwise.rerank.training.trainer import STATE_FILE
from shelfwise.retrieval.encoders.torch import prompts
from shelfwise.retrieval.encoders.weights import ModelSource
from shelfwise.retrieval.errors import TrainingError
from tests.progress import KilledError, StoppedProgress
from tests.unit.rerank.text_towers.tiny_towers import PRODUCTS, make_encoder, random_retrieval, shop

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = TextTowerOptions(
    epochs=2,
    batch=16,
    learning_rate=3e-3,
    parts=2,
    rounds=2,
    max_length=16,
    negatives=NegativeOptions(1, 20, 100),
    precision="fp32",
    loss=LossOptions(chunk=8),
    seed=3,
)


def watched(after: int | None = None) -> StoppedProgress:
    """A progress of steps only, which raises KilledError at the step after `after`."""
    return StoppedProgress(None if after is None else after + 1, KilledError, of="steps")


def open_tower(encoder: ModelSource) -> TextTower:
    return open_text_tower(encoder, 16, device="cpu")


@dataclass(frozen=True, slots=True)
class Uninterrupted:
    tower: TextTower
    trained: TrainedTowers
    progress: StoppedProgress


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    return ModelSource("tiny", make_encoder(tmp_path_factory.mktemp("towers") / "tiny"))


@pytest.fixture(scope="module")
def uninterrupted(encoder: ModelSource, tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    tower, progress = open_tower(encoder), watched()
    return Uninterrupted(tower, trained(tower, tmp_path_factory.mktemp("run"), progress), progress)


def trained(
    tower: TextTower, folder: Path, result: StoppedProgress | None = None, options: TextTowerOptions = OPTIONS
) -> TrainedTowers:
    progress = result or watched()
    task = TextTowerTask(tower, shop(), random_retrieval(), PRODUCTS, options, folder, progress)
    return train_towers(task)


def weights(tower: TextTower) -> torch.Tensor:
    return torch.cat([weight.detach().reshape(-1) for weight in tower.model.parameters()])


def test_training_learns_the_positives(uninterrupted: Uninterrupted) -> None:
    done, progress = uninterrupted.trained, uninterrupted.progress
    assert [epoch.number for epoch in done.curve] == [0, 1, 2, 3, 4]
    assert done.improved
    assert done.best.validation > done.curve[0].validation + 0.3
    assert done.stopped == ""
    assert progress.done == done.steps
    parts = [f"part {number} of 4" for number in range(1, 5)]
    assert progress.phases == ["validation", *parts[:2], "mining", *parts[2:], "mixing"]
    assert done.mixed.validation >= done.best.validation


def test_killed_run_resumes_to_the_same_weights(
    encoder: ModelSource, uninterrupted: Uninterrupted, tmp_path: Path
) -> None:
    with pytest.raises(KilledError):
        trained(open_tower(encoder), tmp_path, watched(9))  # in the first part after negatives were mined again
    tower, progress = open_tower(encoder), watched()
    again = trained(tower, tmp_path, progress)
    assert again.curve == uninterrupted.trained.curve
    assert torch.equal(weights(tower), weights(uninterrupted.tower))
    assert progress.done < uninterrupted.progress.done


def test_moved_embeddings_are_restored(encoder: ModelSource, tmp_path: Path) -> None:
    tower = open_tower(encoder)
    before = weights(tower)
    still = replace(OPTIONS, fgm=5.0, learning_rate=1e-30, weight_decay=0.0, epochs=1)
    trained(tower, tmp_path, options=still)
    assert torch.equal(weights(tower), before)


@pytest.mark.parametrize(
    ("name", "after", "damage"),
    [
        (STATE_FILE, 5, lambda content: content[: len(content) // 2]),
        (STATE_FILE, 5, lambda content: content[:-1_000] + bytes([content[-1_000] ^ 1]) + content[-999:]),
        ("negatives-1.npy", 9, lambda _content: b"no array"),
    ],
    ids=["half a state", "one bit of a state", "negatives"],
)
def test_damaged_state_is_named(
    encoder: ModelSource, tmp_path: Path, name: str, after: int, damage: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(KilledError):
        trained(open_tower(encoder), tmp_path, watched(after))
    (tmp_path / name).write_bytes(damage((tmp_path / name).read_bytes()))
    with pytest.raises(TrainingError, match=rf"{name} is damaged.* remove .* to start again"):
        trained(open_tower(encoder), tmp_path)


class TestNonFiniteLoss:
    def test_non_finite_loss_before_improvement_raises(self, encoder: ModelSource, tmp_path: Path) -> None:
        tower = open_tower(encoder)
        next(tower.model.parameters()).data.fill_(float("nan"))
        with pytest.raises(TrainingError, match=r"the loss became nan at step 1 of .* lower the learning rate"):
            trained(tower, tmp_path)

    def test_non_finite_loss_keeps_the_best_part_and_reports_the_step(
        self, encoder: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        forward, calls = TowerLoss.forward, []

        def failing(self: TowerLoss, features: Any, labels: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
            calls.append(len(labels))
            return forward(self, features, labels) * (1.0 if len(calls) < 7 else float("nan"))

        monkeypatch.setattr(TowerLoss, "forward", failing)
        tower = open_tower(encoder)
        done = trained(tower, tmp_path)
        assert [epoch.number for epoch in done.curve] == [0, 1, 2]
        assert f"the loss became nan at step 7 of {done.steps}; the best weights so far are kept" in done.stopped
        assert done.best.number == 2
        assert torch.isfinite(weights(tower)).all()


def test_full_gpu_memory_halves_the_batch_size(
    encoder: ModelSource, uninterrupted: Uninterrupted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed, sizes = TowerLoss.embed_minibatch, []

    # The library passes these arguments by name.
    def short_of_memory(self: TowerLoss, sentence_feature: Any, begin: int, end: int, **named: Any) -> Any:  # noqa: ANN401
        sizes.append(end - begin)
        if end - begin > 2 and len(sizes) > 15:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return embed(self, sentence_feature, begin, end, **named)

    monkeypatch.setattr(TowerLoss, "embed_minibatch", short_of_memory)
    tower = open_tower(encoder)
    done = trained(tower, tmp_path, options=replace(OPTIONS, loss=replace(OPTIONS.loss, chunk=8)))
    assert done.notices == (
        "the GPU's memory was full: 4 texts are run at a time, no longer 8",
        "the GPU's memory was full: 2 texts are run at a time, no longer 4",
    )
    assert done.improved
    assert len(done.curve) == len(uninterrupted.trained.curve)


def test_encoding_with_full_gpu_memory_uses_smaller_batches(
    uninterrupted: Uninterrupted, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower, texts = uninterrupted.tower, [product.title for product in PRODUCTS]
    expected, encode, sizes = tower.encode_products(texts), SentenceTransformer.encode, []

    def short_of_memory(self: SentenceTransformer, given: Any, *, batch_size: int, **named: Any) -> Any:  # noqa: ANN401
        sizes.append(batch_size)
        if batch_size > least:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, given, batch_size=batch_size, **named)

    least = 16
    monkeypatch.setattr(SentenceTransformer, "encode", short_of_memory)
    assert np.allclose(tower.encode_products(texts), expected, atol=1e-6)
    assert sizes == [64, 32, 16]
    least = 0
    with pytest.raises(TrainingError, match="no memory to encode one text"):
        tower.encode_products(texts)


def test_each_side_uses_its_prompt(encoder: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = SentenceTransformer(str(encoder.folder), device="cpu", prompts={"query": "query: ", "passage": "passage: "})
    model.save(str(tmp_path / "e5"), create_model_card=False)
    parts: list[ExamplePart] = []

    def noted(*given: Any) -> ExamplePart:  # noqa: ANN401 - as `part_of` takes it
        parts.append(build_part(*given))
        return parts[-1]

    monkeypatch.setattr("shelfwise.rerank.text_towers.text_tower_training.build_part", noted)
    tower = open_text_tower(ModelSource("e5", tmp_path / "e5"), 16, device="cpu")
    assert trained(tower, tmp_path / "run").improved
    texts = parts[0].texts
    assert all(each.startswith("query: ") for each in texts["query"])
    assert all(each.startswith("passage: ") for name in ("positive", "negative_1") for each in texts[name])
    tower.save(tmp_path / "trained", lambda _: None)
    assert prompts(SentenceTransformer(str(tmp_path / "trained"), device="cpu")) == ("query: ", "passage: ")
