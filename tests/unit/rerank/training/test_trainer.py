"""The resumable trainer and its TensorBoard curves."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import xxhash
from torch import Tensor, nn

from shelfwise.rerank.training.trainer import (
    CHARTS_FOLDER,
    CURVE_FILE,
    KEEP,
    STATE_FILE,
    Epoch,
    LoopOptions,
    Run,
    Training,
    tensorboard_curve,
    train,
)
from shelfwise.retrieval.errors import TrainingError
from tests.progress import KilledError

_OPTIONS = LoopOptions(epochs=5, learning_rate=0.05, warm_up=2, patience=9)


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.0), nn.Linear(4, 1))


def _batches(epoch: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(epoch)
    for _ in range(6):
        yield torch.randn(8, 3, generator=generator)


def _loss(network: nn.Module, batch: object) -> Tensor:
    assert isinstance(batch, Tensor)
    wanted = batch.sum(dim=1, keepdim=True)
    result: Tensor = (network(batch) - wanted).square().mean()
    return result


def _quality(network: nn.Module) -> float:
    with torch.inference_mode():
        return -_loss(network, torch.eye(3)).item()


_TRAINING = Training(_batches, 6, _loss, _quality)


def test_training_improves_and_reports_every_step(tmp_path: Path) -> None:
    steps: list[int] = []
    network = _network()
    before = _quality(network)
    curve = train(network, _TRAINING, _OPTIONS, Run(tmp_path, steps.append))
    assert sum(steps) == 5 * 6
    assert [epoch.number for epoch in curve] == [0, 1, 2, 3, 4, 5]
    assert _quality(network) > before
    assert (tmp_path / CURVE_FILE).is_file()


def test_training_ends_with_the_best_weights(tmp_path: Path) -> None:
    network = _network()
    validations = iter([0.1, 0.5, 0.3, 0.2])
    seen: list[dict[str, Tensor]] = []

    def validate(now: nn.Module) -> float:
        seen.append({name: value.clone() for name, value in now.state_dict().items()})
        return next(validations)

    curve = train(network, Training(_batches, 6, _loss, validate), LoopOptions(patience=2), Run(tmp_path))
    assert [epoch.validation for epoch in curve] == [0.1, 0.5, 0.3, 0.2]
    assert all(torch.equal(value, seen[1][name]) for name, value in network.state_dict().items())


def test_killed_run_resumes_to_the_same_result(tmp_path: Path) -> None:
    whole, killed = _network(), _network()
    curve = train(whole, _TRAINING, _OPTIONS, Run(tmp_path / "whole"))

    def batches(epoch: int) -> Iterator[Tensor]:
        if epoch == 4:
            raise KilledError
        return _batches(epoch)

    with pytest.raises(KilledError):
        train(killed, Training(batches, 6, _loss, _quality), _OPTIONS, Run(tmp_path / "killed"))
    resumed = _network()
    steps: list[int] = []
    again = train(resumed, _TRAINING, _OPTIONS, Run(tmp_path / "killed", steps.append))
    assert steps[0] == 3 * 6
    assert again == curve
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())


def test_unreadable_checkpoint_restarts_training(tmp_path: Path) -> None:
    train(_network(), _TRAINING, LoopOptions(epochs=1), Run(tmp_path))
    whole = (tmp_path / STATE_FILE).read_bytes()
    foreign = [xxhash.xxh3_64_digest(body) + body for body in (b"not a checkpoint", b"\x80\x04cos\nsystem\n.")]
    for content in (whole[:-1], whole.replace(b"done", b"enod"), b"", *foreign):
        (tmp_path / STATE_FILE).write_bytes(content)
        assert len(train(_network(), _TRAINING, LoopOptions(epochs=1), Run(tmp_path))) == 2


def test_non_finite_loss_raises(tmp_path: Path) -> None:
    bad = Training(_batches, 6, lambda network, batch: _loss(network, batch) * math.nan, _quality)
    with pytest.raises(TrainingError, match="the loss became nan in epoch 1"):
        train(_network(), bad, _OPTIONS, Run(tmp_path))


accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

CURVE = (Epoch(0, None, 0.25), Epoch(1, 2.5, 0.5), Epoch(2, 2.25, 0.375))


def run_name(number: int) -> str:
    return f"clicks-{number:016x}"


def write_curve(folder: Path, *epochs: Epoch, number: int = 1) -> Path:
    judged = tensorboard_curve(folder / run_name(number), "debiased")
    for epoch in epochs:
        judged(epoch)
    return folder / CHARTS_FOLDER / run_name(number) / "debiased"


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    read = accumulators.EventAccumulator(str(folder))
    read.Reload()
    return {name: [(each.step, each.value) for each in read.Scalars(name)] for name in read.Tags()["scalars"]}


def test_curves_have_every_epoch_once_after_resuming(tmp_path: Path) -> None:
    write_curve(tmp_path, *CURVE[:2])
    assert scalars(write_curve(tmp_path, *CURVE)) == {
        "loss": [(1, 2.5), (2, 2.25)],
        "validation": [(0, 0.25), (1, 0.5), (2, 0.375)],
    }


def test_newest_curves_and_foreign_files_are_kept(tmp_path: Path) -> None:
    charts = tmp_path / CHARTS_FOLDER
    (charts / "of-somebody-else").mkdir(parents=True)
    for number in range(KEEP + 3):
        write_curve(tmp_path, CURVE[0], number=number)
        os.utime(charts / run_name(number), (number, number))
    write_curve(tmp_path, number=99)
    kept = {run_name(number) for number in range(4, KEEP + 3)} | {run_name(99)}
    assert {entry.name for entry in charts.iterdir()} == kept | {"of-somebody-else"}
