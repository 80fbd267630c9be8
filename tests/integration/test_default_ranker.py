"""A ranker that is trained on several catalogs at once, each of which judges networks that have not seen it."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from rerank.ranker.onnx import OnnxRanker
from rerank.ranker.spec import StoredRanker, read_report, verify_ranker
from retrieval.errors import ShelfwiseError, TrainingError
from service.cli.main import app
from tests.unit.rerank.teacher.tiny_cross_encoder import make_cross_encoder

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def stores(demo_index: Path, tmp_path: Path) -> list[Path]:
    return [Path(shutil.copytree(demo_index, tmp_path / name)) for name in ("garden", "tools")]


def run(indexes: list[Path], target: Path) -> str:
    teacher = make_cross_encoder(target.parent / "teacher")
    numbers = ("--queries", "220", "--epochs", "1", "--runtime", "torch", "--json")
    given = ("default", *map(str, indexes), "--out", str(target), "--teacher", str(teacher))
    done = CliRunner().invoke(app, ["train", *given, *numbers])
    if isinstance(done.exception, ShelfwiseError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_it_is_written_as_any_ranker_and_says_what_it_reaches_on_each_catalog(
    stores: list[Path], tmp_path: Path
) -> None:
    target = tmp_path / "default"
    told = msgspec.json.decode(run(stores, target))
    spec, report = verify_ranker(target), read_report(target)
    assert spec.trained_on["catalogs"] == "garden, tools"
    assert (spec.encoder, spec.layers) == ("all-MiniLM-L6-v2", 0)
    assert set(told["measures"]) == {
        f"nDCG@10 on {store}{order}" for store in ("garden", "tools") for order in ("", " of the merged order")
    }
    assert told["measures"] == report.measures
    assert OnnxRanker(StoredRanker("default", target, spec, report)).reads_states
    assert sum(path.stat().st_size for path in target.iterdir()) < 8_000_000


def test_one_catalog_is_not_enough(stores: list[Path], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="two catalogs at least"):
        run(stores[:1], tmp_path / "default")
