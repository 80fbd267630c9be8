"""Rankers of an engine: the serving one, reloaded during searches, and those named by searches."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shelfwise.rerank.model_store import MODEL_FILE, ModelStore
from shelfwise.rerank.ranker.spec import RankerStore, ranker_store
from shelfwise.retrieval.errors import ModelDamagedError, ModelError, ModelRefusedError, QueryError, UnknownModelError
from shelfwise.service.engine import served_models
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.reranking import THREADS
from shelfwise.service.engine.served_models import ServedRanker
from shelfwise.service.settings import FILE_VARIABLE
from tests.catalogs import ids
from tests.rankers import add_ranker
from tests.unit.service.engine.demo_rankers import order, publish, spec_for, weighted_graph

pytestmark = pytest.mark.usefixtures("without_default")


REVERSED, STRAIGHT = {"merged": -1.0}, {"merged": 1.0}


@pytest.fixture
def live(root: Path) -> Iterator[SearchEngine]:
    """An engine that reloads its ranker only on request."""
    with SearchEngine.open(root, follow=False) as opened:
        yield opened


def test_ranker_is_loaded_rolled_back_and_switched_off(live: SearchEngine, root: Path) -> None:
    merged = order(live)
    assert live.stages[-1] == "merged"
    first = publish(root, spec_for(live.snapshot), weighted_graph(**STRAIGHT))
    assert order(live) == merged
    assert live.stages[-1] == "ranked"
    publish(root, spec_for(live.snapshot), weighted_graph(**REVERSED))
    turned = order(live)
    assert turned != merged
    registry = ranker_store(root)
    registry.rollback(first)
    assert order(live) == merged
    registry.rollback("ranker-0002")
    assert order(live) == turned
    registry.off()
    assert order(live) == merged
    assert live.stages[-1] == "merged"
    assert live.notices == ()


def test_no_search_fails_while_rankers_change(live: SearchEngine, root: Path) -> None:
    merged = order(live)
    spec = spec_for(live.snapshot)
    publish(root, spec, weighted_graph(**REVERSED))
    turned = order(live)
    stop = threading.Event()

    def search() -> int:
        count = 0
        while not stop.is_set():
            page = live.search("steel pan", size=30)
            assert page.degraded == ()
            assert ids(page) in (merged, turned)
            count += 1
        return count

    registry = ranker_store(root)
    with ThreadPoolExecutor(4) as workers:
        searching = [workers.submit(search) for _ in range(4)]
        try:
            for weights in (STRAIGHT, REVERSED):
                publish(root, spec, weighted_graph(**weights))
                for change in (lambda: None, registry.rollback, registry.off, lambda: registry.rollback("ranker-0001")):
                    change()
                    live.reload_if_changed()
        finally:
            stop.set()
        assert all(future.result() > 0 for future in searching)


def test_ranker_deleted_from_disk_serves_until_replaced(live: SearchEngine, root: Path) -> None:
    name = publish(root, spec_for(live.snapshot), weighted_graph(**REVERSED))
    turned = order(live)
    shutil.rmtree(root / "rankers" / name)
    assert order(live) == turned


def test_unreadable_settings_use_the_merged_order_with_a_notice(
    engine: SearchEngine, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(root, spec_for(engine.snapshot), weighted_graph(**REVERSED))
    (tmp_path / "settings.toml").write_text("[ranker]\ndeadline = 0\n")
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "settings.toml"))
    served = ServedRanker(root)
    served.reload_if_changed(engine.snapshot)
    assert served.stage(engine.snapshot) is None
    (notice,) = served.notices
    assert notice.startswith("results keep the merged order: the setting ranker.deadline")


def test_ranker_does_not_serve_another_encoder_or_a_closed_engine(engine: SearchEngine, root: Path) -> None:
    publish(root, spec_for(engine.snapshot), weighted_graph(**REVERSED))
    served = ServedRanker(root)
    served.reload_if_changed(engine.snapshot)
    manifest = msgspec.structs.replace(engine.manifest, encoder="another encoder")
    other = dataclasses.replace(engine.snapshot, manifest=manifest)
    assert served.stage(engine.snapshot) is not None
    # Between the change of a version and the next check.
    assert served.stage(other) is None
    served.reload_if_changed(other)
    assert "it was trained on the encoder" in served.notices[0]
    served.reload_if_changed(engine.snapshot)
    served.close()
    assert served.stage(engine.snapshot) is None
    publish(root, spec_for(engine.snapshot), weighted_graph(**STRAIGHT))
    served.reload_if_changed(engine.snapshot)
    assert served.stage(engine.snapshot) is None


@pytest.fixture
def two(root: Path, engine: SearchEngine) -> Path:
    """A copy of the demo index: its first ranker reverses the merged order, the second keeps it and serves."""
    for weights in (REVERSED, STRAIGHT):
        publish(root, spec_for(engine.snapshot), weighted_graph(**weights))
    return root


@pytest.fixture
def choosing(two: Path) -> Iterator[SearchEngine]:
    with SearchEngine.open(two, follow=False) as opened:
        yield opened


def test_search_uses_the_ranker_that_it_names(choosing: SearchEngine) -> None:
    merged = order(choosing, stage="merged")
    assert order(choosing) == order(choosing, ranker="ranker-0002") == order(choosing, ranker="off") == merged
    assert order(choosing, ranker="ranker-0001") != merged
    assert choosing.ranker == "ranker-0002"
    assert choosing.search("steel pan", ranker="off").hits[0].stages.keys() == {"bm25", "dense", "merged"}


def test_named_ranker_is_opened_once_for_concurrent_searches(
    choosing: SearchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    whole = ModelStore.servable

    def counted(self: RankerStore, name: str, *given: Any) -> Any:  # noqa: ANN401 - what it stands for
        opened.append(name)
        return whole(self, name, *given)

    monkeypatch.setattr(ModelStore, "servable", counted)
    with ThreadPoolExecutor(6) as workers:
        orders = list(workers.map(lambda _: tuple(order(choosing, ranker="ranker-0001")), range(12)))
    assert len(set(orders)) == 1
    assert opened == ["ranker-0001"]


def test_unusable_ranker_is_refused_with_the_reason(choosing: SearchEngine, two: Path) -> None:
    registry, spec = ranker_store(two), spec_for(choosing.snapshot)
    add_ranker(registry, spec=spec, reasons=["worse"])
    foreign = publish(two, spec_for(choosing.snapshot, encoder="another"), weighted_graph(**REVERSED))
    damaged = publish(two, spec, weighted_graph(**REVERSED))
    (two / "rankers" / damaged / MODEL_FILE).write_bytes(b"no graph")
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
                choosing.search("steel pan", ranker=name)
        assert why in choosing.ranker_problem(name)
    with pytest.raises(QueryError, match="ranker is int"):
        choosing.search("steel pan", ranker=1)  # type: ignore[arg-type]
    assert [choosing.ranker_problem(name) for name in ("", "off", "ranker-0001")] == [""] * 3


def test_off_applies_to_all_rankers_until_a_rollback(choosing: SearchEngine, two: Path) -> None:
    turned = order(choosing, ranker="ranker-0001")
    registry = ranker_store(two)
    registry.off()
    choosing.reload_if_changed()
    assert "switched off" in choosing.ranker_problem("ranker-0001")
    assert choosing.ranker_problem() == "no ranker serves"
    with pytest.raises(ModelError, match="switched off"):
        choosing.search("steel pan", ranker="ranker-0001")
    registry.rollback("ranker-0002")
    choosing.reload_if_changed()
    assert order(choosing, ranker="ranker-0001") == turned


def test_number_of_loaded_rankers_is_limited(
    choosing: SearchEngine, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_models, "MAX_OPEN", 1)
    publish(two, spec_for(choosing.snapshot), weighted_graph(**REVERSED))
    ranker_store(two).rollback("ranker-0002")
    before = working()
    for name in ("ranker-0001", "ranker-0003") * 2:
        order(choosing, ranker=name)
    assert working() == before + THREADS


def test_closed_engine_has_no_ranker_threads(two: Path) -> None:
    before = working()
    with SearchEngine.open(two, follow=False) as opened:
        order(opened, ranker="ranker-0001")
        assert working() == before + 2 * THREADS
    assert working() == before


def working() -> int:
    """Number of threads that score candidates."""
    return sum(each.name == "shelfwise-rerank" for each in threading.enumerate())
