"""Vector libraries, with the parameters of their documentation's first examples: one query at a time, in one thread.

Products have a number between 0 and 1, for which filters set an upper bound; not every library supports filters.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shelfwise.benchmarks.peers.protocol import Adapter, PriceRange, Vectors

Rows = NDArray[np.int64]
_DEGREE, _BUILD_WIDTH = 16, 200
"""Edges of a graph's nodes and candidates during construction, unless the documentation names others."""
_BATCH = 10_000


def filtered_values(count: int) -> NDArray[np.float64]:
    """The numbers of the products (n,), for which filters set an upper bound."""
    return np.random.default_rng(0).random(count)


class VectorLibrary(Adapter):
    """A vector index over the catalog's vectors."""

    efforts: Sequence[int] = (100, 150, 200, 300, 400, 600, 800)
    """Candidates of a search, from few to many; 0 for a library without such a parameter."""

    def search(self, mode: str, query: str, prices: PriceRange | None, k: int) -> list[str]:
        """Not used: `sweep` searches the vectors."""
        raise NotImplementedError

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """(n,): see `filtered_values`."""
        return filtered_values(len(np.load(self.catalog.vectors, mmap_mode="r")))

    def offered(self) -> list[int]:
        """The efforts to try."""
        return list(self.efforts)

    def sweep(self, queries: str, k: int, effort: int, share: float) -> dict[str, Any]:
        """Searches each of the queries in a file (q, dimension), among products whose value is below `share`. Returns
        the seconds of each, and the file of the rows found (q, k), -1 if there are fewer."""
        self.prepare(effort, share)
        vectors = np.load(queries)
        found, seconds = np.full((len(vectors), k), -1, np.int64), []
        for place, query in enumerate(vectors):
            started = time.perf_counter()
            rows = self.nearest(query, k)
            seconds.append(time.perf_counter() - started)
            found[place, : len(rows)] = rows
        path = self.catalog.folder / "found.npy"
        np.save(path, found)
        return {"seconds": seconds, "found": str(path)}

    def prepare(self, effort: int, share: float) -> None:
        """Sets the effort and the filter of the following searches; a share of 1 passes all. Raises NotImplementedError
        if the library does not support filters."""
        if share < 1:
            raise NotImplementedError
        self.set_effort(effort)

    @abstractmethod
    def set_effort(self, effort: int) -> None:
        """Sets the number of candidates of a search."""

    @abstractmethod
    def nearest(self, query: Vectors, k: int) -> Rows:
        """The rows of the k nearest, nearest first."""

    @property
    def file(self) -> str:
        """The file of the library's index."""
        return str(self.catalog.folder / "index")


class OwnIndex(VectorLibrary):
    """The index with which Shelfwise serves, with its default recall."""

    packages = ("faiss-cpu",)
    efforts = (0,)

    def build(self) -> None:
        from shelfwise.retrieval.index.faiss import build_index
        from shelfwise.retrieval.index.vectors import create_vectors

        create_vectors(self.catalog.folder, *self.vectors.shape)[:] = self.vectors
        build_index(self.catalog.folder)

    def open(self) -> None:
        from shelfwise.retrieval.index.faiss import FaissIndex

        self._index = FaissIndex(self.catalog.folder, gpu=False)

    def prepare(self, effort: int, share: float) -> None:
        self.set_effort(effort)
        self._allowed = np.flatnonzero(self.values < share).astype(np.int64) if share < 1 else None

    def set_effort(self, effort: int) -> None:
        """Does nothing: it has no such parameter."""

    def nearest(self, query: Vectors, k: int) -> Rows:
        return self._index.search(query, k, self._allowed).rows


class Hnswlib(VectorLibrary):
    """A layered graph (HNSW); filters are Python functions."""

    packages = ("hnswlib",)

    def build(self) -> None:
        import hnswlib

        index = hnswlib.Index(space="ip", dim=self.vectors.shape[1])
        index.init_index(max_elements=len(self.vectors), ef_construction=_BUILD_WIDTH, M=_DEGREE)
        index.add_items(self.vectors, np.arange(len(self.vectors)), num_threads=self.catalog.cores)
        index.save_index(self.file)

    def open(self) -> None:
        import hnswlib

        self._index = hnswlib.Index(space="ip", dim=np.load(self.catalog.vectors, mmap_mode="r").shape[1])
        self._index.load_index(self.file)

    def prepare(self, effort: int, share: float) -> None:
        self.set_effort(effort)
        values = self.values.tolist()
        self._filter = (lambda row: values[row] < share) if share < 1 else None

    def set_effort(self, effort: int) -> None:
        self._index.set_ef(effort)

    def nearest(self, query: Vectors, k: int) -> Rows:
        try:
            return self._index.knn_query(query, k, num_threads=1, filter=self._filter)[0][0].astype(np.int64)  # type: ignore[no-any-return]
        except RuntimeError:  # it found fewer than k
            return np.empty(0, np.int64)


class Usearch(VectorLibrary):
    """HNSW over 16-bit numbers, its default; without filters in Python."""

    packages = ("usearch",)

    def build(self) -> None:
        from usearch.index import Index

        index = Index(ndim=self.vectors.shape[1], metric="cos", dtype="bf16")
        index.add(np.arange(len(self.vectors)), self.vectors, threads=self.catalog.cores)
        index.save(self.file)

    def open(self) -> None:
        from usearch.index import Index

        self._index = Index.restore(self.file)

    def set_effort(self, effort: int) -> None:
        self._index.expansion_search = effort

    def nearest(self, query: Vectors, k: int) -> Rows:
        return self._index.search(query, k, threads=1).keys.astype(np.int64)  # type: ignore[no-any-return]


class Voyager(VectorLibrary):
    """HNSW with 12 edges, its default; without filters."""

    packages = ("voyager",)

    def build(self) -> None:
        from voyager import Index, Space

        index = Index(Space.Cosine, num_dimensions=self.vectors.shape[1])
        index.add_items(self.vectors, num_threads=self.catalog.cores)
        index.save(self.file)

    def open(self) -> None:
        from voyager import Index

        self._index = Index.load(self.file)

    def set_effort(self, effort: int) -> None:
        self._effort = effort

    def nearest(self, query: Vectors, k: int) -> Rows:
        return self._index.query(query, k, query_ef=max(self._effort, k))[0].astype(np.int64)  # type: ignore[no-any-return]


class ScalableVectorSearch(VectorLibrary):
    """A Vamana graph over 16-bit numbers; its own codes (LVQ) run only on Intel processors. It does not support
    filters."""

    packages = ("scalable-vs",)

    def build(self) -> None:
        import svs

        parameters = svs.VamanaBuildParameters(graph_max_degree=64, window_size=128, alpha=0.95)
        vectors = self.vectors.astype(np.float16)
        index = svs.Vamana.build(parameters, vectors, svs.DistanceType.MIP, num_threads=self.catalog.cores)
        index.save(*(str(self.catalog.folder / name) for name in ("config", "graph", "data")))

    def open(self) -> None:
        import svs

        config, graph, data = (str(self.catalog.folder / name) for name in ("config", "graph", "data"))
        vectors = svs.VectorDataLoader(data, svs.DataType.float16)
        self._index = svs.Vamana(config, svs.GraphLoader(graph), vectors, svs.DistanceType.MIP, num_threads=1)

    def set_effort(self, effort: int) -> None:
        self._index.search_window_size = effort

    def nearest(self, query: Vectors, k: int) -> Rows:
        return self._index.search(query[None, :], k)[0][0].astype(np.int64)  # type: ignore[no-any-return]


class QdrantVectors(VectorLibrary):
    """Qdrant's engine in the same process: HNSW, with an index of the filtered field."""

    packages = ("qdrant-edge-py",)

    def build(self) -> None:
        import qdrant_edge as qdrant

        dense = qdrant.EdgeVectorParams(size=self.vectors.shape[1], distance=qdrant.Distance.Cosine)
        shard = qdrant.EdgeShard.create(str(self.catalog.folder), qdrant.EdgeConfig(vectors={"dense": dense}))
        shard.update(qdrant.UpdateOperation.create_field_index("value", qdrant.PayloadSchemaType.Float))
        values = self.values.tolist()
        for start in range(0, len(self.vectors), _BATCH):
            points = [
                qdrant.Point(row, {"dense": vector.tolist()}, {"value": values[row]})
                for row, vector in enumerate(self.vectors[start : start + _BATCH], start)
            ]
            shard.update(qdrant.UpdateOperation.upsert_points(points))
        shard.optimize()
        shard.flush()
        shard.close()

    def open(self) -> None:
        import qdrant_edge as qdrant

        self._shard = qdrant.EdgeShard.load(str(self.catalog.folder))

    def prepare(self, effort: int, share: float) -> None:
        import qdrant_edge as qdrant

        self.set_effort(effort)
        below = qdrant.FieldCondition("value", range=qdrant.RangeFloat(lt=share))
        self._filter = qdrant.Filter(must=[below]) if share < 1 else None

    def set_effort(self, effort: int) -> None:
        import qdrant_edge as qdrant

        self._parameters = qdrant.SearchParams(hnsw_ef=effort)

    def nearest(self, query: Vectors, k: int) -> Rows:
        import qdrant_edge as qdrant

        nearest = qdrant.Query.Nearest(query.tolist(), using="dense")
        request = qdrant.QueryRequest(limit=k, query=nearest, filter=self._filter, params=self._parameters)
        return np.array([each.id for each in self._shard.query(request)], np.int64)

    def close(self) -> None:
        self._shard.close()
