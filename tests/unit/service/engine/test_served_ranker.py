"""An engine and its ranker: taken up when it is published, rolled back or switched off, while searches go on."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from rerank.model_store import MODEL_FILE
from rerank.ranker.spec import ranker_store
from service.engine.engine import SearchEngine
from service.engine.models import ServedRanker, encoding_of
from service.settings import FILE_VARIABLE, RankerSettings, Settings
from tests.unit.service.engine.demo_rankers import publish, spec_for, weighing

pytestmark = pytest.mark.usefixtures("without_default")

PATIENT = Settings(ranker=RankerSettings(deadline=60))
QUERY = "steel pan"
REVERSED, STRAIGHT = {"merged": -1.0}, {"merged": 1.0}


@pytest.fixture
def root(demo_index: Path, tmp_path: Path) -> Path:
    """A copy of the demo index that a test may change."""
    return Path(shutil.copytree(demo_index, tmp_path / "index"))


@pytest.fixture
def live(root: Path) -> Iterator[SearchEngine]:
    """An engine that looks for a new ranker when it is told to."""
    with SearchEngine.open(root, settings=PATIENT, follow=False) as opened:
        yield opened


def order(engine: SearchEngine) -> list[str]:
    engine.reload_if_changed()
    page = engine.search(QUERY, size=30)
    assert page.degraded == ()
    return [hit.product.id for hit in page.hits]


def test_it_is_taken_up_rolled_back_and_switched_off(live: SearchEngine, root: Path) -> None:
    merged = order(live)
    assert live.stages[-1] == "merged"
    first = publish(root, spec_for(live.snapshot), weighing(**STRAIGHT))
    assert order(live) == merged
    assert live.stages[-1] == "ranked"
    publish(root, spec_for(live.snapshot), weighing(**REVERSED))
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


def test_an_engine_follows_by_itself_and_one_opened_later_begins_with_it(root: Path, engine: SearchEngine) -> None:
    from tests.machine import within

    with SearchEngine.open(root, settings=PATIENT) as following:
        publish(root, spec_for(engine.snapshot), weighing(**REVERSED))
        assert within(30, lambda: following.stages[-1] == "ranked")
    with SearchEngine.open(root, settings=PATIENT, follow=False) as later:
        assert later.stages[-1] == "ranked"


def test_no_search_fails_while_rankers_change(live: SearchEngine, root: Path) -> None:
    merged = order(live)
    spec = spec_for(live.snapshot)
    publish(root, spec, weighing(**REVERSED))
    turned = order(live)
    stop = threading.Event()

    def search() -> int:
        count = 0
        while not stop.is_set():
            page = live.search(QUERY, size=30)
            assert page.degraded == ()
            assert [hit.product.id for hit in page.hits] in (merged, turned)
            count += 1
        return count

    registry = ranker_store(root)
    with ThreadPoolExecutor(4) as workers:
        searching = [workers.submit(search) for _ in range(4)]
        try:
            for weights in (STRAIGHT, REVERSED):
                publish(root, spec, weighing(**weights))
                live.reload_if_changed()
                registry.rollback()
                live.reload_if_changed()
                registry.off()
                live.reload_if_changed()
                registry.rollback("ranker-0001")
                live.reload_if_changed()
        finally:
            stop.set()
        assert all(future.result() > 0 for future in searching)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"encoder": "another encoder"}, "it was trained on the encoder another encoder"),
        ({"state_dimension": 8}, "it reads token states of dimension 8, the index has 96"),
    ],
    ids=["encoder", "states"],
)
def test_one_for_other_states_does_not_serve_and_says_why(
    live: SearchEngine, root: Path, values: dict[str, object], why: str
) -> None:
    merged = order(live)
    publish(root, spec_for(live.snapshot, **values), weighing(**REVERSED))
    assert order(live) == merged
    assert live.stages[-1] == "merged"
    (notice,) = live.notices
    assert why in notice
    assert "results keep the merged order" in notice


def test_where_the_newest_cannot_serve_the_one_before_does_and_it_is_told(live: SearchEngine, root: Path) -> None:
    publish(root, spec_for(live.snapshot), weighing(**REVERSED))
    turned = order(live)
    name = publish(root, spec_for(live.snapshot), weighing(**STRAIGHT))
    (root / "rankers" / name / MODEL_FILE).write_bytes(b"no graph")
    assert order(live) == turned
    assert "ranker-0001 serves in its place" in live.notices[0]


def test_a_ranker_that_is_taken_away_from_disk_serves_until_it_is_replaced(live: SearchEngine, root: Path) -> None:
    name = publish(root, spec_for(live.snapshot), weighing(**REVERSED))
    turned = order(live)
    shutil.rmtree(root / "rankers" / name)
    assert order(live) == turned


def test_settings_that_cannot_be_read_leave_the_merged_order_with_a_notice(
    engine: SearchEngine, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(root, spec_for(engine.snapshot), weighing(**REVERSED))
    (tmp_path / "settings.toml").write_text("[ranker]\ndeadline = 0\n")
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "settings.toml"))
    served = ServedRanker(root)
    served.reload_if_changed(engine.snapshot)
    assert served.stage(engine.snapshot) is None
    (notice,) = served.notices
    assert notice.startswith("results keep the merged order: the setting ranker.deadline")


def test_the_deadline_is_the_settings(engine: SearchEngine, root: Path) -> None:
    publish(root, spec_for(engine.snapshot), weighing(**REVERSED))
    served = ServedRanker(root, Settings(ranker=RankerSettings(deadline=0.25)))
    served.reload_if_changed(engine.snapshot)
    stage = served.stage(engine.snapshot)
    assert stage is not None
    assert stage.deadline == 0.25
    served.close()


def test_a_snapshot_of_another_encoder_is_searched_without_it(engine: SearchEngine, root: Path) -> None:
    # Between a version's swap and the next look.
    publish(root, spec_for(engine.snapshot), weighing(**REVERSED))
    served = ServedRanker(root, PATIENT)
    served.reload_if_changed(engine.snapshot)
    manifest = msgspec.structs.replace(engine.manifest, encoder="another encoder")
    other = dataclasses.replace(engine.snapshot, manifest=manifest)
    assert served.stage(engine.snapshot) is not None
    assert served.stage(other) is None
    served.reload_if_changed(other)
    assert "it was trained on the encoder" in served.notices[0]
    served.close()


def test_an_index_without_states_has_no_dimension_of_them(engine: SearchEngine) -> None:
    assert encoding_of(engine.snapshot).state_dimension == 96
    assert encoding_of(dataclasses.replace(engine.snapshot, states=None)).state_dimension is None


def test_once_closed_it_opens_no_other(engine: SearchEngine, root: Path) -> None:
    publish(root, spec_for(engine.snapshot), weighing(**REVERSED))
    served = ServedRanker(root, PATIENT)
    served.reload_if_changed(engine.snapshot)
    served.close()
    assert served.stage(engine.snapshot) is None
    publish(root, spec_for(engine.snapshot), weighing(**STRAIGHT))
    served.reload_if_changed(engine.snapshot)
    assert served.stage(engine.snapshot) is None
