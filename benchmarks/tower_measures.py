"""What encoders are measured on: judged queries divided by the SHA-1 of their text, the whole catalog encoded anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.measures import Run, measure, ndcg
from benchmarks.ranker_quality import part_of
from rerank.gate.bootstrap import Difference, paired_bootstrap
from retrieval.encoder import Encoder
from retrieval.judgments import HEADER, Judgments
from retrieval.product_text import encoder_text
from retrieval.stored_vectors import create_vectors
from retrieval.vectors_faiss import build_index
from service.snapshot import Snapshot
from service.training.from_catalog import Progress
from service.training.held_out_ranking import best_products

DEPTH = 100
STAGES = ("dense", "merged")
_CHUNK = 4_096


@dataclass(frozen=True, slots=True)
class Measured:
    """What one stage reaches on held-out queries."""

    ndcg: float
    """nDCG@10; what nobody judged counts 0."""
    recall: float
    """recall@100 of what has its query's top grade."""
    against: Difference | None
    """nDCG@10 less that of another run, paired by query; None where there is none."""


def written(judgments: Judgments, queries: Sequence[str], folder: Path) -> Path:
    """A judgments file of these queries, in a folder."""
    lines = ["\t".join(HEADER)]
    lines += [
        f"{query}\t{product}\t{grade!r}" for query in queries for product, grade in judgments.grades[query].items()
    ]
    path = folder / "judgments.tsv"
    path.write_text("\n".join(lines), "utf-8")
    return path


def held_out(judgments: Judgments, *, everything: bool = False) -> Judgments:
    """The fifth of the queries that nothing trains on or chooses by, or all of them."""
    queries = list(judgments.grades)
    kept = queries if everything else part_of(queries, "test")
    return Judgments({query: judgments.grades[query] for query in kept}, judgments.lowest)


def encoded(snapshot: Snapshot, encoder: Encoder, folder: Path, progress: Progress) -> Snapshot:
    """The same version with vectors of another encoder, which are written to a new folder."""
    size = len(snapshot.products)
    progress.begin("encoding", size, "products")
    vectors = create_vectors(folder, size, encoder.dimension)
    for start in range(0, size, _CHUNK):
        rows = range(start, min(start + _CHUNK, size))
        texts = [encoder_text(snapshot.products[row]) for row in rows]
        vectors[start : rows.stop] = encoder.encode_products(texts, progress.advance)
    progress.end(f"{size:,} products by {encoder.identity}")
    build_index(folder)
    return snapshot.encoded_by(encoder, folder)


def found_by(snapshot: Snapshot, judged: Judgments, stage: str, name: str, progress: Progress) -> Run:
    """The best of a stage over the whole catalog; `name` is that of the phase."""
    progress.begin(name, len(judged.grades), "queries")
    run = best_products(snapshot, list(judged.grades), stage, DEPTH, progress.advance)
    progress.end(f"nDCG@10 {measure(run, judged)['nDCG@10']:.4f}")
    return run


def measured(run: Run, judged: Judgments, before: Run | None = None) -> Measured:
    """How good a run is, and how much better than the one before."""
    found = measure(run, judged)
    against = None if before is None else paired_bootstrap(_by_query(run, judged), _by_query(before, judged))
    return Measured(found["nDCG@10"], found["R@100"], against)


def _by_query(run: Run, judged: Judgments) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([ndcg(run[query], grades, judged) for query, grades in judged.grades.items()])
