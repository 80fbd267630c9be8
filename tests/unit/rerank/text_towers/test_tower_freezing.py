"""Which weights are trained, told by the names of a model's layers."""

from __future__ import annotations

import pytest
from torch import nn

from rerank.text_towers.model import freeze
from retrieval.errors import SettingError


class _Block(nn.Module):
    """As T5's: attention and feed-forward are layers of it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ModuleList([nn.Linear(1, 1, bias=False) for _ in range(2)])


class _BlockModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(2, 1)
        self.block = nn.ModuleList([_Block() for _ in range(3)])
        self.norm = nn.LayerNorm(1, bias=False)


def test_layers_of_blocks_are_no_layers_of_the_model() -> None:
    model = nn.Sequential(_BlockModel())
    freeze(model, 1)
    learns = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert learns == ["0.block.2.layer.0.weight", "0.block.2.layer.1.weight", "0.norm.weight"]
    with pytest.raises(SettingError, match="4 layers shall be trained; the model has 3"):
        freeze(model, 4)
