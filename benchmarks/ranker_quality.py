"""How well candidates are ordered for judged queries: by merging, by a teacher, by both mixed, by rankers.

All order the same candidates, so that what differs is the order alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.judgments import Judgments
from benchmarks.measures import ndcg
from rerank.gate.bootstrap import Difference, paired_bootstrap
from rerank.ranker.onnx_ranker import OnnxRanker
from rerank.teacher.teacher import Teacher
from rerank.training.batches import merged_scores
from rerank.training.distillation import targets
from rerank.training.evaluation import ranker_scores
from rerank.training.lists import CandidateLists
from rerank.training.teacher_scores import TeacherScores
from service.snapshot import Snapshot
from service.training.from_catalog import list_data, pairs_of

MERGED = "merged"
MIXES = (0.5, 1.0, 1.5, 2.0, 3.0)
"""Weights of the merged score beside the teacher's."""
PARTS = {"train": (0, 743), "validation": (743, 801), "test": (801, 1_000), "all": (0, 1_000)}
"""Part to the thousandths of queries that it has, by the SHA-1 of each query's text."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """What one system reaches."""

    ndcg: float
    """nDCG@10, the mean over queries."""
    against_merged: Difference
    """Its difference from the merged order, paired by query."""


def part_of(queries: Sequence[str], part: str) -> list[str]:
    """The queries of a part of PARTS."""
    first, end = PARTS[part]
    return [query for query in queries if first <= _thousandth(query) < end]


def _thousandth(query: str) -> int:
    return int(hashlib.sha1(query.encode(), usedforsecurity=False).hexdigest(), 16) % 1_000


def compare_orders(
    snapshot: Snapshot, judgments: Judgments, lists: CandidateLists, systems: Mapping[str, NDArray[np.floating]]
) -> dict[str, Ordered]:
    """The measures of systems, given as the scores (m,) of the lists' candidates; MERGED has to be among them."""
    ids = [snapshot.products.id_of(row) for row in lists.rows.tolist()]

    def reached(scores: NDArray[np.floating]) -> NDArray[np.float64]:
        orders = (_best_first(lists, ids, scores, number) for number in range(len(lists)))
        pairs = zip(orders, lists.queries, strict=True)
        return np.array([ndcg(order, judgments.grades[query], judgments) for order, query in pairs])

    found = {name: reached(scores) for name, scores in systems.items()}
    merged = found[MERGED]
    return {name: Ordered(float(each.mean()), paired_bootstrap(each, merged)) for name, each in found.items()}


def score_systems(
    snapshot: Snapshot,
    lists: CandidateLists,
    teacher: Teacher | None,
    ranker: OnnxRanker | None,
    kept: Path,
    advance: Callable[[int], None],
) -> Iterator[tuple[str, NDArray[np.floating]]]:
    """The scores of each system that is there; `advance` is told of candidates that the teacher has scored."""
    yield MERGED, merged_scores(lists)
    if teacher is not None:
        taught = TeacherScores(teacher, kept).score(*pairs_of(snapshot, lists), advance)
        yield "teacher", taught
        for mix in MIXES:
            yield f"teacher + {mix:g} merged", targets(lists, taught, mix)
    if ranker is not None:
        data = list_data(snapshot, lists, np.zeros(len(lists.rows), np.float32))
        yield f"ranked by {ranker.name}", ranker_scores(ranker, data, range(len(lists)))


def _best_first(lists: CandidateLists, ids: list[str], scores: NDArray[np.floating], number: int) -> list[str]:
    place = lists.place(number)
    order = np.argsort(-scores[place], kind="stable") + place.start
    return [ids[at] for at in order.tolist()]
