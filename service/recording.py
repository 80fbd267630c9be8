"""An engine's way to its events: opened when the first of them comes, by settings that are read then."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.events.event import Event
from retrieval.manifest import file_stamp
from retrieval.store_files import CURRENT

if TYPE_CHECKING:
    from service.event_log import EventLog, Recorded
    from service.settings import Settings


class Recorder:
    """Records events of an index directory. Without `settings` they are read from the file and the environment."""

    def __init__(self, root: Path, settings: Settings | None) -> None:
        self._root = root
        self._settings = settings
        self._opening = threading.Lock()
        self._log: EventLog | None = None
        self._stamp = (0, 0)
        """Of the pointer to the version that serves: with another one events may be kept elsewhere."""
        self._is_clustered = False

    def record(self, events: Iterable[Event]) -> Recorded:
        """As `EventLog.record`."""
        return self._opened().record(events)

    def pseudonyms_of(self, shopper: str) -> list[str]:
        """What stands, or has stood, for a shopper."""
        return sorted(self._opened().intake.pseudonyms.all_of(shopper))

    def _opened(self) -> EventLog:
        # What an engine that only searches does without.
        from service.event_log import EventLog, is_in_cluster
        from service.settings import load_settings

        with self._opening:
            stamp = file_stamp(self._root / CURRENT)
            if self._log is not None and stamp == self._stamp:
                return self._log
            settings = self._settings or load_settings()
            is_clustered = is_in_cluster(self._root, settings)
            if self._log is not None and is_clustered != self._is_clustered:
                self._log.close()
                self._log = None
            if self._log is None:
                self._log = EventLog.open(self._root, settings)
            self._stamp, self._is_clustered = stamp, is_clustered
            return self._log

    def close(self) -> None:
        """Ends it, once what is under way is written."""
        with self._opening:
            if self._log is not None:
                self._log.close()
