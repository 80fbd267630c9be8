"""Store of trained models of one family: immutable folders, a pointer to the serving one, retention and rollback.

STORE/FAMILY/
  CURRENT              name of the serving model, or "off", with a checksum
  ranker-0001/         one model; rejected ones are numbered with the others, in the order of training
  lock, lock.json      held by the program that writes

A model's folder has its graph and weights, its spec and report as JSON, its card (card.md), and seal.json with the
length and the XXH3 checksum of each file. Reading needs no lock: a model is complete before the pointer names it, and
stays while it is named. A program that is killed while it adds a model leaves nothing of it, or all of it.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from shelfwise.rerank.graph_checks import check_graph, check_weights
from shelfwise.rerank.model_card import ModelReport, ModelUse, write_card
from shelfwise.retrieval.errors import (
    ModelDamagedError,
    ModelError,
    ModelMismatchError,
    ModelRefusedError,
    StoreError,
    UnknownModelError,
)
from shelfwise.retrieval.progress import Progress
from shelfwise.retrieval.store.files import (
    SEAL_FILE,
    FileEntry,
    Generations,
    atomic_folder,
    file_bytes,
    file_stamp,
    read_json,
    read_pointer,
    seal_folder,
    sealed_problem,
    sync,
    write_pointer,
)
from shelfwise.retrieval.store.manifest import CURRENT

FORMAT = 1
"""Increased when a model's files change in a way that older programs cannot use. The seal's format does not change."""
MODEL_FILE, WEIGHTS_FILE, REPORT_FILE = "model.onnx", "weights.safetensors", "report.json"
DEFAULT_MODEL = "default"
"""The name of the model that is part of the program, if the family has one for the index's encoder."""
OFF = "off"
"""The name, in the pointer and in searches, for no model."""
_PATIENCE_SECONDS = 60.0
"""The wait of a program that adds a model while another adds one, which takes a few seconds: training took long."""

Build = Callable[[Path], object]
"""Writes a model's weights and graph into an empty folder."""
_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class Encoding:
    """The encoder and the dimensions of an index, which a model must match."""

    encoder: str
    """Identity of the encoder."""
    vector_dimension: int
    state_dimension: int | None = None
    """Dimension of token states; None if it is not known, or there are none."""
    origin: str = ""
    """The pretrained model from which the encoder was trained: shipped models also serve its encoders."""


def find_misfit(trained_on: Encoding, index: Encoding, train: str) -> str:
    """The reason why a model of one encoding cannot serve an index of another, or ""; `train` is the training
    command."""
    if trained_on.encoder != index.encoder:
        why = f"it was trained on the encoder {trained_on.encoder}, the index has {index.encoder}"
    elif trained_on.vector_dimension != index.vector_dimension:
        why = f"it reads vectors of dimension {trained_on.vector_dimension}, the index has {index.vector_dimension}"
    elif trained_on.state_dimension and index.state_dimension not in (None, trained_on.state_dimension):
        why = f"it reads token states of dimension {trained_on.state_dimension}, the index has {index.state_dimension}"
    else:
        return ""
    return f"{why}; train one for this index: {train}"


# Of the generic dataclasses below, only those without slots can be called by their aliases, such as StoredRanker.
Spec = TypeVar("Spec", bound=msgspec.Struct)


@dataclass(frozen=True)
class StoredModel(Generic[Spec]):
    """A model whose files are verified."""

    name: str
    folder: Path
    spec: Spec
    report: ModelReport


class _Format(msgspec.Struct, frozen=True):
    format: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFamily(Generic[Spec]):
    """The layout and the rules of one family of models."""

    name: str
    """The family's name, as in `ModelError.family`."""
    noun: str
    """The word for a model in messages, and the prefix of the names of models."""
    folder: str
    """The folder in the index directory."""
    spec_type: type[Spec]
    spec_file: str
    network_files: tuple[str, ...] = (MODEL_FILE, WEIGHTS_FILE)
    """The graph and the weights; none for a family without a network."""
    extra_files: tuple[str, ...] = ()
    """Files that every model has in addition to those, spec and report."""
    use: ModelUse
    """The use of its models, for their cards."""
    max_file_bytes: int
    max_json_bytes: int
    train: str
    """The command that trains a model."""
    fallback: str
    """Effect on searches if no model serves, for notices."""
    keep: int
    """The number of models to keep of those that may serve, and of those that may not."""
    misfit: Callable[[Spec, Encoding], str]
    """The reason why a model cannot serve an index, or ""."""
    columns: Callable[[Spec], Mapping[str, int]]
    """The last axes of the graph's inputs, by name."""
    prepare: Callable[[Path, Spec, ModelReport], Spec] = lambda _folder, spec, _report: spec
    """Completes the spec of a folder before it is sealed; raises InputError."""
    check: Callable[[Path, Spec], None] = lambda _path, _spec: None
    """Raises ModelMismatchError or ModelDamagedError for the spec of a file that this program cannot run."""
    shipped: Callable[[Encoding], StoredModel[Spec] | None] = lambda _encoding: None
    serves_older: bool = False
    """Whether an older model, or the shipped one, serves where the current one cannot."""

    def generations(self, folder: Path) -> Generations:
        """The stored models in a folder."""
        return Generations(folder, f"{self.noun}-", 4)

    def is_name(self, name: str) -> bool:
        return self.generations(Path()).pattern.fullmatch(name) is not None

    @property
    def _cure(self) -> str:
        return f"roll back to another one (shelfwise models rollback) or train it again: {self.train}"

    def write(self, folder: Path, spec: Spec, report: ModelReport, name: str = "") -> Spec:
        """Completes a folder that has a model's other files: writes spec, report and card, seals and syncs all files;
        `name` is the model's, by default the folder's.

        Raises ModelDamagedError or ModelMismatchError if `verify` then refuses the folder.
        """
        spec = self.prepare(folder, spec, report)
        known = {field: value for field in ("identity", "encoder", "parent") if (value := getattr(spec, field, ""))}
        write_card(folder, name or folder.name, self.use, report, known, getattr(spec, "trained_on", {}))
        seal_folder(folder, {self.spec_file: spec, REPORT_FILE: report})
        self.read_report(folder)
        return self.verify(folder)

    def open(self, folder: Path) -> StoredModel[Spec]:
        """The verified model of a folder, by the folder's name; raises like `verify`."""
        return StoredModel(folder.name, folder, self.verify(folder), self.read_report(folder))

    def read_spec(self, folder: Path) -> Spec:
        """Only the spec: the model files are not read.

        Raises ModelDamagedError if the file or the seal cannot be read or they do not match, ModelMismatchError for
        another format.
        """
        path = folder / self.spec_file
        self._check_sealed(path, self._entries(folder))
        found = self.read_json(path, _Format).format
        if found != FORMAT:
            age = "a newer" if found > FORMAT else "an older"
            message = f"{path} has format {found}, made by {age} program; this one reads {FORMAT}: {self._cure}"
            raise ModelMismatchError(message, self.name)
        spec = self.read_json(path, self.spec_type)
        self.check(path, spec)
        return spec

    def read_report(self, folder: Path) -> ModelReport:
        """Only the report; raises ModelDamagedError."""
        self._check_sealed(folder / REPORT_FILE, self._entries(folder))
        return self.read_json(folder / REPORT_FILE, ModelReport)

    def verify(self, folder: Path) -> Spec:
        """The spec of a model whose files all have their checksums, and whose model files cannot run code.

        Files beyond those of the layout are checked by their extension. Raises ModelDamagedError or ModelMismatchError
        with the name of the file.
        """
        spec, entries = self.read_spec(folder), self._entries(folder)
        for name in entries:
            self._check_sealed(folder / name, entries)
        try:
            for name in entries:
                if name.endswith(".safetensors"):
                    check_weights(folder / name, self._cure)
                elif name.endswith(".onnx"):
                    check_graph(folder / name, self.columns(spec) if name == MODEL_FILE else None, self._cure)
        except ModelError as error:
            error.family = self.name
            raise
        return spec

    def damaged(self, path: Path, problem: str) -> ModelDamagedError:
        """The error for a file of a model."""
        return ModelDamagedError(f"{path} {problem}; {self._cure}", self.name)

    def _entries(self, folder: Path) -> dict[str, FileEntry]:
        path, needed = (folder / SEAL_FILE, (*self.network_files, self.spec_file, REPORT_FILE, *self.extra_files))
        entries = self.read_json(path, dict[str, FileEntry])
        for name in (*needed, *entries):
            if name not in entries or name != Path(name).name or name == "..":
                sealed = ", ".join(entries) or "nothing"
                raise self.damaged(path, f"seals {sealed}, but must seal {', '.join(needed)}")
            limit = self.max_json_bytes if name.endswith(".json") else self.max_file_bytes
            if (size := entries[name].bytes) > limit:
                message = (
                    f"{folder / name} has {size:,} bytes; a {self.noun}'s file may have at most {limit:,}: {self._cure}"
                )
                raise ModelMismatchError(message, self.name)
        return entries

    def _check_sealed(self, path: Path, entries: Mapping[str, FileEntry]) -> None:
        if problem := sealed_problem(path, entries[path.name]):
            raise self.damaged(path, f"{problem}, by {SEAL_FILE}")

    def read_json(self, path: Path, kind: type[_Read]) -> _Read:
        """The content of a JSON file of a model; raises ModelDamagedError."""
        try:
            return read_json(path, kind, self.max_json_bytes)
        except ValueError as error:
            raise self.damaged(path, str(error)) from error


@dataclass(frozen=True)
class ServingModel(Generic[Spec]):
    """The model to serve, None if there is none, and notices for the user."""

    model: StoredModel[Spec] | None
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class AddResult(Generic[Spec]):
    """The model that was added."""

    model: StoredModel[Spec]
    serves: bool
    removed: tuple[str, ...] = ()
    """Names of older models that retention removed, oldest first."""
    notices: tuple[str, ...] = ()
    """The reason why it does not serve although it was published, or why older ones were not removed."""


@dataclass(frozen=True)
class RollbackResult(Generic[Spec]):
    """The serving model after a rollback."""

    previous: str
    """The name of the previously serving one; empty if there was none."""
    model: StoredModel[Spec]
    passed_over: tuple[str, ...] = ()
    """The models in between that cannot serve, with the reasons."""


Judge = Callable[[StoredModel[Spec]], StoredModel[Spec]]
"""Judges a model, and returns it with its report."""


class ModelStore(Generic[Spec]):
    """The models of one family in one index directory. Nothing is written before a model is added."""

    def __init__(self, root: Path, family: ModelFamily[Spec]) -> None:
        self.root = root
        self.family = family
        self.folder = root / family.folder
        self._generations = family.generations(self.folder)
        self._pointer = self.folder / CURRENT

    def names(self) -> list[str]:
        """All models, oldest first, including rejected ones."""
        return self._generations.names()

    def stamp(self) -> tuple[int, int, int]:
        """A value that changes whenever the pointer is written."""
        return file_stamp(self._pointer)

    def current(self) -> str:
        """The name in the pointer, empty if there is none; raises ModelDamagedError for any other content."""
        name = self._read_pointer()
        return "" if name == OFF else name

    def is_off(self) -> bool:
        """Whether the family was switched off; False if the pointer cannot be read."""
        with suppress(ModelDamagedError):
            return self._read_pointer() == OFF
        return False

    def open(self, name: str, encoding: Encoding | None = None) -> StoredModel[Spec]:
        """The verified model of this name; "default" is the shipped one for the encoding.

        Raises UnknownModelError with the existing names, ModelDamagedError or ModelMismatchError.
        """
        if name == DEFAULT_MODEL and encoding and (shipped := self.family.shipped(encoding)):
            return shipped
        if name not in (names := self.names()):
            there = f"it holds {', '.join(names)}" if names else "it holds none"
            raise UnknownModelError(f"{self.folder} has no {self.family.noun} {name!r}; {there}", self.family.name)
        return self.family.open(self.folder / name)

    def servable(self, name: str, encoding: Encoding | None = None) -> StoredModel[Spec]:
        """The model of this name, or "default", if it may serve an index; raises like `rollback`, and ModelError while
        the family is switched off."""
        if self.is_off():
            cure = "to serve one again: shelfwise models rollback"
            message = f"{self.family.noun}s are switched off, {name[:100]} too; {cure}"
            raise ModelError(message, self.family.name)
        return self.open(name, encoding) if name == DEFAULT_MODEL else self._fitting(name, encoding)

    def serving(self, encoding: Encoding | None = None) -> ServingModel[Spec]:
        """The verified model that serves an index: the one in the pointer, else the shipped one.

        If the pointer's model is damaged or does not match the encoding, then, depending on the family, none serves, or
        the newest older one that can, or else the shipped one. Without `encoding`, every model matches.
        """
        while True:
            stamp = self.stamp()
            found = self._find_serving(encoding)
            # A model that was removed while it was read is not damaged: the pointer has changed.
            if not found.notices or stamp == self.stamp():
                return found

    def add(self, build: Build, spec: Spec, report: ModelReport) -> AddResult[Spec]:
        """Adds a model, then removes surplus models. It serves unless its report has rejection reasons or the family is
        switched off.

        Waits up to a minute for another program that writes. Raises StoreLockedError if that takes longer, StoreError
        if the folder cannot be written, and the errors of `ModelFamily.write` and `build`; then nothing is added.
        """
        with self._locked("publish", _PATIENCE_SECONDS):
            name = self._generations.next_name()
            if not report.created:
                report = msgspec.structs.replace(report, created=datetime.now(UTC).isoformat(timespec="seconds"))
            with atomic_folder(self.folder / name) as scratch:
                build(scratch)
                spec = self.family.write(scratch, spec, report, name)
            serves, notices = not report.rejection_reasons, list[str]()
            if serves and self.is_off():
                serves = False
                cure = f"to serve it: shelfwise models rollback {name}"
                notices.append(f"{self.family.noun}s are switched off; {cure}")
            if serves:
                write_pointer(self._pointer, name)
            removed: tuple[str, ...] = ()
            try:
                removed = self._prune()
            except OSError as error:
                notices.append(f"older {self.family.noun}s could not be removed ({error})")
            return AddResult(StoredModel(name, self.folder / name, spec, report), serves, removed, tuple(notices))

    def add_judged(self, build: Build, spec: Spec, judge: Judge[Spec], progress: Progress) -> AddResult[Spec]:
        """Builds a model, judges its files as they will serve, and adds it as `judge` returns it: with its
        report. Raises like `add`."""
        noun = self.family.noun
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            progress.begin("export", None, "")
            build(folder)
            progress.end(f"{file_bytes(folder.iterdir()) / 1e6:,.1f} MB, as it will serve")
            judged = judge(StoredModel(f"the new {noun}", folder, spec, ModelReport()))
            progress.begin("publish", None, "")
            added = self.add(copy_of(folder), judged.spec, judged.report)
            progress.end(f"{added.model.name} {'serves' if added.serves else 'is kept and does not serve'}")
            return added

    def rollback(self, name: str = "", encoding: Encoding | None = None) -> RollbackResult[Spec]:
        """Makes the model of this name serve, or the newest before the current one that can; "default" is the shipped
        one.

        Raises UnknownModelError if there is none, ModelRefusedError for a rejected one, ModelMismatchError for one that
        does not match the encoding, ModelDamagedError; the pointer then stays.
        """
        with self._locked("rollback"):
            previous = self._readable()
            if name == DEFAULT_MODEL:
                shipped = self.open(name, encoding)
                self._pointer.unlink(missing_ok=True)
                sync(self.folder)
                return RollbackResult(previous, shipped)
            if name:
                return RollbackResult(previous, self._serve(name, encoding))
            passed_over: list[str] = []
            for older in reversed(self._older(previous)):
                try:
                    return RollbackResult(previous, self._serve(older, encoding), tuple(passed_over))
                except ModelRefusedError:
                    continue
                except ModelError as error:
                    passed_over.append(str(error))
        there = "; ".join(passed_over) or f"it holds {', '.join(self.names()) or 'none'}"
        which = f"before {previous} that can serve" if previous else "that can serve"
        cure = "to serve none: shelfwise models off" if previous else f"train one: {self.family.train}"
        message = f"{self.folder} has no {self.family.noun} {which}: {there}; {cure}"
        raise UnknownModelError(message, self.family.name)

    def off(self) -> str:
        """Switches the family off; returns the name of the previously serving model, or ""."""
        with self._locked("switch-off"):
            previous = self._readable()
            write_pointer(self._pointer, OFF)
        return previous

    @contextmanager
    def _locked(self, purpose: str, patience: float = 0.0) -> Iterator[None]:
        from shelfwise.retrieval.store.lock import hold_lock
        from shelfwise.retrieval.store.versions import Store

        Store(self.root).check_ours()
        try:
            self.folder.mkdir(exist_ok=True)
            with hold_lock(self.folder, purpose, patience):
                self._generations.sweep()
                yield
        except OSError as error:
            message = f"{self.folder} cannot be written ({error}); check the disk and the permissions of that folder"
            raise StoreError(message) from error

    def _prune(self) -> tuple[str, ...]:
        """Removes all models except the serving one, the newest `ModelFamily.keep` that can serve, and as many that
        cannot. Returns the removed names, oldest first."""
        names, keep = self.names(), self.family.keep
        able = [name for name in names if self._can_serve(name)]
        others = [name for name in names if name not in able]
        # One of the able ones may have to replace the serving one; the others are for inspection.
        stay = {self._readable(), *able[-keep:], *others[-keep:]}
        removed = tuple(name for name in names if name not in stay)
        self._generations.remove(removed)
        return removed

    def _find_serving(self, encoding: Encoding | None) -> ServingModel[Spec]:
        name = ""
        try:
            name = self.current()
            if name:
                return ServingModel(self._fitting(name, encoding))
            return ServingModel(None if self.is_off() or encoding is None else self.family.shipped(encoding))
        except ModelError as error:
            others = (*reversed(self._older(name)), DEFAULT_MODEL) if name and self.family.serves_older else ()
            for other in others:
                with suppress(ModelError):
                    return ServingModel(self.servable(other, encoding), (f"{error}; {other} serves in its place",))
            return ServingModel(None, (f"{error}; {self.family.fallback}",))

    def _serve(self, name: str, encoding: Encoding | None) -> StoredModel[Spec]:
        model = self._fitting(name, encoding)
        write_pointer(self._pointer, name)
        return model

    def _fitting(self, name: str, encoding: Encoding | None) -> StoredModel[Spec]:
        """A model that may serve; raises like `rollback`."""
        model = self.open(name)
        if reasons := model.report.rejection_reasons:
            raise ModelRefusedError(f"{name} was rejected: {'; '.join(reasons)}", self.family.name)
        if encoding and (why := self.family.misfit(model.spec, encoding)):
            raise ModelMismatchError(f"{name} cannot serve: {why}", self.family.name)
        return model

    def _older(self, name: str) -> list[str]:
        """The models that are older than this one, oldest first; without a name, all models."""
        number = self._generations.number
        return [each for each in self.names() if not name or number(each) < number(name)]

    def _can_serve(self, name: str) -> bool:
        with suppress(ModelError):
            return not self.open(name).report.rejection_reasons
        return False

    def _readable(self) -> str:
        """Like `current`, but empty if the pointer cannot be read."""
        with suppress(ModelDamagedError):
            return self.current()
        return ""

    def _read_pointer(self) -> str:
        cure = f"to serve a {self.family.noun} again: shelfwise models rollback"
        try:
            return read_pointer(self._pointer, re.compile(f"{self._generations.pattern.pattern}|{OFF}"))
        except FileNotFoundError:
            return ""
        except OSError as error:
            message = f"{self._pointer} cannot be read ({error.strerror}); {cure}"
            raise ModelDamagedError(message, self.family.name) from error
        except ValueError as error:
            message = f"{self._pointer} names no {self.family.noun}, {error}; {cure}"
            raise ModelDamagedError(message, self.family.name) from error


def copy_of(files: Path) -> Build:
    """Copies the files of a folder."""
    return partial(shutil.copytree, files, dirs_exist_ok=True)


class ModelEntry(msgspec.Struct, Generic[Spec], frozen=True):
    """One model in a list. If it cannot be opened, only its name and size are known."""

    name: str
    serves: bool
    bytes: int
    spec: Spec | None = None
    report: ModelReport | None = None
    problem: str = ""
    """The reason why it cannot be opened; empty for an intact one."""
    misfit: str = ""
    """The reason why it cannot serve the index's serving version, if others could."""

    @property
    def is_rejected(self) -> bool:
        return self.report is not None and bool(self.report.rejection_reasons)


class ModelList(msgspec.Struct, Generic[Spec], frozen=True):
    """All models of a family in an index, oldest first."""

    serving: str
    """Name of the model that an engine would open; empty if none serves."""
    is_off: bool
    """Whether the family was switched off."""
    notices: tuple[str, ...]
    """The reasons why another one serves than the last published one, if so."""
    models: tuple[ModelEntry[Spec], ...]

    def to_document(self, key: str) -> dict[str, Any]:
        """The list as JSON values, with the models under the family's `key`."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        return document | {key: document.pop("models")}


def list_models(store: ModelStore[Spec], encoding: Encoding | None = None) -> ModelList[Spec]:
    """Reads every file of every model; `encoding` is the index's, if it is known."""
    found = store.serving(encoding)
    serving = found.model.name if found.model else ""
    entries = tuple(_entry(store, name, encoding, serves=name == serving) for name in store.names())
    return ModelList(serving, store.is_off(), found.notices, entries)


def _entry(store: ModelStore[Spec], name: str, encoding: Encoding | None, *, serves: bool) -> ModelEntry[Spec]:
    size = 0
    with suppress(OSError):
        size = file_bytes((store.folder / name).iterdir())
    try:
        model = store.open(name)
    except ModelError as error:
        return ModelEntry(name, serves, size, problem=str(error))
    why = store.family.misfit(model.spec, encoding) if encoding else ""
    return ModelEntry(name, serves, size, model.spec, model.report, misfit=why)
