"""The time of a shopper's vector and of an answer is told, where a tower serves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.studies.model_speed import ANSWER, VECTOR, measure_recommend_speed, show_recommend_speed
from retrieval.errors import SettingError
from service.engine.engine import SearchEngine
from tests.unit.service.engine.demo_towers import publish, trained


def test_both_are_timed(demo_index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, counted = Path(shutil.copytree(demo_index, tmp_path / "index")), list[int]()
    with SearchEngine.open(root, follow=False) as engine:
        with pytest.raises(SettingError, match=r"no user tower serves .*: shelfwise train users"):
            measure_recommend_speed(engine, 20)
        publish(root, engine.snapshot, trained(engine.snapshot))
        engine.reload_if_changed()
        report = measure_recommend_speed(engine, 20, advance=counted.append)
        assert report.tower == engine.user_tower
    assert set(report.parts) == {VECTOR, ANSWER}
    assert all(0 < each.p50 <= each.p99 for each in report.parts.values())
    assert sum(counted) > report.histories == 20
    show_recommend_speed(report)
    assert f"{report.parts[VECTOR].p50:.2f}" in capsys.readouterr().out
