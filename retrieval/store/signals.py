"""What a store knows of its products whatever the query: price, ratings, age, availability, in columns by row.

A keyword index holds these too, but for filters: it gives them for all matches of a query, not for a hundred rows.
"""

from __future__ import annotations

import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from retrieval.errors import StoreDamagedError
from retrieval.records import Availability, Product

SIGNALS_FILE = "signals.npy"
COLUMNS = ("price", "rating", "rating_count", "created", "availability")
_SECONDS_A_DAY = 86_400.0

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SignalColumns:
    """What is known of c products, each (c,); NaN for unknown."""

    price: Floats
    """As the feed has it, in the product's own currency."""
    rating: Floats
    """Mean rating, 0 to 5."""
    rating_count: Floats
    created: Floats
    """Days since 1970."""
    availability: Floats
    """1 where a shopper can have it now, -1 where not."""


class ProductSignals(Protocol):
    """The signals of a snapshot's products. Read-only; may be asked from many threads at once."""

    def at(self, rows: Rows) -> SignalColumns:
        """Those of the products at `rows` (c,), in their order."""
        ...


def signal_row(product: Product) -> Floats:
    """The signals of one product (5,), in the order of COLUMNS."""
    known = _Signals(product.price, product.rating, product.rating_count, product.created, product.availability)
    return _table([known]).reshape(-1)


def columns_of(table: Floats) -> SignalColumns:
    """A table of signals (c, 5) as columns."""
    return SignalColumns(*(np.ascontiguousarray(column) for column in table.T))


class SignalsWriter:
    """Writes the signals of products, which come in the order of their rows; memory holds none of them."""

    def __init__(self, folder: Path) -> None:
        self._file = GrowingArray(folder / SIGNALS_FILE, np.dtype(np.float32), len(COLUMNS))

    def add(self, lines: Iterable[bytes]) -> None:
        """Takes the next products, as `retrieval.store.products` writes them."""
        self._file.add(_table([_decode(line) for line in lines]))

    def finish(self) -> None:
        """Ends the file."""
        self._file.close()


class StoredSignals:
    """The signals of a version, memory-mapped. One that an older program built has none: then all are unknown."""

    def __init__(self, folder: Path, products: int) -> None:
        """Raises StoreDamagedError for a file that is not of so many products."""
        path, shape = folder / SIGNALS_FILE, (products, len(COLUMNS))
        self.are_known = path.exists()
        self._table: Floats = load_array(path, mapped=True) if self.are_known else np.broadcast_to(_UNKNOWN, shape)
        if self._table.shape != shape or self._table.dtype != np.float32:
            message = f"{path} holds {self._table.dtype}{self._table.shape}, not float32{shape}; rebuild the index"
            raise StoreDamagedError(message)

    def at(self, rows: Rows) -> SignalColumns:
        """See `ProductSignals`."""
        return columns_of(self._table[rows])


_UNKNOWN = np.full(len(COLUMNS), np.nan, np.float32)


class _Signals(msgspec.Struct, frozen=True):
    """The fields of a stored product that are signals."""

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
    # What is too large for a float is no price.
    with np.errstate(over="ignore"):
        table = np.array(rows, np.float64).astype(np.float32).reshape(len(rows), len(COLUMNS))
    table[~np.isfinite(table)] = np.nan
    return table


def _days(time: datetime | None) -> float | None:
    if time is None:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() / _SECONDS_A_DAY


# Arrays on disk: reading one back, or saying that it is damaged; writing one whose length is not known yet.


def load_array(path: Path, *, mapped: bool = False) -> NDArray[Any]:
    """The array that numpy saved at `path`, read or mapped; raises StoreDamagedError for anything else."""
    try:
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError, EOFError, TypeError, SyntaxError, tokenize.TokenError) as error:
        # numpy reads a header as Python source and lets that parser's errors through.
        raise StoreDamagedError(f"{path} cannot be read ({error}); rebuild the index") from error
    # A plain view of the mapped file: numpy's own memmap class makes every look-up slower.
    return np.asarray(array)


class GrowingArray:
    """An array on disk that rows are added to, as numpy saves one. How many they are is written into its header in the
    end, for which numpy leaves room."""

    def __init__(self, path: Path, dtype: np.dtype[Any], columns: int | None = None) -> None:
        """`columns` is the length of a row; None makes an array of numbers."""
        self._file = path.open("wb")
        self._dtype = dtype
        self._row = () if columns is None else (columns,)
        self._count = 0
        self._write_header()
        self._begin = self._file.tell()

    def add(self, rows: NDArray[Any]) -> None:
        """Adds rows; raises ValueError for those of another shape or kind."""
        if rows.shape[1:] != self._row or rows.dtype != self._dtype:
            takes = f"{self._dtype} rows of shape {self._row}"
            raise ValueError(f"{self._file.name} takes {takes}, not {rows.dtype}{rows.shape}")
        self._file.write(np.ascontiguousarray(rows).data)
        self._count += len(rows)

    def close(self) -> None:
        """Ends the file."""
        self._file.seek(0)
        self._write_header()
        if self._file.tell() != self._begin:
            raise ValueError(f"{self._file.name} holds more rows than its header has room for")
        self._file.close()

    def _write_header(self) -> None:
        described = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._count, *self._row)}
        np.lib.format.write_array_header_1_0(self._file, described)
