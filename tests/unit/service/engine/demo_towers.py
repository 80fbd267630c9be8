"""Small user towers for the demo index, trained on shoppers who go from one product to another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from weakref import WeakKeyDictionary

import msgspec
import numpy as np

from shelfwise.rerank.model_card import ModelReport
from shelfwise.rerank.user_tower.files import StoredUserTower, UserTowerSpec, user_tower_store, write_model
from shelfwise.rerank.user_tower.histories import Histories
from shelfwise.rerank.user_tower.tower import UserTower
from shelfwise.rerank.user_tower.user_tower_training import fit
from shelfwise.service.engine.snapshot import Snapshot
from tests.unit.rerank.user_tower.small_stores import TINY

STEP = 7
"""Number of rows from each chosen product to the next."""

NEIGHBOUR_WEIGHT = 3.0
"""Weight of item neighbours."""

_WRITTEN: WeakKeyDictionary[UserTower, dict[str, bytes]] = WeakKeyDictionary()
"""The written files of each tower by name, cached since an export takes a second."""


def trained(snapshot: Snapshot, epochs: int = 2) -> UserTower:
    """A tower trained on steps of `STEP` among the first 100 rows, with item neighbours."""
    starts = np.random.default_rng(0).integers(70, size=120).tolist()
    histories = Histories.of([[start, start + STEP, start + 2 * STEP] for start in starts])
    vectors = snapshot.vectors.gather(np.arange(len(snapshot.products)))
    tower = fit(vectors, histories, replace(TINY, epochs=epochs))
    neighbours = replace(tower.learned.neighbours, weight=NEIGHBOUR_WEIGHT)
    learned = replace(tower.learned, neighbours=neighbours, prior=0.0)
    return UserTower(tower.encode, vectors, learned)


def publish(
    root: Path, snapshot: Snapshot, tower: UserTower, reasons: tuple[str, ...] = (), **values: object
) -> StoredUserTower:
    spec = UserTowerSpec(
        encoder=snapshot.manifest.encoder,
        dimension=snapshot.manifest.dimension,
        width=TINY.width,
        usual_bias=tower.learned.usual_bias,
        neighbour_weight=tower.learned.neighbours.weight,
        neighbour_decay=tower.learned.neighbours.decay,
        neighbour_options=tower.learned.neighbours.options,
        text_prior=tower.learned.prior,
        trained_on={"shoppers": 120},
    )
    report = ModelReport(created="2026-11-10T03:12:00+00:00", rejection_reasons=reasons)
    store, spec = user_tower_store(root), msgspec.structs.replace(spec, **values)

    def build(folder: Path) -> None:
        _write(folder, tower, snapshot)

    return store.add(build, spec, report).model


def _write(folder: Path, tower: UserTower, snapshot: Snapshot) -> None:
    if tower not in _WRITTEN:
        write_model(folder, tower, snapshot.products.id_of)
        _WRITTEN[tower] = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name, content in _WRITTEN[tower].items():
        (folder / name).write_bytes(content)
