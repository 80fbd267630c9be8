"""`python -m benchmarks.studies.text_towers` on a small store with an untrained encoder."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from benchmarks.studies.rankers import part_of
from benchmarks.studies.text_towers import measure_pair, measure_towers, show_pair, show_towers
from indexer.build import RebuildOptions, rebuild
from rerank.text_towers.artifacts import read_towers
from rerank.text_towers.losses import LossOptions
from rerank.text_towers.negatives import NegativeOptions
from rerank.text_towers.options import TextTowerOptions
from retrieval.errors import SettingError
from retrieval.judgments import Judgments
from retrieval.progress import NullProgress
from service.engine.snapshot import serving_snapshot
from service.settings import Settings
from service.training.text_towers import TextTowersRequest
from tests.catalogs import write_feed
from tests.unit.rerank.text_towers.tiny_towers import PRODUCTS, judged, make_encoder

GRADES = {each.query: {id_: 10 * opinion.gain for id_, opinion in each.opinions.items()} for each in judged()}
OPTIONS = TextTowerOptions(
    epochs=3,
    batch=16,
    learning_rate=3e-3,
    max_length=16,
    layers=1,
    loss=LossOptions(dimensions=(8,)),
    negatives=NegativeOptions(1, 20, 100),
    seed=2,
)


@pytest.fixture(scope="module")
def root(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an index and its encoder."""
    folder = tmp_path_factory.mktemp("towers")
    feed = write_feed(folder / "feed.jsonl", PRODUCTS)
    encoder = str(make_encoder(folder / "tiny"))
    rebuild(folder / "index", RebuildOptions((str(feed),), cache, encoder=encoder, runtime="onnx-fp32"))
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_trained_towers_find_more_than_the_initial_ones(
    root: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = TextTowersRequest(encoder=str(root / "tiny"), cache=cache, options=OPTIONS)
    report = measure_towers(root / "index", Settings(), Judgments(GRADES, 0.0), request, ["torch"], NullProgress())
    test = part_of(list(GRADES), "test")
    assert (report.test_queries, report.products) == (len(test), len(PRODUCTS))
    assert report.training_queries == len(GRADES) - len(test)
    spec = read_towers(Path(report.folder))
    assert spec.trained_on["training queries"] + spec.trained_on["validation queries"] == report.training_queries
    assert spec.trained_on["leaked"] == 0
    before, _, after, _, cut, _, fewer, _ = [each.quality for each in report.figures]
    assert [(each.encoder, each.dimension, each.stage) for each in report.figures] == [
        ("before", 32, "dense"),
        ("before", 32, "merged"),
        ("torch", 32, "dense"),
        ("torch", 32, "merged"),
        ("torch", 8, "dense"),
        ("torch", 8, "merged"),
        ("torch, layers: 1", 32, "dense"),
        ("torch, layers: 1", 32, "merged"),
    ]
    assert all(each.query_ms > 0 for each in report.figures)
    assert cut.ndcg > before.ndcg + 0.3
    assert fewer.ndcg > before.ndcg + 0.3
    assert after.ndcg > before.ndcg + 0.3
    assert after.against is not None
    assert after.against.mean == pytest.approx(after.ndcg - before.ndcg)
    show_towers(report)
    assert f"{len(test)} held-out queries over 120 products" in capsys.readouterr().out
    with pytest.raises(SettingError, match="'onnx' does not exist"):
        measure_towers(root / "index", Settings(), Judgments(GRADES, 0.0), request, ["torch", "onnx"], NullProgress())


def test_an_encoder_compared_with_itself_finds_the_same(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving_snapshot(root / "index") as snapshot:
        measured = [
            measure_pair(snapshot, snapshot.encoder, Judgments(GRADES, 0.0), weight, NullProgress())
            for weight in (None, 0.4)
        ]
    test = len(part_of(list(GRADES), "test"))
    assert [each.queries for each in measured] == [test, len(GRADES)]
    assert measured[0].choosing_queries > 0
    assert len(set(measured[0].chosen.values())) == 1
    assert measured[1].chosen == {}
    for report, stage in itertools.product(measured, ("dense", "merged")):
        alone, other, both = (each for each in report.figures if each.stage == stage)
        assert alone.quality.ndcg == other.quality.ndcg == pytest.approx(both.quality.ndcg)
        assert both.against_other is not None
        assert both.against_other.mean == pytest.approx(0)
        assert min(each.query_ms for each in (alone, other, both)) > 0
        show_pair(report)
    assert f"{test} queries over 120 products" in capsys.readouterr().out
