"""Losses by plain arithmetic: masks, corrections and weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from shelfwise.rerank.text_towers.model import TextTower, open_text_tower
from shelfwise.rerank.text_towers.task import NegativeOptions
from shelfwise.rerank.text_towers.text_tower_training import build_pools, draw_negatives, nearest, window
from shelfwise.rerank.text_towers.tower_loss import Examples, LossOptions, TowerLoss
from shelfwise.retrieval.encoders.base import unit_rows
from shelfwise.retrieval.encoders.weights import ModelSource
from tests.unit.rerank.text_towers.tiny_towers import PRODUCTS, make_encoder, random_retrieval, shop

pytestmark = pytest.mark.usefixtures("one_thread")

QUERIES = ["red bulb", "blue tap", "green rug", "black mug"]
POSITIVES = ["red lamp small", "blue faucet large", "green carpet small", "black cup large"]
NEGATIVES = ["blue lamp small", "red faucet small", "red lamp small", "white boot large"]
ROWS = torch.tensor([[1, 2], [5, 6], [9, 1], [13, 14]])
TAU = 0.1
PLAIN = LossOptions(temperature=TAU, correct=False)


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> TextTower:
    folder = make_encoder(tmp_path_factory.mktemp("losses") / "tiny", dropout=0.0)
    return open_text_tower(ModelSource("tiny", folder), 16, device="cpu")


def examples(**values: Any) -> Examples:  # noqa: ANN401 - whatever a field holds
    made = Examples(torch.arange(4), ROWS, ROWS, torch.ones(4), torch.log(torch.full((4, 2), 1 / 7)))
    return replace(made, **values)


def loss_of(tower: TextTower, options: LossOptions, made: Examples, positives: tuple[int, ...] = ()) -> float:
    return _loss(tower, options, made, positives).item()


def _loss(tower: TextTower, options: LossOptions, made: Examples, positives: tuple[int, ...] = ()) -> torch.Tensor:
    keys = torch.tensor(sorted({0 * 20 + 1, 1 * 20 + 5, 2 * 20 + 9, 3 * 20 + 13, *positives}))
    loss = TowerLoss(tower.model, options, keys, 20)
    loss.examples = made
    features = [tower.model.preprocess(texts) for texts in (QUERIES, POSITIVES, NEGATIVES)]
    result: torch.Tensor = loss(features, torch.arange(4))
    return result


def cosines(tower: TextTower, columns: int | None = None) -> np.ndarray[Any, Any]:
    texts = (tower.encode_queries(QUERIES), tower.encode_products([*POSITIVES, *NEGATIVES]))
    queries, products = (unit_rows(vectors[:, :columns]) for vectors in texts)
    return np.asarray(queries @ products.T)


def by_hand(
    tower: TextTower,
    left_out: Callable[[int, int], bool],
    shift: float | np.ndarray[Any, Any] = 0.0,
    columns: int | None = None,
) -> list[float]:
    logits = cosines(tower, columns) / TAU - shift
    return [
        -math.log(
            math.exp(logits[row, row])
            / sum(math.exp(logits[row, at]) for at in range(8) if at == row or not left_out(row, at))
        )
        for row in range(4)
    ]


def repeated(_row: int, at: int) -> bool:
    return (_row, at) == (0, 6)


def test_softmax_is_over_the_batch_without_known_positives(tower: TextTower) -> None:
    assert loss_of(tower, PLAIN, examples()) == pytest.approx(np.mean(by_hand(tower, repeated)), rel=1e-4)


def test_another_positive_of_the_query_is_masked(tower: TextTower) -> None:
    known = loss_of(tower, PLAIN, examples(), positives=(3 * 20 + 9,))
    expected = by_hand(tower, lambda row, at: repeated(row, at) or (row, at) == (3, 2))
    assert known == pytest.approx(np.mean(expected), rel=1e-4)


def test_a_product_with_the_positives_title_is_masked(tower: TextTower) -> None:
    titles = ROWS.clone()
    titles[1, 1] = titles[3, 0]
    expected = by_hand(tower, lambda row, at: repeated(row, at) or (row, at) == (3, 5))
    assert loss_of(tower, PLAIN, examples(titles=titles)) == pytest.approx(np.mean(expected), rel=1e-4)


def test_sampling_frequency_is_corrected(tower: TextTower) -> None:
    log_q = torch.log(torch.tensor([[0.3, 0.1], [0.1, 0.1], [0.1, 0.3], [0.1, 0.1]]))
    shift = log_q.T.reshape(-1).numpy()
    found = loss_of(tower, replace(PLAIN, correct=True), examples(log_q=log_q))
    assert found == pytest.approx(np.mean(by_hand(tower, repeated, shift)), rel=1e-4)


def test_margin_is_subtracted_from_the_positive_only(tower: TextTower) -> None:
    shift = np.zeros((4, 8))
    shift[np.arange(4), np.arange(4)] = 0.15 / TAU
    found = loss_of(tower, replace(PLAIN, margin=0.15), examples())
    assert found == pytest.approx(np.mean(by_hand(tower, repeated, shift)), rel=1e-4)


def test_truncated_vectors_have_equal_weight(tower: TextTower) -> None:
    expected = np.mean([by_hand(tower, repeated, columns=columns) for columns in (None, 16, 4)])
    found = loss_of(tower, replace(PLAIN, dimensions=(16, 4)), examples())
    assert found == pytest.approx(expected, rel=1e-4)


def test_weights_are_normalised(tower: TextTower) -> None:
    weights = torch.tensor([1.0, 0.5, 0.0, 0.25])
    expected = np.average(by_hand(tower, repeated), weights=weights.numpy())
    assert loss_of(tower, PLAIN, examples(weights=weights)) == pytest.approx(expected, rel=1e-4)


def test_pointwise_loss_is_the_cross_entropy_of_each_pair(tower: TextTower) -> None:
    logits = cosines(tower) / TAU - 0.5 / TAU
    each = [
        sum(
            math.log1p(math.exp(-logits[row, at] if row == at else logits[row, at]))
            for at in range(8)
            if not repeated(row, at)
        )
        for row in range(4)
    ]
    assert loss_of(tower, replace(PLAIN, name="pointwise"), examples()) == pytest.approx(np.mean(each), rel=1e-4)


@pytest.mark.parametrize("name", ["softmax", "pointwise"])
def test_cached_gradients_equal_full_batch_gradients(tower: TextTower, name: Any) -> None:  # noqa: ANN401
    found = []
    for options in (replace(PLAIN, name=name, cached=False), replace(PLAIN, name=name, chunk=3)):
        tower.model.zero_grad()
        _loss(tower, options, examples()).backward()  # type: ignore[no-untyped-call]
        gradients = [weight.grad.reshape(-1) for weight in tower.model.parameters() if weight.grad is not None]
        found.append(torch.cat(gradients))
    assert found[0].abs().max() > 0
    assert torch.allclose(found[0], found[1], atol=1e-5)


def test_a_window_counts_ranks_from_1_and_takes_the_lower_half_of_a_short_list() -> None:
    ranked = np.arange(600)
    assert window(ranked, 101, 500).tolist() == list(range(100, 500))
    assert window(ranked[:40], 101, 500).tolist() == list(range(20, 40))
    assert window(ranked[:0], 101, 500).tolist() == []


def test_negatives_are_no_positives_and_mostly_retrieved() -> None:
    made, found = shop(), random_retrieval()
    training = made.training.tolist()
    rankings = [[window(ranking[n], 20, 60) for n in training] for ranking in (found.words, found.vectors)]
    mined = build_pools(made, rankings)
    pairs = np.flatnonzero(made.is_positive & np.isin(made.query_of, made.training))
    negatives = draw_negatives(made, pairs, mined, NegativeOptions(3), len(PRODUCTS), np.random.default_rng(4))
    assert negatives.shape == (len(pairs), 3)
    positives = set(zip(made.query_of[made.is_positive].tolist(), made.rows[made.is_positive].tolist(), strict=True))
    known = set(zip(made.query_of.tolist(), made.rows.tolist(), strict=True)) - positives
    judged = 0
    for query, rows in zip(made.query_of[pairs].tolist(), negatives.tolist(), strict=True):
        for row in rows:
            assert (query, row) not in positives
            judged += (query, row) in known
            near = {*rankings[0][query].tolist(), *rankings[1][query].tolist()}
            assert row in near or (query, row) in known
    assert judged > len(pairs) / 3
    again = draw_negatives(made, pairs, mined, NegativeOptions(3), len(PRODUCTS), np.random.default_rng(4))
    assert (negatives == again).all()


def test_random_negatives_replace_missing_retrieved_ones() -> None:
    made = shop()
    empty = [[np.empty(0, np.int64)] * len(made.training)]
    pairs = np.flatnonzero(made.is_positive & np.isin(made.query_of, made.training))[:20]
    pools, rng = build_pools(made, empty), np.random.default_rng(4)
    negatives = draw_negatives(made, pairs, pools, NegativeOptions(4), len(PRODUCTS), rng)
    assert negatives.shape == (20, 4)
    keys = made.query_of[made.is_positive] * len(PRODUCTS) + made.rows[made.is_positive]
    assert not np.isin(made.query_of[pairs][:, None] * len(PRODUCTS) + negatives, keys).any()


def test_nearest_equals_a_full_sort() -> None:
    rng = np.random.default_rng(2)
    queries, products = (rng.standard_normal((n, 8)).astype(np.float32) for n in (300, 50))
    rows = np.sort(rng.choice(1_000, 50, replace=False))
    expected = rows[np.argsort(-(queries @ products.T), axis=1, kind="stable")[:, :12]]
    assert np.array_equal(np.stack(nearest(queries, products, rows, 12)), expected)
    assert len(nearest(queries, products, rows, 500)[0]) == 50
