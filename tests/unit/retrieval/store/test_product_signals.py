from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from retrieval.errors import StoreDamagedError
from retrieval.records import Availability, Product
from retrieval.store.products import product_to_json
from retrieval.store.signals import SIGNALS_FILE, SignalsWriter, StoredSignals, signal_row

PRODUCTS = (
    Product("a", "drill", price=99.5, currency="EUR", rating=4.5, rating_count=12, availability=Availability.IN_STOCK),
    Product("b", "hose"),
    Product("c", "lamp", created=datetime(1970, 1, 3, 12, tzinfo=UTC), availability=Availability.OUT_OF_STOCK),
    Product("d", "pan", price=1e300, created=datetime(1970, 1, 2)),
    Product("e", "tent", created=datetime(1970, 1, 2, 1, tzinfo=timezone(timedelta(hours=1)))),
    Product("f", "sofa", availability=Availability.PREORDER, rating=0.0, rating_count=0, price=0.0),
)


def stored(folder: Path, *, pieces: int = 2) -> StoredSignals:
    writer = SignalsWriter(folder)
    for start in range(0, len(PRODUCTS), pieces):
        writer.add(product_to_json(product) for product in PRODUCTS[start : start + pieces])
    writer.finish()
    return StoredSignals(folder, len(PRODUCTS))


def test_signals_come_back_by_row_and_unknown_ones_are_nan(tmp_path: Path) -> None:
    nan = float("nan")
    told = stored(tmp_path).at(np.array([5, 0, 1, 2, 3, 4]))
    expected = {
        "price": [0, 99.5, nan, nan, nan, nan],
        "rating": [0, 4.5, nan, nan, nan, nan],
        "rating_count": [0, 12, nan, nan, nan, nan],
        "created": [nan, nan, nan, 2.5, 1, 1],
        "availability": [-1, 1, nan, -1, nan, nan],
    }
    for name, values in expected.items():
        assert np.array_equal(getattr(told, name), np.array(values, np.float32), equal_nan=True), name


def test_a_product_has_the_signals_that_are_stored_of_it(tmp_path: Path) -> None:
    stored(tmp_path, pieces=6)
    rows = np.array([signal_row(product) for product in PRODUCTS])
    assert np.array_equal(np.load(tmp_path / SIGNALS_FILE), rows, equal_nan=True)


@pytest.mark.parametrize("damage", ["short", "other"])
def test_damage_is_told_by_the_file(tmp_path: Path, damage: str) -> None:
    stored(tmp_path)
    path = tmp_path / SIGNALS_FILE
    if damage == "short":
        path.write_bytes(path.read_bytes()[:-4])
    else:
        np.save(path, np.zeros((6, 4), np.float32))
    with pytest.raises(StoreDamagedError, match=rf"{SIGNALS_FILE}.*rebuild the index"):
        StoredSignals(tmp_path, len(PRODUCTS))


def test_signals_of_another_number_of_products_are_refused(tmp_path: Path) -> None:
    stored(tmp_path)
    with pytest.raises(StoreDamagedError, match=SIGNALS_FILE):
        StoredSignals(tmp_path, 7)
