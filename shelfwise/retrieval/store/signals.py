"""Signals of products that do not depend on the query: price, ratings, age, availability, in columns by row.

A keyword index has these too, but for filters: it returns them for all matches of a query, not for a hundred rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from shelfwise.retrieval.records import Availability, Product
from shelfwise.retrieval.store.files import GrowingArray, load_array

SIGNALS_FILE = "signals.npy"
COLUMNS = ("price", "rating", "rating_count", "created", "availability")
_SECONDS_A_DAY = 86_400.0

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SignalColumns:
    """The signals of c products, each (c,); NaN if unknown."""

    price: Floats
    """The price as in the feed, in the product's own currency."""
    rating: Floats
    """Mean rating, 0 to 5."""
    rating_count: Floats
    created: Floats
    """Days since 1970."""
    availability: Floats
    """1 if a shopper can have it now, -1 if not."""


def signal_row(product: Product) -> Floats:
    """The signals of one product (5,), in the order of COLUMNS."""
    known = _Signals(product.price, product.rating, product.rating_count, product.created, product.availability)
    return _table([known]).reshape(-1)


def columns_of(table: Floats) -> SignalColumns:
    """A table of signals (c, 5) as columns."""
    return SignalColumns(*(np.ascontiguousarray(column) for column in table.T))


class SignalsWriter:
    """Writes the signals of products, which must be ordered by row, without holding them in memory."""

    def __init__(self, folder: Path) -> None:
        self._file = GrowingArray(folder / SIGNALS_FILE, np.dtype(np.float32), len(COLUMNS))

    def add(self, lines: Iterable[bytes]) -> None:
        """Adds the next products, in the format of `shelfwise.retrieval.store.products`."""
        self._file.add(_table([_decode(line) for line in lines]))

    def copy(self, table: Floats) -> None:
        """Adds the next products' signals (n, 5) of another version."""
        self._file.add(table)

    def finish(self) -> None:
        """Closes the file."""
        self._file.close()


_UNKNOWN = np.full(len(COLUMNS), np.nan, np.float32)


class StoredSignals:
    """The signals of a version, memory-mapped, with changes applied over them. Read-only and thread-safe."""

    def __init__(self, folder: Path, products: int) -> None:
        """Raises StoreDamagedError if the file does not have this number of products."""
        path, shape = folder / SIGNALS_FILE, (products, len(COLUMNS))
        self.table: Floats = load_array(path, mapped=True, dtype=np.float32, shape=shape)
        """All signals (n, 5), without changes."""
        self._changes: Mapping[int, Floats] = {}
        """Values by row (5,)."""

    def with_changes(self, products: Mapping[int, Product | None]) -> StoredSignals:
        """These signals with those of more products, unknown for deleted ones."""
        changes = {row: _UNKNOWN if product is None else signal_row(product) for row, product in products.items()}
        newer = copy(self)
        newer._changes = {**self._changes, **changes}
        return newer

    def at(self, rows: Rows) -> SignalColumns:
        """The signals of the products at `rows` (c,), in order."""
        if not self._changes:
            return columns_of(self.table[rows])
        values = [self._changes.get(row, _UNKNOWN) for row in rows.tolist()]
        found = np.array(values, np.float32).reshape(-1, len(COLUMNS))
        is_stored = np.array([row < len(self.table) and row not in self._changes for row in rows.tolist()], bool)
        found[is_stored] = self.table[rows[is_stored]]
        return columns_of(found)


class _Signals(msgspec.Struct, frozen=True):
    price: float | None = None
    rating: float | None = None
    rating_count: int | None = None
    created: datetime | None = None
    availability: Availability | None = None


_decode = msgspec.json.Decoder(_Signals).decode


def _table(products: list[_Signals]) -> Floats:
    rows = [
        (
            each.price,
            each.rating,
            each.rating_count,
            _days(each.created),
            None if each.availability is None else 1 if each.availability is Availability.IN_STOCK else -1,
        )
        for each in products
    ]
    # A number that is too large for a float is not a price.
    with np.errstate(over="ignore"):
        table = np.array(rows, np.float64).astype(np.float32).reshape(len(rows), len(COLUMNS))
    table[~np.isfinite(table)] = np.nan
    return table


def _days(time: datetime | None) -> float | None:
    if time is None:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() / _SECONDS_A_DAY
