"""`shelfwise bench towers` on a small store whose encoder knows nothing at first."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.ranker_quality import part_of
from benchmarks.towers import measure_towers, show_towers
from indexer.build import RebuildOptions, rebuild
from rerank.towers.losses import LossOptions
from rerank.towers.negatives import NegativeOptions
from rerank.towers.options import TowerOptions
from rerank.towers.written import read_towers
from retrieval.judgments import Judgments
from service.training.towers import TowersRequest
from tests.catalogs import write_feed
from tests.learning_stores import Quiet
from tests.unit.rerank.towers.tiny_towers import PRODUCTS, judged, make_encoder


@pytest.mark.usefixtures("one_thread")
def test_trained_towers_find_what_the_ones_before_did_not(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    feed = write_feed(tmp_path / "feed.jsonl", PRODUCTS)
    encoder = str(make_encoder(tmp_path / "tiny"))
    rebuild(tmp_path / "index", RebuildOptions((str(feed),), cache, encoder=encoder, runtime="onnx-fp32"))
    grades = {each.query: {id_: 10 * opinion.gain for id_, opinion in each.opinions.items()} for each in judged()}
    options = TowerOptions(
        epochs=3,
        batch=16,
        learning_rate=3e-3,
        max_length=16,
        layers=1,
        loss=LossOptions(dimensions=(8,)),
        negatives=NegativeOptions(1, 20, 100),
        seed=2,
    )
    request = TowersRequest(encoder=encoder, cache=cache, options=options)
    report = measure_towers(tmp_path / "index", Judgments(grades, 0.0), request, ["torch"], Quiet())
    test = part_of(list(grades), "test")
    assert (report.test_queries, report.products) == (len(test), len(PRODUCTS))
    assert report.training_queries == len(grades) - len(test)
    spec = read_towers(Path(report.folder))
    assert spec.trained_on["training queries"] + spec.trained_on["validation queries"] == report.training_queries
    assert spec.trained_on["leaked"] == 0
    before, _, after, _, cut, _, fewer, _ = report.figures
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
