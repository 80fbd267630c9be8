"""Stores of events for tests: their places, from which any process can open them; and events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from hypothesis import strategies as st

from shelfwise.retrieval.elasticsearch.client import Cluster
from shelfwise.retrieval.elasticsearch.settings import ClusterSettings
from shelfwise.retrieval.events.elasticsearch import ElasticsearchEvents
from shelfwise.retrieval.events.sqlite import SqliteEvents
from shelfwise.retrieval.events.store import EventStore
from shelfwise.retrieval.events.stored import DAY_MS, StoredEvent
from shelfwise.retrieval.records import EventKind

DECEMBER = (date(2026, 12, 1) - date(1970, 1, 1)).days
"""Day number of 1 December 2026, the first day of a month."""
_NOTHING = StoredEvent(bytes(16), EventKind.CLICK, DECEMBER * DAY_MS, 7, "", "", "", "", "", None, None, None, None)


class Place(Protocol):
    """The place of a store of events; it can be sent to another process."""

    def open(self) -> EventStore: ...


@dataclass(frozen=True, slots=True)
class Folder:
    """The place of an SQLite file."""

    path: Path

    def open(self) -> EventStore:
        return SqliteEvents(self.path)


@dataclass(frozen=True, slots=True)
class Alias:
    """The place of events in a cluster. Erasure does not wait for the merge of files, which takes half a minute."""

    settings: ClusterSettings

    def open(self) -> ElasticsearchEvents:
        return ElasticsearchEvents(Cluster(self.settings), waits_for_files=False)


@contextmanager
def aliased(url: str, **more: object) -> Iterator[Alias]:
    """A place without events in a cluster, deleted at the end."""
    settings = ClusterSettings((url,), alias=f"test-{uuid4().hex[:12]}", **more)  # type: ignore[arg-type]
    try:
        yield Alias(settings)
    finally:
        with closing(Cluster(settings)) as cluster:
            cluster.delete([f"ubi-{settings.alias}"])


def event(number: int, **values: object) -> StoredEvent:
    """An event with a number as its key; by default a click at the beginning of December."""
    plain = _NOTHING._replace(key=number.to_bytes(16, "big"), product_id=f"p{number}")
    return plain._replace(**values)  # type: ignore[arg-type]


def at(day: int, ms: int = 0) -> int:
    """A time on a day of December, in milliseconds since 1970; earlier days are numbered 0 and below."""
    return (DECEMBER + day - 1) * DAY_MS + ms


_TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
_NUMBERS = st.none() | st.integers(0, 2**31 - 1)


def any_events(
    keys: st.SearchStrategy[bytes],
    times: st.SearchStrategy[int],
    shoppers: st.SearchStrategy[str] = _TEXTS,
    sessions: st.SearchStrategy[str] = _TEXTS,
) -> st.SearchStrategy[StoredEvent]:
    """Events of any kind and with any values."""
    kinds = st.sampled_from([kind.value for kind in EventKind])
    numbers = (_NUMBERS, _NUMBERS, st.none() | st.floats(0, 5), _NUMBERS)
    texts = (shoppers, sessions, _TEXTS, _TEXTS, _TEXTS)
    return st.builds(StoredEvent, keys, kinds, times, st.integers(at(1), at(2)), *texts, *numbers, _TEXTS)
