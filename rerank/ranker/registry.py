"""The rankers that were trained for an index: kept as folders that never change, with a pointer to the one that serves.

STORE/rankers/
  CURRENT              the name of the ranker that serves, or "off", with a checksum
  ranker-0001/         one ranker: rerank/ranker/spec.py
  lock, lock.json      held by the one program that writes; who that is

Where none was published the ranker that comes with the program serves (`rerank.ranker.shipped`), if there is one for
the index's encoder. Published rankers and those kept aside are numbered together, in the order of their training;
report.json tells them apart. Reading needs no lock: what a pointer names is whole, and stays while it is named. A
program that is killed leaves no trace of the ranker that it was adding, or a whole one; the pointer moves after that,
or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from rerank.ranker.pointer import RANKER_NAME, RankerPointer
from rerank.ranker.retention import remove, surplus, sweep
from rerank.ranker.shipped import DEFAULT_RANKER, shipped_ranker
from rerank.ranker.spec import (
    Encoding,
    RankerReport,
    RankerSpec,
    misfit,
    read_report,
    verified,
    write_ranker,
)
from retrieval.encoder_folder import whole_folder
from retrieval.errors import (
    InputError,
    RankerDamagedError,
    RankerError,
    RankerForeignError,
    RankerRefusedError,
    StoreError,
    UnknownRankerError,
)
from retrieval.manifest import sync
from retrieval.published import Store
from retrieval.store_lock import held_lock

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
    """What `publish` and `keep_aside` did."""

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
        """All rankers, oldest first, those kept aside among them."""
        names = [entry.name for entry in self.folder.iterdir()] if self.folder.is_dir() else []
        return sorted((name for name in names if RANKER_NAME.fullmatch(name)), key=_number)

    def open(self, name: str, encoding: Encoding | None = None) -> Published:
        """A ranker of this name, verified; "default" is the one that comes with the program for an index's encoding.

        Raises UnknownRankerError, which names those that there are, RankerDamagedError or RankerForeignError.
        """
        if name == DEFAULT_RANKER and (default := self._default(encoding)):
            return default
        if name not in (names := self.names()):
            there = f"it holds {', '.join(names)}" if names else "it holds none"
            raise UnknownRankerError(f"{self.folder} has no ranker {name!r}; {there}")
        return opened_ranker(self.folder / name)

    def servable(self, name: str, encoding: Encoding | None = None) -> Published:
        """A ranker of this name that may serve an index, "default" among them; raises as `rollback`, and RankerError
        while rankers are switched off."""
        if self.pointer.is_off():
            cure = "let one serve again: shelfwise models rollback"
            raise RankerError(f"rankers are switched off, {name[:100]} too; {cure}")
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
            made = self._add(build, spec, msgspec.structs.replace(report, aside=()))
            if self.pointer.is_off():
                notice = f"rankers are switched off; to let it serve: shelfwise models rollback {made.name}"
                return self._tidied(made, serves=False, notices=(notice,))
            self.pointer.write(made.name)
            return self._tidied(made, serves=True)

    def keep_aside(self, build: Build, spec: RankerSpec, report: RankerReport, reasons: Sequence[str]) -> Added:
        """Adds a ranker that does not serve, with why. Raises as `publish`, InputError without a reason."""
        if not any(reasons):
            raise InputError("a ranker is kept aside for a reason: give one, or publish it")
        with self._locked("publish", _PATIENCE_SECONDS):
            return self._tidied(
                self._add(build, spec, msgspec.structs.replace(report, aside=tuple(reasons))), serves=False
            )

    def rollback(self, name: str = "", encoding: Encoding | None = None) -> RolledBack:
        """Lets the ranker of this name serve, or the newest before the current one that can; "default" is the one that
        comes with the program.

        Raises UnknownRankerError where there is none, RankerRefusedError for one that was kept aside,
        RankerForeignError for one that does not fit the encoding, RankerDamagedError; the pointer then stays.
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
                except RankerRefusedError:
                    continue
                except RankerError as error:
                    passed_over.append(str(error))
        there = "; ".join(passed_over) or f"it holds {', '.join(self.names()) or 'none'}"
        which = f"before {before} that can serve" if before else "that can serve"
        cure = "let none serve: shelfwise models off" if before else "train one: shelfwise train ranker"
        raise UnknownRankerError(f"{self.folder} has no ranker {which}: {there}; {cure}")

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
        Store(self.store).check_ours()
        try:
            self.folder.mkdir(exist_ok=True)
            with held_lock(self.folder, purpose, patience):
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
        with whole_folder(self.folder / name) as scratch:
            build(scratch)
            spec = write_ranker(scratch, spec, report)
        sync(self.folder)
        return Published(name, self.folder / name, spec, report)

    def _find_serving(self, encoding: Encoding | None) -> Serving:
        try:
            current = self.pointer.read()
        except RankerDamagedError as error:
            return Serving(None, (f"{error}; {_MERGED}",))
        if not current:
            return self._serving_default(encoding)
        try:
            return Serving(self._fitting(current, encoding))
        except RankerError as error:
            return self._find_older(current, encoding, str(error))

    def _serving_default(self, encoding: Encoding | None) -> Serving:
        if self.pointer.is_off():
            return Serving(None)
        try:
            return Serving(self._default(encoding))
        except RankerError as error:
            return Serving(None, (f"{error}; {_MERGED}",))

    @staticmethod
    def _default(encoding: Encoding | None) -> Published | None:
        """The one that comes with the program; None where there is none for this encoding, or that is not known."""
        found = shipped_ranker(encoding) if encoding else None
        return Published(DEFAULT_RANKER, *found) if found else None

    def _find_older(self, current: str, encoding: Encoding | None, notice: str) -> Serving:
        for name in reversed(self._before(current)):
            with suppress(RankerError):
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
        if ranker.report.aside:
            raise RankerRefusedError(f"{name} was kept aside: {'; '.join(ranker.report.aside)}")
        if encoding and (why := misfit(ranker.spec, encoding)):
            raise RankerForeignError(f"{name} cannot serve: {why}")
        return ranker

    def _before(self, name: str) -> list[str]:
        """The rankers that are older than this one, oldest first; all, where there is no such."""
        return [each for each in self.names() if not name or _number(each) < _number(name)]

    def _can_serve(self, name: str) -> bool:
        with suppress(RankerError):
            return not self.open(name).report.aside
        return False


def opened_ranker(folder: Path) -> Published:
    """The ranker of a folder, by the folder's name, verified; raises RankerDamagedError or RankerForeignError."""
    return Published(folder.name, folder, verified(folder), read_report(folder))


def _number(name: str) -> int:
    return int(name.removeprefix("ranker-"))
