"""Experiments between rankers: what each variant is answered by, and what happens where one cannot serve."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from rerank.ranker.spec import ranker_store
from retrieval.errors import ExperimentError
from service.engine.engine import SearchEngine
from service.engine.request import SearchRequest
from service.experiments.assignment import (
    DraftMark,
    MarkedPage,
    ShopperSearch,
    SplitMark,
    answer_search,
    check_rankers,
    notices,
    read_marks,
    stored_problem,
)
from service.experiments.experiment import Experiment, Mode, Variant, VariantOptions, check_overlaps, parse_experiment
from service.experiments.store import Running, ServedExperiments, StoredExperiment
from service.settings import RankerSettings, Settings
from tests.unit.service.engine.demo_rankers import failing, publish, spec_for, weighing

KEY = b"k" * 32
NOW = datetime(2026, 12, 1, tzinfo=UTC)
DRILL = ShopperSearch(SearchRequest("cordless drill", size=10), shopper="u1", session="s1")
SHOPPERS = range(12)


def experiment(*rankers: str | None, **values: Any) -> Experiment:  # noqa: ANN401 - as an Experiment takes them
    variants = [Variant(f"v{number}", VariantOptions(ranker=ranker)) for number, ranker in enumerate(rankers)]
    return Experiment("order", tuple(variants), **values)


def running(*experiments: Experiment) -> Running:
    return Running(tuple(StoredExperiment(each, each.id.encode() * 16, NOW, "") for each in experiments), KEY)


def ids(found: MarkedPage) -> list[str]:
    return [hit.product.id for hit in found.page.hits]


def ordered(engine: SearchEngine, ranker: str = "", **options: Any) -> list[str]:  # noqa: ANN401 - a search's options
    return [hit.product.id for hit in engine.search(DRILL.request.text, size=10, ranker=ranker, **options).hits]


def unserved() -> float:
    return REGISTRY.get_sample_value("shelfwise_unserved_experiment_searches_total", {"experiment": "order"}) or 0.0


@pytest.fixture
def root(demo_index: Path, tmp_path: Path, engine: SearchEngine) -> Path:
    """A copy of the demo index: its first ranker reverses the merged order, the second goes by meaning and serves."""
    copied = Path(shutil.copytree(demo_index, tmp_path / "index"))
    for weights in ({"merged": -1.0}, {"cosine": 1.0}):
        publish(copied, spec_for(engine.snapshot), weighing(**weights))
    return copied


@pytest.fixture
def ranked(root: Path) -> Iterator[SearchEngine]:
    settings = Settings(backend="embedded", ranker=RankerSettings(deadline=60))
    with SearchEngine.open(root, settings=settings, follow=False) as opened:
        yield opened


def test_each_shopper_has_the_order_of_the_variants_ranker(ranked: SearchEngine) -> None:
    compared = experiment(None, "off", "ranker-0001")
    wanted = {
        "v0": ordered(ranked),
        "v1": ordered(ranked, stage="merged"),
        "v2": ordered(ranked, "ranker-0001"),
    }
    assert len({tuple(each) for each in wanted.values()}) == 3
    told = set()
    for number in SHOPPERS:
        found = answer_search(ranked, running(compared), replace(DRILL, shopper=f"u{number}"))
        (part,) = read_marks(found.query_id, KEY)
        assert isinstance(part, SplitMark)
        assert ids(found) == wanted[part.variant]
        assert found.page.degraded == ()
        told.add(part.variant)
    assert told == wanted.keys()


def test_two_rankers_are_interleaved(ranked: SearchEngine) -> None:
    found = answer_search(ranked, running(experiment("ranker-0002", "ranker-0001", mode=Mode.INTERLEAVE)), DRILL)
    (part,) = read_marks(found.query_id, KEY)
    assert isinstance(part, DraftMark)
    lists = {"a": ordered(ranked), "b": ordered(ranked, "ranker-0001")}
    taken: set[str] = set()
    for product, team in zip(ids(found), part.teams, strict=True):
        assert product == next(each for each in lists[team] if each not in taken)
        taken.add(product)


@pytest.mark.parametrize("mode", list(Mode))
def test_while_a_ranker_cannot_serve_all_have_the_first_variants_answer_and_nobody_takes_part(
    ranked: SearchEngine, root: Path, mode: Mode
) -> None:
    compared = experiment("ranker-0001", "ranker-0099", mode=mode)
    before, served = unserved(), ServedExperiments(root)
    served.store.put(compared)
    for number in SHOPPERS:
        found = answer_search(ranked, running(compared), replace(DRILL, shopper=f"u{number}"))
        assert ids(found) == ordered(ranked, "ranker-0001")
        assert found.query_id.isalnum()
    assert unserved() - before == len(SHOPPERS)
    (notice,) = notices(ranked, served)
    assert notice.startswith("nobody takes part in the experiment order: ")
    assert "no ranker 'ranker-0099'" in notice


def test_where_the_first_variants_own_cannot_serve_the_one_that_serves_does(ranked: SearchEngine) -> None:
    found = answer_search(ranked, running(experiment("ranker-0099", "ranker-0001")), DRILL)
    assert ids(found) == ordered(ranked)
    assert found.query_id.isalnum()


@pytest.mark.usefixtures("without_default")
def test_without_a_ranker_that_serves_there_is_nothing_to_compare_with_the_merged_order(
    ranked: SearchEngine, root: Path
) -> None:
    compared = experiment(None, "off")
    assert not answer_search(ranked, running(compared), DRILL).query_id.isalnum()
    ranker_store(root).off()
    ranked.reload_if_changed()
    found = answer_search(ranked, running(compared), DRILL)
    assert (found.query_id.isalnum(), ids(found)) == (True, ordered(ranked, stage="merged"))
    with pytest.raises(ExperimentError, match="no ranker serves"):
        check_rankers(compared, ranked.ranker_problem)
    ranker_store(root).rollback()
    ranked.reload_if_changed()
    assert not answer_search(ranked, running(compared), DRILL).query_id.isalnum()


def test_one_that_fails_leaves_the_merged_order_and_the_variant(ranked: SearchEngine, root: Path) -> None:
    name = publish(root, spec_for(ranked.snapshot), failing())
    found = answer_search(ranked, running(experiment(name, name)), DRILL)
    assert found.page.degraded == ("ranked",)
    assert ids(found) == ordered(ranked, stage="merged")
    assert len(read_marks(found.query_id, KEY)) == 1


def test_other_experiments_go_on(ranked: SearchEngine) -> None:
    rules = Experiment("rules", (Variant("on"), Variant("off", VariantOptions(rules=False))))
    found = answer_search(ranked, running(experiment(None, "ranker-0099"), rules), DRILL)
    assert [part.experiment for part in read_marks(found.query_id, KEY)] == ["rules"]


def test_one_that_is_gone_between_two_looks_fails_no_search(
    ranked: SearchEngine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = experiment("ranker-0001", "ranker-0001")
    shutil.rmtree(root / "rankers" / "ranker-0001")
    monkeypatch.setattr(SearchEngine, "ranker_problem", lambda _engine, _name="": "")
    found = answer_search(ranked, running(compared), DRILL)
    assert (ids(found), found.query_id.isalnum()) == (ordered(ranked), True)


def test_an_index_that_is_not_opened_says_the_same(ranked: SearchEngine, root: Path) -> None:
    problem = stored_problem(root)
    for name in ("", "off", "default", "ranker-0001", "ranker-0099"):
        assert bool(problem(name)) == bool(ranked.ranker_problem(name)) == (name == "ranker-0099")


def test_experiments_with_a_ranker_are_checked() -> None:
    def one(identity: str, **options: str) -> Experiment:
        return parse_experiment({"id": identity, "variants": [{"name": "a"}, {"name": "b", "options": options}]})

    for ranker in ("off", "default", "ranker-0001"):
        assert one("x", ranker=ranker).variants[1].options.given == {"ranker": ranker}
    for options in ({"ranker": "best"}, {"ranker": "ranker-1"}, {"ranker": "ranker-" + "0" * 99}):
        with pytest.raises(ExperimentError, match="it can be off, default or a name") as caught:
            one("x", **options)
        assert caught.value.field == "ranker"
    with pytest.raises(ExperimentError, match='no ranker reorders the stage "merged"'):
        one("x", ranker="ranker-0001", stage="merged")
    order, stage = one("order", ranker="off"), one("stage", stage="merged")
    check_overlaps(one("merging", merge="rrf"), [order])
    for new, there, told in ((order, stage, "sets stage"), (stage, order, "sets ranker")):
        with pytest.raises(ExperimentError, match=told):
            check_overlaps(new, [there])
