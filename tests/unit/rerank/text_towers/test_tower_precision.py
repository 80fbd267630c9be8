"""When a tower trains in bfloat16."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rerank.text_towers import model
from rerank.text_towers.model import open_text_tower, trains_in_bfloat16
from retrieval.encoders.weights import ModelSource
from tests.unit.rerank.text_towers.tiny_towers import make_encoder


@pytest.mark.parametrize(
    ("capabilities", "seconds", "expected"),
    [
        pytest.param({"avx512_bf16": True}, {torch.bfloat16: 1.0, torch.float32: 2.0}, True, id="faster"),
        pytest.param({"avx512_bf16": True}, {torch.bfloat16: 2.0, torch.float32: 1.0}, False, id="slower"),
        pytest.param({"avx512_bf16": False}, {torch.bfloat16: 1.0, torch.float32: 2.0}, False, id="no instructions"),
    ],
)
def test_a_cpu_trains_in_bfloat16_where_that_is_faster(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capabilities: dict[str, bool],
    seconds: dict[torch.dtype, float],
    expected: bool,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(model, "_matrix_seconds", seconds.__getitem__)
    model._bfloat16_is_faster.cache_clear()
    try:
        assert (
            trains_in_bfloat16(open_text_tower(ModelSource("tiny", make_encoder(tmp_path / "tiny")), 16, device="cpu"))
            is expected
        )
    finally:
        model._bfloat16_is_faster.cache_clear()


def test_products_of_matrices_are_timed() -> None:
    assert 0 < model._matrix_seconds(torch.float32) < 60
