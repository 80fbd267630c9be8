"""The products of a version on disk: one JSON line a product in the order of ids, read by row through a memory map."""

from __future__ import annotations

import bisect
import mmap
import os
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.arrays import load_array
from retrieval.errors import StoreDamagedError
from retrieval.product_json import product_from_json, product_to_json
from retrieval.records import Product

PRODUCTS_FILE = "products.jsonl"
IDS_FILE = "ids.txt"
OFFSETS_FILE = "offsets.npy"


class ProductWriter:
    """Writes products, which come in the order of their ids, into a folder; memory holds none of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records = (folder / PRODUCTS_FILE).open("wb")
        self._ids = (folder / IDS_FILE).open("wb")
        self._ends = array("q", (0,)), array("q", (0,))

    def add(self, product_id: bytes, line: bytes) -> None:
        """Takes the next product: its id in UTF-8, and the line that `product_to_json` makes."""
        product_ends, id_ends = self._ends
        product_ends.append(product_ends[-1] + self._records.write(line + b"\n"))
        id_ends.append(id_ends[-1] + self._ids.write(product_id + b"\n"))

    def finish(self) -> int:
        """Ends the files and returns how many products there are."""
        self._records.close()
        self._ids.close()
        np.save(self._folder / OFFSETS_FILE, np.array([np.frombuffer(ends, np.int64) for ends in self._ends]))
        return len(self._ends[0]) - 1


def write_products(products: Iterable[Product], folder: Path) -> int:
    """Writes products, which come in the order of their ids, and returns how many there were."""
    writer = ProductWriter(folder)
    for product in products:
        writer.add(product.id.encode(), product_to_json(product))
    return writer.finish()


class ProductStore:
    """Opened products. Reading is safe from many threads; nothing is read before it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._records = _mapped(folder / PRODUCTS_FILE)
        self._ids = _mapped(folder / IDS_FILE)
        offsets = _offsets(folder / OFFSETS_FILE)
        if offsets[0][-1] != len(self._records) or offsets[1][-1] != len(self._ids):
            raise StoreDamagedError(f"{folder}: {OFFSETS_FILE} does not fit {PRODUCTS_FILE}; rebuild the index")
        self._product_ends, self._id_ends = offsets

    def __len__(self) -> int:
        return len(self._product_ends) - 1

    def __getitem__(self, row: int) -> Product:
        return product_from_json(self.line(row))

    def line(self, row: int) -> bytes:
        """One product as it is stored. Equal lines are equal products."""
        return self._records[self._product_ends[row] : self._product_ends[row + 1] - 1]

    def lines(self) -> Iterator[tuple[bytes, bytes]]:
        """Each product's id and line, in the order of ids; memory holds one at a time."""
        for row in range(len(self)):
            yield self._id_bytes(row), self.line(row)

    def id_of(self, row: int) -> str:
        """The id of one row, without reading the product."""
        return self._id_bytes(row).decode()

    def row_of(self, product_id: str) -> int | None:
        """The row of a product id, or None where there is no such product."""
        # A lone surrogate becomes bytes that no stored id has.
        wanted = product_id.encode("utf-8", "surrogatepass")
        row = bisect.bisect_left(range(len(self)), wanted, key=self._id_bytes)
        return row if row < len(self) and self._id_bytes(row) == wanted else None

    def _id_bytes(self, row: int) -> bytes:
        return bytes(self._ids[self._id_ends[row] : self._id_ends[row + 1] - 1])


def _mapped(path: Path) -> mmap.mmap | bytes:
    try:
        with path.open("rb") as file:
            is_empty = os.fstat(file.fileno()).st_size == 0  # of which there is no map
            return b"" if is_empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise StoreDamagedError(f"{path} cannot be read ({error}); rebuild the index") from error


def _offsets(path: Path) -> NDArray[np.int64]:
    offsets = load_array(path)
    if offsets.ndim != 2 or len(offsets) != 2 or not offsets.size or offsets.dtype != np.int64:
        raise StoreDamagedError(f"{path} is no table of offsets; rebuild the index")
    return np.asarray(offsets)
