"""Networks trained on lists: distilled from a teacher's order of candidates, without labels, or trained on grades.

The target is a mix of the teacher's and the first stage's scores, which is better than either (docs/decisions): BM25
adds the rarity of words in the catalog.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torch import Tensor

from shelfwise.rerank.ranker.network import EVENTS, NetworkShape, RankerNetwork
from shelfwise.rerank.teacher import Teacher
from shelfwise.rerank.training.click_training import new_network
from shelfwise.rerank.training.datasets import (
    CandidateLists,
    ListBatch,
    ListData,
    full_batches,
    merged_scores,
    shuffled_batches,
)
from shelfwise.rerank.training.list_scores import ndcg, scores_of
from shelfwise.rerank.training.losses import distillation, list_softmax
from shelfwise.rerank.training.trainer import Epoch, LoopOptions, Run, Training, train
from shelfwise.retrieval.errors import TrainingError
from shelfwise.retrieval.store.files import atomic_file

Floats = NDArray[np.float32]
FIRST_STAGE_WEIGHT = 1.5
"""Weight of the merged score relative to the teacher's, both scaled by the usual deviation within a list."""
MIN_QUERIES = 200


@dataclass(frozen=True, slots=True)
class DistilOptions:
    """Options of distillation."""

    loop: LoopOptions = field(default_factory=LoopOptions)
    lists: int = 16
    dropped: float = 0.05
    """Share of candidates without token states, as of newly added products."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ListSplit:
    """Numbers of the training, validation and test lists; each ascending."""

    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    held_out: NDArray[np.int64]


def split_lists(lists: CandidateLists, share: float = 0.05, seed: int = 0) -> ListSplit:
    """Holds out two random shares of the usable queries, at least 50 each. Raises TrainingError for fewer than 200
    usable queries."""
    order = np.random.default_rng(seed).permutation(usable_lists(lists))
    held = max(MIN_QUERIES // 4, int(len(order) * share))
    return ListSplit(np.sort(order[2 * held :]), np.sort(order[held : 2 * held]), np.sort(order[:held]))


def usable_lists(lists: CandidateLists) -> NDArray[np.int64]:
    """The numbers of lists with at least two candidates; raises TrainingError for fewer than 200."""
    usable = np.flatnonzero(lists.lengths > 1)
    if len(usable) < MIN_QUERIES:
        raise TrainingError(
            f"{len(usable)} of {len(lists)} queries have two candidates or more; at least {MIN_QUERIES} are needed"
        )
    return usable


def mix_targets(lists: CandidateLists, teacher: Floats, weight: float = FIRST_STAGE_WEIGHT) -> Floats:
    """Mixes the teacher's scores (m,) with the first stage's (m,), at the teacher's scale."""
    merged = merged_scores(lists)
    scale = usual_deviation(teacher, lists) / max(usual_deviation(merged, lists), 1e-6)
    return np.asarray(teacher + weight * scale * merged, np.float32)


def usual_deviation(scores: Floats, lists: CandidateLists) -> float:
    """Mean standard deviation of scores (m,) within the lists of at least two."""
    deviations = [float(scores[lists.place(number)].std()) for number in np.flatnonzero(lists.lengths > 1).tolist()]
    return float(np.mean(deviations)) if deviations else 0.0


@dataclass(frozen=True, slots=True)
class DistillationCatalog:
    """A catalog's lists and their split."""

    data: ListData
    """The lists; their targets are the teacher's scores, see `targets`."""
    split: ListSplit


@dataclass(frozen=True, slots=True)
class Objective:
    """A loss for training a network, and its measure of quality."""

    loss: Callable[[Tensor, ListBatch], Tensor]
    """The loss of scores (B, c) of one kind of event."""
    quality: Callable[[ListData, NDArray[np.int64], NDArray[np.floating]], NDArray[np.float64]]
    """The quality (n,) of lists, from their numbers (n,) and all candidates' scores; higher is better."""


def distil(
    catalogs: Sequence[DistillationCatalog],
    shape: NetworkShape,
    options: DistilOptions,
    run: Run,
    *,
    objective: Objective | None = None,
) -> tuple[RankerNetwork, tuple[Epoch, ...]]:
    """Trains a new network on one or more catalogs and returns it with its curve. Each step reads one catalog;
    validation is the mean quality over the catalogs. The default objective is a teacher's order."""
    wanted = objective or TEACHING
    shown = [each.data.shown_features(options.dropped, options.seed) for each in catalogs]
    network = new_network(shape, np.concatenate(shown), options.seed)

    def batches(epoch: int) -> Iterator[ListBatch]:
        return _interleaved(catalogs, options, options.seed * 1_000 + epoch)

    def quality(trained: RankerNetwork, data: ListData, numbers: NDArray[np.int64]) -> float:
        return float(wanted.quality(data, numbers, scores_of(trained, full_batches(data, numbers))).mean())

    def validate(trained: RankerNetwork) -> float:
        return float(np.mean([quality(trained, each.data, each.split.validation) for each in catalogs]))

    def loss(trained: RankerNetwork, batch: ListBatch) -> Tensor:
        # The same relevance is the target of clicks, carts and purchases.
        scores = trained(*batch.inputs)
        return torch.stack([wanted.loss(scores[..., event], batch) for event in range(len(EVENTS))]).mean()

    steps = sum(_steps(each, options) for each in catalogs)
    training = Training(batches, steps, loss, validate)
    return network, train(network, training, options.loop, run)


def _interleaved(catalogs: Sequence[DistillationCatalog], options: DistilOptions, seed: int) -> Iterator[ListBatch]:
    """An epoch of the shuffled batches of all catalogs, interleaved in random order."""
    lists, dropped = options.lists, options.dropped
    each = [shuffled_batches(one.data, one.split.training, lists=lists, dropped=dropped, seed=seed) for one in catalogs]
    turns = np.repeat(np.arange(len(catalogs)), [_steps(one, options) for one in catalogs])
    for turn in np.random.default_rng(seed).permutation(turns).tolist():
        yield next(each[turn])


def _steps(catalog: DistillationCatalog, options: DistilOptions) -> int:
    return -(-len(catalog.split.training) // options.lists)


def agreement(data: ListData, numbers: NDArray[np.int64], scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """nDCG@10 of each list in `numbers` (n,) against its targets, by candidate scores, concatenated. A candidate's gain
    is its share of the softmax of the targets."""
    wanted = [data.targets[data.lists.place(number)] for number in numbers.tolist()]
    gains = np.concatenate([np.exp(each - each.max()) for each in wanted])
    return ndcg(scores, gains.astype(np.float32), data.lists.lengths[numbers])


def graded_quality(data: ListData, numbers: NDArray[np.int64], scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """nDCG@10 of each list in `numbers` (n,) by its candidates' gains (the targets); scores as in `agreement`."""
    return ndcg(scores, data.targets[data.lists.places(numbers)], data.lists.lengths[numbers])


TEACHING = Objective(lambda scores, batch: distillation(scores, batch.targets, batch.is_candidate), agreement)
GRADING = Objective(lambda scores, batch: list_softmax(scores, batch.targets, batch.is_candidate), graded_quality)
"""The objective for targets that are gains."""


_PART = 8_192
"""Pairs scored between two writes: about 20 seconds of a teacher on two cores."""


class TeacherScores:
    """Cached scores of one teacher; missing pairs are scored by the teacher. FOLDER/<identity of the teacher>.npz has
    keys (k,) uint64 and scores (k,) float32. An unreadable file is ignored, and its pairs are scored again. Only one
    process may write to a folder."""

    def __init__(self, teacher: Teacher, folder: Path) -> None:
        self._teacher = teacher
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{teacher.identity}.npz"

    def score(
        self, queries: Sequence[str], texts: Sequence[str], progress: Callable[[int], None] = lambda _count: None
    ) -> Floats:
        """Teacher scores (n,) of the pairs (queries[i], texts[i]); raises what the teacher raises."""
        keys = np.array([_key(*pair) for pair in zip(queries, texts, strict=True)], np.uint64)
        known, scores = self._read()
        missing = np.flatnonzero(~np.isin(keys, known))
        missing = np.sort(missing[np.unique(keys[missing], return_index=True)[1]])
        progress(len(keys) - len(missing))
        # Each part has pairs of all lengths, so that progress is even.
        for part in np.array_split(missing, -(-len(missing) // _PART)) if len(missing) else ():
            found = self._teacher.score([queries[at] for at in part], [texts[at] for at in part], progress)
            known, scores = np.append(known, keys[part]), np.append(scores, found)
            with atomic_file(self._path, durable=False) as file:
                np.savez(file, keys=known, scores=scores)
        order = np.argsort(known)
        return np.asarray(scores[order[np.searchsorted(known, keys, sorter=order)]], np.float32)

    def _read(self) -> tuple[NDArray[np.uint64], Floats]:
        try:
            with np.load(self._path, allow_pickle=False) as file:
                keys, scores = file["keys"], file["scores"]
            if keys.dtype == np.uint64 and scores.dtype == np.float32 and keys.shape == scores.shape == (keys.size,):
                return keys, scores
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
            pass
        return np.empty(0, np.uint64), np.empty(0, np.float32)


def _key(query: str, text: str) -> int:
    """64 bits: a hundred million pairs have a collision with probability 3 in 10,000."""
    return xxhash.xxh3_64_intdigest(f"{len(query)}:{query}{text}".encode("utf-8", "surrogatepass"))
