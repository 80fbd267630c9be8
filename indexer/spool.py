"""The checked rows of all feeds on disk, in the order of product ids when they are read back: what a build works from.

Memory holds an id and a place for each product, never the products.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import xxhash

from retrieval.analysis import contains_chinese
from retrieval.fields import FieldCatalog, FieldCounter
from retrieval.product_json import product_from_json, product_to_json
from retrieval.records import Product


class Spool:
    """Products written once in any order, read back in the order of their ids (that of their UTF-8 bytes)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: list[tuple[bytes, int, int]] = []
        self._fields = FieldCounter()
        self._chinese = 0
        self._sorted = True

    def __len__(self) -> int:
        return len(self._places)

    @property
    def fields(self) -> FieldCatalog:
        """The fields of what was written."""
        return self._fields.catalog()

    @property
    def chinese(self) -> int:
        """The number of products with Chinese in their title."""
        return self._chinese

    def write(self, products: Iterable[Product]) -> None:
        """Takes products, each id once."""
        with self._path.open("wb") as file:
            at = 0
            for product in products:
                length = file.write(product_to_json(product))
                self._places.append((product.id.encode(), at, length))
                at += length
                self._fields.add(product)
                self._chinese += contains_chinese(product.title)
        self._sorted = False

    def lines(self) -> Iterator[bytes]:
        """Each product as JSON, in the order of ids."""
        if not self._sorted:
            self._places.sort()
            self._sorted = True
        with self._path.open("rb") as file:
            for _, at, length in self._places:
                file.seek(at)
                yield file.read(length)

    def products(self) -> Iterator[Product]:
        """Each product, in the order of ids."""
        return map(product_from_json, self.lines())

    def fingerprint(self) -> str:
        """Equal for two spools exactly when they hold the same products."""
        digest = xxhash.xxh3_128()
        for line in self.lines():
            digest.update(line)
            digest.update(b"\n")
        return digest.hexdigest()
