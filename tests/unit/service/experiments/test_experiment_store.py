"""The file of experiments: durable; started experiments and their assignments do not change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import Mock

import pytest

from shelfwise.retrieval.errors import ExperimentError
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.experiments.experiment import Experiment, Variant, VariantOptions
from shelfwise.service.experiments.experiment_store import EngineExperiments, ExperimentStore

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MERGING = Experiment("merging", (Variant("now"), Variant("rrf", VariantOptions(merge="rrf"))))
ORDER = Experiment("order", (Variant("now"), Variant("words", VariantOptions(ranker="ranker-0099"))))


@pytest.fixture
def clock() -> Mock:
    return Mock(return_value=NOW)


@pytest.fixture
def store(tmp_path: Path, clock: Mock) -> ExperimentStore:
    return ExperimentStore(tmp_path, clock=clock)


def test_started_experiment_can_be_switched_off_but_not_changed(store: ExperimentStore, clock: Mock) -> None:
    assert store.put([MERGING], who="m7") == store.put([MERGING]) == 1
    clock.return_value += HOUR
    changes: list[Callable[[], int]] = [
        lambda: store.put([replace(MERGING, share=0.5)]),
        lambda: store.put([replace(MERGING, starts=NOW + 2 * HOUR)]),
        lambda: store.put([replace(MERGING, ends=NOW + 2 * HOUR)]),
        lambda: store.delete(["merging"]),
        lambda: store.restore(0),
    ]

    def refuse() -> None:
        for change in changes:
            with pytest.raises(ExperimentError, match="'merging' has started: it can be switched off, not changed"):
                change()

    refuse()
    assert store.get("merging").runs(clock.return_value)
    assert store.patch("merging", {"enabled": False}, who="m9") == store.patch("merging", {"enabled": False}) == 2
    kept = store.get("merging")
    assert kept == replace(MERGING, starts=NOW, ends=NOW + HOUR)
    assert kept.state(clock.return_value) == "ended"
    changes += [lambda: store.put([MERGING]), lambda: store.restore(1)]
    refuse()
    assert [(each.who, each.after) for each in store.history()] == [("m9", kept), ("m7", replace(MERGING, starts=NOW))]


def test_draft_and_scheduled_experiments_can_be_changed(store: ExperimentStore, clock: Mock) -> None:
    store.put([replace(MERGING, enabled=False)])
    clock.return_value += HOUR
    assert store.get("merging").state(clock.return_value) == "draft"
    store.put([replace(MERGING, starts=NOW + 3 * HOUR)])
    assert store.get("merging").state(clock.return_value) == "waiting"
    store.put([replace(MERGING, starts=NOW + 2 * HOUR, ends=NOW + 4 * HOUR)])
    kept = store.get("merging")
    assert [kept.runs(NOW + hours * HOUR) for hours in range(1, 5)] == [False, True, True, False]
    assert kept.state(NOW + 5 * HOUR) == "ended"
    store.patch("merging", {"enabled": False})
    assert store.delete(["merging"]) == 5


def test_experiment_saved_after_its_start_begins_when_saved(store: ExperimentStore) -> None:
    early = replace(MERGING, starts=NOW - HOUR)
    assert store.put([early]) == store.put([early]) == 1
    assert store.get("merging").starts == NOW
    with pytest.raises(ExperimentError) as caught:
        store.put([replace(MERGING, id="old", ends=NOW - HOUR)])
    assert caught.value.field == "ends"


def test_conflicting_experiment_is_refused_until_the_other_ends(store: ExperimentStore, clock: Mock) -> None:
    other = replace(MERGING, id="other")
    for both in ([MERGING, other], [other, MERGING]):
        with pytest.raises(ExperimentError, match="also sets merge"):
            store.put(both)
    store.put([MERGING, replace(other, enabled=False)])
    with pytest.raises(ExperimentError, match="'merging' also sets merge"):
        store.patch("other", {"enabled": True})
    clock.return_value += HOUR
    store.patch("merging", {"enabled": False})
    assert store.put([other]) == 3


def test_experiments_have_own_assignments_and_share_one_key(store: ExperimentStore) -> None:
    store.put([MERGING])
    read = store.read()
    store.put([Experiment("rules", (Variant("on"), Variant("off", VariantOptions(rules=False))))])
    assert store.read().key == read.key
    assert len(read.key) == 32
    assert read.salt("merging") == store.read().salt("merging") != read.salt("rules")
    assert store.path.stat().st_mode & 0o077 == 0


def test_engine_loads_experiments_of_other_processes(root: Path, clock: Mock, engine: SearchEngine) -> None:
    store = ExperimentStore(root, clock=clock)
    followed = EngineExperiments(root, lambda: engine.snapshot, engine.ranker_problem, clock=clock)
    assert followed.running().documents == ()
    store.put([MERGING])
    followed.reload_if_changed(engine.snapshot)
    assert [each.id for each in followed.running().documents] == ["merging"]
    store.path.write_bytes(b"damaged" * 1_000)
    followed.reload_if_changed(engine.snapshot)
    assert [each.id for each in followed.running().documents] == ["merging"]
    assert "not loaded" in followed.notices[0]


def test_missing_ranker_is_refused_until_the_experiment_is_off(root: Path) -> None:
    store = ExperimentStore(root)
    store.put([replace(ORDER, enabled=False)])
    for change in (lambda: store.put([ORDER]), lambda: store.patch("order", {"enabled": True})):
        with pytest.raises(ExperimentError, match="has no ranker 'ranker-0099'"):
            change()
    assert store.revision() == 1
