"""Malformed feeds of every format: products, rejections with lines, or one feed error with a line; never anything
else."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pyarrow  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.feeds.reader import FORMATS
from tests.unit.indexer.feeds.feed_outcome import FEEDS, Outcome, read_bytes

NAMES = sorted(path.name for path in FEEDS.iterdir())
_SCRAP_LIST = (
    b"\"|'|\n|\r|,|\t|<|>|</item>|&|&x;|]]>|<![CDATA[|[|}|\\|\0|\xff|\xc3|\xef\xbb\xbf|id:100|1e999|NaN|;|"
    b"<!DOCTYPE x [|<!--"
)
SCRAPS = _SCRAP_LIST.split(b"|")


def check(outcome: Outcome) -> None:
    assert all(rejected.line > 0 and rejected.reason for rejected in outcome.rejected)
    whole = ("line ", "no column", "items have no", "feed: is ", "--format")
    assert not outcome.error or any(part in outcome.error for part in whole)
    for line in outcome.rejected_file.splitlines():
        assert msgspec.json.decode(line)["line"] > 0


def parquet() -> bytes:
    ids, titles = ["1", "2", "3", "4"], ["drill", None, "saw", "hose"]
    offers = [{"amount": 1.5}, None, {"amount": 2.5}, {"amount": -1.0}]
    table = pyarrow.table({"id": ids, "title": titles, "price": offers, "tags": [["a"], [], None, ["b", "c"]]})
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file, row_group_size=2)
    return file.getvalue()


WHOLE = {name: (FEEDS / name).read_bytes() for name in NAMES} | {"products.parquet": parquet()}


@pytest.mark.parametrize("name", WHOLE)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(st.data())
def test_a_feed_with_scraps_in_it_is_read_or_refused(tmp_path: Path, name: str, data: st.DataObject) -> None:
    content = bytearray(WHOLE[name])
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        length = data.draw(st.sampled_from([0, 1, 5, 50]))
        content[start : start + length] = data.draw(st.sampled_from(SCRAPS) | st.binary(max_size=6))
    first = read_bytes(tmp_path, bytes(content))
    check(first)
    check(read_bytes(tmp_path, first.rejected_file))


@pytest.mark.parametrize("name", WHOLE)
def test_a_feed_that_is_cut_off_anywhere_is_read_or_refused(tmp_path: Path, name: str) -> None:
    content = WHOLE[name]
    for length in range(0, len(content), max(1, len(content) // 60)):
        check(read_bytes(tmp_path, content[:length]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(st.binary(max_size=200), st.sampled_from(["", *FORMATS]))
def test_any_bytes_in_any_format_are_read_or_refused(tmp_path: Path, content: bytes, name: str) -> None:
    check(read_bytes(tmp_path, content, format=name))
