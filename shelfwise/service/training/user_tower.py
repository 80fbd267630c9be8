"""Training of the user tower of an index, from shoppers' acts to a promotion decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from shelfwise.rerank.click_models.click_log import Flags
from shelfwise.rerank.evaluation.promotion import (
    ALL_QUERIES,
    MIN_JUDGED,
    NDCG,
    POPULARITY_GAIN,
    TOWER_GAIN,
    USER_TOWER_GATE,
    Decision,
    MeasureComparison,
    rejection_reasons,
)
from shelfwise.rerank.evaluation.statistics import Difference, paired_bootstrap
from shelfwise.rerank.model_card import ModelReport, option_values
from shelfwise.rerank.model_store import MODEL_FILE
from shelfwise.rerank.training.trainer import Epoch, Run, best_of, run_digest, run_folder
from shelfwise.rerank.user_tower.files import (
    USER_TOWERS,
    FallbackMethod,
    StoredUserTower,
    UserTowerSpec,
    read_table,
    user_tower_store,
    write_model,
)
from shelfwise.rerank.user_tower.held_out_acts import HeldOutActs, Score, hit_rate, ndcg, ranks_by, split_by_time
from shelfwise.rerank.user_tower.histories import ONE_CHOICE, Histories, Ints, text_scores
from shelfwise.rerank.user_tower.tower import OnnxEncoder, ProductParameters, UserTower
from shelfwise.rerank.user_tower.user_tower_training import METHOD, UserTowerOptions, fit
from shelfwise.retrieval.errors import ModelError, TrainingError
from shelfwise.retrieval.filters.schema import CATEGORY_SEPARATOR
from shelfwise.retrieval.progress import Progress
from shelfwise.service.engine.served_models import encoding_of
from shelfwise.service.engine.snapshot import Snapshot
from shelfwise.service.settings import Settings
from shelfwise.service.training.click_dataset import EventFacts
from shelfwise.service.training.ranker_from_clicks import RowOf, placed_acts
from shelfwise.service.training.training_session import FreshTables, fresh_tables


@dataclass(frozen=True, slots=True, eq=False)
class ShopperActs:
    """The acts of shoppers known by a pseudonym."""

    histories: Histories
    gone: int
    """Number of acts on products that the catalog does not have, which are left out."""

    def __str__(self) -> str:
        summary = f"{len(self.histories.products):,} acts of {len(self.histories):,} shoppers"
        return f"{summary}, {self.gone:,} on products that no longer exist" if self.gone else summary

    @property
    def digest(self) -> str:
        """A digest of the acts: an interrupted run is resumed if it is equal."""
        acts = self.histories
        return run_digest("", acts.products, acts.kinds, acts.times, acts.starts)


def shopper_acts(acts: pl.DataFrame, row_of: RowOf) -> ShopperActs:
    """Shoppers' acts of `DerivedTables.acts`. Consecutive acts on one product within `ONE_CHOICE` count as one, the
    last of them: a click, the view after it and a purchase are one choice."""
    placed = placed_acts(acts, row_of)
    known = placed.filter(pl.col("row").is_not_null()).sort("shopper", "time", "row", "place")
    is_last = (pl.col("row") != pl.col("row").shift(-1)) | (pl.col("shopper") != pl.col("shopper").shift(-1))
    is_later = (pl.col("time").shift(-1) - pl.col("time")) > timedelta(seconds=ONE_CHOICE)
    kept = known.filter((is_last | is_later).fill_null(value=True))
    lengths = kept.group_by("shopper", maintain_order=True).len()["len"].to_list()
    histories = Histories(
        kept["row"].to_numpy().astype(np.int64),
        kept["place"].to_numpy().astype(np.int64),
        kept["time"].dt.epoch("ms").to_numpy().astype(np.float64) / 1_000,
        np.cumsum([0, *lengths], dtype=np.int64),
    )
    return ShopperActs(histories, len(placed) - len(known))


HELD_OUT = 0.1
"""Share of the acts, the newest, used for evaluation."""
_OF, _UNTIL = "digest", "until"
"""Keys in `trained_on`: a digest of what determines the result; the time of the last act, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class TrainedTower:
    """Result of a training."""

    tower: StoredUserTower
    acts: ShopperActs
    is_new: bool = True
    """Whether it was trained now; false if it already existed."""

    @property
    def serves(self) -> bool:
        """Whether it was published."""
        return not self.tower.report.rejection_reasons


def train_users(root: Path, settings: Settings, options: UserTowerOptions, progress: Progress) -> TrainedTower:
    """Trains a user tower on the events of an index directory, after refreshing the derived tables; it serves if it
    predicts the newest acts better than the current recommendations.

    Its folder `training` stores an interrupted run. Raises StoreMissingError if nothing is published or there are no
    events, StoreLockedError if another program trains for it, TrainingError if there is too little data.
    """
    with fresh_tables(root, settings, progress) as tables:
        acts = shopper_acts(tables.derived.acts(), tables.snapshot.products.row_of)
        return tower_of_acts(tables, acts, options, progress)


def tower_of_acts(
    tables: FreshTables, acts: ShopperActs, options: UserTowerOptions, progress: Progress, *, again: bool = True
) -> TrainedTower:
    """Like `train_users`, on acts already read from the tables.

    Without `again`, a tower that was last trained on exactly these acts and options is not trained again, since the
    result would be equal. Raises TrainingError if there is too little data, ModelDamagedError if the serving tower
    cannot be read.
    """
    given = replace(
        options,
        hide_seen=tables.settings.recommend.seen == "hide",
        least_shoppers=tables.settings.events.minimum_shoppers,
    )
    trial = _UserTowerTraining(tables.root, tables.snapshot, given, progress, tables.facts)
    if not again and (stored := trial.last(acts)):
        return TrainedTower(stored, acts, is_new=False)
    return TrainedTower(trial.run(acts, tables.work), acts)


class _UserTowerTraining:
    def __init__(
        self, root: Path, snapshot: Snapshot, options: UserTowerOptions, progress: Progress, events: EventFacts
    ) -> None:
        self._store, self._events = user_tower_store(root), events
        self._snapshot, self._options, self._progress = snapshot, options, progress

    def last(self, acts: ShopperActs) -> StoredUserTower | None:
        """The last trained tower, if this training would produce the same one."""
        names = self._store.names()
        if not names:
            return None
        try:
            stored = USER_TOWERS.open(self._store.folder / names[-1])
            is_in_place = bool(stored.report.rejection_reasons) or self._store.current() == stored.name
        except ModelError:
            return None
        return stored if is_in_place and stored.spec.trained_on.get(_OF) == self._digest(acts) else None

    def run(self, acts: ShopperActs, work: Path) -> StoredUserTower:
        self._progress.begin("acts", None, "")
        learning, held = self._divided(acts.histories)
        if len(held.targets) < MIN_JUDGED:
            chosen = "new products" if self._options.hide_seen else "products"
            raise TrainingError(
                f"{len(held.targets):,} choices of {chosen} among the newest acts; {MIN_JUDGED} are needed to "
                "evaluate a tower"
            )
        self._progress.end(f"{acts}; {len(held.targets):,} choices for the test")
        self._progress.begin("catalog", None, "")
        catalog = UserTowerCatalog.of(self._snapshot)
        self._progress.end(f"{len(catalog.vectors):,} products, {len(catalog.names):,} categories")
        digest = self._digest(acts)
        with run_folder(work, "users", digest) as run:
            return self._judged(catalog, learning, held, self._fitted(catalog, learning, run), digest)

    def _divided(self, histories: Histories) -> tuple[Histories, HeldOutActs]:
        """Training and evaluation acts. The evaluation acts contain none that the serving tower learned from, because
        late older events move the newest share back, unless too few remain."""
        hide = self._options.hide_seen
        serving = self._store.serving(encoding_of(self._snapshot)).model
        until = float(serving.spec.trained_on.get(_UNTIL, -np.inf)) if serving else -np.inf
        learning, held = split_by_time(histories, HELD_OUT, hide_seen=hide, after=until)
        if len(held.targets) < MIN_JUDGED:
            return split_by_time(histories, HELD_OUT, hide_seen=hide)
        return learning, held

    def _digest(self, acts: ShopperActs) -> str:
        """A digest of everything that determines the result; an interrupted run is resumed if it is equal."""
        return run_digest(f"{METHOD} {acts.digest} {self._snapshot.manifest.version} {self._options}")

    def _fitted(self, catalog: UserTowerCatalog, learning: Histories, run: Path) -> UserTower:
        curve: list[Epoch] = []

        def judged(epoch: Epoch) -> None:
            curve.append(epoch)
            self._progress.advance(1)

        self._progress.begin("train", self._options.epochs + 1, "epochs")
        to = Run(run, judged=judged)
        tower = fit(catalog.vectors, learning, self._options, categories=catalog.categories, work=to)
        best = best_of(curve)
        self._progress.end(f"nDCG@10 {best.validation:.4f} after {best.number} epochs, on the validation acts")
        return tower

    def _judged(
        self, catalog: UserTowerCatalog, learning: Histories, held: HeldOutActs, tower: UserTower, digest: str
    ) -> StoredUserTower:
        """Evaluates what is published: the graph as it will serve."""
        options, manifest = self._options, self._snapshot.manifest
        last = learning.times.max(initial=-np.inf)
        spec = UserTowerSpec(
            encoder=manifest.encoder,
            dimension=manifest.dimension,
            width=options.width,
            category_bias={catalog.names[place]: bias for place, bias in tower.learned.category_bias.items()},
            usual_bias=tower.learned.usual_bias,
            neighbour_weight=tower.learned.neighbours.weight,
            neighbour_decay=tower.learned.neighbours.decay,
            neighbour_options=tower.learned.neighbours.options,
            text_prior=tower.learned.prior,
            trained_on={
                "shoppers": len(learning),
                "acts": len(learning.products),
                "seed": options.seed,
                _OF: digest,
                **({_UNTIL: int(np.ceil(last))} if np.isfinite(last) else {}),
                **self._events,
            },
        )

        def judge(challenger: StoredUserTower) -> StoredUserTower:
            self._progress.begin("judge", None, "")
            gate = TowerGate(catalog.vectors, catalog.categories, learning, held)
            scores = catalog.tower(OnnxEncoder(challenger.folder / MODEL_FILE), tower.learned).scores
            report, fallback = gate.report(scores, self._serving(catalog))
            self._progress.end("; ".join(report.rejection_reasons) or "it may serve")
            measured_on = f"the newest {HELD_OUT:.0%} of the acts"
            report = msgspec.structs.replace(report, options=option_values(options), measured_on=measured_on)
            spec = msgspec.structs.replace(challenger.spec, fallback=fallback)
            return replace(challenger, spec=spec, report=report)

        build = partial(write_model, tower=tower, id_of=self._snapshot.products.id_of)
        return self._store.add_judged(build, spec, judge, self._progress).model

    def _serving(self, catalog: UserTowerCatalog) -> Score | None:
        """The scores of the serving tower; None if there is none, or if it cannot be used."""
        stored = self._store.serving(encoding_of(self._snapshot)).model
        try:
            return catalog.scores_of(stored) if stored else None
        except ModelError as error:
            self._progress.begin("serving", None, "")
            self._progress.end(f"what serves cannot be compared with: {error}")
            return None


@dataclass(frozen=True, slots=True)
class UserTowerCatalog:
    """The products of a snapshot, by row."""

    snapshot: Snapshot
    vectors: NDArray[np.float32]
    names: tuple[str, ...]
    """Category names, as whole paths."""
    categories: Ints
    """Positions in `names` (N,); -1 for none."""

    @classmethod
    def of(cls, snapshot: Snapshot) -> UserTowerCatalog:
        """All products of a snapshot."""
        count = len(snapshot.products)
        paths = [CATEGORY_SEPARATOR.join(snapshot.products[row].category) for row in range(count)]
        names = {path: number for number, path in enumerate(sorted({*paths} - {""}))}
        numbers = np.array([names.get(path, -1) for path in paths], np.int64)
        return cls(snapshot, snapshot.vectors.gather(np.arange(count)), tuple(names), numbers)

    def tower(self, encoder: OnnxEncoder, learned: ProductParameters) -> UserTower:
        """A tower that scores these products."""
        return UserTower(encoder, self.vectors, learned, self.categories)

    def scores_of(self, stored: StoredUserTower) -> Score:
        """The scores of an earlier tower, which need not know all products; raises ModelDamagedError."""
        table = read_table(stored)
        found = [
            (row, place)
            for place, name in enumerate(table.ids)
            if (row := self.snapshot.products.row_of(name)) is not None
        ]
        rows, places = np.array(sorted(found), np.int64).reshape(-1, 2).T
        known = {name: place for place, name in enumerate(self.names)}
        biases = {known[name]: bias for name, bias in stored.spec.category_bias.items() if name in known}
        neighbours = table.neighbours.some(places)
        learned = ProductParameters(
            rows,
            table.own[places],
            table.bias[places],
            biases,
            stored.spec.usual_bias,
            neighbours,
            table.chosen[places],
            stored.spec.text_prior,
        )
        return self.tower(OnnxEncoder(stored.folder / MODEL_FILE), learned).scores


TOWER, SERVING, NEAR = "the new tower", "the tower that serves", "near to the last products"
POPULAR, POPULAR_THERE = "popularity", POPULARITY_GAIN
HIT_RATE = "HR@10"
"""The share of shoppers whose next product was in the top ten."""


@dataclass(frozen=True, slots=True, eq=False)
class TowerGate:
    """The data on which a challenger is measured."""

    vectors: NDArray[np.float32]
    """Vectors of all products (N, d)."""
    categories: Ints
    """Category numbers of the products (N,); -1 for none."""
    learned: Histories
    """The training data."""
    held: HeldOutActs

    def report(self, challenger: Score, serving: Score | None) -> tuple[ModelReport, FallbackMethod]:
        """Measures all methods on the same shoppers, and decides on the challenger; also returns the best method
        without a tower.

        It serves if the interval of its gain in nDCG@10 over the current recommendations is above 0, with at least 50
        shoppers. If no tower serves, the current recommendations are the products near to the last ones, or popularity
        within their categories if that is significantly better; the challenger must never be below that popularity.
        """
        methods: dict[str, Score] = {TOWER: challenger, **({SERVING: serving} if serving else {})}
        methods |= {NEAR: self.near, POPULAR_THERE: self.popular_there, POPULAR: self.popular}
        count = len(self.vectors)
        ranks = {name: ranks_by(score, self.held, count) for name, score in methods.items()}
        gains = {name: ndcg(found) for name, found in ranks.items()}
        is_near = paired_bootstrap(gains[POPULAR_THERE], gains[NEAR], seed=7).low <= 0
        old = SERVING if serving else NEAR if is_near else POPULAR_THERE
        difference = paired_bootstrap(gains[TOWER], gains[old], seed=7)
        above = paired_bootstrap(gains[TOWER], gains[POPULAR_THERE], seed=7)

        def compared(part: str, of: Flags, difference: Difference | None) -> MeasureComparison:
            reached, reference = (float(gains[name][of].mean()) for name in (TOWER, old))
            return MeasureComparison(NDCG, part, int(of.sum()), reached, reference, difference)

        whole = compared(ALL_QUERIES, np.ones(len(self.held.targets), np.bool_), difference)
        slices = (compared(name, of, None) for name, of in self.slices().items() if of.any())
        reasons = rejection_reasons(USER_TOWER_GATE, {TOWER_GAIN: difference, POPULARITY_GAIN: above}, "shoppers", old)
        measures = {NDCG: float(gains[TOWER].mean()), HIT_RATE: float(hit_rate(ranks.pop(TOWER)).mean())}
        for name, found in ranks.items():
            measures |= {
                f"{NDCG} of {name}": float(gains[name].mean()),
                f"{HIT_RATE} of {name}": float(hit_rate(found).mean()),
            }
        report = ModelReport(
            against=old,
            measures=measures,
            decision=Decision(not reasons, reasons or (f"better: {whole}",), (whole, *slices)),
            rejection_reasons=reasons,
        )
        return report, "near" if is_near else "in-categories"

    def near(self, histories: Histories, _now: NDArray[np.float64] | None = None) -> NDArray[np.floating]:
        """Scores by nearness, like `shelfwise.service.engine.recommendations` without a tower."""
        return text_scores(self.vectors, histories)

    def popular(self, histories: Histories, _now: NDArray[np.float64] | None = None) -> NDArray[np.floating]:
        """Scores by number of choices."""
        return np.tile(self._counts().astype(np.float32), (len(histories), 1))

    def popular_there(self, histories: Histories, _now: NDArray[np.float64] | None = None) -> NDArray[np.floating]:
        """Scores by number of choices, products in the categories of the shopper's history before others."""
        counts = self._counts().astype(np.float32)
        scores = self.popular(histories)
        for number in range(len(histories)):
            there = self.categories[histories.products[histories.of_shopper(number)]]
            scores[number] += (counts.max() + 1) * np.isin(self.categories, there[there >= 0])
        return scores

    def slices(self) -> Mapping[str, Flags]:
        """Groups of shoppers (n,) by number of acts, and by earlier choices of the next product."""
        acts, chosen = self.held.histories.lengths[self.held.visits], self._counts()[self.held.targets]
        return {
            "shoppers of 1 act": acts == 1,
            "of 2 to 5": (acts >= 2) & (acts <= 5),
            "of more": acts > 5,
            "products without earlier choices": chosen == 0,
            "chosen 1 to 10 times": (chosen >= 1) & (chosen <= 10),
            "chosen more often": chosen > 10,
        }

    def _counts(self) -> Ints:
        return np.bincount(self.learned.products, minlength=len(self.vectors)).astype(np.int64)
