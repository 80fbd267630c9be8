"""The published index: one pointer, immutable versions, damage, foreign files and concurrent writers."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from shelfwise.retrieval.errors import StoreDamagedError, StoreForeignError, StoreMissingError, UnknownVersionError
from shelfwise.retrieval.store.files import (
    SEAL_FILE,
    file_entry,
    read_seal,
    scratch_path,
    seal_folder,
    text_seal,
    write_durably,
)
from shelfwise.retrieval.store.manifest import CURRENT, MANIFEST, MARKER, SCHEMA, Manifest
from shelfwise.retrieval.store.versions import _WORDS_ALONE, Store


def publish(store: Store, *, encoder: str = "encoder-1") -> str:
    with store.lock():
        building = store.create_build_folder()
        name = store.next_version()
        (building / "products.jsonl").write_text(f"products of {name}\n")
        (building / "keyword").mkdir()
        (building / "keyword" / "segment").write_bytes(name.encode() * 100)
        model = store.encoders / encoder
        model.mkdir(parents=True, exist_ok=True)
        (model / "model.onnx").write_text(f"weights of {encoder}")
        seal_folder(model, {})
        manifest = Manifest(SCHEMA, name, "2025-01-01", 3, "catalog", "terms", encoder, "MiniLM", 8, "exact")
        store.publish(building, manifest)
    return name


def publish_pair(store: Store) -> None:
    publish(store, encoder="encoder-1")
    publish(store, encoder="encoder-2")


def reseal(store: Store, name: str, manifest: Manifest) -> None:
    seal_folder(store.version_folder(name), {MANIFEST: manifest})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


class TestPublishing:
    def test_published_version_serves(self, store: Store) -> None:
        assert publish(store) == "v000001"
        manifest, notices = store.serving()
        assert (manifest.version, manifest.products, notices) == ("v000001", 3, ())
        sealed = read_seal(store.version_folder("v000001"))
        assert set(sealed) == {MANIFEST, "products.jsonl", "keyword/segment"}
        assert manifest == store.manifest("v000001") == store.verify("v000001")

    def test_pointer_is_replaced_atomically(self, store: Store) -> None:
        publish(store)
        stop = threading.Event()

        def poll() -> set[str]:
            seen: set[str] = set()
            while not stop.is_set():
                seen.add((store.root / CURRENT).read_text())
            return seen

        with ThreadPoolExecutor(1) as reader:
            reading = reader.submit(poll)
            names = ["v000001"] + [publish(store) for _ in range(30)]
            stop.set()
        seen = reading.result()
        assert seen <= {f"{name} {text_seal(name)}\n" for name in names}
        assert len(seen) > 1

    def test_crash_before_the_pointer_write_keeps_the_old_version(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(store)
        replace = Path.replace

        def crash(self: Path, target: Path) -> Path:
            if target.name == CURRENT:
                raise KeyboardInterrupt
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            publish(store)
        monkeypatch.undo()
        assert store.serving()[0].version == "v000001"
        assert publish(store) == "v000003"
        assert store.serving()[0].version == "v000003"

    def test_leftover_scratch_file_does_not_block_a_write(self, tmp_path: Path) -> None:
        """Regression: an unreadable scratch file stopped every later rebuild at its end."""
        scratch = scratch_path(tmp_path / "file")
        scratch.symlink_to(scratch.name)
        write_durably(tmp_path / "file", b"new")
        assert [path.name for path in tmp_path.iterdir()] == ["file"]
        assert (tmp_path / "file").read_bytes() == b"new"

    def test_a_durable_write_is_synced_before_it_takes_its_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = tmp_path / "file"
        write_durably(target, b"old")

        def crash(descriptor: int) -> None:
            raise OSError("no space left on device")

        monkeypatch.setattr(os, "fsync", crash)
        with pytest.raises(OSError, match="no space"):
            write_durably(target, b"new")
        assert target.read_bytes() == b"old"


class TestForeignDirectories:
    @pytest.mark.parametrize("ask", [Store.current, Store.serving, Store.check_ours])
    def test_missing_directory_error_names_the_command(self, store: Store, ask: Callable[[Store], object]) -> None:
        with pytest.raises(StoreMissingError, match=r"does not exist; run: shelfwise rebuild .*store FEED"):
            ask(store)
        assert not store.root.exists()

    def test_directory_without_a_version_raises(self, store: Store) -> None:
        store.root.mkdir()
        with pytest.raises(StoreMissingError, match="is empty; run: shelfwise rebuild"):
            store.serving()
        with store.lock():
            pass
        with pytest.raises(StoreMissingError, match="no published version yet; run: shelfwise rebuild"):
            store.serving()
        with pytest.raises(UnknownVersionError, match="it holds none"):
            store.check_known("v000001")

    def test_foreign_directory_is_refused_and_unchanged(self, store: Store) -> None:
        store.root.mkdir()
        (store.root / "thesis.doc").write_text("mine")
        for ask in (store.serving, store.lock().__enter__):
            with pytest.raises(StoreForeignError, match=r"is not an index \(no shelfwise.json\); choose"):
                ask()
        assert [path.name for path in store.root.iterdir()] == ["thesis.doc"]

    def test_other_schema_error_has_both_numbers(self, store: Store) -> None:
        publish(store)
        (store.root / MARKER).write_text(f'{{"schema": {SCHEMA + 1}}}')
        with pytest.raises(StoreForeignError, match=f"schema {SCHEMA + 1}, but this program reads {SCHEMA}; rebuild"):
            store.serving()

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"schema": "1"}', b"\xff\xfe", b'{"\xff": 1}'])
    def test_unreadable_marker_without_a_version_is_refused_by_name(self, store: Store, content: bytes) -> None:
        publish(store)
        (store.root / MARKER).write_bytes(content)
        (store.version_folder("v000001") / SEAL_FILE).unlink()
        with pytest.raises(StoreForeignError, match=r"shelfwise\.json cannot be read .*; write"):
            store.serving()

    def test_damaged_marker_is_reported_and_repaired_by_the_next_writer(self, store: Store) -> None:
        publish(store)
        path = store.root / MARKER
        whole = path.read_bytes()
        for place, bit in itertools.product(range(len(whole)), range(8)):
            path.write_bytes(flipped(whole, place, bit))
            manifest, (notice,) = store.serving()
            assert manifest.version == "v000001"
            assert "shelfwise.json cannot be read" in notice
        with store.lock():
            assert path.read_bytes() == whole

    def test_missing_marker_is_recreated_if_a_version_exists(self, store: Store) -> None:
        publish(store)
        (store.root / MARKER).unlink()
        assert "shelfwise.json is missing" in store.serving()[1][0]
        publish(store)
        assert store.serving() == (store.manifest("v000002"), ())

    def test_kill_before_the_first_marker_leaves_a_usable_directory(self, store: Store) -> None:
        store.root.mkdir()
        (store.root / f".{MARKER}.new").write_bytes(b"")
        with pytest.raises(StoreMissingError, match="is empty"):
            store.serving()
        assert publish(store) == "v000001"


class TestPointer:
    @pytest.mark.parametrize(
        "content", [None, b"", b"v1", b"../v000001", b"v000001 v000002", b"\xff\xff", b"x" * 99_999]
    )
    def test_invalid_pointer_opens_the_newest_version_with_a_notice(self, store: Store, content: bytes | None) -> None:
        publish_pair(store)
        (store.root / CURRENT).unlink()
        if content is not None:
            (store.root / CURRENT).write_bytes(content)
        manifest, (notice,) = store.serving()
        assert manifest.version == "v000002"
        assert "CURRENT names no version" in notice
        assert len(notice) < 500
        with pytest.raises(StoreDamagedError, match="CURRENT names no version"):
            store.current()

    def test_every_flipped_bit_of_the_pointer_is_reported(self, store: Store) -> None:
        """v000003 is one bit from v000002. Regression: without a checksum, an older catalog served unnoticed."""
        names = [publish(store) for _ in range(3)]
        store.rollback(names[1])
        path = store.root / CURRENT
        whole = path.read_bytes()
        for place, bit in itertools.product(range(len(whole)), range(8)):
            path.write_bytes(flipped(whole, place, bit))
            manifest, notices = store.serving()
            assert manifest.version == names[2]
            assert "CURRENT names no version" in notices[0]

    def test_missing_version_is_skipped_with_a_notice(self, store: Store) -> None:
        publish(store)
        (store.root / CURRENT).write_text("v000009\n")
        manifest, (notice,) = store.serving()
        assert manifest.version == "v000001"
        assert "v000009 is damaged" in notice


def flipped(content: bytes, place: int, bit: int = 0) -> bytes:
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(flipped(content, len(content) // 2))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


FILES = (
    "versions/v000002/products.jsonl",
    "versions/v000002/keyword/segment",
    "encoders/encoder-2/model.onnx",
    f"versions/v000002/{MANIFEST}",
    f"versions/v000002/{SEAL_FILE}",
    f"encoders/encoder-2/{SEAL_FILE}",
)


class TestDamage:
    @pytest.mark.parametrize("file", FILES)
    @pytest.mark.parametrize("damage", [truncate, flip, lambda path: path.write_bytes(b""), Path.unlink])
    def test_damaged_version_is_named_and_the_last_intact_one_serves(
        self, store: Store, file: str, damage: Callable[[Path], object]
    ) -> None:
        publish_pair(store)
        damage(store.root / file)
        with pytest.raises(StoreDamagedError, match="version v000002 is damaged"):
            store.verify("v000002")
        manifest, (notice,) = store.serving()
        assert manifest.version == "v000001"
        assert "v000002 is damaged" in notice
        assert Path(file).name in notice

    def test_newest_version_serves_without_a_damaged_encoder(self, store: Store) -> None:
        """Regression: versions share an encoder, so one flipped bit of it left no intact version to open."""
        for _ in range(2):
            publish(store)
        flip(store.encoders / "encoder-1" / "model.onnx")
        found = store.find_serving()
        assert (found.manifest.version, found.damaged) == ("v000002", ())
        assert "model.onnx has another checksum" in found.encoder_problem
        assert found.notices == (f"{found.encoder_problem}; {_WORDS_ALONE}",)
        flip(store.version_folder("v000002") / "products.jsonl")
        found = store.find_serving()
        assert (found.manifest.version, found.damaged) == ("v000001", ("v000002",))
        assert len(found.notices) == 2

    def test_manifest_of_another_version_is_refused(self, store: Store) -> None:
        publish_pair(store)
        reseal(store, "v000002", store.manifest("v000001"))
        with pytest.raises(StoreDamagedError, match="its manifest is that of v000001"):
            store.verify("v000002")

    @pytest.mark.parametrize("listed", ["../outside", "versions/../../outside", "ABSOLUTE"])
    def test_sealed_paths_are_confined_to_the_folder(self, store: Store, tmp_path: Path, listed: str) -> None:
        publish(store)
        (tmp_path / "outside").write_text("mine")
        path = str(tmp_path / "outside") if listed == "ABSOLUTE" else listed
        seal = store.version_folder("v000001") / SEAL_FILE
        entries = {**read_seal(seal.parent), path: file_entry(tmp_path / "outside")}
        seal.write_bytes(msgspec.json.encode(entries))
        with pytest.raises(StoreDamagedError, match=r"lists .*outside, outside the folder"):
            store.verify("v000001")

    @pytest.mark.parametrize("encoder", ["", ".", "..", "../versions/v000001", "/etc"])
    def test_encoder_is_confined_to_the_store(self, store: Store, encoder: str) -> None:
        publish(store)
        reseal(store, "v000001", msgspec.structs.replace(store.manifest("v000001"), encoder=encoder))
        with pytest.raises(StoreDamagedError, match=r"its manifest names .*, outside the store"):
            store.verify("v000001")


class TestRollback:
    def test_rollback_serves_an_older_version_and_keeps_newer_ones(self, store: Store) -> None:
        names = [publish(store) for _ in range(3)]
        assert store.rollback("v000001") == store.manifest("v000001")
        assert store.serving() == (store.manifest("v000001"), ())
        assert store.versions() == names
        assert publish(store) == "v000004"

    @pytest.mark.parametrize("name", ["v000009", "", "..", "v1", "v000001/", "../versions/v000001", ".v000001"])
    def test_unknown_version_error_lists_the_versions(self, store: Store, name: str) -> None:
        publish_pair(store)
        for ask in (store.rollback, store.check_known):
            with pytest.raises(UnknownVersionError, match=r"has no version '.*'; it holds v000001, v000002$"):
                ask(name)
        assert store.current() == "v000002"


class TestPruning:
    def test_prune_keeps_newest_serving_and_protected_versions_with_encoders(self, store: Store) -> None:
        for number in range(1, 8):
            publish(store, encoder=f"encoder-{(number + 1) // 2}")
        (store.root / CURRENT).write_text("v000001\n")  # written by hand, without a checksum
        assert store.prune(2, spare=("v000003",)) == ["v000002", "v000004", "v000005"]
        assert store.versions() == ["v000001", "v000003", "v000006", "v000007"]
        assert {path.name for path in store.encoders.iterdir()} == {f"encoder-{number}" for number in range(1, 5)}
        assert store.prune(1) == ["v000003", "v000006"]
        assert sorted(path.name for path in store.encoders.iterdir()) == ["encoder-1", "encoder-4"]
        assert store.serving() == (store.verify("v000001"), ())

    def test_prune_removes_damaged_versions_and_does_not_count_them(self, store: Store) -> None:
        """Regression: of three kept versions two were damaged, so the next damage left none."""
        for _ in range(4):
            publish(store)
        assert store.prune(2, damaged=("v000002", "v000003")) == ["v000002", "v000003"]
        assert store.versions() == ["v000001", "v000004"]

    def test_kill_during_removal_leaves_no_partial_version(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        publish_pair(store)

        def crash(folder: Path) -> None:
            (folder / "products.jsonl").unlink()
            raise KeyboardInterrupt

        with monkeypatch.context() as killed:
            killed.setattr("shutil.rmtree", crash)
            with pytest.raises(KeyboardInterrupt):
                store.prune(1)
        assert store.versions() == ["v000002"]
        assert store.prune(1) == []
        assert [path.name for path in (store.root / "versions").iterdir()] == ["v000002"]

    def test_damaged_manifest_of_an_old_version_does_not_block_prune(self, store: Store) -> None:
        for number in range(1, 4):
            publish(store, encoder=f"encoder-{number}")
        (store.version_folder("v000002") / MANIFEST).write_bytes(b"")
        assert store.prune(2) == ["v000001"]
        assert store.serving()[0].version == "v000003"

    def test_partial_versions_are_ignored_and_removed(self, store: Store) -> None:
        publish(store)
        with store.lock():
            first = store.create_build_folder()
            (first / "products.jsonl").write_text("half")
            assert store.versions() == ["v000001"]
            assert store.serving()[0].version == "v000001"
            assert list(store.create_build_folder().iterdir()) == []
            first.with_name(".v000099").mkdir()
            store.prune(3)
        assert [path.name for path in (store.root / "versions").iterdir()] == ["v000001"]
