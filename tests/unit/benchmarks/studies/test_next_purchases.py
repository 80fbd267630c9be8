"""The study of the next purchase: what is learned before the cutoff, and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from benchmarks.studies.recommend import PurchaseLine, read_lines, split_by_file
from retrieval.errors import InputError

ROWS = {name: row for row, name in enumerate("abcdef")}


def test_nothing_after_the_cutoff_is_learned() -> None:
    choosing = [PurchaseLine("u", ("a",), "b"), PurchaseLine("u", ("a", "b"), "c"), PurchaseLine("v", ("a",), "a")]
    measuring = [
        PurchaseLine("u", ("b", "c"), "d"),
        PurchaseLine("w", ("e",), "f"),
        PurchaseLine("w", ("e", "f"), "gone"),
        PurchaseLine("v", (), "b"),
    ]
    before, after = split_by_file(choosing, measuring, ROWS.get)
    assert sorted(before.learned.products.tolist()) == [0, 0, 4]
    assert before.held.targets.tolist() == [1, 2]
    assert sorted(after.learned.products.tolist()) == [0, 0, 0, 1, 2, 4]
    assert after.held.targets.tolist() == [3, 5]
    assert after.held.histories.products.tolist() == [1, 2, 4]
    assert len({*before.shoppers.tolist()}) == 1
    assert {*before.shoppers.tolist()} < {*after.shoppers.tolist()}


def test_lines_are_read_and_faults_named(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"user": "u", "history": ["a"], "next": "b"}\n'))
    assert read_lines(path) == [PurchaseLine("u", ("a",), "b")]
    path.write_bytes(gzip.compress(b'{"user": "u", "history": ["a"], "next": "b"}\n{"user": "u"}\n'))
    with pytest.raises(InputError, match=r"line 2: .*next.*; a line has user, history and next|line 2: .*history"):
        read_lines(path)
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(InputError, match="has no line"):
        read_lines(path)
    with pytest.raises(InputError, match="nothing can be measured"):
        split_by_file([PurchaseLine("u", ("a",), "a")], [PurchaseLine("u", ("a",), "a")], ROWS.get)
