"""An engine's way to its events: opened when the first of them comes, by settings that are read then."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.events.event import Event

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

    def record(self, events: Iterable[Event]) -> Recorded:
        """As `EventLog.record`."""
        return self._opened().record(events)

    def _opened(self) -> EventLog:
        # What an engine that only searches does without.
        from service.event_log import EventLog
        from service.settings import load_settings

        with self._opening:
            if self._log is None:
                self._log = EventLog.open(self._root, self._settings or load_settings())
            return self._log

    def close(self) -> None:
        """Ends it, once what is under way is written."""
        with self._opening:
            if self._log is not None:
                self._log.close()
