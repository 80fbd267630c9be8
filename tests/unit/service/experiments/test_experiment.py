"""Experiments: validation that names the field, and a store in which started ones and their assignments stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest

from shelfwise.retrieval.errors import ExperimentError
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.experiments.experiment import (
    EngineExperiments,
    Experiment,
    ExperimentStore,
    Goal,
    Mode,
    Unit,
    Variant,
    VariantOptions,
    check_overlaps,
    experiment_document,
)

PLAIN: dict[str, Any] = {"id": "merging", "variants": [{"name": "now"}, {"name": "rrf", "options": {"merge": "rrf"}}]}
FULL = Experiment(
    "full",
    (Variant("a", VariantOptions(rules=False), 2.0), Variant("b", VariantOptions("merged", "rrf", True))),
    "A full one",
    Mode.SPLIT,
    Unit.QUERY,
    0.5,
    datetime(2026, 12, 1, tzinfo=UTC),
    datetime(2027, 1, 1, tzinfo=UTC),
    False,
    Goal.PURCHASES,
    5_000,
    0.1,
)
SAME_AS_NONE: list[dict[str, Any]] = [{}, {"rules": True}, {"stage": "ranked"}, {"merge": "per-word"}]
MERGED_ORDER = {"a": {"ranker": "off"}, "b": {"stage": "merged"}}
NO_RANKERS = ("best", "r1", "ranker-1", "ranker-" + "0" * 99)


def parse_experiment(document: object) -> Experiment:
    return ExperimentStore.kind.validate(ExperimentStore.kind.accept(document, "it"))


def test_experiment_round_trips() -> None:
    for experiment in (FULL, parse_experiment(PLAIN)):
        line = msgspec.json.encode(experiment_document(experiment))
        assert parse_experiment(msgspec.json.decode(line)) == experiment
    assert experiment_document(parse_experiment(PLAIN)) == PLAIN


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"id": "Upper"}, "id"),
        ({"id": "x" * 33}, "id"),
        ({"id": "a~b"}, "id"),
        ({"name": "x" * 201}, "name"),
        ({"share": 0}, "share"),
        ({"share": 1.5}, "share"),
        ({"planned": 5}, "planned"),
        ({"least_effect": -1}, "least_effect"),
        ({"mode": "both"}, "mode"),
        ({"unit": "browser"}, "unit"),
        ({"goal": "revenue"}, "goal"),
        ({"starts": "2026-12-01T00:00:00"}, "starts"),
        ({"starts": "2026-12-02T00:00:00Z", "ends": "2026-12-01T00:00:00Z"}, "ends"),
        ({"starts": "9999-12-31T00:00:00Z"}, "starts"),
        ({"share": float("nan")}, "share"),
        ({"colour": "red"}, "colour"),
        ({"variants": []}, "variants"),
        ({"variants": [{"name": "a"}]}, "variants"),
        ({"variants": [{"name": "a"}] * 2}, "variants"),
        ({"variants": [{"name": f"v{number}"} for number in range(9)]}, "variants"),
        ({"variants": [{"name": "a"}, {"name": "b.c"}]}, "name"),
        ({"aa_test": True}, "aa_test"),
        *(({"variants": [{"name": "a"}, {"name": "b", "options": options}]}, "options") for options in SAME_AS_NONE),
        ({"variants": [*PLAIN["variants"], {"name": "c", "options": {"merge": "rrf", "rules": True}}]}, "options"),
        ({"variants": [{"name": name, "options": each} for name, each in MERGED_ORDER.items()]}, "options"),
        ({"variants": [{"name": "a"}, {"name": "b", "weight": 0}]}, "weight"),
        ({"variants": [{"name": "a"}, {"name": "b", "wieght": 1}]}, "wieght"),
        ({"variants": [{"name": "a"}, {"name": "b", "options": {"merge": "best"}}]}, "merge"),
        ({"variants": [{"name": "a"}, {"name": "b", "options": {"stage": "dense"}}]}, "stage"),
        *(({"variants": [{"name": "a"}, {"name": "b", "options": {"ranker": name}}]}, "ranker") for name in NO_RANKERS),
        ({"variants": [{"name": "a"}, {"name": "b", "options": {"rules": "no"}}]}, "variants"),
        ({"variants": "ab"}, "variants"),
        ({"mode": "interleave", "variants": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}, "variants"),
        ({"mode": "interleave", "variants": [{"name": "a"}, {"name": "b", "weight": 2}]}, "weight"),
        ({"mode": "interleave", "variants": [{"name": "a"}, {"name": "b", "options": {"rules": False}}]}, "rules"),
    ],
)
def test_invalid_experiment_error_names_the_field(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        parse_experiment(PLAIN | wrong)
    assert caught.value.field == field
    assert field in str(caught.value)


def test_variant_may_name_a_ranker_only_for_the_ranked_stage() -> None:
    for name in ("off", "default", "ranker-0001"):
        made = parse_experiment(PLAIN | {"variants": [{"name": "a"}, {"name": "b", "options": {"ranker": name}}]})
        assert made.variants[1].options.given == {"ranker": name}
    options = {"ranker": "ranker-0001", "stage": "merged"}
    with pytest.raises(ExperimentError, match='no ranker reorders the stage "merged"'):
        parse_experiment(PLAIN | {"variants": [{"name": "a"}, {"name": "b", "options": options}]})


def test_equal_variants_need_an_aa_test() -> None:
    twins = {"id": "check", "variants": [{"name": "a"}, {"name": "b", "weight": 2}]}
    with pytest.raises(ExperimentError, match=r"variants\[1\]: options: equals 'a', .* declare an A/A test"):
        parse_experiment(twins)
    assert parse_experiment(twins | {"aa_test": True}).aa_test


def test_conflicting_experiments_are_refused() -> None:
    def one(identity: str, mode: Mode = Mode.SPLIT, **options: str | bool) -> Experiment:
        variants = [{"name": "a"}, {"name": "b", "options": options}]
        return parse_experiment({"id": identity, "mode": mode, "variants": variants, "aa_test": not options})

    merging = one("merging", merge="rrf")
    check_overlaps(one("rules", rules=False), [merging])
    check_overlaps(one("draft", Mode.INTERLEAVE, stage="merged"), [merging])
    check_overlaps(replace(merging, variants=one("x", stage="merged").variants), [merging])
    with pytest.raises(ExperimentError, match="sets merge at that time"):
        check_overlaps(one("other", merge="rrf"), [merging])
    with pytest.raises(ExperimentError, match="interleaves at that time"):
        check_overlaps(one("other", Mode.INTERLEAVE), [one("draft", Mode.INTERLEAVE, merge="rrf")])
    ended = replace(merging, ends=datetime(2026, 12, 1, tzinfo=UTC))
    check_overlaps(replace(one("other", merge="rrf"), starts=datetime(2026, 12, 1, tzinfo=UTC)), [ended])
    order, stage = one("order", ranker="off"), one("stage", stage="merged")
    check_overlaps(merging, [order])
    for new, there, message in ((order, stage, "sets stage"), (stage, order, "sets ranker")):
        with pytest.raises(ExperimentError, match=message):
            check_overlaps(new, [there])
    with pytest.raises(ExperimentError, match="4 others run"):
        check_overlaps(one("fifth"), [one(f"e{number}") for number in range(4)])


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
    changes: list[Callable[[], int]] = [lambda: store.put([ORDER]), lambda: store.patch("order", {"enabled": True})]
    for change in changes:
        with pytest.raises(ExperimentError, match="has no ranker 'ranker-0099'"):
            change()
    assert store.revision() == 1
