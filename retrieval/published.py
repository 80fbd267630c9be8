"""The published index: a directory of immutable versions and one pointer, replaced atomically.

STORE/
  shelfwise.json            says that this directory is ours, and in which schema
  CURRENT                   the name of the version that serves
  lock, lock.json           held by the one rebuild at work; who that is
  encoders/IDENTITY/        exported models, shared by the versions that they made
  versions/v000007/         manifest.json, its checksum, and everything it lists; never changed again
  live.log, live.log.copy   live changes that came since, twice: retrieval/journal.py
  rejected.jsonl            rows that the last rebuild set aside
  quality.json, .html       what it found in the feed
  staging/                  what an interrupted rebuild had done so far
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from retrieval.encoder_folder import SPEC_FILE
from retrieval.errors import StoreDamagedError, StoreForeignError, StoreMissingError, UnknownVersionError
from retrieval.manifest import (
    MANIFEST,
    SEAL,
    FileEntry,
    Manifest,
    checksum,
    file_problem,
    scratch_path,
    sync,
    write_durably,
)
from retrieval.store_lock import held_lock

SCHEMA = 1
"""Counts up when a version's files change so that an older program could not read them."""
MARKER = "shelfwise.json"
CURRENT = "CURRENT"
_MEND_MARKER = 'write {"schema": 1} into it if the versions beside it are yours, or rebuild into a new directory'
_VERSION_NAME = re.compile(r"v\d{6,}")
_UNFINISHED = ".building-"
_GOING = ".removed-"


@dataclass(frozen=True, slots=True)
class Surplus:
    """What pruning removes: versions, oldest first, the encoders that only they used, and the bytes of both."""

    versions: tuple[str, ...]
    encoders: tuple[str, ...]
    bytes: int


class Store:
    """An index directory. Nothing is created until `locked` is entered."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.staging = root / "staging"
        self.encoders = root / "encoders"

    def version_folder(self, name: str) -> Path:
        """Where a version lives."""
        return self.root / "versions" / name

    def versions(self) -> list[str]:
        """The names of all versions, oldest first."""
        folder = self.root / "versions"
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        return sorted((name for name in names if _VERSION_NAME.fullmatch(name)), key=lambda name: int(name[1:]))

    def check_known(self, name: str) -> None:
        """Raises UnknownVersionError, which names the versions that there are, for any other name."""
        self.check_ours()
        if name not in (names := self.versions()):
            there = f"it holds {', '.join(names)}" if names else "it holds none"
            raise UnknownVersionError(f"{self.root} has no version {name!r}; {there}")

    def size(self, name: str) -> int:
        """The bytes of a version's own files, those of its encoder not among them."""
        return _folder_size(self.version_folder(name))

    def encoders_size(self) -> int:
        """The bytes of all stored encoders."""
        return _folder_size(self.encoders)

    def current(self) -> str:
        """The name of the version that serves.

        Raises StoreMissingError where nothing is published, StoreForeignError where the directory is not ours.
        """
        self.check_ours()
        try:
            name = (self.root / CURRENT).read_text("ascii").strip()
        except (OSError, ValueError):
            name = ""
        if not name and not self.versions():
            message = f"{self.root} has no published version yet; run: shelfwise rebuild FEED --index {self.root}"
            raise StoreMissingError(message)
        if not _VERSION_NAME.fullmatch(name):
            raise StoreDamagedError(f"{self.root / CURRENT} names no version (it says {name[:40]!r})")
        return name

    def check_ours(self) -> None:
        """Raises StoreMissingError or StoreForeignError unless the directory is a store in a schema that we read."""
        if not self.root.is_dir():
            if self.root.exists():
                raise StoreMissingError(f"{self.root} is no directory; name another place for the index")
            raise StoreMissingError(f"{self.root} does not exist; run: shelfwise rebuild FEED --index {self.root}")
        try:
            schema = msgspec.json.decode((self.root / MARKER).read_bytes(), type=dict[str, int])["schema"]
        except FileNotFoundError as error:
            # A rebuild that was killed while it made the directory ours leaves a marker that is not in place yet.
            if self.versions():
                message = f"{self.root / MARKER} is missing beside the versions; {_MEND_MARKER}"
                raise StoreForeignError(message) from error
            if any(entry.name != scratch_path(self.root / MARKER).name for entry in self.root.iterdir()):
                message = f"{self.root} holds something else than an index (no {MARKER}); name another directory"
                raise StoreForeignError(message) from error
            message = f"{self.root} is empty; run: shelfwise rebuild FEED --index {self.root}"
            raise StoreMissingError(message) from error
        except (OSError, KeyError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StoreForeignError(f"{self.root / MARKER} cannot be read ({error}); {_MEND_MARKER}") from error
        if schema != SCHEMA:
            message = f"{self.root} is in schema {schema}, this program reads {SCHEMA}; rebuild into a new directory"
            raise StoreForeignError(message)

    def manifest(self, name: str) -> Manifest:
        """The manifest of a version; raises StoreDamagedError when it cannot be read."""
        path = self.version_folder(name) / MANIFEST
        try:
            manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
            sealed = path.with_name(SEAL).read_bytes().strip()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StoreDamagedError(f"version {name} is damaged: {path} cannot be read ({error})") from error
        if sealed != checksum(path).encode():
            raise StoreDamagedError(f"version {name} is damaged: {path} has another checksum than {SEAL} says")
        return manifest

    def verified(self, name: str) -> Manifest:
        """The manifest of a version whose every file is there with its checksum; else raises StoreDamagedError."""
        manifest = self.manifest(name)
        for relative, path, entry in self.listed_files(name, manifest):
            problem = file_problem(path, entry)
            if problem:
                raise StoreDamagedError(f"version {name} is damaged: {relative} {problem}")
        return manifest

    def listed_files(self, name: str, manifest: Manifest) -> list[tuple[str, Path, FileEntry]]:
        """Each file of a version: its name in the manifest, its path, and what it should be.

        Raises StoreDamagedError for a manifest that is another version's, or that no version could have.
        """
        if manifest.version != name:
            raise StoreDamagedError(f"version {name} is damaged: its manifest is that of {manifest.version}")
        if f"{self.encoders.name}/{manifest.encoder}/{SPEC_FILE}" not in manifest.files or "/" in manifest.encoder:
            raise StoreDamagedError(f"version {name} is damaged: its manifest lists no files of its encoder")
        return [(relative, self._inside(name, relative), entry) for relative, entry in manifest.files.items()]

    def serving(self) -> tuple[Manifest, tuple[str, ...]]:
        """The manifest of the version to serve, verified, and what had to be passed over to find it.

        That is the current version, or, when it is damaged, the newest whole one. Raises StoreDamagedError when there
        is none.
        """
        notices: list[str] = []
        try:
            names = [self.current()]
        except StoreDamagedError as error:
            notices.append(str(error))
            names = []
        names += [name for name in reversed(self.versions()) if name not in names]
        for name in names:
            try:
                return self.verified(name), tuple(notices)
            except StoreDamagedError as error:
                notices.append(str(error))
        raise StoreDamagedError("; ".join(notices) + "; no whole version is left: rebuild the index")

    def _inside(self, name: str, relative: str) -> Path:
        """The path of a listed file; a manifest can name nothing outside its store."""
        path = self.root / relative
        if ".." in Path(relative).parts or Path(relative).is_absolute():
            raise StoreDamagedError(f"version {name} is damaged: its manifest lists {relative}, outside the store")
        return path

    @contextmanager
    def locked(self, purpose: str = "rebuild") -> Iterator[None]:
        """Makes the directory a store and holds its lock; a rival is told the purpose.

        Raises StoreLockedError when another process holds it, StoreForeignError when the directory is not ours,
        StoreMissingError when it cannot be made.
        """
        try:
            self.check_ours()
        except StoreMissingError:
            if self.root.exists() and not self.root.is_dir():
                raise
            self._make_ours()
        with held_lock(self.root, purpose):
            yield

    def _make_ours(self) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            write_durably(self.root / MARKER, msgspec.json.encode({"schema": SCHEMA}))
        except OSError as error:
            message = f"{self.root} cannot be made ({error.strerror}); name a directory that you may write to"
            raise StoreMissingError(message) from error

    def building(self) -> Path:
        """An empty folder for the next version, beside the published ones and never taken for one."""
        self._sweep()
        folder = self.root / "versions" / f"{_UNFINISHED}{self.next_version()}"
        folder.mkdir(parents=True)
        return folder

    def next_version(self) -> str:
        """The name that the next version gets."""
        names = self.versions()
        return f"v{(int(names[-1][1:]) if names else 0) + 1:06d}"

    def entries(self, folder: Path, prefix: Path) -> dict[str, FileEntry]:
        """Checksums of all files below `folder`, made durable, named as if it were `prefix` of the store."""
        entries = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                sync(path)
                entries[(prefix / path.relative_to(folder)).as_posix()] = FileEntry(path.stat().st_size, checksum(path))
        for path in (folder, *(each for each in folder.rglob("*") if each.is_dir())):
            sync(path)
        return entries

    def publish(self, building: Path, manifest: Manifest) -> None:
        """Turns a finished folder into the version that serves. A crash leaves either the old one or the new one."""
        write_durably(building / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
        write_durably(building / SEAL, f"{checksum(building / MANIFEST)}\n".encode())
        folder = self.version_folder(manifest.version)
        building.rename(folder)
        sync(folder.parent)
        write_durably(self.root / CURRENT, f"{manifest.version}\n".encode())

    def rollback(self, name: str) -> Manifest:
        """Lets another version serve, verified first. Engines take it up as they would a new one.

        Raises UnknownVersionError where there is none of this name, StoreDamagedError where it is not whole; the
        pointer then stays as it is.
        """
        self.check_known(name)
        manifest = self.verified(name)
        write_durably(self.root / CURRENT, f"{name}\n".encode())
        return manifest

    def prune(self, keep: int, spare: Collection[str] = ()) -> list[str]:
        """Removes what `surplus` lists and what an interrupted rebuild left; returns the versions among it."""
        self._sweep()
        surplus = self.surplus(keep, spare)
        for name in surplus.versions:
            # Renamed first, so that a crash leaves no part of a version under a version's name.
            going = self.version_folder(_GOING + name)
            self.version_folder(name).rename(going)
            shutil.rmtree(going)
        for name in surplus.encoders:
            shutil.rmtree(self.encoders / name)
        return list(surplus.versions)

    def surplus(self, keep: int, spare: Collection[str] = ()) -> Surplus:
        """All but the `keep` newest versions, never the one that serves nor one of `spare`; and unused encoders."""
        names = self.versions()
        spared = {self.current(), *spare, *(names[-keep:] if keep > 0 else ())}
        versions = tuple(name for name in names if name not in spared)
        used = {manifest.encoder for manifest in self._readable_manifests() if manifest.version not in versions}
        stored = sorted(self.encoders.iterdir()) if self.encoders.is_dir() else []
        encoders = tuple(folder.name for folder in stored if folder.name not in used)
        freed = [self.version_folder(name) for name in versions] + [self.encoders / name for name in encoders]
        return Surplus(versions, encoders, sum(map(_folder_size, freed)))

    def drop_doubtful_encoder(self, identity: str) -> None:
        """Removes a stored encoder unless a version vouches for every file of it, so that it is stored anew.

        Without this a rebuild would take a damaged model over, and its new checksums would call it whole.
        """
        folder = self.encoders / identity
        prefix = f"{folder.relative_to(self.root).as_posix()}/"
        for manifest in self._readable_manifests():
            listed = {path: entry for path, entry in manifest.files.items() if path.startswith(prefix)}
            if listed and not any(file_problem(self.root / path, entry) for path, entry in listed.items()):
                return
        shutil.rmtree(folder, ignore_errors=True)

    def folded(self) -> list[int]:
        """For each version the number of the last live change in it; nothing where one cannot be read."""
        manifests = list(self._readable_manifests())
        return [each.folded for each in manifests] if len(manifests) == len(self.versions()) else []

    def _readable_manifests(self) -> Iterator[Manifest]:
        for name in self.versions():
            with suppress(StoreDamagedError):
                yield self.manifest(name)

    def _sweep(self) -> None:
        """Removes the unfinished folders of interrupted rebuilds, and what an interrupted pruning had begun on."""
        for pattern in (_UNFINISHED, _GOING):
            for leftover in (self.root / "versions").glob(f"{pattern}*"):
                shutil.rmtree(leftover)


def _folder_size(folder: Path) -> int:
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            # A rebuild may be removing the very folder.
            with suppress(OSError):
                size += Path(place, name).lstat().st_size
    return size
