"""The experiments of an index directory as searches take part in them: read again when they were changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from retrieval.errors import ShelfwiseError
from service.experiments.store import ExperimentStore
from service.experiments.stored import StoredExperiment, StoredExperiments

_LOOK_SECONDS = 0.25
_SETTLED_SECONDS = 1.0
"""After which a file that is changed again has another time of change for certain."""


@dataclass(frozen=True, slots=True)
class Running:
    """What searches take part in at one moment."""

    experiments: tuple[StoredExperiment, ...]
    key: bytes
    """Signs the marks in query ids."""


def _now() -> datetime:
    return datetime.now(UTC)


class ServedExperiments:
    """Follows a store of experiments. Safe to share between threads."""

    def __init__(self, root: Path, *, clock: Callable[[], datetime] = _now) -> None:
        self.store = ExperimentStore(root, clock=clock)
        self._clock = clock
        self._lock = threading.Lock()
        self._stored = StoredExperiments()
        self._seen: tuple[int, int, int] | None = None
        self._looked = -_LOOK_SECONDS
        self._trouble = ""

    @property
    def notices(self) -> tuple[str, ...]:
        """Why the experiments are not the newest, if they are not."""
        return (self._trouble,) if self._trouble else ()

    def running(self) -> Running:
        """What searches take part in now. Where the file cannot be read, those of before go on, and `notices` says
        why."""
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            self.look()
        now, stored = self._clock(), self._stored
        return Running(tuple(each for each in stored.experiments if each.runs(now)), stored.key)

    def look(self) -> None:
        """Takes up what was changed since the last look."""
        with self._lock:
            self._looked = time.monotonic()
            stamp = self.store.stamp()
            if stamp == self._seen:
                return
            try:
                self._stored = self.store.read()
            except ShelfwiseError as error:
                self._trouble = f"changes of the experiments are not taken up: {error}"
                return
            self._trouble = ""
            # Two changes may share one time of change: what changed just now is looked at again.
            self._seen = stamp if time.time() - stamp[0] / 1e9 > _SETTLED_SECONDS else None
