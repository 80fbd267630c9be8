"""Training queries of the ranker, each with the candidates that both retrievers currently propose for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.evaluation.metrics import ranked_ndcg
from shelfwise.rerank.ranker.features import FEATURES
from shelfwise.rerank.ranker.memory import NO_MEMORY, QueryMemory
from shelfwise.rerank.teacher import DEFAULT_TEACHER, open_teacher
from shelfwise.rerank.training.datasets import CandidateLists, ListData, query_of_fold
from shelfwise.rerank.training.distillation import TeacherScores, usable_lists
from shelfwise.rerank.training.query_generation import synthetic_queries
from shelfwise.retrieval.encoders.base import TokenEncoder, as_token_encoder
from shelfwise.retrieval.errors import EncoderError, TrainingError
from shelfwise.retrieval.index.fusion import DEFAULT, METHODS, Merge
from shelfwise.retrieval.index.token_states import StoredStates
from shelfwise.retrieval.progress import Progress
from shelfwise.retrieval.store.products import encoder_text
from shelfwise.service.engine.candidates import EncodedQuery, Encodings, Stages
from shelfwise.service.engine.request import ResolvedRequest
from shelfwise.service.engine.reranking import Reranking, bonuses, candidate_features
from shelfwise.service.engine.snapshot import Snapshot
from shelfwise.service.events.signals import NO_POPULARITY, Popularity

DEPTH = 60
"""Number of candidates of each query."""
_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


def candidate_lists(
    snapshot: Snapshot,
    queries: Sequence[str],
    now: float,
    *,
    depth: int = DEPTH,
    popularity: Popularity = NO_POPULARITY,
    memory: QueryMemory = NO_MEMORY,
    progress: Callable[[int], None] = lambda _count: None,
) -> CandidateLists:
    """The best `depth` candidates of each query in merged order, without queries that have none.

    `popularity` and `memory` must date from before the events that are used for training or evaluation.

    Raises EncoderError if the queries cannot be encoded, since lists from one retriever alone are useless for training.
    """
    given = depth, now, popularity, memory
    found = search_all(snapshot, queries, lambda stages, query: _found(snapshot, stages, query, *given), progress)
    return CandidateLists(
        tuple(queries),
        np.cumsum([0, *(len(rows) for rows, _, _ in found)]),
        *(np.concatenate(parts) for parts in zip(_NOTHING, *found, strict=True)),
    )


def search_all(
    snapshot: Snapshot,
    queries: Sequence[str],
    search: Callable[[Stages, str], _Made],
    progress: Callable[[int], None] = lambda _count: None,
    last: Reranking | None = None,
    encodings: Encodings | None = None,
) -> list[_Made]:
    """The results of `search` for each query, computed on all cores. `last` is the ranker of the stage "ranked";
    `encodings` are the queries by `encode_all`, for several runs."""
    threads = len(os.sched_getaffinity(0))
    encodings = encode_all(snapshot, queries, last) if encodings is None else encodings
    with ThreadPoolExecutor(threads) as retrieval, ThreadPoolExecutor(threads) as workers:
        stages = Stages(snapshot, retrieval, last, encodings=encodings)
        found = []
        for each in workers.map(partial(search, stages), queries):
            found.append(each)
            progress(1)
        return found


def encode_all(snapshot: Snapshot, queries: Sequence[str], last: Reranking | None = None) -> Encodings:
    """The queries encoded in batches, which is faster than one by one; if that fails, each search fails. `last` is the
    ranker that may read their tokens."""
    encoder, encodings, reads_tokens = snapshot.encoder, Encodings(), last is not None and last.reads_tokens
    token_encoder = as_token_encoder(encoder) if reads_tokens else None

    def encode(texts: Sequence[str]) -> Iterable[EncodedQuery]:
        if token_encoder is None:
            return map(EncodedQuery, encoder.encode_queries(texts))
        return map(EncodedQuery, *token_encoder.encode_queries_with_tokens(texts))

    texts = list(dict.fromkeys(queries))
    with suppress(EncoderError):
        for text, encoded in zip(texts, map_chunks(encode, texts), strict=True):
            encodings.get((encoder.identity, text, reads_tokens), partial(EncodedQuery, encoded.vector, encoded.tokens))
    return encodings


def best_products(
    snapshot: Snapshot,
    queries: Sequence[str],
    stage: str,
    depth: int,
    advance: Callable[[int], None] = lambda _: None,
    last: Reranking | None = None,
    encodings: Encodings | None = None,
    merge: Merge = METHODS[DEFAULT],
) -> dict[str, list[str]]:
    """The ids of the `depth` best by query; `last` is the ranker of the stage "ranked". See `search_all`."""

    def best(stages: Stages, query: str) -> list[str]:
        request = ResolvedRequest(query, snapshot.analyzer.groups(query), stage=stage, merge=merge)
        rows = stages.rank(request).rows[:depth]
        return [snapshot.products.id_of(row) for row in rows.tolist()]

    return dict(zip(queries, search_all(snapshot, queries, best, advance, last, encodings), strict=True))


def ndcg_of_searches(
    snapshot: Snapshot,
    gains: Mapping[str, Mapping[str, float]],
    stage: str,
    last: Reranking | None = None,
    texts: Mapping[str, str] | None = None,
    encodings: Encodings | None = None,
) -> NDArray[np.float64]:
    """nDCG@10 of each query (n,) by the gains of products; `texts` replace the searched text of a query."""
    searched = {query: query for query in gains} if texts is None else texts
    run = best_products(snapshot, [searched[query] for query in gains], stage, 10, last=last, encodings=encodings)
    return np.array(
        [
            ranked_ndcg([of_query.get(product, 0.0) for product in run[searched[query]]], of_query.values())
            for query, of_query in gains.items()
        ]
    )


_Found = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]
"""Rows, features and bonuses of a query's candidates."""
_NOTHING: _Found = np.empty(0, np.int64), np.empty((0, len(FEATURES)), np.float32), np.empty(0, np.float32)


def _found(
    snapshot: Snapshot, stages: Stages, query: str, depth: int, now: float, popularity: Popularity, memory: QueryMemory
) -> _Found:
    groups = snapshot.analyzer.groups(query)
    if not groups:
        return _NOTHING
    ranking = stages.rank(ResolvedRequest(query, groups))
    if ranking.degraded:
        raise EncoderError(f"{', '.join(ranking.degraded)} failed for the query {query[:80]!r}: train again later")
    rows = ranking.rows[:depth]
    has_states = np.zeros(len(rows), bool) if snapshot.states is None else snapshot.states.gather(rows).has_any
    features = candidate_features(snapshot, ranking, len(rows), has_states, now, popularity, memory)
    return rows, features, np.sum(bonuses(ranking, len(rows)), axis=0, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class CatalogOptions:
    """Distillation options."""

    queries: int = 20_000
    depth: int = 100
    """Number of candidates of the merged order that serving reranks."""
    candidates: int = 28
    """Number of those that the teacher scores for each query."""
    teacher: str = DEFAULT_TEACHER
    """Name or folder of a cross-encoder."""
    cache: Path = Path(".cache")
    """Folder of fetched models."""
    seed: int = 0


_CHUNK = 256


def map_chunks(
    work: Callable[[Sequence[_Item]], Iterable[_Made]],
    items: Sequence[_Item],
    progress: Callable[[int], None] = lambda _count: None,
) -> list[_Made]:
    """The results of `work` on chunks of the items, in order, computed on all cores."""

    def done(chunk: Sequence[_Item]) -> Iterable[_Made]:
        made = work(chunk)
        progress(len(chunk))
        return made

    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="chunk") as threads:
        return [each for part in threads.map(done, chunks) for each in part]


@dataclass(frozen=True, slots=True)
class ScoredLists:
    """Synthetic queries with their candidates and the teacher's scores."""

    lists: CandidateLists
    teacher_scores: NDArray[np.float32]
    """Scores of all candidates (m,)."""
    teacher: str
    """Identity of the teacher."""


def score_lists(
    snapshot: Snapshot, options: CatalogOptions, folder: Path, now: float, progress: Progress
) -> ScoredLists:
    """Generates queries, retrieves their candidates, and scores them with the teacher; scores are kept in `folder`.

    Raises TrainingError for an index without token states, or a catalog with too few queries, before the teacher has
    scored anything; EncoderError if a model is not available.
    """
    _token_encoder(snapshot)
    progress.begin("teacher", None, "")
    teacher = open_teacher(options.teacher, options.cache)
    progress.end(f"{options.teacher} as {teacher.identity}")
    progress.begin("queries", None, "queries")
    products = (snapshot.products[row] for row in range(len(snapshot.products)))
    made = synthetic_queries(products, options.queries, options.seed)
    progress.end(f"{len(made):,} synthetic queries from {snapshot.manifest.products:,} products")
    progress.begin("candidates", len(made), "queries")
    queries = [query.text for query in made]
    found = candidate_lists(snapshot, queries, now, depth=options.depth, progress=progress.advance)
    lists = found.sample(options.candidates, options.seed)
    progress.end(f"{len(lists.rows):,} of {len(found.rows):,} candidates, drawn from the best {options.depth} of each")
    usable_lists(lists)
    progress.begin("teaching", len(lists.rows), "pairs")
    scores = TeacherScores(teacher, folder).score(*pairs_of(snapshot, lists), progress.advance)
    progress.end(f"{len(scores):,} pairs of query and product scored by the teacher")
    return ScoredLists(lists, scores, teacher.identity)


def list_data(
    snapshot: Snapshot, lists: CandidateLists, targets: NDArray[np.float32], weights: NDArray[np.float32] | None = None
) -> ListData:
    """Lists with all data for training; raises TrainingError for an index without token states."""
    encoder, states = _token_encoder(snapshot)
    texts = list(dict.fromkeys(map(query_of_fold, lists.queries)))
    tokens = map_chunks(lambda queries: encoder.encode_queries_with_tokens(queries)[1], texts)
    narrowed = dict(zip(texts, map(states.narrow_query, tokens), strict=True))
    return ListData(lists, [narrowed[query_of_fold(query)] for query in lists.queries], states, targets, weights)


def pairs_of(snapshot: Snapshot, lists: CandidateLists) -> tuple[list[str], list[str]]:
    """The teacher's input for each candidate (m,): its query, and its product's text."""
    rows, place = np.unique(lists.rows, return_inverse=True)
    texts = [encoder_text(snapshot.products[row]) for row in rows.tolist()]
    queries = [lists.queries[number] for number in lists.query_of.tolist()]
    return queries, [texts[at] for at in place.tolist()]


def _token_encoder(snapshot: Snapshot) -> tuple[TokenEncoder, StoredStates]:
    encoder = as_token_encoder(snapshot.encoder)
    if encoder is None or snapshot.states is None:
        raise TrainingError(
            f"version {snapshot.manifest.version} has no token states, which a ranker reads: rebuild the index"
        )
    return encoder, snapshot.states
