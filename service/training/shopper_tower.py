"""Training the shopper tower of an index: from what its shoppers did to a verdict."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import xxhash

from rerank.shoppers.files import MODEL_FILE, StoredTower, TowerReport, TowerSpec, opened_tower
from rerank.shoppers.held_out import Held, Score, split_by_time
from rerank.shoppers.histories import Histories
from rerank.shoppers.onnx_encoder import OnnxEncoder
from rerank.shoppers.registry import TowerRegistry
from rerank.shoppers.tower import ShopperTower
from rerank.shoppers.training import METHOD, ShopperTowerOptions, fit
from rerank.shoppers.written import write_model
from rerank.training.checkpoint import Epoch, best_of
from retrieval.errors import ShopperTowerError, TrainingError
from service.settings import Settings
from service.snapshot import Snapshot
from service.training.from_catalog import Progress
from service.training.shopper_acts import ShopperActs, shopper_acts
from service.training.tower_catalog import Catalog
from service.training.tower_gate import LEAST_JUDGED, TowerGate
from service.training.training import FreshTables, fresh_tables

HELD_OUT = 0.1
"""The share of the acts, the newest, that judge."""
_RUN = "users-"
_OF, _UNTIL = "digest", "until"
"""In what is said of a tower: of all that decides how it comes out; when the last act was that it learned from, in
seconds since 1970."""


@dataclass(frozen=True, slots=True)
class TrainedTower:
    """What came of a training."""

    tower: StoredTower
    acts: ShopperActs
    is_new: bool = True
    """False for one that was there already."""

    @property
    def serves(self) -> bool:
        """Whether it was published."""
        return not self.tower.report.aside


def train_users(
    root: Path,
    settings: Settings,
    options: ShopperTowerOptions,
    progress: Progress,
) -> TrainedTower:
    """Trains a shopper tower on the events of an index directory, and lets it serve where it foretells the newest acts
    better than what serves now; the tables made of events are brought up to date first.

    Its folder `training` keeps a run that was interrupted. Raises StoreMissingError where nothing is published or there
    are no events, StoreLockedError where another program trains for it, TrainingError where there is too little to
    learn from.
    """
    with fresh_tables(root, settings, progress) as tables:
        acts = shopper_acts(tables.derived.acts(), tables.snapshot.products.row_of)
        return tower_of_acts(tables, acts, options, progress)


def tower_of_acts(
    tables: FreshTables, acts: ShopperActs, options: ShopperTowerOptions, progress: Progress, *, again: bool = True
) -> TrainedTower:
    """The same on acts that were read from the tables.

    Without `again`, one that was trained last and on just these acts and options is not trained another time: the same
    would come of it. Raises TrainingError where there is too little to learn from, ShopperTowerDamagedError where the
    tower that serves cannot be read.
    """
    given = replace(
        options,
        hide_seen=tables.settings.recommend.seen == "hide",
        least_shoppers=tables.settings.events.minimum_shoppers,
    )
    trial = _Trial(tables.root, tables.snapshot, given, progress)
    if not again and (stored := trial.last(acts)):
        return TrainedTower(stored, acts, is_new=False)
    return TrainedTower(trial.run(acts, tables.work), acts)


class _Trial:
    """One training for one snapshot."""

    def __init__(self, root: Path, snapshot: Snapshot, options: ShopperTowerOptions, progress: Progress) -> None:
        self._registry = TowerRegistry(root)
        self._snapshot, self._options, self._progress = snapshot, options, progress

    def last(self, acts: ShopperActs) -> StoredTower | None:
        """The tower that was trained last, where this training would make the same one."""
        names = self._registry.names()
        if not names:
            return None
        try:
            stored = opened_tower(self._registry.folder / names[-1])
            is_in_place = bool(stored.report.aside) or self._registry.current() == stored.name
        except ShopperTowerError:
            return None
        return stored if is_in_place and stored.spec.trained_on.get(_OF) == self._digest(acts) else None

    def run(self, acts: ShopperActs, work: Path) -> StoredTower:
        self._progress.begin("acts", None, "")
        learning, held = self._divided(acts.histories)
        if len(held.targets) < LEAST_JUDGED:
            done = "new" if self._options.hide_seen else "again"
            raise TrainingError(
                f"{len(held.targets):,} shoppers did something {done} among the newest acts; {LEAST_JUDGED} are needed "
                "to tell whether a tower is any good"
            )
        self._progress.end(f"{acts}; {len(held.targets):,} shoppers judge")
        self._progress.begin("catalog", None, "")
        catalog = Catalog.of(self._snapshot)
        self._progress.end(f"{len(catalog.vectors):,} products, {len(catalog.names):,} categories")
        tower, curve = self._fitted(catalog, learning, work / f"{_RUN}{self._digest(acts)}")
        stored = self._judged(catalog, learning, held, (tower, curve), self._digest(acts))
        for over in work.glob(f"{_RUN}*"):
            shutil.rmtree(over)
        return stored

    def _divided(self, histories: Histories) -> tuple[Histories, Held]:
        """What is learned, and what judges: nothing that the tower that serves has learned from, as older events that
        come later move the newest share back, unless too few are left without."""
        hide = self._options.hide_seen
        manifest = self._snapshot.manifest
        serving = self._registry.serving(manifest.encoder, manifest.dimension).tower
        until = float(serving.spec.trained_on.get(_UNTIL, -np.inf)) if serving else -np.inf
        learning, held = split_by_time(histories, HELD_OUT, hide_seen=hide, after=until)
        if len(held.targets) < LEAST_JUDGED:
            return split_by_time(histories, HELD_OUT, hide_seen=hide)
        return learning, held

    def _digest(self, acts: ShopperActs) -> str:
        """Names what decides the outcome: a run that was interrupted goes on where all of it is the same."""
        told = f"{METHOD} {acts.digest} {self._snapshot.manifest.version} {self._options}"
        return xxhash.xxh3_64_hexdigest(told.encode())

    def _fitted(self, catalog: Catalog, learning: Histories, run: Path) -> tuple[ShopperTower, list[Epoch]]:
        curve: list[Epoch] = []

        def judged(epoch: Epoch) -> None:
            curve.append(epoch)
            self._progress.advance(1)

        self._progress.begin("train", self._options.epochs + 1, "epochs")
        tower = fit(catalog.vectors, learning, self._options, categories=catalog.categories, folder=run, judged=judged)
        best = best_of(curve)
        self._progress.end(f"nDCG@10 {best.validation:.4f} after {best.number} epochs, of what validates")
        return tower, curve

    def _judged(
        self,
        catalog: Catalog,
        learning: Histories,
        held: Held,
        fitted: tuple[ShopperTower, Sequence[Epoch]],
        digest: str,
    ) -> StoredTower:
        """What is judged is what is published: the graph as it will serve."""
        (tower, curve), options, manifest = fitted, self._options, self._snapshot.manifest
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
                beside_weight=tower.learned.beside.weight,
                beside_fading=tower.learned.beside.fading,
                beside_options=tower.learned.beside.options,
                trained_on={
                    "shoppers": len(learning),
                    "acts": len(learning.products),
                    "seed": options.seed,
                    _OF: digest,
                    **_until(learning),
                },
            )
            return self._registry.add(lambda folder: _copy(made, folder), spec, _told(report, curve))

    def _serving(self, catalog: Catalog) -> Score | None:
        """The scores of the tower that serves now; None where none does, or it cannot be used any more."""
        manifest = self._snapshot.manifest
        stored = self._registry.serving(manifest.encoder, manifest.dimension).tower
        try:
            return catalog.scores_of(stored) if stored else None
        except ShopperTowerError as error:
            self._progress.begin("serving", None, "")
            self._progress.end(f"what serves cannot be compared with: {error}")
            return None


def _until(learning: Histories) -> dict[str, int]:
    last = learning.times.max(initial=-np.inf)
    return {_UNTIL: int(np.ceil(last))} if np.isfinite(last) else {}


def _told(report: TowerReport, curve: Sequence[Epoch]) -> TowerReport:
    created = datetime.now(UTC).isoformat(timespec="seconds")
    points = tuple((epoch.number, epoch.validation) for epoch in curve)
    return msgspec.structs.replace(report, created=created, curve=points)


def _copy(made: Path, folder: Path) -> None:
    shutil.copytree(made, folder, dirs_exist_ok=True)
