"""The indexes of a service by name: a single one, or those of a directory, opened and closed as their directories come
and go; and the aliases of a directory."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec
import structlog
from filelock import FileLock

from shelfwise.retrieval.errors import SettingError, ShelfwiseError, StoreError, StoreMissingError
from shelfwise.retrieval.store.files import SealedFile, sync
from shelfwise.retrieval.store.manifest import CURRENT
from shelfwise.service.events.hot_reload import ReloadedFile

_log = structlog.get_logger("shelfwise.indexes")
ALIASES_FILE = "aliases.json"
"""Name in the directory of the indexes."""
_ALIASES = SealedFile(
    1,
    "restore it from a backup, or remove it and set the aliases again",
    "aliases",
    msgspec.json.Decoder(dict[str, str]),
)
_MAX_ALIAS_BYTES = 1 << 22
_CHECK_SECONDS = 0.25
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MAKING_FILE = ".making.lock"
_FOLLOW_SECONDS = 0.25
_RETRY_SECONDS = 5.0
"""Seconds until an index that could not be opened is tried again."""


class ServedIndex(Protocol):
    """An opened index."""

    @property
    def name(self) -> str: ...

    @property
    def notices(self) -> tuple[str, ...]: ...

    def close(self) -> None: ...


class MakeIndex(Protocol):
    """Creates indexes without products."""

    @property
    def label(self) -> str:
        """Name of the program and the encoder of these indexes."""

    def __call__(self, path: Path) -> None: ...


T = TypeVar("T", bound=ServedIndex)


def check_name(name: str) -> None:
    """Raises SettingError for a text that cannot be the name of a new index or alias."""
    if not _NAME.fullmatch(name):
        raise SettingError(
            f"{name[:100]!r} is not a name of an index or alias: use 1 to 100 of the characters a-z, A-Z, 0-9, ., _, - "
            "and begin with a letter or digit"
        )


class AliasFile:
    """Other names of the indexes of a directory, reloaded when their file changes. Threads and processes may share it;
    a change is durable and atomic."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / ALIASES_FILE
        failure = "changes of the aliases are not loaded"
        self._file: ReloadedFile[Mapping[str, str]] = ReloadedFile(
            self._path, lambda _: self._read(), {}, failure, keeps_value=True, interval=_CHECK_SECONDS
        )

    @property
    def notices(self) -> tuple[str, ...]:
        """The reason why the latest aliases are not loaded."""
        self._file.current()
        return self._file.notices

    def all(self) -> Mapping[str, str]:
        """The index name of each alias."""
        return self._file.current()

    def set(self, name: str, index: str) -> None:
        """Adds an alias of an index, or moves an alias to it; raises SettingError if that is not possible."""
        check_name(name)
        there = index_directories(self._root)
        if name in there:
            raise SettingError(f"{name} is an index of {self._root.name}; choose another name for the alias")
        if index not in there:
            advice = f"there is {', '.join(sorted(there))}" if there else "name the directory that contains the indexes"
            raise SettingError(f"{self._root} has no index {index[:100]!r}; {advice}")
        with self._lock():
            self._write({**self._read(), name: index})

    def delete(self, name: str) -> None:
        """Deletes an alias; raises SettingError for an unknown one."""
        with self._lock():
            aliases = dict(self._read())
            if aliases.pop(name, None) is None:
                raise SettingError(f"there is no alias {name[:100]!r}; there is {', '.join(sorted(aliases)) or 'none'}")
            self._write(aliases)

    def _read(self) -> Mapping[str, str]:
        return _ALIASES.read(self._path, _MAX_ALIAS_BYTES) or {}

    def _write(self, aliases: Mapping[str, str]) -> None:
        _ALIASES.write(self._path, dict(aliases), datetime.now(UTC))
        self._file.reload_if_changed()

    def _lock(self) -> FileLock:
        return FileLock(self._path.with_suffix(".lock"))


class UnknownIndexError(Exception):
    """No index has this name, or no name is given and there are several indexes."""


class IndexUnavailableError(Exception):
    """An index cannot be opened now."""


@dataclass(slots=True)
class _Place(Generic[T]):
    index: T | None
    inode: int
    """Inode of its directory; a directory with the same name and another inode is another index."""
    problem: str = ""
    """The reason why it cannot be opened."""
    retry: float = 0.0
    """Time of the next attempt to open it, by the monotonic clock."""
    users: int = 0
    """Number of requests that use it."""


class IndexRegistry(Generic[T]):
    """Indexes by name. Thread-safe.

    A thread follows a directory of indexes: it opens one that appears, and closes one that disappears when no request
    uses it. An index that cannot be opened does not affect the others.
    """

    def __init__(
        self,
        root: Path | None,
        open_index: Callable[[Path], T],
        default: str = "",
        make_index: MakeIndex | None = None,
        most: int = 0,
    ) -> None:
        """Without `root`, there is a single index. `open_index` opens an index directory or raises ShelfwiseError.
        `default` is the index for requests without a name; a single index is its own default. `make_index` creates an
        index without products, if there are fewer than `most`."""
        self.root = root
        self.default = default
        self.aliases = AliasFile(root) if root else None
        """Aliases of the directory; None in a service with one index."""
        self._open = open_index
        self._make = make_index
        self._most = most
        self._making = threading.Lock()
        self._entries: dict[str, _Place[T]] = {}
        self._retired: list[_Place[T]] = []
        self._lock = threading.Lock()
        """Held while entries and their users change."""
        self._refreshing = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._preparing: threading.Thread | None = None

    @classmethod
    def of_one(cls, index: T) -> IndexRegistry[T]:
        """A registry of one index."""
        registry = cls(None, lambda _: index)
        registry._entries[index.name] = _Place(index, 0)
        return registry

    def follow(self) -> None:
        """Starts to follow the directory in a thread."""
        self.refresh()
        self._prepare()
        self._thread = threading.Thread(target=self._run, name="indexes", daemon=True)
        self._thread.start()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all indexes, including those that cannot be opened."""
        return tuple(sorted(self._entries))

    @property
    def opened(self) -> tuple[T, ...]:
        """The opened indexes by name."""
        entries = sorted(self._entries.items())
        return tuple(entry.index for _, entry in entries if entry.index is not None)

    @property
    def notices(self) -> tuple[str, ...]:
        """Problems that do not stop searches, of all indexes; with several indexes, each with the index's name."""
        of_indexes = [(each.name, notice) for each in self.opened for notice in each.notices]
        if self.root is None:
            return tuple(notice for _, notice in of_indexes)
        unopened = [(name, entry.problem) for name, entry in sorted(self._entries.items()) if entry.problem]
        of_aliases = self.aliases.notices if self.aliases else ()
        return (*(f"{name}: {notice}" for name, notice in (*of_indexes, *unopened)), *of_aliases)

    def resolve(self, name: str = "") -> str:
        """The name of an index by its name or alias; raises UnknownIndexError."""
        entries = self._entries
        if not name:
            name = next(iter(entries)) if len(entries) == 1 else self.default
        target = name if name in entries or self.aliases is None else self.aliases.all().get(name, name)
        if target not in entries:
            raise UnknownIndexError(name)
        return target

    @contextmanager
    def use(self, name: str = "") -> Iterator[T]:
        """An index that stays open during the context. Raises UnknownIndexError or IndexUnavailableError,
        and StoreMissingError for an error of an index that is deleted meanwhile."""
        if self.root and self._is_stale(self.root, name):
            self.refresh()
        with self._lock:
            target = self.resolve(name)
            entry = self._entries[target]
            if entry.index is None:
                raise IndexUnavailableError(target)
            entry.users += 1
        try:
            yield entry.index
        except (StoreError, OSError) as error:
            # By inode, as the deleted engine may have made the directory again.
            if self.root is None or not self._is_stale(self.root, target):
                raise
            raise StoreMissingError(f"the index {target} was deleted or renamed during this request") from error
        finally:
            with self._lock:
                entry.users -= 1

    def _is_stale(self, root: Path, name: str) -> bool:
        """Another process has just created, replaced or deleted the index. A write of its old engine would bring the
        deleted directory back and be lost."""
        try:
            target = self.resolve(name)
        except UnknownIndexError:
            return bool(_NAME.fullmatch(name)) and (root / name / CURRENT).is_file()
        try:
            return (root / target).stat().st_ino != self._entries[target].inode
        except (OSError, KeyError):
            return True

    def create(self, name: str) -> None:
        """Creates an index without products unless it exists. Raises UnknownIndexError if the service does not create
        indexes, SettingError for an invalid name or if there are as many as allowed."""
        if self.root is None or self._make is None or not self._most:
            raise UnknownIndexError(name)
        check_name(name)
        # One at a time across all processes.
        with self._making, FileLock(self.root / _MAKING_FILE):
            present = index_directories(self.root)
            if name not in present and len(present) >= self._most:
                raise SettingError(
                    f"there are {len(present)} indexes, as many as service.indexes allows; {name} is not created"
                )
            if name not in present:
                try:
                    self._spare(self.root, self._make).rename(self.root / name)
                    sync(self.root)
                except OSError as error:
                    raise SettingError(f"{name} cannot be the name of an index: {error.strerror}") from error
        self.refresh()
        self._preparing = threading.Thread(target=self._prepare, name="spare-index", daemon=True)
        self._preparing.start()

    def _prepare(self) -> None:
        """Makes the spare that the next write to a new index renames, so that it need not wait."""
        if self.root is None:
            return
        try:
            with self._making, FileLock(self.root / _MAKING_FILE):
                if self._make and self._most:
                    self._spare(self.root, self._make)
        except Exception:  # a write to a new index reports it
            _log.warning("no spare index", exc_info=True)

    def _spare(self, root: Path, make: MakeIndex) -> Path:
        """An index without products, made now if there is none."""
        spare = root / f".{re.sub(r'[^A-Za-z0-9.-]+', '-', make.label)}.spare"
        if not (spare / CURRENT).is_file():
            for each in root.glob(".*.spare"):  # incomplete, or of another encoder
                shutil.rmtree(each)
            make(spare)
        return spare

    def refresh(self) -> None:
        """Opens the indexes that appeared, and closes those that disappeared and are not in use."""
        if self.root is None:
            return
        with self._refreshing:
            present = index_directories(self.root)
            for name in self._entries.keys() - present.keys():
                self._replace(name, None)
            for name, inode in present.items():
                entry = self._entries.get(name)
                if entry is None or entry.inode != inode or (entry.problem and time.monotonic() > entry.retry):
                    self._replace(name, self._opened(self.root / name, inode))
            self._close_retired()

    def close(self) -> None:
        """Closes all indexes."""
        self._stop.set()
        for thread in filter(None, (self._thread, self._preparing)):
            thread.join()
        with self._refreshing:
            for name in self.names:
                self._replace(name, None)
            for entry in self._retired:
                entry.users = 0
            self._close_retired()

    def _opened(self, path: Path, inode: int) -> _Place[T]:
        try:
            return _Place(self._open(path), inode)
        except Exception as error:  # whatever it is, the other indexes keep serving
            _log.warning("index not opened", index=path.name, exc_info=not isinstance(error, ShelfwiseError))
            return _Place(None, inode, f"it cannot be opened: {error}", time.monotonic() + _RETRY_SECONDS)

    def _replace(self, name: str, entry: _Place[T] | None) -> None:
        with self._lock:
            entries = {**self._entries, name: entry} if entry else {**self._entries}
            previous = self._entries.get(name)
            if entry is None:
                entries.pop(name, None)
            self._entries = entries
            if previous is not None and previous.index is not None:
                self._retired.append(previous)

    def _close_retired(self) -> None:
        with self._lock:
            unused = [entry for entry in self._retired if not entry.users]
            self._retired = [entry for entry in self._retired if entry.users]
        for entry in unused:
            if entry.index is not None:
                entry.index.close()

    def _run(self) -> None:
        while not self._stop.wait(_FOLLOW_SECONDS):
            try:
                self.refresh()
            except Exception:  # an unexpected error must not end the thread
                _log.exception("indexes not followed")


def index_directories(root: Path) -> Mapping[str, int]:
    """The index directories in a directory by name, with their inodes; hidden ones are left out."""
    try:
        directories = [each for each in root.iterdir() if not each.name.startswith(".") and (each / CURRENT).is_file()]
        return {each.name: each.stat().st_ino for each in directories}
    except OSError:
        return {}
