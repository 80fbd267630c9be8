from __future__ import annotations

import pytest

from indexer.events import importer
from indexer.events.importer import ImportCounts
from retrieval.events.store import AppendResult
from retrieval.events.stored import StoredEvent


def event(number: int, time: int) -> StoredEvent:
    key = number.to_bytes(16, "big")
    return StoredEvent(key, "click", time, 0, "u1", "", "q1", "", f"B{number}", None, None, None, None)


def test_what_was_refused_is_not_counted() -> None:
    counts = ImportCounts()
    counts.add([event(1, 50), event(2, 10), event(3, 70)], AppendResult(1, 1, (1,)))
    counts.add([event(4, 40)], AppendResult(0, 0, (0,)))
    counts.add([event(5, 60)], AppendResult(1, 0))
    assert (counts.added, counts.repeated, counts.kinds) == (2, 1, {"click": 3})
    assert (counts.first, counts.last) == (50, 70)
    assert (counts.products.count, counts.shoppers.count, counts.sessions.count) == (3, 1, 0)


def test_too_many_are_not_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer, "MOST_COUNTED", 3)
    counts = ImportCounts()
    for number in range(5):
        counts.add([event(number, 0)], AppendResult(1, 0))
    assert (counts.products.count, counts.shoppers.count) == (None, 1)
