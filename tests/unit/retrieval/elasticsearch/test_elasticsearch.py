"""Connection settings and vectors of a cluster."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.retrieval.elasticsearch.client import Cluster
from shelfwise.retrieval.elasticsearch.keyword import number_of, sortable
from shelfwise.retrieval.elasticsearch.settings import ClusterSettings
from shelfwise.retrieval.elasticsearch.vectors import ElasticsearchVectors, load_vectors
from shelfwise.retrieval.errors import ClusterUnavailableError, SettingError, StoreDamagedError
from shelfwise.retrieval.index.vectors import VECTORS_FILE, create_vectors

URL = ("http://localhost:9200",)


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"urls": ()}, "elasticsearch.url is not set"),
        ({"urls": ("localhost:9200",)}, "must be like"),
        ({"urls": ("ftp://localhost",)}, "must be like"),
        ({"urls": ("http://me:secret@localhost:9200",)}, "has a name or a password"),
        ({"urls": URL, "alias": "Shop"}, "elasticsearch.alias is 'Shop'"),
        ({"urls": URL, "alias": "_shop"}, "elasticsearch.alias"),
        ({"urls": URL, "alias": "a,b"}, "elasticsearch.alias"),
        ({"urls": URL, "username": "me"}, "go together"),
        ({"urls": URL, "username": "me", "password": "secret", "api_key": "key"}, "both set"),
        ({"urls": URL, "ca_certificate": Path("nowhere.pem")}, "nowhere.pem"),
        ({"urls": URL, "deadline": 0.0}, "elasticsearch.deadline is 0.0"),
    ],
)
def test_invalid_settings_are_named(given_settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message) as raised:
        ClusterSettings(**given_settings)
    assert "secret" not in str(raised.value)


def test_secrets_are_not_shown() -> None:
    hidden: tuple[dict[str, Any], ...] = ({"username": "me", "password": "secret"}, {"api_key": "secret"})
    for secrets in hidden:
        assert "secret" not in repr(ClusterSettings(URL, **secrets))


@given(st.lists(st.floats(allow_nan=False), min_size=2, max_size=20))
def test_digits_sort_like_numbers(numbers: list[float]) -> None:
    assert sorted(numbers) == sorted(numbers, key=sortable)
    assert [number_of(sortable(number)) for number in numbers] == numbers
    assert sortable(0.0) == sortable(-0.0)


VECTORS = np.eye(8, dtype=np.float32)[[0, 1, 2, 0, 3]]
QUERY = np.array([0.8, 0.6, 0, 0, 0, 0, 0, 0], dtype=np.float32)


@pytest.fixture
def unreachable() -> Iterator[Cluster]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with closing(Cluster(ClusterSettings((f"http://127.0.0.1:{port}",)))) as cluster:
        yield cluster


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_vectors(tmp_path, *VECTORS.shape)[:] = VECTORS
    return tmp_path


@pytest.fixture
def index(unreachable: Cluster, folder: Path) -> ElasticsearchVectors:
    return ElasticsearchVectors(unreachable, "shelfwise-v000001-vectors", folder, {}, most_scanned=2)


def test_search_without_the_cluster_is_degraded(index: ElasticsearchVectors) -> None:
    for allowed in (None, np.array([0, 1, 4])):
        with pytest.raises(ClusterUnavailableError):
            index.search(QUERY, 2, allowed)
    with pytest.raises(ClusterUnavailableError):
        index.check()


def test_vectors_answer_without_the_cluster(index: ElasticsearchVectors) -> None:
    found = index.without_cluster.search(QUERY, 3)
    assert found.rows.tolist() == [0, 3, 1]
    assert found.scores == pytest.approx([0.8, 0.8, 0.6])
    assert index.without_cluster.search(QUERY, 2, np.array([1, 2, 3])).rows.tolist() == [3, 1]
    assert (index.without_cluster.size, index.without_cluster.dimension) == (index.size, index.dimension) == (5, 8)


def test_local_operations_do_not_contact_the_cluster(index: ElasticsearchVectors) -> None:
    assert index.search(QUERY, 0).rows.tolist() == []
    assert index.search(QUERY, 5, np.empty(0, dtype=np.int64)).rows.tolist() == []
    assert index.search(QUERY, 5, np.array([1, 3])).rows.tolist() == [3, 1]
    assert index.similarity(QUERY, np.array([4, 1])) == pytest.approx([0.0, 0.6])
    assert np.array_equal(index.vector(2), VECTORS[2])
    assert np.array_equal(index.gather(np.array([3, 2])), VECTORS[[3, 2]])


def test_loading_vectors_needs_a_readable_file_and_a_cluster(unreachable: Cluster, folder: Path) -> None:
    with pytest.raises(ClusterUnavailableError):
        load_vectors(unreachable, "shelfwise-v000001-vectors", folder, {})
    (folder / VECTORS_FILE).write_bytes(b"not numbers")
    with pytest.raises(StoreDamagedError, match=VECTORS_FILE):
        load_vectors(unreachable, "shelfwise-v000001-vectors", folder, {})
