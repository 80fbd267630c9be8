"""Checkpoint of a rebuild: the results of its finished phases, from which an interrupted rebuild continues."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import xxhash

from shelfwise.indexer.embedding_cache import Keys
from shelfwise.indexer.feeds.io import STANDARD_INPUT
from shelfwise.retrieval.errors import StoreDamagedError, StoreForeignError
from shelfwise.retrieval.index.vectors import Rows
from shelfwise.retrieval.store.files import FileEntry, SealedFile, file_entry, file_problem, file_stamp, load_array
from shelfwise.retrieval.store.manifest import VersionChanges
from shelfwise.retrieval.store.versions import Store

MIN_SECONDS = 10.0
"""A checkpoint is written once this much work would be lost without it."""
LONGEST = timedelta(days=1)
"""The age after which a checkpoint is not used: sale prices and ages of dates depend on the time of the build."""
_STATE_FILE, _ROWS = "checkpoint.json", "rows"
_MAX_BYTES = 1 << 26
T = TypeVar("T")


class CatalogResult(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of a catalog that a rebuild read and indexed."""

    products: int
    read: int
    rejected: dict[str, int]
    """The number of rejected rows by reason; `noted` counts values in the same way."""
    noted: dict[str, int]
    cleaned: dict[str, int]
    findings: dict[str, int]
    """Findings of the quality report by severity."""
    changes: VersionChanges | None
    live: int
    """The number of pending updates in the version."""


class IndexedCatalog(CatalogResult, frozen=True, kw_only=True):
    """The results of reading, indexing and reporting a catalog that are not in files of the version."""

    usable: int
    """The number of rows of the feeds, without rejected ones."""
    chinese: int
    """The number of usable rows with Chinese characters in the title."""
    fingerprint: str
    """Equal for two catalogs exactly when they have the same products."""
    last_merged_change: int


class CatalogRows(msgspec.Struct, frozen=True):
    """The rows of the n products of a version that is being built."""

    keys: Keys
    """The fingerprint of each row's text (n, 16)."""
    previous: Rows
    """The row of the same product in the previous version (n,), or -1."""
    before: Rows
    """The previous row if the second pass left the product as in the previous version, or -1 (n,)."""

    def save(self, folder: Path) -> None:
        """Saves them into a folder, which is created."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.__struct_fields__:
            np.save(folder / f"{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, folder: Path) -> CatalogRows:
        """Loads them from a folder; raises StoreDamagedError."""
        return cls(*(load_array(folder / f"{name}.npy") for name in cls.__struct_fields__))


class _Phase(msgspec.Struct):
    name: str
    made_by: str
    result: msgspec.Raw
    seconds: dict[str, float]
    """The seconds of all phases up to this one."""
    files: dict[str, FileEntry | None]
    """Files by name relative to the index; checksums are computed when the checkpoint is written."""


class _State(msgspec.Struct, frozen=True):
    begun: datetime
    phases: list[_Phase]


_FILE = SealedFile(1, "it is made again", "state", msgspec.json.Decoder(_State))


class BuildCheckpoint:
    """The checkpoint of the rebuild that holds the lock of a store. It is in the staging folder.

    Phases are looked up and kept in order; if one is not found, it and all later ones are repeated.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._path = store.staging / _STATE_FILE
        self.rows = store.staging / _ROWS
        """The folder of `CatalogRows`, part of the first phase."""
        self.building = store.build_folder
        """The folder of the version that is being built."""
        self.problem = ""
        """The damage because of which the last phase was not found."""
        self._reused = 0
        self._saved = time.monotonic()
        self._state = self._load() or _State(datetime.now(UTC), [])

    def _load(self) -> _State | None:
        try:
            state = _FILE.read(self._path, _MAX_BYTES)
        except (StoreDamagedError, StoreForeignError) as error:
            self.problem = str(error)
            return None
        is_recent = state and datetime.now(UTC) - state.begun < LONGEST
        return state if state and is_recent and self.building.is_dir() else None

    @property
    def has_more(self) -> bool:
        """Whether there may be a phase of an interrupted run."""
        return self._reused < len(self._state.phases)

    def begin(self) -> Path:
        """Creates a new folder for the version and removes everything that interrupted rebuilds left."""
        shutil.rmtree(self.rows, ignore_errors=True)
        self._path.unlink(missing_ok=True)
        self._state = _State(datetime.now(UTC), [])
        return self._store.create_build_folder()

    def find(self, name: str, made_by: str, kind: type[T]) -> tuple[T, dict[str, float]] | None:
        """The result of the next phase, and the seconds that it and those before it took; None if it must be run.

        It is found if its `made_by` is the same and all its files are intact. Otherwise its files are removed.
        """
        phases = self._state.phases
        result = None
        self.problem = ""
        if self.has_more:
            phase = phases[self._reused]
            if (phase.name, phase.made_by) == (name, made_by) and not self._has_damage(phase):
                result = msgspec.json.decode(phase.result, type=kind), phase.seconds
        if result:
            self._reused += 1
        else:
            del phases[self._reused :]
        if phases and not self.has_more:
            self._remove_others()
        return result

    def _has_damage(self, phase: _Phase) -> bool:
        for name, entry in phase.files.items():
            problem = file_problem(self._store.root / name, entry) if entry else "has no checksum"
            if problem:
                self.problem = f"{name} {problem}"
                return True
        return False

    def _remove_others(self) -> None:
        """Removes the files of unfinished phases."""
        names = self._file_names
        for path in sorted(self.building.rglob("*"), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
            elif path.is_file() and self._name(path) not in names:
                path.unlink()

    @property
    def _file_names(self) -> set[str]:
        return {name for phase in self._state.phases for name in phase.files}

    def _name(self, path: Path) -> str:
        return path.relative_to(self._store.root).as_posix()

    def keep(self, name: str, made_by: str, result: object, seconds: Mapping[str, float]) -> None:
        """Adds a finished phase with its new files. It is written, with earlier unwritten phases, once together they
        took long enough."""
        paths = (path for path in (*self.building.rglob("*"), *self.rows.glob("*")) if path.is_file())
        files = dict.fromkeys(set(map(self._name, paths)) - self._file_names)
        self._state.phases.append(_Phase(name, made_by, msgspec.Raw(msgspec.json.encode(result)), dict(seconds), files))
        self._reused += 1
        if time.monotonic() - self._saved < MIN_SECONDS:
            return
        for phase in self._state.phases:
            # If a power failure loses some of these files, their checksums show it.
            phase.files = {each: entry or file_entry(self._store.root / each) for each, entry in phase.files.items()}
        _FILE.write(self._path, self._state, datetime.now(UTC))
        self._saved = time.monotonic()


def feeds_key(feeds: Iterable[str], *made_by: object) -> str:
    """A fingerprint of feeds, by the stamps of their files, and of the settings used to read them; empty if one is not
    a file and so cannot be read again."""
    stamps = []
    for feed in feeds:
        path = Path(feed)
        if feed == STANDARD_INPUT or not path.is_file():
            return ""
        stamps.append((str(path.absolute()), file_stamp(path)))
    return xxhash.xxh3_128_hexdigest(repr((stamps, made_by)).encode("utf-8", "surrogatepass"))
