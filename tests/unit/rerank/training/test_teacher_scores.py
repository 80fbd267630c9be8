"""Kept scores: each pair is asked for once, whatever interrupts, and a damaged file costs only its own pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rerank.training import distillation
from rerank.training.distillation import TeacherScores


class CountingTeacher:
    """Scores a pair by the letters that both have; counts what it is asked, and can fail on the way."""

    identity = "letters"

    def __init__(self, fails_after: int | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self._fails_after = fails_after

    def score(
        self, queries: Sequence[str], texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        if self._fails_after is not None and len(self.asked) >= self._fails_after:
            raise RuntimeError("killed")
        self.asked += zip(queries, texts, strict=True)
        if progress:
            progress(len(queries))
        return np.array([len(set(query) & set(text)) for query, text in zip(queries, texts, strict=True)], np.float32)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "_PART", 4)


_QUERIES = [f"query {number % 5}" for number in range(20)]
_TEXTS = [f"text {number // 4} {'xyz'[number % 3]}" for number in range(20)]
_PAIRS = list(zip(_QUERIES, _TEXTS, strict=True))
_EXPECTED = CountingTeacher().score(_QUERIES, _TEXTS).tolist()


def test_each_different_pair_is_asked_for_once(tmp_path: Path) -> None:
    teacher, told = CountingTeacher(), list[int]()
    scores = TeacherScores(teacher, tmp_path).score([*_QUERIES, *_QUERIES], [*_TEXTS, *_TEXTS], told.append)
    assert scores.tolist() == _EXPECTED * 2
    assert sorted(teacher.asked) == sorted(set(_PAIRS))
    assert sum(told) == 40
    again = CountingTeacher()
    assert TeacherScores(again, tmp_path).score(_QUERIES, _TEXTS).tolist() == _EXPECTED
    assert again.asked == []


def test_a_killed_scoring_goes_on_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        TeacherScores(CountingTeacher(fails_after=12), tmp_path).score(_QUERIES, _TEXTS)
    teacher = CountingTeacher()
    assert TeacherScores(teacher, tmp_path).score(_QUERIES, _TEXTS).tolist() == _EXPECTED
    assert len(teacher.asked) == 20 - 12


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a file"])
def test_a_damaged_file_costs_its_own_pairs_alone(tmp_path: Path, content: bytes) -> None:
    TeacherScores(CountingTeacher(), tmp_path).score(_QUERIES, _TEXTS)
    next((tmp_path / "letters").glob("*.npz")).write_bytes(content)
    teacher = CountingTeacher()
    assert TeacherScores(teacher, tmp_path).score(_QUERIES, _TEXTS).tolist() == _EXPECTED
    assert len(teacher.asked) == 4


def test_compacted_scores_are_one_file_with_all_of_them(tmp_path: Path) -> None:
    kept = TeacherScores(CountingTeacher(), tmp_path)
    kept.score(_QUERIES, _TEXTS)
    kept.compact()
    assert len(list((tmp_path / "letters").iterdir())) == 1
    teacher = CountingTeacher()
    assert TeacherScores(teacher, tmp_path).score(_QUERIES, _TEXTS).tolist() == _EXPECTED
    assert teacher.asked == []


def test_where_one_text_ends_and_the_next_begins_counts(tmp_path: Path) -> None:
    teacher = CountingTeacher()
    TeacherScores(teacher, tmp_path).score(["ab", "a"], ["c", "bc"])
    assert len(teacher.asked) == 2


def test_no_pairs_have_no_scores(tmp_path: Path) -> None:
    assert TeacherScores(CountingTeacher(), tmp_path).score([], []).tolist() == []
