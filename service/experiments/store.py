"""The experiments of an index directory with the salts of their random assignment: STORE/experiments.sqlite.

The file also holds the key that signs the marks in query ids. Whoever reads it can forge marks, so the file is private.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import msgspec

from retrieval.errors import ExperimentError, StoreDamagedError, suggest_names
from service.curation.document_store import (
    MILLISECOND,
    Layout,
    SqliteFile,
    from_units,
    to_units,
    validate_author,
    wall_clock,
)
from service.engine.hot_reload import ReloadedFile
from service.experiments.experiment import (
    LONGEST_ID,
    MOST_EXPERIMENTS,
    Experiment,
    check_overlaps,
    decode_experiment,
    encode_experiment,
    experiment_document,
    parse_experiment,
)

EXPERIMENTS_FILE = "experiments.sqlite"
_KEY_BYTES = 32
_SALT_BYTES = 16
_LAYOUT = Layout(
    "experiments",
    0x53574558,
    1,
    """
CREATE TABLE experiments (
    id TEXT PRIMARY KEY, experiment TEXT NOT NULL, salt BLOB NOT NULL, put INTEGER NOT NULL, who TEXT NOT NULL,
    stopped INTEGER, stopper TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE secret (key BLOB NOT NULL);
""",
)
_ALL = "SELECT experiment, salt, put, who, stopped, stopper FROM experiments"
_PUT = """
INSERT INTO experiments VALUES (?, ?, ?, ?, ?, NULL, '')
ON CONFLICT (id) DO UPDATE SET experiment = excluded.experiment, put = excluded.put, who = excluded.who
"""
_STOP = "UPDATE experiments SET stopped = ?, stopper = ? WHERE id = ?"


class ExperimentStore:
    """The experiments of an index directory. Any number of threads and processes may use it at once; nothing is created
    until one is put. What a method changes is durable when it returns.

    All methods raise StoreError, of which StoreDamagedError and StoreForeignError are kinds, where the file cannot be
    used.
    """

    def __init__(
        self,
        root: Path,
        *,
        clock: Callable[[], datetime] = wall_clock,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.path = root / EXPERIMENTS_FILE
        self._file = SqliteFile(self.path, _LAYOUT, private=True)
        self._clock = clock
        self._random = random

    def read(self) -> StoredExperiments:
        """The experiments as they are."""
        with self._file.reading() as cursor:
            if cursor is None:
                return StoredExperiments()
            (key,) = cursor.execute("SELECT key FROM secret").fetchone() or (b"",)
            rows = cursor.execute(f"{_ALL} ORDER BY id").fetchall()
        return StoredExperiments(tuple(self._to_stored(*row) for row in rows), key)

    def get(self, experiment_id: str) -> StoredExperiment:
        """One experiment; raises ExperimentError where there is none of this id."""
        with self._file.reading() as cursor:
            found = self._found(cursor, experiment_id) if cursor else None
            if found is None:
                raise _unknown(experiment_id, cursor)
            return found

    def put(self, experiment: Experiment, *, who: str = "") -> bool:
        """Adds an experiment, or replaces one of the same id that has not begun; returns whether anything changed.

        Raises ExperimentError for an invalid one, one that would disturb another at the same time, and one that has
        begun: its figures would be of two experiments.
        """
        validate_author(who, ExperimentError)
        checked = _validate(experiment)
        with self._file.writing() as cursor:
            now, before = self._clock(), self._found(cursor, checked.id)
            if before is not None and before.experiment == checked and before.stopped is None:
                return False
            if before is not None and (before.stopped is not None or before.has_begun(now)):
                been = "was stopped" if before.stopped else "has begun: it can be stopped, not changed"
                message = f"experiment {checked.id!r} {been}; put the new one under another id"
                raise ExperimentError(message, field="id")
            self._check_room(cursor, checked, now)
            salt = before.salt if before else self._random(_SALT_BYTES)
            cursor.execute(_PUT, (checked.id, encode_experiment(checked), salt, to_units(now, MILLISECOND), who))
            if cursor.execute("SELECT count(*) FROM secret").fetchone() == (0,):
                cursor.execute("INSERT INTO secret VALUES (?)", (self._random(_KEY_BYTES),))
        return True

    def stop(self, experiment_id: str, *, who: str = "") -> bool:
        """Ends an experiment for good; returns whether it was not over before. What was found stays. Raises
        ExperimentError where there is none of this id."""
        validate_author(who, ExperimentError)
        if not self.path.exists():
            raise _unknown(experiment_id, None)
        with self._file.writing() as cursor:
            found, now = self._found(cursor, experiment_id), self._clock()
            if found is None:
                raise _unknown(experiment_id, cursor)
            if found.over is not None and found.over <= now:
                return False
            cursor.execute(_STOP, (to_units(now, MILLISECOND), who, experiment_id))
        return True

    def _check_room(self, cursor: sqlite3.Cursor, experiment: Experiment, now: datetime) -> None:
        stored = [self._to_stored(*row) for row in cursor.execute(_ALL).fetchall()]
        others = [each for each in stored if each.experiment.id != experiment.id]
        if len(others) >= MOST_EXPERIMENTS:
            raise ExperimentError(f"there are {len(others):,} experiments, at most {MOST_EXPERIMENTS:,} are allowed")
        if experiment.ends is not None and experiment.ends <= now:
            raise ExperimentError(f"experiment {experiment.id!r}: ends: is over already", field="ends")
        if experiment.enabled:
            starts = max(now, experiment.starts or now)
            concurrent = [
                replace(each.experiment, starts=each.begins, ends=each.over)
                for each in others
                if each.experiment.enabled and (each.over is None or each.begins < each.over)
            ]
            check_overlaps(replace(experiment, starts=starts), concurrent)

    def _found(self, cursor: sqlite3.Cursor, experiment_id: str) -> StoredExperiment | None:
        row = cursor.execute(f"{_ALL} WHERE id = ?", (experiment_id,)).fetchone()
        return None if row is None else self._to_stored(*row)

    def _to_stored(
        self, line: str, salt: bytes, put: int, who: str, stopped: int | None, stopper: str
    ) -> StoredExperiment:
        try:
            experiment = decode_experiment(line)
        except (ExperimentError, msgspec.MsgspecError) as error:
            raise StoreDamagedError(f"{self.path} holds an experiment that cannot be read: {error}") from error
        over = None if stopped is None else from_units(stopped, MILLISECOND)
        return StoredExperiment(experiment, salt, from_units(put, MILLISECOND), who, over, stopper)


def _validate(experiment: Experiment) -> Experiment:
    if not isinstance(experiment, Experiment):
        raise ExperimentError(f"an experiment must be an Experiment, not {type(experiment).__name__}")
    try:
        return parse_experiment(experiment_document(experiment))
    except (TypeError, AttributeError) as error:
        raise ExperimentError(f"the experiment holds what none may hold ({error})") from error


def _unknown(experiment_id: str, cursor: sqlite3.Cursor | None) -> ExperimentError:
    known = [each for (each,) in cursor.execute("SELECT id FROM experiments")] if cursor else []
    named = experiment_id[: LONGEST_ID + 1]
    advice = suggest_names(named, known, "shelfwise experiments list shows those that are")
    return ExperimentError(f"there is no experiment {named!r}; {advice}", field="id")


@dataclass(frozen=True, slots=True)
class StoredExperiment:
    """An experiment with its history."""

    experiment: Experiment
    salt: bytes
    """Makes its random assignment independent of other experiments'."""
    put: datetime
    who: str
    """Who put it."""
    stopped: datetime | None = None
    stopper: str = ""

    @property
    def begins(self) -> datetime:
        """When it begins: not before it was put."""
        return max(self.put, self.experiment.starts or self.put)

    @property
    def over(self) -> datetime | None:
        """When it ends or was stopped; None where that is not known."""
        ends = [each for each in (self.experiment.ends, self.stopped) if each is not None]
        return min(ends, default=None)

    def has_begun(self, now: datetime) -> bool:
        """Whether shoppers may have taken part."""
        return self.experiment.enabled and self.begins <= now and (self.over is None or self.begins < self.over)

    def runs(self, now: datetime) -> bool:
        """Whether searches take part now."""
        return self.has_begun(now) and (self.over is None or now < self.over)

    def state(self, now: datetime) -> str:
        """One of draft, waiting, running, stopped and ended."""
        if self.stopped is not None:
            return "stopped"
        if not self.experiment.enabled:
            return "draft"
        if now < self.begins:
            return "waiting"
        return "running" if self.runs(now) else "ended"


@dataclass(frozen=True, slots=True)
class StoredExperiments:
    """Experiments in the order of their ids: all, or those that run at one moment."""

    experiments: tuple[StoredExperiment, ...] = ()
    key: bytes = b""
    """Signs the marks in query ids; empty where there is no experiment yet."""


_RELOAD_SECONDS = 0.25


class ServedExperiments:
    """The experiments of an index directory, reloaded when they change. Thread-safe."""

    def __init__(self, root: Path, *, clock: Callable[[], datetime] = wall_clock) -> None:
        self.store = ExperimentStore(root, clock=clock)
        self._clock = clock
        self._stored: ReloadedFile[StoredExperiments] = ReloadedFile(
            self.store.path,
            lambda _: self.store.read(),
            StoredExperiments(),
            "changes of the experiments are not loaded",
            keeps_value=True,
            interval=_RELOAD_SECONDS,
        )

    @property
    def notices(self) -> tuple[str, ...]:
        """Reasons why the experiments are not the newest."""
        return self._stored.notices

    def running(self) -> StoredExperiments:
        """The experiments that searches take part in now."""
        stored, now = self._stored.current(), self._clock()
        return replace(stored, experiments=tuple(each for each in stored.experiments if each.runs(now)))

    def reload_if_changed(self) -> None:
        """Loads changed experiments at once."""
        self._stored.reload_if_changed()
