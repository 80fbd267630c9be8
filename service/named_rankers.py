"""Rankers that searches name, beside the one that serves: each opened when it is first asked for, and kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rerank.ranker.spec import Encoding
from retrieval.errors import RankerError, ShelfwiseError

if TYPE_CHECKING:
    from service.reranker import Reranker

MOST = 8
"""That are kept; one more, and the one that was opened first is closed."""
_AGAIN_SECONDS = 5.0
"""After which one that could not be opened is tried again: to verify one reads all of it."""
_MOST_FAILED = 100


@dataclass(frozen=True, slots=True)
class OpenedRanker:
    """A ranker at work, with what the settings said when it was opened."""

    reranker: Reranker
    deadline: float
    """Seconds."""
    floor: float


@dataclass(frozen=True, slots=True)
class _Failed:
    error: RankerError
    again: float
    """When to try again, by the monotonic clock."""


class NamedRankers:
    """Thread-safe: no search waits for another one's ranker, but for one that is being opened."""

    def __init__(self, opened: Callable[[str, Encoding], OpenedRanker]) -> None:
        """`opened` opens one for an index's encoding; raises ShelfwiseError where it cannot serve."""
        self._opened = opened
        self._opening = threading.Lock()
        self._kept: dict[tuple[str, Encoding], OpenedRanker] = {}
        self._failed: dict[tuple[str, Encoding], _Failed] = {}
        self._is_closed = False

    @property
    def any(self) -> bool:
        """Whether one is kept."""
        return bool(self._kept)

    def get(self, name: str, encoding: Encoding) -> OpenedRanker:
        """The ranker of this name; raises RankerError, of its kind, where it cannot serve an index of this encoding."""
        kept = self._kept.get((name, encoding))
        if kept is not None:
            return kept
        with self._opening:
            return self._kept.get((name, encoding)) or self._open(name, encoding)

    def retry(self) -> None:
        """Has those that could not be opened tried again when they are next asked for."""
        with self._opening:
            self._failed.clear()

    def drop(self) -> None:
        """Closes all of them: each is opened anew when it is next asked for, if it can serve then."""
        with self._opening:
            kept, self._kept = self._kept, {}
            self._failed.clear()
        for each in kept.values():
            each.reranker.close()

    def close(self) -> None:
        """Closes all of them, for good."""
        with self._opening:
            self._is_closed = True
        self.drop()

    def _open(self, name: str, encoding: Encoding) -> OpenedRanker:
        failed = self._failed.get((name, encoding))
        if failed and time.monotonic() < failed.again:
            raise type(failed.error)(str(failed.error))
        if self._is_closed:
            raise RankerError(f"{name} is not opened any more: the engine is closed")
        try:
            made = self._opened(name, encoding)
        except (ShelfwiseError, OSError) as error:
            told = error if isinstance(error, RankerError) else RankerError(f"{name} cannot be opened: {error}")
            if len(self._failed) >= _MOST_FAILED:
                self._failed.clear()
            self._failed[name, encoding] = _Failed(told, time.monotonic() + _AGAIN_SECONDS)
            raise told from error
        while len(self._kept) >= MOST:
            # Searches that have it already compute on in their own threads.
            self._kept.pop(next(iter(self._kept))).reranker.close()
        self._kept[name, encoding] = made
        return made
