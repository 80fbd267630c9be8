"""Smaller rankers pruned from a stored one: compared with it, published or rejected, or refused as pointless."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from shelfwise.rerank.model_store import MODEL_FILE, WEIGHTS_FILE
from shelfwise.rerank.ranker.network import RankerNetwork, load_network, save_network
from shelfwise.rerank.ranker.onnx_export import export_network
from shelfwise.rerank.ranker.spec import ranker_store
from shelfwise.retrieval.errors import InputError, ModelMismatchError, ModelRefusedError
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.training.ranker_pruning import measure_agreement
from tests.rankers import REPORT, rewrite
from tests.unit.rerank.training.teacher_lists import teacher_data
from tests.unit.service.cli import commands
from tests.unit.service.engine.demo_rankers import attending_shape, spec_for

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shelfwise.service.training.ranker_pruning.MEASURING", 30)
    monkeypatch.setattr("shelfwise.service.training.ranker_pruning.JUDGING", 40)


@pytest.fixture(scope="module")
def ranked(demo_index: Path, engine: SearchEngine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = Path(shutil.copytree(demo_index, tmp_path_factory.mktemp("shrinking") / "index"))
    torch.manual_seed(5)
    network = RankerNetwork(attending_shape(spec_for(engine.snapshot)))
    with torch.no_grad():
        dict(network.named_parameters())["attention.0.output.weight"][:, 48:72] = 0.0

    def build(folder: Path) -> None:
        export_network(network, folder / MODEL_FILE)
        save_network(network, folder / WEIGHTS_FILE)

    ranker_store(root).add(build, spec_for(engine.snapshot, layers=1), REPORT)
    return root


@pytest.fixture
def root(ranked: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ranked, tmp_path / "index"))


def run(root: Path, *arguments: str) -> str:
    return commands.run("models", "prune", root, *arguments).out


def test_useless_head_is_pruned_and_the_smaller_ranker_is_published(root: Path) -> None:
    registry = ranker_store(root)
    with SearchEngine.open(root, follow=False) as engine:
        before = [hit.product.id for hit in engine.search("steel pan").hits]
    result = commands.document("models", "prune", root, "--heads", "3", "--publish")
    assert (result["ranker"], result["serves"]) == ("ranker-0002", True)
    assert result["agreement"]["agreement"] == pytest.approx(1, abs=1e-6)
    assert result["agreement"]["first_ten"] == pytest.approx(1, abs=0.01)
    assert result["after"] < result["before"]
    made, parent = registry.open("ranker-0002"), registry.open("ranker-0001")
    assert load_network(made.folder / WEIGHTS_FILE).shape.kept_heads == (0, 1, 3)
    assert (made.spec.parent, made.spec.layers, made.report.against) == (parent.spec.identity, 1, "ranker-0001")
    assert made.spec.trained_on["heads"] == 3
    assert made.spec.trained_on["made of"] == "ranker-0001"
    assert made.report.measures["agreement with ranker-0001"] == result["agreement"]["agreement"]
    with SearchEngine.open(root, follow=False) as engine:
        assert [hit.product.id for hit in engine.search("steel pan").hits] == before
        assert engine.notices == ()


@pytest.mark.slow
def test_unpublished_pruned_ranker_is_stored_with_its_agreement(root: Path) -> None:
    run(root, "ranker-0001", "--layers", "0", "--precision", "int8")
    registry = ranker_store(root)
    made = registry.open("ranker-0002")
    assert registry.current() == "ranker-0001"
    assert (made.spec.layers, made.spec.precision) == (0, "int8")
    agreed = made.report.measures["agreement with ranker-0001"]
    assert 0.3 < agreed < 1
    assert made.report.rejection_reasons == (
        f"pruned from ranker-0001, with which it agrees by {agreed:.4f}: use --publish to serve one",
    )
    with pytest.raises(ModelRefusedError, match="ranker-0002 was rejected: a model derived from it may not serve"):
        run(root, "ranker-0002", "--precision", "fp32", "--publish")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "nothing of ranker-0001 would be removed"),
        (("--heads", "4", "--feed-forward", "16", "--layers", "1", "--precision", "fp32"), "nothing of ranker-0001"),
    ],
)
def test_pruning_that_removes_nothing_is_refused(ranked: Path, arguments: tuple[str, ...], why: str) -> None:
    with pytest.raises(InputError, match=why):
        run(ranked, *arguments)
    assert ranker_store(ranked).names() == ["ranker-0001"]


def test_ranker_of_another_index_is_refused(root: Path) -> None:
    rewrite(root / "rankers" / "ranker-0001" / "ranker.json", encoder="another")
    with pytest.raises(ModelMismatchError, match="ranker-0001 cannot be compared with: it was trained on the encoder"):
        run(root, "ranker-0001", "--heads", "1")


def test_agreement_is_1_for_the_same_order(tmp_path: Path) -> None:
    data, numbers = teacher_data(tmp_path, [15, 2, 0, 30, 12]), np.array([0, 3, 4])
    before = np.random.default_rng(1).standard_normal(15 + 30 + 12) * 3
    same, turned = (measure_agreement(data, numbers, before, after) for after in (2 * before + 1, -before))
    assert same.agreement == pytest.approx(1)
    assert (same.first_ten, same.queries) == (1, 3)
    assert turned.agreement < 0.9
    # The ten best and the ten worst of 15, 30 and 12 candidates share five, none and eight.
    assert turned.first_ten == pytest.approx((5 + 0 + 8) / 30)
