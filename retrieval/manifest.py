"""What a version says of itself: its manifest, the checksums of its files, and how a file is written and checked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import xxhash

from retrieval.token_states import StatesFacts
from retrieval.vectors import USUAL_BACKGROUND, Background

MANIFEST = "manifest.json"
SEAL = "manifest.xxh3"
"""Beside a manifest: the checksum of the manifest itself."""
_CHUNK_BYTES = 1 << 20


class FileEntry(msgspec.Struct, frozen=True):
    """One file of a version: its length in bytes and its XXH3 checksum (128 bits, hexadecimal)."""

    bytes: int
    xxh3: str


class VersionChanges(msgspec.Struct, frozen=True):
    """How many products a version has more, less and otherwise than the one that it was built after."""

    before: str
    """The name of that version."""
    added: int = 0
    changed: int = 0
    removed: int = 0


class ClusterPlace(msgspec.Struct, frozen=True):
    """Where a version's indexes are in an Elasticsearch cluster. Which cluster that is, and who may ask it, is a matter
    of settings."""

    alias: str
    """Names the keyword index of the version that serves."""
    store: str
    """Tells the indexes of one index directory from those of others."""
    vectors: bool = False
    """Whether its vectors are there, too."""


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
    changes: VersionChanges | None = None
    """None where there was no version before, or where the rebuild was of a program that did not count them."""
    folded: int = 0
    """The number of the last live change that is in it; those of the journal behind it are laid over it."""
    cluster: ClusterPlace | None = None
    """None where its indexes are among its own files."""
    states: StatesFacts | None = None
    """Its token states; None where its encoder gave none, and in a version that an older program built."""


def write_durably(path: Path, content: bytes) -> None:
    """Replaces a file at once: a reader, or a crash, meets the old content or the new, never a part."""
    scratch = scratch_path(path)
    with open_scratch(scratch) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    sync(path.parent)


def file_stamp(path: Path) -> tuple[int, int]:
    """Changes whenever a file is replaced; zeros where there is none."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return status.st_mtime_ns, status.st_ino


def scratch_path(path: Path) -> Path:
    """Where `write_durably` writes before the file takes its name."""
    return path.with_name(f".{path.name}.new")


def open_scratch(scratch: Path) -> BinaryIO:
    """Opens a scratch file for writing; one that a killed process left and that cannot be opened is removed first."""
    try:
        return scratch.open("wb")
    except OSError:
        scratch.unlink(missing_ok=True)
        return scratch.open("wb")


def checksum(path: Path) -> str:
    """The XXH3 checksum of a file (128 bits, hexadecimal)."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def file_problem(path: Path, entry: FileEntry) -> str:
    """What is wrong with a file, or nothing."""
    try:
        length = path.stat().st_size
        if length != entry.bytes:
            return f"has {length} bytes, not {entry.bytes}"
        return "" if checksum(path) == entry.xxh3 else "has another checksum than when it was published"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def sync(path: Path) -> None:
    """Waits until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
