"""The study of the next purchase: training on purchases before the cutoff, and refused inputs."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from benchmarks.studies.recommend import (
    PurchaseLine,
    read_lines,
    read_scores,
    split_by_days,
    split_by_file,
    write_cases,
)
from rerank.user_tower.evaluation import hide, ranks
from rerank.user_tower.histories import DAY, Histories
from retrieval.errors import InputError

ROWS = {name: row for row, name in enumerate("abcdef")}


def test_nothing_after_the_cutoff_is_learned() -> None:
    choosing = [PurchaseLine("u", ("a",), "b"), PurchaseLine("u", ("a", "b"), "c"), PurchaseLine("v", ("a",), "a")]
    measuring = [
        PurchaseLine("u", ("b", "c"), "d"),
        PurchaseLine("w", ("e",), "f"),
        PurchaseLine("w", ("e", "f"), "gone"),
        PurchaseLine("v", (), "b"),
    ]
    before, after = split_by_file(choosing, measuring, ROWS.get)
    assert sorted(before.learned.products.tolist()) == [0, 0, 4]
    assert before.held.targets.tolist() == [1, 2]
    assert sorted(after.learned.products.tolist()) == [0, 0, 0, 1, 2, 4]
    assert after.held.targets.tolist() == [3, 5]
    assert after.held.histories.products.tolist() == [1, 2, 4]
    assert len({*before.shoppers.tolist()}) == 1
    assert {*before.shoppers.tolist()} < {*after.shoppers.tolist()}


def test_lines_are_read_and_faults_named(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"user": "u", "history": ["a"], "next": "b"}\n'))
    assert read_lines(path) == [PurchaseLine("u", ("a",), "b")]
    path.write_bytes(gzip.compress(b'{"user": "u", "history": ["a"], "next": "b"}\n{"user": "u"}\n'))
    with pytest.raises(InputError, match=r"line 2: .*next.*; a line has user, history and next|line 2: .*history"):
        read_lines(path)
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(InputError, match="has no line"):
        read_lines(path)
    with pytest.raises(InputError, match="nothing can be measured"):
        split_by_file([PurchaseLine("u", ("a",), "a")], [PurchaseLine("u", ("a",), "a")], ROWS.get)


TIMED = Histories.of(
    [[0, 1, 0, 2, 3, 4], [5, 1], [2]],
    times=[[0, 1 * DAY, 5 * DAY, 5 * DAY + 60, 6 * DAY, 9 * DAY], [2 * DAY, 5 * DAY], [6 * DAY]],
)


@pytest.mark.parametrize(("hide_seen", "targets"), [(True, [2, 1]), (False, [0, 2, 1])])
def test_first_visit_after_the_cutoff_is_measured(hide_seen: bool, targets: list[int]) -> None:
    part = split_by_days(TIMED, 4 * DAY, 8 * DAY, hide_seen=hide_seen)
    assert part.learned.products.tolist() == part.held.histories.products.tolist() == [0, 1, 5]
    assert part.held.targets.tolist() == targets
    assert part.held.visits.tolist() == [0] * (len(targets) - 1) + [1]
    assert part.held.now is not None
    assert part.held.now.tolist() == [5 * DAY] * 2
    assert part.held.histories.lengths.tolist() == [2, 1]


def test_a_visit_is_measured_by_all_its_products() -> None:
    part = split_by_days(TIMED, 4 * DAY, 8 * DAY, hide_seen=False)
    scores = np.array([[9.0, 8, 7, 0, 0, 0], [0, 0, 0, 3, 2, 1]])
    found = ranks(scores, part.held.targets, part.held.visits)
    assert found.tolist() == [1, 3, 6]
    hits, gains, visits = part.measures(found, np.array([True, True, False]))
    assert (hits.tolist(), visits.tolist()) == ([1.0], [0])
    assert gains == pytest.approx([(1 + 1 / 2) / (1 + 1 / np.log2(3))])
    hidden = split_by_days(TIMED, 4 * DAY, 8 * DAY, hide_seen=True).held
    assert ranks(hide(scores, hidden.seen()), hidden.targets, hidden.visits).tolist() == [1, 5]


def test_purchases_are_written_for_another_program(tmp_path: Path) -> None:
    part = split_by_days(TIMED, 4 * DAY, 8 * DAY, hide_seen=True)
    write_cases(tmp_path / "cases.npz", part, part, len(ROWS), hide_seen=True)
    written = np.load(tmp_path / "cases.npz")
    assert written["measuring_targets"].tolist() == [2, 1]
    assert written["choosing_case_starts"].tolist() == [0, 2, 3]
    np.savez(tmp_path / "scores.npz", scores=np.zeros((2, 5)))
    with pytest.raises(InputError, match=r"scores \(2, 5\) for 2 visits and 6 products"):
        read_scores(tmp_path / "scores.npz", part, len(ROWS))
