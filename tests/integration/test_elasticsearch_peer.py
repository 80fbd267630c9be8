"""Elasticsearch as a peer of the benchmark, on a real node: words, vectors, both, filters, and a price change."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest

from shelfwise.benchmarks.peers.adapters.elasticsearch import ElasticsearchNode
from shelfwise.benchmarks.peers.protocol import Catalog, Item, PriceRange
from tests.servers.server import Server

ENGLISH = {"a": "Cordless drill", "b": "Drill bits, set of 9", "c": "Garden rake"}
CHINESE = {"a": "充电式电钻套装", "b": "不锈钢电热水壶", "c": "无线蓝牙耳机"}


@pytest.mark.parametrize(("titles", "query", "words"), [(ENGLISH, "the drills", ["a", "b"]), (CHINESE, "电钻", ["a"])])
def test_a_catalog_is_searched_by_words_and_vectors(
    elasticsearch: Server, tmp_path: Path, titles: dict[str, str], query: str, words: list[str]
) -> None:
    items = [Item(name, title, "", "", "", price, title) for price, (name, title) in enumerate(titles.items(), 10)]
    (tmp_path / "items.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, items)))
    np.save(tmp_path / "vectors.npy", np.eye(3, dtype=np.float32))
    catalog = Catalog(
        items=tmp_path / "items.jsonl",
        vectors=tmp_path / "vectors.npy",
        feed=tmp_path,
        folder=tmp_path,
        encoder=tmp_path,
        encoder_name="",
        cross_encoder="",
        cache=tmp_path,
        elasticsearch=elasticsearch.url,
        cores=1,
        is_chinese=titles is CHINESE,
    )
    with closing(ElasticsearchNode(catalog)) as node:
        node.__dict__["encode"] = lambda _query: np.array([0.1, 0.2, 1], np.float32)
        node.build()
        assert sorted(node.search("words", query, None, 10)) == words
        assert node.search("vectors", query, None, 2) == ["c", "b"]
        assert sorted(node.search("hybrid", query, None, 10)) == ["a", "b", "c"]
        assert node.search("hybrid", query, PriceRange(10.5, 11), 10) == ["b"]
        node.change_price("a", 99.5)
        node._client.indices.refresh(index="_all")
        assert node.search("vectors", query, PriceRange(99, 100), 10) == ["a"]
        assert node.bytes() > 0
        assert node.versions()["Elasticsearch"]
