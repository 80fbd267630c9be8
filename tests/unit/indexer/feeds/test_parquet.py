"""Parquet feeds: typed columns, compressed and piped files, and damaged ones."""

from __future__ import annotations

import gzip
import io
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.retrieval.records import Product
from tests.unit.indexer.feeds.feed_outcome import read, read_bytes

ROW = {
    "Product ID": 17,
    "title": "Drill",
    "price": Decimal("12.90"),
    "currency": "EUR",
    "in_stock": True,
    "images": ["a.jpg", "b.jpg"],
    "created": datetime(2024, 1, 2, 3, tzinfo=UTC),
    "expires": date(2024, 12, 31),
    "attributes": {"volt": 18.0, "kind": b"text"},
    "weight": 2,
}


def packed(*rows: dict[str, object]) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), file, row_group_size=2)
    return file.getvalue()


CONTENT = packed(*({**ROW, "Product ID": number} for number in range(5)))


def test_typed_columns_become_fields(tmp_path: Path) -> None:
    outcome = read_bytes(tmp_path, packed(ROW))
    assert not (outcome.rejected or outcome.noted or outcome.error)
    (row,) = outcome.rows
    product = row.product
    assert (row.line, product.id, product.price, product.currency) == (1, "17", 12.9, "EUR")
    assert (product.images, product.created) == (("a.jpg", "b.jpg"), datetime(2024, 1, 2, 3, tzinfo=UTC))
    assert product.expires == datetime(2024, 12, 31, tzinfo=UTC)
    assert product.attributes == {"volt": 18.0, "kind": "text", "weight": 2.0}


def test_a_row_is_named_by_its_number_and_can_be_written_as_json(tmp_path: Path) -> None:
    outcome = read_bytes(tmp_path, packed(ROW, {**ROW, "title": None}))
    assert outcome.reasons == [(2, "no title")]
    assert b'"12.90"' in outcome.rejected_file


def test_compressed_and_piped_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_bytes(tmp_path, gzip.compress(CONTENT)).ids == ["0", "1", "2", "3", "4"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CONTENT)))
    assert read("-").ids == ["0", "1", "2", "3", "4"]


def test_file_without_an_id_suggests_a_mapping(tmp_path: Path) -> None:
    content = packed({"code": "1", "title": "a"})
    assert "no column is the id" in read_bytes(tmp_path, content).error
    assert read_bytes(tmp_path, content, ["id=code"]).products["1"] == Product("1", "a")


def test_truncated_file_raises(tmp_path: Path) -> None:
    for content in (CONTENT[:-1], CONTENT[:50], b"PAR1\x15\x04"):
        assert "cannot be read after line 0" in read_bytes(tmp_path, content).error


@given(st.data())
def test_damaged_file_raises_only_feed_errors(tmp_path: Path, data: st.DataObject) -> None:
    damaged = bytearray(CONTENT)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(4, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    outcome = read_bytes(tmp_path, bytes(damaged))
    assert all(rejected.line > 0 for rejected in outcome.rejected)
