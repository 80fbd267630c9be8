"""Writes a tower that was just trained: its graph, its weights, and what it knows of products."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from rerank.shoppers.export import export_tower
from rerank.shoppers.files import IDS_FILE, MODEL_FILE, TABLE_FILE, WEIGHTS_FILE
from rerank.shoppers.model import ShopperModel
from rerank.shoppers.tower import ShopperTower
from retrieval.errors import InputError


def write_model(folder: Path, tower: ShopperTower, id_of: Callable[[int], str]) -> None:
    """Writes the model files and products of `rerank.shoppers.files` to a folder; `id_of` names the product of a row.

    Raises InputError for a tower that is not fresh from training, ShopperTowerError where it cannot be exported.
    """
    model = getattr(tower.encode, "__self__", None)
    if not isinstance(model, ShopperModel):
        raise InputError("only a tower that was just trained can be written; this one was read from files")
    export_tower(model.network, folder / MODEL_FILE)
    save_file({name: value.contiguous() for name, value in model.network.state_dict().items()}, folder / WEIGHTS_FILE)
    learned = tower.learned
    arrays: dict[str, NDArray[Any]] = {"own": learned.own, "bias": learned.bias}
    if learned.beside.weight:
        neighbours = learned.beside.neighbours
        arrays |= {"starts": neighbours.starts, "others": neighbours.others, "strengths": neighbours.strengths}
    save_arrays(arrays, folder / TABLE_FILE)
    (folder / IDS_FILE).write_bytes(msgspec.json.encode([id_of(row) for row in learned.rows.tolist()]))
