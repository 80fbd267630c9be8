"""Learning from clicks: from a store's events to a ranker that is published or rejected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shelfwise.rerank.click_models.click_log import shown_places
from shelfwise.rerank.evaluation.promotion import MRR
from shelfwise.rerank.model_store import DEFAULT_MODEL, WEIGHTS_FILE
from shelfwise.rerank.ranker.features import ACT_KINDS, FEATURES
from shelfwise.rerank.ranker.network import EVENTS, HistoryAttention, NetworkShape, RankerNetwork, load_network
from shelfwise.rerank.ranker.spec import ERASURES, STORES, StoredRanker, ranker_store
from shelfwise.rerank.training.click_dataset import ShownLists, place_pairs, shown_lists
from shelfwise.rerank.training.click_training import (
    adopt_features,
    choose_mixing,
    new_attention,
    new_network,
    replace_attention,
    train_federated,
    train_on_clicks,
    train_privately,
)
from shelfwise.rerank.training.datasets import CandidateLists, ListData, full_batches, merged_scores
from shelfwise.rerank.training.history_training import (
    MIN_DISPLAYS,
    MIN_SHOPPERS,
    Acts,
    HistoryData,
    HistoryEvaluation,
    HistoryTraining,
    ShopperDisplays,
    split_by_shopper,
    train_history,
)
from shelfwise.rerank.training.list_scores import outputs_of
from shelfwise.rerank.training.losses import propensities
from shelfwise.rerank.training.trainer import Run, run_digest, run_folder, spare_threads, tensorboard_curve
from shelfwise.retrieval.progress import Progress
from shelfwise.service.engine.served_models import encoding_of
from shelfwise.service.engine.snapshot import Snapshot
from shelfwise.service.events.popular_queries import read_popular_queries
from shelfwise.service.events.signals import read_memory
from shelfwise.service.training.click_dataset import (
    NOTHING_EARLIER,
    ClickRankerOptions,
    ClickTraining,
    ClickTrainingSet,
    Earlier,
    HistoryResult,
    TrainedNetwork,
    build_training_set,
    digest,
)
from shelfwise.service.training.ranker_promotion import changed_queries, judged, network_files, off_policy, spec_of


@spare_threads()
def click_ranker(
    snapshot: Snapshot,
    events: pl.DataFrame,
    work: Path,
    root: Path,
    options: ClickRankerOptions,
    now: float,
    progress: Progress,
    *,
    acts: pl.DataFrame | None = None,
    earlier: Earlier = NOTHING_EARLIER,
    before_judging: Callable[[], None] = lambda: None,
) -> ClickTraining:
    """Trains on the events of `DerivedTables.lists`; the ranker serves if it is better on the last of
    them.

    `acts` are those of `DerivedTables.acts`, the shoppers' histories; None omits them. `earlier` returns the data known
    at a time. `before_judging` is called after the
    training and before anything is published; a run killed during it finds the networks again. An interrupted run is
    resumed from its state in `work`. Raises TrainingError if there is too little data, EncoderError if queries cannot
    be encoded, and the errors of the registry.
    """
    registry = ranker_store(root)
    served = registry.serving(encoding_of(snapshot)).model
    made = build_training_set(snapshot, events, served, options, now, progress, earlier)
    start = new_start(made)
    with run_folder(work, "clicks", digest(made, start.parent)) as run:
        chosen = train_network(made, start.network, run, progress)
        history = train_history_phase(made, chosen, acts, start.attention, run, progress)
        before_judging()
        spec = spec_of(made, chosen, history, start.parent, earlier.events)
        judge = partial(judged, made, history, progress)
        network = replace_attention(chosen.network, history.attention)
        added = registry.add_judged(network_files(network, chosen.curve), spec, judge, progress)
    now_popular = earlier.popularity(cast(datetime, made.periods.held_out["time"].max()))
    examples = changed_queries(made, added.model, now_popular, read_memory(root), read_popular_queries(root))
    estimate = off_policy(made, added.model, progress)
    return ClickTraining(made, chosen, history, added, examples, estimate)


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """The initial network: that of the serving ranker, or a new one if the shipped ranker serves or a shopper was
    erased since the training."""

    network: RankerNetwork
    """The network without history attention."""
    attention: HistoryAttention | None = None
    """Attention over histories; None for a ranker that reads none."""
    parent: str = ""
    """Identity of the serving ranker."""


def new_start(made: ClickTrainingSet) -> Start:
    """The start of a training."""
    features = made.clicks.lists.features
    if made.served is not None and _can_go_on(made.served, made.options):
        served = load_network(made.served.folder / WEIGHTS_FILE)
        network = replace_attention(served, None)
        adopt_features(network, features)
        return Start(network, served.history, made.served.spec.identity)
    seen = made.data.data.shown_features(made.options.training.dropped, made.options.training.seed)
    # Noise grows with the number of weights.
    layers = 0 if made.options.training.private else 1
    shape = NetworkShape(made.data.data.states.dimension, 0, len(FEATURES), layers=layers, history=0)
    return Start(new_network(shape, seen, made.options.training.seed))


def _can_go_on(served: StoredRanker, options: ClickRankerOptions) -> bool:
    """Whether a training may start from the weights of the serving ranker: they are the store's own, and no shopper in
    their training data has been erased since or must be hidden."""
    if options.training.private is not None or options.federation is not None:
        return False
    if STORES in served.spec.trained_on:  # erasures of the other stores are not known
        return False
    is_erased = served.spec.trained_on.get(ERASURES, options.erasures) != options.erasures
    return served.name != DEFAULT_MODEL and served.spec.features == FEATURES and not is_erased


def train_network(made: ClickTrainingSet, start: RankerNetwork, run: Path, progress: Progress) -> TrainedNetwork:
    """Trains a network, and chooses its mixing; `run` stores an interrupted training, unless it is federated."""
    options, federation, method = made.options.training, made.options.federation, made.options.method
    epochs = options.loop.epochs if federation is None else federation.rounds
    steps = -(-len(made.clicks.usable) // options.lists) * epochs
    progress.begin(method, None if options.private else steps, "steps")
    to, guarantee = Run(run / method, progress.advance, tensorboard_curve(run, method)), None
    if federation is not None:
        network, curve = train_federated(start, made.data, made.validation, options, federation, to)
    elif options.private is not None:
        network, curve, guarantee = train_privately(start, made.data, made.validation, options, options.private, to)
    else:
        network, curve = train_on_clicks(start, made.data, made.validation, options, to)
    trained = TrainedNetwork(method, network, curve, choose_mixing(network, made.validation), guarantee)
    progress.end(trained.summary)
    return trained


# The second phase of learning from clicks: attention over shoppers' histories, kept if it helps significantly.

HISTORIES = "histories"


def train_history_phase(
    made: ClickTrainingSet,
    chosen: TrainedNetwork,
    acts: pl.DataFrame | None,
    start: HistoryAttention | None,
    run: Path,
    progress: Progress,
) -> HistoryResult:
    """Trains attention over histories on top of the chosen network, which is unchanged.

    `acts` are those of `DerivedTables.acts`, None without known shoppers; `start` is the attention of
    the serving ranker, None if it has none. `run` stores an interrupted training.
    """
    progress.begin("shoppers", None, "")
    training = history_training(made, chosen, acts)
    if isinstance(training, str):
        progress.end(training)
        return HistoryResult(training)
    found = f"{len(training.data.displays):,} displays with a history"
    progress.end(f"{found} to learn from, {training.judges.shoppers:,} later shoppers for validation and test")
    progress.begin(HISTORIES, training.steps * training.options.loop.epochs, "steps")
    start = start or new_attention(encoding_of(made.snapshot).vector_dimension, training.seed)
    folder = run / f"{HISTORIES}-{_digest(training)}"
    to = Run(folder, progress.advance, tensorboard_curve(run, HISTORIES))
    attention = train_history(start, training, to)
    gain = training.judges.gain(attention)
    is_better = gain.low > 0
    interval = f"{gain.mean:+z.4f} ({gain.low:+z.4f} to {gain.high:+z.4f}, {gain.queries:,} shoppers)"
    summary = f"{found}; {MRR} {interval}: {'kept' if is_better else 'no significant gain, left out'}"
    progress.end(summary)
    return HistoryResult(summary, attention if is_better else None, gain)


def history_training(
    made: ClickTrainingSet, chosen: TrainedNetwork, acts: pl.DataFrame | None
) -> HistoryTraining | str:
    """The training of attention over histories, or the reason why there is none."""
    if made.options.training.private is not None:
        return "a private training reads no histories: left out"
    if acts is None or "shopper" not in made.periods.training.columns:
        return "no known shoppers: left out"
    row_of, options = made.snapshot.products.row_of, made.options
    shoppers = KnownShoppers.of(acts, row_of)
    before, after = made.periods.training, made.periods.validation
    learned = find_displays(before, made.evidence, shoppers, made.clicks.lists, row_of)
    learned = learned.informative(options.histories.most)
    later = shown_lists(after, made.evidence.log.depth)
    judged = find_displays(after, later, shoppers, made.validating.data.lists, row_of).informative(outputs=1)
    if len(learned) < MIN_DISPLAYS:
        return f"{len(learned):,} displays with a history, {MIN_DISPLAYS} are needed: left out"
    known = len(np.unique(judged.shopper))
    if known < 2 * MIN_SHOPPERS:
        few = f"{known:,} shoppers for validation and test, {2 * MIN_SHOPPERS} are needed"
        return f"{len(learned):,} displays with a history, {few}: left out"

    chances = propensities(made.evidence.examination, options.training.least_propensity)
    data = _data(made, judged, made.validating.data, shoppers, chosen)
    choosing, judging = (replace(data, displays=half) for half in split_by_shopper(judged))
    return HistoryTraining(
        _data(made, learned, made.data.data, shoppers, chosen),
        HistoryEvaluation(choosing, judging, chances, chosen.mixing.event_weights),
        options.training.tasks,
        options.histories,
        options.training.seed,
    )


def _data(
    made: ClickTrainingSet, displays: ShopperDisplays, data: ListData, shoppers: KnownShoppers, chosen: TrainedNetwork
) -> HistoryData:
    """Displays whose base (m, 3) is the chosen network's score of the shown candidates, mixed with the merged score as
    in serving; the values of other candidates are not read."""
    shown = np.unique(displays.places[displays.places >= 0])
    selected = data.lists.select(shown)
    shown_data = replace(data, lists=selected, targets=data.targets[shown])
    base = np.zeros((len(data.lists.rows), len(EVENTS)), np.float32)
    base[shown] = outputs_of(chosen.network, full_batches(shown_data, np.flatnonzero(selected.lengths)))
    # The three weights add up to 1, so a combined score contains the merged one once.
    mixed = np.asarray(base + chosen.mixing.mix * merged_scores(data.lists)[:, None])
    return HistoryData(displays, shoppers.past, data.lists.rows, mixed, made.snapshot.vectors.gather)


def _digest(training: HistoryTraining) -> str:
    """A digest that changes if the training data would differ."""
    arrays: list[NDArray[np.generic]] = []
    for each in (training.data, training.judges.choosing):
        shown = each.displays
        arrays += [shown.times, shown.places, shown.acts, shown.first, shown.behind, each.base, each.past.rows]
    return run_digest(repr(training.judges.event_weights), *arrays)


RowOf = Callable[[str], int | None]
"""The row of a product id; None if the catalog does not have it."""


def placed_acts(acts: pl.DataFrame, row_of: RowOf) -> pl.DataFrame:
    """The acts of kinds in `ACT_KINDS` with `place`, that of the kind, and `row`, null if the product is gone."""
    ids = acts["product_id"].cast(pl.String).unique().to_list()
    rows = pl.DataFrame({"product_id": ids, "row": [*map(row_of, ids)]}, {"product_id": pl.String, "row": pl.Int64})
    kinds = pl.DataFrame({"kind": ACT_KINDS, "place": range(len(ACT_KINDS))}, {"kind": pl.String, "place": pl.Int64})
    named = acts.with_columns(pl.col("product_id", "kind").cast(pl.String))
    return named.join(rows, on="product_id", how="left").join(kinds, on="kind")


@dataclass(frozen=True, slots=True, eq=False)
class KnownShoppers:
    """Shoppers with known acts."""

    names: pl.DataFrame
    """shopper (pseudonym), number."""
    past: Acts

    @classmethod
    def of(cls, acts: pl.DataFrame, row_of: RowOf) -> KnownShoppers:
        """Builds it from `DerivedTables.acts`, without acts on products that no longer exist."""
        known = (
            placed_acts(acts.filter(pl.col("shopper") != ""), row_of)
            .drop_nulls("row")
            .with_columns(at=pl.col("time").dt.epoch("ms"))
            .sort("shopper", "at", "row", "place")
            .with_columns(number=pl.col("shopper").rle_id().cast(pl.Int64))
        )
        columns = (known[name].to_numpy() for name in ("number", "row", "place", "at"))
        return cls(known.select("shopper", "number").unique(), Acts(*columns))


def find_displays(
    events: pl.DataFrame, shown: ShownLists, shoppers: KnownShoppers, lists: CandidateLists, row_of: RowOf
) -> ShopperDisplays:
    """The lists of a period's events with acts that exactly one known shopper was shown, earliest first, as indexes
    into the current candidates of their queries."""
    acted = pl.DataFrame({"row": np.flatnonzero(shown.acts.any(axis=(1, 2)))}, schema={"row": pl.Int64})
    owners = _whose(events, shown.log.depth, shoppers).join(acted, on="row", how="semi", maintain_order="left")
    at, shopper, times = (owners[name].to_numpy() for name in ("row", "number", "at"))
    pairs = place_pairs(shown.pairs, lists, row_of)
    places = np.append(pairs["place"].fill_null(-1).to_numpy(), -1)[shown.log.pairs[at]]
    acts = shown.acts[at] & (places >= 0)[..., None]
    return ShopperDisplays(shopper, times, places, acts, *shoppers.past.before(shopper, times))


def _whose(events: pl.DataFrame, depth: int, shoppers: KnownShoppers) -> pl.DataFrame:
    """row (of the log), number (of the shopper), at: the lists that exactly one shopper was shown."""
    rows = shown_places(events, depth).select("row", "query_id").unique()
    seen = events.filter((pl.col("kind").cast(pl.String) == "impression") & (pl.col("query_id") != ""))
    whose = seen.group_by("query_id").agg(
        pl.col("shopper").first(), _shoppers=pl.col("shopper").n_unique(), at=pl.col("time").min().dt.epoch("ms")
    )
    one = whose.filter(pl.col("_shoppers") == 1)
    found = rows.join(one, on="query_id").join(shoppers.names, on="shopper").sort("row")
    return found.select(pl.col("row").cast(pl.Int64), "number", "at")
