"""The published index: a directory of immutable versions and one pointer, replaced atomically.

STORE/
  shelfwise.json            says that this directory is ours, and in which schema
  CURRENT                   the name of the version that serves
  lock                      held by the one rebuild at work
  encoders/IDENTITY/        exported models, shared by the versions that they made
  versions/v000007/         manifest.json, its checksum, and everything it lists; never changed again
  staging/                  what an interrupted rebuild had done so far
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock
import msgspec
import xxhash

from retrieval.encoder_folder import SPEC_FILE
from retrieval.errors import StoreDamagedError, StoreForeignError, StoreLockedError, StoreMissingError
from retrieval.vectors import USUAL_BACKGROUND, Background

SCHEMA = 1
"""Counts up when a version's files change so that an older program could not read them."""
MARKER = "shelfwise.json"
CURRENT = "CURRENT"
MANIFEST = "manifest.json"
SEAL = "manifest.xxh3"
"""Beside a manifest: the checksum of the manifest itself."""
_MEND_MARKER = 'write {"schema": 1} into it if the versions beside it are yours, or rebuild into a new directory'
_VERSION_NAME = re.compile(r"v\d{6,}")
_CHUNK_BYTES = 1 << 20


class FileEntry(msgspec.Struct, frozen=True):
    """One file of a version: its length in bytes and its XXH3 checksum (128 bits, hexadecimal)."""

    bytes: int
    xxh3: str


class Manifest(msgspec.Struct, frozen=True):
    """What a version is made of. Everything that another version could differ in is named here."""

    schema: int
    version: str
    created: str
    products: int
    catalog: str
    """Fingerprint of all products in the order of their ids."""
    analyzer: str
    encoder: str
    """Identity of the encoder that made the vectors; its files are under encoders/ of the store."""
    encoder_name: str
    dimension: int
    vectors: str
    """How the nearest vectors are found: exact, graph or quantised."""
    files: Mapping[str, FileEntry]
    """Paths relative to the store."""
    background: Background = USUAL_BACKGROUND
    """The cosine of unrelated products, from which similarity is measured."""
    recipe: str = ""
    """`retrieval.product_text.RECIPE`: which parts of a product were read, and with what weights."""
    report: Mapping[str, Any] = {}
    """What the rebuild counted: rows read, rejected by reason, encoded, reused, seconds."""


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
            if any(entry.name != _scratch(self.root / MARKER).name for entry in self.root.iterdir()):
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
        if manifest.version != name:
            raise StoreDamagedError(f"version {name} is damaged: its manifest is that of {manifest.version}")
        if f"{self.encoders.name}/{manifest.encoder}/{SPEC_FILE}" not in manifest.files or "/" in manifest.encoder:
            raise StoreDamagedError(f"version {name} is damaged: its manifest lists no files of its encoder")
        for relative, entry in manifest.files.items():
            problem = _problem(self._inside(name, relative), entry)
            if problem:
                raise StoreDamagedError(f"version {name} is damaged: {relative} {problem}")
        return manifest

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
    def locked(self) -> Iterator[None]:
        """Makes the directory a store and holds its lock.

        Raises StoreLockedError when another rebuild is at work, StoreForeignError when the directory is not ours,
        StoreMissingError when it cannot be made.
        """
        try:
            self.check_ours()
        except StoreMissingError:
            if self.root.exists() and not self.root.is_dir():
                raise
            self._make_ours()
        lock = filelock.FileLock(self.root / "lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise StoreLockedError(f"another rebuild is at work in {self.root}; wait for it to end") from error
        try:
            yield
        finally:
            lock.release()

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
        folder = self.root / "versions" / f".building-{self.next_version()}"
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
                _sync(path)
                entries[(prefix / path.relative_to(folder)).as_posix()] = FileEntry(path.stat().st_size, checksum(path))
        for path in (folder, *(each for each in folder.rglob("*") if each.is_dir())):
            _sync(path)
        return entries

    def publish(self, building: Path, manifest: Manifest) -> None:
        """Turns a finished folder into the version that serves. A crash leaves either the old one or the new one."""
        write_durably(building / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
        write_durably(building / SEAL, f"{checksum(building / MANIFEST)}\n".encode())
        folder = self.version_folder(manifest.version)
        building.rename(folder)
        _sync(folder.parent)
        write_durably(self.root / CURRENT, f"{manifest.version}\n".encode())

    def prune(self, keep: int) -> list[str]:
        """Removes all but the `keep` newest versions, never the one that serves, encoders that none uses, and what an
        interrupted rebuild left."""
        self._sweep()
        current = self.current()
        doomed = [name for name in self.versions()[:-keep] if name != current]
        for name in doomed:
            shutil.rmtree(self.version_folder(name))
        used = {manifest.encoder for manifest in self._readable_manifests()}
        for folder in self.encoders.iterdir() if self.encoders.is_dir() else ():
            if folder.name not in used:
                shutil.rmtree(folder)
        return doomed

    def drop_doubtful_encoder(self, identity: str) -> None:
        """Removes a stored encoder unless a version vouches for every file of it, so that it is stored anew.

        Without this a rebuild would take a damaged model over, and its new checksums would call it whole.
        """
        folder = self.encoders / identity
        prefix = f"{folder.relative_to(self.root).as_posix()}/"
        for manifest in self._readable_manifests():
            listed = {path: entry for path, entry in manifest.files.items() if path.startswith(prefix)}
            if listed and not any(_problem(self.root / path, entry) for path, entry in listed.items()):
                return
        shutil.rmtree(folder, ignore_errors=True)

    def _readable_manifests(self) -> Iterator[Manifest]:
        for name in self.versions():
            with suppress(StoreDamagedError):
                yield self.manifest(name)

    def _sweep(self) -> None:
        """Removes the unfinished folders of interrupted rebuilds."""
        for leftover in (self.root / "versions").glob(".building-*"):
            shutil.rmtree(leftover)


def write_durably(path: Path, content: bytes) -> None:
    """Replaces a file at once: a reader, or a crash, meets the old content or the new, never a part."""
    scratch = _scratch(path)
    with scratch.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    _sync(path.parent)


def _scratch(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def checksum(path: Path) -> str:
    """The XXH3 checksum of a file (128 bits, hexadecimal)."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _problem(path: Path, entry: FileEntry) -> str:
    """What is wrong with a file, or nothing."""
    try:
        length = path.stat().st_size
        if length != entry.bytes:
            return f"has {length} bytes, not {entry.bytes}"
        return "" if checksum(path) == entry.xxh3 else "has another checksum than when it was published"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
