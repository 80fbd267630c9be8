"""`shelfwise bench towers` on a small store whose encoder knows nothing at first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.studies.rankers import part_of
from benchmarks.studies.text_towers import WaysReport, measure_towers, measure_ways, show_towers, show_ways
from indexer.build import RebuildOptions, rebuild
from rerank.text_towers.artifacts import read_towers
from rerank.text_towers.losses import LossOptions
from rerank.text_towers.negatives import NegativeOptions
from rerank.text_towers.options import TowerOptions
from retrieval.errors import SettingError, TrainingError
from retrieval.judgments import Judgments
from retrieval.progress import Progress
from service.settings import Settings
from service.training.text_towers import TowersRequest, WrittenTowers, train_text_towers
from tests.catalogs import write_feed
from tests.learning_stores import Quiet
from tests.unit.rerank.text_towers.tiny_towers import PRODUCTS, judged, make_encoder

GRADES = {each.query: {id_: 10 * opinion.gain for id_, opinion in each.opinions.items()} for each in judged()}
OPTIONS = TowerOptions(
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
    """An index, and beside it the encoder that it is made with."""
    folder = tmp_path_factory.mktemp("towers")
    feed = write_feed(folder / "feed.jsonl", PRODUCTS)
    encoder = str(make_encoder(folder / "tiny"))
    rebuild(folder / "index", RebuildOptions((str(feed),), cache, encoder=encoder, runtime="onnx-fp32"))
    return folder


@pytest.mark.usefixtures("one_thread")
def test_trained_towers_find_what_the_ones_before_did_not(
    root: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = TowersRequest(encoder=str(root / "tiny"), cache=cache, options=OPTIONS)
    report = measure_towers(root / "index", Settings(), Judgments(GRADES, 0.0), request, ["torch"], Quiet())
    test = part_of(list(GRADES), "test")
    assert (report.test_queries, report.products) == (len(test), len(PRODUCTS))
    assert report.training_queries == len(GRADES) - len(test)
    spec = read_towers(Path(report.folder))
    assert spec.trained_on["training queries"] + spec.trained_on["validation queries"] == report.training_queries
    assert spec.trained_on["leaked"] == 0
    before, _, after, _, cut, _, fewer, _ = [each.measured for each in report.figures]
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


@pytest.mark.usefixtures("one_thread")
def test_ways_are_measured_against_the_plain_one(root: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = replace(OPTIONS, layers=None, loss=LossOptions())
    request = TowersRequest(encoder=str(root / "tiny"), cache=cache, options=options)
    searched = {query: grades for query, grades in GRADES.items() if not query.endswith(("mug", "pen"))}
    judgments, ways = Judgments(searched, 0.0), ["fgm", "synthetic"]
    report = measure_ways(root / "index", Settings(), judgments, request, 0.8, ways, "torch", Quiet())
    assert [each.way for each in report.figures] == ["plain", "fgm", "synthetic"]
    apart = len(part_of(list(searched), "test"))
    assert report.training_queries + report.test_queries == len(searched) - apart
    assert report.training_queries > report.test_queries > 4
    plain, *others = report.figures
    assert plain.measured.against is None
    assert plain.measured.ndcg > report.before.ndcg + 0.3
    for each in others:
        assert each.measured.against is not None
        assert each.measured.against.mean == pytest.approx(each.measured.ndcg - plain.measured.ndcg)
        assert each.share > 0
    show_ways(report)
    printed = capsys.readouterr().out
    assert "synthetic" in printed
    assert "…" not in printed  # in 80 columns
    assert not [*(root / "index" / "training").glob("ways-*")]
    with pytest.raises(SettingError, match="'wings' does not exist"):
        measure_ways(root / "index", Settings(), judgments, request, 0.8, ["wings"], "torch", Quiet())
    with pytest.raises(SettingError, match="'teacher-kl' wants a teacher's scores"):
        measure_ways(root / "index", Settings(), judgments, request, 0.8, ["teacher-kl"], "torch", Quiet())
    with pytest.raises(SettingError, match="'onnx' does not exist"):
        measure_ways(root / "index", Settings(), judgments, request, 0.8, [], "onnx", Quiet())
    with pytest.raises(SettingError, match="'onnx' does not exist"):
        measure_towers(root / "index", Settings(), judgments, request, ["torch", "onnx"], Quiet())


class _KilledError(Exception):
    pass


@pytest.mark.usefixtures("one_thread")
def test_ways_that_were_measured_before_an_end_are_not_measured_again(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = TowersRequest(encoder=str(root / "tiny"), cache=cache, options=replace(OPTIONS, layers=None, epochs=1))
    trained: list[TowersRequest] = []

    def train(index: Path, settings: Settings, asked: TowersRequest, progress: Progress) -> WrittenTowers:
        if asked.options.augment.typos and not trained[1:]:
            trained.append(asked)
            raise _KilledError
        trained.append(asked)
        return train_text_towers(index, settings, asked, progress)

    monkeypatch.setattr("benchmarks.studies.text_towers.train_text_towers", train)

    def measure() -> WaysReport:
        return measure_ways(
            root / "index", Settings(), Judgments(GRADES, 0.0), request, 0.8, ["typos"], "torch", Quiet()
        )

    with pytest.raises(_KilledError):
        measure()
    report = measure()
    assert [bool(each.options.augment.typos) for each in trained] == [False, True, True]
    assert [each.way for each in report.figures] == ["plain", "typos"]
    assert all(each.seconds > 0 for each in report.figures)


@pytest.mark.usefixtures("one_thread")
def test_a_way_that_comes_to_nothing_stands_as_the_encoder_was(root: Path, cache: Path) -> None:
    request = TowersRequest(encoder=str(root / "tiny"), cache=cache, options=replace(OPTIONS, layers=None, epochs=1))
    slow = replace(request, options=replace(request.options, learning_rate=1e-9))
    report = measure_ways(root / "index", Settings(), Judgments(GRADES, 0.0), slow, 0.8, [], "torch", Quiet())
    (plain,) = report.figures
    with pytest.raises(TrainingError, match="queries with a positive are left"):
        measure_ways(root / "index", Settings(), Judgments(GRADES, 0.0), slow, 0.2, [], "torch", Quiet())
    assert (plain.share, plain.measured.ndcg) == (0.0, report.before.ndcg)
