"""The contract of every vector index and its copy: FAISS on the CPU and the GPU, if any."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import pytest

from shelfwise.retrieval.errors import StoreDamagedError, StoreError
from shelfwise.retrieval.index.faiss import (
    INDEX_FILE,
    FaissIndex,
    PreviousVectors,
    VectorIndexKind,
    build_index,
    choose_kind,
    gpu_count,
)
from shelfwise.retrieval.index.vectors import (
    VECTORS_FILE,
    StoredVectors,
    VectorIndex,
    Vectors,
    create_vectors,
    measure_background,
)
from shelfwise.retrieval.store.files import load_array
from tests.machine import limit_memory

COUNT, DIMENSION = 3_000, 32


def clustered(count: int = COUNT, dimension: int = DIMENSION, seed: int = 0) -> Vectors:
    """Unit vectors around a hundred centres, like those of a catalog's texts."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(100, dimension))
    vectors = centres[random.integers(0, 100, count)] + 0.5 * random.normal(size=(count, dimension))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


MIN_RECALL = {VectorIndexKind.EXACT: 1.0, VectorIndexKind.QUANTISED: 0.95}
VECTORS = clustered()
QUERIES = clustered(40, seed=1)


def built(folder: Path, kind: VectorIndexKind, vectors: Vectors = VECTORS) -> Path:
    create_vectors(folder, *vectors.shape)[:] = vectors
    assert build_index(folder, kind) is kind
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[VectorIndexKind], Path]:
    """The folder of an index of `VECTORS` for each kind, built on first use."""
    return functools.cache(lambda kind: built(tmp_path_factory.mktemp(kind.value), kind))


FAISS = [
    pytest.param((kind, gpu), id=f"{kind}-{'gpu' if gpu else 'cpu'}", marks=[pytest.mark.gpu] if gpu else [])
    for kind in VectorIndexKind
    for gpu in (False, True)
]


@pytest.fixture(params=[*FAISS, "stored"])
def index(request: pytest.FixtureRequest, folders: Callable[[VectorIndexKind], Path], tmp_path: Path) -> VectorIndex:
    """An index in a folder that was copied after its creation."""
    if request.param == "stored":
        return StoredVectors(folders(VectorIndexKind.EXACT))
    kind, gpu = request.param
    if gpu and not gpu_count():
        pytest.skip("no GPU that this build of faiss can use")
    return FaissIndex(Path(shutil.copytree(folders(kind), tmp_path / "copy")), gpu=gpu)


def exact(query: Vectors, limit: int, allowed: np.ndarray) -> list[int]:
    scores = VECTORS[allowed] @ query
    return [int(row) for row in allowed[np.lexsort((allowed, -scores))[:limit]]]


class TestVectorIndex:
    def test_index_returns_its_vectors(self, index: VectorIndex) -> None:
        assert (index.size, index.dimension) == (COUNT, DIMENSION)
        assert np.array_equal(index.vector(7), VECTORS[7])
        assert np.array_equal(index.gather(np.array([7, 0, 7])), VECTORS[[7, 0, 7]])
        assert index.gather(np.empty(0, np.int64)).shape == (0, DIMENSION)

    def test_scores_are_exact_ordered_and_distinct(self, index: VectorIndex) -> None:
        found = index.search(QUERIES[0], 50)
        assert len(set(found.rows.tolist())) == 50
        assert found.scores == pytest.approx(VECTORS[found.rows] @ QUERIES[0], abs=1e-6)
        assert (np.diff(found.scores) <= 0).all()
        assert index.similarity(QUERIES[0], found.rows) == pytest.approx(found.scores, abs=1e-6)

    @pytest.mark.parametrize("share", [1.0, 0.9, 0.5, 0.25, 0.05, 0.005, 1 / COUNT])
    def test_recall_holds_at_any_selectivity(self, index: VectorIndex, share: float) -> None:
        random = np.random.default_rng(2)
        allowed = np.sort(random.choice(COUNT, max(1, round(COUNT * share)), replace=False))
        given = None if share == 1.0 else allowed
        recalls = []
        for query in QUERIES:
            best = exact(query, 50, allowed)
            rows = index.search(query, 50, given).rows.tolist()
            assert set(rows) <= set(allowed.tolist())
            assert len(rows) == min(50, len(allowed))
            recalls.append(len(set(rows) & set(best)) / len(best))
        assert np.mean(recalls) >= (MIN_RECALL[index.kind] if isinstance(index, FaissIndex) else 1.0)

    def test_limits_of_zero_and_beyond_the_size(self, index: VectorIndex) -> None:
        nobody = np.empty(0, dtype=np.int64)
        assert index.search(QUERIES[0], 0).rows.tolist() == []
        assert index.search(QUERIES[0], 5, nobody).rows.tolist() == []
        assert index.search(QUERIES[0], 5, np.array([3])).rows.tolist() == [3]
        assert len(index.search(QUERIES[0], COUNT * 2, np.arange(0, COUNT, 7)).rows) == len(range(0, COUNT, 7))


@pytest.mark.parametrize("kind", list(VectorIndexKind))
def test_extended_index_finds_the_same_as_a_new_one(
    kind: VectorIndexKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shelfwise.retrieval.index.faiss.PROBED_CODES", COUNT // 2)
    random = np.random.default_rng(5)
    vectors, folder = VECTORS, built(tmp_path / "v0", kind)
    for version in range(1, 6):
        # A twentieth is removed, a twentieth is added, and the others move to other rows.
        stays = np.sort(random.choice(len(vectors), len(vectors) * 19 // 20, replace=False))
        fresh = clustered(COUNT // 20, seed=10 + version)
        rows = np.concatenate([stays, np.full(len(fresh), -1)])
        moved = random.permutation(len(rows))
        newer = np.concatenate([vectors[stays], fresh])[moved]
        next_folder = tmp_path / f"v{version}"
        create_vectors(next_folder, *newer.shape)[:] = newer
        assert build_index(next_folder, kind, PreviousVectors(folder, rows[moved])) is kind
        vectors, folder = newer, next_folder
    index = FaissIndex(folder, gpu=False)
    allowed = np.sort(random.choice(len(vectors), len(vectors) // 2, replace=False))
    recalls = []
    for query in QUERIES:
        for given, among in ((None, np.arange(len(vectors))), (allowed, allowed)):
            best = among[np.argsort(-(vectors[among] @ query))[:50]]
            found = index.search(query, 50, given)
            assert found.scores == pytest.approx(vectors[found.rows] @ query, abs=1e-6)
            assert set(found.rows.tolist()) <= set(among.tolist())
            recalls.append(len(set(found.rows.tolist()) & set(best.tolist())) / 50)
    assert np.mean(recalls) >= MIN_RECALL[kind]


@pytest.mark.parametrize("count", [1, 61, 63, 67, 100])
def test_equal_vectors_have_equal_scores_in_row_order(tmp_path: Path, count: int) -> None:
    index = FaissIndex(built(tmp_path, VectorIndexKind.EXACT, np.tile(VECTORS[:1], (count, 1))), gpu=False)
    found = index.search(QUERIES[0], count)
    assert found.rows.tolist() == list(range(count))
    assert len(set(found.scores.tolist())) == 1
    alone = index.similarity(QUERIES[0], np.array([count - 1]))
    assert alone.tolist() == [found.scores[0]]


@pytest.mark.parametrize("kind", list(VectorIndexKind))
def test_vectors_in_16_bits_are_exact_as_stored(
    kind: VectorIndexKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shelfwise.retrieval.index.vectors.HALF_FROM", COUNT)
    index = FaissIndex(built(tmp_path, kind, np.repeat(VECTORS[: COUNT // 2], 2, axis=0)), gpu=False)
    stored = load_array(tmp_path / VECTORS_FILE)
    assert stored.dtype == np.float16
    for query in QUERIES:
        found = index.search(query, 50)
        assert found.scores == pytest.approx(stored[found.rows].astype(np.float32) @ query, abs=1e-6)
        assert found.rows[1::2].tolist() == (found.rows[::2] + 1).tolist()  # equal vectors tie, in the order of rows
    assert index.vector(7).tolist() == stored[7].astype(np.float32).tolist()
    assert measure_background(stored) == measure_background(stored.astype(np.float32))


def test_threads_get_the_same_results(index: VectorIndex) -> None:
    alone = [index.search(query, 20).rows.tolist() for query in QUERIES]
    with ThreadPoolExecutor(len(QUERIES)) as threads:
        together = list(threads.map(lambda query: index.search(query, 20).rows.tolist(), QUERIES))
    assert together == alone


def test_the_kind_follows_from_size_and_memory() -> None:
    gib = 1024**3
    assert choose_kind(50_000, 384, gib) is VectorIndexKind.EXACT
    assert choose_kind(50_000, 384, 70_000_000) is VectorIndexKind.QUANTISED
    assert choose_kind(50_001, 384, 64 * gib) is VectorIndexKind.QUANTISED


@pytest.mark.parametrize("content", [b"", b"not numbers", b"\x93NUMPY\x01\x00"])
def test_error_names_damaged_file(tmp_path: Path, content: bytes) -> None:
    folder = built(tmp_path, VectorIndexKind.QUANTISED)
    (folder / INDEX_FILE).write_bytes(content)
    with pytest.raises(StoreDamagedError, match=INDEX_FILE):
        FaissIndex(folder, gpu=False)
    (folder / VECTORS_FILE).write_bytes(content)
    with pytest.raises(StoreDamagedError, match=VECTORS_FILE):
        FaissIndex(folder, gpu=False)


def test_another_kind_of_index_file_is_refused_and_not_extended(tmp_path: Path) -> None:
    folder = built(tmp_path / "before", VectorIndexKind.QUANTISED)
    faiss.write_index(faiss.IndexFlatIP(DIMENSION), str(folder / INDEX_FILE))
    with pytest.raises(StoreDamagedError, match="has a IndexFlatIP without inverted lists; rebuild the index"):
        FaissIndex(folder, gpu=False)
    create_vectors(tmp_path / "now", *VECTORS.shape)[:] = VECTORS
    build_index(tmp_path / "now", VectorIndexKind.QUANTISED, PreviousVectors(folder, np.arange(COUNT)))
    assert FaissIndex(tmp_path / "now", gpu=False).search(VECTORS[7], 1).rows.tolist() == [7]


@pytest.mark.parametrize("kind", list(VectorIndexKind))
def test_an_index_that_a_container_has_no_memory_for_is_refused(
    kind: VectorIndexKind, folders: Callable[[VectorIndexKind], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    limit_memory(monkeypatch, tmp_path, "max")
    FaissIndex(folders(kind), gpu=False)
    limit_memory(monkeypatch, tmp_path, "100000000")
    message = r"3,000 vectors are searched with .* of memory plus .* has 100\.0 MB; .*--memory"
    with pytest.raises(StoreError, match=message):
        FaissIndex(folders(kind), gpu=False)
