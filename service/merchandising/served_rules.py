"""An engine's way to its rules: read when they were changed, compiled for the version that serves."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from retrieval.errors import ShelfwiseError, StoreDamagedError
from retrieval.fields import FieldCatalog
from service.merchandising.compiled import CompiledRules, fields_key
from service.merchandising.rule import Rule
from service.merchandising.store import RuleStore, StoredRules
from service.snapshot import Snapshot

_SETTLED_SECONDS = 1.0
"""After which a file that is changed again has another time of change for certain."""


class ServedRules:
    """The rules of an index directory as searches follow them. Thread-safe."""

    def __init__(self, root: Path) -> None:
        self.store = RuleStore(root)
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._stored = StoredRules()
        self._file = 0
        """Which file they were read from, by its inode."""
        self._now: tuple[FieldCatalog, CompiledRules | None] | None = None
        """For which fields rules were compiled last, and what came of it."""
        self._key: object = None
        self._trouble: tuple[str, ...] = ()

    @property
    def notices(self) -> tuple[str, ...]:
        """Which rules are passed over, and why the others are not the newest, if they are not."""
        now = self._now
        compiled = now[1] if now else None
        return (*self._trouble, *(compiled.notices if compiled else ()))

    def look(self, snapshot: Snapshot) -> None:
        """Takes up what was changed since the last look. Where that fails the rules stay, and `notices` says why."""
        stamp = self.store.stamp()
        if stamp != self._seen:
            with self._lock:
                self._read(stamp, snapshot)

    def compiled(self, snapshot: Snapshot) -> CompiledRules | None:
        """The rules for searches of a snapshot; None where there are none."""
        now = self._now
        if now and now[0] is snapshot.catalog:
            return now[1]
        with self._lock:
            return self._compiled(snapshot)

    def _compiled(self, snapshot: Snapshot) -> CompiledRules | None:
        """Under the lock. Searches go on by what was compiled before, meanwhile."""
        now = self._now
        key = (snapshot.manifest.version, fields_key(snapshot.catalog), self._stored.revision, self._file)
        compiled = now[1] if now and key == self._key else compiled_for(self._stored.rules, snapshot)
        self._now, self._key = (snapshot.catalog, compiled), key
        return compiled

    def _read(self, stamp: tuple[int, int, int], snapshot: Snapshot) -> None:
        try:
            # Another file may have come in its place, from a backup, with as many revisions.
            if self.store.revision() != self._stored.revision or stamp[1] != self._file:
                self._take(self.store.read(), stamp[1], snapshot)
        except ShelfwiseError as error:
            self._trouble = (f"changes of the rules are not taken up: {error}",)
            return
        self._trouble = ()
        # Two changes may share one time of change: what changed just now is looked at again.
        self._seen = stamp if time.time() - stamp[0] / 1e9 > _SETTLED_SECONDS else None

    def _take(self, read: StoredRules, file: int, snapshot: Snapshot) -> None:
        if file and self._stored.revision and not read.revision:
            # Cut off, or just being made anew; to have no rules any more, one deletes them, or the file.
            raise StoreDamagedError(f"{self.store.path} is empty; restore it from a backup, or remove it")
        self._stored, self._file = read, file
        self._compiled(snapshot)


def compiled_for(rules: Sequence[Rule], snapshot: Snapshot) -> CompiledRules | None:
    """Rules made ready for a snapshot's version; None where there are none."""
    return CompiledRules(rules, snapshot.catalog, snapshot.analyzer) if rules else None
