"""A smaller ranker from a stored one: pruned, exported, compared with it, and stored in the registry."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.model_card import ModelReport, option_values
from shelfwise.rerank.model_store import MODEL_FILE, WEIGHTS_FILE
from shelfwise.rerank.ranker.memory import QueryMemory
from shelfwise.rerank.ranker.network import RankerNetwork, load_network
from shelfwise.rerank.ranker.onnx import OnnxRanker
from shelfwise.rerank.ranker.pruning import PruningTarget, Sample, complete_target, measure_importance, prune_network
from shelfwise.rerank.ranker.spec import AddedRanker, Precision, RankerStore, StoredRanker, misfit, ranker_store
from shelfwise.rerank.training.datasets import ListData, full_batches
from shelfwise.rerank.training.distillation import agreement
from shelfwise.rerank.training.list_scores import fit_calibration, ranker_scores
from shelfwise.rerank.training.query_generation import synthetic_queries
from shelfwise.retrieval.errors import InputError, ModelMismatchError, ModelRefusedError, TrainingError
from shelfwise.retrieval.progress import Progress
from shelfwise.service.engine.reranking import DEPTH
from shelfwise.service.engine.served_models import encoding_of
from shelfwise.service.engine.snapshot import Snapshot, serving_snapshot
from shelfwise.service.events.signals import Popularity, read_memory, read_popularity
from shelfwise.service.training.ranker_dataset import candidate_lists, list_data
from shelfwise.service.training.ranker_promotion import network_files

_FIRST = 10


@dataclass(frozen=True, slots=True)
class RankerAgreement:
    """Agreement of the orders of two rankers."""

    agreement: float
    """Mean nDCG@10 by the other one's scores; see `shelfwise.rerank.training.distillation.agreement`."""
    first_ten: float
    """Mean share of the other one's ten best hits that are among its ten best."""
    queries: int


def sample_data(
    snapshot: Snapshot, count: int, popularity: Popularity, memory: QueryMemory, seed: int, progress: Progress
) -> ListData:
    """The given number of queries generated from the catalog, or as many as possible, with their candidates."""
    products = (snapshot.products[row] for row in range(len(snapshot.products)))
    queries = [query.text for query in synthetic_queries(products, count, seed)]
    progress.begin("candidates", len(queries), "queries")
    lists = candidate_lists(
        snapshot, queries, snapshot.built, depth=DEPTH, popularity=popularity, memory=memory, progress=progress.advance
    )
    progress.end(f"{len(lists.rows):,} of {len(queries):,} synthetic queries")
    return list_data(snapshot, lists, np.zeros(len(lists.rows), np.float32))


def measure_agreement(
    data: ListData, numbers: NDArray[np.int64], before: NDArray[np.float64], after: NDArray[np.float64]
) -> RankerAgreement:
    """The agreement of the scores `after` with those `before`, both for the candidates of some lists, concatenated."""
    targets = np.zeros(len(data.lists.rows), np.float32)
    targets[data.lists.places(numbers)] = before
    offsets = np.cumsum([0, *data.lists.lengths[numbers]]).tolist()
    shares = []
    for start, end in itertools.pairwise(offsets):
        first, now = (set(np.argsort(-each[start:end], kind="stable")[:_FIRST].tolist()) for each in (before, after))
        shares.append(len(first & now) / len(first))
    agreed = agreement(replace(data, targets=targets), numbers, after)
    return RankerAgreement(float(agreed.mean()), float(np.mean(shares)), len(numbers))


MEASURING, JUDGING = 200, 300
"""Number of queries that measure the importance of parts, and of others on which the smaller ranker is compared."""
_MIN_QUERIES = 50
"""Minimum number of queries in total."""
_HEADS, _UNITS, _MADE_OF = "heads", "feed-forward units", "made of"


@dataclass(frozen=True, slots=True)
class RankerPruningOptions:
    """Pruning options."""

    target: PruningTarget = field(default_factory=PruningTarget)
    precision: Precision | None = None
    """Precision of the served graph; None leaves it unchanged."""
    publish: bool = False
    """Whether it may serve; otherwise it is rejected."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class PruningResult:
    """Result of pruning."""

    added: AddedRanker
    agreement: RankerAgreement
    before: int
    """Size of the larger graph in bytes."""
    after: int


def prune_ranker(root: Path, parent: StoredRanker, options: RankerPruningOptions, progress: Progress) -> PruningResult:
    """Creates a smaller ranker from one of an index directory, compares it with that one, and stores it.

    The caller decides whether it serves; the promotion gate has seen the original. Raises InputError if nothing would
    be smaller or parts to keep do not exist, ModelError for a ranker without a cross-attention layer to prune,
    ModelMismatchError for one of another index, ModelRefusedError if it is to be published although the original was
    rejected, TrainingError if the catalog gives too few queries, and the errors of the registry and `open_snapshot`.
    """
    registry, name = ranker_store(root), parent.name
    if options.publish and parent.report.rejection_reasons:
        raise ModelRefusedError(f"{name} was rejected: a model derived from it may not serve; omit --publish")
    network = load_network(parent.folder / WEIGHTS_FILE)
    precision, left = options.precision or parent.spec.precision, complete_target(options.target, network.shape)
    if left == complete_target(PruningTarget(), network.shape) and precision == parent.spec.precision:
        raise InputError(
            f"nothing of {name} would be removed: use --heads, --feed-forward, --layers or --precision int8"
        )
    with serving_snapshot(root) as snapshot:
        if why := misfit(parent.spec, encoding_of(snapshot)):
            raise ModelMismatchError(f"{name} cannot be compared with: {why}")
        known = read_popularity(root), read_memory(root)
        data = sample_data(snapshot, MEASURING + JUDGING, *known, options.seed, progress)
        measuring, judging = split_sample(data)
        progress.begin("prune", None, "")
        smaller = prune_on_sample(network, data, measuring, parent.spec.event_weights, left)
        sizes = ", ".join(f"{count:,} {name}" for name, count in _sizes(smaller).items())
        progress.end(sizes or "the features head alone")
        return _added(registry, parent, smaller, precision, data, judging, options, progress)


def split_sample(data: ListData) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers of the lists for measuring, and of those for comparison; raises TrainingError for too few."""
    usable = np.flatnonzero(data.lists.lengths > 1)
    if len(usable) < _MIN_QUERIES:
        raise TrainingError(
            f"{len(usable)} of {len(data.lists)} synthetic queries have two candidates or more; "
            f"{_MIN_QUERIES} are needed"
        )
    end = len(usable) * MEASURING // (MEASURING + JUDGING)
    return usable[:end], usable[end:]


def prune_on_sample(
    network: RankerNetwork,
    data: ListData,
    measuring: NDArray[np.int64],
    weights: tuple[float, ...],
    left: PruningTarget,
) -> RankerNetwork:
    """The parts of a network to keep, by their importance on some lists."""
    if left == complete_target(PruningTarget(), network.shape):
        return network
    sample: Sample = [(batch.inputs, batch.is_candidate) for batch in full_batches(data, measuring)]
    return prune_network(network, measure_importance(network, sample, weights), left)


def _sizes(network: RankerNetwork) -> dict[str, int]:
    shape = network.shape
    return {_HEADS: len(shape.heads), _UNITS: shape.feed_forward} if shape.layers else {}


def _added(
    registry: RankerStore,
    parent: StoredRanker,
    smaller: RankerNetwork,
    precision: Precision,
    data: ListData,
    judging: NDArray[np.int64],
    options: RankerPruningOptions,
    progress: Progress,
) -> PruningResult:
    """Compares both as they serve, and stores the smaller one."""
    ranker, name, found = OnnxRanker(parent), parent.name, list[RankerAgreement]()

    def judge(challenger: StoredRanker) -> StoredRanker:
        before, after = (ranker_scores(each, data, judging.tolist()) for each in (ranker, OnnxRanker(challenger)))
        alike = measure_agreement(data, judging, before, after)
        found.append(alike)
        # Gives equal probabilities for the changed scores.
        calibrated = msgspec.structs.replace(challenger.spec, calibration=fit_calibration(after, ranker.fit(before)))
        why = f"pruned from {name}, with which it agrees by {alike.agreement:.4f}: use --publish to serve one"
        report = ModelReport(
            measured_on=f"{alike.queries} synthetic queries by {name}",
            measures={f"agreement with {name}": alike.agreement, "share of its first ten": alike.first_ten},
            against=name,
            rejection_reasons=() if options.publish else (why,),
            options=option_values(options),
        )
        return replace(challenger, spec=calibrated, report=report)

    kept = {name: value for name, value in parent.spec.trained_on.items() if name not in (_HEADS, _UNITS)}
    spec = msgspec.structs.replace(
        parent.spec,
        layers=smaller.shape.layers,
        precision=precision,
        trained_on={**kept, _MADE_OF: parent.name, **_sizes(smaller)},
        parent=parent.spec.identity,
    )
    added = registry.add_judged(network_files(smaller, precision=precision), spec, judge, progress)
    before, after = ((each.folder / MODEL_FILE).stat().st_size for each in (parent, added.model))
    return PruningResult(added, found[0], before, after)
