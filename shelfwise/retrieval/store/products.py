"""The products of a version on disk: one JSON line each, ordered by id, memory-mapped; their terms and texts."""

from __future__ import annotations

import bisect
import dataclasses
import mmap
import os
from array import array
from collections.abc import Iterator, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.filters.schema import CATEGORY_SEPARATOR, FieldCatalog, normalize_space, product_columns
from shelfwise.retrieval.index.keyword import KeywordDocument, SearchedField
from shelfwise.retrieval.records import Product, Variant
from shelfwise.retrieval.store.files import load_array
from shelfwise.retrieval.text.analysis import Analyzer, identifier_key

PRODUCTS_FILE = "products.jsonl"
IDS_FILE = "ids.txt"
OFFSETS_FILE = "offsets.npy"


class ProductWriter:
    """Writes products, which must be ordered by id, without holding them in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records = (folder / PRODUCTS_FILE).open("wb")
        self._ids = (folder / IDS_FILE).open("wb")
        self._ends = array("q", (0,)), array("q", (0,))

    def add(self, product_id: bytes, line: bytes) -> None:
        """Adds the next product: its id in UTF-8 and its line in the format of `product_to_json`."""
        product_ends, id_ends = self._ends
        product_ends.append(product_ends[-1] + self._records.write(line + b"\n"))
        id_ends.append(id_ends[-1] + self._ids.write(product_id + b"\n"))

    def copy(self, products: ProductStore, first: int, end: int) -> bytes:
        """Adds the products of other rows, and returns their lines with line feeds."""
        lines = products.lines_of(first, end)
        self._records.write(lines)
        self._ids.write(products.ids_of(first, end))
        for ends, others in zip(self._ends, products.offsets, strict=True):
            ends.frombytes((others[first + 1 : end + 1] + (ends[-1] - others[first])).astype(np.int64).tobytes())
        return lines

    def finish(self) -> int:
        """Closes the files and returns the number of products."""
        self._records.close()
        self._ids.close()
        np.save(self._folder / OFFSETS_FILE, np.array([np.frombuffer(ends, np.int64) for ends in self._ends]))
        return len(self._ends[0]) - 1


class ProductStore:
    """The products of a version: thread-safe, read on demand."""

    def __init__(self, folder: Path) -> None:
        self._records = _mapped(folder / PRODUCTS_FILE)
        self._ids = _mapped(folder / IDS_FILE)
        offsets = load_array(folder / OFFSETS_FILE, mapped=True, dtype=np.int64, shape=(2, None))
        if not offsets.size or offsets[0][-1] != len(self._records) or offsets[1][-1] != len(self._ids):
            raise StoreDamagedError(f"{folder}: {OFFSETS_FILE} does not match {PRODUCTS_FILE}; rebuild the index")
        self._product_ends, self._id_ends = offsets

    def __len__(self) -> int:
        return len(self._product_ends) - 1

    def __getitem__(self, row: int) -> Product:
        return product_from_json(self.line(row))

    def line(self, row: int) -> bytes:
        """One product as stored. Equal lines mean equal products."""
        return self._records[self._product_ends[row] : self._product_ends[row + 1] - 1]

    @property
    def offsets(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The bounds (n + 1,) of products and of ids in their files."""
        return self._product_ends, self._id_ends

    def lines_of(self, first: int, end: int) -> bytes:
        """The products of consecutive rows, each with a line feed."""
        return bytes(self._records[self._product_ends[first] : self._product_ends[end]])

    def ids_of(self, first: int, end: int) -> bytes:
        """The ids of consecutive rows, each with a line feed."""
        return bytes(self._ids[self._id_ends[first] : self._id_ends[end]])

    def lines(self) -> Iterator[tuple[bytes, bytes]]:
        """Each product's id and line, ordered by id; memory holds one at a time."""
        for row in range(len(self)):
            yield self._id_bytes(row), self.line(row)

    def id_of(self, row: int) -> str:
        """The id of one row, without reading the product."""
        return self._id_bytes(row).decode()

    def row_of(self, product_id: str) -> int | None:
        """The row of a product id, or None if it does not exist."""
        # A lone surrogate becomes bytes that no stored id has.
        wanted = product_id.encode("utf-8", "surrogatepass")
        row = bisect.bisect_left(range(len(self)), wanted, key=self._id_bytes)
        return row if row < len(self) and self._id_bytes(row) == wanted else None

    def _id_bytes(self, row: int) -> bytes:
        return bytes(self._ids[self._id_ends[row] : self._id_ends[row + 1] - 1])


def _mapped(path: Path) -> mmap.mmap | bytes:
    try:
        with path.open("rb") as file:
            is_empty = os.fstat(file.fileno()).st_size == 0  # an empty file cannot be mapped
            return b"" if is_empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise StoreDamagedError(f"{path} cannot be read ({error}); rebuild the index") from error


def _member(field: dataclasses.Field[Any]) -> tuple[str, Any, Any]:
    has_default = field.default is not dataclasses.MISSING
    return field.name, Any, field.default if has_default else msgspec.field(default_factory=dict)


def _compact(record: type) -> Any:  # noqa: ANN401 - a class that is made here
    """A struct with the fields of a dataclass: msgspec omits defaults from the JSON only of its own structs."""
    required = [each.name for each in dataclasses.fields(record) if each.name in ("id", "title")]
    optional = [_member(each) for each in dataclasses.fields(record) if each.name not in required]
    return msgspec.defstruct(record.__name__, [*required, *optional], omit_defaults=True, frozen=True)


_CompactProduct, _CompactVariant = _compact(Product), _compact(Variant)
_product_values = attrgetter(*(field.name for field in dataclasses.fields(Product)))
_variant_values = attrgetter(*(field.name for field in dataclasses.fields(Variant)))
# A read-only mapping is written as a dict with sorted names: equal products give equal lines.
_encoder = msgspec.json.Encoder(order="deterministic", enc_hook=dict)
_decoder = msgspec.json.Decoder(Product)


def product_to_json(product: Product) -> bytes:
    """One line of JSON without fields that have their default. Numbers are finite and times are in UTC, as all readers
    ensure."""
    compact = _CompactProduct(*_product_values(product))
    if product.variants:
        variants = tuple(_CompactVariant(*_variant_values(variant)) for variant in product.variants)
        compact = msgspec.structs.replace(compact, variants=variants)
    return _encoder.encode(compact)


def product_from_json(line: bytes) -> Product:
    """The product that `product_to_json` wrote.

    Raises StoreDamagedError for other bytes.
    """
    try:
        return _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StoreDamagedError(f"a stored product cannot be read: {error}; rebuild the index") from error


HEAVIEST = 10
Weight = Annotated[int, msgspec.Meta(ge=0, le=HEAVIEST)]
ATTRIBUTE_WEIGHT = 1
"""The weight of an attribute that `FieldWeights.attributes` does not name."""


class FieldWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights of a field's terms, 0 for none: BM25 over one text that repeats each field by its weight (Robertson,
    Zaragoza & Taylor 2004, Simple BM25 Extension to Multiple Weighted Fields, section 3). See docs/decisions for the
    measurements."""

    title: Annotated[int, msgspec.Meta(ge=1, le=HEAVIEST)] = 5
    brand: Weight = 2
    category: Weight = 2
    description: Weight = 2
    attributes: dict[str, Weight] = {}
    """The weights of attributes by name."""

    def weight_of(self, field: str) -> int:
        """The weight of a searched field."""
        _, is_attribute, name = field.partition("attributes.")
        weight: int = self.attributes.get(name, ATTRIBUTE_WEIGHT) if is_attribute else getattr(self, field)
        return weight


DEFAULT_WEIGHTS = FieldWeights()
RECIPE = "6"
"""Increased by every change here, in `shelfwise.retrieval.filters.schema` or `shelfwise.indexer.quality.siblings`, or
in the derivation of types and values: versions of another recipe are rebuilt."""
_ENCODED_DESCRIPTION = 200
_TERM_DESCRIPTION = 4_000


def encoder_text(product: Product) -> str:
    """The text that becomes the product's vector."""
    parts = [product.title]
    if product.brand and product.brand.casefold() not in product.title.casefold():
        parts.append(product.brand)
    if product.category:
        parts.append(CATEGORY_SEPARATOR.join(product.category))
    if product.description:
        parts.append(product.description[:_ENCODED_DESCRIPTION])
    return normalize_space(". ".join(parts))


def searched_fields(
    product: Product, analyzer: Analyzer, weights: FieldWeights = DEFAULT_WEIGHTS
) -> list[SearchedField]:
    """The searched fields of a product that have a weight and terms."""
    texts = [
        ("title", product.title, weights.title),
        ("brand", product.brand, weights.brand),
        ("category", " ".join(product.category), weights.category),
        ("description", product.description[:_TERM_DESCRIPTION], weights.description),
        *_attribute_texts(product, weights.attributes),
        ("", "\n".join(value for values in product.identifiers.values() for value in values), 1),
    ]
    found = (SearchedField(name, weight, analyzer.terms(text)) for name, text, weight in texts if text and weight)
    return [each for each in found if each.terms]


def keyword_document(
    row: int, product: Product, analyzer: Analyzer, catalog: FieldCatalog, weights: FieldWeights = DEFAULT_WEIGHTS
) -> KeywordDocument:
    """The product as input of a keyword index. Of the catalog, it depends only on the category roots."""
    return KeywordDocument(
        row,
        searched_fields(product, analyzer, weights),
        identifier_keys(product),
        product_columns(product, catalog.category_roots),
    )


def identifier_keys(product: Product) -> list[str]:
    """The distinct folded identifiers that name a product when they are typed, including its id."""
    values = (value for values in product.identifiers.values() for value in values)
    return sorted({identifier_key(value) for value in (product.id, *values)} - {""})


def _attribute_texts(product: Product, weights: Mapping[str, int]) -> Iterator[tuple[str, str, int]]:
    """Attribute values that are words: bare numbers and yes or no match too much and mean little without a name."""
    for name, value in product.attributes.items():
        values = value if isinstance(value, tuple) else (value,)
        words = "\n".join(each for each in values if isinstance(each, str))
        yield f"attributes.{name}", words, weights.get(name, ATTRIBUTE_WEIGHT)
