"""The version that an engine answers from, with live changes laid over it, swapped for what is published later."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence

from retrieval.changes import Change, sound
from retrieval.errors import SettingError, ShelfwiseError
from retrieval.journal import Journal
from retrieval.manifest import Manifest, file_stamp
from retrieval.published import CURRENT, Store
from service.connection import Connection
from service.live import Changed, LiveSnapshot
from service.snapshot import Snapshot, open_snapshot

_AGAIN_SECONDS = 5.0
"""After which a version that could not be opened is tried again."""


class FollowedVersion:
    """Safe to share between threads: whoever has a snapshot keeps it, whatever comes next."""

    def __init__(self, store: Store, snapshot: Snapshot, connection: Connection, *, follow: bool) -> None:
        """Without `follow` neither live changes nor later versions are taken up."""
        self._store = store
        self._connection = connection
        self._follow = follow
        self._journal = Journal(store.root)
        self._swap = threading.Lock()
        """Held while the snapshot is replaced: by a live change, or by a new version."""
        self._opening = threading.Lock()
        """Held while a new version is opened."""
        self._is_closed = False
        self._seen = file_stamp(store.root / CURRENT)
        self._seen_changes: tuple[int, int] | None = None
        self._trouble: dict[str, str] = {}
        self._again = math.inf
        """When to try again to open a version that could not be opened."""
        self._live = LiveSnapshot(snapshot)
        self.changed: float | None = None
        """When the last live changes were taken up, in seconds since 1970; None before the first."""

    @property
    def snapshot(self) -> Snapshot:
        """As it is now."""
        return self._live.snapshot

    @property
    def manifest(self) -> Manifest:
        """What the version is made of."""
        return self.snapshot.manifest

    @property
    def notices(self) -> tuple[str, ...]:
        """What could not be taken up, and why."""
        return (*self._journal.notices, *self._trouble.values())

    @property
    def is_due(self) -> bool:
        """Whether another version is published, or one that could not be opened may be tried again."""
        is_new = file_stamp(self._store.root / CURRENT) != self._seen
        return (is_new or time.monotonic() > self._again) and not self._opening.locked()

    def catch_up(self) -> None:
        """Takes up live changes of others; `notices` says why, where they cannot be."""
        with self._swap:
            if self._is_closed:
                return
            stamp = self._journal.changed_stamp()
            if stamp != self._seen_changes and self._apply_or_tell():
                self._seen_changes = stamp

    def change(self, changes: Sequence[Change], completed: Callable[[Change], Change]) -> Changed:
        """Takes changes durably, all or none of them; `completed` adds what follows from one, by the products as they
        are then. Raises ChangeError for one that is not sound, and what `completed` does."""
        if not self._follow:
            raise SettingError("this engine was opened with follow=False, which answers from the version as it is")
        checked = [sound(change) for change in changes]
        with self._swap:
            self._apply_new()
            # Refused before it is taken: once it is in the journal it stands.
            self.snapshot.keyword.check_changeable()
            wanted = self._live.effective([completed(change) for change in checked])
            numbers = self._journal.append(wanted, above=self.manifest.folded)
            # It is taken, whatever comes next: an error would say that it is not.
            self._apply_or_tell()
        return Changed(numbers[-1] if numbers else 0, len({change.id for change in wanted}))

    def refresh(self) -> bool:
        """Swaps to the version that is published now; whether that is another one. The old one serves on where the new
        one cannot be opened, and the error is raised."""
        with self._opening:
            self._again = math.inf
            self._seen = file_stamp(self._store.root / CURRENT)
            newer = LiveSnapshot(open_snapshot(self._store, self._connection, encoder=self.snapshot.encoder))
            if self._follow:
                newer.apply(self._journal.since(newer.sequence))
            with self._swap:
                if self._follow:
                    newer.apply(self._journal.since(newer.sequence))
                changed = newer.snapshot.manifest.version != self.manifest.version
                self._note_changes(newer.sequence > self._live.sequence)
                self._live = newer
            self._trouble.pop("version", None)
            return changed

    def postpone(self, error: ShelfwiseError) -> None:
        """A version that cannot be opened, as on a full disk, is tried again later; `notices` says why."""
        told = f"{self.manifest.version} serves on: the newly published version cannot be opened: {error}"
        self._trouble["version"] = told
        self._again = time.monotonic() + _AGAIN_SECONDS

    def close(self) -> None:
        """No more changes are taken up."""
        with self._swap:
            self._is_closed = True
            self._journal.close()

    def _apply_or_tell(self) -> bool:
        """Takes up new live changes; where that fails, `notices` says why, and the next look tries again."""
        try:
            self._apply_new()
        except ShelfwiseError as error:
            self._trouble["journal"] = f"live changes are not taken up: {error}"
            return False
        self._trouble.pop("journal", None)
        return True

    def _apply_new(self) -> None:
        before = self._live.sequence
        self._live.apply(self._journal.since(before))
        self._note_changes(self._live.sequence > before)

    def _note_changes(self, there_are: bool) -> None:
        if there_are:
            self.changed = time.time()
