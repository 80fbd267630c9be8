"""The store of trained models: folders that never change, a pointer to the one that serves, which stay, the list of
them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from rerank.ranker.spec import (
    DEFAULT_RANKER,
    Encoding,
    RankerReport,
    RankerSpec,
    misfit,
    read_report,
    shipped_ranker,
    verify_ranker,
    write_ranker,
)
from retrieval.errors import (
    InputError,
    ModelDamagedError,
    ModelError,
    ModelMismatchError,
    ModelRefusedError,
    StoreError,
    UnknownModelError,
)
from retrieval.store.files import atomic_folder, file_stamp, read_pointer, sync, write_pointer
from retrieval.store.manifest import CURRENT

# The rankers that were trained for an index: kept as folders that never change, with a pointer to the one that serves.
#
# STORE/rankers/
#   CURRENT              the name of the ranker that serves, or "off", with a checksum
#   ranker-0001/         one ranker: rerank/ranker/spec.py
#   lock, lock.json      held by the one program that writes; who that is
#
# Where none was published the ranker that comes with the program serves (`rerank.ranker.spec`), if there is one for
# the index's encoder. Published rankers and those rejected are numbered together, in the order of their training;
# report.json tells them apart. Reading needs no lock: what a pointer names is whole, and stays while it is named. A
# program that is killed leaves no trace of the ranker that it was adding, or a whole one; the pointer moves after that,
# or not.

RANKERS_FOLDER = "rankers"
KEEP = 10
"""How many stay of those that may serve, and of those that may not."""
_PATIENCE_SECONDS = 60.0
"""A ranker took long to train: who adds one waits while another is added, which takes a few seconds."""
_MERGED = "results keep the merged order"

Build = Callable[[Path], None]
"""Puts a ranker's weights and graph into an empty folder."""


@dataclass(frozen=True, slots=True)
class Published:
    """A ranker whose files are whole."""

    name: str
    folder: Path
    spec: RankerSpec
    report: RankerReport


@dataclass(frozen=True, slots=True)
class Serving:
    """The ranker to serve, and what a user should know of it."""

    ranker: Published | None
    """None where rankers are switched off, or none fits, also none that comes with the program: the merged order stands
    then."""
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Added:
    """What `publish` and `add_rejected` did."""

    ranker: Published
    serves: bool
    removed: tuple[str, ...] = ()
    """Older rankers that were one too many, oldest first."""
    notices: tuple[str, ...] = ()
    """Why it does not serve although it was published, or why older ones were not removed."""


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What a rollback did."""

    before: str
    """The ranker that served; empty where none did."""
    ranker: Published
    """The one that serves now."""
    passed_over: tuple[str, ...] = ()
    """Those between that cannot serve, with the reason."""


class RankerRegistry:
    """The rankers of one index directory. Nothing is written before a ranker is added."""

    def __init__(self, store: Path, keep: int = KEEP) -> None:
        """`keep` of those that may serve stay, and as many of those that may not. Raises InputError for less than 1."""
        if keep < 1:
            raise InputError(f"keep is {keep}: at least 1 ranker stays")
        self.store = store
        self.keep = keep
        self.folder = store / RANKERS_FOLDER
        self.pointer = RankerPointer(self.folder)

    def names(self) -> list[str]:
        """All rankers, oldest first, those rejected among them."""
        names = [entry.name for entry in self.folder.iterdir()] if self.folder.is_dir() else []
        return sorted((name for name in names if RANKER_NAME.fullmatch(name)), key=_number)

    def open(self, name: str, encoding: Encoding | None = None) -> Published:
        """A ranker of this name, verified; "default" is the one that comes with the program for an index's encoding.

        Raises UnknownModelError, which names those that there are, ModelDamagedError or ModelMismatchError.
        """
        if name == DEFAULT_RANKER and (default := self._default(encoding)):
            return default
        if name not in (names := self.names()):
            there = f"it holds {', '.join(names)}" if names else "it holds none"
            raise UnknownModelError(f"{self.folder} has no ranker {name!r}; {there}")
        return opened_ranker(self.folder / name)

    def servable(self, name: str, encoding: Encoding | None = None) -> Published:
        """A ranker of this name that may serve an index, "default" among them; raises as `rollback`, and ModelError
        while rankers are switched off."""
        if self.pointer.is_off():
            cure = "let one serve again: shelfwise models rollback"
            raise ModelError(f"rankers are switched off, {name[:100]} too; {cure}")
        return self.open(name, encoding) if name == DEFAULT_RANKER else self._fitting(name, encoding)

    def serving(self, encoding: Encoding | None = None) -> Serving:
        """The ranker that serves an index, verified.

        Where the one that the pointer names cannot, being damaged or for another encoder or dimension, the newest of
        those before it that can. Without `encoding` whatever the rankers were trained on is not looked at.
        """
        while True:
            stamp = self.pointer.stamp()
            found = self._find_serving(encoding)
            # A ranker that was pruned while it was read is no damage: the pointer has moved on.
            if not found.notices or stamp == self.pointer.stamp():
                return found

    def publish(self, build: Build, spec: RankerSpec, report: RankerReport) -> Added:
        """Adds a ranker and lets it serve, unless rankers are switched off; then removes those that are too many.

        Waits up to a minute for another program that writes. Raises StoreLockedError where that takes longer,
        StoreError where the folder cannot be written, and what `write_ranker` and `build` raise: then nothing is added.
        """
        with self._locked("publish", _PATIENCE_SECONDS):
            made = self._add(build, spec, msgspec.structs.replace(report, rejection_reasons=()))
            if self.pointer.is_off():
                notice = f"rankers are switched off; to let it serve: shelfwise models rollback {made.name}"
                return self._tidied(made, serves=False, notices=(notice,))
            self.pointer.write(made.name)
            return self._tidied(made, serves=True)

    def add_rejected(self, build: Build, spec: RankerSpec, report: RankerReport, reasons: Sequence[str]) -> Added:
        """Adds a ranker that does not serve, with why. Raises as `publish`, InputError without a reason."""
        if not any(reasons):
            raise InputError("a ranker is rejected for a reason: give one, or publish it")
        with self._locked("publish", _PATIENCE_SECONDS):
            return self._tidied(
                self._add(build, spec, msgspec.structs.replace(report, rejection_reasons=tuple(reasons))), serves=False
            )

    def rollback(self, name: str = "", encoding: Encoding | None = None) -> RolledBack:
        """Lets the ranker of this name serve, or the newest before the current one that can; "default" is the one that
        comes with the program.

        Raises UnknownModelError where there is none, ModelRefusedError for one that was rejected,
        ModelMismatchError for one that does not fit the encoding, ModelDamagedError; the pointer then stays.
        """
        with self._locked("rollback"):
            before = self.pointer.readable()
            if name == DEFAULT_RANKER:
                default = self.open(name, encoding)
                self.pointer.remove()
                return RolledBack(before, default)
            if name:
                return RolledBack(before, self._serve(name, encoding))
            passed_over: list[str] = []
            for older in reversed(self._before(before)):
                try:
                    return RolledBack(before, self._serve(older, encoding), tuple(passed_over))
                except ModelRefusedError:
                    continue
                except ModelError as error:
                    passed_over.append(str(error))
        there = "; ".join(passed_over) or f"it holds {', '.join(self.names()) or 'none'}"
        which = f"before {before} that can serve" if before else "that can serve"
        cure = "let none serve: shelfwise models off" if before else "train one: shelfwise train ranker"
        raise UnknownModelError(f"{self.folder} has no ranker {which}: {there}; {cure}")

    def off(self) -> str:
        """Lets none serve; gives the name of the one that did, or nothing."""
        with self._locked("switch-off"):
            before = self.pointer.readable()
            self.pointer.write("")
        return before

    def prune(self) -> tuple[str, ...]:
        """Removes all but the one that serves, the newest `keep` that can, and as many that cannot.

        Gives the names of those removed, oldest first. Raises as `publish`.
        """
        with self._locked("prune"):
            return self._prune()

    @contextmanager
    def _locked(self, purpose: str, patience: float = 0.0) -> Iterator[None]:
        from retrieval.store.lock import hold_lock
        from retrieval.store.versions import Store

        Store(self.store).check_ours()
        try:
            self.folder.mkdir(exist_ok=True)
            with hold_lock(self.folder, purpose, patience):
                sweep(self.folder)
                yield
        except OSError as error:
            message = f"{self.folder} cannot be written ({error}); see to the disk and to the rights to that folder"
            raise StoreError(message) from error

    def _tidied(self, made: Published, *, serves: bool, notices: tuple[str, ...] = ()) -> Added:
        """The ranker is added, whatever removing others meets."""
        try:
            return Added(made, serves, self._prune(), notices)
        except OSError as error:
            return Added(made, serves, (), (*notices, f"older rankers could not be removed ({error})"))

    def _prune(self) -> tuple[str, ...]:
        names = self.names()
        gone = surplus(names, [name for name in names if self._can_serve(name)], self.pointer.readable(), self.keep)
        remove(self.folder, gone)
        return gone

    def _add(self, build: Build, spec: RankerSpec, report: RankerReport) -> Published:
        names = self.names()
        name = f"ranker-{(_number(names[-1]) if names else 0) + 1:04d}"
        with atomic_folder(self.folder / name) as scratch:
            build(scratch)
            spec = write_ranker(scratch, spec, report)
        return Published(name, self.folder / name, spec, report)

    def _find_serving(self, encoding: Encoding | None) -> Serving:
        try:
            current = self.pointer.read()
        except ModelDamagedError as error:
            return Serving(None, (f"{error}; {_MERGED}",))
        if not current:
            return self._serving_default(encoding)
        try:
            return Serving(self._fitting(current, encoding))
        except ModelError as error:
            return self._find_older(current, encoding, str(error))

    def _serving_default(self, encoding: Encoding | None) -> Serving:
        if self.pointer.is_off():
            return Serving(None)
        try:
            return Serving(self._default(encoding))
        except ModelError as error:
            return Serving(None, (f"{error}; {_MERGED}",))

    @staticmethod
    def _default(encoding: Encoding | None) -> Published | None:
        """The one that comes with the program; None where there is none for this encoding, or that is not known."""
        found = shipped_ranker(encoding) if encoding else None
        return Published(DEFAULT_RANKER, *found) if found else None

    def _find_older(self, current: str, encoding: Encoding | None, notice: str) -> Serving:
        for name in reversed(self._before(current)):
            with suppress(ModelError):
                ranker = self._fitting(name, encoding)
                return Serving(ranker, (f"{notice}; {name} serves in its place",))
        return Serving(None, (f"{notice}; {_MERGED}",))

    def _serve(self, name: str, encoding: Encoding | None) -> Published:
        ranker = self._fitting(name, encoding)
        self.pointer.write(name)
        return ranker

    def _fitting(self, name: str, encoding: Encoding | None) -> Published:
        """A ranker that may serve; raises as `rollback`."""
        ranker = self.open(name)
        if ranker.report.rejection_reasons:
            raise ModelRefusedError(f"{name} was rejected: {'; '.join(ranker.report.rejection_reasons)}")
        if encoding and (why := misfit(ranker.spec, encoding)):
            raise ModelMismatchError(f"{name} cannot serve: {why}")
        return ranker

    def _before(self, name: str) -> list[str]:
        """The rankers that are older than this one, oldest first; all, where there is no such."""
        return [each for each in self.names() if not name or _number(each) < _number(name)]

    def _can_serve(self, name: str) -> bool:
        with suppress(ModelError):
            return not self.open(name).report.rejection_reasons
        return False


def opened_ranker(folder: Path) -> Published:
    """The ranker of a folder, by the folder's name, verified; raises ModelDamagedError or ModelMismatchError."""
    return Published(folder.name, folder, verify_ranker(folder), read_report(folder))


def _number(name: str) -> int:
    return int(name.removeprefix("ranker-"))


# The file that names the ranker which serves, replaced at once: a reader meets the old name or the new one.

RANKER_NAME = re.compile(r"ranker-[0-9]{4,}")
NO_RANKER = "off"
"""What stands for none where a ranker may be named."""
_SAID = re.compile(f"{RANKER_NAME.pattern}|{NO_RANKER}")
_CURE = "let a ranker serve anew: shelfwise models rollback"


class RankerPointer:
    """CURRENT in a folder of rankers: a name, or "off", with a checksum."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / CURRENT

    def read(self) -> str:
        """The ranker that serves; nothing where none was published or rankers are switched off.

        Raises ModelDamagedError for a file that cannot be read, or names no ranker.
        """
        said = self._said()
        return "" if said == NO_RANKER else said

    def is_off(self) -> bool:
        """Whether somebody switched rankers off; False where it cannot be read."""
        try:
            return self._said() == NO_RANKER
        except ModelDamagedError:
            return False

    def readable(self) -> str:
        """As `read`, and nothing where it cannot be read."""
        try:
            return self.read()
        except ModelDamagedError:
            return ""

    def write(self, name: str) -> None:
        """Lets a ranker serve, or none where the name is empty."""
        write_pointer(self._path, name or NO_RANKER)

    def remove(self) -> None:
        """Names none, as before the first was published."""
        self._path.unlink(missing_ok=True)
        sync(self._path.parent)

    def stamp(self) -> tuple[int, int]:
        """Changes whenever it is written."""
        return file_stamp(self._path)

    def _said(self) -> str:
        try:
            return read_pointer(self._path, _SAID)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise ModelDamagedError(f"{self._path} cannot be read ({error.strerror}); {_CURE}") from error
        except ValueError as error:
            raise ModelDamagedError(f"{self._path} names no ranker, {error}; {_CURE}") from error


# Which rankers stay when one is added, and how the others, and what killed programs left, are removed; user towers
# are removed in the same way.

_ADDING = (".ranker-", ".tower-")
_GOING = ".removed-"


def surplus(names: Sequence[str], able: Collection[str], current: str, keep: int) -> tuple[str, ...]:
    """The names, oldest first, of the rankers that are too many.

    The current one stays, and the newest `keep` of those that are `able` to serve: where the current one is damaged,
    one of these serves in its place. So do as many of the others, which are for people to look at; they are counted
    apart, or a row of failures would leave no way back.
    """
    others = [name for name in names if name not in able]
    stay = {current, *[name for name in names if name in able][-keep:], *others[-keep:]}
    return tuple(name for name in names if name not in stay)


def remove(folder: Path, names: Sequence[str]) -> None:
    """Removes what is called so in a folder of rankers or towers; the caller holds its lock."""
    for name in names:
        # Renamed first, so that a crash leaves no part of a ranker under a ranker's name.
        (folder / name).rename(folder / f"{_GOING}{name}")
    sync(folder)
    sweep(folder)


def sweep(folder: Path) -> None:
    """Removes what killed programs had begun to write or to remove; the caller holds the lock."""
    for prefix in (*_ADDING, _GOING):
        for leftover in folder.glob(f"{prefix}*"):
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()


# The rankers of an index at a glance: how each was judged, which one serves, which cannot and why.


class RankerEntry(msgspec.Struct, frozen=True):
    """One ranker. Of one that cannot be opened only its name and size are known."""

    name: str
    serves: bool
    bytes: int
    spec: RankerSpec | None = None
    report: RankerReport | None = None
    problem: str = ""
    """Why it cannot be opened; empty for a whole one."""
    misfit: str = ""
    """Why it cannot serve the version that the index serves, which others could."""

    @property
    def is_rejected(self) -> bool:
        """Whether it was rejected."""
        return self.report is not None and bool(self.report.rejection_reasons)


class RankerList(msgspec.Struct, frozen=True):
    """All rankers of an index, oldest first."""

    serving: str
    """Name of the one that an engine would open; empty where none serves."""
    is_off: bool
    """Whether somebody switched rankers off."""
    notices: tuple[str, ...]
    """Why another one serves than was published last, or none."""
    rankers: tuple[RankerEntry, ...]


def list_rankers(registry: RankerRegistry, encoding: Encoding | None = None) -> RankerList:
    """Reads every file of every ranker; `encoding` is the index's, where that is known."""
    found = registry.serving(encoding)
    serving = found.ranker.name if found.ranker else ""
    entries = tuple(_entry(registry, name, encoding, serves=name == serving) for name in registry.names())
    return RankerList(serving, registry.pointer.is_off(), found.notices, entries)


def _entry(registry: RankerRegistry, name: str, encoding: Encoding | None, *, serves: bool) -> RankerEntry:
    size = 0
    with suppress(OSError):
        size = sum(path.stat().st_size for path in (registry.folder / name).iterdir())
    try:
        ranker = registry.open(name)
    except ModelError as error:
        return RankerEntry(name, serves, size, problem=str(error))
    why = misfit(ranker.spec, encoding) if encoding else ""
    return RankerEntry(name, serves, size, ranker.spec, ranker.report, misfit=why)
