"""Parts of a service that its owner switches on and off while it serves, with a log of every change."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from shelfwise.retrieval.errors import RelevanceError
from shelfwise.service.curation.document_store import DocumentCodec, DocumentStore, StoredDocuments
from shelfwise.service.events.hot_reload import ReloadedFile

_RELOAD_SECONDS = 0.25


class SwitchedPart(StrEnum):
    """A part of the service that has a switch."""

    FEEDS = "feeds"
    """Uploads of feeds, into a folder of the index directory; the setting `service.feeds` overrides it."""
    SPONSORED = "sponsored"
    """Sponsored hits of searches."""


@dataclass(frozen=True, slots=True)
class Switch:
    """Whether a part is on."""

    id: SwitchedPart
    on: bool


class SwitchStore(DocumentStore[Switch]):
    """The switches of an index directory and their changes (INDEX/switches.sqlite); a part without one is off."""

    kind = DocumentCodec(one="switch", many="switches", entry=Switch, application=0x53575357, error=RelevanceError)


class ServedSwitches:
    """The switches of an index directory, reloaded when they change. Thread-safe."""

    def __init__(self, root: Path) -> None:
        self._store = SwitchStore(root)
        self._stored: ReloadedFile[StoredDocuments[Switch]] = ReloadedFile(
            self._store.path,
            self._store.reload,
            StoredDocuments(),
            "changes of the switches are not loaded",
            keeps_value=True,
            interval=_RELOAD_SECONDS,
        )

    @property
    def notices(self) -> tuple[str, ...]:
        """The reason why the latest switches are not loaded."""
        return self._stored.notices

    def is_on(self, part: SwitchedPart) -> bool:
        """Whether a part is on; other processes follow a change within a quarter of a second."""
        return any(each.on for each in self._stored.current().documents if each.id == part)

    def put(self, part: SwitchedPart, *, on: bool, who: str = "") -> int:
        """Switches a part on or off durably; returns the revision. `who` is recorded with the change."""
        revision = self._store.put([Switch(part, on)], who=who)
        self._stored.reload_if_changed()
        return revision
