"""What every vector index, and its saved copy, must do, on the CPU and, where there is one, on the GPU."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from retrieval.errors import StoreDamagedError
from retrieval.vectors import Vectors
from retrieval.vectors_faiss import (
    INDEX_FILE,
    VECTORS_FILE,
    FaissIndex,
    IndexKind,
    Kept,
    build_index,
    choose_kind,
    create_vectors,
    gpu_count,
)

COUNT, DIMENSION = 3_000, 32
DEVICES = [pytest.param(False, id="cpu"), pytest.param(True, id="gpu", marks=pytest.mark.gpu)]


def clustered(count: int = COUNT, dimension: int = DIMENSION, seed: int = 0) -> Vectors:
    """Unit vectors around a hundred centres, as the texts of a catalog are."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(100, dimension))
    vectors = centres[random.integers(0, 100, count)] + 0.5 * random.normal(size=(count, dimension))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


LEAST_RECALL = {IndexKind.EXACT: 1.0, IndexKind.GRAPH: 0.98, IndexKind.QUANTISED: 0.95}
VECTORS = clustered()
QUERIES = clustered(40, seed=1)


def built(folder: Path, kind: IndexKind, vectors: Vectors = VECTORS) -> Path:
    create_vectors(folder, *vectors.shape)[:] = vectors
    assert build_index(folder, kind) is kind
    return folder


@pytest.fixture(scope="module", params=list(IndexKind))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind: IndexKind = request.param
    return built(tmp_path_factory.mktemp(kind.value), kind)


@pytest.fixture(params=DEVICES)
def gpu(request: pytest.FixtureRequest) -> bool:
    if request.param and not gpu_count():
        pytest.skip("no GPU that this build of faiss can use")
    return bool(request.param)


@pytest.fixture(params=["opened", "copied and opened"])
def index(request: pytest.FixtureRequest, folder: Path, gpu: bool, tmp_path: Path) -> FaissIndex:
    if request.param == "opened":
        return FaissIndex(folder, gpu=gpu)
    return FaissIndex(Path(shutil.copytree(folder, tmp_path / "copy")), gpu=gpu)


def exact(query: Vectors, limit: int, allowed: np.ndarray) -> list[int]:
    scores = VECTORS[allowed] @ query
    return [int(row) for row in allowed[np.lexsort((allowed, -scores))[:limit]]]


class TestVectorIndex:
    def test_it_has_the_vectors_it_was_given(self, index: FaissIndex) -> None:
        assert (index.size, index.dimension) == (COUNT, DIMENSION)
        assert np.array_equal(index.vector(7), VECTORS[7])

    def test_scores_are_exact_ordered_and_distinct(self, index: FaissIndex) -> None:
        found = index.search(QUERIES[0], 50)
        assert len(set(found.rows.tolist())) == 50
        assert found.scores == pytest.approx(VECTORS[found.rows] @ QUERIES[0], abs=1e-6)
        assert (np.diff(found.scores) <= 0).all()
        assert index.similarity(QUERIES[0], found.rows) == pytest.approx(found.scores, abs=1e-6)

    @pytest.mark.parametrize("share", [1.0, 0.5, 0.25, 0.05, 0.005, 1 / COUNT])
    def test_recall_holds_at_any_selectivity(self, index: FaissIndex, share: float) -> None:
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
        assert np.mean(recalls) >= LEAST_RECALL[index.kind]

    def test_limits_at_the_edges(self, index: FaissIndex) -> None:
        nobody = np.empty(0, dtype=np.int64)
        assert index.search(QUERIES[0], 0).rows.tolist() == []
        assert index.search(QUERIES[0], 5, nobody).rows.tolist() == []
        assert index.search(QUERIES[0], 5, np.array([3])).rows.tolist() == [3]
        assert len(index.search(QUERIES[0], COUNT * 2, np.arange(0, COUNT, 7)).rows) == len(range(0, COUNT, 7))


@pytest.mark.parametrize("kind", list(IndexKind))
def test_an_index_continued_over_many_versions_finds_what_a_new_one_does(kind: IndexKind, tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    vectors, folder = VECTORS, built(tmp_path / "v0", kind)
    for version in range(1, 6):
        # A twentieth goes, a twentieth comes, and what stays moves to other rows.
        stays = np.sort(random.choice(len(vectors), len(vectors) * 19 // 20, replace=False))
        fresh = clustered(COUNT // 20, seed=10 + version)
        rows = np.concatenate([stays, np.full(len(fresh), -1)])
        moved = random.permutation(len(rows))
        newer = np.concatenate([vectors[stays], fresh])[moved]
        next_folder = tmp_path / f"v{version}"
        create_vectors(next_folder, *newer.shape)[:] = newer
        assert build_index(next_folder, kind, Kept(folder, rows[moved])) is kind
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
    assert np.mean(recalls) >= LEAST_RECALL[kind]


@pytest.mark.parametrize("count", [61, 63, 67, 100])
def test_equal_vectors_tie_to_the_last_digit_and_come_in_the_order_of_rows(tmp_path: Path, count: int) -> None:
    index = FaissIndex(built(tmp_path, IndexKind.EXACT, np.tile(VECTORS[:1], (count, 1))), gpu=False)
    found = index.search(QUERIES[0], count)
    assert found.rows.tolist() == list(range(count))
    assert len(set(found.scores.tolist())) == 1
    alone = index.similarity(QUERIES[0], np.array([count - 1]))
    assert alone.tolist() == [found.scores[0]]


def test_threads_get_the_answers_that_one_thread_gets(index: FaissIndex) -> None:
    alone = [index.search(query, 20).rows.tolist() for query in QUERIES]
    together: dict[int, list[int]] = {}

    def search(place: int) -> None:
        together[place] = index.search(QUERIES[place], 20).rows.tolist()

    threads = [threading.Thread(target=search, args=(place,)) for place in range(len(QUERIES))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[place] for place in range(len(QUERIES))] == alone


def test_one_vector_is_an_index(tmp_path: Path) -> None:
    index = FaissIndex(built(tmp_path, IndexKind.EXACT, VECTORS[:1]), gpu=False)
    assert index.search(QUERIES[0], 10).rows.tolist() == [0]


def test_the_kind_follows_from_size_and_memory() -> None:
    gib = 1024**3
    assert choose_kind(50_000, 384, gib) is IndexKind.EXACT
    assert choose_kind(50_001, 384, gib) is IndexKind.GRAPH
    assert choose_kind(1_000_000, 384, 2 * gib) is IndexKind.GRAPH
    assert choose_kind(10_000_000, 384, 8 * gib) is IndexKind.QUANTISED


@pytest.mark.parametrize("content", [b"", b"not numbers", b"\x93NUMPY\x01\x00"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    folder = built(tmp_path, IndexKind.GRAPH)
    (folder / INDEX_FILE).write_bytes(content)
    with pytest.raises(StoreDamagedError, match=INDEX_FILE):
        FaissIndex(folder, gpu=False)
    (folder / VECTORS_FILE).write_bytes(content)
    with pytest.raises(StoreDamagedError, match=VECTORS_FILE):
        FaissIndex(folder, gpu=False)
