"""What the towers of an index learn from: opinions from a judgments file or its shoppers, and what it finds itself."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np

from rerank.towers.material import JudgedQuery, Material, Rows, Sources, material
from rerank.towers.near_misses import Traits, is_near_miss, traits_of
from rerank.towers.negatives import NegativeOptions
from rerank.towers.options import Found
from rerank.towers.sources import from_judgments
from retrieval.judgments import read_judgments
from service.snapshot import Snapshot
from service.training.from_catalog import Progress

_CHUNK = 256
_NEAR = 30
"""Products nearest to a positive, among which its near misses are looked for."""


def judged_queries(path: Path) -> list[JudgedQuery]:
    """Of a judgments file; raises JudgmentsError for one that cannot be read, TrainingError for one without a
    positive."""
    return from_judgments(read_judgments(path))


def counted_material(snapshot: Snapshot, sources: Sources, seed: int, progress: Progress) -> Material:
    """What a snapshot's towers learn from, with a word on what was left out; raises TrainingError where that is too
    little."""
    progress.begin("material", None, "")
    made = material(sources, snapshot.products.row_of, seed)
    out = made.dropped
    paraphrases = f"{made.paraphrases:,} queries learn what answers the ones that shoppers replaced them by; "
    synthetic = f" ({made.synthetic:,} of them synthetic)" if made.synthetic else ""
    progress.end(
        f"{len(made.training):,} queries{synthetic} train and {len(made.validation):,} choose, "
        f"{made.positives:,} positives; {'' if sources.paraphrases is None else paraphrases}"
        f"left out: {out.leaked:,} queries that stood on both sides, {out.without_positive:,} that nothing "
        f"answers, {out.gone:,} opinions of products that are gone"
    )
    return made


def found_by_index(snapshot: Snapshot, made: Material, options: NegativeOptions, progress: Progress) -> Found:
    """The `options.last` best of both retrievers for each query, over the whole catalog, and the near misses of what is
    trained on, where some are to be drawn.

    Raises EncoderError where queries cannot be encoded, ClusterError where a cluster does not answer.
    """
    words, vectors = _retrieved(snapshot, made, options.last, progress)
    return Found(words, vectors, _near_misses(snapshot, made, progress) if options.near_misses else {})


def _retrieved(snapshot: Snapshot, made: Material, depth: int, progress: Progress) -> tuple[list[Rows], list[Rows]]:
    progress.begin("retrieving", len(made.queries), "queries")

    def words(query: str) -> Rows:
        groups = snapshot.analyzer.groups(query)
        return snapshot.keyword.search(groups, depth).rows if groups else np.empty(0, np.int64)

    def both(queries: Sequence[str]) -> tuple[list[Rows], list[Rows]]:
        vectors = snapshot.encoder.encode_queries(queries)
        found = [words(query) for query in queries], [snapshot.vectors.search(each, depth).rows for each in vectors]
        progress.advance(len(queries))
        return found

    chunks = [made.queries[start : start + _CHUNK] for start in range(0, len(made.queries), _CHUNK)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="retrieve") as threads:
        parts = list(threads.map(both, chunks))
    progress.end(f"the best {depth:,} by words and by vectors")
    return [each for part, _ in parts for each in part], [each for _, part in parts for each in part]


def _near_misses(snapshot: Snapshot, made: Material, progress: Progress) -> Mapping[int, Rows]:
    """Of each product that is trained on as a positive, by its row: once, however many queries it answers."""
    rows = np.unique(made.rows[made.training_pairs])
    progress.begin("near misses", len(rows), "products")

    @cache
    def traits(row: int) -> Traits:
        return traits_of(snapshot.products[row])

    def missed(part: Rows) -> list[Rows]:
        near = [snapshot.vectors.search(vector, _NEAR + 1).rows for vector in snapshot.vectors.gather(part)]
        # A product is nearest to itself, and has its own title.
        fits = [
            [is_near_miss(traits(row), traits(other)) for other in others.tolist()]
            for row, others in zip(part.tolist(), near, strict=True)
        ]
        progress.advance(len(part))
        return [others[np.array(chosen, bool)] for others, chosen in zip(near, fits, strict=True)]

    chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="near") as threads:
        found = [each for part in threads.map(missed, chunks) for each in part]
    having = sum(len(each) > 0 for each in found)
    progress.end(f"{having:,} of {len(rows):,} positives have one of another size or type among the {_NEAR} nearest")
    return dict(zip(rows.tolist(), found, strict=True))
