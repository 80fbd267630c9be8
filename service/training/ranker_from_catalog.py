"""From taught lists to a published ranker: networks distilled, the better one chosen, judged, and then published."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray
from scipy.special import expit

from rerank.evaluation.promotion import NDCG, Decision, QueryMeasures, decide
from rerank.evaluation.statistics import paired_bootstrap
from rerank.ranker.features import FEATURES
from rerank.ranker.network import NetworkShape, RankerNetwork
from rerank.ranker.onnx import OnnxRanker
from rerank.ranker.spec import AddedRanker, RankerReport, RankerSpec, StoredRanker, ranker_store
from rerank.training.click_training import MIXES
from rerank.training.datasets import ListData, full_batches, merged_scores
from rerank.training.distillation import (
    DistillationCatalog,
    DistilOptions,
    ListSplit,
    agreement,
    distil,
    mix_targets,
    split_lists,
)
from rerank.training.evaluation import fit_calibration, ranker_scores, scores_of
from rerank.training.trainer import Epoch, best_of, tensorboard_curve
from retrieval.progress import Progress
from service.engine.models import encoding_of
from service.engine.snapshot import Snapshot
from service.training.ranker_dataset import ScoredLists, list_data
from service.training.ranker_promotion import publish_judged

_RUN = "catalog-"
EVENT_WEIGHTS = (0.5, 0.3, 0.2)
"""A distilled network says the same of all events."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A network that was trained, with the mixing weight that suits it."""

    network: RankerNetwork
    curve: tuple[Epoch, ...]
    mix: float
    scores: NDArray[np.float32]
    """Of the candidates of the validation queries (m,), mixed."""
    agreement: NDArray[np.float64]
    """With the teacher (validation queries,): see `rerank.training.distillation.agreement`."""


def distil_ranker(
    snapshot: Snapshot, scored: ScoredLists, work: Path, root: Path, options: DistilOptions, progress: Progress
) -> AddedRanker:
    """Trains the features head and a cross-attention layer, chooses between them on validation queries, and publishes
    the chosen one for the index directory `root` where it is better than what serves on others; see `rerank.gate`.

    A run that was interrupted left its state in `work`, and goes on from there. Raises TrainingError, and what the
    registry raises.
    """
    data = list_data(snapshot, scored.lists, mix_targets(scored.lists, scored.teacher_scores))
    parts = split_lists(scored.lists, seed=options.seed)
    run = work / f"{_RUN}{_digest(snapshot, data, options)}"
    contenders = [_contender(data, parts, layers, options, run, progress) for layers in (0, 1)]
    chosen = choose(contenders)
    spec = _spec(snapshot, data, scored, parts, chosen, options)
    registry = ranker_store(root)
    served = registry.serving(encoding_of(snapshot)).model
    judge = partial(_judged, data, parts, served, progress)
    added = publish_judged(registry, chosen.network, chosen.curve, spec, judge, progress)
    for over in work.glob(f"{_RUN}*"):
        shutil.rmtree(over)
    return added


def choose(contenders: Sequence[Contender]) -> Contender:
    """The last one that is surely better than all before it: what costs more has to earn it."""
    best, *others = contenders
    for other in others:
        if paired_bootstrap(other.agreement, best.agreement).low > 0:
            best = other
    return best


def _contender(
    data: ListData, parts: ListSplit, layers: int, options: DistilOptions, run: Path, progress: Progress
) -> Contender:
    dimension = data.states.dimension
    shape = NetworkShape(dimension, 0, len(FEATURES), layers=layers, history=0)
    name = "attention" if layers else "features"
    steps = -(-len(parts.training) // options.lists) * options.loop.epochs
    progress.begin(name, steps, "steps")
    catalogs, judged = [DistillationCatalog(data, parts)], tensorboard_curve(run, name)
    network, curve = distil(catalogs, shape, options, run / name, progress.advance, judged=judged)
    found = scores_of(network, full_batches(data, parts.validation), EVENT_WEIGHTS)
    merged = merged_scores(data.lists)[data.lists.places(parts.validation)]
    agreements = {mix: agreement(data, parts.validation, found + mix * merged) for mix in MIXES}
    mix = max(MIXES, key=lambda each: float(agreements[each].mean()))
    best = best_of(curve)
    progress.end(f"epoch {best.number} is best: agreement {best.validation:.4f}, {agreements[mix].mean():.4f} mixed")
    return Contender(network, curve, mix, found + mix * merged, agreements[mix])


def _digest(snapshot: Snapshot, data: ListData, options: DistilOptions) -> str:
    """Another one where a run would train on anything else, or otherwise."""
    digest = xxhash.xxh3_64(f"{snapshot.manifest.version} {snapshot.manifest.encoder} {options}".encode())
    for array in (data.lists.offsets, data.lists.rows, data.lists.features, data.targets):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _spec(
    snapshot: Snapshot, data: ListData, scored: ScoredLists, parts: ListSplit, chosen: Contender, options: DistilOptions
) -> RankerSpec:
    fits = expit(scored.teacher_scores[data.lists.places(parts.validation)].astype(np.float64))
    encoding = encoding_of(snapshot)
    return RankerSpec(
        encoder=encoding.encoder,
        state_dimension=data.states.dimension,
        vector_dimension=encoding.vector_dimension,
        features=FEATURES,
        layers=chosen.network.shape.layers,
        precision="fp32",
        mix=chosen.mix,
        event_weights=EVENT_WEIGHTS,
        calibration=fit_calibration(chosen.scores.astype(np.float64), fits),
        neutral=tuple(chosen.network.centre.tolist()),
        trained_on={
            "catalog": snapshot.manifest.version,
            "queries": len(parts.training),
            "teacher": scored.teacher,
            "seed": options.seed,
        },
    )


def _judged(
    data: ListData, parts: ListSplit, served: StoredRanker | None, progress: Progress, made: StoredRanker
) -> tuple[RankerReport, Decision]:
    """What it reaches on the held-out queries, as it will be served, against what serves."""
    progress.begin("evaluation", None, "")
    reached = _agreement(data, parts.held_out, OnnxRanker(made))
    merged = agreement(data, parts.held_out, merged_scores(data.lists)[data.lists.places(parts.held_out)])
    against = _agreement(data, parts.held_out, OnnxRanker(served)) if served else merged
    progress.end(f"agreement {reached.mean():.4f} on held-out queries, {merged.mean():.4f} of the merged order")
    progress.begin("gate", None, "")
    decision = decide(_measures(reached), _measures(against))
    progress.end(str(decision))
    report = RankerReport(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        measured_on=f"{len(parts.held_out)} synthetic queries by {made.spec.trained_on['teacher']}",
        measures={NDCG: float(reached.mean()), f"{NDCG} of the merged order": float(merged.mean())},
        against=served.name if served else "the merged order",
        decision=decision,
    )
    return report, decision


def _agreement(data: ListData, numbers: NDArray[np.int64], ranker: OnnxRanker) -> NDArray[np.float64]:
    return agreement(data, numbers, ranker_scores(ranker, data, numbers.tolist()))


def _measures(agreements: NDArray[np.float64]) -> QueryMeasures:
    """nDCG@10 alone: there are no clicks, and to a teacher every candidate is worth something."""
    unknown = np.full(len(agreements), np.nan)
    return QueryMeasures(agreements, unknown, unknown)
