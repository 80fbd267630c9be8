"""Queries made from a catalog's own products, with what is known of each: what towers learn from where nobody has
judged or clicked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from rerank.towers.material import LEAST_GAIN, JudgedQuery, Opinion
from rerank.training.synthetic_queries import SyntheticQuery, synthetic_queries
from service.snapshot import Snapshot
from service.training.from_catalog import Progress

_CHUNK = 256
_FITTING = 300
"""Products of a query that words find, among which those that fit as well are looked for."""


def catalog_queries(
    snapshot: Snapshot, count: int, seed: int, progress: Progress, rows: Sequence[int] | None = None
) -> list[JudgedQuery]:
    """So many synthetic queries, fewer where the catalog has not so many in it; of the products at `rows` or of all.

    A query's positive is the product that it was made from. What BM25 finds before that one fits its words as well, and
    nobody knows whether it answers: it is no negative, and trains nothing. Raises TrainingError for a catalog that
    gives none, ClusterError where a cluster does not answer.
    """
    progress.begin("queries", None, "queries")
    rows = range(len(snapshot.products)) if rows is None else rows
    made = synthetic_queries((snapshot.products[row] for row in rows), count, seed)
    progress.end(f"{len(made):,} synthetic queries from {len(rows):,} products")
    progress.begin("what fits", len(made), "queries")

    def judged(part: Sequence[SyntheticQuery]) -> list[JudgedQuery]:
        found = [_judged(snapshot, query) for query in part]
        progress.advance(len(part))
        return found

    parts = [made[start : start + _CHUNK] for start in range(0, len(made), _CHUNK)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="fits") as threads:
        told = [each for part in threads.map(judged, parts) for each in part]
    fitting = sum(len(each.opinions) - 1 for each in told)
    progress.end(f"{fitting / len(told):.1f} other products of a query fit its words as well as its own")
    return told


def _judged(snapshot: Snapshot, query: SyntheticQuery) -> JudgedQuery:
    opinions = {_id: Opinion(LEAST_GAIN, 0.0) for _id in _fitting(snapshot, query)}
    return JudgedQuery(query.text, {**opinions, query.product_id: Opinion(1.0)})


def _fitting(snapshot: Snapshot, query: SyntheticQuery) -> list[str]:
    groups = snapshot.analyzer.groups(query.text)
    if not groups:
        return []
    found = [snapshot.products.id_of(row) for row in snapshot.keyword.search(groups, _FITTING).rows.tolist()]
    return found[: found.index(query.product_id)] if query.product_id in found else found
