"""Values that the engine reads from files and loads again when the files change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from rerank.ranker.memory import NO_MEMORY, QueryMemory
from retrieval.errors import ShelfwiseError
from retrieval.store.files import file_stamp
from retrieval.store.manifest import MEMORY_FILE, POPULAR_QUERIES_FILE, POPULARITY_FILE, RELATIONS_FILE
from service.events.popular_queries import NO_QUERIES, PopularQueries, read_popular_queries
from service.events.signals import (
    NO_POPULARITY,
    NO_RELATIONS,
    Popularity,
    Relations,
    read_memory,
    read_popularity,
    read_relations,
)

T = TypeVar("T")

_SETTLED_SECONDS = 1.0
"""Two writes of a file within this time may have the same time of change."""


class ReloadedFile(Generic[T]):
    """A value loaded from a file. Thread-safe.

    Where the file cannot be used, the value is the default or, with `keeps_value`, the last one that was loaded; a
    notice gives the reason.
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
        """`load` gets the last value, and raises ShelfwiseError for a file that cannot be used; the notice begins with
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
        """Checks the file; returns whether the value is another one now."""
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
    return ReloadedFile(path, lambda _: read_popularity(root), NO_POPULARITY, "no product counts as popular")


def follow_relations(root: Path) -> ReloadedFile[Relations]:
    """The co-views and relations of an index directory's products."""
    failure = "similar products are found by their texts alone"
    return ReloadedFile(root / RELATIONS_FILE, lambda _: read_relations(root), NO_RELATIONS, failure)


def follow_memory(root: Path) -> ReloadedFile[QueryMemory]:
    """What shoppers of an index directory chose for their queries."""
    return ReloadedFile(root / MEMORY_FILE, lambda _: read_memory(root), NO_MEMORY, "the ranker remembers no query")


def follow_popular_queries(root: Path) -> ReloadedFile[PopularQueries]:
    """The popular queries of an index directory."""

    def load(_: PopularQueries) -> PopularQueries:
        queries = read_popular_queries(root)
        queries.prepare()
        return queries

    return ReloadedFile(root / POPULAR_QUERIES_FILE, load, NO_QUERIES, "no popular query is suggested")
