"""An engine's way to its synonyms: read when they were changed, and laid over the version that serves.

A version keeps the synonyms that it was built with, which are part of its identity; those of the store come on top, in
the queries of an engine alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from retrieval.analysis import Analyzer
from retrieval.errors import ShelfwiseError, StoreDamagedError
from retrieval.synonyms import SynonymRule, Synonyms
from service.snapshot import Snapshot
from service.synonyms.store import StoredSynonyms, SynonymStore
from service.synonyms.synonym import Synonym

_SETTLED_SECONDS = 1.0
"""After which a file that is changed again has another time of change for certain."""


@dataclass(frozen=True, slots=True)
class _Laid:
    """The store's rules, and what they make of a version's analyzer."""

    rules: tuple[SynonymRule, ...] = ()
    base: Analyzer | None = None
    analyzer: Analyzer | None = None


class ServedSynonyms:
    """The synonyms of an index directory as searches follow them. Thread-safe."""

    def __init__(self, root: Path, *, follow: bool = True) -> None:
        """Without `follow` searches go by the version's own alone."""
        self.store = SynonymStore(root)
        self._follow = follow
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._revision = self._file = 0
        """Up to where they were read, from which file, by its inode."""
        self._laid = _Laid()
        self._now: tuple[Snapshot, _Laid, Snapshot] | None = None
        """The version last asked for, under which rules, and what they made of it."""
        self.notices: tuple[str, ...] = ()
        """Why searches do not go by the newest synonyms, if they do not."""

    def look(self, snapshot: Snapshot) -> None:
        """Takes up what was changed since the last look. Where that fails the synonyms stay, and `notices` says why."""
        if not self._follow:
            return
        stamp = self.store.stamp()
        if stamp != self._seen or self._laid.base is not snapshot.analyzer:
            with self._lock:
                self._read(stamp, snapshot.analyzer)

    def over(self, snapshot: Snapshot) -> Snapshot:
        """A version with the store's synonyms beside its own: the same object each time, while nothing changes."""
        now, laid = self._now, self._laid
        if now and now[0] is snapshot and now[1] is laid:
            return now[2]
        if laid.base is not snapshot.analyzer:
            with self._lock:
                laid = self._laid
                if laid.base is not snapshot.analyzer:
                    laid = self._laid = _laid(laid.rules, snapshot.analyzer)
        made = replace(snapshot, analyzer=laid.analyzer) if laid.rules and laid.analyzer else snapshot
        self._now = (snapshot, laid, made)
        return made

    def _read(self, stamp: tuple[int, int, int], base: Analyzer) -> None:
        """Under the lock. Searches go on by what was laid before, meanwhile."""
        if self._laid.base is not base:
            self._laid = _laid(self._laid.rules, base)
        try:
            # Another file may have come in its place, from a backup, with as many revisions.
            if self.store.revision() != self._revision or stamp[1] != self._file:
                self._take(self.store.read(), stamp[1], base)
        except ShelfwiseError as error:
            self.notices = (f"changes of the synonyms are not taken up: {error}",)
            return
        self.notices = ()
        # Two changes may share one time of change: what changed just now is looked at again.
        self._seen = stamp if time.time() - stamp[0] / 1e9 > _SETTLED_SECONDS else None

    def _take(self, read: StoredSynonyms, file: int, base: Analyzer) -> None:
        if file and self._revision and not read.revision:
            # Cut off, or just being made anew; to have no synonyms any more, one deletes them, or the file.
            raise StoreDamagedError(f"{self.store.path} is empty; restore it from a backup, or remove it")
        self._laid = _laid(rules_of(read.synonyms), base)
        self._revision, self._file = read.revision, file


def rules_of(synonyms: Sequence[Synonym]) -> tuple[SynonymRule, ...]:
    """What the synonyms that are on say, in their order."""
    return tuple(rule for synonym in synonyms if synonym.enabled for rule in synonym.rules)


def _laid(rules: tuple[SynonymRule, ...], base: Analyzer) -> _Laid:
    return _Laid(rules, base, Analyzer(Synonyms((*base.synonyms.rules, *rules))) if rules else base)
