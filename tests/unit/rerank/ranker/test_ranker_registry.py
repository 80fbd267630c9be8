"""The rankers of an index: none is lost, none half written, none served that was not good enough or does not fit."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from rerank.model_store import KEEP, Added, RankerRegistry
from rerank.ranker.spec import MODEL_FILE, SPEC_FILE
from retrieval.errors import (
    InputError,
    ModelDamagedError,
    ModelMismatchError,
    ModelRefusedError,
    StoreError,
    StoreLockedError,
    StoreMissingError,
    UnknownModelError,
)
from retrieval.records import Product
from retrieval.store.lock import hold_lock
from retrieval.store.manifest import CURRENT
from tests.full_disk import full_disk
from tests.rankers import ENCODING, REPORT, SPEC, building, rewrite
from tests.versions import publish_products

OTHER = dataclasses.replace(ENCODING, encoder="encoder-2")
PUBLISHER = """
import sys, pathlib
from rerank.model_store import RankerRegistry
from tests.rankers import REPORT, SPEC, building
registry = RankerRegistry(pathlib.Path(sys.argv[1]), keep=100)
sys.stdin.read()
for number in range(3):
    print(registry.publish(building(number), SPEC, REPORT).ranker.name, flush=True)
"""


@pytest.fixture(scope="module")
def published_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    publish_products(root, [Product("1", "cordless drill")])
    return root


@pytest.fixture
def registry(published_store: Path, tmp_path: Path) -> RankerRegistry:
    return RankerRegistry(Path(shutil.copytree(published_store, tmp_path / "store")))


def publish(registry: RankerRegistry, count: int = 1) -> None:
    for number in range(count):
        registry.publish(building(number), SPEC, REPORT)


def aside(registry: RankerRegistry) -> Added:
    return registry.add_rejected(building(), SPEC, REPORT, ["worse: nDCG@10"])


def damage(registry: RankerRegistry, name: str) -> None:
    path = registry.folder / name / MODEL_FILE
    path.write_bytes(path.read_bytes()[:-1])


class TestAdding:
    def test_an_index_without_rankers_serves_none_and_says_nothing(self, registry: RankerRegistry) -> None:
        assert registry.names() == []
        found = registry.serving(ENCODING)
        assert (found.ranker, found.notices) == (None, ())
        assert not registry.folder.exists()

    def test_what_is_published_serves(self, registry: RankerRegistry) -> None:
        first = registry.publish(building(1), SPEC, REPORT)
        second = registry.publish(building(2), SPEC, REPORT)
        assert [first.ranker.name, second.ranker.name] == ["ranker-0001", "ranker-0002"]
        assert second == Added(second.ranker, serves=True)
        found = registry.serving(ENCODING)
        assert found.ranker == second.ranker == registry.open("ranker-0002")
        assert found.notices == ()

    def test_what_is_kept_aside_does_not(self, registry: RankerRegistry) -> None:
        publish(registry)
        kept = aside(registry)
        assert not kept.serves
        assert kept.ranker.report.rejection_reasons == ("worse: nDCG@10",)
        assert registry.serving(ENCODING).ranker == registry.open("ranker-0001")
        assert registry.open("ranker-0002").report == kept.ranker.report

    def test_it_is_kept_aside_for_a_reason(self, registry: RankerRegistry) -> None:
        for reasons in ([], [""]):
            with pytest.raises(InputError, match="rejected for a reason"):
                registry.add_rejected(building(), SPEC, REPORT, reasons)

    def test_a_build_that_fails_leaves_nothing(self, registry: RankerRegistry) -> None:
        publish(registry)

        def fails(folder: Path) -> None:
            building()(folder)
            raise ModelDamagedError("the training was cut off")

        with pytest.raises(ModelDamagedError, match="cut off"):
            registry.publish(fails, SPEC, REPORT)
        with pytest.raises(InputError):
            registry.publish(building(), msgspec.structs.replace(SPEC, layers=-1), REPORT)
        assert {path.name for path in registry.folder.iterdir()} == {CURRENT, "lock", "ranker-0001"}

    def test_no_index_no_ranker(self, tmp_path: Path) -> None:
        with pytest.raises(StoreMissingError, match="does not exist"):
            publish(RankerRegistry(tmp_path / "none"))
        assert not (tmp_path / "none").exists()

    def test_a_number_is_not_given_twice(self, registry: RankerRegistry) -> None:
        publish(registry, 2)
        shutil.rmtree(registry.folder / "ranker-0001")
        aside(registry)
        assert registry.names() == ["ranker-0002", "ranker-0003"]

    def test_leftovers_of_a_killed_program_go_with_the_next(self, registry: RankerRegistry) -> None:
        publish(registry)
        for name in (".ranker-0002.x", ".removed-ranker-0000"):
            shutil.copytree(registry.folder / "ranker-0001", registry.folder / name)
        assert registry.names() == ["ranker-0001"]
        publish(registry)
        assert {path.name for path in registry.folder.iterdir()} == {CURRENT, "lock", "ranker-0001", "ranker-0002"}


class TestRetention:
    def test_the_newest_ten_stay_and_the_removed_are_named(self, registry: RankerRegistry) -> None:
        publish(registry, KEEP)
        added = registry.publish(building(), SPEC, REPORT)
        assert added.removed == ("ranker-0001",)
        assert registry.names() == [f"ranker-{number:04d}" for number in range(2, 12)]

    def test_the_one_that_serves_and_those_that_may_outlive_failures(self, registry: RankerRegistry) -> None:
        few = RankerRegistry(registry.store, keep=2)
        publish(few, 3)
        few.rollback("ranker-0002", ENCODING)
        assert [aside(few).removed for _ in range(3)] == [(), (), ("ranker-0004",)]
        assert few.names() == ["ranker-0002", "ranker-0003", "ranker-0005", "ranker-0006"]
        assert few.serving(ENCODING).ranker == few.open("ranker-0002")

    def test_damaged_ones_push_no_whole_one_out(self, registry: RankerRegistry) -> None:
        few = RankerRegistry(registry.store, keep=1)
        publish(few)
        for _ in range(3):
            damage(few, aside(few).ranker.name)
        assert few.names() == ["ranker-0001", "ranker-0004"]
        assert few.prune() == ()

    def test_none_is_too_few(self, registry: RankerRegistry) -> None:
        with pytest.raises(InputError, match="keep is 0"):
            RankerRegistry(registry.store, keep=0)


class TestServing:
    def test_a_damaged_one_is_passed_over_with_a_notice(self, registry: RankerRegistry) -> None:
        publish(registry, 2)
        aside(registry)
        publish(registry)
        damage(registry, "ranker-0004")
        found = registry.serving(ENCODING)
        assert found.ranker == registry.open("ranker-0002")
        (notice,) = found.notices
        assert "ranker-0004/model.onnx has" in notice
        assert notice.endswith("; ranker-0002 serves in its place")

    def test_none_whole_the_merged_order_with_a_notice(self, registry: RankerRegistry) -> None:
        publish(registry)
        damage(registry, "ranker-0001")
        found = registry.serving(ENCODING)
        assert found.ranker is None
        assert found.notices[0].endswith("; results keep the merged order")

    def test_another_encoder_gets_the_newest_that_fits_or_none(self, registry: RankerRegistry) -> None:
        publish(registry)
        registry.publish(building(), msgspec.structs.replace(SPEC, encoder="encoder-2"), REPORT)
        assert registry.serving(OTHER).ranker == registry.open("ranker-0002")
        found = registry.serving(ENCODING)
        assert found.ranker == registry.open("ranker-0001")
        assert "trained on the encoder encoder-2, the index has encoder-1" in found.notices[0]
        third = registry.serving(dataclasses.replace(ENCODING, encoder="encoder-3"))
        assert third.ranker is None
        assert "shelfwise train ranker; results keep the merged order" in third.notices[0]

    @pytest.mark.parametrize("said", [b"", b"garbage", b"ranker-0001 0000", b"\xff" * 9])
    def test_garbage_in_the_pointer_serves_none_until_a_rollback(self, registry: RankerRegistry, said: bytes) -> None:
        publish(registry, 2)
        (registry.folder / CURRENT).write_bytes(said)
        found = registry.serving(ENCODING)
        assert found.ranker is None
        assert "names no ranker" in found.notices[0]
        assert aside(registry).removed == ()
        assert registry.rollback(encoding=ENCODING).ranker.name == "ranker-0002"

    def test_a_pointer_to_one_that_is_gone(self, registry: RankerRegistry) -> None:
        publish(registry, 2)
        shutil.rmtree(registry.folder / "ranker-0002")
        found = registry.serving(ENCODING)
        assert found.ranker == registry.open("ranker-0001")
        assert "has no ranker 'ranker-0002'; it holds ranker-0001" in found.notices[0]

    def test_a_pointer_written_by_hand_lets_none_serve_that_was_kept_aside(self, registry: RankerRegistry) -> None:
        publish(registry)
        aside(registry)
        (registry.folder / CURRENT).write_text("ranker-0002")
        found = registry.serving(ENCODING)
        assert found.ranker == registry.open("ranker-0001")
        assert "ranker-0002 was rejected: worse: nDCG@10" in found.notices[0]

    def test_one_of_a_newer_program_is_passed_over(self, registry: RankerRegistry) -> None:
        publish(registry, 2)
        rewrite(registry.folder / "ranker-0002" / SPEC_FILE, format=2)
        found = registry.serving(ENCODING)
        assert found.ranker == registry.open("ranker-0001")
        assert "made by a newer program" in found.notices[0]


class TestRollback:
    def test_the_newest_before_that_can_serve(self, registry: RankerRegistry) -> None:
        publish(registry, 2)
        aside(registry)
        publish(registry)
        damage(registry, "ranker-0002")
        done = registry.rollback(encoding=ENCODING)
        assert (done.before, done.ranker.name) == ("ranker-0004", "ranker-0001")
        assert "ranker-0002/model.onnx" in done.passed_over[0]
        assert registry.serving(ENCODING).ranker == done.ranker

    def test_by_name_forwards_too(self, registry: RankerRegistry) -> None:
        publish(registry, 2)
        registry.rollback(encoding=ENCODING)
        assert registry.rollback("ranker-0002", ENCODING).before == "ranker-0001"
        assert registry.pointer.read() == "ranker-0002"

    def test_what_cannot_serve_is_refused_and_the_pointer_stays(self, registry: RankerRegistry) -> None:
        publish(registry)
        aside(registry)
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
        assert registry.pointer.read() == "ranker-0004"

    def test_from_the_first_there_is_no_way_back_but_off(self, registry: RankerRegistry) -> None:
        publish(registry)
        with pytest.raises(UnknownModelError, match=r"before ranker-0001 .*let none serve: shelfwise models off"):
            registry.rollback(encoding=ENCODING)

    def test_without_any(self, registry: RankerRegistry) -> None:
        with pytest.raises(UnknownModelError, match="it holds none; train one: shelfwise train ranker"):
            registry.rollback(encoding=ENCODING)


class TestOff:
    def test_none_serves_also_none_that_is_published_later_until_a_rollback(self, registry: RankerRegistry) -> None:
        publish(registry)
        assert registry.off() == "ranker-0001"
        assert registry.off() == ""
        added = registry.publish(building(), SPEC, REPORT)
        assert not added.serves
        assert added.notices == ("rankers are switched off; to let it serve: shelfwise models rollback ranker-0002",)
        found = registry.serving(ENCODING)
        assert (found.ranker, found.notices) == (None, ())
        assert registry.rollback(encoding=ENCODING).ranker.name == "ranker-0002"
        assert registry.publish(building(), SPEC, REPORT).serves


class TestRivals:
    def test_who_publishes_at_the_same_time_waits_and_none_is_lost(self, registry: RankerRegistry) -> None:
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", PUBLISHER, str(registry.store)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None
        told = [process.communicate()[0].split() for process in processes]
        assert [process.returncode for process in processes] == [0, 0]
        names = [f"ranker-{number:04d}" for number in range(1, 7)]
        assert sorted(told[0] + told[1]) == names == registry.names()
        for name in names:
            registry.open(name)
        assert registry.pointer.read() == "ranker-0006"

    def test_a_rollback_while_another_writes_is_refused_at_once(self, registry: RankerRegistry) -> None:
        publish(registry)
        with hold_lock(registry.folder, "publish"), pytest.raises(StoreLockedError, match="a publish is at work"):
            registry.rollback(encoding=ENCODING)

    def test_readers_need_no_lock(self, registry: RankerRegistry) -> None:
        publish(registry)
        with hold_lock(registry.folder, "publish"):
            assert registry.serving(ENCODING).ranker == registry.open("ranker-0001")


class TestDisk:
    def test_a_full_disk_is_told_and_what_served_serves_on(self, registry: RankerRegistry) -> None:
        publish(registry)
        before = registry.serving(ENCODING)
        with full_disk(100), pytest.raises(StoreError, match=r"rankers cannot be written .*see to the disk"):
            registry.publish(building(), SPEC, REPORT)
        assert registry.serving(ENCODING) == before
        assert registry.names() == ["ranker-0001"]
        publish(registry)

    @pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to this user")
    def test_a_folder_that_may_only_be_read_serves_and_is_told_to_who_writes(self, registry: RankerRegistry) -> None:
        publish(registry)
        registry.folder.chmod(0o500)
        assert registry.serving(ENCODING).ranker == registry.open("ranker-0001")
        with pytest.raises(StoreError, match="rights to"):
            publish(registry)
        registry.folder.chmod(0o700)

    def test_a_file_where_the_folder_should_be(self, registry: RankerRegistry) -> None:
        registry.folder.write_text("")
        assert registry.serving(ENCODING).ranker is None
        with pytest.raises(StoreError, match=r"rankers cannot be written .*the rights to that folder"):
            publish(registry)

    def test_files_that_stand_where_rankers_do(self, registry: RankerRegistry) -> None:
        publish(registry)
        (registry.folder / "ranker-0002").write_text("")
        (registry.folder / "ranker-0003").symlink_to("ranker-0001")
        with pytest.raises(ModelDamagedError, match=r"ranker-0002/seal\.json cannot be read"):
            registry.open("ranker-0002")
        few = RankerRegistry(registry.store, keep=1)
        publish(few)
        assert few.serving(ENCODING).ranker == few.open("ranker-0004")
        assert (registry.folder / "ranker-0004" / MODEL_FILE).exists()
