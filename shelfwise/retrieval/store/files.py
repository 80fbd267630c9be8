"""Atomic, durable and sealed files: replaced as a whole, on disk when a call returns, verified by checksum when read.

A file is written under a temporary name next to it, synced, and renamed; then its folder is synced. So readers, also
after a crash, find the old content or the new content, never a part. Sealed files contain a checksum of their content.
Checksums are XXH3.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import shutil
import tempfile
import threading
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from shelfwise.retrieval.errors import StoreDamagedError, StoreError, StoreForeignError

T = TypeVar("T")

_POINTER_BYTES = 256
_REMOVED = ".removed-"


def scratch_path(path: Path) -> Path:
    """The temporary name under which `atomic_file` writes."""
    return path.with_name(f".{path.name}.new")


def open_scratch(scratch: Path) -> BinaryIO:
    """Opens a temporary file for writing; one of a killed process that cannot be opened is removed first."""
    try:
        return scratch.open("wb")
    except OSError:
        scratch.unlink(missing_ok=True)
        return scratch.open("wb")


@contextmanager
def atomic_file(path: Path, *, durable: bool = True, private: bool = False) -> Iterator[BinaryIO]:
    """A new file that replaces `path` on leaving; after an error the old file stays.

    It is then on disk, unless `durable` is false, which is for caches that a power failure may damage. A `private` file
    can be read only by its owner.
    """
    scratch = scratch_path(path)
    if private:
        scratch.unlink(missing_ok=True)
        scratch.touch(mode=0o600)
    try:
        with open_scratch(scratch) as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)


def write_durably(path: Path, content: bytes, *, private: bool = False) -> None:
    """Replaces a file with this content, atomically and durably; raises OSError."""
    with atomic_file(path, private=private) as file:
        file.write(content)


@contextmanager
def atomic_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary folder next to `target` that gets its name on leaving, at once and complete.

    Its name is synced, its files are not. An existing folder of this name is removed first if `replace` is set; else it
    stays, and this one, which has the same content, is dropped. After an error nothing stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield scratch
        scratch.chmod(0o755)
        if replace and target.exists():
            shutil.rmtree(target)
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():
                raise
        sync(target.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class Generations:
    """The numbered folders of a folder, such as v000001: each is complete before it gets its name, and then never
    changed."""

    def __init__(self, folder: Path, prefix: str, digits: int) -> None:
        """A name is the prefix and a number of at least `digits` digits."""
        self.folder = folder
        self.pattern = re.compile(rf"{re.escape(prefix)}[0-9]{{{digits},}}")
        self._prefix, self._digits = prefix, digits

    def names(self) -> list[str]:
        """All names, oldest first."""
        try:
            names = [entry.name for entry in self.folder.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(filter(self.pattern.fullmatch, names), key=self.number)

    def number(self, name: str) -> int:
        return int(name.removeprefix(self._prefix))

    def next_name(self) -> str:
        number = max(map(self.number, self.names()), default=0) + 1
        return f"{self._prefix}{number:0{self._digits}d}"

    def scratch(self) -> Path:
        """The folder in which the next generation is made if that takes long; see also `atomic_folder`."""
        return self.folder / f".{self.next_name()}"

    def remove(self, names: Iterable[str]) -> None:
        """Removes generations. Each is renamed first, so that a crash leaves no partial one under its name."""
        for name in names:
            (self.folder / name).rename(self.folder / f"{_REMOVED}{name}")
        if self.folder.is_dir():
            sync(self.folder)
        self.sweep()

    def sweep(self) -> None:
        """Removes what killed programs had begun to write or to remove; the caller must hold the lock."""
        for prefix in (f".{self._prefix}", _REMOVED):
            for leftover in self.folder.glob(f"{prefix}*"):
                if leftover.is_dir() and not leftover.is_symlink():
                    shutil.rmtree(leftover)
                else:
                    leftover.unlink()


def sync(path: Path) -> None:
    """Waits until a file, or the list of names of a folder, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_stamp(path: Path) -> tuple[int, int, int]:
    """The change time of a file in ns, its inode and size, which change with the file; zeros if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return status.st_mtime_ns, status.st_ino, status.st_size


class Watch:
    """Loads files again when their stamp changes, once for all threads; after an error, at the next call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: object = None

    def update(self, stamp: object, load: Callable[[], object]) -> None:
        """Calls `load` unless this is the stamp of the last load; other threads wait meanwhile."""
        if stamp == self._seen:
            return
        with self._lock:
            if stamp != self._seen:
                load()
                self._seen = stamp


def format_json(content: object) -> bytes:
    """Readable JSON, indented by one blank."""
    return msgspec.json.format(msgspec.json.encode(content), indent=1)


class FileEntry(msgspec.Struct, frozen=True):
    """The length of a file in bytes and its XXH3 checksum (128 bits, hexadecimal)."""

    bytes: int
    xxh3: str


def link_or_copy(source: str, target: str) -> None:
    """Links a file that is never changed, or copies it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def checksum(path: Path) -> str:
    """The XXH3 checksum of a file (128 bits, hexadecimal)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def file_entry(path: Path) -> FileEntry:
    """The current length and checksum of a file."""
    return FileEntry(path.stat().st_size, checksum(path))


def file_bytes(paths: Iterable[Path]) -> int:
    """The total size in bytes of those paths that are files."""
    return sum(path.stat().st_size for path in paths if path.is_file())


def file_problem(path: Path, entry: FileEntry, *, reads: bool = True) -> str:
    """The difference between a file and its `entry`, without `reads` only in length; empty if there is none."""
    try:
        length = path.stat().st_size
        if length != entry.bytes:
            return f"has {length} bytes, not {entry.bytes}"
        is_equal = not reads or checksum(path) == entry.xxh3
        return "" if is_equal else "has another checksum than when it was published"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


SEAL_FILE = "seal.json"
"""File of a sealed folder with the length and checksum of each other file."""


def seal_folder(folder: Path, documents: Mapping[str, msgspec.Struct]) -> None:
    """Completes a folder: writes `documents` as JSON by file name, then the seal over all files, including those in
    subfolders, and syncs them."""
    for name, content in documents.items():
        (folder / name).write_bytes(format_json(content))
    # Unlinked, since a copy of another sealed folder may share the file.
    (folder / SEAL_FILE).unlink(missing_ok=True)
    sealed = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = {path.relative_to(folder).as_posix(): file_entry(path) for path in sealed}
    (folder / SEAL_FILE).write_bytes(format_json(entries))
    folders = [path for path in folder.rglob("*") if path.is_dir()]
    for path in (*sealed, folder / SEAL_FILE, *folders, folder):
        sync(path)


MAX_SEAL_BYTES = 1 << 20


def read_seal(folder: Path) -> dict[str, FileEntry]:
    """The files of a sealed folder; raises ValueError if its seal cannot be read or names a file outside of it."""
    path = folder / SEAL_FILE
    try:
        entries = read_json(path, dict[str, FileEntry], MAX_SEAL_BYTES)
    except ValueError as error:
        missing = "is missing, as in folders that are incomplete or of an older program"
        raise ValueError(f"{SEAL_FILE} {error if path.exists() else missing}") from error
    for name in entries:
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise ValueError(f"{SEAL_FILE} lists {name}, outside the folder")
    return entries


def sealed_problem(path: Path, entry: FileEntry, *, reads: bool = True) -> str:
    """The problem of a file in a sealed folder, without `reads` only of its length; empty if there is none."""
    return "is a link" if path.is_symlink() else file_problem(path, entry, reads=reads)


def folder_problems(folder: Path, *, reads: bool = True) -> Iterator[tuple[str, str]]:
    """Each file of a sealed folder that differs from its seal, and its problem, as `sealed_problem` has it."""
    try:
        entries = read_seal(folder)
    except ValueError as error:
        yield SEAL_FILE, str(error).removeprefix(f"{SEAL_FILE} ")
        return
    for name, entry in entries.items():
        if problem := sealed_problem(folder / name, entry, reads=reads):
            yield name, problem


def read_json(path: Path, kind: type[T], most_bytes: int) -> T:
    """The content of a JSON file; raises ValueError with the problem for any other file or a longer one."""
    try:
        content = _read_bounded(path, most_bytes)
        if content is not None:
            return msgspec.json.decode(content, type=kind)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot be read ({error})") from error
    raise ValueError(f"has more than {most_bytes:,} bytes")


def load_json(path: Path, kind: type[T]) -> T:
    """The content of a JSON file of a version; raises StoreDamagedError for any other file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreDamagedError(f"{path} cannot be read ({error}); rebuild the index") from error


def _read_bounded(path: Path, most_bytes: int, *, mapped: bool = False) -> bytes | mmap.mmap | None:
    """The whole content of a file, read or mapped; None if it is longer."""
    with path.open("rb") as file:
        if mapped and (size := os.fstat(file.fileno()).st_size) > 0:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size <= most_bytes else None
        content = file.read(most_bytes + 1)
    return content if len(content) <= most_bytes else None


def text_seal(text: str) -> str:
    """The checksum that a small text file has of its own content (64 bits, hexadecimal)."""
    return xxhash.xxh3_64_hexdigest(text.encode())


def write_pointer(path: Path, name: str) -> None:
    """Writes the name of the serving version or model with a checksum, so that a flipped bit cannot change the name."""
    write_durably(path, f"{name} {text_seal(name)}\n".encode())


def read_pointer(path: Path, names: re.Pattern[str]) -> str:
    """The name in a pointer file; a person may write it without a checksum.

    Raises OSError, or ValueError with the content if it does not match `names`.
    """
    with path.open("rb") as file:
        content = file.read(_POINTER_BYTES).decode("ascii", "replace").rstrip("\r\n")
    name, _, seal = content.partition(" ")
    if not names.fullmatch(name) or seal not in ("", text_seal(name)):
        raise ValueError(f"it contains {content[:40]!r}")
    return name


class _Schema(msgspec.Struct, frozen=True):
    schema: int


@dataclass(frozen=True, slots=True)
class SealedFile(Generic[T]):
    """A kind of file that is replaced as a whole, of limited size.

    It is a JSON object: "schema", "made", "xxh3" of the time and the content, and the content under `field`.
    """

    schema: int
    """Increased when the file changes in a way that older programs cannot read."""
    cure: str
    """The end of every error message: how to recreate the file."""
    field: str
    decoder: msgspec.json.Decoder[T] | msgspec.msgpack.Decoder[T]
    codec: Any = msgspec.json
    """The module of the encoding: msgspec.json or msgspec.msgpack."""

    def write(self, path: Path, content: T, made: datetime, *, private: bool = False) -> None:
        """Replaces the file, like `write_durably`; raises StoreError if it cannot be written."""
        encoded = self.codec.encode(content)
        header = {"schema": self.schema, "made": made, "xxh3": self._checksum(made, encoded)}
        try:
            content_bytes = self.codec.encode({**header, self.field: msgspec.Raw(encoded)})
            write_durably(path, content_bytes, private=private)
        except OSError as error:
            message = f"{path} cannot be written ({error.strerror}); check the disk and the permissions"
            raise StoreError(message) from error

    def read(
        self, path: Path, most_bytes: int, problem: Callable[[T], str] = lambda _: "", *, mapped: bool = False
    ) -> T | None:
        """The content of a file of at most `most_bytes`, memory-mapped if requested; None if there is none.

        `problem` returns the problem of the content, or "". Raises StoreDamagedError for a file that cannot be read or
        is incomplete, StoreForeignError for a file of another schema.
        """
        fields = [("schema", int), ("made", datetime), ("xxh3", str), (self.field, msgspec.Raw)]
        try:
            content = _read_bounded(path, most_bytes, mapped=mapped)
            if content is None:
                raise StoreDamagedError(f"{path} has more than {most_bytes:,} bytes; {self.cure}")
            found = self.codec.decode(content, type=_Schema).schema
            if found != self.schema:
                raise StoreForeignError(f"{path} has schema {found}, but this program reads {self.schema}; {self.cure}")
            sealed = self.codec.decode(content, type=msgspec.defstruct("Sealed", fields))
            encoded = getattr(sealed, self.field)
            decoded = self.decoder.decode(encoded)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StoreDamagedError(f"{path} cannot be read ({error}); {self.cure}") from error
        if self._checksum(sealed.made, encoded) != sealed.xxh3:
            raise StoreDamagedError(f"{path} has another checksum than when it was written; {self.cure}")
        if wrong := problem(decoded):
            raise StoreDamagedError(f"{path} {wrong}; {self.cure}")
        return decoded

    def _checksum(self, made: datetime, encoded: bytes) -> str:
        digest = xxhash.xxh3_64(self.codec.encode(made))
        digest.update(encoded)
        return digest.hexdigest()


_PACKED: msgspec.msgpack.Decoder[dict[str, Any]] = msgspec.msgpack.Decoder(dict[str, memoryview])


class SealedArrays:
    """A kind of sealed file, in MessagePack, that contains arrays of one axis, read without a copy.

    `dtypes` gives numpy's type name of each array, including the byte order.
    """

    def __init__(self, schema: int, cure: str, dtypes: Mapping[str, str]) -> None:
        self._file = SealedFile(schema, cure, "arrays", _PACKED, msgspec.msgpack)
        self._dtypes = dtypes

    def write(self, path: Path, arrays: Mapping[str, NDArray[Any]], made: datetime) -> None:
        """Replaces the file; raises StoreError if it cannot be written."""
        packed = {name: np.ascontiguousarray(arrays[name], dtype).tobytes() for name, dtype in self._dtypes.items()}
        self._file.write(path, packed, made)

    def read(self, path: Path, most_bytes: int, *, mapped: bool = False) -> dict[str, NDArray[Any]] | None:
        """The arrays of a file, read-only; returns None and raises errors like `SealedFile.read`."""
        packed = self._file.read(path, most_bytes, mapped=mapped)
        if packed is None:
            return None
        try:
            return {name: np.frombuffer(packed[name], dtype) for name, dtype in self._dtypes.items()}
        except (ValueError, KeyError) as error:
            raise StoreDamagedError(f"{path} cannot be read ({error}); {self._file.cure}") from error


def load_array(
    path: Path,
    *,
    mapped: bool = False,
    dtype: type[np.generic] | None = None,
    shape: tuple[int | None, ...] | None = None,
) -> NDArray[Any]:
    """The array saved by numpy at `path`, read or mapped; raises StoreDamagedError for other contents, and for another
    type or shape if these are given. A length of None may be any."""
    try:
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError, EOFError, TypeError, SyntaxError, tokenize.TokenError) as error:
        # numpy parses the header as Python source and does not catch that parser's errors.
        raise StoreDamagedError(f"{path} cannot be read ({error}); rebuild the index") from error
    if shape is not None:
        pairs = zip(shape, array.shape, strict=False)
        has_shape = array.ndim == len(shape) and all(wanted in (None, there) for wanted, there in pairs)
        if not has_shape or array.dtype != dtype:
            found = f"{array.dtype}{array.shape}"
            raise StoreDamagedError(f"{path} has {found}, not {np.dtype(dtype)}{shape}; rebuild the index")
    # A plain view of the mapped file: numpy's own memmap class makes every access slower.
    return np.asarray(array)


class GrowingArray:
    """An array on disk in numpy's format to which rows are appended; `close` completes its header."""

    def __init__(self, path: Path, dtype: np.dtype[Any], columns: int | None = None) -> None:
        """`columns` is the length of a row; None makes an array of one axis."""
        self._file = path.open("wb")
        self._dtype = dtype
        self._row = () if columns is None else (columns,)
        self._count = 0
        self._write_header()
        self._begin = self._file.tell()

    def add(self, rows: NDArray[Any]) -> None:
        """Appends rows; raises ValueError for those of another shape or type."""
        if rows.shape[1:] != self._row or rows.dtype != self._dtype:
            takes = f"{self._dtype} rows of shape {self._row}"
            raise ValueError(f"{self._file.name} takes {takes}, not {rows.dtype}{rows.shape}")
        self._file.write(np.ascontiguousarray(rows).data)
        self._count += len(rows)

    def close(self) -> None:
        """Writes the number of rows into the header, in which numpy leaves room."""
        self._file.seek(0)
        self._write_header()
        if self._file.tell() != self._begin:
            raise ValueError(f"{self._file.name} has more rows than its header has room for")
        self._file.close()

    def _write_header(self) -> None:
        described = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._count, *self._row)}
        np.lib.format.write_array_header_1_0(self._file, described)
