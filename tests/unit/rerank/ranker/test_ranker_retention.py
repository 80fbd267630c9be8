"""Which rankers are too many."""

from __future__ import annotations

from pathlib import Path

from rerank.model_store import surplus, sweep

NAMES = [f"ranker-{number:04d}" for number in range(1, 9)]


def test_the_newest_stay() -> None:
    assert surplus(NAMES, NAMES, NAMES[-1], 3) == tuple(NAMES[:5])
    assert surplus(NAMES[:3], NAMES[:3], NAMES[2], 3) == ()
    assert surplus([], [], "", 3) == ()


def test_the_one_that_serves_stays_however_old_it_is() -> None:
    assert surplus(NAMES, NAMES, NAMES[0], 2) == tuple(NAMES[1:6])


def test_a_row_of_failures_leaves_the_way_back() -> None:
    able = NAMES[:3]
    assert surplus(NAMES, able, NAMES[2], 2) == (NAMES[0], *NAMES[3:6])


def test_leftovers_go_whatever_they_are(tmp_path: Path) -> None:
    kept = tmp_path / "ranker-0001"
    kept.mkdir()
    (kept / "model.onnx").write_bytes(b"1")
    (tmp_path / ".ranker-0002.x1").mkdir()
    (tmp_path / ".ranker-0002.x1" / "part").write_bytes(b"1")
    (tmp_path / ".removed-ranker-0000").symlink_to(kept)
    (tmp_path / ".ranker-0003.x2").write_bytes(b"1")
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["ranker-0001"]
    assert (kept / "model.onnx").exists()
