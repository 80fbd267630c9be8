"""Peers in separate processes: the protocol, their measures, stored results, and the report."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from shelfwise.benchmarks.intent import read_intent_cases
from shelfwise.benchmarks.peers import process as processes
from shelfwise.benchmarks.peers.adapters.elasticsearch import _EnglishAnalyzer, _merged
from shelfwise.benchmarks.peers.measure import PeersOptions, PeersReport, measure_peers, read_report
from shelfwise.benchmarks.peers.process import (
    NotOfferedError,
    PeerProcess,
    Spec,
    environment_python,
    opened,
    thread_settings,
)
from shelfwise.benchmarks.peers.protocol import Catalog, Item, PriceRange
from shelfwise.benchmarks.peers.registry import OURS, PEERS, Peer, choose_peers, find_reranker
from shelfwise.benchmarks.peers.report import changes, leads, show_peers, write_plots
from shelfwise.retrieval.errors import EncoderUnavailableError, SettingError, StoreError
from shelfwise.retrieval.progress import NullProgress
from shelfwise.service.demo import DemoFiles

TANTIVY = PEERS["tantivy"].spec
TITLES = {"a": "Cordless drill", "b": "Drill bit set", "c": "Rake - green, for leaves"}


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    items = [Item(name, title, "", "", "", price, title) for price, (name, title) in enumerate(TITLES.items(), 10)]
    (tmp_path / "items.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, items)))
    np.save(tmp_path / "vectors.npy", np.eye(3, dtype=np.float32))
    folder = tmp_path / "peer"
    folder.mkdir()
    return Catalog(
        items=tmp_path / "items.jsonl",
        vectors=tmp_path / "vectors.npy",
        feed=tmp_path / "feed.jsonl",
        folder=folder,
        encoder=tmp_path,
        encoder_name="",
        cross_encoder="",
        cache=tmp_path,
        elasticsearch="",
        cores=1,
    )


def test_a_peer_is_built_in_one_process_and_searched_in_another(catalog: Catalog, tmp_path: Path) -> None:
    with opened(TANTIVY, catalog, tmp_path / "log") as (peer, built, opening):
        assert built.is_reopened
        assert built.seconds > 0 < opening.seconds
        assert built.bytes > 0
        assert set(built.versions) == {"tantivy"}
        assert set(peer.search("words", "drills", 10).result()) == {"a", "b"}
        assert peer.search("words", "drills", 10, PriceRange(10, 10.5)).result() == ["a"]
        assert peer.search("words", "rake - NOT green", 10).result() == ["c"], "a shopper's signs are no syntax"
        peer.call("change_price", product="b", price=99.5).result()
        assert peer.search("words", "drill", 10, PriceRange(99, 100)).result() == ["b"]
        assert peer.resident() > 1_000_000
        assert peer.processor_seconds() > 0
        process = peer._process
    assert process.poll() == 0


def test_words_of_a_chinese_catalog_are_found(catalog: Catalog, tmp_path: Path) -> None:
    chinese = {"a": "充电式电钻套装", "b": "不锈钢电热水壶", "c": "无线蓝牙耳机"}
    items = [Item(name, title, "", "", "", 10, title) for name, title in chinese.items()]
    catalog.items.write_bytes(b"\n".join(map(msgspec.json.encode, items)))
    with opened(TANTIVY, msgspec.structs.replace(catalog, is_chinese=True), tmp_path / "log") as (peer, _, _):
        assert peer.search("words", "电钻", 10).result() == ["a"]
        assert peer.search("words", "蓝牙耳机", 10).result() == ["c"]


def test_errors_of_a_peer_name_it_and_its_log(catalog: Catalog, tmp_path: Path) -> None:
    with opened(TANTIVY, catalog, tmp_path / "log") as (peer, _, _):
        with pytest.raises(StoreError, match=r"Tantivy: KeyError: 'nothing'; see .*log"):
            peer.call("change_price", product="nothing", price=1.0).result()
        assert peer.search("words", "rake", 10).result() == ["c"], "it goes on"
        peer._process.kill()
        with pytest.raises(StoreError, match="Tantivy ended with status -9"):
            peer.search("words", "rake", 10).result()


@pytest.mark.slow
def test_an_operation_that_a_peer_lacks_is_not_offered(catalog: Catalog, tmp_path: Path) -> None:
    spec = PEERS["sentence-transformers"].spec
    with opened(spec, catalog, tmp_path / "log") as (peer, _, _), pytest.raises(NotOfferedError):
        peer.call("change_price", product="a", price=1.0).result()


def test_a_search_before_a_build_is_an_error(tmp_path: Path) -> None:
    peer = PeerProcess(TANTIVY, tmp_path, 1, tmp_path / "log")
    with pytest.raises(StoreError, match="build or open must be called first"):
        peer.search("words", "drill", 1).result()
    peer.close()


def test_environments_are_made_once_and_their_failure_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert environment_python("", tmp_path) == Path(sys.executable)
    monkeypatch.setattr(processes, "REQUIREMENTS", tmp_path)
    (tmp_path / "empty.txt").write_text("")
    python = environment_python("empty", tmp_path)
    assert os.access(python, os.X_OK)
    stamp = python.parents[1] / "complete"
    before = stamp.stat().st_mtime_ns
    assert environment_python("empty", tmp_path) == python
    assert stamp.stat().st_mtime_ns == before
    (tmp_path / "broken.txt").write_text("not a package ==")
    with pytest.raises(StoreError, match=r"the environment of broken cannot be made: .*is there a network"):
        environment_python("broken", tmp_path)


def test_unknown_peers_and_missing_cross_encoders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="'solr' is not a peer; it can be shelfwise, elasticsearch"):
        choose_peers("tantivy, solr")
    assert [each.name for each in choose_peers("tantivy")] == [OURS, "tantivy"]
    assert [each.name for each in choose_peers("")] == list(PEERS)
    fewer = choose_peers("", "none")
    assert "sentence-transformers" not in [each.name for each in fewer]
    assert not any(each.reranks for each in fewer)
    assert find_reranker("nowhere", choose_peers("tantivy"), tmp_path) is None
    with pytest.raises(EncoderUnavailableError, match="--cross-encoder"):
        find_reranker("nowhere/none", choose_peers("lancedb"), tmp_path)


def test_every_peer_has_its_pins_and_one_label_each() -> None:
    labels = [mode.label for peer in PEERS.values() for mode in peer.modes]
    assert len(labels) == len(set(labels))
    pinned = {peer.spec.environment for peer in PEERS.values()} - {""}
    assert pinned <= {path.stem for path in processes.REQUIREMENTS.glob("*.txt")}
    assert thread_settings(3)["OMP_NUM_THREADS"] == "3"


def test_terms_are_those_of_the_english_analyzer() -> None:
    assert _EnglishAnalyzer().terms("The shopper's Running shoes, for 电钻") == "shopper run shoe 电 钻"


def test_rankings_are_merged_by_reciprocal_ranks() -> None:
    assert 1 / 61 + 1 / 62 > 2 / 62 > 1 / 61
    assert _merged([["a", "b"], ["c", "b", "a"]]) == ["a", "b", "c"]


@pytest.fixture(scope="module")
def report(
    demo_index: Path, demo: DemoFiles, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PeersOptions, PeersReport]:
    options = PeersOptions(
        index=demo_index,
        judgments=demo.judgments,
        folder=tmp_path_factory.mktemp("peers"),
        peers=[PEERS["tantivy"], Peer("nothing", Spec("shelfwise.benchmarks.peers.nothing", "Nothing"), [])],
        cache=cache,
        cases=read_intent_cases(Path("benchmarks/cases/demo.tsv"), "report")[:10],
        queries=20,
        seconds=0.3,
        repeats=2,
        rate=20,
        cores=1,
    )
    return options, measure_peers(options, NullProgress())


def test_figures_of_a_peer_are_complete_and_kept(report: tuple[PeersOptions, PeersReport]) -> None:
    options, found = report
    (row,) = found.rows
    assert row.label == "tantivy"
    assert list(found.failures) == ["nothing"], "the others are measured"
    assert "ModuleNotFoundError" in found.failures["nothing"]
    assert 0 < row.measures["nDCG@10"] < 1
    assert len(row.ndcg) == found.queries == 20
    assert len(row.p50) == len(row.p99) == len(row.per_second) == len(row.core_ms) == 2
    assert 0 < row.p50[0] <= row.p99[0]
    assert row.rate <= 20
    assert row.filtered_recall is None, "it has no vectors"
    assert len(row.freshness) == 20
    assert found.cases == len(row.intent) > 0
    assert measure_peers(options, NullProgress()).rows == found.rows, "nothing is measured again"
    assert measure_peers(replace(options, repeats=1, mix="zipf"), NullProgress()).rows != found.rows, (
        "but by other options"
    )


def test_report_begins_with_the_advantages_of_peers(
    report: tuple[PeersOptions, PeersReport], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, found = report
    (theirs,) = found.rows
    ours = msgspec.structs.replace(
        theirs, peer=OURS, label="Shelfwise", p50=[0.001], ndcg=dict.fromkeys(theirs.ndcg, 1.0), filtered_recall=1.0
    )
    both = msgspec.structs.replace(found, rows=[ours, msgspec.structs.replace(theirs, per_second=[1e9], bytes=1)])
    ahead = list(leads(both.rows[1], ours))
    assert any(each.startswith("searches a second (1,000,000,000.0 against") for each in ahead)
    assert not any(each.startswith(("nDCG@10", "p50 ms", "filtered recall")) for each in ahead)
    plots = write_plots(both, tmp_path)
    assert {path.suffix for path in plots} == {".svg", ".png"}
    assert plots[1].read_bytes().startswith(b"\x89PNG")
    show_peers(both, plots, 0.05, found)
    printed = capsys.readouterr().out
    assert printed.startswith("ahead of Shelfwise: tantivy in ")
    assert "its `en_stem` tokenizer" in printed
    assert "not measured: nothing: Nothing ended with status 1" in printed


def test_older_reports_are_compared_with_intervals(report: tuple[PeersOptions, PeersReport], tmp_path: Path) -> None:
    _, found = report
    path = tmp_path / "report.json"
    path.write_bytes(msgspec.json.encode(found))
    assert not [each for each in changes(found, read_report(path)) if each.is_clear]
    faster = [msgspec.structs.replace(row, per_second=[each * 100 for each in (1.0, 1.01)]) for row in found.rows]
    slower = [msgspec.structs.replace(row, per_second=[1.0, 1.01]) for row in found.rows]
    now, before = (msgspec.structs.replace(found, rows=rows) for rows in (faster, slower))
    assert [each.figure for each in changes(now, before) if each.is_clear] == ["per_second"]
    other = msgspec.structs.replace(found, made_by={**found.made_by, "catalog": "another"})
    with pytest.raises(SettingError, match="another catalog"):
        list(changes(found, other))
    path.write_text("{}")
    with pytest.raises(SettingError, match="is not a report of `bench peers`"):
        read_report(path)


def test_processes_end_with_the_one_that_started_them(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), opened(TANTIVY, catalog, tmp_path / "log") as (peer, _, _):
        process = peer._process
        raise KeyboardInterrupt
    assert process.poll() == 0


def test_a_spec_of_no_module_ends_with_its_message(catalog: Catalog, tmp_path: Path) -> None:
    spec = Spec("shelfwise.benchmarks.peers.nothing", "Nothing")
    message = r"Nothing ended with status 1: .*ModuleNotFoundError"
    with pytest.raises(StoreError, match=message), opened(spec, catalog, tmp_path / "log"):
        pass
