"""The published index: a directory of immutable versions and one pointer, replaced atomically.

STORE/
  shelfwise.json            marks this directory as an index, with its schema: retrieval/store/manifest.py
  CURRENT                   the name of the serving version, with a checksum
  identity                  id of the directory in a cluster that it shares
  lock, lock.json           the lock of the writer, and its holder
  encoders/IDENTITY/        exported models, each sealed and shared by the versions that they made
  versions/v000007/         manifest.json, the other files of a version and their seal; never changed again
  live.log, live.log.copy   the journal of live changes: retrieval/updates/journal.py
  events/                   shoppers' events, and tables derived from them: service/events/event_log.py
  rankers/                  rankers that were trained for it, and which one serves: rerank/model_store.py
  picture_cache/            small pictures that rebuilds encoded: retrieval/pictures.py
  rejected.jsonl            rows that the last rebuild rejected
  quality.json, .html       its quality report
  staging/                  checkpoints of an interrupted rebuild
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from shelfwise.retrieval.errors import StoreDamagedError, StoreForeignError, StoreMissingError, UnknownVersionError
from shelfwise.retrieval.store.files import (
    FileEntry,
    Generations,
    folder_problems,
    read_json,
    read_pointer,
    read_seal,
    scratch_path,
    seal_folder,
    sealed_problem,
    sync,
    write_durably,
    write_pointer,
)
from shelfwise.retrieval.store.lock import hold_lock
from shelfwise.retrieval.store.manifest import (
    CURRENT,
    EVENTS_FOLDER,
    MANIFEST,
    MARKER,
    MEMORY_FILE,
    POPULAR_QUERIES_FILE,
    POPULARITY_FILE,
    RELATIONS_FILE,
    SCHEMA,
    Manifest,
    marker_content,
    read_marker,
)

_REPAIR_MARKER = (
    'write {"schema": 1} into it if the versions in this directory are yours, or rebuild into a new directory'
)
_WORDS_ALONE = "only keyword search works until a rebuild stores the encoder again"
IDENTITY = "identity"
_MAX_MANIFEST_BYTES = 1 << 26
_MAX_NAMED = 3
"""Indexes in a directory that an error names."""
_OF_EVENTS = (POPULARITY_FILE, RELATIONS_FILE, MEMORY_FILE, POPULAR_QUERIES_FILE)


@dataclass(frozen=True, slots=True)
class Surplus:
    """The items that pruning removes: versions, oldest first, encoders used only by them, and the bytes of both."""

    versions: tuple[str, ...]
    encoders: tuple[str, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class ServingVersion:
    """The version to serve, with notices of versions that were skipped."""

    manifest: Manifest
    notices: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    """Versions that were skipped because of damage."""
    encoder_problem: str = ""
    """The damage of its stored encoder, if everything else is intact."""
    pictures_problem: str = ""
    """The damage of its stored picture encoder, if everything else is intact."""


class Store:
    """An index directory. Nothing is created before `lock` is entered."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.staging = root / "staging"
        self.encoders = root / "encoders"
        self._generations = Generations(root / "versions", "v", 6)

    def version_folder(self, name: str) -> Path:
        return self._generations.folder / name

    def versions(self) -> list[str]:
        """The names of all versions, oldest first."""
        return self._generations.names()

    def check_known(self, name: str) -> None:
        """Raises UnknownVersionError, which lists the versions, for an unknown name."""
        self.check_ours()
        if name not in (names := self.versions()):
            there = f"it holds {', '.join(names)}" if names else "it holds none"
            raise UnknownVersionError(f"{self.root} has no version {name!r}; {there}")

    def size(self, name: str) -> int:
        """The size of a version's own files in bytes, without its encoder."""
        return folder_size(self.version_folder(name))

    def encoders_size(self) -> int:
        """The size of all stored encoders in bytes."""
        return folder_size(self.encoders)

    def current(self) -> str:
        """The name of the serving version.

        Raises StoreMissingError if nothing is published, StoreForeignError if the directory is not an index.
        """
        self.check_ours()
        path = self.root / CURRENT
        try:
            return read_pointer(path, self._generations.pattern)
        except (OSError, ValueError) as error:
            if isinstance(error, FileNotFoundError) and not self.versions():
                message = f"{self.root} has no published version yet; run: shelfwise rebuild {self.root} FEED"
                raise StoreMissingError(message) from error
            raise StoreDamagedError(f"{path} names no version ({error})") from error

    def check_ours(self) -> None:
        """Raises StoreMissingError or StoreForeignError unless the directory is a store of this schema."""
        self.marker_problem()

    def marker_problem(self) -> str:
        """The damage of a marker that the versions make up for; empty for an intact one. Raises like `check_ours`."""
        if not self.root.is_dir():
            if self.root.exists():
                raise StoreMissingError(f"{self.root} is not a directory; choose another path for the index")
            raise StoreMissingError(f"{self.root} does not exist; run: shelfwise rebuild {self.root} FEED")
        path = self.root / MARKER
        try:
            schema = read_marker(path)
        except (OSError, ValueError) as error:
            is_missing = isinstance(error, FileNotFoundError)
            if {manifest.schema for manifest in self.manifests()} == {SCHEMA}:
                what = "is missing" if is_missing else f"cannot be read ({error})"
                return f"{path} {what}; its content follows from the versions, and a rebuild writes it again"
            raise (
                self._unmarked()
                if is_missing
                else StoreForeignError(f"{path} cannot be read ({error}); {_REPAIR_MARKER}")
            ) from error
        if schema != SCHEMA:
            message = f"{self.root} has schema {schema}, but this program reads {SCHEMA}; rebuild into a new directory"
            raise StoreForeignError(message)
        return ""

    def _unmarked(self) -> StoreForeignError | StoreMissingError:
        """The error for a directory without a marker and without versions of this schema."""
        if self.versions():
            return StoreForeignError(f"{self.root / MARKER} is missing although there are versions; {_REPAIR_MARKER}")
        # A rebuild that was killed while it created the index leaves a marker that is not in place yet. Events, and
        # what is derived from them, may come before the first rebuild.
        ours = (self.root / name for name in (MARKER, *_OF_EVENTS))
        names = {entry.name for entry in self.root.iterdir()} - {scratch_path(path).name for path in ours}
        if names - {EVENTS_FOLDER, *_OF_EVENTS}:
            inside = " or ".join(str(path.parent) for path in sorted(self.root.glob(f"*/{MARKER}"))[:_MAX_NAMED])
            advice = f"did you mean {inside}?" if inside else "choose another directory"
            return StoreForeignError(f"{self.root} is not an index (no {MARKER}); {advice}")
        what = "has events but no index yet" if names else "is empty"
        return StoreMissingError(f"{self.root} {what}; run: shelfwise rebuild {self.root} FEED")

    def manifest(self, name: str) -> Manifest:
        """The manifest of a version; raises StoreDamagedError if it is damaged, or that of another version."""
        folder = self.version_folder(name)
        try:
            if problem := sealed_problem(folder / MANIFEST, read_seal(folder).get(MANIFEST, FileEntry(0, ""))):
                raise ValueError(problem)
            manifest = read_json(folder / MANIFEST, Manifest, _MAX_MANIFEST_BYTES)
        except ValueError as error:
            message = f"version {name} is damaged: {folder / MANIFEST} cannot be read ({error})"
            raise StoreDamagedError(message) from error
        if manifest.version != name:
            raise StoreDamagedError(f"version {name} is damaged: its manifest is that of {manifest.version}")
        for encoder in self.folders(manifest)[1:]:
            if encoder.parent != self.encoders or encoder.name == "..":
                raise StoreDamagedError(f"version {name} is damaged: its manifest names {encoder}, outside the store")
        return manifest

    def folders(self, manifest: Manifest) -> list[Path]:
        """The sealed folders of a version: its own, that of its encoder, and that of its picture encoder, if any."""
        encoders = [manifest.encoder, *([manifest.pictures.encoder] if manifest.pictures else [])]
        return [self.version_folder(manifest.version), *(self.encoders / each for each in encoders)]

    def verify(self, name: str) -> Manifest:
        """The manifest of a version whose files all exist with their checksums; else raises StoreDamagedError."""
        manifest, *problems = self._verified(name)
        if any(problems):
            raise StoreDamagedError("; ".join(filter(None, problems)))
        return manifest

    def _verified(self, name: str) -> tuple[Manifest, str, str]:
        """The manifest of a version whose own files are intact, and the damage of both of its encoders."""
        manifest = self.manifest(name)
        own, encoder, *pictures = (self.damage(folder) for folder in self.folders(manifest))
        if own:
            raise StoreDamagedError(f"version {name} is damaged: {own}")
        lost = [problem and f"version {name} is damaged: {problem}" for problem in (encoder, *pictures, "")]
        return manifest, lost[0], lost[1]

    def damage(self, folder: Path, *, reads: bool = True) -> str:
        """The first problem of a sealed folder of the store, without `reads` only of a length; empty if it is
        intact."""
        for name, problem in folder_problems(folder, reads=reads):
            return f"{(folder / name).relative_to(self.root).as_posix()} {problem}"
        return ""

    def serving(self) -> tuple[Manifest, tuple[str, ...]]:
        """The manifest and notices of `find_serving`."""
        found = self.find_serving()
        return found.manifest, found.notices

    def find_serving(self) -> ServingVersion:
        """The version to serve, verified: the current one, else the newest intact one, else one with a damaged encoder.

        Raises StoreDamagedError if there is none.
        """
        notices = [problem] if (problem := self.marker_problem()) else []
        damaged: list[str] = []
        without_encoder = None
        for name in self._in_order(notices):
            try:
                manifest, lost_encoder, lost_pictures = self._verified(name)
            except StoreDamagedError as error:
                notices.append(str(error))
                damaged.append(name)
                continue
            if lost_pictures:
                notices.append(f"{lost_pictures}; pictures are not searched until a rebuild stores their encoder again")
            if not lost_encoder:
                return ServingVersion(manifest, tuple(notices), tuple(damaged), pictures_problem=lost_pictures)
            notices.append(lost_encoder)
            messages = (*notices[:-1], f"{lost_encoder}; {_WORDS_ALONE}")
            given = manifest, messages, tuple(damaged), lost_encoder, lost_pictures
            without_encoder = without_encoder or ServingVersion(*given)
        if without_encoder:
            return without_encoder
        raise StoreDamagedError("; ".join(notices) + "; no intact version is left: rebuild the index")

    def _in_order(self, notices: list[str]) -> list[str]:
        """The current version, if the pointer names one, then the others, newest first."""
        try:
            first = [self.current()]
        except StoreDamagedError as error:
            notices.append(str(error))
            first = []
        return first + [name for name in reversed(self.versions()) if name not in first]

    @contextmanager
    def lock(self, purpose: str = "rebuild") -> Iterator[None]:
        """Makes the directory a store and holds its lock for a purpose.

        Raises StoreLockedError if another process holds it, StoreForeignError for a foreign directory,
        StoreMissingError if it cannot be created.
        """
        try:
            is_marked = not self.marker_problem()
        except StoreMissingError:
            if self.root.exists() and not self.root.is_dir():
                raise
            is_marked = False
        if not is_marked:
            self._make_ours()
        with hold_lock(self.root, purpose):
            yield

    def _make_ours(self) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            write_durably(self.root / MARKER, marker_content())
        except OSError as error:
            message = f"{self.root} cannot be created ({error.strerror}); use a directory that you may write to"
            raise StoreMissingError(message) from error

    @property
    def build_folder(self) -> Path:
        """The folder in which the next version is built."""
        return self._generations.scratch()

    def create_build_folder(self) -> Path:
        """The build folder, emptied."""
        self._generations.sweep()
        folder = self.build_folder
        folder.mkdir(parents=True)
        return folder

    def next_version(self) -> str:
        return self._generations.next_name()

    def publish(self, building: Path, manifest: Manifest) -> None:
        """Publishes a finished folder as the serving version. After a crash, the old or the new version serves."""
        seal_folder(building, {MANIFEST: manifest})
        folder = self.version_folder(manifest.version)
        building.rename(folder)
        sync(folder.parent)
        write_pointer(self.root / CURRENT, manifest.version)

    def identity(self) -> str:
        """The random id of the directory in a cluster that it shares with others.

        It persists over interrupted rebuilds and the versions in the cluster. The caller holds the lock.
        """
        path = self.root / IDENTITY
        kept = path.read_text("ascii", "replace").strip() if path.exists() else ""
        kept = kept if re.fullmatch(r"[0-9a-f]{32}", kept) else ""
        known = next((manifest.cluster.store for manifest in self.manifests() if manifest.cluster), kept) or uuid4().hex
        if known != kept:
            write_durably(path, f"{known}\n".encode())
        return known

    def reopen(self) -> None:
        """Makes engines reopen the serving version."""
        with suppress(FileNotFoundError):
            os.utime(self.root / CURRENT)

    def rollback(self, name: str) -> Manifest:
        """Makes another version serve, after verifying it.

        Raises UnknownVersionError or StoreDamagedError; the pointer then stays as it is.
        """
        self.check_known(name)
        manifest = self.verify(name)
        write_pointer(self.root / CURRENT, name)
        return manifest

    def prune(self, keep: int, spare: Collection[str] = (), damaged: Collection[str] = ()) -> list[str]:
        """Removes what `surplus` lists and leftovers of interrupted rebuilds; returns the removed versions."""
        surplus = self.surplus(keep, spare, damaged)
        self._generations.remove(surplus.versions)
        for name in surplus.encoders:
            shutil.rmtree(self.encoders / name)
        return list(surplus.versions)

    def surplus(self, keep: int, spare: Collection[str] = (), damaged: Collection[str] = ()) -> Surplus:
        """All versions except the `keep` newest, the serving one and those in `spare`; and unused encoders.

        Versions known to be `damaged` are included, and do not count among those to keep.
        """
        names = self.versions()
        whole = [name for name in names if name not in damaged]
        spared = {self.current(), *spare, *(whole[-keep:] if keep > 0 else ())}
        versions = tuple(name for name in names if name not in spared)
        kept = [manifest for manifest in self.manifests() if manifest.version not in versions]
        used = {manifest.encoder for manifest in kept} | {each.pictures.encoder for each in kept if each.pictures}
        stored = sorted(self.encoders.iterdir()) if self.encoders.is_dir() else []
        encoders = tuple(folder.name for folder in stored if folder.name not in used)
        freed = [self.version_folder(name) for name in versions] + [self.encoders / name for name in encoders]
        return Surplus(versions, encoders, sum(map(folder_size, freed)))

    def last_merged_changes(self) -> list[int]:
        """The last merged change of each version; empty if a manifest cannot be read."""
        manifests = list(self.manifests())
        return [each.last_merged_change for each in manifests] if len(manifests) == len(self.versions()) else []

    def manifests(self) -> Iterator[Manifest]:
        """The manifests that can be read, oldest first."""
        for name in self.versions():
            with suppress(StoreDamagedError):
                yield self.manifest(name)


def folder_size(folder: Path) -> int:
    """The size in bytes of all files in a folder, which another process may be removing."""
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += Path(place, name).lstat().st_size
    return size
