"""The measure of pruned rankers: which networks are compared, on what, and what is said where there is nothing to
prune."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
import torch

from benchmarks.latency import title_queries
from benchmarks.studies import model_speed
from benchmarks.studies.model_speed import (
    ATTENTION,
    HEAD,
    HISTORY,
    _sensible,
    measure_ranker_speed,
    show_ranker_speed,
    with_layer,
)
from rerank.model_store import MODEL_FILE, WEIGHTS_FILE
from rerank.ranker.features import FEATURES
from rerank.ranker.network import NetworkShape, RankerNetwork, save_network
from rerank.ranker.onnx_export import export_network
from rerank.ranker.pruning import PruningTarget
from rerank.ranker.spec import ranker_store
from retrieval.errors import TrainingError, UnknownModelError
from retrieval.index.token_states import DIMENSION
from service.demo import DemoFiles
from service.engine.engine import SearchEngine
from tests.rankers import REPORT, building
from tests.unit.service.engine.demo_rankers import publish, spec_for, weighing

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def root(demo_index: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_index, tmp_path / "index"))


def test_only_networks_that_are_smaller_than_the_whole_one_are_compared() -> None:
    names = [name for name, *_ in _sensible(NetworkShape(96, 0, 16))]
    assert names[0] == "whole"
    assert names[1:] == [name for name, *_ in model_speed._PRUNED_KINDS]
    small = [name for name, *_ in _sensible(NetworkShape(96, 0, 16, kept_heads=(1, 3), feed_forward=64))]
    assert small == ["whole", "whole, int8", "1 head", "no units", "no layer"]


def test_where_no_ranker_has_a_layer_it_says_so(root: Path, engine: SearchEngine) -> None:
    with pytest.raises(UnknownModelError, match="none of its rankers has one; train one: shelfwise train ranker"):
        with_layer(root, engine.snapshot)
    spec = spec_for(engine.snapshot)
    publish(root, spec, weighing(merged=1.0))
    with pytest.raises(UnknownModelError, match="ranker-0001 has none, or is for another index"):
        with_layer(root, engine.snapshot, "ranker-0001")
    other = msgspec.structs.replace(spec, layers=1)
    ranker_store(root).add_rejected(building(2), other, REPORT, ["worse"])
    assert with_layer(root, engine.snapshot).name == "ranker-0002"


def test_each_network_is_measured_against_the_whole_one(
    root: Path,
    engine: SearchEngine,
    demo: DemoFiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        model_speed, "_PRUNED_KINDS", (("1 head, no units", PruningTarget(heads=1, feed_forward=0), "int8"),)
    )
    monkeypatch.setattr(model_speed, "MEASURING", 20)
    torch.manual_seed(5)
    shape = NetworkShape(DIMENSION, engine.manifest.dimension, len(FEATURES), feed_forward=64, history=0)
    network = RankerNetwork(shape)

    def build(folder: Path) -> None:
        export_network(network, folder / MODEL_FILE)
        save_network(network, folder / WEIGHTS_FILE)

    ranker_store(root).publish(build, spec_for(engine.snapshot, layers=1), REPORT)
    judgments = tmp_path / "judgments.tsv"
    lines = demo.judgments.read_text("utf-8").splitlines(keepends=True)
    judgments.write_text("".join(lines[:400]), "utf-8")
    model_speed.pruning(root, judgments, as_json=True)
    told = msgspec.json.decode(capfd.readouterr().out)
    whole, smaller = told["rows"]
    assert (told["ranker"], whole["name"], smaller["name"]) == ("ranker-0001", "whole", "1 head, no units")
    assert whole["against_whole"]["mean"] == 0
    assert smaller["against_whole"]["mean"] == pytest.approx(smaller["ndcg"] - whole["ndcg"])
    assert smaller["against_whole"]["low"] <= smaller["against_whole"]["mean"] <= smaller["against_whole"]["high"]
    assert 0 < smaller["megabytes"] < whole["megabytes"]
    assert min(whole["milliseconds"], smaller["milliseconds"]) > 0


def test_every_system_is_timed_on_the_same_candidates(engine: SearchEngine, capsys: pytest.CaptureFixture[str]) -> None:
    counted: list[int] = []
    report = measure_ranker_speed(engine.snapshot, title_queries(engine, 30), None, counted.append)
    assert sum(counted) == report.queries > 10
    assert set(report.systems) == {HEAD, ATTENTION, HISTORY}
    assert all(each.graph_p50 > 0 and 0 < each.p50 <= each.p99 for each in report.systems.values())
    assert report.systems[HEAD].megabytes < report.systems[ATTENTION].megabytes < 8
    show_ranker_speed(report)
    assert f"{report.systems[HISTORY].p50:.2f}" in capsys.readouterr().out


def test_without_a_query_there_is_nothing_to_time(engine: SearchEngine) -> None:
    with pytest.raises(TrainingError, match="no query has 100 candidates"):
        measure_ranker_speed(engine.snapshot, [], None)
