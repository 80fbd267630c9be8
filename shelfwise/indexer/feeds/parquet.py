"""Parquet feeds, read in batches. Packed and piped input is first written to disk: Parquet is read from its end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from shelfwise.indexer.feeds.base import Feed, FeedFormat, Record, RejectedRow, Row, object_row
from shelfwise.indexer.feeds.csv import map_column_names
from shelfwise.indexer.feeds.io import MAX_LINE, FeedSource
from shelfwise.indexer.feeds.json import TOO_LONG, assemble_objects
from shelfwise.retrieval.errors import FeedError, RowError
from shelfwise.retrieval.extras import optional_imports

MAX_SPOOLED = 16 << 30
"""The most bytes of a packed or piped Parquet feed that are written to disk while it is read."""
MAX_PAGE = 64 << 20
"""The most unpacked bytes of a page, the unit in which a column is unpacked."""
MAX_UNPACKED = 1 << 30
"""The most unpacked bytes of all columns at a time: the largest page and the dictionary of each."""
MAX_VALUES = 32 << 20
"""The most values of a list column in a row group, which a single row may have."""
MAX_COLUMNS = 2_000
_MAX_WIDTH = 1 << 16
_MAX_DEPTH = 32
_MAX_BATCH_BYTES = 256 << 20
_MAX_ROWS_BYTES = 64 << 20
_OBJECT_BYTES = 64
_BATCH = 500
_BUFFER = 1 << 20
_LIMITS = {"thrift_container_size_limit": 100_000, "schema_depth_limit": _MAX_DEPTH}
_DICTIONARY_PAGE = 2
_DELTAS = (6, 7)
_DELTA_BYTE_ARRAY = 7
_TEXTS = ("STRING", "JSON", "ENUM", "NONE")


def read_parquet(feed: Feed) -> Iterator[Record | RejectedRow]:
    """A record for each row; its line is the number of the row.

    Raises FeedError for a file that is damaged, lacks a column, or unpacks to more than the limits.
    """
    with optional_imports():
        import pyarrow  # type: ignore[import-untyped]
        from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped]

    source = feed.source
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(Path(source.path).open("rb") if source.is_plain else _spooled(source))  # noqa: SIM115
            opened = source.path if source.is_plain else raw
            described = stack.enter_context(ParquetFile(opened, pre_buffer=False, **_LIMITS))
            _check_columns(source.path, described.schema)
            columns = [str(name) for name in described.schema_arrow.names]
            names = map_column_names(columns, feed.mapping)
            feed.check_columns(source.path, [names.get(name, name) for name in columns], feed.mapping)
            for number in range(described.num_row_groups):
                size, texts = _plan_reading(source.path, raw, described.metadata, number)
                file = stack.enter_context(
                    ParquetFile(
                        opened,
                        metadata=described.metadata,
                        read_dictionary=texts,
                        pre_buffer=False,
                        buffer_size=_BUFFER,
                    )
                )
                for batch in file.iter_batches(size, [number], use_threads=False):
                    for row in _rows(batch):
                        source.line += 1
                        if row is None:
                            detail = f"a row may have {MAX_LINE:,} bytes"
                            yield RejectedRow(source.path, source.line, TOO_LONG, detail, "parquet", "")
                            continue
                        renamed = {names.get(name, name): value for name, value in row.items()} if names else row
                        yield Record(source.path, source.line, "parquet", renamed)
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
            raise source.truncation_error(str(error).split("\n")[0][:300]) from error
    source.report_all_read()


def _check_columns(path: str, schema: Any) -> None:  # noqa: ANN401 - pyarrow has no types
    """Raises FeedError for too many columns, or values of too many bytes."""
    if len(schema) > MAX_COLUMNS:
        raise FeedError(f"{path}: has {len(schema):,} columns; at most {MAX_COLUMNS:,} are allowed")
    for column in map(schema.column, range(len(schema))):
        if (column.length or 0) > _MAX_WIDTH:
            raise FeedError(
                f"{path}: values of column {column.path} have {column.length:,} bytes; {_advice(_MAX_WIDTH)}"
            )


def _advice(most: int) -> str:
    return f"at most {most:,} are allowed: write the file with smaller row groups and pages"


def _plan_reading(path: str, raw: BinaryIO, metadata: Any, number: int) -> tuple[int, list[str]]:  # noqa: ANN401
    """The number of rows of a row group to decode at a time, so that they take a bounded number of bytes, and the
    columns whose texts are to stay in their dictionary, so that rows do not copy them.

    The headers of all pages are read, as the metadata may be wrong. Raises FeedError if that may not suffice.
    """
    group = metadata.row_group(number)
    unpacked = 0
    row_bytes = 1.0
    texts = []
    for position in range(group.num_columns):
        column, schema = group.column(position), metadata.schema.column(position)
        origin = f"{path}: row group {number + 1}, column {column.path_in_schema}"
        pages = dictionary = copied = values = 0
        value_bytes = 0.0
        is_delta = False
        is_list, is_text = schema.max_repetition_level > 0, schema.physical_type == "BYTE_ARRAY"
        for page in _pages(raw, column):
            if page.unpacked > MAX_PAGE:
                raise FeedError(f"{origin}: a page unpacks to {page.unpacked:,} bytes; {_advice(MAX_PAGE)}")
            if page.is_dictionary:
                dictionary = max(dictionary, page.unpacked)
                continue
            values += page.values
            is_delta |= page.encoding in _DELTAS
            # A row may have all values of a list.
            pages = pages + page.unpacked if is_list else max(pages, page.unpacked)
            value_bytes = max(value_bytes, page.unpacked / max(page.values, 1))
            if page.encoding == _DELTA_BYTE_ARRAY:  # a value may repeat the one before
                copied = max(copied, page.unpacked)
        if is_text and dictionary and not is_delta and schema.logical_type.type in _TEXTS:
            texts.append(schema.path)
        elif is_text:
            copied = max(copied, dictionary)
        if is_list and values > MAX_VALUES:
            raise FeedError(f"{origin}: has {values:,} values; {_advice(MAX_VALUES)}")
        unpacked += pages + dictionary + (copied * values if is_list else copied)
        row_bytes += max(value_bytes, copied) if is_text else 16
        if unpacked > MAX_UNPACKED:
            raise FeedError(f"{origin}: the columns up to it may unpack to {unpacked:,} bytes; {_advice(MAX_UNPACKED)}")
    return max(1, min(_BATCH, int(_MAX_BATCH_BYTES / row_bytes))), texts


class _Page(NamedTuple):
    """The header of a page: unpacked bytes, values, and the number of its encoding."""

    is_dictionary: bool
    unpacked: int
    values: int
    encoding: int


def _pages(raw: BinaryIO, column: Any) -> Iterator[_Page]:  # noqa: ANN401
    """The pages of a column chunk that pyarrow would read. Raises ValueError for a damaged header.

    https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift, struct PageHeader
    """
    start = min(column.data_page_offset, column.dictionary_page_offset or column.data_page_offset)
    end = start + column.total_compressed_size
    values = 0
    raw.seek(start)
    while values < column.num_values and raw.tell() < end:
        header = _struct(raw)
        is_dictionary = header.get(1) == _DICTIONARY_PAGE
        details = header.get(7 if is_dictionary else 5) or header.get(8)
        unpacked, packed = header.get(2), header.get(3)
        if not (isinstance(details, dict) and isinstance(unpacked, int) and isinstance(packed, int) and packed >= 0):
            raise ValueError(f"a page of column {column.path_in_schema} has no valid header")
        page = _Page(is_dictionary, unpacked, int(details.get(1, 0)), int(details.get(4 if header.get(8) else 2, 0)))
        body = raw.tell()
        yield page
        raw.seek(body + packed)
        values += 0 if is_dictionary else page.values


def _struct(raw: BinaryIO) -> dict[int, Any]:
    """A struct of Thrift's compact protocol, by field number; texts are skipped."""
    fields: dict[int, Any] = {}
    number = 0
    while (head := _byte(raw)) != 0:
        number = number + (head >> 4) if head >> 4 else _integer(raw)
        kind = head & 15
        if kind in (1, 2):  # true, false
            fields[number] = kind == 1
        elif kind == 3:
            fields[number] = _byte(raw)
        elif kind in (4, 5, 6):
            fields[number] = _integer(raw)
        elif kind == 7:
            raw.seek(8, os.SEEK_CUR)
        elif kind == 8:
            raw.seek(_varint(raw), os.SEEK_CUR)
        elif kind == 12:
            fields[number] = _struct(raw)
        else:
            raise ValueError(f"the header of a page has an unknown type {kind}")
    return fields


def _byte(raw: BinaryIO) -> int:
    (byte,) = raw.read(1) or (0,)
    return byte


def _varint(raw: BinaryIO) -> int:
    value = shift = 0
    while True:
        byte = _byte(raw)
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80 or shift > 63:
            return value


def _integer(raw: BinaryIO) -> int:
    zigzag = _varint(raw)
    return (zigzag >> 1) ^ -(zigzag & 1)


def _rows(batch: Any) -> Iterator[dict[str, Any] | None]:  # noqa: ANN401
    """The rows of a batch; None for one over MAX_LINE bytes."""
    if _object_bytes(batch.columns) <= _MAX_ROWS_BYTES:
        # Far faster than to read each text through its dictionary.
        plain = [each.dictionary_decode() if hasattr(each, "dictionary") else each for each in batch.columns]
        yield from batch.from_arrays(plain, names=batch.schema.names).to_pylist()
        return
    for row in (batch.slice(index, 1) for index in range(batch.num_rows)):
        yield None if _object_bytes(row.columns) > MAX_LINE else row.to_pylist()[0]


def _object_bytes(columns: Iterable[Any]) -> int:
    """About the bytes of columns as Python objects, in which each row has its own copy of a text."""
    from pyarrow import compute, types

    size = 0
    for column in columns:
        size += _OBJECT_BYTES * len(column)
        if types.is_dictionary(column.type):
            lengths = compute.binary_length(column.dictionary)
            size += compute.sum(lengths.take(column.indices)).as_py() or 0
        elif types.is_nested(column.type):
            inner = column.flatten()
            size += _object_bytes(inner if isinstance(inner, list) else [inner])
        else:
            size += column.nbytes
    return size


def _spooled(source: FeedSource) -> BinaryIO:
    file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115  # the caller closes it
    size = 0
    for chunk in source.read_raw():
        size += len(chunk)
        if size > MAX_SPOOLED:
            file.close()
            raise FeedError(f"{source.path}: unpacks to more than {MAX_SPOOLED:,} bytes; pass the Parquet file itself")
        file.write(chunk)
    file.seek(0)
    return file


def parquet_rows(row: object) -> Sequence[Row]:
    """The row of a record with times, decimals and bytes as texts.

    Raises RowError for bytes that are not a text.
    """
    one = object_row(row)[0]
    try:
        return ({name: value if type(value) in _PLAIN else _plain(value) for name, value in one.items()},)
    except RecursionError as error:
        raise RowError("nested too deep") from error


_PLAIN = frozenset({str, int, float, bool, type(None)})


def _plain(value: object) -> object:
    if isinstance(value, list):
        if value and all(isinstance(one, tuple) and len(one) == 2 for one in value):  # a map
            return {str(key): _plain(one) for key, one in value}
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise RowError("not UTF-8", str(error)) from error
    return value


PARQUET = FeedFormat(
    "parquet",
    "Parquet",
    read_parquet,
    rows=parquet_rows,
    assemble=assemble_objects,
    begins=lambda head: head.startswith(b"PAR1"),
)
