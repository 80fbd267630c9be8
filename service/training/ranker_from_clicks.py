"""Learning from clicks: from a store's events to a ranker that is published, or rejected."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from rerank.model_store import DEFAULT_MODEL, WEIGHTS_FILE
from rerank.ranker.features import FEATURES
from rerank.ranker.network import HistoryAttention, NetworkShape, RankerNetwork, load_network
from rerank.ranker.spec import AddedRanker, RankerStore, ranker_store
from rerank.training.click_training import (
    ClickMethod,
    adopt_features,
    choose_mixing,
    new_network,
    replace_attention,
    train_on_clicks,
)
from rerank.training.trainer import best_of, charted
from retrieval.progress import Progress
from service.engine.models import encoding_of
from service.engine.snapshot import Snapshot
from service.events.signals import NO_POPULARITY, PopularBefore
from service.training.click_dataset import (
    ClickRankerOptions,
    ClickTraining,
    ClickTrainingSet,
    HistoryResult,
    TrainedNetwork,
    build_training_set,
    digest,
)
from service.training.ranker_history import train_history_phase
from service.training.ranker_promotion import judged, publish_judged, spec_of

NAIVE: ClickMethod = "naive"
_RUN = "clicks-"


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
    popular: PopularBefore = lambda _end: NO_POPULARITY,
    before_judging: Callable[[], None] = lambda: None,
) -> ClickTraining:
    """Trains on the events of `rerank.sessions.tables.Derived.lists`, and lets the ranker serve where it is better
    on the last of them; see `rerank.gate`.

    `acts` are those of `Derived.acts`: what shoppers' histories are made of, which the ranker learns to read after all
    else; None leaves histories out. `popular` tells what was popular before a time. The naive way is always trained
    beside, and reported. `before_judging` is called once all networks are trained and nothing is published yet: what
    takes long besides has its place there, as a run that is killed in it finds the networks again. A run that was
    interrupted left its state in `work`, and goes on from there. Raises TrainingError where there is too little to
    learn from, EncoderError where queries cannot be encoded, and what the registry raises.
    """
    registry = ranker_store(root)
    served = registry.serving(encoding_of(snapshot)).model
    made = build_training_set(snapshot, events, served, options, now, progress, popular)
    start = _start(made)
    run = work / f"{_RUN}{digest(made, start.parent)}"
    ways = dict.fromkeys((options.method, NAIVE))
    networks = {way: _train_network(made, start.network, way, run, progress) for way in ways}
    history = train_history_phase(made, networks[options.method], acts, start.attention, run, progress)
    before_judging()
    added = _published(made, networks, history, start.parent, registry, progress)
    for over in work.glob(f"{_RUN}*"):
        shutil.rmtree(over)
    return ClickTraining(made, networks, history, added)


@dataclass(frozen=True, slots=True, eq=False)
class _Start:
    """What training begins with: the ranker that serves, or a new one where that is nobody's own."""

    network: RankerNetwork
    """Without a history."""
    attention: HistoryAttention | None = None
    """Over histories; None for a ranker that reads none."""
    parent: str = ""
    """The identity of the one that serves."""


def _start(made: ClickTrainingSet) -> _Start:
    features = made.clicks.lists.features
    if made.served is not None and made.served.name != DEFAULT_MODEL:
        served = load_network(made.served.folder / WEIGHTS_FILE)
        network = replace_attention(served, None)
        adopt_features(network, features)
        return _Start(network, served.history, made.served.spec.identity)
    seen = made.data.data.shown_features(made.options.training.draw.dropped, made.options.training.seed)
    shape = NetworkShape(made.data.data.states.dimension, 0, len(FEATURES), layers=1, history=0)
    return _Start(new_network(shape, seen, made.options.training.seed))


def _train_network(
    made: ClickTrainingSet, start: RankerNetwork, way: ClickMethod, run: Path, progress: Progress
) -> TrainedNetwork:
    options = made.options.training
    steps = -(-len(made.clicks.usable) // options.draw.lists) * options.loop.epochs
    progress.begin(way, steps, "steps")
    with charted(run.parent, run.name, way) as judged_epoch:
        network, curve = train_on_clicks(
            start,
            made.data,
            made.validation,
            way,
            options,
            run / way,
            progress.advance,
            judged=judged_epoch,
        )
    mixing = choose_mixing(network, made.validation)
    best = best_of(curve)
    progress.end(f"epoch {best.number} is best: nDCG@10 {best.validation:.4f}, {mixing.ndcg:.4f} mixed")
    return TrainedNetwork(way, network, curve, mixing)


def _published(
    made: ClickTrainingSet,
    networks: Mapping[ClickMethod, TrainedNetwork],
    history: HistoryResult,
    parent: str,
    registry: RankerStore,
    progress: Progress,
) -> AddedRanker:
    chosen = networks[made.options.method]
    spec, judge = spec_of(made, chosen, history, parent), partial(judged, made, networks[NAIVE], history, progress)
    network = replace_attention(chosen.network, history.attention)
    return publish_judged(registry, network, chosen.curve, spec, judge, progress)
