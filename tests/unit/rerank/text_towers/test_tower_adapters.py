"""Low-rank adapters: what is trained of a tower, what is written, and the tower that they are added to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer

from rerank.text_towers.model import ADAPTER_FOLDER, TextTower, open_text_tower
from rerank.text_towers.negatives import NegativeOptions
from rerank.text_towers.options import TextTowerOptions, TextTowerTask, TrainedTowers
from rerank.text_towers.training import train_towers
from retrieval.encoders.weights import ModelSource
from retrieval.errors import SettingError
from tests.progress import StoppedProgress
from tests.unit.rerank.text_towers.tiny_towers import PRODUCTS, found_by_nobody, make_encoder, shop

pytestmark = pytest.mark.usefixtures("one_thread", "small_heap")

OPTIONS = TextTowerOptions(
    epochs=3,
    batch=16,
    learning_rate=2e-2,
    max_length=16,
    negatives=NegativeOptions(1, 20, 100),
    precision="fp32",
    lora=4,
    seed=3,
)
QUERIES = ["red bulb", "blue tap"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    return ModelSource("tiny", make_encoder(tmp_path_factory.mktemp("towers") / "tiny"))


def trained(
    tower: TextTower, folder: Path, options: TextTowerOptions = OPTIONS, *, after: int | None = None
) -> TrainedTowers:
    """`after` ends it after so many steps."""
    progress = StoppedProgress(after or 10**9, KeyboardInterrupt)
    return train_towers(TextTowerTask(tower, shop(), found_by_nobody(), PRODUCTS, options, folder, progress))


def test_adapters_alone_learn_and_are_added_in_the_end(encoder: ModelSource, tmp_path: Path) -> None:
    before, tower = open_text_tower(encoder, 16, device="cpu"), open_text_tower(encoder, 16, device="cpu")
    done = trained(tower, tmp_path)
    assert done.best.validation > done.curve[0].validation + 0.05
    old, new = before.model.state_dict(), tower.model.state_dict()
    assert old.keys() == new.keys()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed
    assert all(name.endswith("weight") and old[name].ndim == 2 and "embeddings" not in name for name in changed)
    written = tmp_path / ADAPTER_FOLDER
    assert {path.name for path in written.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    matrices = load_file(written / "adapter_model.safetensors")
    assert {min(matrix.shape) for matrix in matrices.values()} == {4}


def test_the_folder_of_adapters_makes_the_same_tower_of_the_model_before(encoder: ModelSource, tmp_path: Path) -> None:
    tower = open_text_tower(encoder, 16, device="cpu")
    trained(tower, tmp_path)
    again = SentenceTransformer(str(encoder.folder), device="cpu")
    body: Any = again[0]
    body.model = PeftModel.from_pretrained(body.model, str(tmp_path / ADAPTER_FOLDER))
    read = again.encode([tower.ready_query(query) for query in QUERIES], normalize_embeddings=True)
    np.testing.assert_allclose(read, tower.encode_queries(QUERIES), atol=1e-5)


def test_a_killed_run_goes_on_and_ends_with_the_same_weights(encoder: ModelSource, tmp_path: Path) -> None:
    whole, again = open_text_tower(encoder, 16, device="cpu"), open_text_tower(encoder, 16, device="cpu")
    trained(whole, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(open_text_tower(encoder, 16, device="cpu"), tmp_path / "killed", after=9)
    trained(again, tmp_path / "killed")
    np.testing.assert_array_equal(again.encode_queries(QUERIES), whole.encode_queries(QUERIES))


def test_layers_and_a_rank_are_one_too_many(encoder: ModelSource, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="not both"):
        trained(open_text_tower(encoder, 16, device="cpu"), tmp_path, replace(OPTIONS, train_layers=1))
