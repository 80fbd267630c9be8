"""The shipped ranker: it serves if an index has no own ranker, until a better one is published."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from shelfwise.rerank.model_store import DEFAULT_MODEL, MODEL_FILE, WEIGHTS_FILE, Encoding
from shelfwise.rerank.ranker.features import FIRST_STAGE, SIGNALS
from shelfwise.rerank.ranker.network import load_network
from shelfwise.rerank.ranker.onnx import OnnxRanker
from shelfwise.rerank.ranker.spec import SHIPPED, StoredRanker, ranker_store, read_report, shipped_ranker, verify_ranker
from shelfwise.retrieval.errors import ModelDamagedError, UnknownModelError
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.served_models import encoding_of
from tests.rankers import add_ranker
from tests.unit.service.engine.demo_rankers import spec_for

MINI = Encoding("all-MiniLM-L6-v2-onnx-int8-128-0123456789abcdef", 384, 96)
OF_ANOTHER = (
    dataclasses.replace(MINI, encoder="all-MiniLM-L6-v2b-torch-128-0123456789abcdef"),
    dataclasses.replace(MINI, state_dimension=64),
    dataclasses.replace(MINI, state_dimension=None),
)


@pytest.mark.parametrize("folder", sorted(SHIPPED.iterdir()), ids=lambda folder: str(folder.name))
def test_shipped_rankers_are_intact_small_and_documented(folder: Path) -> None:
    spec, report = verify_ranker(folder), read_report(folder)
    assert (spec.encoder, spec.features, spec.layers) == (folder.name, (*FIRST_STAGE, *SIGNALS), 0)
    assert {"catalogs", "queries", "teacher", "seed"} <= set(spec.trained_on)
    assert "/" not in str(spec.trained_on)
    names = str(spec.trained_on["catalogs"]).split(", ")
    measured = {each: f"nDCG@10 on {each}" for each in names}
    gains = [report.measures[name] - report.measures[f"{name} of the merged order"] for name in measured.values()]
    # On no catalog clearly below the merged order.
    assert min(gains) > -0.001
    assert sum(gains) > 0
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8_000_000
    # Features that only some stores have would have another meaning in other stores.
    constant = load_network(folder / WEIGHTS_FILE).constant_features.tolist()
    of_stores = set(SIGNALS) - {"has_states"}
    assert {name for name, is_constant in zip(spec.features, constant, strict=True) if is_constant} == of_stores
    assert OnnxRanker(StoredRanker(DEFAULT_MODEL, folder, spec, report)).reads_states


def test_shipped_ranker_is_for_the_model_in_any_runtime() -> None:
    others = ("all-MiniLM-L6-v2-torch-256-fedcba9876543210", "static-all-MiniLM-L6-v2-static-int8-256-fedcba9876543210")
    for encoder in (MINI.encoder, *others):
        found = shipped_ranker(dataclasses.replace(MINI, encoder=encoder))
        assert found is not None
        assert found[1].encoder == encoder
    cut = shipped_ranker(dataclasses.replace(MINI, vector_dimension=128))
    assert cut is not None
    assert cut[1].vector_dimension == 128
    assert all(shipped_ranker(encoding) is None for encoding in OF_ANOTHER)


def test_shipped_ranker_is_for_encoders_trained_from_the_model() -> None:
    trained = dataclasses.replace(MINI, encoder="towers-0001-onnx-int8-128-0123456789abcdef")
    assert shipped_ranker(trained) is None
    for origin, serves in (("all-MiniLM-L6-v2", True), ("static-all-MiniLM-L6-v2", True), ("all-MiniLM-L12-v2", False)):
        found = shipped_ranker(dataclasses.replace(trained, origin=origin))
        assert (found is not None and found[1].encoder == trained.encoder) == serves


def test_shipped_ranker_serves_until_the_index_has_its_own(root: Path) -> None:
    with SearchEngine.open(root, follow=False) as engine:
        page = engine.search("cordless drill", explain=True)
        assert "ranked" in page.hits[0].stages
        assert page.fit is not None
        snapshot = engine.snapshot
    encoding, registry = encoding_of(snapshot), ranker_store(root)

    def serving() -> str:
        found = registry.serving(encoding).model
        return found.name if found else ""

    assert serving() == DEFAULT_MODEL
    add_ranker(registry, 1, spec=spec_for(snapshot))
    assert serving() == "ranker-0001"
    assert registry.rollback(DEFAULT_MODEL, encoding).previous == "ranker-0001"
    assert serving() == DEFAULT_MODEL
    registry.off()
    assert serving() == ""
    registry.rollback(DEFAULT_MODEL, encoding)
    assert serving() == DEFAULT_MODEL


def test_index_of_another_encoder_has_no_shipped_ranker(root: Path) -> None:
    registry = ranker_store(root)
    assert registry.serving(OF_ANOTHER[0]).model is None
    with pytest.raises(UnknownModelError, match="has no ranker 'default'"):
        registry.rollback(DEFAULT_MODEL, OF_ANOTHER[0])


def test_damaged_shipped_ranker_is_reported_and_merged_order_is_used(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = Path(shutil.copytree(SHIPPED, tmp_path / "shipped"))
    (copied / "all-MiniLM-L6-v2" / MODEL_FILE).write_bytes(b"nothing")
    with pytest.raises(ModelDamagedError):
        shipped_ranker(MINI, copied)
    monkeypatch.setattr(
        "shelfwise.rerank.ranker.spec.shipped_ranker", lambda encoding: shipped_ranker(encoding, copied)
    )
    found = ranker_store(root).serving(MINI)
    assert found.model is None
    assert "results keep the merged order" in found.notices[0]


def test_shipped_files_contain_no_local_paths() -> None:
    for path in SHIPPED.rglob("*"):
        assert not path.is_file() or b".py" not in path.read_bytes()
