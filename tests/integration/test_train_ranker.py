"""`shelfwise train ranker --from-catalog` and `--judgments` to a serving ranker, repeated and refused; the study of the
default ranker; `--federated`."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from shelfwise.benchmarks.studies import study_app
from shelfwise.benchmarks.studies.shipped_models import ranker as default_ranker
from shelfwise.rerank.model_store import WEIGHTS_FILE
from shelfwise.rerank.ranker.network import load_network
from shelfwise.rerank.ranker.onnx import OnnxRanker
from shelfwise.rerank.ranker.spec import STORES, AddedRanker, StoredRanker, ranker_store, read_report, verify_ranker
from shelfwise.rerank.training.distillation import DistilOptions
from shelfwise.rerank.training.query_generation import synthetic_queries
from shelfwise.rerank.training.trainer import Federation, LoopOptions
from shelfwise.retrieval.errors import ShelfwiseError, TrainingError
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.store.manifest import Manifest
from shelfwise.service.cli.main import app
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.training.ranker_dataset import CatalogOptions, best_products
from shelfwise.service.training.training_session import TRAINING_FOLDER, run_federation, train_from_catalog
from tests.progress import StoppedProgress
from tests.unit.rerank.tiny_cross_encoder import make_cross_encoder
from tests.unit.service.cli import commands
from tests.unit.service.engine.demo_rankers import publish, spec_for, weighted_graph
from tests.versions import reseal

pytestmark = pytest.mark.usefixtures("one_thread")

QUERIES, EPOCHS, SEED = 260, 2, 4
STEPS = -(-(QUERIES - 100) // 16)
"""Steps of an epoch: 50 queries are for validation, 50 for the gate."""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cross_encoder(tmp_path_factory.mktemp("teacher") / "tiny")


@pytest.fixture(scope="module")
def trained(demo_index: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with a ranker of the reversed order, and then one that was trained."""
    root = Path(shutil.copytree(demo_index, tmp_path_factory.mktemp("trained") / "index"))
    with SearchEngine.open(root, follow=False) as engine:
        publish(root, spec_for(engine.snapshot), weighted_graph(merged=-1.0))
    document = run(root, teacher)
    (root / "told.json").write_bytes(msgspec.json.encode(document))
    return root


@pytest.fixture
def clicked(eventful_store: Path, tmp_path: Path) -> list[Path]:
    """Two stores with the events of shoppers."""
    return [Path(shutil.copytree(eventful_store, tmp_path / name)) for name in ("one", "two")]


def run(root: Path, teacher: Path) -> Any:  # noqa: ANN401 - JSON
    numbers = ("--queries", QUERIES, "--epochs", EPOCHS, "--seed", SEED)
    return commands.document("train", "ranker", root, "--from-catalog", "--teacher", teacher, *numbers)


def distilled(root: Path, teacher: Path, watching: StoppedProgress, queries: int = QUERIES) -> AddedRanker:
    catalog = CatalogOptions(queries, teacher=str(teacher), seed=SEED)
    return train_from_catalog(root, catalog, DistilOptions(LoopOptions(epochs=EPOCHS), seed=SEED), watching)


def weights(root: Path, name: str) -> bytes:
    return (root / "rankers" / name / WEIGHTS_FILE).read_bytes()


def test_a_better_ranker_is_published_and_serves(trained: Path) -> None:
    document = msgspec.json.decode((trained / "told.json").read_bytes())
    assert (document["ranker"], document["serves"], document["notices"]) == ("ranker-0002", True, [])
    report = document["report"]
    assert report["against"] == "ranker-0001"
    assert report["decision"]["publish"]
    assert report["measured_on"].startswith("50 synthetic queries by ")
    assert 0 < report["measures"]["nDCG@10"] <= 1
    made = ranker_store(trained).open("ranker-0002")
    assert made.spec.trained_on["queries"] == QUERIES - 100
    assert made.spec.trained_on["seed"] == SEED
    assert made.spec.calibration[0] >= 0
    # Checkpoints are removed, the teacher's scores are kept.
    assert {path.name for path in (trained / TRAINING_FOLDER).iterdir()} <= {"teacher-scores", "tensorboard", "lock"}
    curves = (trained / TRAINING_FOLDER / "tensorboard").glob("catalog-*/*/events.out.*")
    assert {path.parent.name for path in curves} == {"features", "attention"}


def test_worse_ranker_is_rejected_and_training_is_deterministic(trained: Path, teacher: Path) -> None:
    watching = StoppedProgress()
    added = distilled(trained, teacher, watching)
    assert not added.serves
    assert added.model.report.against == "ranker-0002"
    assert any("not surely better" in reason for reason in added.model.report.rejection_reasons)
    assert weights(trained, added.model.name) == weights(trained, "ranker-0002")
    assert ranker_store(trained).current() == "ranker-0002"
    # All pairs have stored scores already.
    assert len(watching.amounts["teaching"]) == 1
    judging = {"export", "evaluation", "gate", "publish"}
    assert (
        set(watching.summary_of) == {"teacher", "queries", "candidates", "teaching", "features", "attention"} | judging
    )


class TestRefused:
    def test_index_without_token_states_is_refused(self, root: Path, teacher: Path) -> None:
        _edit(root, lambda manifest: msgspec.structs.replace(manifest, states=None))
        watching = StoppedProgress()
        with pytest.raises(TrainingError, match="has no token states, which a ranker reads: rebuild the index"):
            distilled(root, teacher, watching)
        assert not watching.phases


@pytest.fixture(scope="module")
def judgments(demo_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judgments file in which the last of the best 20 products have the highest grade for 320 queries."""
    path = tmp_path_factory.mktemp("judged") / "judgments.tsv"
    with SearchEngine.open(demo_index, follow=False) as engine:
        products = (engine.snapshot.products[row] for row in range(len(engine.snapshot.products)))
        queries = [query.text for query in synthetic_queries(products, 320, SEED)]
        best = best_products(engine.snapshot, queries, "merged", 20)
    lines = [
        f"{query}\t{product}\t{3 if place >= len(found) - 5 else 1}"
        for query, found in best.items()
        for place, product in enumerate(found)
    ]
    path.write_text("\n".join(["query\tproduct_id\tgrade", *lines]), "utf-8")
    return path


def judged_run(root: Path, judgments: Path) -> Any:  # noqa: ANN401 - JSON
    return commands.document("train", "ranker", root, "--judgments", judgments, "--epochs", 4)


class TestJudgments:
    def test_ranker_trained_on_them_is_published(self, root: Path, judgments: Path) -> None:
        document = judged_run(root, judgments)
        report = document["report"]
        assert (document["serves"], report["against"]) == (True, "default")
        tested = int(report["measured_on"].removesuffix(" judged queries"))
        assert tested >= 50
        measures = report["measures"]
        assert measures["nDCG@10"] > measures["nDCG@10 of the merged order"] + 0.05
        spec = ranker_store(root).open(document["ranker"]).spec
        assert int(spec.trained_on["queries"]) > tested
        assert spec.calibration[0] > 0

    def test_too_few_of_them_are_refused(self, root: Path, judgments: Path, tmp_path: Path) -> None:
        few = tmp_path / "few.tsv"
        few.write_text("\n".join(judgments.read_text("utf-8").split("\n")[:2_000]), "utf-8")
        with pytest.raises(TrainingError, match=r"judged queries can be tested on; 50 are needed"):
            judged_run(root, few)
        assert ranker_store(root).names() == []


def _edit(root: Path, edit: Callable[[Manifest], Manifest]) -> None:
    with SearchEngine.open(root, follow=False) as engine:
        name = engine.manifest.version
    reseal(root, name, edit)


@pytest.fixture
def stores(demo_index: Path, tmp_path: Path) -> list[Path]:
    return [Path(shutil.copytree(demo_index, tmp_path / name)) for name in ("garden", "tools")]


def train_default(indexes: list[Path], teacher: Path, target: Path) -> str:
    numbers = ("--queries", "220", "--epochs", "1", "--json")
    given = (*map(str, indexes), "--out", str(target), "--teacher", str(teacher))
    done = CliRunner().invoke(study_app(default_ranker), [*given, *numbers])
    if isinstance(done.exception, ShelfwiseError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.slow
def test_default_ranker_is_written_with_its_measures_per_catalog(
    stores: list[Path], teacher: Path, tmp_path: Path
) -> None:
    target = tmp_path / "default"
    document = msgspec.json.decode(train_default(stores, teacher, target))
    spec, report = verify_ranker(target), read_report(target)
    assert spec.trained_on["catalogs"] == "garden, tools"
    assert (spec.encoder, spec.layers) == ("all-MiniLM-L6-v2", 0)
    assert set(document["measures"]) == {
        f"nDCG@10 on {store}{order}" for store in ("garden", "tools") for order in ("", " of the merged order")
    }
    assert document["measures"] == report.measures
    assert OnnxRanker(StoredRanker("default", target, spec, report)).reads_states
    assert sum(path.stat().st_size for path in target.iterdir()) < 8_000_000


class TestFederated:
    @pytest.mark.slow
    def test_stores_get_the_same_weights_by_gates_of_their_own(self, clicked: list[Path]) -> None:
        with SearchEngine.open(clicked[0], follow=False) as engine:
            publish(clicked[0], spec_for(engine.snapshot), weighted_graph(merged=-1.0))
        given = ("--federated", clicked[1], "--rounds", 2, "--queries", 200)
        found = commands.document("train", "ranker", clicked[0], *given)
        assert [each["index"] for each in found] == [str(each) for each in clicked]
        assert found[0]["serves"], "its old ranker ranks by the wrong end"
        made = [ranker_store(root).open(each["ranker"]) for root, each in zip(clicked, found, strict=True)]
        assert [each.spec.trained_on[STORES] for each in made] == [2, 2]
        one, other = (load_network(each.folder / WEIGHTS_FILE).state_dict() for each in made)
        assert all(torch.equal(value, other[name]) for name, value in one.items())

    def test_stores_that_cannot_train_together_are_named(self, clicked: list[Path], root: Path) -> None:
        def refused(*given: object) -> str:
            done = CliRunner().invoke(app, ["train", "ranker", *map(str, given)])
            assert isinstance(done.exception, ShelfwiseError)
            return str(done.exception)

        one, two = clicked
        assert "each once" in refused(one, "--federated", one)
        assert "give one" in refused(one, "--from-catalog", "--judgments", two)
        assert "leave out --from-catalog" in refused(one, "--federated", two, "--private", 8)
        assert str(root / "none") in refused(one, "--federated", root / "none")


class TestFederation:
    def test_states_of_all_stores_are_averaged_by_weight(self) -> None:
        def task(value: float, federation: Federation) -> float:
            return float(federation.average({"w": np.full(2, value, np.float32)}, value)["w"][1])

        tasks = [partial(task, value) for value in (1.0, 3.0)]
        expected = (1.0 * 1.0 + 3.0 * 3.0) / (1.0 + 3.0)
        assert run_federation(tasks, 1, NullProgress(), ["one", "two"], is_forked=True) == [expected, expected]

    def test_the_store_that_fails_is_named_and_the_others_end(self) -> None:
        def good(federation: Federation) -> None:
            federation.average({"w": np.ones(1, np.float32)}, 1.0)

        def bad(_: Federation) -> None:
            raise TrainingError("3 lists, 100 are needed")

        def killed(_: Federation) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        for other, message in ((bad, "two: 3 lists, 100 are needed"), (killed, "the training of two was killed")):
            with pytest.raises(TrainingError, match=message):
                run_federation([good, other], 1, NullProgress(), ["one", "two"], is_forked=True)
        assert not multiprocessing.active_children()
