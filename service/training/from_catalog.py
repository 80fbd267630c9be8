"""Learning without clicks: a ranker distilled from a teacher, on queries made from the store's own catalog."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rerank.teacher.default import DEFAULT_TEACHER
from rerank.teacher.teacher import Teacher, open_teacher
from rerank.training.batches import ListData
from rerank.training.distillation import usable_lists
from rerank.training.lists import CandidateLists
from rerank.training.synthetic_queries import synthetic_queries
from rerank.training.teacher_scores import TeacherScores
from retrieval.encoder import TokenEncoder, with_tokens
from retrieval.errors import TrainingError
from retrieval.product_text import encoder_text
from retrieval.records import Product
from retrieval.token_states import TokenStates
from service.snapshot import Snapshot
from service.training.candidate_lists import candidate_lists


class Progress(Protocol):
    """Is told what is being done; `service.terminal.ProgressLines` is one."""

    def begin(self, phase: str, total: int | None, unit: str) -> None:
        """A step begins."""

    def advance(self, amount: int) -> None:
        """So much more of it is done."""

    def end(self, summary: str) -> None:
        """It is over, and what it did."""


@dataclass(frozen=True, slots=True)
class CatalogOptions:
    """What to distil on."""

    queries: int = 20_000
    depth: int = 100
    """Of the merged order: what serving reranks."""
    candidates: int = 28
    """Of those, as many as the teacher scores for each query."""
    teacher: str = DEFAULT_TEACHER
    """Name or folder of a cross-encoder."""
    runtime: str = "auto"
    cache: Path = Path(".cache")
    """Where models that were fetched or exported stay."""
    seed: int = 0


_CHUNK = 256


@dataclass(frozen=True, slots=True)
class TaughtLists:
    """Synthetic queries with their candidates, and what the teacher says of each."""

    lists: CandidateLists
    teacher_scores: NDArray[np.float32]
    """(m,)."""
    teacher: str
    """Its identity."""


def taught_lists(
    snapshot: Snapshot, options: CatalogOptions, folder: Path, now: float, progress: Progress
) -> TaughtLists:
    """Makes queries, finds their candidates, and has the teacher score them; its scores are kept in `folder`.

    Raises TrainingError for an index without token states, or where the catalog gives too few queries, before the
    teacher has scored anything; EncoderError where a model cannot be had.
    """
    _token_encoder(snapshot)
    teacher = _opened_teacher(options, progress)
    progress.begin("queries", None, "queries")
    made = synthetic_queries(_products(snapshot), options.queries, options.seed)
    progress.end(f"{len(made):,} synthetic queries from {snapshot.manifest.products:,} products")
    progress.begin("candidates", len(made), "queries")
    queries = [query.text for query in made]
    found = candidate_lists(snapshot, queries, now, depth=options.depth, progress=progress.advance)
    lists = found.thinned(options.candidates, options.seed)
    progress.end(f"{len(lists.rows):,} of {len(found.rows):,} candidates, drawn from the best {options.depth} of each")
    usable_lists(lists)
    return TaughtLists(lists, _scored(snapshot, lists, teacher, folder, progress), teacher.identity)


def list_data(snapshot: Snapshot, lists: CandidateLists, targets: NDArray[np.float32]) -> ListData:
    """Lists with all that training on them takes; raises TrainingError for an index without token states."""
    encoder, states = _token_encoder(snapshot)
    chunks = [lists.queries[start : start + _CHUNK] for start in range(0, len(lists), _CHUNK)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="encode") as threads:
        read = list(threads.map(encoder.encode_queries_with_tokens, chunks))
    tokens = [states.cut(each) for _, part in read for each in part]
    return ListData(lists, tokens, states, targets)


def pairs_of(snapshot: Snapshot, lists: CandidateLists) -> tuple[list[str], list[str]]:
    """What a teacher reads of each candidate (m,): its query, and its product's text."""
    rows, place = np.unique(lists.rows, return_inverse=True)
    texts = [encoder_text(snapshot.products[row]) for row in rows.tolist()]
    queries = [lists.queries[number] for number in lists.query_of.tolist()]
    return queries, [texts[at] for at in place.tolist()]


def _token_encoder(snapshot: Snapshot) -> tuple[TokenEncoder, TokenStates]:
    encoder = with_tokens(snapshot.encoder)
    if encoder is None or snapshot.states is None:
        raise TrainingError(
            f"version {snapshot.manifest.version} has no token states, which a ranker reads: rebuild the index"
        )
    return encoder, snapshot.states


def _opened_teacher(options: CatalogOptions, progress: Progress) -> Teacher:
    progress.begin("teacher", None, "")
    teacher = open_teacher(options.teacher, options.runtime, options.cache)
    progress.end(f"{options.teacher} as {teacher.identity}")
    return teacher


def _scored(
    snapshot: Snapshot, lists: CandidateLists, teacher: Teacher, folder: Path, progress: Progress
) -> NDArray[np.float32]:
    progress.begin("teaching", len(lists.rows), "pairs")
    kept = TeacherScores(teacher, folder)
    scores = kept.score(*pairs_of(snapshot, lists), progress.advance)
    kept.compact()
    progress.end(f"{len(scores):,} pairs of query and product scored by the teacher")
    return scores


def _products(snapshot: Snapshot) -> Iterator[Product]:
    return (snapshot.products[row] for row in range(len(snapshot.products)))
