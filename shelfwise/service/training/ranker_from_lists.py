"""Training of a ranker on lists of queries: two networks are trained, the better one is evaluated and published.

The lists belong to queries generated from the catalog, which a teacher scores, or to judged queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from shelfwise.rerank.evaluation.promotion import MIN_JUDGED, NDCG, decide, shortage
from shelfwise.rerank.evaluation.statistics import paired_bootstrap
from shelfwise.rerank.ranker.features import FEATURES
from shelfwise.rerank.ranker.network import NetworkShape, RankerNetwork
from shelfwise.rerank.ranker.onnx import OnnxRanker
from shelfwise.rerank.ranker.spec import AddedRanker, StoredRanker, ranker_store
from shelfwise.rerank.text_towers.dataset import JudgedQuery, is_judging_query, is_validation_query, judged_gains
from shelfwise.rerank.training.click_training import MIXES
from shelfwise.rerank.training.datasets import CandidateLists, ListData, full_batches, merged_scores
from shelfwise.rerank.training.distillation import (
    GRADING,
    TEACHING,
    DistillationCatalog,
    DistilOptions,
    ListSplit,
    Objective,
    distil,
    mix_targets,
    split_lists,
)
from shelfwise.rerank.training.list_scores import fit_calibration, ranker_scores, scores_of
from shelfwise.rerank.training.trainer import (
    Epoch,
    Run,
    best_of,
    run_digest,
    run_folder,
    spare_threads,
    tensorboard_curve,
)
from shelfwise.retrieval.errors import TrainingError
from shelfwise.retrieval.progress import Progress
from shelfwise.service.engine.served_models import encoding_of
from shelfwise.service.engine.snapshot import Snapshot
from shelfwise.service.events.signals import read_memory, read_popularity
from shelfwise.service.training.ranker_dataset import ScoredLists, candidate_lists, list_data
from shelfwise.service.training.ranker_promotion import network_files, ranker_report, ranker_spec

EVENT_WEIGHTS = (0.5, 0.3, 0.2)
"""Event weights of a network trained on lists, which predicts the same for all events."""
GRADED_DEPTH, GRADED_CANDIDATES = 100, 28
"""Number of candidates of the merged order that serving reranks, and number for training, half of them the best."""
VALIDATION_SHARE = 0.1
"""Share of the judged queries outside the test."""
MIN_GRADED = 100


@dataclass(frozen=True, slots=True, eq=False)
class TrainingLists:
    """Lists for training, validation and test of a ranker."""

    data: ListData
    split: ListSplit
    objective: Objective
    fits: NDArray[np.float64]
    """Relevance of each candidate to its query, 0 to 1 (m,); NaN if unknown."""
    source: str
    """Origin of the lists, used in the name of a run's folder."""
    trained_on: Mapping[str, str]
    """Facts in addition to the catalog, the number of queries and the seed."""
    tested_on: str
    """Description of the test queries."""


def distil_ranker(
    snapshot: Snapshot, scored: ScoredLists, work: Path, root: Path, options: DistilOptions, progress: Progress
) -> AddedRanker:
    """Trains on a teacher's scores of synthetic queries; see `publish_trained`."""
    lists, scores = scored.lists, scored.teacher_scores
    made = TrainingLists(
        list_data(snapshot, lists, mix_targets(lists, scores)),
        split_lists(lists, seed=options.seed),
        TEACHING,
        expit(scores.astype(np.float64)),
        "catalog",
        {"teacher": scored.teacher},
        f"synthetic queries by {scored.teacher}",
    )
    return publish_trained(snapshot, made, work, root, options, progress)


@spare_threads()
def grade_ranker(
    snapshot: Snapshot,
    judged: Sequence[JudgedQuery],
    work: Path,
    root: Path,
    options: DistilOptions,
    progress: Progress,
) -> AddedRanker:
    """Trains on judged queries, with current popularity and memory; see `publish_trained`.

    A fifth of the queries is the test, as for text towers, and a tenth of the others is for validation. Unjudged
    products have gain 0. Raises TrainingError if too few queries have a candidate with a gain, EncoderError if they
    cannot be encoded.
    """
    gains = judged_gains(judged, snapshot.products.row_of)
    progress.begin("candidates", len(gains), "queries")
    popularity, memory = read_popularity(root), read_memory(root)
    found = candidate_lists(
        snapshot,
        list(gains),
        snapshot.built,
        depth=GRADED_DEPTH,
        popularity=popularity,
        memory=memory,
        progress=progress.advance,
    )
    split = _split(found, _gains_of(snapshot, found, gains), options.seed)
    training, validation, held_out = map(len, (split.training, split.validation, split.held_out))
    progress.end(f"{training:,} queries for training, {validation:,} for validation, {held_out:,} for test")
    if held_out < MIN_JUDGED:
        raise TrainingError(f"{shortage(held_out, 'judged queries')} with a relevant candidate: judge more")
    if training < MIN_GRADED or not validation:
        raise TrainingError(
            f"{training} judged queries with a relevant candidate remain for training, {validation} for validation; "
            f"{MIN_GRADED} and 1 are needed: judge more"
        )
    lists = found.sample(GRADED_CANDIDATES, options.seed, split.training)
    fits = _gains_of(snapshot, lists, gains)
    data = list_data(snapshot, lists, np.nan_to_num(fits).astype(np.float32))
    made = TrainingLists(data, split, GRADING, fits, "judgments", {}, "judged queries")
    return publish_trained(snapshot, made, work, root, options, progress)


def _gains_of(
    snapshot: Snapshot, lists: CandidateLists, gains: Mapping[str, Mapping[str, float]]
) -> NDArray[np.float64]:
    """Gains of the candidates (m,); NaN if unjudged."""
    pairs = zip(lists.query_of.tolist(), map(snapshot.products.id_of, lists.rows.tolist()), strict=True)
    return np.array([gains[lists.queries[number]].get(product, np.nan) for number, product in pairs], np.float64)


def _split(lists: CandidateLists, gains: NDArray[np.float64], seed: int) -> ListSplit:
    """The training and other lists among those with a candidate with a gain."""
    is_usable = (np.bincount(lists.query_of, gains > 0, len(lists)) > 0) & (lists.lengths > 1)
    is_test = np.array([is_judging_query(query) for query in lists.queries], np.bool_)
    validates = np.array([is_validation_query(query, VALIDATION_SHARE, seed) for query in lists.queries], np.bool_)
    parts = is_usable & ~is_test & ~validates, is_usable & ~is_test & validates, is_usable & is_test
    return ListSplit(*map(np.flatnonzero, parts))


def publish_trained(
    snapshot: Snapshot, lists: TrainingLists, work: Path, root: Path, options: DistilOptions, progress: Progress
) -> AddedRanker:
    """Trains the features head and a cross-attention layer, chooses between them on validation queries, and publishes
    the chosen one for the index directory `root` if it is better than the serving one on test queries; see
    `shelfwise.rerank.evaluation.promotion`.

    An interrupted run is resumed from its state in `work`. Raises TrainingError, and the errors of the registry.
    """
    manifest, registry = snapshot.manifest, ranker_store(root)
    arrays = (lists.data.lists.offsets, lists.data.lists.rows, lists.data.lists.features, lists.data.targets)
    digest = run_digest(f"{manifest.version} {manifest.encoder} {options}", *arrays)
    with run_folder(work, lists.source, digest) as run:
        contenders = [_contender(lists, layers, options, run, progress) for layers in (0, 1)]
        # With a tenth of some hundred judged queries, the layer would hardly ever be significantly better.
        chosen = choose(contenders, surely=lists.objective is TEACHING)
        parts = lists.split
        fits = lists.fits[lists.data.lists.places(parts.validation)]
        is_known = ~np.isnan(fits)
        spec = ranker_spec(
            snapshot,
            chosen.network,
            mix=chosen.mix,
            event_weights=EVENT_WEIGHTS,
            calibration=fit_calibration(chosen.scores.astype(np.float64)[is_known], fits[is_known]),
            trained_on={"queries": len(parts.training), **lists.trained_on, "seed": options.seed},
        )
        served = registry.serving(encoding_of(snapshot)).model
        judge = partial(_judged, lists, options, served, progress)
        return registry.add_judged(network_files(chosen.network, chosen.curve), spec, judge, progress)


@dataclass(frozen=True, slots=True)
class Contender:
    """A trained network with its best mixing weight."""

    network: RankerNetwork
    curve: tuple[Epoch, ...]
    mix: float
    scores: NDArray[np.float32]
    """Mixed scores of the candidates of the validation queries (m,)."""
    quality: NDArray[np.float64]
    """Quality (validation queries,): see `shelfwise.rerank.training.distillation.Objective`."""


def choose(contenders: Sequence[Contender], *, surely: bool = True) -> Contender:
    """The last one that is significantly better than all before it, since higher cost must be justified; otherwise the
    best mean."""
    best, *others = contenders
    for other in others:
        difference = paired_bootstrap(other.quality, best.quality)
        if (difference.low if surely else difference.mean) > 0:
            best = other
    return best


def _contender(lists: TrainingLists, layers: int, options: DistilOptions, run: Path, progress: Progress) -> Contender:
    data, parts, objective = lists.data, lists.split, lists.objective
    shape = NetworkShape(data.states.dimension, 0, len(FEATURES), layers=layers, history=0)
    name = "attention" if layers else "features"
    steps = -(-len(parts.training) // options.lists) * options.loop.epochs
    progress.begin(name, steps, "steps")
    catalogs, to = [DistillationCatalog(data, parts)], Run(run / name, progress.advance, tensorboard_curve(run, name))
    network, curve = distil(catalogs, shape, options, to, objective=objective)
    found = scores_of(network, full_batches(data, parts.validation), EVENT_WEIGHTS)
    places = data.lists.places(parts.validation)
    merged, bonus = merged_scores(data.lists)[places], data.lists.bonus[places]
    qualities = {mix: objective.quality(data, parts.validation, found + mix * merged + bonus) for mix in MIXES}
    mix = max(MIXES, key=lambda each: float(qualities[each].mean()))
    best = best_of(curve)
    progress.end(f"epoch {best.number} is best: {NDCG} {best.validation:.4f}, {qualities[mix].mean():.4f} mixed")
    return Contender(network, curve, mix, found + mix * merged, qualities[mix])


def _judged(
    lists: TrainingLists, options: DistilOptions, served: StoredRanker | None, progress: Progress, made: StoredRanker
) -> StoredRanker:
    """Quality on the held-out queries, as it would be served, compared with the serving ranker."""
    progress.begin("evaluation", None, "")
    data, numbers = lists.data, lists.split.held_out
    reached = _served_quality(lists, OnnxRanker(made))
    merged = lists.objective.quality(data, numbers, merged_scores(data.lists)[data.lists.places(numbers)])
    against = _served_quality(lists, OnnxRanker(served)) if served else merged
    progress.end(f"{NDCG} {reached.mean():.4f} on held-out queries, {merged.mean():.4f} of the merged order")
    progress.begin("gate", None, "")
    decision = decide({NDCG: reached}, {NDCG: against})
    progress.end(str(decision))
    measures = {NDCG: float(reached.mean()), f"{NDCG} of the merged order": float(merged.mean())}
    tested_on = f"{len(numbers)} {lists.tested_on}"
    return replace(made, report=ranker_report(served, tested_on, measures, decision, options))


def _served_quality(lists: TrainingLists, ranker: OnnxRanker) -> NDArray[np.float64]:
    """Quality of the serving ranker by held-out query, with the bonuses that serving adds."""
    data, numbers = lists.data, lists.split.held_out
    found = ranker_scores(ranker, data, numbers.tolist())
    return lists.objective.quality(data, numbers, found + data.lists.bonus[data.lists.places(numbers)])
