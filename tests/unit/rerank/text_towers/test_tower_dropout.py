"""The share of activations that a step leaves out: the model's own, or another one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from rerank.text_towers.model import TextTower, open_text_tower, set_dropout
from retrieval.encoders.weights import ModelSource
from tests.unit.rerank.text_towers.tiny_towers import make_encoder


@pytest.fixture
def tower(tmp_path: Path) -> TextTower:
    return open_text_tower(ModelSource("tiny", make_encoder(tmp_path / "tiny", dropout=0.3)), 16, device="cpu")


def twice(tower: TextTower) -> tuple[torch.Tensor, torch.Tensor]:
    model = tower.model.train()
    first, second = (model(model.preprocess(["red bulb large"]))["sentence_embedding"] for _ in range(2))
    return first, second


def test_the_models_own_stands(tower: TextTower) -> None:
    set_dropout(tower.model, None)
    first, second = twice(tower)
    assert not torch.equal(first, second)


def test_nothing_is_left_out_where_none_shall_be(tower: TextTower) -> None:
    set_dropout(tower.model, 0.0)
    first, second = twice(tower)
    assert torch.equal(first, second)


def test_what_is_saved_keeps_its_own(tower: TextTower, tmp_path: Path) -> None:
    set_dropout(tower.model, 0.0)
    tower.save(tmp_path / "saved")
    opened = open_text_tower(ModelSource("saved", tmp_path / "saved"), 16, device="cpu")
    assert {module.p for module in opened.model.modules() if isinstance(module, nn.Dropout)} == {0.3}


class _OwnNumber(nn.Module):
    """As ModernBERT's attention, which has no module for it."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_dropout = 0.2


def test_a_share_that_is_a_number_is_set_too() -> None:
    module, number = nn.Dropout(0.1), _OwnNumber()
    set_dropout(nn.Sequential(module, number), 0.5)
    assert (module.p, number.attention_dropout) == (0.5, 0.5)
