"""The folder of a trained user tower, and the seal that vouches for every file of it.

model.onnx              the network as it is served
weights.safetensors     the same as it was trained
products.safetensors    own vectors and biases of the products that it knows, and which the same shoppers chose
products.json           their ids
tower.json              UserTowerSpec: what running it takes besides
report.json             UserTowerReport: what it was measured by, and whether it may serve
seal.json               length and XXH3 checksum of each of them
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save_file as save_arrays

from rerank.evaluation.statistics import Difference
from rerank.model_store import remove, sweep
from rerank.sealed_folder import check_graph
from rerank.user_tower.item_neighbours import NO_NEIGHBOURS, NeighbourOptions, Neighbours, WeightedNeighbours
from retrieval.errors import (
    USER_TOWER,
    InputError,
    ModelDamagedError,
    ModelError,
    ModelMismatchError,
    ModelRefusedError,
    StoreError,
    UnknownModelError,
)
from retrieval.store.files import (
    SEAL_FILE,
    FileEntry,
    atomic_folder,
    file_stamp,
    read_json,
    read_pointer,
    seal_folder,
    sealed_problem,
    write_pointer,
)
from retrieval.store.lock import hold_lock
from retrieval.store.manifest import CURRENT
from retrieval.store.versions import Store

if TYPE_CHECKING:
    from rerank.user_tower.tower import UserTower


FORMAT = 3
"""Counts up when a tower's files change so that an older program could not use them."""
_READ = (1, 2, FORMAT)
"""Of format 1 none has neighbours, of format 2 none that speak against a product."""
MODEL_FILE, WEIGHTS_FILE = "model.onnx", "weights.safetensors"
TABLE_FILE, IDS_FILE = "products.safetensors", "products.json"
SPEC_FILE, REPORT_FILE = "tower.json", "report.json"
_NEEDED = (MODEL_FILE, WEIGHTS_FILE, TABLE_FILE, IDS_FILE, SPEC_FILE, REPORT_FILE)
_MOST_BYTES = 1 << 30
"""Of one file: own vectors of the 200,000 products that may have one are a tenth of it."""
_CURE = "train it again: shelfwise train users"

_Read = TypeVar("_Read")


class UserTowerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What tower.json holds: all that running the network takes besides its weights."""

    format: int = FORMAT
    encoder: str
    """Identity of the encoder whose vectors it was trained on."""
    dimension: int
    """Columns of product vectors."""
    width: int
    """Columns of own vectors."""
    category_bias: Mapping[str, float] = {}
    """How likely a product is that it does not know, by category (the whole path)."""
    usual_bias: float = 0.0
    """The same for a category that is not among them."""
    neighbour_weight: float = 0.0
    """What a strength of 1 between neighbours adds to a score; 0 for a tower that has none."""
    neighbour_decay: float = 1.0
    """What an older product of a history counts beside the next newer one, for its neighbours."""
    neighbour_options: NeighbourOptions | None = None
    """How they were learned; None where there are none, or they are cosines, as those of format 2."""
    trained_on: Mapping[str, str | int | float] = {}
    """Data, seed, date: for people."""


FallbackMethod = Literal["near", "in-categories"]
"""What recommends where no tower serves: what is near to the last products, or what most choose of their categories."""


class MethodResult(msgspec.Struct, frozen=True):
    """What one way of recommending reaches on the held-out acts."""

    name: str
    hit_rate: float
    """The share of shoppers whose next product was among the first ten."""
    ndcg: float
    """nDCG@10."""


class UserTowerReport(msgspec.Struct, frozen=True, kw_only=True):
    """What report.json holds: how good a tower is, by what it was not trained on."""

    created: str
    """ISO 8601, UTC."""
    shoppers: int = 0
    """Whose next act was held out."""
    against: str = ""
    """What it was judged against."""
    fallback: FallbackMethod = "near"
    """What recommends best where no tower does."""
    methods: tuple[MethodResult, ...] = ()
    """The tower, what serves now, and what else it was compared with."""
    difference: Difference | None = None
    """In nDCG@10 from what serves now, with its interval."""
    slices: Mapping[str, tuple[MethodResult, ...]] = {}
    """The same among shoppers of short and long histories, and of products that were never, seldom and often chosen."""
    curve: tuple[tuple[int, float], ...] = ()
    """Epochs with their validation."""
    rejection_reasons: tuple[str, ...] = ()
    """Why it is rejected; empty for one that was published."""


@dataclass(frozen=True, slots=True)
class StoredUserTower:
    """A tower whose files are whole."""

    name: str
    folder: Path
    spec: UserTowerSpec
    report: UserTowerReport


@dataclass(frozen=True, slots=True, eq=False)
class ProductTable:
    """What a tower knows of single products."""

    ids: tuple[str, ...]
    """(m)."""
    own: NDArray[np.float32]
    """(m, e)."""
    bias: NDArray[np.float32]
    """(m,)."""
    neighbours: WeightedNeighbours = NO_NEIGHBOURS
    """Which of them the same shoppers chose, by their places."""


def tower_misfit(spec: UserTowerSpec, encoder: str, dimension: int) -> str:
    """Why a tower cannot serve an index of this encoder, or nothing."""
    if spec.encoder != encoder:
        why = f"it was trained on the encoder {spec.encoder}, the index has {encoder}"
    elif spec.dimension != dimension:
        why = f"it reads vectors of dimension {spec.dimension}, the index has {dimension}"
    else:
        return ""
    return f"{why}; train one for this index: shelfwise train users"


def write_user_tower(folder: Path, spec: UserTowerSpec, report: UserTowerReport) -> None:
    """Completes a folder that holds a tower's model files and products: writes what it says of itself, seals and syncs
    all. Raises as `open_user_tower` where the folder is then none that it takes."""
    seal_folder(folder, {SPEC_FILE: spec, REPORT_FILE: report})
    open_user_tower(folder)


def open_user_tower(folder: Path) -> StoredUserTower:
    """The tower of a folder, every file verified; its graph holds nothing that runs code.

    Raises ModelDamagedError or ModelMismatchError, which name the file.
    """
    entries = _read(folder / SEAL_FILE, dict[str, FileEntry])
    for name in _NEEDED:
        problem = _problem(folder / name, entries.get(name))
        if problem:
            raise ModelDamagedError(f"{folder / name} {problem}; {_CURE}", USER_TOWER)
    if (made := _read(folder / SPEC_FILE, _Format).format) not in _READ:
        message = f"{folder / SPEC_FILE} is of format {made}; this program reads {', '.join(map(str, _READ))}: {_CURE}"
        raise ModelMismatchError(message, USER_TOWER)
    spec = _read(folder / SPEC_FILE, UserTowerSpec)
    try:
        check_graph(folder / MODEL_FILE, {"vectors": spec.dimension, "own": spec.width}, _CURE)
    except ModelDamagedError as error:
        raise ModelDamagedError(str(error), USER_TOWER) from error
    except ModelMismatchError as error:
        raise ModelMismatchError(str(error), USER_TOWER) from error
    return StoredUserTower(folder.name, folder, spec, _read(folder / REPORT_FILE, UserTowerReport))


def read_table(tower: StoredUserTower) -> ProductTable:
    """What it knows of products; raises ModelDamagedError."""
    path = tower.folder / TABLE_FILE
    ids = tuple(_read(tower.folder / IDS_FILE, list[str]))
    try:
        tensors = load_file(path)
        table = ProductTable(
            ids,
            tensors["own"].astype(np.float32),
            tensors["bias"].astype(np.float32),
            _beside(tensors, tower.spec),
        )
    except (OSError, SafetensorError, KeyError) as error:
        raise ModelDamagedError(f"{path} cannot be read ({error}); {_CURE}", USER_TOWER) from error
    if table.own.shape != (len(ids), tower.spec.width) or table.bias.shape != (len(ids),):
        shapes = f"{table.own.shape} and {table.bias.shape}"
        raise ModelDamagedError(f"{path} holds {shapes} for {len(ids):,} products; {_CURE}", USER_TOWER)
    if not (np.isfinite(table.own).all() and np.isfinite(table.bias).all()):
        raise ModelDamagedError(f"{path} holds values that are no numbers; {_CURE}", USER_TOWER)
    if problem := table.neighbours.neighbours.problem(len(ids)) if table.neighbours.weight else "":
        raise ModelDamagedError(f"{path} {problem}; {_CURE}", USER_TOWER)
    return table


def _beside(tensors: Mapping[str, NDArray[np.generic]], spec: UserTowerSpec) -> WeightedNeighbours:
    if not spec.neighbour_weight:
        return NO_NEIGHBOURS
    neighbours = Neighbours(
        tensors["starts"].astype(np.int64),
        tensors["others"].astype(np.int32),
        tensors["strengths"].astype(np.float32),
    )
    return WeightedNeighbours(neighbours, spec.neighbour_weight, spec.neighbour_decay, spec.neighbour_options)


class _Format(msgspec.Struct, frozen=True):
    format: int


def _problem(path: Path, entry: FileEntry | None) -> str:
    """What is wrong with a file, or nothing."""
    if entry is None:
        return "is not vouched for by the seal beside it"
    if entry.bytes > _MOST_BYTES:
        return f"has {entry.bytes:,} bytes; a tower's file has {_MOST_BYTES:,} at most"
    return sealed_problem(path, entry)


def _read(path: Path, kind: type[_Read]) -> _Read:
    try:
        return read_json(path, kind, _MOST_BYTES)
    except ValueError as error:
        raise ModelDamagedError(f"{path} {error}; {_CURE}", USER_TOWER) from error


# The user towers of an index directory: folders that never change, and a pointer to the one that serves.
#
# STORE/user-towers/
#   CURRENT              the name of the tower that serves, with a checksum
#   FALLBACK             what recommends where none does, as the training that was last has found
#   tower-0001/          one tower: rerank/user_tower/files.py
#   lock, lock.json      held by the one program that writes; who that is
#
# Towers that were published and those rejected are numbered together, in the order of their training. Reading needs
# no lock: the pointer moves when a tower is whole, and the one that it names is never removed.

USER_TOWERS_FOLDER = "user-towers"
KEEP = 5
"""How many stay, beside the one that serves."""
TOWER_NAME = re.compile(r"tower-[0-9]{4,}")
_PATIENCE_SECONDS = 60.0
_WITHOUT = "recommendations do without one"
_FALLBACK_FILE = "FALLBACK"
_WAYS = re.compile("|".join(get_args(FallbackMethod)))

Build = Callable[[Path], None]
"""Puts a tower's model files and products into an empty folder."""


@dataclass(frozen=True, slots=True)
class ServingTower:
    """The tower to serve, None where there is none that can; and what a user should know of it."""

    tower: StoredUserTower | None
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RolledBackTower:
    """What a rollback did."""

    before: str
    """The tower that the pointer named; empty where it named none."""
    tower: StoredUserTower
    """The one that serves now."""


class TowerRegistry:
    """The user towers of one index directory. Nothing is written before one is added."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self.folder = store / USER_TOWERS_FOLDER
        self._pointer = self.folder / CURRENT
        self._without = self.folder / _FALLBACK_FILE

    def names(self) -> list[str]:
        """All towers, oldest first, those rejected among them."""
        names = [entry.name for entry in self.folder.iterdir()] if self.folder.is_dir() else []
        return sorted((name for name in names if TOWER_NAME.fullmatch(name)), key=_number)

    def stamp(self) -> tuple[tuple[int, int], ...]:
        """Changes whenever another one serves, or something else where none does."""
        return file_stamp(self._pointer), file_stamp(self._without)

    def fallback(self) -> FallbackMethod:
        """What recommends where no tower serves: near products, unless the training that was last knows better; raises
        ModelDamagedError where its file does not say."""
        try:
            return cast(FallbackMethod, read_pointer(self._without, _WAYS))
        except FileNotFoundError:
            return "near"
        except (OSError, ValueError) as error:
            message = f"{self._without} cannot be read ({error}); train again: shelfwise train users"
            raise ModelDamagedError(message, USER_TOWER) from error

    def current(self) -> str:
        """The name of the tower that serves, nothing where none was published; raises ModelDamagedError for a
        pointer that names none."""
        try:
            return read_pointer(self._pointer, TOWER_NAME)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise ModelDamagedError(f"{self._pointer} cannot be read ({error.strerror})", USER_TOWER) from error
        except ValueError as error:
            message = f"{self._pointer} names no tower, {error}; train one: shelfwise train users"
            raise ModelDamagedError(message, USER_TOWER) from error

    def serving(self, encoder: str, dimension: int) -> ServingTower:
        """The tower that serves an index of this encoder, verified; where it cannot, none, with the reason."""
        try:
            name = self.current()
            if not name:
                return ServingTower(None)
            tower = open_user_tower(self.folder / name)
        except ModelError as error:
            return ServingTower(None, (f"{error}; {_WITHOUT}",))
        if why := tower_misfit(tower.spec, encoder, dimension):
            return ServingTower(None, (f"the user tower {name} cannot serve: {why}; {_WITHOUT}",))
        return ServingTower(tower)

    def open(self, name: str) -> StoredUserTower:
        """A tower of this name, verified; raises UnknownModelError, which names those that there are, and what
        `open_user_tower` does."""
        if name not in (names := self.names()):
            there = f"it holds {', '.join(names)}" if names else "it holds none"
            raise UnknownModelError(f"{self.folder} has no tower {name!r}; {there}", USER_TOWER)
        return open_user_tower(self.folder / name)

    def rollback(self, name: str, encoder: str, dimension: int) -> RolledBackTower:
        """Lets the tower of this name serve an index of this encoder.

        Raises UnknownModelError, ModelRefusedError for one that was rejected, ModelMismatchError
        for one that does not fit the index, ModelDamagedError; the pointer then stays.
        """
        with self._locked("rollback", 0.0):
            tower = self.open(name)
            if tower.report.rejection_reasons:
                raise ModelRefusedError(f"{name} was rejected: {'; '.join(tower.report.rejection_reasons)}", USER_TOWER)
            if why := tower_misfit(tower.spec, encoder, dimension):
                raise ModelMismatchError(f"{name} cannot serve: {why}", USER_TOWER)
            try:
                before = self.current()
            except ModelDamagedError:
                before = ""
            write_pointer(self._pointer, name)
        return RolledBackTower(before, tower)

    def add(self, build: Build, spec: UserTowerSpec, report: UserTowerReport) -> StoredUserTower:
        """Adds a tower, lets it serve unless its report says why it is rejected, and removes the oldest ones.

        Waits up to a minute for another program that writes. Raises StoreLockedError where that takes longer,
        StoreError where the folder cannot be written, and what `write_tower` and `build` raise: then nothing is added.
        """
        with self._locked("publish", _PATIENCE_SECONDS):
            names = self.names()
            name = f"tower-{(_number(names[-1]) if names else 0) + 1:04d}"
            with atomic_folder(self.folder / name) as scratch:
                build(scratch)
                write_user_tower(scratch, spec, report)
            write_pointer(self._without, report.fallback)
            if not report.rejection_reasons:
                write_pointer(self._pointer, name)
            self._prune(name)
        return StoredUserTower(name, self.folder / name, spec, report)

    @contextmanager
    def _locked(self, purpose: str, patience: float) -> Iterator[None]:
        Store(self._store).check_ours()
        try:
            self.folder.mkdir(exist_ok=True)
            with hold_lock(self.folder, purpose, patience):
                sweep(self.folder)
                yield
        except OSError as error:
            message = f"{self.folder} cannot be written ({error}); see to the disk and to the rights to that folder"
            raise StoreError(message) from error

    def _prune(self, newest: str) -> None:
        try:
            current = self.current()
        except ModelDamagedError:
            return
        remove(self.folder, [each for each in self.names() if each not in (current, newest)][:-KEEP])


def _number(name: str) -> int:
    return int(name.removeprefix("tower-"))


# The user towers of an index at a glance: how each was judged, which one serves, which cannot and why.


class TowerEntry(msgspec.Struct, frozen=True):
    """One tower. Of one that cannot be opened only its name is known."""

    name: str
    serves: bool
    spec: UserTowerSpec | None = None
    report: UserTowerReport | None = None
    problem: str = ""
    """Why it cannot be opened; empty for a whole one."""
    misfit: str = ""
    """Why it cannot serve the version that the index serves, which others could."""


class TowerList(msgspec.Struct, frozen=True):
    """All towers of an index, oldest first."""

    serving: str
    """Name of the one that an engine would open; empty where none serves."""
    notices: tuple[str, ...]
    towers: tuple[TowerEntry, ...]


def list_towers(registry: TowerRegistry, encoder: str, dimension: int) -> TowerList:
    """Reads every file of every tower; encoder and dimension are the index's."""
    found = registry.serving(encoder, dimension)
    serving = found.tower.name if found.tower else ""
    entries = tuple(_entry(registry, name, encoder, dimension, serves=name == serving) for name in registry.names())
    return TowerList(serving, found.notices, entries)


def _entry(registry: TowerRegistry, name: str, encoder: str, dimension: int, *, serves: bool) -> TowerEntry:
    try:
        tower = registry.open(name)
    except ModelError as error:
        return TowerEntry(name, serves, problem=str(error))
    return TowerEntry(name, serves, tower.spec, tower.report, misfit=tower_misfit(tower.spec, encoder, dimension))


# Writes a tower that was just trained: its graph, its weights, and what it knows of products.


def write_model(folder: Path, tower: UserTower, id_of: Callable[[int], str]) -> None:
    """Writes the model files and products of `rerank.user_tower.files` to a folder; `id_of` names the product of a row.

    Raises InputError for a tower that is not fresh from training, ModelError where it cannot be exported.
    """
    from safetensors.torch import save_file

    from rerank.user_tower.network import UserTowerModel, export_tower

    model = getattr(tower.encode, "__self__", None)
    if not isinstance(model, UserTowerModel):
        raise InputError("only a tower that was just trained can be written; this one was read from files")
    export_tower(model.network, folder / MODEL_FILE)
    save_file({name: value.contiguous() for name, value in model.network.state_dict().items()}, folder / WEIGHTS_FILE)
    learned = tower.learned
    arrays: dict[str, NDArray[Any]] = {"own": learned.own, "bias": learned.bias}
    if learned.neighbours.weight:
        neighbours = learned.neighbours.neighbours
        arrays |= {"starts": neighbours.starts, "others": neighbours.others, "strengths": neighbours.strengths}
    save_arrays(arrays, folder / TABLE_FILE)
    (folder / IDS_FILE).write_bytes(msgspec.json.encode([id_of(row) for row in learned.rows.tolist()]))
