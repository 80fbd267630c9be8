"""Training the shopper tower of an index: from what its shoppers did to a verdict."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from rerank.behaviour.derived import open_derived
from rerank.behaviour.products import BETWEEN
from rerank.behaviour.refresh import Refreshed
from rerank.shoppers.files import MODEL_FILE, StoredTower, TowerReport, TowerSpec, read_table
from rerank.shoppers.held_out import Held, Score, split_by_time
from rerank.shoppers.histories import Histories, Ints
from rerank.shoppers.onnx_encoder import OnnxEncoder
from rerank.shoppers.registry import TowerRegistry
from rerank.shoppers.tower import Learned, ShopperTower
from rerank.shoppers.training import TowerOptions, fit
from rerank.shoppers.written import write_model
from rerank.training.checkpoint import Epoch
from retrieval.errors import TrainingError
from retrieval.store_lock import held_lock
from service.derived_tables import DerivedTables
from service.event_log import EventLog
from service.settings import Settings
from service.snapshot import Snapshot, serving_snapshot
from service.training.from_catalog import Progress
from service.training.shopper_acts import ShopperActs, shopper_acts
from service.training.tower_gate import LEAST_JUDGED, TowerGate
from service.training.training import TRAINING_FOLDER

HELD_OUT = 0.1
"""The share of the acts, the newest, that judge."""
_RUN = "users-"


@dataclass(frozen=True, slots=True)
class TrainedTower:
    """What came of a training."""

    tower: StoredTower
    acts: ShopperActs

    @property
    def serves(self) -> bool:
        """Whether it was published."""
        return not self.tower.report.aside


def train_users(
    root: Path,
    settings: Settings,
    options: TowerOptions,
    progress: Progress,
    refreshed: Callable[[Refreshed], None] = lambda _: None,
) -> TrainedTower:
    """Trains a shopper tower on the events of an index directory, and lets it serve where it foretells the newest acts
    better than what serves now; the tables made of events are brought up to date first.

    Its folder `training` keeps a run that was interrupted. Raises StoreMissingError where nothing is published or there
    are no events, StoreLockedError where another program trains for it, TrainingError where there is too little to
    learn from.
    """
    with closing(EventLog.open(root, settings, make=False)) as log, serving_snapshot(root) as snapshot:
        work = root / TRAINING_FOLDER
        work.mkdir(exist_ok=True)
        with held_lock(work, "training"):
            progress.begin("events", None, "")
            tables = DerivedTables(root, log, settings.events)
            done = tables.refresh()
            acts = shopper_acts(open_derived(tables.folder).acts(), snapshot.products.row_of)
            progress.end(f"{done.events:,} events, {acts}")
            refreshed(done)
            given = replace(
                options,
                hide_seen=settings.recommend.seen == "hide",
                least_shoppers=settings.events.minimum_shoppers,
            )
            tower = _Trial(root, snapshot, given, progress).run(acts, work)
            return TrainedTower(tower, acts)


@dataclass(frozen=True, slots=True)
class _Catalog:
    """The products of a snapshot, by row."""

    vectors: NDArray[np.float32]
    names: tuple[str, ...]
    """Of categories, the whole path."""
    categories: Ints
    """(N,): places in `names`, -1 for none."""

    @classmethod
    def of(cls, snapshot: Snapshot) -> _Catalog:
        count = len(snapshot.products)
        paths = [BETWEEN.join(snapshot.products[row].category) for row in range(count)]
        names = {path: number for number, path in enumerate(sorted({*paths} - {""}))}
        numbers = np.array([names.get(path, -1) for path in paths], np.int64)
        return cls(snapshot.vectors.gather(np.arange(count)), tuple(names), numbers)

    def tower(self, encoder: OnnxEncoder, learned: Learned) -> ShopperTower:
        return ShopperTower(encoder, self.vectors, learned, self.categories)


class _Trial:
    """One training for one snapshot."""

    def __init__(self, root: Path, snapshot: Snapshot, options: TowerOptions, progress: Progress) -> None:
        self._registry = TowerRegistry(root)
        self._snapshot, self._options, self._progress = snapshot, options, progress

    def run(self, acts: ShopperActs, work: Path) -> StoredTower:
        learning, held = split_by_time(acts.histories, HELD_OUT)
        if len(held.targets) < LEAST_JUDGED:
            message = (
                f"{len(held.targets):,} shoppers did something again among the newest acts; {LEAST_JUDGED} are needed "
                "to tell whether a tower is any good"
            )
            raise TrainingError(message)
        self._progress.begin("catalog", None, "")
        catalog = _Catalog.of(self._snapshot)
        self._progress.end(f"{len(catalog.vectors):,} products, {len(catalog.names):,} categories")
        tower, curve = self._fitted(catalog, learning, work / f"{_RUN}{self._digest(acts)}")
        stored = self._judged(catalog, learning, held, tower, curve)
        for over in work.glob(f"{_RUN}*"):
            shutil.rmtree(over)
        return stored

    def _digest(self, acts: ShopperActs) -> str:
        """Names what decides the outcome: a run that was interrupted goes on where all of it is the same."""
        told = f"{acts.digest} {self._snapshot.manifest.version} {self._options}"
        return xxhash.xxh3_64_hexdigest(told.encode())

    def _fitted(self, catalog: _Catalog, learning: Histories, run: Path) -> tuple[ShopperTower, list[Epoch]]:
        curve: list[Epoch] = []

        def judged(epoch: Epoch) -> None:
            curve.append(epoch)
            self._progress.advance(1)

        self._progress.begin("train", self._options.epochs + 1, "epochs")
        tower = fit(catalog.vectors, learning, self._options, categories=catalog.categories, folder=run, judged=judged)
        best = max(curve, key=lambda epoch: epoch.validation)
        self._progress.end(f"nDCG@10 {best.validation:.4f} after {best.number} epochs, of what validates")
        return tower, curve

    def _judged(
        self, catalog: _Catalog, learning: Histories, held: Held, tower: ShopperTower, curve: Sequence[Epoch]
    ) -> StoredTower:
        """What is judged is what is published: the graph as it will serve."""
        options, manifest = self._options, self._snapshot.manifest
        with tempfile.TemporaryDirectory() as scratch:
            made = Path(scratch)
            write_model(made, tower, self._snapshot.products.id_of)
            self._progress.begin("judge", None, "")
            gate = TowerGate(catalog.vectors, catalog.categories, learning, held, options.hide_seen)
            challenger = catalog.tower(OnnxEncoder(made / MODEL_FILE), tower.learned)
            report = gate.report(challenger.scores, self._serving(catalog))
            self._progress.end("; ".join(report.aside) or "it may serve")
            spec = TowerSpec(
                encoder=manifest.encoder,
                dimension=manifest.dimension,
                width=options.width,
                category_bias={catalog.names[place]: bias for place, bias in tower.learned.category_bias.items()},
                usual_bias=tower.learned.usual_bias,
                trained_on={"shoppers": len(learning), "acts": len(learning.products), "seed": options.seed},
            )
            return self._registry.add(lambda folder: _copy(made, folder), spec, _told(report, curve))

    def _serving(self, catalog: _Catalog) -> Score | None:
        """The scores of the tower that serves now."""
        manifest = self._snapshot.manifest
        stored = self._registry.serving(manifest.encoder, manifest.dimension).tower
        if stored is None:
            return None
        table = read_table(stored)
        found = [
            (row, place)
            for place, name in enumerate(table.ids)
            if (row := self._snapshot.products.row_of(name)) is not None
        ]
        rows, places = np.array(sorted(found), np.int64).reshape(-1, 2).T
        known = {name: place for place, name in enumerate(catalog.names)}
        biases = {known[name]: bias for name, bias in stored.spec.category_bias.items() if name in known}
        learned = Learned(rows, table.own[places], table.bias[places], biases, stored.spec.usual_bias)
        return catalog.tower(OnnxEncoder(stored.folder / MODEL_FILE), learned).scores


def _told(report: TowerReport, curve: Sequence[Epoch]) -> TowerReport:
    created = datetime.now(UTC).isoformat(timespec="seconds")
    points = tuple((epoch.number, epoch.validation) for epoch in curve)
    return msgspec.structs.replace(report, created=created, curve=points)


def _copy(made: Path, folder: Path) -> None:
    shutil.copytree(made, folder, dirs_exist_ok=True)
