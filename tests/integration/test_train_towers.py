"""`shelfwise train towers --no-publish` from judgments to a rebuilt index: trained, killed and refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.rerank.text_towers.artifacts import read_towers
from shelfwise.rerank.text_towers.options import TextTowerOptions
from shelfwise.rerank.training.trainer import STATE_FILE
from shelfwise.retrieval.errors import (
    EncoderUnavailableError,
    JudgmentsError,
    SettingError,
    ShelfwiseError,
    TrainingError,
)
from shelfwise.retrieval.progress import NullProgress
from shelfwise.service.cli.main import app
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.training.text_towers import TextTowersRequest, train_text_towers
from tests.learning_stores import SETTINGS
from tests.progress import KilledError, StoppedProgress
from tests.unit.rerank.text_towers.tiny_towers import judged, make_index, write_judgments

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = ("--batch", "16", "--learning-rate", "3e-3", "--max-length", "16", "--ranks", "20-100", "--seed", "3")


@pytest.fixture(scope="module")
def store(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    make_index(folder, cache)
    write_judgments(folder / "judgments.tsv", judged(), "red bulb\tgone-1\t1", "lost\tgone-1\t1")
    return folder


@pytest.fixture(scope="module")
def trained(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copied = Path(shutil.copytree(store, tmp_path_factory.mktemp("trained") / "store"))
    document = run(copied, "--json")
    (copied / "told.json").write_bytes(msgspec.json.encode(document))
    return copied


@pytest.fixture
def root(store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store, tmp_path / "store"))


def run(folder: Path, *arguments: str) -> Any:  # noqa: ANN401 - JSON
    given = ["towers", str(folder / "index"), "--encoder", str(folder / "tiny"), "--epochs", "2", *SMALL]
    if "--judgments" not in arguments:
        given += ["--judgments", str(folder / "judgments.tsv")]
    done = CliRunner().invoke(app, ["train", *given, "--no-publish", *arguments])
    if isinstance(done.exception, ShelfwiseError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return msgspec.json.decode(done.stdout) if "--json" in arguments else done.stdout


def test_report_describes_the_training_data(trained: Path) -> None:
    document = msgspec.json.decode((trained / "told.json").read_bytes())
    folder = trained / "index" / "training" / "towers" / "towers-0001"
    assert document["folder"] == str(folder)
    spec = read_towers(folder)
    assert document["towers"] == msgspec.to_builtins(spec)
    assert (spec.base, spec.version, spec.source) == ("tiny", "v000001", "judgments")
    assert spec.options["seed"] == 3
    assert spec.trained_on["gone"] == 2
    assert spec.trained_on["without positive"] == 1
    assert spec.trained_on["positives"] == 120
    assert spec.curve[spec.best].validation > spec.curve[0].validation
    # Checkpoints are removed, the curves are kept.
    names = {path.name for path in (trained / "index" / "training").iterdir()}
    assert names <= {"towers", "tensorboard", "lock"}
    assert list((trained / "index" / "training" / "tensorboard").glob("towers-*/towers/events.out.*"))


@pytest.mark.parametrize("runtime", ["onnx-int8", "torch"])
def test_rebuild_accepts_the_tower_folder(trained: Path, cache: Path, tmp_path: Path, runtime: str) -> None:
    index = Path(shutil.copytree(trained / "index", tmp_path / "index"))
    towers = index / "training" / "towers" / "towers-0001"
    with SearchEngine.open(index, follow=False) as engine:
        before = _found(engine)
    options = RebuildOptions((str(trained / "feed.jsonl"),), cache, encoder=str(towers), runtime=runtime)
    report = rebuild(index, options)
    assert report.published
    with SearchEngine.open(index, follow=False) as engine:
        assert engine.manifest.encoder.startswith(f"towers-0001-{runtime}-16-")
        assert engine.snapshot.states is not None
        assert _found(engine) > max(before, 45)


def _found(engine: SearchEngine) -> int:
    found = 0
    for each in judged():
        right = {product for product, opinion in each.opinions.items() if opinion.gain == 1.0}
        hits = engine.search(each.query, size=5, stage="dense", correct=False).hits
        found += bool(right & {hit.product.id for hit in hits})
    return found


@pytest.mark.slow
def test_killed_training_resumes_and_damaged_state_is_reported(root: Path) -> None:
    files = (root / "judgments.tsv",)
    request = TextTowersRequest(
        files, encoder=str(root / "tiny"), options=TextTowerOptions(epochs=2, batch=16, max_length=16)
    )
    with pytest.raises(KilledError):
        train_text_towers(root / "index", SETTINGS, request, StoppedProgress(6, KilledError, of="steps"))
    (kept,) = (root / "index" / "training").glob("towers-*")
    whole = (kept / STATE_FILE).read_bytes()
    (kept / STATE_FILE).write_bytes(whole[:1_000])
    with pytest.raises(TrainingError, match="is damaged, so this training cannot resume"):
        train_text_towers(root / "index", SETTINGS, request, NullProgress())
    assert not (root / "index" / "training" / "towers").exists()
    (kept / STATE_FILE).write_bytes(whole)
    done = train_text_towers(root / "index", SETTINGS, request, StoppedProgress(11, KilledError, of="steps"))
    assert done.folder.name == "towers-0001"
    assert not kept.exists()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ("--out {root}", SettingError, "exists; name a new folder for the towers"),
        ("--judgments {root}/nothing.tsv", JudgmentsError, "cannot be read"),
        ("--encoder {root}/no-such-model", EncoderUnavailableError, ""),
        ("--judgments {root}/bad.tsv", TrainingError, "all judgments have the grade 0"),
        *(
            (f"--ranks {each}", SettingError, "--ranks: .* is not a range of ranks")
            for each in ("500-101", "0-10", "many", "5")
        ),
        pytest.param("--learning-rate 1e-7 --temperature 1", TrainingError, "", marks=pytest.mark.slow),
        ("--lora 8 --fgm 0.5", SettingError, "train all weights with it"),
        ("--matryoshka 512", SettingError, "--matryoshka has 512 columns"),
    ],
)
def test_invalid_training_input_is_refused(root: Path, arguments: str, error: type[Exception], message: str) -> None:
    (root / "bad.tsv").write_text("query\tproduct_id\tgrade\nred bulb\tp001\t0\nblue tap\tp005\t0\n")
    with pytest.raises(error, match=message):
        run(root, *arguments.format(root=root).split())
    assert not [*(root / "index" / "training").glob("towers*")]
