"""Malformed feeds of every format: products, rejections with lines, or one feed error with a line; never anything
else."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.indexer.feed_outcome import FEEDS, Outcome, read_bytes

NAMES = sorted(path.name for path in FEEDS.iterdir())
SCRAPS = [b'"', b"'", b"\n", b"\r", b",", b"\t", b"<", b">", b"</item>", b"&", b"&x;", b"]]>", b"<![CDATA[", b"[", b"}"]
SCRAPS += [
    b"\\",
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xef\xbb\xbf",
    b"id:100",
    b"1e999",
    b"NaN",
    b"<!DOCTYPE x [",
    b"<!--",
    b";",
]


def check(outcome: Outcome) -> None:
    assert all(rejected.line > 0 and rejected.reason for rejected in outcome.rejected)
    whole = ("line ", "no column", "items have no", "feed: is ", "--format")
    assert not outcome.error or any(part in outcome.error for part in whole)
    for line in outcome.rejected_file.splitlines():
        assert msgspec.json.decode(line)["line"] > 0


@pytest.mark.parametrize("name", NAMES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(st.data())
def test_a_feed_with_scraps_in_it_is_read_or_refused(tmp_path: Path, name: str, data: st.DataObject) -> None:
    content = bytearray((FEEDS / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        length = data.draw(st.sampled_from([0, 1, 5, 50]))
        content[start : start + length] = data.draw(st.sampled_from(SCRAPS) | st.binary(max_size=6))
    first = read_bytes(tmp_path, bytes(content))
    check(first)
    check(read_bytes(tmp_path, first.rejected_file))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(st.binary(max_size=200), st.sampled_from(["", "csv", "json", "google-xml", "shopify", "rejected", "parquet"]))
def test_any_bytes_in_any_format_are_read_or_refused(tmp_path: Path, content: bytes, name: str) -> None:
    check(read_bytes(tmp_path, content, format=name))
