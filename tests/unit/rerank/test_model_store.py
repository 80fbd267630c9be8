"""The model store, by rankers: pointer, retention, serving, rollback, concurrent writers, a full disk."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE, Popen

import msgspec
import pytest

from shelfwise.rerank.evaluation.promotion import ALL_QUERIES, NDCG, Decision, MeasureComparison
from shelfwise.rerank.evaluation.statistics import Difference
from shelfwise.rerank.model_card import CARD_FILE, option_values, read_card
from shelfwise.rerank.model_store import MODEL_FILE
from shelfwise.rerank.ranker.spec import KEEP, SPEC_FILE, AddedRanker, RankerStore, ranker_store
from shelfwise.retrieval.errors import (
    InputError,
    ModelDamagedError,
    ModelMismatchError,
    ModelRefusedError,
    StoreError,
    StoreLockedError,
    StoreMissingError,
    UnknownModelError,
)
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.lock import hold_lock
from shelfwise.retrieval.store.manifest import CURRENT
from tests.machine import full_disk
from tests.rankers import ENCODING, REPORT, SPEC, add_ranker, building, few_rankers, rewrite
from tests.versions import publish_products

NAMES = [f"ranker-{number:04d}" for number in range(1, 9)]
OTHER = dataclasses.replace(ENCODING, encoder="encoder-2")
PUBLISHER = """
import sys, pathlib
from tests.rankers import add_ranker, few_rankers
registry = few_rankers(pathlib.Path(sys.argv[1]), 100)
sys.stdin.read()
for number in range(3):
    print(add_ranker(registry, number).model.name, flush=True)
"""


@pytest.fixture(scope="module")
def published_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    publish_products(root, [Product("1", "cordless drill")])
    return root


@pytest.fixture
def registry(published_store: Path, tmp_path: Path) -> RankerStore:
    return ranker_store(Path(shutil.copytree(published_store, tmp_path / "store")))


def publish(registry: RankerStore, count: int = 1) -> None:
    for number in range(count):
        add_ranker(registry, number)


def add_rejected(registry: RankerStore) -> AddedRanker:
    return add_ranker(registry, reasons=["worse: nDCG@10"])


def damage(registry: RankerStore, name: str) -> None:
    path = registry.folder / name / MODEL_FILE
    path.write_bytes(path.read_bytes()[:-1])


class TestAdding:
    def test_rejected_ranker_does_not_serve_and_has_a_reason(self, registry: RankerStore) -> None:
        publish(registry)
        kept = add_rejected(registry)
        assert (kept.serves, kept.model.report.rejection_reasons) == (False, ("worse: nDCG@10",))
        assert registry.serving(ENCODING).model == registry.open("ranker-0001")
        assert registry.open("ranker-0002").report == kept.model.report

    def test_a_build_that_fails_leaves_nothing(self, registry: RankerStore) -> None:
        publish(registry)

        def fails(folder: Path) -> None:
            building()(folder)
            raise ModelDamagedError("the training was cut off")

        for leftover in (".ranker-0002.x", ".removed-ranker-0000"):
            (registry.folder / leftover).mkdir()
        with pytest.raises(ModelDamagedError, match="cut off"):
            registry.add(fails, SPEC, REPORT)
        with pytest.raises(InputError):
            add_ranker(registry, spec=msgspec.structs.replace(SPEC, layers=-1))
        assert {path.name for path in registry.folder.iterdir()} == {CURRENT, "lock", "ranker-0001"}

    def test_missing_index_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(StoreMissingError, match="does not exist"):
            publish(ranker_store(tmp_path / "none"))
        assert not (tmp_path / "none").exists()


class TestRetention:
    def test_newest_ten_are_kept_and_removed_ones_reported(self, registry: RankerStore) -> None:
        publish(registry, KEEP)
        assert add_ranker(registry).removed == ("ranker-0001",)
        assert registry.names() == [f"ranker-{number:04d}" for number in range(2, 12)]

    def test_serving_ranker_and_fallbacks_are_kept(self, registry: RankerStore) -> None:
        few = few_rankers(registry.root, 2)
        publish(few, 3)
        few.rollback("ranker-0002", ENCODING)
        assert [add_rejected(few).removed for _ in range(3)] == [(), (), ("ranker-0004",)]
        assert few.names() == ["ranker-0002", "ranker-0003", "ranker-0005", "ranker-0006"]
        assert few.serving(ENCODING).model == few.open("ranker-0002")

    def test_damaged_rankers_do_not_count_for_retention(self, registry: RankerStore) -> None:
        few = few_rankers(registry.root, 1)
        publish(few)
        for _ in range(3):
            damage(few, add_rejected(few).model.name)
        assert few.names() == ["ranker-0001", "ranker-0004"]


class TestServing:
    @pytest.mark.parametrize(
        ("harm", "notice"),
        [
            (lambda folder: (folder / MODEL_FILE).write_bytes(b""), "ranker-0002/model.onnx has"),
            (shutil.rmtree, "has no ranker 'ranker-0002'; it holds ranker-0001"),
            (lambda folder: rewrite(folder / SPEC_FILE, format=2), "made by a newer program"),
        ],
        ids=["damaged", "gone", "newer"],
    )
    def test_unopenable_ranker_is_skipped_with_a_notice(
        self, registry: RankerStore, harm: Callable[[Path], object], notice: str
    ) -> None:
        publish(registry, 2)
        add_rejected(registry)
        harm(registry.folder / "ranker-0002")
        found = registry.serving(ENCODING)
        assert found.model == registry.open("ranker-0001")
        assert notice in found.notices[0]
        assert found.notices[0].endswith("; ranker-0001 serves in its place")

    def test_other_encoder_uses_the_newest_matching_ranker_or_none(self, registry: RankerStore) -> None:
        publish(registry)
        add_ranker(registry, spec=msgspec.structs.replace(SPEC, encoder="encoder-2"))
        assert registry.serving(OTHER).model == registry.open("ranker-0002")
        found = registry.serving(ENCODING)
        assert found.model == registry.open("ranker-0001")
        assert "trained on the encoder encoder-2, the index has encoder-1" in found.notices[0]
        third = registry.serving(dataclasses.replace(ENCODING, encoder="encoder-3"))
        assert third.model is None
        assert "shelfwise train ranker; results keep the merged order" in third.notices[0]

    @pytest.mark.parametrize("content", [b"", b"garbage", b"ranker-0001 0000", b"\xff" * 9])
    def test_invalid_pointer_serves_none_until_a_rollback(self, registry: RankerStore, content: bytes) -> None:
        publish(registry, 2)
        (registry.folder / CURRENT).write_bytes(content)
        found = registry.serving(ENCODING)
        assert found.model is None
        assert "names no ranker" in found.notices[0]
        assert add_rejected(registry).removed == ()
        assert registry.rollback(encoding=ENCODING).model.name == "ranker-0002"


class TestRollback:
    def test_rollback_selects_the_newest_earlier_usable_ranker(self, registry: RankerStore) -> None:
        publish(registry, 2)
        add_rejected(registry)
        publish(registry)
        damage(registry, "ranker-0002")
        done = registry.rollback(encoding=ENCODING)
        assert (done.previous, done.model.name) == ("ranker-0004", "ranker-0001")
        assert "ranker-0002/model.onnx" in done.passed_over[0]
        assert registry.serving(ENCODING).model == done.model

    def test_rollback_to_unusable_ranker_is_refused(self, registry: RankerStore) -> None:
        publish(registry)
        add_rejected(registry)
        publish(registry, 2)
        damage(registry, "ranker-0003")
        with pytest.raises(ModelRefusedError, match="ranker-0002 was rejected: worse: nDCG@10"):
            registry.rollback("ranker-0002", ENCODING)
        with pytest.raises(ModelDamagedError, match=r"ranker-0003/model.onnx"):
            registry.rollback("ranker-0003", ENCODING)
        with pytest.raises(ModelMismatchError, match="ranker-0001 cannot serve: it was trained on the encoder"):
            registry.rollback("ranker-0001", OTHER)
        for name in ("ranker-0009", "../rankers/ranker-0001", "ranker-1", "/etc"):
            with pytest.raises(UnknownModelError, match="it holds ranker-0001, ranker-0002"):
                registry.rollback(name, ENCODING)
        assert registry.current() == "ranker-0004"

    def test_rollback_without_an_earlier_ranker_is_refused(self, registry: RankerStore) -> None:
        with pytest.raises(UnknownModelError, match="it holds none; train one: shelfwise train ranker"):
            registry.rollback(encoding=ENCODING)
        publish(registry)
        with pytest.raises(UnknownModelError, match=r"before ranker-0001 .*to serve none: shelfwise models off"):
            registry.rollback(encoding=ENCODING)


class TestOff:
    def test_off_applies_to_later_rankers_until_a_rollback(self, registry: RankerStore) -> None:
        assert (registry.current(), registry.is_off()) == ("", False)
        publish(registry)
        stamp = registry.stamp()
        assert (registry.off(), registry.off()) == ("ranker-0001", "")
        assert (registry.current(), registry.is_off(), registry.stamp() != stamp) == ("", True, True)
        added = add_ranker(registry)
        assert not added.serves
        assert added.notices == ("rankers are switched off; to serve it: shelfwise models rollback ranker-0002",)
        found = registry.serving(ENCODING)
        assert (found.model, found.notices) == (None, ())
        assert registry.rollback(encoding=ENCODING).model.name == "ranker-0002"
        assert add_ranker(registry).serves


class TestConcurrency:
    def test_concurrent_publishes_wait_and_none_is_lost(self, registry: RankerStore) -> None:
        command = [sys.executable, "-c", PUBLISHER, str(registry.root)]
        processes = [Popen(command, stdin=PIPE, stdout=PIPE, text=True) for _ in range(2)]
        with ThreadPoolExecutor(2) as threads:
            result = list(threads.map(lambda process: process.communicate()[0].split(), processes))
        assert [process.returncode for process in processes] == [0, 0]
        assert sorted(result[0] + result[1]) == NAMES[:6] == registry.names()
        for name in NAMES[:6]:
            registry.open(name)
        assert registry.current() == "ranker-0006"

    def test_rollback_during_a_publish_is_refused(self, registry: RankerStore) -> None:
        publish(registry)
        with hold_lock(registry.folder, "publish"):
            with pytest.raises(StoreLockedError, match="a publish is running"):
                registry.rollback(encoding=ENCODING)
            # Readers need no lock.
            assert registry.serving(ENCODING).model == registry.open("ranker-0001")


class TestDisk:
    def test_full_disk_is_reported_and_the_serving_ranker_stays(self, registry: RankerStore) -> None:
        publish(registry)
        before = registry.serving(ENCODING)
        with full_disk(100), pytest.raises(StoreError, match=r"rankers cannot be written .*check the disk"):
            add_ranker(registry)
        assert registry.serving(ENCODING) == before
        assert registry.names() == ["ranker-0001"]
        publish(registry)

    def test_files_in_place_of_ranker_folders_are_damaged(self, registry: RankerStore) -> None:
        publish(registry)
        (registry.folder / "ranker-0002").write_text("")
        (registry.folder / "ranker-0003").symlink_to("ranker-0001")
        with pytest.raises(ModelDamagedError, match=r"ranker-0002/seal\.json cannot be read"):
            registry.open("ranker-0002")
        few = few_rankers(registry.root, 1)
        publish(few)
        assert few.serving(ENCODING).model == few.open("ranker-0004")
        assert (registry.folder / "ranker-0004" / MODEL_FILE).exists()


@dataclass(frozen=True, slots=True)
class Loop:
    epochs: int = 8


@dataclass(frozen=True, slots=True)
class Options:
    loop: Loop = field(default_factory=Loop)
    seed: int = 3


def test_training_writes_a_sealed_card(tmp_path: Path) -> None:
    (tmp_path / "shelfwise.json").write_text('{"schema": 1}')
    gain = Difference(0.02, 0.01, 0.03, 0.99, 120)
    comparisons = (
        MeasureComparison(NDCG, ALL_QUERIES, 120, 0.62, 0.6, gain),
        MeasureComparison(NDCG, "tail queries", 30, 0.5, 0.51),
    )
    report = msgspec.structs.replace(
        REPORT,
        created="2026-11-30T10:00:00+00:00",
        against="ranker-0001",
        measured_on="300 lists",
        measures={NDCG: 0.62},
        decision=Decision(True, ("better: nDCG@10",), comparisons),
        options=option_values(Options()),
    )
    spec = msgspec.structs.replace(
        SPEC, trained_on={"events": 12_000, "events from": "2026-10-01", "note": "a|b <b>\nc"}
    )
    added = ranker_store(tmp_path).add(building(), spec, report)
    card = read_card(added.model.folder)
    assert card.startswith("# Model card: ranker-0001\n")
    assert "- decision: published\n- compared with: ranker-0001" in card
    assert "- events: 12,000\n- events from: 2026-10-01\n- note: a\\|b &lt;b> c" in card
    assert "- loop.epochs: 8" in card
    assert "| nDCG@10 | all queries | 120 | 0.6200 | 0.6000 | +0.0200 | +0.0100 to +0.0300 |" in card
    assert "| nDCG@10 | tail queries | 30 | 0.5000 | 0.5100 |  |  |" in card
    assert "## Not to be used for" in card
    assert ranker_store(tmp_path).open("ranker-0001").name == "ranker-0001"
    with (added.model.folder / CARD_FILE).open("a") as file:
        file.write("It is perfect.")
    assert "card.md" in str(ranker_store(tmp_path).serving().notices)
