"""Values that the engine loads from files and reloads when the files change; and the event log, which is reopened when
another version may store it elsewhere."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from shelfwise.rerank.ranker.memory import NO_MEMORY, QueryMemory
from shelfwise.retrieval.errors import ShelfwiseError
from shelfwise.retrieval.events.stored import KEY_BYTES
from shelfwise.retrieval.records import Event, EventKind, Page
from shelfwise.retrieval.store.files import file_stamp
from shelfwise.retrieval.store.manifest import (
    CURRENT,
    EVENTS_FOLDER,
    MEMORY_FILE,
    POPULAR_QUERIES_FILE,
    POPULARITY_FILE,
    RELATIONS_FILE,
)
from shelfwise.service.events.popular_queries import NO_QUERIES, PopularQueries, read_popular_queries
from shelfwise.service.events.signals import (
    NO_POPULARITY,
    NO_RELATIONS,
    Popularity,
    Relations,
    read_memory,
    read_popularity,
    read_relations,
)

if TYPE_CHECKING:
    from shelfwise.retrieval.events.stored import StoredEvent
    from shelfwise.service.events.event_log import EventLog, RecordResult
    from shelfwise.service.settings import Settings

T = TypeVar("T")

_NUMBER_BYTES = 8
_SETTLED_SECONDS = 1.0
"""Seconds within which two writes of a file may have the same modification time."""


class ReloadedFile(Generic[T]):
    """A value loaded from a file. Thread-safe.

    If the file cannot be used, the value is the default or, with `keeps_value`, the last loaded one, and a notice gives
    the reason.
    """

    def __init__(
        self,
        path: Path,
        load: Callable[[T], T],
        default: T,
        failure: str,
        *,
        keeps_value: bool = False,
        interval: float = 0.0,
    ) -> None:
        """`load` gets the last value, and raises ShelfwiseError if the file cannot be used; the notice then begins with
        `failure`. The file is checked at most every `interval` seconds."""
        self._path, self._load, self._default, self._failure = path, load, default, failure
        self._keeps_value = keeps_value
        self._interval = interval
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._checked = -interval
        self.value = default
        self.notices: tuple[str, ...] = ()

    def current(self) -> T:
        """The value, after a check of the file if the interval has passed."""
        if time.monotonic() - self._checked >= self._interval:
            self.reload_if_changed()
        return self.value

    def reload_if_changed(self) -> bool:
        """Checks the file; returns whether the value has changed."""
        with self._lock:
            self._checked = time.monotonic()
            stamp = file_stamp(self._path)
            if stamp == self._stamp:
                return False
            before = self.value
            try:
                self.value, self.notices = self._load(before), ()
            except ShelfwiseError as error:
                self.notices = (f"{self._failure}: {error}",)
                if self._keeps_value:
                    return False
                self.value = self._default
            is_settled = not self._keeps_value or time.time() - stamp[0] / 1e9 > _SETTLED_SECONDS
            self._stamp = stamp if is_settled else None
            return self.value is not before


def follow_popularity(root: Path) -> ReloadedFile[Popularity]:
    """The popularity of an index directory's products."""
    path = root / POPULARITY_FILE
    return ReloadedFile(path, lambda _: read_popularity(root), NO_POPULARITY, "product popularity is not used")


def follow_relations(root: Path) -> ReloadedFile[Relations]:
    """The co-views and relations of an index directory's products."""
    failure = "similar products are found by their texts alone"
    return ReloadedFile(root / RELATIONS_FILE, lambda _: read_relations(root), NO_RELATIONS, failure)


def follow_memory(root: Path) -> ReloadedFile[QueryMemory]:
    """Shoppers' choices for the queries of an index directory."""
    return ReloadedFile(root / MEMORY_FILE, lambda _: read_memory(root), NO_MEMORY, "the query memory is not used")


def follow_popular_queries(root: Path) -> ReloadedFile[PopularQueries]:
    """The popular queries of an index directory."""

    def load(_: PopularQueries) -> PopularQueries:
        queries = read_popular_queries(root)
        queries.prepare()
        return queries

    return ReloadedFile(root / POPULAR_QUERIES_FILE, load, NO_QUERIES, "popular queries are not suggested")


class Recorder:
    """Records events of an index directory, and opens their store with the first one. Without `settings`, they are then
    read from the file and the environment."""

    def __init__(self, root: Path, settings: Settings | None) -> None:
        self._root = root
        self._settings = settings
        self._opening = threading.Lock()
        self._log: EventLog | None = None
        self._stamp = (0, 0, 0)
        """Stamp of the pointer to the serving version; another version may store events elsewhere."""
        self._is_clustered = False
        self._secret = secrets.token_bytes(KEY_BYTES)
        """Signs the answers of this process until the first event creates the keys of the directory."""

    @property
    def notices(self) -> tuple[str, ...]:
        return getattr(self._log and self._log.store, "notices", ())

    def record(self, events: Iterable[Event]) -> RecordResult:
        return self._opened().record(events)

    def stored(self, events: Iterable[Event]) -> list[StoredEvent]:
        """Events in their stored form, without storing them."""
        return self._opened().prepare(events)

    def pseudonyms_of(self, shopper: str) -> list[str]:
        return sorted(self._opened().intake.pseudonyms.all_pseudonyms(shopper))

    def answer_id(self, query: str, page: Page) -> str:
        """A new query id, by which `is_answer` recognises the list of an answer; any other one where no events can be
        recorded."""
        number = secrets.token_hex(_NUMBER_BYTES)
        hits = enumerate((hit.product.id for hit in page.hits), (page.page - 1) * page.size + 1)
        try:
            return number + self._marks(number, query, page.total if query.strip() else None, hits)[-1]
        except ShelfwiseError:
            return uuid.uuid4().hex

    def is_answer(self, query_id: str, events: Sequence[Event]) -> bool:
        """Whether events are the query (if it has a text) and the impressions of an answer with an `answer_id`. Only
        the query needs the text."""
        number, mark = query_id[: 2 * _NUMBER_BYTES], query_id[2 * _NUMBER_BYTES :].partition("~")[0]
        impressions = [each for each in events if each.kind is EventKind.IMPRESSION]
        queries = [each for each in events if each.kind is EventKind.QUERY]
        text = queries[0].query if queries else ""
        is_about_product = any(each.product_id for each in queries)
        if not mark or len(queries) > 1 or is_about_product or any(each.query not in ("", text) for each in events):
            return False
        hits = sorted((each.position or 0, each.product_id) for each in impressions)
        total = queries[0].results if queries else None
        marks = self._marks(number, text, total, hits)
        return any(hmac.compare_digest(mark.encode("utf-8", "replace"), each.encode()) for each in marks)

    def _marks(self, number: str, query: str, total: int | None, hits: Iterable[tuple[int, str]]) -> list[str]:
        """The signatures of an answer: by the secret of this process, and by the keys of the directory, if it has any:
        a search creates no file."""
        content = msgspec.json.encode(("answer", number, query, total, list(hits)))
        signatures = [hmac.digest(self._secret, content, "sha256")[:KEY_BYTES]]
        if (self._root / EVENTS_FOLDER).is_dir():
            signatures.append(self._opened().intake.pseudonyms.key(content.decode()))
        return [each.hex() for each in signatures]

    def _opened(self) -> EventLog:
        # Not needed by an engine that only searches.
        from shelfwise.service.events.event_log import EventLog, is_in_cluster
        from shelfwise.service.settings import load_settings

        with self._opening:
            stamp = file_stamp(self._root / CURRENT)
            if self._log is not None and stamp == self._stamp:
                return self._log
            settings = self._settings or load_settings()
            is_clustered = is_in_cluster(self._root, settings)
            if self._log is not None and is_clustered != self._is_clustered:
                self._log.close()
                self._log = None
            self._log = self._log or EventLog.open(self._root, settings)
            self._stamp, self._is_clustered = stamp, is_clustered
            return self._log

    def close(self) -> None:
        with self._opening:
            if self._log is not None:
                self._log.close()
