"""Inverse propensity weighting, written out."""

from __future__ import annotations

import numpy as np
import pytest

from rerank.training.losses import propensities, unbiased_gains


def test_what_is_seldom_looked_at_counts_as_the_least_propensity() -> None:
    assert propensities(np.array([1.0, 0.4, 0.01, np.nan]), 0.1).tolist() == [1.0, 0.4, 0.1, 0.1]


def test_an_act_counts_by_the_inverse_of_its_positions_propensity() -> None:
    pairs = np.array([[0, 1], [1, 0], [0, -1]], np.int32)
    acts = np.zeros((3, 2, 3), np.bool_)
    acts[0, 1, 0] = acts[1, 0, 0] = acts[1, 0, 1] = acts[2, 0, 0] = True
    gains = unbiased_gains(pairs, acts, np.array([1.0, 0.25]), np.array([1.0, 3.0, 5.0]), 3)
    # Pair 0 was shown three times and clicked once, first; pair 1 twice: clicked second, and clicked and carted first.
    assert gains.tolist() == pytest.approx([1 / 3, (1 / 0.25 + 1 + 3) / 2, 0.0])
