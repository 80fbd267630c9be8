"""The file of experiments: durable; started experiments and their assignments do not change."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import Mock

import pytest

from shelfwise.retrieval.errors import ExperimentError
from shelfwise.service.experiments.experiment import Experiment, Variant, VariantOptions
from shelfwise.service.experiments.store import ExperimentStore, ServedExperiments

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MERGING = Experiment("merging", (Variant("now"), Variant("rrf", VariantOptions(merge="rrf"))))


@pytest.fixture
def clock() -> Mock:
    return Mock(return_value=NOW)


@pytest.fixture
def store(tmp_path: Path, clock: Mock) -> ExperimentStore:
    return ExperimentStore(tmp_path, clock=clock)


def test_started_experiment_can_be_stopped_but_not_changed(store: ExperimentStore, clock: Mock) -> None:
    assert store.put(MERGING, who="m7")
    assert not store.put(MERGING, who="m8")
    with pytest.raises(ExperimentError, match="has started: it can be stopped, not changed"):
        store.put(replace(MERGING, share=0.5))
    clock.return_value += HOUR
    assert store.get("merging").runs(clock.return_value)
    assert store.stop("merging", who="m9")
    assert not store.stop("merging")
    kept = store.get("merging")
    assert (kept.who, kept.stopper, kept.over) == ("m7", "m9", clock.return_value)
    assert kept.state(clock.return_value) == "stopped"
    stopped, put = store.history("merging")
    assert (stopped.who, stopped.before, stopped.after) == ("m9", put.after, kept)
    assert (put.who, put.time, put.before) == ("m7", NOW, None)
    assert not kept.runs(clock.return_value)
    for again in (MERGING, replace(MERGING, share=0.5)):
        with pytest.raises(ExperimentError, match="was stopped"):
            store.put(again)


def test_draft_and_scheduled_experiments_can_be_changed_and_keep_assignments(
    store: ExperimentStore, clock: Mock
) -> None:
    store.put(replace(MERGING, enabled=False))
    salt = store.get("merging").salt
    clock.return_value += HOUR
    assert store.get("merging").state(clock.return_value) == "draft"
    assert store.put(replace(MERGING, starts=NOW + 3 * HOUR))
    assert store.get("merging").state(clock.return_value) == "waiting"
    assert store.put(replace(MERGING, starts=NOW + 2 * HOUR, ends=NOW + 4 * HOUR))
    kept = store.get("merging")
    assert kept.salt == salt
    assert [kept.runs(NOW + hours * HOUR) for hours in range(1, 5)] == [False, True, True, False]
    assert kept.state(NOW + 5 * HOUR) == "ended"


def test_experiment_saved_after_its_start_begins_when_saved(store: ExperimentStore, clock: Mock) -> None:
    store.put(replace(MERGING, starts=NOW - HOUR))
    assert store.get("merging").begins == NOW
    with pytest.raises(ExperimentError) as caught:
        store.put(replace(MERGING, id="old", ends=NOW - HOUR))
    assert caught.value.field == "ends"


def test_conflicting_experiment_is_refused_until_the_other_ends(store: ExperimentStore, clock: Mock) -> None:
    store.put(MERGING)
    other = replace(MERGING, id="other")
    with pytest.raises(ExperimentError, match="'merging' also sets merge"):
        store.put(other)
    store.put(replace(other, enabled=False))
    clock.return_value += HOUR
    store.stop("merging")
    assert store.put(other)


def test_experiments_have_own_assignments_and_share_one_key(store: ExperimentStore) -> None:
    store.put(MERGING)
    key = store.read().key
    store.put(Experiment("rules", (Variant("on"), Variant("off", VariantOptions(rules=False)))))
    read = store.read()
    assert read.key == key
    assert len(key) == 32
    assert len({each.salt for each in read.documents}) == 2
    assert store.path.stat().st_mode & 0o077 == 0


def test_concurrent_saves_are_stored(tmp_path: Path) -> None:
    def put(number: int) -> bool:
        draft = Experiment(f"e{number % 6}", MERGING.variants, enabled=False)
        return ExperimentStore(tmp_path).put(draft)

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(put, range(24))) == 6
    assert len(ExperimentStore(tmp_path).read().documents) == 6


def test_service_loads_experiments_of_other_processes(tmp_path: Path, store: ExperimentStore, clock: Mock) -> None:
    served = ServedExperiments(tmp_path, clock=clock)
    assert served.running().documents == ()
    store.put(MERGING)
    served.reload_if_changed()
    assert [each.experiment.id for each in served.running().documents] == ["merging"]
    store.path.write_bytes(b"damaged" * 1_000)
    served.reload_if_changed()
    assert [each.experiment.id for each in served.running().documents] == ["merging"]
    assert "not loaded" in served.notices[0]
