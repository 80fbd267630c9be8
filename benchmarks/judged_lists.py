"""The candidates of judged queries, with what the judgments say of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.ranker_quality import GradedOrders
from rerank.training.batches import ListData
from rerank.training.lists import CandidateLists
from retrieval.judgments import Judgments
from service.popularity import UNKNOWN, Popularity
from service.snapshot import Snapshot
from service.training.candidate_lists import candidate_lists
from service.training.from_catalog import list_data

DEPTH = 100


@dataclass(frozen=True, slots=True, eq=False)
class JudgedLists:
    """Judged queries with their candidates, and what these are worth by the grades (m,)."""

    data: ListData
    gains: NDArray[np.float32]
    product_ids: Sequence[str]
    """(m,)."""

    @property
    def lists(self) -> CandidateLists:
        """Queries and candidates."""
        return self.data.lists


def judged_lists(
    snapshot: Snapshot,
    judgments: Judgments,
    progress: Callable[[int], None] = lambda _count: None,
    popularity: Popularity = UNKNOWN,
) -> JudgedLists:
    """The best 100 candidates of each judged query in the merged order; what was not judged is worth nothing."""
    queries = list(judgments.grades)
    lists = candidate_lists(snapshot, queries, snapshot.built, depth=DEPTH, popularity=popularity, progress=progress)
    graded = GradedOrders(snapshot, judgments, lists)
    gains = graded.gains()
    return JudgedLists(list_data(snapshot, lists, gains), gains, graded.product_ids)
