"""The recorded searches of four catalogs are unchanged."""

from __future__ import annotations

from pathlib import Path

from tests.recorded_searches import RECORD, build, differences, lines

MAX_CHANGED = 5
"""Near-equal scores sort differently on other processors; none of 500 searches differs between ONNX and torch."""


def test_searches_are_those_that_were_recorded(cache: Path, tmp_path: Path) -> None:
    before = RECORD.read_text("utf-8").splitlines()
    build(tmp_path, cache)
    changed = differences(before, list(lines(tmp_path)))
    help_text = "if that is intended: make record, and commit the nDCG before and after beside it"
    assert len(before) == 500
    assert len(changed) <= MAX_CHANGED, "\n".join([f"{len(changed)} searches changed ({help_text})", *changed[:20]])
