"""Parquet feeds, read in batches. Packed and piped input is first written to disk: Parquet is read from its end."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import BinaryIO

from indexer.feeds.base import Feed, FeedFormat, Record, RejectedRow, Row, object_row
from indexer.feeds.csv import map_column_names
from indexer.feeds.io import FeedSource
from indexer.feeds.json import assemble_objects
from retrieval.errors import FeedError, RowError

MAX_SPOOLED = 16 << 30
"""The most bytes of a packed or piped Parquet feed that are written to disk while it is read."""
MAX_GROUP = 4 << 30
"""The most unpacked bytes of a row group, the unit in which a Parquet file is read."""

_BATCH = 500
_BUFFER = 1 << 20


def read_parquet(feed: Feed) -> Iterator[Record | RejectedRow]:
    """A record for each row; its line is the number of the row.

    Raises FeedError for a file that is damaged, has row groups over 4 GB, or lacks a column.
    """
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped]

    source = feed.source
    with ExitStack() as stack:
        opened = source.path if source.is_plain else stack.enter_context(_spooled(source))
        try:
            file = stack.enter_context(ParquetFile(opened, pre_buffer=False, buffer_size=_BUFFER))
            _check_groups(source.path, file.metadata)
            columns = [str(name) for name in file.schema_arrow.names]
            names = map_column_names(columns, feed.mapping)
            feed.check_columns(source.path, [names.get(name, name) for name in columns], feed.mapping)
            for batch in file.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    source.line += 1
                    renamed = {names.get(name, name): value for name, value in row.items()} if names else row
                    yield Record(source.path, source.line, "parquet", renamed)
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
            raise source.truncation_error(str(error).split("\n")[0][:300]) from error
    source.report_all_read()


def _check_groups(path: str, metadata: object) -> None:
    for number in range(metadata.num_row_groups):  # type: ignore[attr-defined]
        size = metadata.row_group(number).total_byte_size  # type: ignore[attr-defined]
        if size > MAX_GROUP:
            raise FeedError(
                f"{path}: row group {number + 1} unpacks to {size:,} bytes; at most {MAX_GROUP:,} are allowed: "
                f"write the file with smaller row groups"
            )


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


PARQUET = FeedFormat("parquet", "Parquet", read_parquet, rows=parquet_rows, assemble=assemble_objects)
