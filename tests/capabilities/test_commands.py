"""Capabilities of commands, of the Python API, and of the index without a service."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import anyio
import msgspec
import numpy as np
import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters

import shelfwise
from shelfwise.retrieval.index.faiss import FaissIndex, gpu_count
from shelfwise.retrieval.index.vectors import map_vectors, whole_floats
from shelfwise.retrieval.store.manifest import VECTORS_FOLDER
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.engine.engine import SearchEngine
from tests import pictured_store
from tests.conftest import ENCODER
from tests.machine import build_once
from tests.unit.service.cli import commands


@pytest.fixture(scope="module")
def index(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small index; beside it are its feed, which has an invalid row, and the report of its rebuild."""
    folder = tmp_path_factory.mktemp("small")
    feed = commands.write_small_feed(folder)
    with pytest.MonkeyPatch.context() as patches:
        patches.setenv("XDG_CACHE_HOME", str(cache.parent))
        options = ("--encoder", ENCODER, "--runtime", "onnx-int8", "--force")
        report = commands.document("rebuild", folder / "index", feed, *options)
    (folder / "report.json").write_bytes(msgspec.json.encode(report))
    return folder / "index"


def test_rebuild(index: Path) -> None:
    report = msgspec.json.decode(index.with_name("report.json").read_bytes())
    assert (report["version"], report["published"], report["products"], report["read"]) == ("v000001", True, 4, 5)
    assert (report["encoded"], report["reused"], sum(report["rejected"].values())) == (4, 0, 1)
    assert commands.document("search", index, "电钻")["hits"][0]["product"]["id"] == "4"


def test_python_api(demo_index: Path) -> None:
    with shelfwise.SearchEngine.open(demo_index) as engine:
        page = engine.search("cordless drill", size=3, filters="price < 500", facets=["brand"])
        past = [shelfwise.PastAct(page.hits[0].product.id, shelfwise.EventKind.CART)]
        assert len(page.hits) == len(engine.recommend(past, size=3).hits) == 3
    assert all(hit.product.price and hit.product.price < 500 for hit in page.hits)
    assert page.facets["brand"].counts


def test_latency_run(index: Path) -> None:
    result = commands.document("bench", "latency", index, "--count", "100", "--threads", "2")
    assert (result["products"], result["searches"], result["threads"]) == (4, 100, 2)
    assert list(result["stages"]) == ["bm25", "dense", "merged", "ranked"]
    assert all(0 < stage["p50"] <= stage["p90"] <= stage["p99"] for stage in result["stages"].values())
    assert min(result["import_seconds"], result["open_seconds"]) > 0


def test_recall_run(index: Path, tmp_path: Path) -> None:
    judgments = tmp_path / "judgments.tsv"
    judgments.write_text("query\tproduct_id\tgrade\ncordless drill\t1\t2\nhose\t3\t1\nhose\t1\t0")
    result = commands.document("bench", "recall", index, "--judgments", judgments, "--count", "10")
    assert (result["vectors"], result["index"]) == (4, "exact")
    assert {each["share"]: each["allowed"] for each in result["recall"]} == {1: 4, 0.5: 2, 0.05: 1, 0.005: 1, 0.0001: 1}
    assert {each["recall"] for each in result["recall"]} == {1.0}


def test_data_quality(index: Path, tmp_path: Path) -> None:
    page, rejected = tmp_path / "report.html", tmp_path / "rejected.jsonl"
    report = commands.document("check", index.with_name("feed.jsonl"), "--html", page, "--rejected", rejected)
    assert (report["read"], report["products"], report["rejected"]["no title"]["count"]) == (5, 4, 1)
    assert any(finding["rule"] == "no_image" and finding["count"] == 4 for finding in report["findings"])
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert msgspec.json.decode(rejected.read_bytes())["row"] == {"id": "5"}


def test_recommendation(index: Path) -> None:
    similar = commands.document("query", "similar", index, "1", "--size", "2")["hits"]
    assert similar[0]["product"]["id"] == "2"
    done = commands.run("query", "recommend", index, "--history", "1:cart,gone", "--size", "2", "--json")
    assert [hit["product"]["id"] for hit in done.document()["hits"]] == [hit["product"]["id"] for hit in similar]
    assert "warning: no product has the id gone: its acts have no effect" in done.err


def test_relations(index: Path, tmp_path: Path) -> None:
    assert commands.run("events", "refresh", index).code == 0
    assert commands.document("query", "related", index, "1", "--kind", "fits")["hits"] == []
    file = tmp_path / "relation.json"
    file.write_text('{"kind": "fits", "product": "1", "other": "2"}')
    assert commands.run("curate", "put", "relations", index, file, "--by", "m7").code == 0
    listing = ("curate", "list", "relations", index, "--product", "2")
    (shown,) = commands.document(*listing)["details"]["relations"]
    assert (shown["product_id"], shown["relation"]["evidence"]) == ("1", "owner")
    assert "1: is fitted by" in commands.shown(*listing)
    assert commands.run("curate", "delete", "relations", index, "fits 1 2").code == 0
    assert commands.document(*listing)["details"]["relations"] == []
    assert "deleted" in commands.shown("curate", "history", "relations", index, "2")


@pytest.mark.parametrize("device", ["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def test_faiss(engine: SearchEngine, device: str) -> None:
    if device == "gpu" and not gpu_count():
        pytest.skip("there is no GPU for faiss")
    folder = Store(engine.root).version_folder(engine.manifest.version) / VECTORS_FOLDER
    query = engine.snapshot.encoder.encode_queries(["cordless drill"])[0]
    nearest = np.argsort(-(whole_floats(map_vectors(folder)) @ query), kind="stable")[:5]
    assert FaissIndex(folder, gpu=device == "gpu").search(query, 5).rows.tolist() == nearest.tolist()


def test_pictures(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    built = build_once(tmp_path_factory, "pictured-store", lambda folder: pictured_store.build(folder, cache))
    look = pictured_store.LOOKS[1]
    with SearchEngine.open(built / "index", follow=False) as engine:
        page = engine.search_by_picture(pictured_store.picture_of("T-Shirt", look, 99), size=5)
    assert page.hits[0].product.id == "t1"
    assert page.hits[0].stages["pictures"].rank == 1


def test_mcp(demo_index: Path) -> None:
    program = ["-c", "from shelfwise.service.cli.main import main; main()", "mcp", str(demo_index)]
    command = StdioServerParameters(command=sys.executable, args=program, env={"HF_HUB_OFFLINE": "1"}, cwd=Path.cwd())

    async def shop() -> None:
        async with Client(command) as client:

            async def call(tool: str, **arguments: object) -> dict[str, Any]:
                result = await client.call_tool(tool, arguments)
                assert not result.is_error, result.content
                assert isinstance(result.structured_content, dict)
                return result.structured_content

            tools = (await client.list_tools()).tools
            expected = ["search", "facets", "product", "similar", "related", "recommend", "answer"]
            assert [each.name for each in tools] == expected
            assert all(each.annotations and each.annotations.read_only_hint for each in tools)
            page = await call("search", query="cordless drill", size=3, filters="price < 500", facets=["brand"])
            assert len(page["hits"]) == 3 <= page["total"]
            assert "drill" in page["hits"][0]["title"].lower()
            assert all(each["price"] < 500 for each in page["hits"])
            assert page["facets"]["brand"]["counts"][0]["count"] > 0
            first = page["hits"][0]["id"]
            assert (await call("product", id=first))["attributes"]
            assert first not in {each["id"] for each in (await call("similar", id=first, size=4))["hits"]}
            recommended = await call("recommend", history=[{"product_id": first, "kind": "cart"}], size=5)
            assert len(recommended["hits"]) == 5

    anyio.run(shop)
