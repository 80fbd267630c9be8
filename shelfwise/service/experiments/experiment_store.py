"""The experiments of an index directory, and those of an engine, which searches follow.

INDEX/experiments.sqlite also contains the key that signs the marks in query ids. Anyone who reads it can forge marks,
so it is private.
"""

from __future__ import annotations

import hmac
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from shelfwise.rerank.model_store import OFF
from shelfwise.rerank.ranker.spec import ranker_store
from shelfwise.retrieval.errors import ExperimentError, ModelError
from shelfwise.service.curation.document_store import (
    KEY_TABLE,
    DocumentCodec,
    DocumentStore,
    StoredDocuments,
    add_key,
    read_key,
    wall_clock,
)
from shelfwise.service.engine.editors import DocumentEditor
from shelfwise.service.engine.snapshot import Snapshot
from shelfwise.service.engine.versions import stored_encoding
from shelfwise.service.events.hot_reload import ReloadedFile
from shelfwise.service.experiments.experiment import Experiment, check_experiment, check_overlaps, experiment_document

_SALT_BYTES = 16
_RELOAD_SECONDS = 0.25


# While one of an experiment's rankers cannot serve, no one takes part in any of its variants: shoppers who do not get
# the answers of their variant would make the variants look alike.

Problem = Callable[[str], str]
"""The reason why the ranker of a name (empty for the serving one) cannot serve; empty if it can. An engine's is
`SearchEngine.ranker_problem`."""


def unserved_reason(experiment: Experiment, problem: Problem) -> str:
    """The reason why an experiment cannot be answered now; empty if it can, as always without rankers."""
    if "ranker" not in experiment.touches:
        return ""
    options = [variant.options for variant in experiment.variants]
    # A variant without a ranker uses the serving one; without that, it would equal a variant with "off".
    names = dict.fromkeys(each.ranker or "" for each in options if each.stage != "merged")
    return next(filter(None, map(problem, names)), "")


def check_rankers(experiment: Experiment, problem: Problem) -> None:
    """Raises ExperimentError if one of the rankers cannot serve."""
    if why := unserved_reason(experiment, problem):
        raise ExperimentError(f"experiment {experiment.id!r}: ranker: {why}", experiment.id, "ranker")


def stored_problem(index: Path) -> Problem:
    """`Problem` for an index directory that is not opened, or whose engine has no models."""

    def problem(name: str) -> str:
        registry, encoding = ranker_store(index), stored_encoding(index)
        try:
            if name and name != OFF:
                registry.servable(name, encoding)
        except ModelError as error:
            return str(error)
        return "" if name or registry.serving(encoding).model else "no ranker serves"

    return problem


@dataclass(frozen=True, slots=True)
class StoredExperiments(StoredDocuments[Experiment]):
    """Experiments, ordered by id: all, or those running at one time."""

    key: bytes = b""
    """Signs the marks in query ids; empty if none was needed yet."""

    def salt(self, experiment_id: str) -> bytes:
        """Makes the random assignment of an experiment independent of other experiments and indexes."""
        return hmac.digest(self.key, f"experiment\0{experiment_id}".encode(), "sha256")[:_SALT_BYTES]


class ExperimentStore(DocumentStore[Experiment]):
    """The experiments of an index directory and their changes (INDEX/experiments.sqlite); its errors are
    ExperimentError. An experiment that shoppers may have seen can only be switched off, which ends it."""

    kind = DocumentCodec(
        one="experiment",
        many="experiments",
        entry=Experiment,
        application=0x53574558,
        error=ExperimentError,
        check=check_experiment,
        to_plain=experiment_document,
        more_tables=KEY_TABLE,
        private=True,
    )

    def read(self) -> StoredExperiments:
        """The current experiments."""
        with self._file.reading() as cursor:
            if cursor is None:
                return StoredExperiments()
            return StoredExperiments(self._revision(cursor), self._all(cursor), key=read_key(cursor))

    def _write(self, cursor: sqlite3.Cursor, lines: Mapping[str, str | None], who: str) -> None:
        now, stored = self._clock(), {each.id: each for each in self._all(cursor)}
        changed: dict[str, Experiment | None] = {}
        for name, line in lines.items():
            changed[name] = _allowed_change(stored.get(name), None if line is None else self._decoded(line), now)
        enabled = [each for each in {**stored, **changed}.values() if each is not None and each.enabled]
        for name, each in changed.items():
            has_begun = name in stored and stored[name].has_begun(now)
            if each is not None and each.enabled and not has_begun:
                check_rankers(each, stored_problem(self.path.parent))
                check_overlaps(each, enabled)
        add_key(cursor)
        encoded = {name: None if each is None else self._encoded(each) for name, each in changed.items()}
        super()._write(cursor, encoded, who)


def _allowed_change(before: Experiment | None, after: Experiment | None, now: datetime) -> Experiment | None:
    """The experiment that a change stores at a time: with its start, and with its end if the change switches it off."""
    if before is not None and before.has_begun(now):
        if after is not None and replace(after, starts=before.starts, enabled=True) == before:
            is_postponed = after.starts is not None and not replace(after, enabled=True).has_begun(now)
            if not is_postponed:
                return before if after.enabled or not before.runs(now) else replace(before, ends=now)
        message = "has started: it can be switched off, not changed; use another id for a new one"
        raise ExperimentError(f"experiment {before.id!r} {message}", before.id, "id")
    if after is None or after == before:
        return after
    if after.ends is not None and after.ends <= now:
        raise ExperimentError(f"experiment {after.id!r}: ends: is over already", after.id, "ends")
    return replace(after, starts=max(now, after.starts or now)) if after.enabled else after


@dataclass(frozen=True, slots=True)
class ExperimentState:
    """The state of an experiment at one time."""

    state: str
    """draft, waiting, running or ended."""


class EngineExperiments(DocumentEditor[Experiment]):
    """The experiments of an engine's index; searches over HTTP follow a change within a quarter of a second.

    >>> variants = (Variant("now"), Variant("rrf", VariantOptions(merge="rrf")))
    >>> engine.experiments.put([Experiment("merging", variants)], who="m7")
    """

    def __init__(
        self,
        root: Path,
        snapshot: Callable[[], Snapshot],
        problem: Problem,
        *,
        clock: Callable[[], datetime] = wall_clock,
    ) -> None:
        store = ExperimentStore(root, clock=clock)
        self._problem = problem
        self._clock = clock
        self._stored = ReloadedFile(
            store.path,
            # The key may be created without a change of the documents.
            lambda _: store.read(),
            StoredExperiments(),
            "changes of the experiments are not loaded",
            keeps_value=True,
            interval=_RELOAD_SECONDS,
        )
        super().__init__(store, snapshot)

    @property
    def notices(self) -> tuple[str, ...]:
        """Reasons why the latest experiments are not loaded, and which ones are paused."""
        paused = (f"no shopper is assigned to the experiment {name}: {why}" for name, why in self.faults.items())
        return (*self._stored.notices, *paused)

    @property
    def faults(self) -> Mapping[str, str]:
        """The reason, by id, for each running experiment in which no shopper takes part now."""
        reasons = {each.id: unserved_reason(each, self._problem) for each in self.running().documents}
        return {name: why for name, why in reasons.items() if why}

    def details(self, _product: str = "", /) -> Mapping[str, object]:
        now = self._clock()
        return {"states": {each.id: ExperimentState(each.state(now)) for each in self.list()}}

    def running(self) -> StoredExperiments:
        """The experiments in which searches take part now."""
        stored, now = self._stored.current(), self._clock()
        return replace(stored, documents=tuple(each for each in stored.documents if each.runs(now)))

    def reload_if_changed(self, _snapshot: Snapshot, /) -> None:
        """Loads changed experiments at once."""
        self._stored.reload_if_changed()
