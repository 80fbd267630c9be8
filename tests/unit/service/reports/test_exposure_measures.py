"""Measures of exposure against values calculated by hand."""

from __future__ import annotations

import numpy as np
import pytest

from shelfwise.service.reports.exposure import PairExposure, attention_distance, gini, group_shares, target_by_merit


def pairs(query: list[int], group: list[int], exposure: list[float], clicks: list[float]) -> PairExposure:
    return PairExposure(np.array(query, np.int64), np.array(group, np.int64), np.array(exposure), np.array(clicks))


def test_gini() -> None:
    assert gini(np.array([1.0, 1.0, 1.0])) == pytest.approx(0)
    assert gini(np.array([0.0, 0.0, 0.0, 8.0])) == pytest.approx(3 / 4)
    assert gini(np.array([1.0, 3.0])) == pytest.approx((3 - 1) / (2 * 4))
    assert gini(np.empty(0)) == gini(np.zeros(3)) == 0


def test_attention_distance() -> None:
    assert attention_distance([0.7, 0.3], [0.5, 0.5]) == pytest.approx((0.2 + 0.2) / 2)
    assert attention_distance([1.0, 0.0], [0.0, 1.0]) == 1


def test_target_shares_each_query_by_its_rates() -> None:
    """100 examined impressions of each product: 20 and 10 clicks, shrunk by five at the mean rate of 15%."""
    merit = np.array([20 + 5 * 0.15, 10 + 5 * 0.15]) / 105
    found = target_by_merit(pairs([0, 0], [0, 1], [100, 100], [20, 10]))
    assert found == pytest.approx(200 * merit / merit.sum())
    assert target_by_merit(pairs([0, 1], [0, 1], [30, 70], [30, 0])) == pytest.approx([30, 70])


def test_groups_have_shares_and_intervals() -> None:
    """In each of forty equal queries, the better product has less exposure than the other."""
    query = np.repeat(np.arange(40), 2).tolist()
    carried = pairs(query, [0, 1] * 40, [60.0, 40.0] * 40, [6.0, 8.0] * 40)
    first, second = group_shares(carried, 2)
    assert [first.exposure, second.exposure] == pytest.approx([0.6, 0.4])
    assert first.target + second.target == pytest.approx(1)
    assert first.ratio.value == pytest.approx(0.6 / first.target)
    assert first.ratio.value > 1 > second.ratio.value
    assert first.ratio.lower == pytest.approx(first.ratio.value)
    assert group_shares(pairs([], [], [], []), 1)[0].exposure == 0
