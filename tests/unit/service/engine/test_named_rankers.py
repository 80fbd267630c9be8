"""Searches that name a ranker: opened once, kept, and refused where it cannot serve."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from rerank.model_store import MODEL_FILE, ModelStore
from rerank.ranker.features import FEATURES
from rerank.ranker.network import NetworkShape, RankerNetwork
from rerank.ranker.onnx_export import export_network
from rerank.ranker.spec import RankerStore, ranker_store
from retrieval.errors import ModelDamagedError, ModelError, ModelRefusedError, QueryError, UnknownModelError
from service.engine import models
from service.engine.engine import SearchEngine
from service.engine.reranking import THREADS
from service.settings import RankerSettings, Settings
from tests.rankers import REPORT, building
from tests.unit.service.engine.demo_rankers import failing, publish, spec_for, weighing

QUERY = "steel pan"
PATIENT = Settings(ranker=RankerSettings(deadline=60))
STRAIGHT, REVERSED = {"merged": 1.0}, {"merged": -1.0}


@pytest.fixture
def root(demo_index: Path, tmp_path: Path, engine: SearchEngine) -> Path:
    """A copy of the demo index: its first ranker reverses the merged order, the second keeps it and serves."""
    copied = Path(shutil.copytree(demo_index, tmp_path / "index"))
    for weights in (REVERSED, STRAIGHT):
        publish(copied, spec_for(engine.snapshot), weighing(**weights))
    return copied


@pytest.fixture
def live(root: Path) -> Iterator[SearchEngine]:
    with SearchEngine.open(root, settings=PATIENT, follow=False) as opened:
        yield opened


def order(engine: SearchEngine, **options: Any) -> list[str]:  # noqa: ANN401 - as a search takes them
    page = engine.search(QUERY, size=30, **options)
    assert page.degraded == ()
    return [hit.product.id for hit in page.hits]


def test_one_search_has_the_order_of_the_ranker_that_it_names(live: SearchEngine) -> None:
    merged = order(live, stage="merged")
    assert order(live) == order(live, ranker="ranker-0002") == order(live, ranker="off") == merged
    assert order(live, ranker="ranker-0001") != merged
    assert live.ranker == "ranker-0002"
    assert live.search(QUERY, ranker="off").hits[0].stages.keys() == {"bm25", "dense", "merged"}


def test_it_explains_its_own_scores(live: SearchEngine) -> None:
    told = live.search(QUERY, explain=True, ranker="ranker-0001").hits[0]
    assert told.explanation is not None
    assert {each.name: each.contribution for each in told.explanation.contributions}["merged score"] < 0
    assert live.search(QUERY, explain=True, ranker="off").hits[0].explanation is None


def test_a_features_head_and_cross_attention_serve_side_by_side(live: SearchEngine, root: Path) -> None:
    states = live.snapshot.states
    assert states is not None
    torch.manual_seed(3)
    shape = NetworkShape(states.dimension, 0, len(FEATURES), layers=1, feed_forward=8, hidden=8, history=0)
    network = RankerNetwork(shape).eval()

    def build(folder: Path) -> None:
        building()(folder)
        export_network(network, folder / MODEL_FILE)

    added = ranker_store(root).publish(build, spec_for(live.snapshot, layers=1), REPORT)
    # The engine does not follow, so the features head serves on.
    assert live.ranker == "ranker-0002"
    attended = live.search(QUERY, size=30, explain=True, ranker=added.model.name)
    assert attended.degraded == ()
    assert any(hit.explanation and hit.explanation.matches for hit in attended.hits)
    assert [hit.product.id for hit in attended.hits] != order(live)


def test_the_default_ranker_has_a_name_too(demo_index: Path, root: Path) -> None:
    with SearchEngine.open(demo_index, settings=PATIENT, follow=False) as fresh:
        assert fresh.ranker == "default"
        wanted = order(fresh)
    with SearchEngine.open(root, settings=PATIENT, follow=False) as own:
        assert own.ranker == "ranker-0002"
        assert order(own, ranker="default") == wanted != order(own)


def test_it_is_opened_once_however_many_ask(live: SearchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    whole = ModelStore.servable

    def counted(self: RankerStore, name: str, *given: Any) -> Any:  # noqa: ANN401 - what it stands for
        opened.append(name)
        return whole(self, name, *given)

    monkeypatch.setattr(ModelStore, "servable", counted)
    with ThreadPoolExecutor(6) as workers:
        orders = list(workers.map(lambda _: tuple(order(live, ranker="ranker-0001")), range(12)))
    assert len(set(orders)) == 1
    assert opened == ["ranker-0001"]


@pytest.mark.usefixtures("without_default")
def test_what_cannot_serve_is_refused_with_the_reason(live: SearchEngine, root: Path) -> None:
    registry, spec = ranker_store(root), spec_for(live.snapshot)
    registry.add_rejected(building(), spec, REPORT, ["worse"])
    foreign = publish(root, spec_for(live.snapshot, encoder="another"), weighing(**REVERSED))
    damaged = publish(root, spec, weighing(**REVERSED))
    (root / "rankers" / damaged / MODEL_FILE).write_bytes(b"no graph")
    for name, error, why in (
        ("ranker-0099", UnknownModelError, "it holds ranker-0001"),
        ("../ranker-0001", UnknownModelError, "has no ranker"),
        ("default", UnknownModelError, "has no ranker"),
        ("ranker-0003", ModelRefusedError, "rejected: worse"),
        (foreign, ModelError, "it was trained on the encoder another"),
        (damaged, ModelDamagedError, MODEL_FILE),
    ):
        for _ in range(2):
            with pytest.raises(error, match=why):
                live.search(QUERY, ranker=name)
        assert why in live.ranker_problem(name)
    with pytest.raises(QueryError, match="ranker is int"):
        live.search(QUERY, ranker=1)  # type: ignore[arg-type]
    assert (live.ranker_problem(), live.ranker_problem("off"), live.ranker_problem("ranker-0001")) == ("", "", "")


def test_one_that_fails_leaves_the_merged_order_and_says_so(live: SearchEngine, root: Path) -> None:
    name = publish(root, spec_for(live.snapshot), failing())
    page = live.search(QUERY, size=30, ranker=name)
    assert page.degraded == ("ranked",)
    assert [hit.product.id for hit in page.hits] == order(live, stage="merged")


def test_off_is_for_all_of_them_until_a_rollback(live: SearchEngine, root: Path) -> None:
    turned = order(live, ranker="ranker-0001")
    registry = ranker_store(root)
    registry.off()
    live.reload_if_changed()
    assert "switched off" in live.ranker_problem("ranker-0001")
    assert live.ranker_problem() == "no ranker serves"
    with pytest.raises(ModelError, match="switched off"):
        live.search(QUERY, ranker="ranker-0001")
    registry.rollback("ranker-0002")
    live.reload_if_changed()
    assert order(live, ranker="ranker-0001") == turned


def test_one_that_is_taken_away_from_disk_is_kept(live: SearchEngine, root: Path) -> None:
    turned = order(live, ranker="ranker-0001")
    shutil.rmtree(root / "rankers" / "ranker-0001")
    publish(root, spec_for(live.snapshot), weighing(**STRAIGHT))
    live.reload_if_changed()
    assert order(live, ranker="ranker-0001") == turned


def test_no_more_are_kept_than_may_be(live: SearchEngine, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MOST", 1)
    publish(root, spec_for(live.snapshot), weighing(**REVERSED))
    before = working()
    for name in ("ranker-0001", "ranker-0003") * 2:
        order(live, ranker=name)
    assert working() == before + THREADS


def test_a_closed_engine_has_no_threads_of_them(root: Path) -> None:
    before = working()
    with SearchEngine.open(root, settings=PATIENT, follow=False) as opened:
        order(opened, ranker="ranker-0001")
        assert working() == before + 2 * THREADS
    assert working() == before


def working() -> int:
    """Threads that score candidates."""
    return sum(each.name == "shelfwise-rerank" for each in threading.enumerate())
