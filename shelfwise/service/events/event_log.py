"""The event log of an index directory: recording, reject files, and moves between SQLite and Elasticsearch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import msgspec
import polars as pl

from shelfwise.retrieval.errors import EventError, StoreDamagedError, StoreError, StoreForeignError, StoreMissingError
from shelfwise.retrieval.events.addresses import AddressPseudonyms
from shelfwise.retrieval.events.privacy import KEYS_FILE, EventIntake, Masker, Pseudonyms, conflict_error, utc_now
from shelfwise.retrieval.events.sqlite import EVENTS_FILE, SqliteEvents
from shelfwise.retrieval.events.store import EventStore
from shelfwise.retrieval.events.stored import StoredEvent
from shelfwise.retrieval.extras import optional_imports
from shelfwise.retrieval.records import Event
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.retrieval.store.versions import Store

if TYPE_CHECKING:
    from shelfwise.service.settings import Settings


Row = TypeVar("Row")
DERIVED_FOLDER = "derived"
"""Folder of derived tables inside the folder of events."""
_REJECTS_TIME = "%Y-%m-%dT%H-%M-%S.%f"
REJECTS_FOLDER = "rejected"
"""Folder inside the folder of events with a file of rejected rows for each import."""


@dataclass(frozen=True, slots=True)
class RecordResult:
    """The number of new events and of duplicates; all are durable."""

    stored: int
    repeated: int
    ignored: tuple[str, ...] = ()
    """Fields that the sender may not set."""


class EventLog:
    """The events of one store, and their intake. Threads may share it."""

    def __init__(
        self, folder: Path, store: EventStore, intake: EventIntake, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self.folder = folder
        self.store = store
        self.intake = intake
        self._clock = clock

    @classmethod
    def open(cls, root: Path, settings: Settings, *, make: bool = True) -> Self:
        """Opens the events of an index directory, in its SQLite file, or in the cluster if that is the backend.

        With `make`, the log is created if there are no events, even before the first rebuild; without it,
        StoreMissingError is raised. Raises StoreError if they cannot be opened, the keys of their pseudonyms are
        missing, or the directory belongs to another program, SettingError for an invalid setting.
        """
        with suppress(StoreMissingError):
            Store(root).check_ours()
        folder, is_clustered = root / EVENTS_FOLDER, is_in_cluster(root, settings)
        if not make and not is_clustered and not (folder / EVENTS_FILE).exists():
            raise StoreMissingError(f"{root} has no events; run: shelfwise events import {root} LOG")
        try:
            root.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{folder} cannot be created ({error.strerror}); check its permissions") from error
        store = open_store(root, settings, is_clustered=is_clustered)
        try:
            keys = settings.events.keys or folder / KEYS_FILE
            # No events with pseudonyms yet.
            is_new = not keys.exists() and not reject_files(folder) and not (folder / DERIVED_FOLDER).exists()
            pseudonyms = Pseudonyms(keys, make=is_new and store.count() == 0)
        except BaseException:
            store.close()
            raise
        intake = EventIntake(pseudonyms, Masker(settings.events.phone_regions), AddressPseudonyms(folder))
        return cls(folder, store, intake)

    def record(self, events: Iterable[Event]) -> RecordResult:
        """Stores events durably; duplicates are counted, not stored again.

        Raises EventError if an event is invalid, and stores none; or if an id belongs to another event, and stores the
        others.
        """
        self.intake.pseudonyms.reload_if_changed()
        now = self._clock()
        given = list(events)
        checked = []
        for place, event in enumerate(given, 1):
            try:
                checked.append(self.intake.prepare(event, now))
            except EventError as error:
                where = f"event {place} of {len(given)}: " if len(given) > 1 else ""
                raise EventError(f"{where}{error.reason}", error.detail) from None
        appended = self.store.append(checked)
        if appended.conflicts:
            raise conflict_error(given[appended.conflicts[0]])
        return RecordResult(appended.added, appended.duplicates)

    def prepare(self, events: Iterable[Event]) -> list[StoredEvent]:
        """The events as `record` stores them, without storing; raises EventError for an invalid one."""
        now = self._clock()
        return [self.intake.prepare(each, now) for each in events]

    def close(self) -> None:
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def rejects_path(folder: Path, now: datetime) -> Path:
    """The path, inside the folder of events, for the rejected rows of an import that starts now."""
    return folder / REJECTS_FOLDER / f"{now.astimezone(UTC).strftime(_REJECTS_TIME)}.jsonl"


def rejects_time(path: Path) -> datetime:
    """The time of the import that wrote a file of rejected rows; raises StoreForeignError for another name."""
    try:
        return datetime.strptime(path.stem, _REJECTS_TIME).replace(tzinfo=UTC)
    except ValueError as error:
        raise StoreForeignError(f"{path} was not written by an import; move it away") from error


def reject_files(folder: Path) -> list[Path]:
    """The files of rejected rows inside the folder of events, oldest first."""
    return sorted((folder / REJECTS_FOLDER).glob("*.jsonl"))


def read_rejects(path: Path, kind: type[Row]) -> Iterator[tuple[bytes, Row]]:
    """The lines of a file of rejected rows, each with its row; raises StoreDamagedError for another kind of file."""
    decoder = msgspec.json.Decoder(kind)
    try:
        with path.open("rb") as file:
            for line in file:
                yield line, decoder.decode(line)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreDamagedError(f"{path} cannot be read ({error}); remove it, an import creates it again") from error


def is_in_cluster(root: Path, settings: Settings) -> bool:
    """Whether a store's events are in a cluster: by the setting, or by the serving version.

    Raises StoreError if that version cannot be read.
    """
    if settings.backend is not None:
        return settings.backend == "elasticsearch"
    store = Store(root)
    try:
        return store.manifest(store.current()).cluster is not None
    except StoreMissingError:
        return False


@contextmanager
def other_stores(root: Path, settings: Settings) -> Iterator[tuple[EventStore, ...]]:
    """The stores other than the current one that may still contain events of this directory, after a backend change."""
    is_clustered = is_in_cluster(root, settings)
    if (root / EVENTS_FOLDER / EVENTS_FILE).exists() if is_clustered else settings.elasticsearch.url:
        with closing(open_store(root, settings, is_clustered=not is_clustered)) as other:
            yield (other,)
    else:
        yield ()


def open_store(root: Path, settings: Settings, *, is_clustered: bool) -> EventStore:
    """The store of events of an index directory: its SQLite file, or in the cluster."""
    if not is_clustered:
        return SqliteEvents(root / EVENTS_FOLDER)
    # The client, which events on this machine do not need.
    with optional_imports():
        from shelfwise.retrieval.elasticsearch.client import Cluster
        from shelfwise.retrieval.events.elasticsearch import ElasticsearchEvents

    return ElasticsearchEvents(Cluster(settings.cluster))


_BATCH = 5_000
_EVER = 1 << 24
"""A day after all events."""


@dataclass(frozen=True, slots=True)
class MoveResult:
    """The number of moved events, and of those that an interrupted move had already copied."""

    moved: int
    repeated: int


def move_events(source: EventStore, target: EventStore, advance: Callable[[int], None] = lambda _: None) -> MoveResult:
    """Copies all events, and removes them from the source once they are durable in the target.

    An interrupted move can be repeated. Raises StoreError, and removes nothing, if an event of the target has the id of
    another one, or if events were recorded meanwhile.
    """
    moved = repeated = 0
    days = source.days()
    for day in days:
        for table in source.read(day, day):
            for batch in table.iter_slices(_BATCH):
                appended = target.append(stored_events(batch))
                if appended.conflicts:
                    raise StoreError(
                        f"{len(appended.conflicts):,} ids belong to other events at the target; nothing was removed"
                    )
                moved += appended.added
                repeated += appended.duplicates
                advance(batch.height)
    # Nothing is removed if events were recorded meanwhile.
    source.expire(_EVER, expected=days)
    return MoveResult(moved, repeated)


def stored_events(table: pl.DataFrame) -> list[StoredEvent]:
    """The rows of a table of events as they were appended."""
    plain = table.with_columns(pl.col("kind").cast(pl.String), pl.col("time", "received").dt.epoch("ms"))
    return [StoredEvent(*row) for row in plain.iter_rows()]
