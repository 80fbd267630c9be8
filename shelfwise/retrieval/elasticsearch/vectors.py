"""The vector index in Elasticsearch: HNSW over 8-bit vectors proposes rows, exact scores are computed locally.

Scores are computed from the version's own vectors, so they equal those of FAISS (HNSW: Malkov & Yashunin 2018). A
product is the document of its row; only the row is read from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from shelfwise.retrieval.elasticsearch.bulk_load import check_index, fill_index
from shelfwise.retrieval.elasticsearch.client import Cluster, Document
from shelfwise.retrieval.encoders.base import unit_rows
from shelfwise.retrieval.index.vectors import Rows, StoredVectors, VectorIndex, Vectors, map_vectors

MOST_SCANNED = 50_000
"""The most rows passed by a filter for them to be scanned locally, which is faster."""
MOST_TERMS = 1_000_000
"""The most rows in a filter (index.max_terms_count); the cluster takes about 0.2 s for them."""
MOST_CANDIDATES = 10_000
"""Elasticsearch rejects a larger k or num_candidates."""
GRAPH_NEIGHBOURS = 32
GRAPH_CONSTRUCTION = 200
GRAPH_SEARCH = 2_000
"""HNSW's M, efConstruction and ef (Malkov & Yashunin 2018, section 4), the last per shard. With half the ef, a query of
few words, which is unlike any product's text, misses products that it should find."""
_DECIMALS = 5
"""Decimals of the vectors as sent: a hundredth of the step to which the cluster rounds them for its graph."""
_BLOCK_ROWS = 1_024

Query = dict[str, Any]

SETTINGS: Mapping[str, Any] = {"max_terms_count": MOST_TERMS}
_VECTOR = {
    "type": "dense_vector",
    "similarity": "dot_product",
    "index_options": {"type": "int8_hnsw", "m": GRAPH_NEIGHBOURS, "ef_construction": GRAPH_CONSTRUCTION},
}
MAPPINGS: Mapping[str, Any] = {
    "dynamic": "strict",
    "_source": {"enabled": False},
    "properties": {"row": {"type": "long"}, "vector": _VECTOR},
}
"""The mappings without `dims`, which `load_vectors` adds."""


def load_vectors(
    cluster: Cluster,
    name: str,
    folder: Path,
    made_of: Mapping[str, object],
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Recreates the index `name` from the vectors (n, dimension) in a folder and counts it.

    `advance` receives the number of further rows. Raises StoreDamagedError if the vectors cannot be read,
    ClusterUnavailableError if the cluster is lost, and ClusterRefusedError for vectors that it rejects, such as those
    that do not have length 1 or have more than 4,096 dimensions.
    """
    vectors = map_vectors(folder)
    column = {**_VECTOR, "dims": vectors.shape[1]}
    mappings = {**MAPPINGS, "properties": {**MAPPINGS["properties"], "vector": column}}
    fill_index(cluster, name, (SETTINGS, mappings), lambda: _documents(vectors), made_of, advance)


def _documents(vectors: Vectors) -> Iterator[Document]:
    for start in range(0, len(vectors), _BLOCK_ROWS):
        block = np.round(vectors[start : start + _BLOCK_ROWS].astype(np.float64), _DECIMALS)
        for row, numbers in enumerate(block.tolist(), start):
            yield str(row), 0, msgspec.json.encode({"row": row, "vector": numbers})


class ElasticsearchVectors(StoredVectors):
    """An opened vector index. Thread-safe.

    `folder` has the vectors that filled the cluster's index `name`; if the metadata of that index is not `made_of`, the
    first request raises StoreDamagedError. A search raises ClusterUnavailableError or ClusterRefusedError;
    `similarity`, `vector` and `without_cluster` need no cluster. A filter that passes at most `most_scanned` rows, and
    a search with too few results, are answered by a local scan.
    """

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        folder: Path,
        made_of: Mapping[str, object],
        *,
        most_scanned: int = MOST_SCANNED,
    ) -> None:
        super().__init__(folder)
        self.name = name
        self._here = StoredVectors(folder)
        self._cluster = cluster
        self._made_of = made_of
        self._most_scanned = most_scanned
        self._is_checked = False

    @property
    def without_cluster(self) -> VectorIndex:
        """The same vectors with exact local search."""
        return self._here

    def check(self) -> None:
        """Raises StoreDamagedError unless the cluster has exactly this index, complete."""
        check_index(self._cluster, self.name, self._made_of)
        self._is_checked = True

    def _propose(self, query: Vectors, limit: int, allowed: Rows | None) -> Rows | None:
        # More than the limit, so that the cluster's rounding loses none of the nearest.
        wanted = limit + limit // 2 + 50
        if wanted > MOST_CANDIDATES or (allowed is not None and self._is_scanned(len(allowed))):
            return None
        if not self._is_checked:
            self.check()
        (answer,) = self._cluster.search(self.name, [_nearest(query, wanted, self._within(allowed))])
        hits = answer.get("hits", {}).get("hits", ())
        return np.array([row for _, row in (hit["sort"] for hit in hits)], dtype=np.int64)

    def _is_scanned(self, allowed: int) -> bool:
        return allowed <= self._most_scanned or min(allowed, self.size - allowed) > MOST_TERMS

    def _within(self, allowed: Rows | None) -> list[Query]:
        """A filter for the allowed rows: it lists them or the others, whichever are fewer."""
        if allowed is None:
            return []
        if len(allowed) <= self.size // 2:
            return [{"terms": {"row": allowed.tolist()}}]
        others = np.setdiff1d(np.arange(self.size), allowed, assume_unique=True)
        return [{"bool": {"must_not": {"terms": {"row": others.tolist()}}}}]


def _nearest(query: Vectors, wanted: int, within: list[Query]) -> dict[str, Any]:
    """A search for the `wanted` rows nearest to a query; its hits have the sort values (score, row).

    It is a query, not the search's separate `knn` part, which allows no search_type.
    """
    knn = {
        "field": "vector",
        "query_vector": unit_rows(query[None, :])[0].tolist(),
        "k": wanted,
        "num_candidates": min(MOST_CANDIDATES, max(GRAPH_SEARCH, 2 * wanted)),
        "filter": within,
    }
    return {
        "query": {"knn": knn},
        "size": wanted,
        "sort": ["_score", {"row": "asc"}],
        "track_total_hits": False,
        "_source": False,
        "stored_fields": "_none_",
    }
