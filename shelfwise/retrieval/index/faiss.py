"""The vector index in FAISS: exact or approximate by size and memory. The only file that imports faiss.

Proposed rows are scored again with the stored vectors, so every score is the exact inner product. If a filter passes
few rows, these are scanned instead.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.index.vectors import (
    CHUNK_ROWS,
    Rows,
    StoredArray,
    StoredVectors,
    Vectors,
    map_vectors,
    rows_now,
    whole_floats,
)
from shelfwise.retrieval.memory import require_memory, usable_memory
from shelfwise.retrieval.store.files import load_array

INDEX_FILE = "index.faiss"
ROWS_FILE = "rows.npy"
"""The row of each vector of the index file (n,) int64; -1 if the row is gone or has another vector."""

EXACT_BELOW = 50_000
"""Up to this many vectors, a full scan takes no longer than inverted lists, and misses nothing."""
MAX_STALE = 0.2
"""The stale share up to which an index file is extended instead of rebuilt."""
SCAN_MAX = 40_000
"""The most rows that a filter may pass for them to be scanned: a scan reads whole vectors at random places of memory,
an index reads codes in sequence."""
PROBED_POWER, PROBED_CODES = 0.67, 80_000
"""A search reads this power of the number of inverted lists (an eighth of 500), since a short query is near to many of
them, and at least this many codes, which take two milliseconds."""
FILTERED_POWER = 0.5
"""Filtered searches read more lists by this power of the ratio of all rows to the rows that pass: the nearest rows that
pass are further away, but by much less than this ratio."""
_settled = threading.local()
_GPU_MAX = 2_048
"""FAISS's limit for the number of results of one search on a GPU."""


class VectorIndexKind(StrEnum):
    """The kinds of vector index."""

    EXACT = "exact"
    QUANTISED = "quantised"


_WANTED = {
    VectorIndexKind.EXACT: lambda limit: limit + 50,
    # Codes of two bits hardly distinguish the variants of a product.
    VectorIndexKind.QUANTISED: lambda limit: max(400, limit * 3),
}
"""The number of rows to request, so that rounding loses none of the `limit` nearest."""
_SCAN_SHARE = {VectorIndexKind.EXACT: 0.2, VectorIndexKind.QUANTISED: 0.065}
"""The largest share of rows passed by a filter for which these are scanned; with codes the index is faster earlier."""


def choose_kind(count: int, dimension: int, memory: int) -> VectorIndexKind:
    """The kind for `count` vectors on a machine with `memory` bytes, half of which may be used for them."""
    is_small = count <= EXACT_BELOW and count * vector_bytes(VectorIndexKind.EXACT, dimension) <= memory // 2
    return VectorIndexKind.EXACT if is_small else VectorIndexKind.QUANTISED


def vector_bytes(kind: VectorIndexKind, dimension: int) -> int:
    """The bytes of memory per vector in an opened index. The stored vectors use page cache in addition."""
    if kind is VectorIndexKind.EXACT:
        return 2 * dimension
    # Two bits per number, 28 bytes of corrections, the number of the vector, and the centres of the lists.
    return dimension // 4 + 28 + 8 + dimension // 100


@dataclass(frozen=True, slots=True)
class PreviousVectors:
    """The vectors of an earlier folder, and the rows that still have them."""

    folder: Path
    rows: Rows
    """The earlier row with the same vector as each new row, or -1 (n,)."""


def build_index(
    folder: Path, kind: VectorIndexKind | None = None, before: PreviousVectors | None = None
) -> VectorIndexKind:
    """Writes the index of a folder's vectors; returns the kind, chosen by size and memory if not given.

    An earlier folder's index of the same kind is extended if most of its vectors remain: this gives the same recall in
    a fraction of the time.
    """
    vectors = map_vectors(folder)
    kind = kind or choose_kind(len(vectors), vectors.shape[1], usable_memory())
    if kind is not VectorIndexKind.EXACT:
        index, rows = _continued(vectors, before) or (_trained(vectors), np.arange(len(vectors)))
        faiss.write_index(index, str(folder / INDEX_FILE))
        np.save(folder / ROWS_FILE, rows)
    return kind


def _continued(vectors: StoredArray, before: PreviousVectors | None) -> tuple[faiss.Index, Rows] | None:
    """The earlier index extended by the missing vectors, and the rows of all; None if it cannot be extended."""
    if before is None or not (before.folder / INDEX_FILE).exists():
        return None
    try:
        index = _read(before.folder / INDEX_FILE)
    except StoreDamagedError:
        return None
    if index.d != vectors.shape[1]:
        return None
    rows_before = load_array(before.folder / ROWS_FILE)
    rows = np.where(rows_before >= 0, rows_now(before.rows, len(map_vectors(before.folder)))[rows_before], -1)
    is_missing = np.ones(len(vectors), bool)
    is_missing[rows[rows >= 0]] = False
    missing = np.flatnonzero(is_missing)
    if (rows < 0).sum() > MAX_STALE * len(rows) or len(missing) > MAX_STALE * len(rows):
        return None
    with _all_cores():
        _add(index, vectors, missing)
    return index, np.concatenate([rows, missing])


def gpu_count() -> int:
    """The number of GPUs that this build of faiss can use."""
    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


class FaissIndex(StoredVectors):
    """An opened vector index: read-only, thread-safe.

    If there is a GPU, and `gpu` is not False, it scans all vectors there.
    """

    def __init__(self, folder: Path, *, gpu: bool | None = None) -> None:
        super().__init__(folder)
        self._on_gpu = gpu_count() > 0 if gpu is None else gpu
        path = folder / INDEX_FILE
        if not self._on_gpu:
            self._check_memory(path)
        self._lists: Any = _read(path) if path.exists() else None
        self._rows = None if self._lists is None else load_array(folder / ROWS_FILE, mapped=True)
        self._index = self._gpu_index() if self._on_gpu else self._lists or self._exact_index()
        found = self._index.ntotal if self._rows is None or self._on_gpu else int((self._rows >= 0).sum())
        is_listed = self._rows is None or self._lists is None or len(self._rows) == self._lists.ntotal
        if found != len(self._vectors) or not is_listed:
            message = f"{folder}: {found} vectors in the index, {len(self._vectors)} stored; rebuild the index"
            raise StoreDamagedError(message)
        # FAISS requires it: a GPU index answers one search at a time.
        self._turn = threading.Lock() if self._on_gpu else contextlib.nullcontext()

    @property
    def kind(self) -> VectorIndexKind:
        return VectorIndexKind.EXACT if self._lists is None or self._on_gpu else VectorIndexKind.QUANTISED

    def _check_memory(self, path: Path) -> None:
        size = path.stat().st_size if path.exists() else vector_bytes(VectorIndexKind.EXACT, self.dimension) * self.size
        cure = "an index with fewer columns (rebuild --dimension) or of a smaller kind (rebuild --memory)"
        require_memory(size, f"{path.parent}: {self.size:,} vectors are searched with", cure)

    def _propose(self, query: Vectors, limit: int, allowed: Rows | None) -> Rows | None:
        """More than `limit` rows, which include the nearest ones by the index's rounded scores."""
        if allowed is not None and len(allowed) < min(SCAN_MAX, self.size * _SCAN_SHARE[self.kind]):
            return None
        share = 1.0 if allowed is None else len(allowed) / self.size
        if self._on_gpu:
            return self._propose_on_gpu(query, limit, allowed, share)
        wanted = min(self._index.ntotal, _WANTED[self.kind](limit))
        parameters = self._parameters(share, self._selector(allowed))
        _search_in_this_thread_alone()
        _, found = self._index.search(query[None, :], wanted, params=parameters)
        places = np.asarray(found[0][found[0] >= 0], dtype=np.int64)
        return places if self._rows is None else self._rows[places]

    def _selector(self, allowed: Rows | None) -> faiss.IDSelector | None:
        """A selector of the rows that may be proposed; None for all."""
        if allowed is None:
            return self._current
        wanted = np.zeros(self.size + 1, dtype=bool)  # -1 refers to the last entry
        wanted[allowed] = True
        return _bitmap(wanted if self._rows is None else wanted[self._rows])

    @cached_property
    def _current(self) -> faiss.IDSelector | None:
        """Selects the places whose row still exists; None if all do."""
        return None if self._rows is None or len(self._rows) == self.size else _bitmap(self._rows >= 0)

    def _parameters(self, share: float, selector: faiss.IDSelector | None) -> faiss.SearchParameters | None:
        chosen: dict[str, Any] = {} if selector is None else {"sel": selector}
        if self.kind is VectorIndexKind.EXACT:
            return faiss.SearchParameters(**chosen) if chosen else None
        lists = self._index.nlist
        probed = max(lists**PROBED_POWER, lists * PROBED_CODES / self._index.ntotal) / share**FILTERED_POWER
        return faiss.SearchParametersIVF(nprobe=min(math.ceil(probed), lists), **chosen)

    def _propose_on_gpu(self, query: Vectors, limit: int, allowed: Rows | None, share: float) -> Rows:
        wanted = min(self.size, _GPU_MAX, int(limit / share * 1.5) + 50)
        with self._turn:
            _, found = self._index.search(query[None, :], max(wanted, min(limit, _GPU_MAX)))
        rows = np.asarray(found[0][found[0] >= 0], dtype=np.int64)
        return rows if allowed is None else rows[np.isin(rows, allowed, assume_unique=True)]

    def _exact_index(self) -> faiss.Index:
        # Half precision takes half the memory and time; proposed rows are scored again in full precision.
        index = faiss.IndexScalarQuantizer(self.dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        index.add(whole_floats(self._vectors))
        return index

    def _gpu_index(self) -> faiss.Index:
        config = faiss.GpuIndexFlatConfig()
        config.useFloat16 = True
        # The resources must live as long as the index.
        self._resources = faiss.StandardGpuResources()
        index = faiss.GpuIndexFlatIP(self._resources, self.dimension, config)
        index.add(whole_floats(self._vectors))
        return index


def _trained(vectors: StoredArray) -> faiss.Index:
    count, dimension = vectors.shape
    # Two bits for each number of the residual from the list's centre: the first bits are scanned, the second bits are
    # read if the first come near (Gao & Long 2024, RaBitQ; Gao et al. 2025, section 3). Starting a list costs as much
    # as scanning hundreds of codes, so lists are few and long.
    lists = max(1, min(count // 40, int(count**0.5 / 2)))
    index = faiss.index_factory(dimension, f"IVF{lists},RaBitQfs2", faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1  # no warning: the sample is as small as the recall allows
    sample = np.random.default_rng(0).permutation(count)[: max(100_000, count // 40)]
    with _all_cores():
        index.train(whole_floats(vectors[np.sort(sample)]))
        _add(index, vectors, np.arange(count))
    return index


def _add(index: faiss.Index, vectors: StoredArray, rows: Rows) -> None:
    for start in range(0, len(rows), CHUNK_ROWS):
        index.add(whole_floats(vectors[rows[start : start + CHUNK_ROWS]]))


@contextlib.contextmanager
def _all_cores() -> Iterator[None]:
    """Lets FAISS use all cores."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(len(os.sched_getaffinity(0)))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _search_in_this_thread_alone() -> None:
    """Searches use one thread each, since they already run in parallel."""
    if not getattr(_settled, "done", False):
        faiss.omp_set_num_threads(1)
        _settled.done = True


def _bitmap(chosen: NDArray[np.bool_]) -> faiss.IDSelector:
    return faiss.IDSelectorBitmap(np.packbits(chosen, bitorder="little"))


def _read(path: Path) -> faiss.Index:
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise StoreDamagedError(f"{path} cannot be read ({error}); rebuild the index") from error
    if not isinstance(index, faiss.IndexIVF):
        raise StoreDamagedError(f"{path} has a {type(index).__name__} without inverted lists; rebuild the index")
    return index
