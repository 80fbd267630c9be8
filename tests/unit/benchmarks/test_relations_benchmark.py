"""The measure of complements and substitutes, and next products."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
import scipy

from shelfwise.benchmarks.relations import RelationStrengths, area, choose_weights, next_products
from shelfwise.retrieval.errors import InputError
from tests.unit.rerank.sessions.derived_log import NOW


def test_area_is_the_share_of_pairs_in_order() -> None:
    labels = np.array([True, True, False, False])
    assert area(np.array([4.0, 3.0, 2.0, 1.0]), labels) == 1
    assert area(np.array([1.0, 1.0, 1.0, 1.0]), labels) == 0.5
    # Three of four pairs are in order.
    assert area(np.array([4.0, 2.0, 3.0, 1.0]), labels) == 3 / 4
    with pytest.raises(InputError, match="no pairs of both kinds"):
        area(np.array([1.0]), np.array([True]))


def test_features_are_the_strongest_relation_and_the_sum() -> None:
    nothing = scipy.sparse.csr_matrix((3, 3))
    instead = scipy.sparse.csr_matrix(np.array([[0, 0.5, 0.25], [0, 0, 0.75], [0, 0, 0]]))
    found = RelationStrengths((nothing, instead, nothing)).features({0: 1.0, 1: 0.5})
    assert found.shape == (6, 3)
    assert found[2].tolist() == [0, 0.5, 0.5 * 0.75]
    assert found[3].tolist() == [0, 0.5, 0.25 + 0.5 * 0.75]
    assert not found[[0, 1, 4, 5]].any()
    # Only the sum of substitutes helps: the other weights stay 0.
    assert choose_weights(lambda weights: -abs(float(weights[3]) - 2.0)).tolist() == [0, 0, 0, 2, 0, 0]


def test_next_products_come_within_half_an_hour() -> None:
    times = [NOW, NOW + timedelta(minutes=1), NOW + timedelta(minutes=29), NOW + timedelta(minutes=70)]
    acts = pl.DataFrame({"shopper": ["u"] * 4, "product_id": ["a", "a", "b", "c"], "time": times})
    assert next_products(acts, acts).rows() == [("u", "a", "b"), ("u", "a", "b")]
