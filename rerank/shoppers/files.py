"""The folder of a trained shopper tower, and the seal that vouches for every file of it.

model.onnx              the network as it is served
weights.safetensors     the same as it was trained
products.safetensors    own vectors and biases of the products that it knows, and which the same shoppers chose
products.json           their ids
tower.json              TowerSpec: what running it takes besides
report.json             TowerReport: what it was measured by, and whether it may serve
seal.json               length and XXH3 checksum of each of them
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from rerank.gate.bootstrap import Difference
from rerank.ranker.model_files import check_graph
from rerank.sealed_folder import SEAL_FILE, read_told, seal, sealed_problem
from rerank.shoppers.neighbours import NOTHING_BESIDE, Beside, NeighbourOptions, Neighbours
from retrieval.errors import (
    RankerDamagedError,
    RankerForeignError,
    ShopperTowerDamagedError,
    ShopperTowerForeignError,
)
from retrieval.manifest import FileEntry

FORMAT = 3
"""Counts up when a tower's files change so that an older program could not use them."""
_READ = (1, 2, FORMAT)
"""Of format 1 none has neighbours, of format 2 none that speak against a product."""
MODEL_FILE, WEIGHTS_FILE = "model.onnx", "weights.safetensors"
TABLE_FILE, IDS_FILE = "products.safetensors", "products.json"
SPEC_FILE, REPORT_FILE = "tower.json", "report.json"
_NEEDED = (MODEL_FILE, WEIGHTS_FILE, TABLE_FILE, IDS_FILE, SPEC_FILE, REPORT_FILE)
_MOST_BYTES = 1 << 30
"""Of one file: own vectors of the 200,000 products that may have one are a tenth of it."""
_CURE = "train it again: shelfwise train users"

_Read = TypeVar("_Read")


class TowerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What tower.json holds: all that running the network takes besides its weights."""

    format: int = FORMAT
    encoder: str
    """Identity of the encoder whose vectors it was trained on."""
    dimension: int
    """Columns of product vectors."""
    width: int
    """Columns of own vectors."""
    category_bias: Mapping[str, float] = {}
    """How likely a product is that it does not know, by category (the whole path)."""
    usual_bias: float = 0.0
    """The same for a category that is not among them."""
    beside_weight: float = 0.0
    """What a strength of 1 between neighbours adds to a score; 0 for a tower that has none."""
    beside_fading: float = 1.0
    """What an older product of a history counts beside the next newer one, for its neighbours."""
    beside_options: NeighbourOptions | None = None
    """How they were learned; None where there are none, or they are cosines, as those of format 2."""
    trained_on: Mapping[str, str | int | float] = {}
    """Data, seed, date: for people."""


Without = Literal["near", "in-categories"]
"""What recommends where no tower serves: what is near to the last products, or what most choose of their categories."""


class Way(msgspec.Struct, frozen=True):
    """What one way of recommending reaches on the held-out acts."""

    name: str
    hit_rate: float
    """The share of shoppers whose next product was among the first ten."""
    ndcg: float
    """nDCG@10."""


class TowerReport(msgspec.Struct, frozen=True, kw_only=True):
    """What report.json holds: how good a tower is, by what it was not trained on."""

    created: str
    """ISO 8601, UTC."""
    shoppers: int = 0
    """Whose next act was held out."""
    against: str = ""
    """What it was judged against."""
    without: Without = "near"
    """What recommends best where no tower does."""
    ways: tuple[Way, ...] = ()
    """The tower, what serves now, and what else it was compared with."""
    difference: Difference | None = None
    """In nDCG@10 from what serves now, with its interval."""
    slices: Mapping[str, tuple[Way, ...]] = {}
    """The same among shoppers of short and long histories, and of products that were never, seldom and often chosen."""
    curve: tuple[tuple[int, float], ...] = ()
    """Epochs with their validation."""
    aside: tuple[str, ...] = ()
    """Why it is kept aside; empty for one that was published."""


@dataclass(frozen=True, slots=True)
class StoredTower:
    """A tower whose files are whole."""

    name: str
    folder: Path
    spec: TowerSpec
    report: TowerReport


@dataclass(frozen=True, slots=True, eq=False)
class ProductTable:
    """What a tower knows of single products."""

    ids: tuple[str, ...]
    """(m)."""
    own: NDArray[np.float32]
    """(m, e)."""
    bias: NDArray[np.float32]
    """(m,)."""
    beside: Beside = NOTHING_BESIDE
    """Which of them the same shoppers chose, by their places."""


def misfit(spec: TowerSpec, encoder: str, dimension: int) -> str:
    """Why a tower cannot serve an index of this encoder, or nothing."""
    if spec.encoder != encoder:
        why = f"it was trained on the encoder {spec.encoder}, the index has {encoder}"
    elif spec.dimension != dimension:
        why = f"it reads vectors of dimension {spec.dimension}, the index has {dimension}"
    else:
        return ""
    return f"{why}; train one for this index: shelfwise train users"


def write_tower(folder: Path, spec: TowerSpec, report: TowerReport) -> None:
    """Completes a folder that holds a tower's model files and products: writes what it says of itself, seals and syncs
    all. Raises as `opened_tower` where the folder is then none that it takes."""
    seal(folder, {SPEC_FILE: spec, REPORT_FILE: report})
    opened_tower(folder)


def opened_tower(folder: Path) -> StoredTower:
    """The tower of a folder, every file verified; its graph holds nothing that runs code.

    Raises ShopperTowerDamagedError or ShopperTowerForeignError, which name the file.
    """
    entries = _read(folder / SEAL_FILE, dict[str, FileEntry])
    for name in _NEEDED:
        problem = _problem(folder / name, entries.get(name))
        if problem:
            raise ShopperTowerDamagedError(f"{folder / name} {problem}; {_CURE}")
    if (made := _read(folder / SPEC_FILE, _Format).format) not in _READ:
        message = f"{folder / SPEC_FILE} is of format {made}; this program reads {', '.join(map(str, _READ))}: {_CURE}"
        raise ShopperTowerForeignError(message)
    spec = _read(folder / SPEC_FILE, TowerSpec)
    try:
        check_graph(folder / MODEL_FILE, {"vectors": spec.dimension, "own": spec.width}, _CURE)
    except RankerDamagedError as error:
        raise ShopperTowerDamagedError(str(error)) from error
    except RankerForeignError as error:
        raise ShopperTowerForeignError(str(error)) from error
    return StoredTower(folder.name, folder, spec, _read(folder / REPORT_FILE, TowerReport))


def read_table(tower: StoredTower) -> ProductTable:
    """What it knows of products; raises ShopperTowerDamagedError."""
    path = tower.folder / TABLE_FILE
    ids = tuple(_read(tower.folder / IDS_FILE, list[str]))
    try:
        tensors = load_file(path)
        table = ProductTable(
            ids,
            tensors["own"].astype(np.float32),
            tensors["bias"].astype(np.float32),
            _beside(tensors, tower.spec),
        )
    except (OSError, SafetensorError, KeyError) as error:
        raise ShopperTowerDamagedError(f"{path} cannot be read ({error}); {_CURE}") from error
    if table.own.shape != (len(ids), tower.spec.width) or table.bias.shape != (len(ids),):
        shapes = f"{table.own.shape} and {table.bias.shape}"
        raise ShopperTowerDamagedError(f"{path} holds {shapes} for {len(ids):,} products; {_CURE}")
    if not (np.isfinite(table.own).all() and np.isfinite(table.bias).all()):
        raise ShopperTowerDamagedError(f"{path} holds values that are no numbers; {_CURE}")
    if problem := table.beside.neighbours.problem(len(ids)) if table.beside.weight else "":
        raise ShopperTowerDamagedError(f"{path} {problem}; {_CURE}")
    return table


def _beside(tensors: Mapping[str, NDArray[np.generic]], spec: TowerSpec) -> Beside:
    if not spec.beside_weight:
        return NOTHING_BESIDE
    neighbours = Neighbours(
        tensors["starts"].astype(np.int64),
        tensors["others"].astype(np.int32),
        tensors["strengths"].astype(np.float32),
    )
    return Beside(neighbours, spec.beside_weight, spec.beside_fading, spec.beside_options)


class _Format(msgspec.Struct, frozen=True):
    format: int


def _problem(path: Path, entry: FileEntry | None) -> str:
    """What is wrong with a file, or nothing."""
    if entry is None:
        return "is not vouched for by the seal beside it"
    if entry.bytes > _MOST_BYTES:
        return f"has {entry.bytes:,} bytes; a tower's file has {_MOST_BYTES:,} at most"
    return sealed_problem(path, entry)


def _read(path: Path, kind: type[_Read]) -> _Read:
    try:
        return read_told(path, kind, _MOST_BYTES)
    except ValueError as error:
        raise ShopperTowerDamagedError(f"{path} {error}; {_CURE}") from error
