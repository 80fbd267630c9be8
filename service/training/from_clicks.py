"""Learning from clicks: from a store's events to a ranker that is published, or kept aside."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import xxhash
from numpy.typing import NDArray

from rerank.gate.bootstrap import paired_bootstrap
from rerank.gate.likelihood import ClickLikelihood
from rerank.gate.verdict import LIKELIHOOD, MRR, NDCG, QueryMeasures, Verdict
from rerank.ranker.features import FEATURES
from rerank.ranker.network import NetworkShape, RankerNetwork
from rerank.ranker.network_file import load_network
from rerank.ranker.onnx_ranker import OnnxRanker
from rerank.ranker.registry import Added, Published, RankerRegistry
from rerank.ranker.spec import WEIGHTS_FILE, RankerReport, RankerSpec
from rerank.training.calibration import fit_calibration
from rerank.training.checkpoint import Epoch
from rerank.training.click_batches import ClickData
from rerank.training.click_evidence import ClickEvidence, learned, queries_with_clicks
from rerank.training.click_lists import ClickLists, click_lists
from rerank.training.click_periods import by_time
from rerank.training.click_training import ClickOptions, Validation, Way, train_on_clicks
from rerank.training.mixing import Mixing, best_mixing
from rerank.training.propensity import propensities
from rerank.training.starting import new_network, take_up_features
from service.served_ranker import encoding_of
from service.snapshot import Snapshot
from service.training.candidate_lists import candidate_lists
from service.training.click_gate import ClickGate, Scorer, merged_order, ranked_by
from service.training.click_trials import Trial, TrialOptions, trial
from service.training.from_catalog import Progress, list_data
from service.training.publishing import publish_judged

NAIVE: Way = "naive"
_RUN = "clicks-"


@dataclass(frozen=True, slots=True)
class FromClicks:
    """What to learn from, and how."""

    way: Way = "debiased"
    training: ClickOptions = field(default_factory=ClickOptions)
    queries: int = 20_000
    """The most frequent ones with a click."""
    candidates: int = 28
    """Of each of them."""
    depth: int = 100
    """Of the merged order: what serving reranks."""
    validating: int = 500
    """Queries that choose, the most frequent ones."""


@dataclass(frozen=True, slots=True, eq=False)
class Taught:
    """A network that was trained, with what becomes its score."""

    way: Way
    network: RankerNetwork
    curve: Sequence[Epoch]
    mixing: Mixing


@dataclass(frozen=True, slots=True, eq=False)
class _Material:
    """What a training works with."""

    snapshot: Snapshot
    evidence: ClickEvidence
    clicks: ClickLists
    data: ClickData
    validating: Trial
    held_out: Trial
    served: Published | None
    options: FromClicks

    @property
    def validation(self) -> Validation:
        return Validation(self.validating.data, self.validating.numbers)


def click_ranker(
    snapshot: Snapshot,
    events: pl.DataFrame,
    work: Path,
    root: Path,
    options: FromClicks,
    now: float,
    progress: Progress,
) -> Added:
    """Trains on the events of `rerank.behaviour.derived.Derived.lists`, and lets the ranker serve where it is better
    on the last of them; see `rerank.gate`.

    The naive way is always trained beside, and reported. A run that was interrupted left its state in `work`, and goes
    on from there. Raises TrainingError where there is too little to learn from, EncoderError where queries cannot be
    encoded, and what the registry raises.
    """
    registry = RankerRegistry(root)
    served = registry.serving(encoding_of(snapshot)).ranker
    made = _material(snapshot, events, served, options, now, progress)
    start, parent = _start(made)
    run = work / f"{_RUN}{_digest(made, parent)}"
    ways = dict.fromkeys((options.way, NAIVE))
    taught = {way: _taught(made, start, way, run, progress) for way in ways}
    added = _published(made, taught[options.way], taught[NAIVE], parent, registry)
    for over in work.glob(f"{_RUN}*"):
        shutil.rmtree(over)
    return added


def _material(
    snapshot: Snapshot,
    events: pl.DataFrame,
    served: Published | None,
    options: FromClicks,
    now: float,
    progress: Progress,
) -> _Material:
    progress.begin("labels", None, "")
    periods = by_time(events)
    evidence = learned(periods.training)
    queries = queries_with_clicks(evidence, options.queries)
    progress.end(f"{evidence.log.size:,} lists, {len(queries):,} queries with clicks")
    progress.begin("candidates", len(queries), "queries")
    found = candidate_lists(snapshot, queries, now, depth=options.depth, progress=progress.advance)
    clicks = click_lists(evidence, found, snapshot.products.row_of, options.candidates, options.training.seed)
    left = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in clicks.left_out.counts().items() if count)
    progress.end(f"{len(clicks.usable):,} queries to learn from" + (f"; left out: {left}" if left else ""))
    data = ClickData(clicks, list_data(snapshot, clicks.lists, clicks.gains[:, 0]))
    progress.begin("trials", None, "")
    chances = propensities(evidence.examination, options.training.least_propensity)
    validating = trial(
        snapshot, periods.validation, chances, TrialOptions(now, options.depth, queries=options.validating)
    )
    held_out = trial(snapshot, periods.held_out, chances, TrialOptions(now, options.depth))
    progress.end(f"{len(validating.numbers):,} later queries choose, {len(held_out.numbers):,} still later ones judge")
    return _Material(snapshot, evidence, clicks, data, validating, held_out, served, options)


def _start(made: _Material) -> tuple[RankerNetwork, str]:
    """The network that serves, and its identity; a new one where none does."""
    features = made.clicks.lists.features
    if made.served is not None:
        network = load_network(made.served.folder / WEIGHTS_FILE)
        take_up_features(network, features)
        return network, made.served.spec.identity
    seen = made.data.data.shown_features(made.options.training.draw.dropped, made.options.training.seed)
    shape = NetworkShape(made.data.data.states.dimension, 0, len(FEATURES), layers=1, history=0)
    return new_network(shape, seen, made.options.training.seed), ""


def _taught(made: _Material, start: RankerNetwork, way: Way, run: Path, progress: Progress) -> Taught:
    options = made.options.training
    steps = -(-len(made.clicks.usable) // options.draw.lists) * options.loop.epochs
    progress.begin(way, steps, "steps")
    network, curve = train_on_clicks(
        start, made.data, made.validation, way, options, run / way, lambda done, _loss: progress.advance(done)
    )
    mixing = best_mixing(network, made.validation)
    best = max(curve, key=lambda epoch: epoch.validation)
    progress.end(f"epoch {best.number} is best: nDCG@10 {best.validation:.4f}, {mixing.ndcg:.4f} mixed")
    return Taught(way, network, curve, mixing)


def _digest(made: _Material, parent: str) -> str:
    """Another one where a run would train on anything else, or otherwise."""
    manifest = made.snapshot.manifest
    digest = xxhash.xxh3_64(f"{manifest.version} {manifest.encoder} {parent} {made.options}".encode())
    lists, told = made.clicks.lists, made.clicks.displays
    validating = made.validating.data
    for array in (lists.rows, lists.features, made.clicks.gains, told.places, told.acts, validating.targets):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _published(made: _Material, chosen: Taught, naive: Taught, parent: str, registry: RankerRegistry) -> Added:
    spec = _spec(made, chosen, parent)
    return publish_judged(registry, chosen.network, chosen.curve, spec, partial(_judged, made, naive))


def _judged(made: _Material, naive: Taught, challenger: Published) -> tuple[RankerReport, Verdict]:
    known = frozenset(made.evidence.pairs["product_id"])
    likelihood = ClickLikelihood.fit(made.evidence.log)
    gate = ClickGate(made.snapshot, made.validating, made.held_out, likelihood, known)
    reached, merged = gate.measures(ranked_by(OnnxRanker(challenger))), gate.measures(merged_order)
    against = gate.measures(ranked_by(OnnxRanker(made.served))) if made.served else merged
    measures = {name: _mean(values, made.held_out.traffic) for name, values in _named(reached)}
    measures |= {f"{NDCG} of the merged order": _mean(merged.ndcg, made.held_out.traffic)}
    measures |= _beside_naive(reached, gate.measures(_by_network(naive)), made.held_out.traffic)
    verdict = gate.verdict(reached, against)
    report = RankerReport(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        measured_on=f"{made.held_out.log.size:,} lists, the last ones, of {len(made.held_out.traffic):,} queries",
        measures={name: value for name, value in measures.items() if np.isfinite(value)},
        against=made.served.name if made.served else "the merged order",
        verdict=verdict,
    )
    return report, verdict


def _beside_naive(reached: QueryMeasures, naive: QueryMeasures, traffic: NDArray[np.float64]) -> dict[str, float]:
    """What training on clicks as they are would have reached, and the interval of what is gained over it."""
    if np.isnan(reached.ndcg).all():
        return {}
    gain = paired_bootstrap(reached.ndcg, naive.ndcg, traffic)
    return {
        f"{NDCG} of naive training": _mean(naive.ndcg, traffic),
        "above naive": gain.mean,
        "above naive, at least": gain.low,
        "above naive, at most": gain.high,
    }


def _by_network(taught: Taught) -> Scorer:
    """Scores of a network that is not published."""

    def scores(on: Trial) -> NDArray[np.float64]:
        everything = Validation(on.data, np.arange(len(on.data.lists)))
        return taught.mixing.scores(taught.network, everything).astype(np.float64)

    return scores


def _named(measures: QueryMeasures) -> tuple[tuple[str, NDArray[np.float64]], ...]:
    return (NDCG, measures.ndcg), (MRR, measures.reciprocal_rank), (LIKELIHOOD, measures.click_likelihood)


def _mean(values: NDArray[np.float64], traffic: NDArray[np.float64]) -> float:
    counts = np.isfinite(values) & (traffic > 0)
    return float(np.average(values[counts], weights=traffic[counts])) if counts.any() else float("nan")


def _spec(made: _Material, chosen: Taught, parent: str) -> RankerSpec:
    encoding, options = encoding_of(made.snapshot), made.options
    shown = np.flatnonzero(made.clicks.is_shown)
    everything = Validation(made.data.data, np.arange(len(made.clicks.lists)))
    found = chosen.mixing.scores(chosen.network, everything).astype(np.float64)
    return RankerSpec(
        encoder=encoding.encoder,
        state_dimension=made.data.data.states.dimension,
        vector_dimension=encoding.vector_dimension,
        features=FEATURES,
        layers=chosen.network.shape.layers,
        precision="fp32",
        mix=chosen.mixing.mix,
        event_weights=chosen.mixing.event_weights,
        calibration=fit_calibration(found[shown], made.clicks.gains[shown, 0].astype(np.float64)),
        neutral=tuple(chosen.network.centre.tolist()),
        trained_on={
            "catalog": made.snapshot.manifest.version,
            "lists": made.evidence.log.size,
            "queries": len(made.clicks.usable),
            "way": chosen.way,
            "seed": options.training.seed,
        },
        parent=parent,
    )
