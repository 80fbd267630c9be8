from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rerank.teacher.fine_tuning import (
    FineTuningOptions,
    GradedList,
    draw_texts,
    fine_tune,
    select_lists,
    split_by_query,
)
from rerank.teacher.teacher import open_teacher
from rerank.training.trainer import LoopOptions
from retrieval.errors import SettingError, StoreError, TrainingError
from tests.machine import full_disk
from tests.progress import KilledError, killed_at
from tests.unit.rerank.teacher.tiny_cross_encoder import WORDS

FAST = FineTuningOptions(
    loop=LoopOptions(epochs=2, learning_rate=3e-3, warm_up=2, patience=4), lists=8, texts=6, held_out=0.2, max_length=24
)


def graded_lists(count: int, seed: int = 1) -> list[GradedList]:
    dice = random.Random(seed)
    lists = []
    for number in range(count):
        texts = [" ".join(dice.choices(WORDS[:-1], k=4)) for _ in range(6)]
        at = dice.randrange(6)
        texts[at] = f"steel {texts[at]}"
        lists.append(GradedList(f"{dice.choice(WORDS)} {number}", texts, [3.0 * (place == at) for place in range(6)]))
    return lists


def test_cross_encoder_learns_the_grades(tiny: Path, tmp_path: Path) -> None:
    steps: list[int] = []
    target = tmp_path / "tuned"
    lists = graded_lists(120)
    options = replace(FAST, loop=replace(FAST.loop, epochs=3))
    result = fine_tune(str(tiny), lists, target, options, cache=tmp_path, advance=steps.append)
    assert result.improved
    assert result.curve[-1].validation > result.curve[0].validation + 0.2
    assert sum(steps) == 3 * (96 / 8)
    before, after = (open_teacher(str(folder), "torch", tmp_path) for folder in (tiny, target))
    assert after.identity != before.identity
    good, other = after.score(["lamp"] * 2, ["steel garden hose black case", "toner garden hose black case"])
    assert good > other


def test_a_fine_tuned_cross_encoder_runs_on_onnx(tiny: Path, tmp_path: Path) -> None:
    options = replace(FAST, loop=replace(FAST.loop, epochs=1))
    target = fine_tune(str(tiny), graded_lists(60), tmp_path / "tuned", options, cache=tmp_path).folder
    queries, texts = ["lamp", "drill"], ["steel case", "garden hose"]
    runtimes = (open_teacher(str(target), runtime, tmp_path) for runtime in ("torch", "onnx-fp32"))
    exact, same = (each.score(queries, texts) for each in runtimes)
    assert np.allclose(exact, same, atol=1e-4)


def test_interrupted_run_gives_the_same_result(tiny: Path, tmp_path: Path) -> None:
    lists = graded_lists(50)
    whole = fine_tune(str(tiny), lists, tmp_path / "whole", FAST, cache=tmp_path / "one")
    with pytest.raises(KilledError):
        fine_tune(str(tiny), lists, tmp_path / "resumed", FAST, cache=tmp_path / "two", advance=killed_at(7))
    seen: list[int] = []
    again = fine_tune(str(tiny), lists, tmp_path / "resumed", FAST, cache=tmp_path / "two", advance=seen.append)
    assert seen == [5] + [1] * 5, "the first epoch is not done again"
    assert [epoch.number for epoch in again.curve] == [epoch.number for epoch in whole.curve]
    assert np.allclose([e.validation for e in again.curve], [e.validation for e in whole.curve], atol=1e-3)
    one, two = (open_teacher(str(run.folder), "torch", tmp_path) for run in (whole, again))
    assert np.allclose(one.score(["lamp"], ["steel case"]), two.score(["lamp"], ["steel case"]), atol=1e-3)
    assert list((tmp_path / "two" / "fine-tuning").iterdir()) == []


def test_worse_run_keeps_the_initial_model(tiny: Path, tmp_path: Path) -> None:
    before = open_teacher(str(tiny), "torch", tmp_path)
    lists = graded_lists(60)
    scores = [before.score([each.query] * 6, each.texts) for each in lists]
    # The validation lists have the order of the untrained model: no epoch can improve on it.
    own = [
        GradedList(each.query, each.texts, [float(place) for place in np.argsort(np.argsort(score))])
        for each, score in zip(lists, scores, strict=True)
    ]
    options = replace(FAST, loop=replace(FAST.loop, epochs=2, learning_rate=0.05, patience=1), max_length=128)
    result = fine_tune(str(tiny), own, tmp_path / "tuned", options, cache=tmp_path)
    assert not result.improved
    same = open_teacher(str(result.folder), "torch", tmp_path)
    assert np.allclose(same.score(["lamp"], ["steel case"]), before.score(["lamp"], ["steel case"]), atol=1e-5)


def test_too_few_lists_and_existing_folder_are_refused(tiny: Path, tmp_path: Path) -> None:
    flat = [GradedList(f"lamp {number}", ["a", "b"], [1.0, 1.0]) for number in range(100)]
    with pytest.raises(TrainingError, match=r"10 of 110 lists have texts of different gains; at least 50"):
        fine_tune(str(tiny), [*flat, *graded_lists(10)], tmp_path / "tuned", cache=tmp_path)
    assert not (tmp_path / "tuned").exists()
    with pytest.raises(SettingError, match=r"exists; use a new folder"):
        fine_tune(str(tiny), graded_lists(60), tmp_path, cache=tmp_path)


def test_full_disk_leaves_no_partial_model(tiny: Path, tmp_path: Path) -> None:
    options = replace(FAST, loop=replace(FAST.loop, epochs=0))
    with full_disk(room=1_000), pytest.raises(StoreError, match=r"cannot be stored as .*; check the disk"):
        fine_tune(str(tiny), graded_lists(60), tmp_path / "models" / "tuned", options, cache=tmp_path)
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize("gains", [[1.0, -1.0], [1.0, float("nan")], [1.0]])
def test_invalid_gains_are_refused_with_their_list(gains: list[float]) -> None:
    with pytest.raises(TrainingError, match=r"list 60 \('odd'\) has .*; (use|each)"):
        select_lists([*graded_lists(60), GradedList("odd", ["a", "b"], gains)])


def test_lists_of_a_query_are_in_one_split() -> None:
    lists = graded_lists(60) + graded_lists(60)
    training, validation = split_by_query(lists, 0.1, seed=0)
    held = {each.query for each in validation}
    assert len(held) == 6 / 60 * len({each.query for each in lists})
    assert not held & {each.query for each in training}
    assert len(training) + len(validation) == 120


def test_split_does_not_depend_on_order_and_single_query_is_refused() -> None:
    lists = graded_lists(60)
    (_, one), (_, other) = (split_by_query(some, 0.1, seed=3) for some in (lists, lists[::-1]))
    assert {each.query for each in one} == {each.query for each in other}
    with pytest.raises(TrainingError, match="at least one query must be held out"):
        split_by_query([GradedList("lamp", ["a", "b"], [0.0, 1.0])] * 60, 0.1, seed=0)


def test_long_list_keeps_half_relevant_candidates() -> None:
    gains = [1.0] * 20 + [0.0] * 80
    places = draw_texts(GradedList("lamp", ["x"] * 100, gains), 16, np.random.default_rng(0))
    assert len(set(places.tolist())) == 16
    assert (places < 20).sum() == 8
