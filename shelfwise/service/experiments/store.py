"""The experiments of an index directory with the salts of their random assignment: INDEX/experiments.sqlite.

The file also contains the key that signs the marks in query ids. Anyone who reads it can forge marks, so it is private.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import msgspec

from shelfwise.retrieval.errors import ExperimentError
from shelfwise.service.curation.document_store import (
    KEY_TABLE,
    DocumentCodec,
    DocumentStore,
    StoredDocuments,
    add_key,
    read_key,
    validate_author,
    wall_clock,
)
from shelfwise.service.events.hot_reload import ReloadedFile
from shelfwise.service.experiments.experiment import (
    MOST_EXPERIMENTS,
    Experiment,
    check_overlaps,
    experiment_document,
    parse_experiment,
)

_SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class StoredExperiment:
    """An experiment, its salt, and when it was added and stopped."""

    experiment: Experiment
    salt: bytes
    """Makes its random assignment independent of other experiments."""
    put: datetime
    who: str
    """Author of the experiment."""
    stopped: datetime | None = None
    stopper: str = ""

    @property
    def id(self) -> str:
        """Id of the experiment."""
        return self.experiment.id

    @property
    def begins(self) -> datetime:
        """Start time: not before it was added."""
        return max(self.put, self.experiment.starts or self.put)

    @property
    def over(self) -> datetime | None:
        """Time at which it ends or was stopped; None if unknown."""
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
class StoredExperiments(StoredDocuments[StoredExperiment]):
    """Experiments, ordered by id: all, or those running at one time."""

    key: bytes = b""
    """Signs the marks in query ids; empty if none was needed yet."""


def stored_document(stored: StoredExperiment, now: datetime) -> dict[str, object]:
    """The JSON document of an experiment with its state."""
    reported = {"begins": stored.begins, "over": stored.over, "put": stored.put, "who": stored.who}
    return {
        "experiment": experiment_document(stored.experiment),
        "state": stored.state(now),
        **msgspec.to_builtins(reported),
        "stopped_by": stored.stopper,
    }


def _document(stored: StoredExperiment) -> dict[str, object]:
    return {**msgspec.to_builtins(stored), "experiment": experiment_document(stored.experiment)}


def _parse(document: object, place: str) -> StoredExperiment:
    stored = msgspec.convert(document, StoredExperiment)
    fields = msgspec.convert(document, dict[str, object])
    return replace(stored, experiment=parse_experiment(fields["experiment"], place))


class ExperimentStore(DocumentStore[StoredExperiment]):
    """The experiments of an index directory and their changes (INDEX/experiments.sqlite); its errors are
    ExperimentError. None is deleted or rolled back, since shoppers have already seen it."""

    kind = DocumentCodec(
        one="experiment",
        many="experiments",
        entry=StoredExperiment,
        application=0x53574558,
        error=ExperimentError,
        to_plain=_document,
        from_plain=_parse,
        more_tables=KEY_TABLE,
        private=True,
    )

    def read(self) -> StoredExperiments:
        """The current experiments."""
        with self._file.reading() as cursor:
            if cursor is None:
                return StoredExperiments()
            return StoredExperiments(self._revision(cursor), self._all(cursor), key=read_key(cursor))

    def put(self, experiment: Experiment, *, who: str = "") -> bool:
        """Adds an experiment, or replaces one with the same id that has not started; returns whether anything changed.

        Raises ExperimentError for an invalid experiment, for one that would disturb another at the same time, and for
        one that has started, whose measures would be of two experiments.
        """
        validate_author(who, ExperimentError)
        new = self.kind.validate(StoredExperiment(experiment, secrets.token_bytes(_SALT_BYTES), self._clock(), who))
        with self._file.writing() as cursor:
            now, others = self._clock(), {each.id: each for each in self._all(cursor)}
            if before := others.pop(new.id, None):
                if before.experiment == new.experiment and before.stopped is None:
                    return False
                if before.stopped is not None or before.has_begun(now):
                    been = "was stopped" if before.stopped else "has started: it can be stopped, not changed"
                    message = f"experiment {new.id!r} {been}; use another id for the new one"
                    raise ExperimentError(message, field="id")
            _check_room(new.experiment, tuple(others.values()), now)
            new = replace(new, salt=before.salt if before else new.salt, put=now)
            self._write(cursor, {new.id: self._encoded(new)}, who)
            add_key(cursor)
        return True

    def stop(self, experiment_id: str, *, who: str = "") -> bool:
        """Ends an experiment permanently; returns whether it had not ended before. Its results are kept. Raises
        ExperimentError for an unknown id."""
        validate_author(who, ExperimentError)
        self.get(experiment_id)  # raises before `writing` creates a file
        with self._file.writing() as cursor:
            found, now = self._decoded(self._line(cursor, experiment_id)), self._clock()
            if found.over is not None and found.over <= now:
                return False
            self._write(cursor, {experiment_id: self._encoded(replace(found, stopped=now, stopper=who))}, who)
        return True


def _check_room(experiment: Experiment, others: Sequence[StoredExperiment], now: datetime) -> None:
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
        """Reasons why the latest experiments are not loaded."""
        return self._stored.notices

    def running(self) -> StoredExperiments:
        """The experiments in which searches take part now."""
        stored, now = self._stored.current(), self._clock()
        return replace(stored, documents=tuple(each for each in stored.documents if each.runs(now)))

    def reload_if_changed(self) -> None:
        """Loads changed experiments at once."""
        self._stored.reload_if_changed()
