"""Compressed feeds: a bomb is bounded, whatever its format; honest feeds pack well too."""

from __future__ import annotations

import gzip
import resource
from pathlib import Path

import pytest
import zstandard

from tests.unit.indexer.feeds.feed_outcome import read_bytes

MEGABYTE = 1 << 20


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
@pytest.mark.parametrize("start", [b"", b'{"id": "', b"[", b"<rss>", b"id,title\n1,"])
def test_a_bomb_is_refused_with_its_line_in_little_memory(tmp_path: Path, pack: object, start: bytes) -> None:
    assert callable(pack)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    zeros = pack(start + b"0" * (300 * MEGABYTE))
    between = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = read_bytes(tmp_path, zeros)
    assert "line " in outcome.error or "cannot be recognised" in outcome.error
    assert not outcome.rows
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - between) * 1024
    assert grown < 300 * MEGABYTE
    assert before <= between


def test_a_small_feed_of_equal_rows_is_no_bomb(tmp_path: Path) -> None:
    content = b'{"id": "1", "title": "a"}\n' * 100_000
    outcome = read_bytes(tmp_path, zstandard.compress(content))
    assert (len(outcome.rows), len(outcome.rejected), outcome.error) == (1, 99_999, "")
