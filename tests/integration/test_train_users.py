"""`shelfwise train users` from a store's events to a tower that serves or is rejected."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from shelfwise.rerank.evaluation.promotion import NDCG
from shelfwise.rerank.model_card import ModelReport
from shelfwise.rerank.model_store import ModelStore, ServingModel
from shelfwise.rerank.user_tower.files import ProductTable, StoredUserTower, user_tower_store
from shelfwise.rerank.user_tower.held_out_acts import split_by_time
from shelfwise.rerank.user_tower.histories import Histories
from shelfwise.retrieval.errors import ModelDamagedError
from shelfwise.retrieval.progress import NullProgress
from shelfwise.service.cli.main import app
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.settings import EventsSettings, Settings
from shelfwise.service.training.training_session import TRAINING_FOLDER
from shelfwise.service.training.user_tower import (
    HIT_RATE,
    NEAR,
    POPULAR,
    POPULAR_THERE,
    SERVING,
    TowerGate,
    shopper_acts,
    train_users,
)
from tests.unit.rerank.user_tower.small_stores import EACH, KINDS, TINY, catalog, shoppers

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = Settings(backend="embedded", events=EventsSettings(minimum_shoppers=2))
OPTIONS = replace(TINY, epochs=3, refit=False)


@pytest.fixture
def root(eventful_store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(eventful_store, tmp_path / "store"))


def test_user_tower_is_trained_evaluated_and_stored(root: Path) -> None:
    done = CliRunner().invoke(app, ["train", "users", str(root), "--epochs", "3", "--json"])
    assert done.exit_code == 0, done.output
    text = msgspec.json.decode(done.stdout)
    report = msgspec.convert(text["report"], ModelReport)
    methods = ("", *(f" of {name}" for name in (NEAR, POPULAR_THERE, POPULAR)))
    assert [*report.measures] == [f"{measure}{name}" for name in methods for measure in (NDCG, HIT_RATE)]
    whole, *slices = report.comparisons
    assert whole.queries >= 50
    assert whole.difference is not None
    assert text["serves"] == (whole.difference.low > 0) == (not report.rejection_reasons)
    assert {"shoppers of 1 act", "chosen 1 to 10 times"} <= {each.slice for each in slices}
    assert not list((root / TRAINING_FOLDER).glob("users-*"))
    with SearchEngine.open(root, follow=False) as engine:
        assert engine.recommender.user_tower == (text["tower"] if text["serves"] else "")


def test_acts_on_removed_products_are_ignored_and_views_merged() -> None:
    acts = pl.DataFrame(
        {
            "shopper": ["b", "b", "b", "b", "b", "a", "a"],
            "product_id": ["x", "x", "gone", "y", "y", "y", "x"],
            "kind": ["click", "purchase", "click", "cart", "click", "click", "consultation"],
            "time": pl.Series([1_000, 2_000, 3_000, 4_000, 1_805_000, 9_000, 8_000]).cast(pl.Datetime("ms", "UTC")),
        }
    )
    made = shopper_acts(acts, {"x": 0, "y": 1}.get)
    assert made.gone == 1
    assert made.histories.starts.tolist() == [0, 2, 5]
    assert made.histories.products.tolist() == [0, 1, 0, 1, 1]
    assert made.histories.kinds.tolist() == [0, 1, 3, 2, 1]
    assert made.histories.times.tolist() == [8.0, 9.0, 2.0, 4.0, 1_805.0]
    assert "1 on products that no longer exist" in str(made)


@pytest.mark.slow
def test_unusable_serving_tower_does_not_block_promotion(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train_users(root, SETTINGS, replace(OPTIONS, epochs=1), NullProgress()).tower
    registry = user_tower_store(root)
    monkeypatch.setattr(ModelStore, "serving", lambda *_: ServingModel(first))
    assert int(first.spec.trained_on["until"]) > 0

    def unreadable(_tower: StoredUserTower) -> ProductTable:
        raise ModelDamagedError("its table is short")

    monkeypatch.setattr("shelfwise.service.training.user_tower.read_table", unreadable)
    again = train_users(root, SETTINGS, replace(OPTIONS, epochs=1), NullProgress()).tower
    assert again.name in registry.names()
    assert again.report.against != SERVING


@pytest.fixture(scope="module")
def gate() -> Iterator[TowerGate]:
    vectors, kinds = catalog()
    learning, held = split_by_time(shoppers(200), 0.2, hide_seen=True)
    yield TowerGate(vectors, kinds, learning, held)


def test_promotion_gate_publishes_a_better_tower(gate: TowerGate) -> None:
    def always_correct(histories: Histories, _now: object) -> np.ndarray[tuple[int, ...], np.dtype[np.floating]]:
        newest = histories.products[histories.starts[1:] - 1] // EACH
        return np.eye(KINDS)[(newest + 1) % KINDS][:, np.arange(KINDS * EACH) // EACH]

    def by_chance(histories: Histories, _now: object) -> np.ndarray[tuple[int, ...], np.dtype[np.floating]]:
        return np.random.default_rng(len(histories)).random((len(histories), KINDS * EACH))

    report, fallback = gate.report(always_correct, None)
    assert (report.rejection_reasons, report.against) == ((), NEAR)
    assert fallback == "near"
    worse, _ = gate.report(by_chance, always_correct)
    assert worse.against == SERVING
    assert "not surely better: nDCG@10 -" in worse.rejection_reasons[0]
    assert "not surely better" in gate.report(always_correct, always_correct)[0].rejection_reasons[0]


def test_tower_must_beat_the_better_of_popularity_and_similarity() -> None:
    random = np.random.default_rng(0)
    kinds = np.repeat(np.arange(20), 10)
    vectors = random.normal(size=(200, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    # After any products of a kind, every shopper chooses its first one.
    first = [(kind * 10 + random.integers(1, 10, 3)).tolist() for kind in random.integers(0, 20, 400).tolist()]
    histories = Histories.of([[*seen, seen[0] // 10 * 10] for seen in first])
    learning, held = split_by_time(histories, 0.1, hide_seen=True)
    known = Histories.of([[*seen, seen[0] // 10 * 10] for seen in first[:200]])
    gate = TowerGate(vectors, kinds, known, held)
    report, fallback = gate.report(gate.near, None)
    assert len(learning) == 400
    assert (fallback, report.against) == ("in-categories", POPULAR_THERE)
    assert "not surely better" in report.rejection_reasons[0]
    assert POPULAR_THERE in report.rejection_reasons[0]

    def rarely_correct(histories: Histories, _now: object) -> np.ndarray[tuple[int, ...], np.dtype[np.floating]]:
        return gate.popular_there(histories) * np.where(np.arange(len(histories)) % 2, 1, -1)[:, None]

    def never(histories: Histories, _now: object) -> np.ndarray[tuple[int, ...], np.dtype[np.floating]]:
        return -gate.popular_there(histories)

    report, _ = gate.report(rarely_correct, never)
    difference = report.comparisons[0].difference
    assert difference is not None
    assert (report.against, difference.low > 0) == (SERVING, True)
    assert report.rejection_reasons[0].startswith(f"no better than {POPULAR_THERE}: nDCG@10 -")
