"""Small Parquet files that decode to gigabytes: read in bounded memory, or refused with the column and the limit."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from tests.unit.indexer.feeds.feed_outcome import read

MB = 1 << 20
_MEMORY = 1_500 * MB
"""The most bytes that reading may add: a tenth of what most of the files decode to."""


def write(path: Path, columns: dict[str, pa.Array], **options: object) -> None:
    count = len(next(iter(columns.values())))
    ids = pa.array([str(number) for number in range(count)])
    table = pa.table({"id": ids, "title": ids, **columns})
    pq.write_table(table, path, compression="zstd", **options)


def repeated(value: object, count: int, kind: pa.DataType | None = None) -> pa.Array:
    """A dictionary array of equal values, which takes no memory."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([value], kind))


def dictionary_text(path: Path) -> None:
    write(path, {"description": repeated("a" * 12 * MB, 500)})


def dictionary_in_lists(path: Path) -> None:
    offsets = pa.array(np.arange(0, 100_001, 100, dtype=np.int32))
    write(path, {"tags": pa.ListArray.from_arrays(offsets, repeated("a" * MB, 100_000))})


def booleans_in_one_row(path: Path) -> None:
    values = pa.array(np.zeros(40 * MB, bool))
    write(path, {"flags": pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)})


def large_page(path: Path) -> None:
    write(path, {"description": pa.array(["a" * 100 * MB])}, use_dictionary=False)


def pages_of_many_columns(path: Path) -> None:
    text = pa.array(["a" * 50 * MB])
    write(path, {f"text {number}": text for number in range(22)}, use_dictionary=False)


def repeated_prefix(path: Path) -> None:
    write(
        path,
        {"description": pa.array(["a" * 20 * MB] * 12)},
        use_dictionary=False,
        column_encoding={"description": "DELTA_BYTE_ARRAY"},
        data_page_size=1 << 30,
    )


def wide_values(path: Path) -> None:
    write(path, {"code": repeated(b"a" * MB, 50, pa.binary(MB))})


def many_columns(path: Path) -> None:
    one = pa.array([1])
    write(path, {f"column {number}": one for number in range(2_000)})


def deep_lists(path: Path) -> None:
    value: object = 1
    for _ in range(40):
        value = {"a": value}
    write(path, {"deep": pa.array([value])})


def false_metadata(path: Path) -> None:
    """The footer says that the text has 1,000 bytes; the header of its page is right."""
    large_page(path)
    content = path.read_bytes()
    size = pq.ParquetFile(path).metadata.row_group(0).column(2).total_uncompressed_size
    whole = pq.ParquetFile(path).metadata.row_group(0).total_byte_size
    for each in (size, whole):
        assert content.count(varint(each)) == 1
        content = content.replace(varint(each), varint(1_000, len(varint(each))))
    path.write_bytes(content)


def varint(number: int, length: int = 0) -> bytes:
    """A number as in the footer, zigzag, in at least so many bytes."""
    number, encoded = number << 1, bytearray()
    while number > 0x7F or len(encoded) < length - 1:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


BOMBS: dict[Callable[[Path], None], tuple[str, int]] = {
    dictionary_text: ("", 500),
    dictionary_in_lists: ("", 1_000),
    booleans_in_one_row: ("row group 1, column flags.list.element: has 41,943,040 values; at most 33,554,432", 0),
    large_page: ("row group 1, column description: a page unpacks to 104,", 0),
    pages_of_many_columns: ("the columns up to it may unpack to", 0),
    repeated_prefix: ("", 12),
    wide_values: ("values of column code have 1,048,576 bytes; at most 65,536", 0),
    many_columns: ("has 2,002 columns; at most 2,000", 0),
    deep_lists: ("too deeply nested", 0),
    false_metadata: ("row group 1, column description: a page unpacks to 104,", 0),
}


def peak_bytes() -> int:
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def measure(path: Path) -> tuple[int, str]:
    """The bytes that reading a file adds to a process, and what it reports."""
    before = peak_bytes()
    try:
        outcome = read(path)
        report = outcome.error or f"{len(outcome.rows) + len(outcome.rejected)} rows"
    except BaseException as error:
        report = repr(error)
    return peak_bytes() - before, report


@pytest.mark.parametrize(
    "make", [pytest.param(each, marks=pytest.mark.slow) if each is pages_of_many_columns else each for each in BOMBS]
)
def test_file_is_read_in_bounded_memory(make: Callable[[Path], None], tmp_path: Path) -> None:
    error, rows = BOMBS[make]
    path = tmp_path / "feed.parquet"
    make(path)
    assert path.stat().st_size < 8 * MB
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        grown, report = pool.submit(measure, path).result()
    assert error in report if error else report == f"{rows} rows"
    assert grown < _MEMORY


@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_every_encoding_of_texts_is_read(tmp_path: Path, encoding: str, version: str) -> None:
    rows = 3_000
    texts = pa.array([f"text {number % 7}" for number in range(rows)])
    lists = pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32)), texts)
    table = pa.table({"id": pa.array(map(str, range(rows))), "title": texts, "images": lists, "brand": texts})
    path = tmp_path / "feed.parquet"
    coding = dict.fromkeys(("id", "title", "images.list.element"), encoding)
    options = {"row_group_size": 1_000, "data_page_version": version}
    pq.write_table(table, path, use_dictionary=["brand"], column_encoding=coding, **options)
    outcome = read(path)
    assert (outcome.error, len(outcome.rows)) == ("", rows)
    assert outcome.rows[-1].product.title == texts[-1].as_py()
    assert outcome.rows[8].product.brand == "text 1"


def test_row_over_the_limit_is_rejected_and_the_others_are_read(tmp_path: Path) -> None:
    texts = pa.array(["short", "a" * 12 * MB, "b"])
    path = tmp_path / "feed.parquet"
    write(path, {"description": texts.take(pa.array([0, 1, 1, 1, 1, 1, 1, 2])).dictionary_encode()})
    outcome = read(path)
    assert [row.line for row in outcome.rows] == [1, 8]
    assert {reason for _, reason in outcome.reasons} == {"over 1 MB"}
