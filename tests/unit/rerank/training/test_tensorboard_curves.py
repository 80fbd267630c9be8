"""The curves that TensorBoard draws, read back as it reads them; and nothing where it is not installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from rerank.training.trainer import CHARTS_FOLDER, KEEP, Epoch, charted

accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

CURVE = (Epoch(0, None, 0.25), Epoch(1, 2.5, 0.5), Epoch(2, 2.25, 0.375))


def run_name(number: int) -> str:
    return f"clicks-{number:016x}"


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard finds in a folder: by name, step and value."""
    read = accumulators.EventAccumulator(str(folder))
    read.Reload()
    return {name: [(each.step, each.value) for each in read.Scalars(name)] for name in read.Tags()["scalars"]}


def test_loss_and_validation_of_every_epoch_are_read_back(tmp_path: Path) -> None:
    with charted(tmp_path, run_name(1), "debiased") as judged:
        for epoch in CURVE:
            judged(epoch)
    assert scalars(tmp_path / CHARTS_FOLDER / run_name(1) / "debiased") == {
        "loss": [(1, 2.5), (2, 2.25)],
        "validation": [(0, 0.25), (1, 0.5), (2, 0.375)],
    }


def test_they_are_there_while_the_run_lasts(tmp_path: Path) -> None:
    with charted(tmp_path, run_name(1), "debiased") as judged:
        judged(CURVE[0])
        assert scalars(tmp_path / CHARTS_FOLDER / run_name(1) / "debiased") == {"validation": [(0, 0.25)]}


def test_a_run_that_goes_on_writes_its_curve_once(tmp_path: Path) -> None:
    for told in (CURVE[:2], CURVE):
        with charted(tmp_path, run_name(1), "debiased") as judged:
            for epoch in told:
                judged(epoch)
    assert len(scalars(tmp_path / CHARTS_FOLDER / run_name(1) / "debiased")["validation"]) == len(CURVE)


def test_the_newest_runs_stay_and_what_is_not_ours(tmp_path: Path) -> None:
    charts = tmp_path / CHARTS_FOLDER
    (charts / "of-somebody-else").mkdir(parents=True)
    for number in range(KEEP + 3):
        with charted(tmp_path, run_name(number), "naive") as judged:
            judged(CURVE[0])
        os.utime(charts / run_name(number), (number, number))
    with charted(tmp_path, run_name(99), "naive"):
        pass
    kept = {run_name(number) for number in range(4, KEEP + 3)} | {run_name(99)}
    assert {entry.name for entry in charts.iterdir()} == kept | {"of-somebody-else"}


def test_without_the_package_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with charted(tmp_path, run_name(1), "debiased") as judged:
        judged(CURVE[0])
    assert list(tmp_path.iterdir()) == []
