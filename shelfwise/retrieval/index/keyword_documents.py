"""The documents of a keyword index, in a compressed file from which every backend is filled, and their places.

The next version copies the lines of unchanged products, so their texts are not analysed again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.filters.places import Area, distances
from shelfwise.retrieval.filters.schema import FieldCatalog
from shelfwise.retrieval.index.keyword import KeywordDocument, Rows
from shelfwise.retrieval.index.vectors import places_of
from shelfwise.retrieval.records import Place
from shelfwise.retrieval.store.files import load_array

LINES_FILE = "lines.zst"
PLACES_FILE = "places.npy"
NUMBERS_FILE = "numbers.npy"
_LEVEL = 1
_LENGTH_BYTES = 4


class KeywordLine(msgspec.Struct, frozen=True, array_like=True):
    """A document without its row; its fields are ordered by slot."""

    fields: tuple[tuple[str, int, str], ...]
    """The searched fields: tag, weight, and terms separated by blanks. A field that requests cannot name has no tag."""
    identifiers: tuple[str, ...]
    numbers: tuple[tuple[int, float], ...]
    texts: str
    """JSON: the texts of each field, folded."""
    shown: str
    """JSON: the display texts of each field."""
    places: tuple[tuple[float, float], ...] = ()
    """Latitude and longitude of each place."""

    @property
    def repeated(self) -> list[str]:
        """Each field repeated by its weight. Backends leave a gap between these values of one field, so that no phrase
        extends over two of them."""
        return [terms for _, weight, terms in self.fields for _ in range(weight)]

    @property
    def tagged(self) -> str:
        """The terms of each field after its tag, as in `FieldCatalog.tagged_terms`, separated by blanks."""
        tagged = " ".join([f"{tag}:{terms.replace(' ', f' {tag}:')}" for tag, _, terms in self.fields if tag])
        return " ".join(dict.fromkeys(tagged.split(" ")))


def keyword_line(document: KeywordDocument, catalog: FieldCatalog) -> KeywordLine:
    """The line of a document, without fields that are missing from the catalog."""
    fields, made = catalog.fields, document.columns
    searched = ((catalog.tag_of(each.name), each.weight, " ".join(each.terms)) for each in document.fields)
    numbers = ((fields[name].slot, number) for name, each in made.numbers.items() if name in fields for number in each)
    return KeywordLine(
        tuple(searched),
        tuple(document.identifiers),
        tuple(numbers),
        _by_slot(made.texts, catalog),
        _by_slot(made.display, catalog),
        tuple((each.lat, each.lng) for each in made.places),
    )


def _by_slot(texts: Mapping[str, list[str]], catalog: FieldCatalog) -> str:
    placed = {f"t{catalog.fields[name].slot}": each for name, each in texts.items() if name in catalog.fields}
    return msgspec.json.encode(placed).decode() if placed else ""


class KeywordBuilder:
    """Writes the lines of a version's keyword index into an empty folder, ordered by row.

    `before` is the folder of an index with the same fields, slots and analysis, to copy unchanged products from.
    """

    def __init__(self, folder: Path, catalog: FieldCatalog, before: Path | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._catalog = catalog
        self._lines = LineWriter(folder)
        self._before = enumerate(read_lines(before)) if before else iter(())

    def add(self, documents: Iterable[KeywordDocument]) -> None:
        """Adds documents."""
        for document in documents:
            self.add_line(document.row, encode_line(keyword_line(document, self._catalog)))

    def add_line(self, row: int, encoded: bytes) -> None:
        """Adds an encoded line, made by `encode_line(keyword_line(...))`."""
        self._index(row, encoded)
        self._lines.write(encoded)

    def _index(self, row: int, encoded: bytes) -> None:
        """A hook for local backends."""

    def _index_as_before(self, row: int, row_before: int, encoded: bytes) -> None:  # noqa: ARG002
        """A hook for local backends that reuse their data of a row of the earlier index."""
        self._index(row, encoded)

    def add_as_before(self, row: int, row_before: int) -> None:
        """Copies the line of a row of the earlier index; these rows must be ascending."""
        for place, line in self._before:
            if place == row_before:
                self._index_as_before(row, row_before, line)
                return self._lines.write(line)
        raise StoreDamagedError(f"the previous keyword index has no row {row_before}; rebuild the index")

    def finish(self) -> Path:
        """Closes the files and returns the folder."""
        self._lines.close()
        return self._folder


class LineWriter:
    """Writes encoded lines in sequence."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / LINES_FILE).open("wb")
        self._packed: BinaryIO = zstandard.ZstdCompressor(_LEVEL).stream_writer(self._file, closefd=False)

    def write(self, line: bytes) -> None:
        """Writes a line, which must not be empty."""
        self._packed.write(len(line).to_bytes(_LENGTH_BYTES, "little") + line)

    def close(self) -> None:
        """Writes an end mark, a line of length 0, and closes the file."""
        self._packed.write(bytes(_LENGTH_BYTES))
        self._packed.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_lines(folder: Path) -> Iterator[bytes]:
    """The encoded lines of a version's keyword index, ordered by row; raises StoreDamagedError."""
    path = folder / LINES_FILE
    try:
        with zstandard.open(path, "rb") as file:
            while length := int.from_bytes(_read(file, _LENGTH_BYTES), "little"):
                yield _read(file, length)
    except (OSError, EOFError, zstandard.ZstdError) as error:
        raise StoreDamagedError(f"{path} cannot be read ({error}); rebuild the index") from error


def _read(file: BinaryIO, length: int) -> bytes:
    content = file.read(length)
    if len(content) < length:
        raise EOFError("it is truncated")
    return content


encode_line = msgspec.msgpack.Encoder().encode
decode_line = msgspec.msgpack.Decoder(KeywordLine).decode


@dataclass(frozen=True, slots=True, eq=False)
class PlaceColumns:
    """The places of products. `table` (m, 3) has a row, a latitude and a longitude; a product may have several."""

    table: NDArray[np.float64]

    @classmethod
    def of(cls, places: Iterable[tuple[int, Sequence[tuple[float, float]]]]) -> PlaceColumns:
        """The columns of rows, given with the latitudes and longitudes of their places."""
        lines = [(row, lat, lng) for row, each in places for lat, lng in each]
        return cls(np.array(lines, np.float64).reshape(-1, 3))

    @classmethod
    def load(cls, folder: Path) -> PlaceColumns:
        """The columns in an index's folder; raises StoreDamagedError."""
        return cls(load_array(folder / PLACES_FILE, mapped=True, dtype=np.float64, shape=(None, 3)))

    def save(self, folder: Path) -> None:
        np.save(folder / PLACES_FILE, self.table)

    def replace(self, rows: Iterable[int], others: PlaceColumns) -> PlaceColumns:
        """These columns, with the places of some rows replaced by those of `others`."""
        is_replaced = np.isin(self.table[:, 0], list(rows))
        if not is_replaced.any() and not len(others.table):
            return self
        return PlaceColumns(np.concatenate([self.table[~is_replaced], others.table]))

    def rows(self, area: Area | None = None) -> Rows:
        """The rows with a place, ascending; with `area`, the rows with a place in it."""
        row, lat, lng = self.table.T
        return np.unique(row if area is None else row[area.contains(lat, lng)]).astype(np.int64)

    def distances(self, rows: Rows, place: Place) -> NDArray[np.float64]:
        """The distance (n,) in metres from a place to the nearest place of each row; NaN for a row without places."""
        found = np.full(len(rows), np.inf)
        row, lat, lng = self.table.T
        at = places_of(row.astype(np.int64), rows)
        np.minimum.at(found, at[at >= 0], distances(place, lat, lng)[at >= 0])
        return np.where(np.isinf(found), np.nan, found)


@dataclass(frozen=True, slots=True, eq=False)
class DocumentNumbers:
    """The number of each row's document: an extended index keeps its documents while rows come and go. Rows of live
    changes, from n on, have numbers from m on."""

    by_row: Rows
    """(n,)."""
    rows: Rows
    """(m,): the row of each number ever assigned, or -1."""

    @classmethod
    def load(cls, folder: Path) -> DocumentNumbers | None:
        """The numbers in an index's folder, or None if each document has the number of its row."""
        if not (folder / NUMBERS_FILE).exists():
            return None
        rows = load_array(folder / NUMBERS_FILE).astype(np.int64)
        return cls(np.argsort(rows, kind="stable")[np.count_nonzero(rows < 0) :], rows)

    def of(self, rows: Rows) -> Rows:
        """The numbers of some rows."""
        return self._find(self.by_row, rows, len(self.rows) - len(self.by_row))

    def rows_of(self, numbers: Rows) -> Rows:
        """The rows of some numbers."""
        return self._find(self.rows, numbers, len(self.by_row) - len(self.rows))

    @staticmethod
    def _find(table: Rows, places: Rows, offset: int) -> Rows:
        is_known = places < len(table)
        return np.where(is_known, table[np.where(is_known, places, 0)], places + offset)
