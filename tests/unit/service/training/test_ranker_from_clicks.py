"""From a log of clicks to a ranker with a promotion decision, and its second phase, trained on histories."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from shelfwise.rerank.click_models.evaluation import ClickLikelihood
from shelfwise.rerank.evaluation.promotion import LIKELIHOOD
from shelfwise.rerank.model_store import WEIGHTS_FILE, copy_of
from shelfwise.rerank.ranker.features import ACT_KINDS, FEATURES
from shelfwise.rerank.ranker.memory import MemoryRows, QueryMemory, memory_key
from shelfwise.rerank.ranker.network import NetworkShape, RankerNetwork, load_network
from shelfwise.rerank.ranker.onnx import OnnxRanker
from shelfwise.rerank.ranker.spec import AddedRanker, ranker_store
from shelfwise.rerank.training.click_dataset import fold_by_shopper, fold_of, shown_lists
from shelfwise.rerank.training.click_training import Mixing
from shelfwise.rerank.training.datasets import CandidateLists
from shelfwise.rerank.training.history_training import HistoryOptions, ShopperDisplays
from shelfwise.rerank.training.trainer import LoopOptions
from shelfwise.retrieval.progress import NullProgress, Progress
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.demo import DemoFiles
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.snapshot import Connection, Snapshot, open_snapshot
from shelfwise.service.events.signals import Popularity
from shelfwise.service.training.click_dataset import (
    ClickRankerOptions,
    ClickTraining,
    ClickTrial,
    Earlier,
    HistoryResult,
    TrainedNetwork,
    TrialOptions,
    build_training_set,
    build_trial,
)
from shelfwise.service.training.ranker_from_clicks import (
    KnownShoppers,
    click_ranker,
    find_displays,
    train_history_phase,
)
from shelfwise.service.training.ranker_promotion import ClickGate
from tests.learning_stores import QUICK
from tests.progress import KilledError, StoppedProgress
from tests.rankers import REPORT
from tests.unit.rerank.click_models.click_simulation import (
    falling_examination,
    graded_store,
    position_shopper,
    simulate,
)
from tests.unit.rerank.click_models.simulated_logs import simulated_events
from tests.unit.service.training.tasteful_shoppers import SimulatedClicks, simulate_clicks

pytestmark = pytest.mark.usefixtures("one_thread")

BUILT = datetime(2026, 5, 1).timestamp()
START = datetime(2026, 5, 1)


@pytest.fixture(scope="module")
def events(demo: DemoFiles) -> pl.DataFrame:
    grades: dict[str, dict[str, float]] = {}
    with demo.judgments.open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            grades.setdefault(row["query"].lower(), {})[row["product_id"]] = float(row["grade"])
    simulate_clicks = dict(
        list({query: judged for query, judged in grades.items() if len(set(judged.values())) > 1}.items())[:120]
    )
    store, pairs = graded_store(simulate_clicks, seed=1)
    shopper = position_shopper(falling_examination(1.0))
    log = simulated_events(simulate(store, shopper, 4_000, 1), store, pairs, START, 1)
    return log.with_columns(who="query_id")


def trained(
    root: Path, events: pl.DataFrame, options: ClickRankerOptions = QUICK, progress: Progress | None = None
) -> AddedRanker:
    store = Store(root)
    work = root / "training"
    work.mkdir(exist_ok=True)
    with closing(Connection(store)) as connection:
        snapshot, progress = open_snapshot(store, connection), progress or NullProgress()
        done = click_ranker(snapshot, events, work, root, options, BUILT, progress)
    assert done.off_policy is not None
    assert done.off_policy.outcomes or done.off_policy.refusal
    return done.added


def test_a_failed_training_publishes_nothing(root: Path, events: pl.DataFrame) -> None:
    with pytest.raises(KilledError):
        trained(root, events, progress=StoppedProgress(2, KilledError, of="debiased"))
    (run,) = (root / "training").glob("clicks-*")
    assert not (run / "histories").exists()
    assert ranker_store(root).names() == []


def test_clicks_train_a_ranker_with_a_promotion_decision(root: Path, events: pl.DataFrame) -> None:
    added = trained(root, events)
    made = added.model
    decision = made.report.decision
    assert decision is not None
    assert added.serves == decision.publish
    assert made.report.against == "default"
    named = {(each.measure, each.slice) for each in decision.comparisons}
    assert {(name, "all queries") for name in ("nDCG@10", "MRR", "click likelihood")} <= named
    slices = ("head queries", "tail queries", "new products", "new queries")
    assert {("nDCG@10", name) for name in slices} <= named
    assert made.spec.trained_on["method"] == "debiased"
    assert made.spec.calibration[0] >= 0
    assert {path.name for path in (root / "training").iterdir()} <= {"tensorboard"}


def test_popularity_is_of_the_time_before_the_validation_lists(root: Path, events: pl.DataFrame) -> None:
    product = events.filter(pl.col("kind") == "click")["product_id"].mode().sort()[0]
    asked = []

    def popular(end: datetime) -> Popularity:
        asked.append(end)
        return Popularity.of_scores({product: 4.0})

    store = Store(root)
    with closing(Connection(store)) as connection:
        snapshot = open_snapshot(store, connection)
        made = build_training_set(snapshot, events, None, QUICK, BUILT, NullProgress(), Earlier(popular))
        row = snapshot.products.row_of(product)
    (end,) = asked
    first = pl.col("time").filter(pl.col("kind") == "impression").min().over("query_id")
    assert (made.periods.training.select(first).to_series() < end).all()
    assert made.periods.validation["time"].min() == end
    for lists in (made.clicks.lists, made.validating.data.lists, made.held_out.data.lists):
        simulate_clicks = lists.features[:, FEATURES.index("popularity")]
        assert (simulate_clicks == (lists.rows == row)).all()
        assert simulate_clicks.any()


def test_no_list_is_in_the_memory_that_predicts_its_clicks(root: Path, events: pl.DataFrame) -> None:
    """Each shopper of the log has one list; the memory of a fold is marked by the lists that it was made of."""
    asked: list[tuple[set[str], datetime]] = []

    def memory(lists: pl.DataFrame, end: datetime) -> QueryMemory:
        asked.append((set(lists["query_id"].to_list()), end))
        queries = sorted({memory_key(query) for query in lists["query"].to_list()})
        products = sorted(set(lists["product_id"].to_list()))
        count = len(queries) * len(products)
        names = ["query"] * count, [each for each in queries for _ in products], ["product"] * count
        ratio = np.full(count, float(len(asked)) + 1)
        return QueryMemory.of_rows(MemoryRows(*names, products * len(queries), [ratio] * 5))

    store = Store(root)
    with closing(Connection(store)) as connection:
        snapshot = open_snapshot(store, connection)
        earlier = Earlier(memory=memory)
        made = build_training_set(snapshot, events, None, QUICK, BUILT, NullProgress(), earlier)
    (first, _), (second, _), (before, choosing), (most, judging) = asked
    periods, lists = made.periods, made.clicks.lists
    assert not first & second
    assert (first | second, choosing) == (set(periods.training["query_id"].to_list()), periods.choosing)
    assert (before, most) == (first | second, before | set(periods.validation["query_id"].to_list()))
    assert judging == periods.held_out["time"].min()
    # Fold 0 reads the first requested memory, made of the lists of fold 1.
    folded = fold_by_shopper(periods.training)
    names = folded.filter(pl.col("query_id").is_in(list(first)))["query"]
    assert names.str.ends_with("1").all()
    marks = lists.features[:, FEATURES.index("query_product")]
    for number, name in enumerate(lists.queries):
        found = marks[lists.place(number)]
        assert set(found[found > 0].tolist()) <= {np.log(np.float32(fold_of(name) + 2))}
    assert marks.any()


LATER = 1.78e9


@pytest.fixture(scope="module")
def preferring_root(demo_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copied = Path(shutil.copytree(demo_index, tmp_path_factory.mktemp("tasteful") / "store"))
    (copied / "training").mkdir()
    return copied


@pytest.fixture(scope="module")
def snapshot(preferring_root: Path) -> Iterator[Snapshot]:
    store = Store(preferring_root)
    with closing(Connection(store)) as connection:
        yield open_snapshot(store, connection)


@pytest.fixture(scope="module")
def preferring(snapshot: Snapshot) -> SimulatedClicks:
    return simulate_clicks(snapshot, preferences=True)


@pytest.fixture(scope="module")
def preferring_training(preferring_root: Path, snapshot: Snapshot, preferring: SimulatedClicks) -> ClickTraining:
    return _trained(preferring_root, snapshot, preferring, QUICK)


def _trained(root: Path, snapshot: Snapshot, learned: SimulatedClicks, options: ClickRankerOptions) -> ClickTraining:
    return click_ranker(
        snapshot, learned.lists, root / "training", root, options, LATER, NullProgress(), acts=learned.acts
    )


def second_phase(
    snapshot: Snapshot, lists: pl.DataFrame, acts: pl.DataFrame | None, run: Path, options: ClickRankerOptions = QUICK
) -> HistoryResult:
    made = build_training_set(snapshot, lists, None, options, LATER, NullProgress())
    shape = NetworkShape(made.data.data.states.dimension, 0, len(FEATURES), layers=0, history=0)
    torch.manual_seed(0)
    chosen = TrainedNetwork("debiased", RankerNetwork(shape), (), Mixing((1.0, 0.0, 0.0), 0.0, 0.0))
    return train_history_phase(made, chosen, acts, None, run, NullProgress())


def test_preferences_are_learned_stored_and_reported(preferring_training: ClickTraining) -> None:
    made = preferring_training.added.model
    assert OnnxRanker(made).reads_history
    gained = [made.report.measures[f"MRR gained by histories{end}"] for end in (", at least", "", ", at most")]
    assert 0 < gained[0] < gained[1] < gained[2]
    sentence = made.spec.trained_on["histories"]
    assert str(sentence).endswith("shoppers): kept")
    assert "displays with a history; MRR +0." in str(sentence)
    network = load_network(made.folder / WEIGHTS_FILE)
    assert network.shape.history == 32
    assert network.shape.vector_dimension == made.spec.vector_dimension
    assert preferring_training.network.network.history is None


def test_training_resumes_from_the_served_attention(
    preferring_root: Path, snapshot: Snapshot, preferring: SimulatedClicks, preferring_training: ClickTraining
) -> None:
    before = preferring_training.added.model
    assert ranker_store(preferring_root).add(copy_of(before.folder), before.spec, REPORT).serves
    options = dataclasses.replace(QUICK, histories=HistoryOptions(loop=LoopOptions(epochs=0)))
    again = _trained(preferring_root, snapshot, preferring, options)
    served, made = (load_network(each.folder / WEIGHTS_FILE) for each in (before, again.added.model))
    assert again.added.model.spec.parent == before.spec.identity
    assert served.history is not None
    assert made.history is not None
    weights = made.history.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in served.history.state_dict().items())


def test_random_history_is_not_used(snapshot: Snapshot, tmp_path: Path) -> None:
    chance = simulate_clicks(snapshot, preferences=False)
    found = second_phase(snapshot, chance.lists, chance.acts, tmp_path)
    assert found.attention is None
    assert found.gain is not None
    assert found.gain.low <= 0
    assert found.summary.endswith("no significant gain, left out")


def test_too_little_data_trains_no_history(snapshot: Snapshot, preferring: SimulatedClicks, tmp_path: Path) -> None:
    few = preferring.acts.filter(pl.col("shopper").is_in([f"u{number}" for number in range(15)]))
    found = second_phase(snapshot, preferring.lists, few, tmp_path)
    assert "displays with a history, 200 are needed: left out" in found.summary
    options = dataclasses.replace(QUICK, validating=2)
    found = second_phase(snapshot, preferring.lists, preferring.acts, tmp_path, options)
    assert "shoppers for validation and test, 40 are needed: left out" in found.summary
    assert list(tmp_path.iterdir()) == []


def test_events_without_shoppers_train_no_history(
    snapshot: Snapshot, preferring: SimulatedClicks, tmp_path: Path
) -> None:
    for lists, acts in ((preferring.lists, None), (preferring.lists.drop("shopper"), preferring.acts)):
        assert second_phase(snapshot, lists, acts, tmp_path).summary == "no known shoppers: left out"


ROWS = {"a": 4, "b": 7, "c": 9}
LISTS = CandidateLists(
    ("mug", "pan"),
    np.array([0, 2, 4]),
    np.array([4, 7, 9, 4]),
    np.zeros((4, len(FEATURES)), np.float32),
    np.zeros(4, np.float32),
)


def shown(*answers: tuple[str, str, int, str], clicked: str = "b") -> pl.DataFrame:
    rows = [
        (kind, answer, query, product, position, START + timedelta(minutes=minute + later), shopper)
        for answer, query, minute, shopper in answers
        for position, product in enumerate("abc", 1)
        for kind, later in (("impression", 0), ("click", 1))
        if kind == "impression" or product == clicked
    ]
    names = ("kind", "query_id", "query", "product_id", "position", "time", "shopper")
    events = pl.DataFrame(rows, schema=names, orient="row").with_columns(pl.col("position").cast(pl.Int32))
    return events.sort("time", "query_id", "position")


def acts(*done: tuple[str, str, str, int]) -> pl.DataFrame:
    rows = [(shopper, product, kind, START + timedelta(minutes=minute)) for shopper, product, kind, minute in done]
    schema = pl.Schema(
        {"shopper": pl.String(), "product_id": pl.String(), "kind": pl.String(), "time": pl.Datetime("ms")}
    )
    return pl.DataFrame(rows, schema=schema, orient="row")


def found(lists: pl.DataFrame, done: pl.DataFrame) -> tuple[ShopperDisplays, list[list[tuple[int, str]]]]:
    shoppers = KnownShoppers.of(done, ROWS.get)
    displays = find_displays(lists, shown_lists(lists, 5), shoppers, LISTS, ROWS.get).informative()
    past = shoppers.past
    simulate_clicks = [
        [(int(past.rows[at]), ACT_KINDS[past.kinds[at]]) for at in range(first, behind)]
        for first, behind in zip(displays.first.tolist(), displays.behind.tolist(), strict=True)
    ]
    return displays, simulate_clicks


def test_display_refers_to_candidates_and_earlier_acts() -> None:
    done = acts(("u", "a", "consultation", 1), ("u", "c", "cart", 2), ("v", "b", "click", 0), ("u", "b", "click", 6))
    displays, histories = found(shown(("q1", "pan", 5, "u"), clicked="a"), done)
    assert histories == [[(4, "consultation"), (9, "cart")]]
    # Among the pan's candidates c is first, then a; b is not one.
    assert displays.places.tolist() == [[3, -1, 2, -1, -1]]


def test_only_acts_before_the_list_count() -> None:
    lists = shown(("q1", "mug", 5, "u"), ("q2", "mug", 20, "u"))
    before = acts(("u", "a", "click", 4), ("u", "b", "click", 6))
    later = acts(("u", "c", "purchase", 5), ("u", "c", "cart", 20), ("u", "c", "cart", 30), ("w", "c", "click", 1))
    _, histories = found(lists, before)
    assert histories == [[(4, "click")], [(4, "click"), (7, "click")]]
    _, with_later = found(lists, pl.concat([later, before]))
    assert with_later[0] == histories[0]
    assert with_later[1] == [(4, "click"), (9, "purchase"), (7, "click")]


def test_removed_queries_and_products_are_left_out() -> None:
    done = acts(("u", "gone", "click", 0), ("u", "a", "rating", 1), ("u", "b", "click", 2))
    _, histories = found(shown(("q1", "mug", 5, "u"), ("q2", "kettle", 6, "u")), done)
    assert histories == [[(7, "click")]]


CHANCES = np.array([1.0, 0.5, 0.25])
GONE = "gone-from-the-catalog"


def shown_rows(
    number: int, query: str, products: Sequence[str], acts: Sequence[tuple[str, str]]
) -> list[dict[str, object]]:
    common = {"query_id": f"q{number}", "query": query, "time": START + timedelta(minutes=number), "shopper": ""}
    impressions = [
        {**common, "kind": "impression", "product_id": each, "position": at} for at, each in enumerate(products, 1)
    ]
    return impressions + [{**common, "kind": kind, "product_id": each, "position": None} for kind, each in acts]


@pytest.fixture
def candidates(engine: SearchEngine) -> list[str]:
    return [hit.product.id for hit in engine.search("steel pan", size=20, stage="merged").hits]


def tried(engine: SearchEngine, rows: list[dict[str, object]], queries: int = 10) -> ClickTrial:
    return build_trial(engine.snapshot, pl.DataFrame(rows), CHANCES, TrialOptions(0.0, depth=20, queries=queries))


def test_acts_are_weighted_by_inverse_propensity(engine: SearchEngine, candidates: list[str]) -> None:
    first, second, third = candidates[:3]
    rows = [
        *shown_rows(1, "steel pan", (first, second, third), [("click", second), ("cart", second)]),
        *shown_rows(2, "steel pan", (first, GONE), [("click", GONE)]),
        *shown_rows(3, "drill", (GONE,), []),
    ]
    made = tried(engine, rows)
    assert made.traffic.tolist() == [1.0, 2.0]
    pan = made.data.lists.queries.index("steel pan")
    place = made.data.lists.place(pan)
    ids = [engine.snapshot.products.id_of(row) for row in made.data.lists.rows[place].tolist()]
    gains = dict(zip(ids, made.data.targets[place].tolist(), strict=True))
    # A click counts 1 and a cart 3, at a position half as often examined; the prior is the mean of both queries.
    prior = 2 * (1 + 3 + 1) / ((1 + 0.5 + 0.25) + (1 + 0.5) + 1)
    expected = {first: prior / (1 + 1 + 2), second: (1 + 3 + prior) / (0.5 + 2), third: prior / (0.25 + 2)}
    assert gains == pytest.approx(expected)
    assert [name for name, is_chosen in zip(ids, made.is_chosen[place].tolist(), strict=True) if is_chosen] == [second]
    assert made.numbers.tolist() == [pan]


def test_removed_products_are_dropped_from_the_lists(engine: SearchEngine, candidates: list[str]) -> None:
    rows = shown_rows(1, "steel pan", (GONE, candidates[0]), [("click", GONE), ("click", candidates[0])])
    made = tried(engine, rows)
    assert made.log.shown.tolist() == [[False, True, False]]
    assert made.log.clicks.tolist() == [[False, True, False]]
    assert made.query_of_list.tolist() == [0]
    scores = np.arange(len(made.data.lists.rows), dtype=float)
    at = made.data.lists.rows.tolist().index(engine.snapshot.products.row_of(candidates[0]))
    assert made.shown_scores(scores)[0, 1] == at


def test_most_frequent_queries_are_evaluated(engine: SearchEngine, candidates: list[str]) -> None:
    rows = [row for number in range(3) for row in shown_rows(number, "steel pan", candidates[:2], [])]
    rows += shown_rows(9, "drill", candidates[:2], [])
    made = tried(engine, rows, queries=1)
    assert made.data.lists.queries == ("steel pan",)
    assert (made.traffic.tolist(), made.query_of_list.tolist()) == ([3.0], [0, 0, 0])
    assert made.numbers.tolist() == []


def test_scale_of_scores_may_differ_between_languages(engine: SearchEngine) -> None:
    rows: list[dict[str, object]] = []
    for query in ("steel pan", "背包"):
        found = [hit.product.id for hit in engine.search(query, size=3, stage="merged").hits]
        rows += [
            row for number in range(5) for row in shown_rows(len(rows) + number, query, found, [("click", found[0])])
        ]
    trial = tried(engine, rows)
    assert set(trial.languages.tolist()) == {"en", "zh"}
    gate = ClickGate(engine.snapshot, trial, trial, ClickLikelihood.fit(trial.log), (), ())
    scores = np.random.default_rng(1).normal(size=len(trial.data.lists.rows))
    is_chinese = trial.languages[trial.data.lists.query_of] == "zh"
    plain, scaled = (
        gate.measures(lambda _trial, each=each: each)  # type: ignore[misc]
        for each in (scores, np.where(is_chinese, 10 * scores + 3, scores))
    )
    assert scaled[LIKELIHOOD] == pytest.approx(plain[LIKELIHOOD], abs=1e-3)
