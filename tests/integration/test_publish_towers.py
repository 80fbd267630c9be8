"""`shelfwise train towers`: trained towers are judged, and published if they are better; nothing is lost."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.indexer.targets import ReencodeReport, reencode
from shelfwise.rerank.text_towers.dataset import JUDGING_SHARE, is_validation_query
from shelfwise.rerank.text_towers.task import TextTowerOptions
from shelfwise.rerank.training.trainer import STATE_FILE
from shelfwise.retrieval.encoders.registry import open_encoder
from shelfwise.retrieval.errors import EncoderUnavailableError, JudgmentsError, SettingError, TrainingError
from shelfwise.retrieval.index.vectors import VECTORS_FILE
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.manifest import VECTORS_FOLDER
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.cli.main import app
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.training.text_towers import TextTowersRequest, train_text_towers
from shelfwise.service.training.text_towers_promotion import MAX_LOST, PrecisionComparison, judging
from tests.catalogs import write_feed
from tests.learning_stores import SETTINGS
from tests.progress import KilledError, StoppedProgress
from tests.unit.rerank.text_towers.tiny_towers import (
    PRODUCTS,
    every_query,
    irrelevant_lines,
    make_encoder,
    make_index,
    write_judgments,
)
from tests.unit.service.cli import commands

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = TextTowerOptions(epochs=1, batch=32, learning_rate=5e-3, max_length=16)
TRAINING = ("--epochs", "3", "--batch", "32", "--learning-rate", "5e-3", "--max-length", "16", "--ranks", "20-100")


@pytest.fixture(scope="module")
def store(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an index, its feed, judgments, and a live change of the index."""
    folder = tmp_path_factory.mktemp("store")
    make_index(folder, cache, "onnx-int8")
    with SearchEngine.open(folder / "index") as engine:
        engine.upsert([Product("new", "red lamp large new")])
    write_judgments(folder / "judgments.tsv", every_query(), *irrelevant_lines(PRODUCTS[0], every_query()))
    return folder


@pytest.fixture
def root(store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store, tmp_path / "store"))


@pytest.fixture(scope="module")
def published(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = Path(shutil.copytree(store, tmp_path_factory.mktemp("published") / "store"))
    document = commands.run(
        "train", "towers", root / "index", "--judgments", root / "judgments.tsv", "--json", *TRAINING
    )
    (root / "told.json").write_text(document.out)
    return root


def asked(root: Path, cache: Path) -> TextTowersRequest:
    return TextTowersRequest((root / "judgments.tsv",), cache=cache, options=SHORT)


def serving(root: Path) -> str:
    return Store(root / "index").current()


class TestBetterTowers:
    def test_better_towers_serve(self, published: Path) -> None:
        document: Any = msgspec.json.decode((published / "told.json").read_bytes())
        found = document["published"]
        assert (found["version"], found["serves"], found["report"]["publish"]) == ("v000002", True, True)
        merged = found["report"]["comparisons"][1]
        assert merged["queries"] == len(judging(every_query())) >= 50
        assert merged["difference"]["low"] > 0
        assert merged["challenger"] > merged["served"]
        assert found["runtime"] in ("onnx-int8", "onnx-fp32")
        assert (found["rounded"]["fp32"] - found["rounded"]["int8"] < MAX_LOST) == (found["runtime"] == "onnx-int8")
        with SearchEngine.open(published / "index", follow=False) as engine:
            assert engine.manifest.version == "v000002"
            assert engine.manifest.encoder_name == document["folder"]
            assert engine.snapshot.states is not None
            hits = engine.search("small blue tap", size=3, stage="dense").hits
            assert "blue faucet small" in [hit.product.title for hit in hits]

    def test_live_changes_are_kept(self, published: Path) -> None:
        with SearchEngine.open(published / "index") as engine:
            vector = engine.snapshot.encoder.encode_queries(["new"])[0]
            assert engine.search("new lamp").hits[0].product.id == "new"
            assert len(vector) == engine.manifest.dimension
            assert engine.similar("new", size=3).hits[0].product.title.startswith("red lamp")

    def test_rollback_restores_the_previous_encoder(self, published: Path, tmp_path: Path) -> None:
        root = Path(shutil.copytree(published, tmp_path / "store"))
        commands.run("index", "rollback", root / "index")
        assert serving(root) == "v000001"
        with SearchEngine.open(root / "index") as engine:
            assert engine.search("new lamp").hits[0].product.id == "new"

    def test_a_rebuild_that_names_no_encoder_keeps_them(self, published: Path, cache: Path, tmp_path: Path) -> None:
        root = Path(shutil.copytree(published, tmp_path / "store"))
        shutil.rmtree(root / "index" / "training")
        feed = write_feed(root / "feed.jsonl", [*PRODUCTS, Product("more", "blue boot small more")])
        report = rebuild(root / "index", RebuildOptions((str(feed),), cache))
        store = Store(root / "index")
        assert (report.version, report.encoder_reason) == ("v000003", "as for the previous version")
        assert store.manifest("v000003").encoder == store.manifest("v000002").encoder
        assert report.encoded <= 2


class TestRejectedTowers:
    def test_too_few_test_queries_are_not_published(self, root: Path, cache: Path) -> None:
        few = [each for each in every_query() if not is_validation_query(each.query, JUDGING_SHARE, -1)]
        few += judging(every_query())[:9]
        write_judgments(root / "few.tsv", few)
        request = TextTowersRequest((root / "few.tsv",), cache=cache, publish=True)
        with pytest.raises(TrainingError, match=r"9 queries can be tested on; 50 are needed .* nothing was trained"):
            train_text_towers(root / "index", SETTINGS, request, NullProgress())
        assert not (root / "index" / "training" / "towers").exists()
        shown = commands.shown(
            "train", "towers", root / "index", "--judgments", root / "few.tsv", "--no-publish", *TRAINING
        )
        assert "To use it: shelfwise rebuild" in " ".join(shown.split())
        assert serving(root) == "v000001"
        assert [path.name for path in (root / "index" / "versions").iterdir()] == ["v000001"]

    @pytest.mark.parametrize(("int8", "is_close"), [(0.41, True), (0.3971, True), (0.3969, False)])
    def test_int8_serves_with_little_loss(self, int8: float, is_close: bool) -> None:
        assert PrecisionComparison(fp32=0.4, int8=int8).is_close == is_close


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["encode", "publish"])
def test_run_killed_after_training_does_not_train_again(root: Path, cache: Path, phase: str) -> None:
    request = replace(asked(root, cache), publish=True, options=replace(SHORT, epochs=3))
    with pytest.raises(KilledError):
        train_text_towers(root / "index", SETTINGS, request, StoppedProgress(0, KilledError, of=phase))
    assert serving(root) == "v000001"
    (kept,) = (root / "index" / "training").glob("towers-*")
    assert (kept / STATE_FILE).exists()
    watched = StoppedProgress(of="encode")
    done = train_text_towers(root / "index", SETTINGS, request, watched)
    assert not [name for name in watched.phases if name.startswith("part ")]
    assert "towers" in watched.phases
    assert [path.name for path in (root / "index" / "training" / "towers").iterdir()] == ["towers-0001"]
    assert watched.done == (0 if phase == "publish" else len(PRODUCTS))
    assert done.published is not None
    assert done.published.serves
    assert (serving(root), kept.exists()) == ("v000002", False)


def test_run_killed_before_writing_does_not_reuse_other_towers(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KilledError

    folder = root / "mine"
    request = replace(asked(root, cache), options=replace(SHORT, seed=5), out=folder)
    with monkeypatch.context() as killing, pytest.raises(KilledError):
        killing.setattr("shelfwise.service.training.text_towers.write_towers", killed)
        train_text_towers(root / "index", SETTINGS, request, NullProgress())
    other = train_text_towers(root / "index", SETTINGS, replace(request, options=SHORT), NullProgress())
    with pytest.raises(SettingError, match="exists; name a new folder"):
        train_text_towers(root / "index", SETTINGS, request, NullProgress())
    done = train_text_towers(root / "index", SETTINGS, replace(request, out=root / "new"), NullProgress())
    assert done.folder != other.folder
    assert (done.spec.options["seed"], other.spec.options["seed"]) == (5, 0)


def test_missing_serving_model_is_named(root: Path, cache: Path) -> None:
    moved = str(make_encoder(root / "moved"))
    reencode(root / "index", open_encoder(moved, "onnx-fp32", cache), moved, NullProgress())
    shutil.rmtree(root / "moved")
    request = asked(root, cache)
    with pytest.raises(
        EncoderUnavailableError, match=r"moved, which no longer exists; restore it, or name .* --encoder"
    ):
        train_text_towers(root / "index", SETTINGS, request, NullProgress())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ("--out {root}", SettingError, "exists; name a new folder for the towers"),
        ("--judgments {root}/nothing.tsv", JudgmentsError, "cannot be read"),
        ("--encoder {root}/no-such-model", EncoderUnavailableError, ""),
        ("--judgments {root}/bad.tsv", TrainingError, "all judgments have the grade 0"),
        ("--lora 8 --fgm 0.5", SettingError, "train all weights with it"),
        ("--matryoshka 512", SettingError, "--matryoshka has 512 columns"),
        ("--runtime onnx", SettingError, "runtime 'onnx' does not exist"),
    ],
)
def test_invalid_training_input_is_refused(root: Path, arguments: str, error: type[Exception], message: str) -> None:
    (root / "bad.tsv").write_text("query\tproduct_id\tgrade\nred bulb\tp001\t0\nblue tap\tp005\t0\n")
    given = arguments if "--judgments" in arguments else f"--judgments {{root}}/judgments.tsv {arguments}"
    done = CliRunner().invoke(app, ["train", "towers", str(root / "index"), *given.format(root=root).split()])
    assert isinstance(done.exception, error)
    assert re.search(message, str(done.exception))
    assert not [*(root / "index" / "training").glob("towers*")]


class TestReencoding:
    def again(self, root: Path, encoder: Path, cache: Path) -> ReencodeReport:
        opened = open_encoder(str(encoder), "onnx-fp32", cache)
        return reencode(root / "index", opened, str(encoder), NullProgress())

    def test_reencoding_changes_only_vectors(self, root: Path, cache: Path) -> None:
        before = Store(root / "index").manifest("v000001")
        report = self.again(root, root / "tiny", cache)
        assert (report.version, report.published, report.encoded) == ("v000002", True, len(PRODUCTS))
        after = Store(root / "index").verify("v000002")
        same = ("products", "catalog", "analyzer", "recipe", "last_merged_change", "dimension")
        assert [getattr(before, name) for name in same] == [getattr(after, name) for name in same]
        assert after.changes is not None
        assert (after.changes.previous_version, after.changes.added, after.changes.changed) == ("v000001", 0, 0)
        folders = [Store(root / "index").version_folder(name) / VECTORS_FOLDER for name in ("v000001", "v000002")]
        one, other = (np.load(folder / VECTORS_FILE) for folder in folders)
        assert 0.9 < (one * other).sum(axis=1).min() < 1
        with SearchEngine.open(root / "index") as engine:
            assert engine.search("new lamp").hits[0].product.id == "new"

    def test_command_accepts_an_encoder_without_a_feed(self, root: Path) -> None:
        command = ("rebuild", root / "index", "--encoder", root / "tiny", "--runtime", "onnx-fp32")
        assert "v000002 is published and serves: 120 products by" in " ".join(commands.shown(*command).split())
        assert "v000002 still serves: its vectors are already by" in " ".join(commands.shown(*command).split())
        done = CliRunner().invoke(app, [*map(str, command), "--backend", "embedded"])
        assert "cannot be combined with --backend: run twice" in f"{done.exception}"

    def test_serving_encoder_can_use_fewer_dimensions(self, root: Path) -> None:
        command = ("rebuild", root / "index", "--encoder", root / "tiny", "--dimension", "16")
        assert "v000002 is published and serves: 120 products by" in " ".join(commands.shown(*command).split())
        assert Store(root / "index").serving()[0].dimension == 16
        done = CliRunner().invoke(app, ["rebuild", str(root / "index"), "--dimension", "16"])
        assert "name it with --encoder" in f"{done.exception}"
