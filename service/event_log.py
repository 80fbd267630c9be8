"""What shoppers did on a store, as an engine and the commands work with it: taken in, kept, forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from retrieval.errors import EventError, StoreMissingError
from retrieval.events.event import Event
from retrieval.events.intake import Intake, differing, utc_now
from retrieval.events.masking import Masker
from retrieval.events.pseudonyms import KEYS_FILE, Pseudonyms
from retrieval.events.sqlite import SqliteEvents
from retrieval.events.store import EventStore
from retrieval.published import Store
from retrieval.store_files import EVENTS_FOLDER
from service.version_list import current_manifest

if TYPE_CHECKING:
    from service.settings import Settings

ASIDE_FOLDER = "aside"
"""Inside the folder of events: what each import set aside, a file for each."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of events: all of them are durable, those that were new and those that were there already."""

    taken: int
    repeated: int


class EventLog:
    """The events of one store, with what they go through on their way in. Safe to share between threads."""

    def __init__(
        self, folder: Path, store: EventStore, intake: Intake, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self.folder = folder
        self.store = store
        self.intake = intake
        self._clock = clock

    @classmethod
    def open(cls, root: Path, settings: Settings) -> Self:
        """The events of an index directory, in its SQLite file, or in the cluster where the backend is that.

        They may come before the first rebuild. Raises StoreError where they cannot be opened, or the directory is
        somebody else's, SettingError where a setting cannot be.
        """
        with suppress(StoreMissingError):
            Store(root).check_ours()
        folder = root / EVENTS_FOLDER
        intake = Intake(Pseudonyms(settings.events.keys or folder / KEYS_FILE), Masker(settings.events.regions))
        return cls(folder, open_store(root, settings, is_clustered=is_in_cluster(root, settings)), intake)

    def record(self, events: Iterable[Event]) -> Recorded:
        """Takes events durably; one that was taken before is counted, not taken twice.

        Raises EventError where one cannot be taken, and none of them is; or where the id of one is another event's,
        and the rest are taken.
        """
        self.intake.pseudonyms.look()
        now = self._clock()
        given = list(events)
        checked = []
        for place, event in enumerate(given, 1):
            try:
                checked.append(self.intake.stored(event, now))
            except EventError as error:
                where = f"event {place} of {len(given)}: " if len(given) > 1 else ""
                raise EventError(f"{where}{error.reason}", error.detail) from None
        appended = self.store.append(checked)
        if appended.differing:
            raise differing(given[appended.differing[0]])
        return Recorded(appended.taken, appended.repeated)

    def close(self) -> None:
        """Ends it."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def aside_path(folder: Path, now: datetime) -> Path:
    """Where an import that begins now keeps what it sets aside, inside the folder of events."""
    return folder / ASIDE_FOLDER / f"{now:%Y-%m-%dT%H-%M-%S.%f}.jsonl"


def aside_files(folder: Path) -> list[Path]:
    """What imports set aside, the oldest first, inside the folder of events."""
    return sorted((folder / ASIDE_FOLDER).glob("*.jsonl"))


def is_in_cluster(root: Path, settings: Settings) -> bool:
    """Whether a store's events are kept in a cluster: as set, or as it is with the version that serves."""
    if settings.backend is not None:
        return settings.backend == "elasticsearch"
    serving = current_manifest(Store(root))
    return serving is not None and serving.cluster is not None


def open_store(root: Path, settings: Settings, *, is_clustered: bool) -> EventStore:
    """The store of events of an index directory: its SQLite file, or in the cluster."""
    if not is_clustered:
        return SqliteEvents(root / EVENTS_FOLDER)
    # A client that events on this machine do without.
    from retrieval.cluster import Cluster
    from retrieval.events.elasticsearch import ElasticsearchEvents

    return ElasticsearchEvents(Cluster(settings.cluster))
