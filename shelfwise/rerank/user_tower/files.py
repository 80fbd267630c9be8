"""The folder of a trained user tower: its spec, its report, and the model family of user towers.

model.onnx              the network as it is served
weights.safetensors     the same network, as it was trained
products.safetensors    own vectors, biases and neighbours of the products that it knows
products.json           their ids
tower.json              UserTowerSpec: everything else that running the network needs
report.json             ModelReport: its measures, and whether it may serve
seal.json               length and XXH3 checksum of each file
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save_file as save_arrays

from shelfwise.rerank.model_card import model_use
from shelfwise.rerank.model_store import (
    FORMAT,
    MODEL_FILE,
    WEIGHTS_FILE,
    Encoding,
    ModelFamily,
    ModelStore,
    StoredModel,
    find_misfit,
)
from shelfwise.rerank.user_tower.item_neighbours import NO_NEIGHBOURS, NeighbourOptions, Neighbours, WeightedNeighbours
from shelfwise.retrieval.errors import USER_TOWER, InputError

if TYPE_CHECKING:
    from shelfwise.rerank.user_tower.tower import UserTower


TABLE_FILE, IDS_FILE, SPEC_FILE = "products.safetensors", "products.json", "tower.json"
_MAX_BYTES = 1 << 30
"""Size limit of one file: own vectors of 200,000 products are a tenth of it."""
KEEP = 5
_TRAIN = "shelfwise train users"

FallbackMethod = Literal["near", "in-categories"]
"""Fallback methods: products near to the last ones, or the most popular of their categories."""


class UserTowerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The content of tower.json: everything that running the network needs in addition to its weights."""

    format: int = FORMAT
    encoder: str
    """Identity of the encoder whose vectors it was trained on."""
    dimension: int
    width: int
    category_bias: Mapping[str, float] = {}
    """Bias of an unknown product, by category path."""
    usual_bias: float = 0.0
    """Bias of an unknown product of another category."""
    neighbour_weight: float = 0.0
    """Weight of neighbour scores; 0 without neighbours."""
    neighbour_decay: float = 1.0
    """Weight of an act relative to the next newer one, for neighbours."""
    neighbour_options: NeighbourOptions | None = None
    """Options of the neighbours; None without neighbours."""
    text_prior: float = 0.0
    """The weight of a product's place by its text, in choices; 0 if it is not used."""
    fallback: FallbackMethod = "near"
    """The best method without a tower, on the held-out acts."""
    trained_on: Mapping[str, str | int | float] = {}
    """Data, seed, date: informational."""


@dataclass(frozen=True, slots=True, eq=False)
class ProductTable:
    """Parameters of single products."""

    ids: tuple[str, ...]
    """(m)."""
    own: NDArray[np.float32]
    """(m, e)."""
    bias: NDArray[np.float32]
    """(m,)."""
    chosen: NDArray[np.float32]
    """(m,): how often each was chosen."""
    neighbours: WeightedNeighbours = NO_NEIGHBOURS
    """Item neighbours, by position in this table."""


USER_TOWERS = ModelFamily(
    name=USER_TOWER,
    noun="tower",
    folder="user-towers",
    spec_type=UserTowerSpec,
    spec_file=SPEC_FILE,
    extra_files=(TABLE_FILE, IDS_FILE),
    use=model_use(
        "A user tower: it recommends products to a shopper by the history (docs/recommendations.md).",
        "It predicts the next act of a shopper; whether a recommendation changes purchases needs an experiment.",
    ),
    max_file_bytes=_MAX_BYTES,
    max_json_bytes=_MAX_BYTES,
    train=_TRAIN,
    fallback="recommendations are made without one",
    keep=KEEP,
    misfit=lambda spec, index: find_misfit(Encoding(spec.encoder, spec.dimension), index, _TRAIN),
    columns=lambda spec: {"vectors": spec.dimension, "own": spec.width},
)
StoredUserTower = StoredModel[UserTowerSpec]
UserTowerStore = ModelStore[UserTowerSpec]


def user_tower_store(root: Path) -> UserTowerStore:
    """The user towers of an index directory."""
    return ModelStore(root, USER_TOWERS)


def fallback_method(store: UserTowerStore) -> FallbackMethod:
    """The fallback method of the newest training; raises ModelError like `ModelFamily.read_spec`."""
    names = store.names()
    return USER_TOWERS.read_spec(store.folder / names[-1]).fallback if names else "near"


def read_table(tower: StoredUserTower) -> ProductTable:
    """Reads the product table; raises ModelDamagedError."""
    path = tower.folder / TABLE_FILE
    ids = tuple(USER_TOWERS.read_json(tower.folder / IDS_FILE, list[str]))
    spec, neighbours = tower.spec, NO_NEIGHBOURS
    try:
        tensors = load_file(path)
        if spec.neighbour_weight:
            starts, others, strengths = (tensors[name] for name in ("starts", "others", "strengths"))
            found = Neighbours(starts.astype(np.int64), others.astype(np.int32), strengths.astype(np.float32))
            neighbours = WeightedNeighbours(found, spec.neighbour_weight, spec.neighbour_decay, spec.neighbour_options)
        own, bias, chosen = (tensors[name].astype(np.float32) for name in ("own", "bias", "chosen"))
        table = ProductTable(ids, own, bias, chosen, neighbours)
    except (OSError, SafetensorError, KeyError) as error:
        raise USER_TOWERS.damaged(path, f"cannot be read ({error})") from error
    by_product = {table.bias.shape, table.chosen.shape}
    if table.own.shape != (len(ids), tower.spec.width) or by_product != {(len(ids),)}:
        shapes = f"{table.own.shape}, {table.bias.shape} and {table.chosen.shape}"
        raise USER_TOWERS.damaged(path, f"holds {shapes} for {len(ids):,} products")
    if not all(np.isfinite(each).all() for each in (table.own, table.bias, table.chosen)):
        raise USER_TOWERS.damaged(path, "has values that are not finite")
    if problem := table.neighbours.neighbours.problem(len(ids)) if table.neighbours.weight else "":
        raise USER_TOWERS.damaged(path, problem)
    return table


def write_model(folder: Path, tower: UserTower, id_of: Callable[[int], str]) -> None:
    """Writes the model files and product table to a folder; `id_of` names the product of a row. Raises InputError for a
    tower that was not just trained, ModelError if it cannot be exported."""
    from safetensors.torch import save_file

    from shelfwise.rerank.user_tower.transformer import UserTowerModel, export_tower

    model = getattr(tower.encode, "__self__", None)
    if not isinstance(model, UserTowerModel):
        raise InputError("only a tower that was just trained can be written; this one was read from files")
    export_tower(model.network, folder / MODEL_FILE)
    save_file({name: value.contiguous() for name, value in model.network.state_dict().items()}, folder / WEIGHTS_FILE)
    learned = tower.learned
    arrays: dict[str, NDArray[Any]] = {"own": learned.own, "bias": learned.bias, "chosen": learned.chosen}
    if learned.neighbours.weight:
        neighbours = learned.neighbours.neighbours
        arrays |= {"starts": neighbours.starts, "others": neighbours.others, "strengths": neighbours.strengths}
    save_arrays(arrays, folder / TABLE_FILE)
    (folder / IDS_FILE).write_bytes(msgspec.json.encode([id_of(row) for row in learned.rows.tolist()]))
