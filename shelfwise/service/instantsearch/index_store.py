"""The protocol's own state of an index: its name, and settings that exist nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.service.curation.sqlite_file import SqliteFile
from shelfwise.service.events.hot_reload import ReloadedFile
from shelfwise.service.instantsearch.protocol_request import ViewSettings

FILE = "protocol.sqlite"
_HOLDS = "settings of the InstantSearch protocol"
_TABLES = "CREATE TABLE settings (one INTEGER PRIMARY KEY CHECK (one = 1), document TEXT NOT NULL);"


class IndexSettings(ViewSettings, frozen=True):
    """Settings of an index that only the protocol has, and those of its replicas, which are views of it."""

    name: str = ""
    """Name of the index, set by the first write; empty before."""
    replicas: tuple[str, ...] = ()
    """`replicas`, as set."""
    views: Mapping[str, ViewSettings] = {}
    """Settings of each replica by name."""

    def view(self, index: str) -> str:
        """The name of a replica; empty for any other name, which is that of the index itself."""
        return index if index in self.views else ""

    def of(self, index: str) -> ViewSettings:
        """The settings of a replica, or of the index itself for any other name."""
        return self.views.get(index, self)


class ProtocolStore:
    """The protocol's file in an index directory. Threads and processes may share it; it is created by the first change,
    and changes are durable when the method returns."""

    def __init__(self, root: Path) -> None:
        self._file = SqliteFile(root / FILE, _HOLDS, 0x53575049, _TABLES, version=2, private=True)
        failure = "changes of the protocol's settings are not loaded"
        self._settings: ReloadedFile[IndexSettings] = ReloadedFile(
            root / FILE, lambda _: self._read_settings(), IndexSettings(), failure, keeps_value=True
        )

    @property
    def notices(self) -> tuple[str, ...]:
        """The reason why the latest settings are not loaded."""
        self._settings.current()
        return self._settings.notices

    @property
    def settings(self) -> IndexSettings:
        """The settings, reloaded when they change."""
        return self._settings.current()

    def change_settings(self, change: Callable[[IndexSettings], IndexSettings]) -> IndexSettings:
        """Changes the settings with the function `change`."""
        with self._file.writing() as cursor:
            row = cursor.execute("SELECT document FROM settings").fetchone()
            settings = change(_decoded(row[0]) if row else IndexSettings())
            document = msgspec.json.encode(settings).decode()
            cursor.execute("INSERT OR REPLACE INTO settings VALUES (1, ?)", (document,))
        self._settings.reload_if_changed()
        return settings

    def adopt_name(self, name: str) -> None:
        """Gives the index the name of a write, unless it has a name."""
        if not self.settings.name:
            self.change_settings(
                lambda settings: settings if settings.name else msgspec.structs.replace(settings, name=name)
            )

    def _read_settings(self) -> IndexSettings:
        with self._file.reading() as cursor:
            row = cursor.execute("SELECT document FROM settings").fetchone() if cursor else None
        return _decoded(row[0]) if row else IndexSettings()


def _decoded(document: str) -> IndexSettings:
    try:
        return msgspec.json.decode(document, type=IndexSettings)
    except msgspec.MsgspecError as error:
        raise StoreDamagedError(f"{FILE} holds settings that cannot be read: {error}") from error
