"""`shelfwise bench recommend`: all ways on the same cases, in slices that add up."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.commands import bench
from benchmarks.studies.baselines import baselines
from benchmarks.studies.model_commands import show_recommending
from benchmarks.studies.purchases import Case, Floats, Material, Part, PurchaseSet, Scorer
from benchmarks.studies.recommend import EVERYTHING, TOWER, Catalog, RecommendReport, measure_recommending, our_ways
from retrieval.errors import InputError, SettingError, TrainingError
from tests.learning_stores import Quiet
from tests.purchase_sets import PAIRS, PRODUCTS, case, chained_set, unit_vectors


def oracle(material: Material) -> Scorer:
    """Knows what follows."""

    def scores(cases: Sequence[Case]) -> Floats:
        found = np.zeros((len(cases), material.products))
        for row, each in enumerate(cases):
            found[row, each.history[-1:] + PAIRS] = 1.0
        return found

    return scores


@pytest.fixture(scope="module")
def report() -> RecommendReport:
    ways = [way for way in baselines(timed=True, hide_seen=True) if "BPR" not in way.name]
    catalog = Catalog(unit_vectors())
    every = [*ways, *our_ways(tower=oracle)]
    return measure_recommending(chained_set(120), catalog, every, hide_seen=True, seed=1, progress=Quiet())


def test_every_way_is_judged_on_the_same_cases(report: RecommendReport) -> None:
    whole = report.slices[EVERYTHING]
    # 20 of one purchase, one of three; of two targets one was seen; the shopper without a history stands apart.
    assert (whole.cases, whole.shoppers) == (22, 21)
    assert list(whole.figures) == list(report.ways)
    assert list(report.ways)[-1] == TOWER
    assert whole.figures[TOWER].ndcg.mean == pytest.approx((22 - 1) / 22)
    assert whole.figures[TOWER].from_last is None
    above = whole.figures["popularity"].from_last
    assert above is not None
    assert above.mean == pytest.approx(whole.figures[TOWER].ndcg.mean - whole.figures["popularity"].ndcg.mean)
    assert 0 < above.low <= above.mean <= above.high


def test_slices(report: RecommendReport) -> None:
    sizes = {name: each.cases for name, each in report.slices.items()}
    assert sizes == {
        EVERYTHING: 22,
        "shoppers with 1 event": 21,
        "shoppers with 2-5": 1,
        "shoppers without any": 1,
        "products without events": 1,
        "products with 1-10": sizes["products with 1-10"],
        "products with more": 21 - sizes["products with 1-10"],
    }
    cold = report.slices["products without events"].figures
    assert cold["popularity"].hit_rate.mean == 0


def test_it_is_shown_and_encoded(report: RecommendReport, capsys: pytest.CaptureFixture[str]) -> None:
    show_recommending(report)
    printed = capsys.readouterr().out
    assert f"{PRODUCTS} products" in printed
    assert f"{report.slices[EVERYTHING].figures['item-kNN'].ndcg.mean:.4f}" in printed
    document = msgspec.json.decode(msgspec.json.encode(report))
    assert document["slices"][EVERYTHING]["figures"]["popularity"]["hit_rate"]["queries"] == 21


def test_a_way_that_cannot_be_trained_is_left_out_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    def untrained(material: Material) -> Scorer:
        raise TrainingError("3 shoppers are too few")

    popular = [way for way in baselines(timed=True, hide_seen=True) if way.name == "popularity"]
    towers = [way for way in our_ways(tower=untrained) if way.name == TOWER]
    bought, catalog = chained_set(120), Catalog(unit_vectors())
    report = measure_recommending(bought, catalog, [*popular, *towers], hide_seen=True, seed=1, progress=Quiet())
    assert list(report.slices[EVERYTHING].figures) == ["popularity"]
    show_recommending(report)
    assert f"{TOWER} is left out: 3 shoppers are too few" in capsys.readouterr().err
    with pytest.raises(TrainingError, match=f"{TOWER}: 3 shoppers are too few"):
        measure_recommending(bought, catalog, towers, hide_seen=True, seed=1, progress=Quiet())


def test_nobody_to_judge_on() -> None:
    bought = chained_set(5)
    alone = PurchaseSet(bought.tuning, Part(bought.judging.training, (case([], [1]), case([2], [2]))), "")
    with pytest.raises(InputError, match="nobody who bought something before bought again"):
        measure_recommending(alone, Catalog(unit_vectors()), [], hide_seen=True, seed=1, progress=Quiet())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ("--way", "tower"),
            "--way: 'tower' is none, it can be popularity, in-categories, item-kNN, EASE, BPR, SASRec",
        ),
        (("--way", "popularity", "--lines", "a.jsonl"), "--lines: 1 files; give two"),
    ],
)
def test_options_that_cannot_be(options: tuple[str, ...], told: str) -> None:
    done = CliRunner().invoke(bench, ["recommend", "store", *options])
    assert isinstance(done.exception, SettingError)
    assert told in str(done.exception)
