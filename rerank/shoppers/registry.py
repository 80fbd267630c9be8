"""The shopper towers of an index directory: folders that never change, and a pointer to the one that serves.

STORE/shoppers/
  CURRENT              the name of the tower that serves, with a checksum
  WITHOUT              what recommends where none does, as the training that was last has found
  tower-0001/          one tower: rerank/shoppers/files.py
  lock, lock.json      held by the one program that writes; who that is

Towers that were published and those kept aside are numbered together, in the order of their training. Reading needs no
lock: the pointer moves when a tower is whole, and the one that it names is never removed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from rerank.ranker.retention import remove, sweep
from rerank.shoppers.files import (
    StoredTower,
    TowerReport,
    TowerSpec,
    Without,
    misfit,
    opened_tower,
    write_tower,
)
from retrieval.encoder_folder import whole_folder
from retrieval.errors import (
    ShopperTowerDamagedError,
    ShopperTowerError,
    ShopperTowerForeignError,
    ShopperTowerRefusedError,
    StoreError,
    UnknownShopperTowerError,
)
from retrieval.manifest import file_stamp, sync, write_durably
from retrieval.published import Store
from retrieval.store_files import CURRENT, pointer_content, read_pointer
from retrieval.store_lock import held_lock

SHOPPERS_FOLDER = "shoppers"
KEEP = 5
"""How many stay, beside the one that serves."""
TOWER_NAME = re.compile(r"tower-[0-9]{4,}")
_PATIENCE_SECONDS = 60.0
_WITHOUT = "recommendations do without one"
_WITHOUT_FILE = "WITHOUT"
_WAYS = re.compile("|".join(get_args(Without)))

Build = Callable[[Path], None]
"""Puts a tower's model files and products into an empty folder."""


@dataclass(frozen=True, slots=True)
class ServingTower:
    """The tower to serve, None where there is none that can; and what a user should know of it."""

    tower: StoredTower | None
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RolledBackTower:
    """What a rollback did."""

    before: str
    """The tower that the pointer named; empty where it named none."""
    tower: StoredTower
    """The one that serves now."""


class TowerRegistry:
    """The shopper towers of one index directory. Nothing is written before one is added."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self.folder = store / SHOPPERS_FOLDER
        self._pointer = self.folder / CURRENT
        self._without = self.folder / _WITHOUT_FILE

    def names(self) -> list[str]:
        """All towers, oldest first, those kept aside among them."""
        names = [entry.name for entry in self.folder.iterdir()] if self.folder.is_dir() else []
        return sorted((name for name in names if TOWER_NAME.fullmatch(name)), key=_number)

    def stamp(self) -> tuple[tuple[int, int], ...]:
        """Changes whenever another one serves, or something else where none does."""
        return file_stamp(self._pointer), file_stamp(self._without)

    def without(self) -> Without:
        """What recommends where no tower serves: near products, unless the training that was last knows better; raises
        ShopperTowerDamagedError where its file does not say."""
        try:
            return cast(Without, read_pointer(self._without, _WAYS))
        except FileNotFoundError:
            return "near"
        except (OSError, ValueError) as error:
            message = f"{self._without} cannot be read ({error}); train again: shelfwise train users"
            raise ShopperTowerDamagedError(message) from error

    def current(self) -> str:
        """The name of the tower that serves, nothing where none was published; raises ShopperTowerDamagedError for a
        pointer that names none."""
        try:
            return read_pointer(self._pointer, TOWER_NAME)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise ShopperTowerDamagedError(f"{self._pointer} cannot be read ({error.strerror})") from error
        except ValueError as error:
            message = f"{self._pointer} names no tower, {error}; train one: shelfwise train users"
            raise ShopperTowerDamagedError(message) from error

    def serving(self, encoder: str, dimension: int) -> ServingTower:
        """The tower that serves an index of this encoder, verified; where it cannot, none, with the reason."""
        try:
            name = self.current()
            if not name:
                return ServingTower(None)
            tower = opened_tower(self.folder / name)
        except ShopperTowerError as error:
            return ServingTower(None, (f"{error}; {_WITHOUT}",))
        if why := misfit(tower.spec, encoder, dimension):
            return ServingTower(None, (f"the shopper tower {name} cannot serve: {why}; {_WITHOUT}",))
        return ServingTower(tower)

    def open(self, name: str) -> StoredTower:
        """A tower of this name, verified; raises UnknownShopperTowerError, which names those that there are, and what
        `opened_tower` does."""
        if name not in (names := self.names()):
            there = f"it holds {', '.join(names)}" if names else "it holds none"
            raise UnknownShopperTowerError(f"{self.folder} has no tower {name!r}; {there}")
        return opened_tower(self.folder / name)

    def rollback(self, name: str, encoder: str, dimension: int) -> RolledBackTower:
        """Lets the tower of this name serve an index of this encoder.

        Raises UnknownShopperTowerError, ShopperTowerRefusedError for one that was kept aside, ShopperTowerForeignError
        for one that does not fit the index, ShopperTowerDamagedError; the pointer then stays.
        """
        with self._locked("rollback", 0.0):
            tower = self.open(name)
            if tower.report.aside:
                raise ShopperTowerRefusedError(f"{name} was kept aside: {'; '.join(tower.report.aside)}")
            if why := misfit(tower.spec, encoder, dimension):
                raise ShopperTowerForeignError(f"{name} cannot serve: {why}")
            try:
                before = self.current()
            except ShopperTowerDamagedError:
                before = ""
            write_durably(self._pointer, pointer_content(name))
        return RolledBackTower(before, tower)

    def add(self, build: Build, spec: TowerSpec, report: TowerReport) -> StoredTower:
        """Adds a tower, lets it serve unless its report says why it is kept aside, and removes the oldest ones.

        Waits up to a minute for another program that writes. Raises StoreLockedError where that takes longer,
        StoreError where the folder cannot be written, and what `write_tower` and `build` raise: then nothing is added.
        """
        with self._locked("publish", _PATIENCE_SECONDS):
            names = self.names()
            name = f"tower-{(_number(names[-1]) if names else 0) + 1:04d}"
            with whole_folder(self.folder / name) as scratch:
                build(scratch)
                write_tower(scratch, spec, report)
            sync(self.folder)
            write_durably(self._without, pointer_content(report.without))
            if not report.aside:
                write_durably(self._pointer, pointer_content(name))
            self._prune(name)
        return StoredTower(name, self.folder / name, spec, report)

    @contextmanager
    def _locked(self, purpose: str, patience: float) -> Iterator[None]:
        Store(self._store).check_ours()
        try:
            self.folder.mkdir(exist_ok=True)
            with held_lock(self.folder, purpose, patience):
                sweep(self.folder)
                yield
        except OSError as error:
            message = f"{self.folder} cannot be written ({error}); see to the disk and to the rights to that folder"
            raise StoreError(message) from error

    def _prune(self, newest: str) -> None:
        try:
            current = self.current()
        except ShopperTowerDamagedError:
            return
        remove(self.folder, [each for each in self.names() if each not in (current, newest)][:-KEEP])


def _number(name: str) -> int:
    return int(name.removeprefix("tower-"))
