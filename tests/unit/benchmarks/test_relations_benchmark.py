"""The measure of complements and substitutes."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.relations import area
from retrieval.errors import InputError


def test_area_is_the_share_of_pairs_in_order() -> None:
    labels = np.array([True, True, False, False])
    assert area(np.array([4.0, 3.0, 2.0, 1.0]), labels) == 1
    assert area(np.array([1.0, 1.0, 1.0, 1.0]), labels) == 0.5
    # Of four pairs three are in order.
    assert area(np.array([4.0, 2.0, 3.0, 1.0]), labels) == 3 / 4
    with pytest.raises(InputError, match="no pairs of both kinds"):
        area(np.array([1.0]), np.array([True]))
