"""Which folders trainings of the text towers write, and whose those are that lie there.

STORE/training/towers/towers-0001/    trained towers; the number counts up
STORE/training/towers/towers-0001-whole/  the same with all layers, where that keeps some of them
STORE/training/towers-0123456789abcdef/   a training that was interrupted; what it wrote, if it did, is named in it
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Collection
from pathlib import Path

import msgspec

from retrieval.errors import SettingError
from retrieval.manifest import write_durably

TOWERS_FOLDER = "towers"
_NAME = "towers-"
"""Begins the names of both: of towers, and of runs."""
_WHOLE = "-whole"
"""Ends the name of the folder with all layers, beside that with some."""
_RUN = re.compile(rf"{_NAME}[0-9a-f]{{16}}")
"""Only what is named so is a run, and may be removed."""
_TAKEN = "folder.json"
_FORGOTTEN = 14 * 24 * 3_600.0
"""Seconds after which a run that nobody went on with is removed."""


def run_folder(work: Path, digest: str) -> Path:
    """Where a run keeps its state, among what an index's trainings keep."""
    return work / f"{_NAME}{digest}"


def new_folder(work: Path) -> Path:
    """The first number behind all that are there."""
    towers = work / TOWERS_FOLDER
    taken = [int(path.name.removeprefix(_NAME)[:4]) for path in towers.glob(f"{_NAME}[0-9][0-9][0-9][0-9]*")]
    return towers / f"{_NAME}{max(taken, default=0) + 1:04}"


def whole(folder: Path) -> Path:
    """The folder of the same towers with all layers."""
    return folder.with_name(f"{folder.name}{_WHOLE}")


def refuse_old(named: Path | None, layers: int | None, unfinished: Collection[Path]) -> None:
    """Raises SettingError where the folder that is named is there, or where `layers` are to be kept that with all of
    them, and it is none of those that a run is to go on with."""
    for folder in () if named is None else (named,) if layers is None else (named, whole(named)):
        if folder.exists() and folder.absolute() not in unfinished:
            raise SettingError(f"{folder} exists; name a new folder for the towers, or remove it")


def take(folder: Path, run: Path) -> None:
    """Notes which folder a run writes. One that was to write there, and was ended before it did, takes another when it
    goes on: or it would take these towers for its own."""
    for other in _runs(run.parent):
        before = _taken_by(other)
        if other != run and before and not {before, whole(before)}.isdisjoint((folder, whole(folder))):
            (other / _TAKEN).unlink()
    write_durably(run / _TAKEN, msgspec.json.encode(str(folder)))


def written_by(run: Path) -> Path | None:
    """The folder of the towers that a run has written, or has begun to."""
    folder = _taken_by(run)
    return folder if folder and (folder.exists() or whole(folder).exists()) else None


def unfinished(work: Path) -> set[Path]:
    """The folders of towers that are written, and whose run is not over: they are still to be published."""
    written = [folder for run in _runs(work) if (folder := written_by(run))]
    return {*written, *map(whole, written)}


def remove_forgotten(work: Path, run: Path) -> None:
    """All runs but this one that nobody went on with for long."""
    for other in _runs(work):
        if other != run and time.time() - other.stat().st_mtime > _FORGOTTEN:
            shutil.rmtree(other)


def _runs(work: Path) -> list[Path]:
    return [path for path in work.glob(f"{_NAME}*") if _RUN.fullmatch(path.name)]


def _taken_by(run: Path) -> Path | None:
    """The folder that a run is to write its towers to, where it came so far."""
    try:
        return Path(msgspec.json.decode((run / _TAKEN).read_bytes(), type=str))
    except (OSError, msgspec.MsgspecError):
        return None
