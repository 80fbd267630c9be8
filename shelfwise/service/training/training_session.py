"""One training from start to promotion decision, on the serving version of an index."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkContext, SpawnContext
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from shelfwise.rerank.model_store import Encoding
from shelfwise.rerank.ranker.spec import STORES, AddedRanker
from shelfwise.rerank.sessions.refresh import RefreshResult
from shelfwise.rerank.sessions.tables import DerivedTables, open_derived
from shelfwise.rerank.text_towers.dataset import JudgedQuery
from shelfwise.rerank.training.distillation import DistilOptions
from shelfwise.rerank.training.trainer import VALIDATION, Federation, State, take_one_thread
from shelfwise.retrieval.errors import SettingError, ShelfwiseError, TrainingError
from shelfwise.retrieval.progress import NullProgress, Progress
from shelfwise.retrieval.store.lock import hold_lock
from shelfwise.service.engine.served_models import encoding_of
from shelfwise.service.engine.snapshot import Snapshot, serving_snapshot
from shelfwise.service.events.event_log import EventLog
from shelfwise.service.events.privacy import erasures
from shelfwise.service.events.signals import Popularity
from shelfwise.service.settings import Settings
from shelfwise.service.training.click_dataset import ClickRankerOptions, ClickTraining, Earlier, EventFacts
from shelfwise.service.training.derived_tables import DerivedTablesManager, catalog, memory_of, popularity_scores
from shelfwise.service.training.ranker_dataset import CatalogOptions, score_lists
from shelfwise.service.training.ranker_from_clicks import click_ranker
from shelfwise.service.training.ranker_from_lists import distil_ranker, grade_ranker

TRAINING_FOLDER = "training"
TEACHER_SCORES = "teacher-scores"


def train_from_catalog(root: Path, catalog: CatalogOptions, options: DistilOptions, progress: Progress) -> AddedRanker:
    """Distils a ranker for an index directory on queries generated from its catalog.

    Its folder `training` stores expensive results: the teacher's scores, for the next time, and an interrupted run.
    Raises StoreMissingError, StoreForeignError or StoreDamagedError for a directory that cannot serve, StoreLockedError
    if another program trains for it, TrainingError if there is too little data, EncoderError if a model is not
    available.
    """
    with working(root) as (snapshot, work, built):
        scored = score_lists(snapshot, catalog, work / TEACHER_SCORES, built, progress)
        return distil_ranker(snapshot, scored, work, root, options, progress)


def train_from_judgments(
    root: Path, judged: Sequence[JudgedQuery], options: DistilOptions, progress: Progress
) -> AddedRanker:
    """Trains a ranker for an index directory on judged queries; raises the errors of `train_from_catalog`."""
    with working(root) as (snapshot, work, _):
        return grade_ranker(snapshot, judged, work, root, options, progress)


def train_from_clicks(root: Path, settings: Settings, options: ClickRankerOptions, progress: Progress) -> ClickTraining:
    """Trains a ranker for an index directory on its events; raises the errors of `fresh_tables` and
    `ranker_from_tables`."""
    with fresh_tables(root, settings, progress) as tables:
        return ranker_from_tables(tables, options, progress)


def train_federated_rankers(
    roots: Sequence[Path], settings: Settings, options: ClickRankerOptions, rounds: int, progress: Progress
) -> list[AddedRanker]:
    """Trains one ranker on the events of several index directories; in each store it serves if it is better there. Each
    store is read by its own process, which only shares weights.

    Raises SettingError for fewer than two directories, for a repeated one, or for different encoders, StoreError for
    one that cannot serve, and TrainingError with the message of any error of `train_from_clicks`.
    """
    if len(roots) < 2 or len({each.resolve() for each in roots}) < len(roots):
        raise SettingError("a federated training needs at least two index directories, each once")
    encodings: dict[Encoding, Path] = {}
    for root in roots:
        with serving_snapshot(root, settings) as snapshot:
            encodings[encoding_of(snapshot)] = root
    if len(encodings) > 1:
        named = ", ".join(f"{each.encoder} in {root}" for each, root in encodings.items())
        raise SettingError(f"a federated training needs one encoder, not {named}; rebuild with --encoder")
    tasks = [partial(_train_member, root, settings, options) for root in roots]
    return run_federation(tasks, rounds, progress, [str(root) for root in roots])


def _train_member(root: Path, settings: Settings, options: ClickRankerOptions, federation: Federation) -> AddedRanker:
    return train_from_clicks(root, settings, replace(options, federation=federation), NullProgress()).added


_Result = TypeVar("_Result")


class _Member:
    """The part of a process in a federation."""

    def __init__(self, connection: Connection, stores: int, rounds: int) -> None:
        self.connection = connection
        self.stores = stores
        self.rounds = rounds

    def __deepcopy__(self, memo: object) -> _Member:
        return self  # a copy of a connection closes it when it is collected

    def average(self, state: State, weight: float) -> State:
        self.connection.send((weight, state))
        try:
            mean: State = self.connection.recv()
        except (EOFError, OSError) as error:
            raise TrainingError("another store's training has ended") from error
        return mean


@dataclass(frozen=True, slots=True)
class _End:
    """The result of a task, or the message of its error."""

    result: Any = None
    error: str = ""


def run_federation(
    tasks: Sequence[Callable[[Federation], _Result]],
    rounds: int,
    progress: Progress,
    names: Sequence[str],
    *,
    is_forked: bool = False,
) -> list[_Result]:
    """Runs each task in its own process, and averages the weights that they send; returns their results. Tasks are
    pickled with everything that they refer to, unless the process `is_forked`. The first weight that a task sends is
    the number of its lists. If a task fails, ends the others and raises TrainingError with
    the name of the store."""
    context: ForkContext | SpawnContext = (
        multiprocessing.get_context("fork") if is_forked else multiprocessing.get_context("spawn")
    )
    with ExitStack() as stack:
        connections = []
        for task in tasks:
            ours, theirs = context.Pipe()
            member = _Member(theirs, len(tasks), rounds)
            process = context.Process(target=_run_member, args=(task, member), daemon=True)
            process.start()
            theirs.close()
            connections.append(ours)
            stack.callback(process.join)
            stack.callback(process.terminate)
            stack.callback(ours.close)
        progress.begin("stores", None, "")
        received = _receive(connections, names)
        progress.end(f"{sum(weight for weight, _ in received):,.0f} lists of {len(tasks)} stores")
        progress.begin("federated", rounds, "rounds")
        done, is_begun = 0, False
        while not isinstance(received[0], _End):
            mean = _mean(received)
            for connection in connections:
                connection.send(mean)
            is_judged = VALIDATION in mean  # as the start is first
            round_ends = int(is_begun and not is_judged)
            done, is_begun = done + round_ends, is_begun or is_judged
            progress.advance(round_ends)
            received = _receive(connections, names)
        progress.end(f"{done} rounds")
        return [each.result for each in received]


def _mean(given: Sequence[tuple[float, State]]) -> State:
    """The mean over all stores, in float32: the weights of a table may take hundreds of megabytes."""
    total = sum(weight for weight, _ in given)
    mean = {name: np.float32(given[0][0] / total) * value for name, value in given[0][1].items()}
    for weight, state in given[1:]:
        mean = {name: value + np.float32(weight / total) * state[name] for name, value in mean.items()}
    return mean


def _receive(connections: Sequence[Connection], names: Sequence[str]) -> list[Any]:
    """Receives one message from each member."""
    found = []
    for connection, name in zip(connections, names, strict=True):
        try:
            found.append(connection.recv())
        except (EOFError, OSError) as error:
            raise TrainingError(f"the training of {name} was killed; start again") from error
        if isinstance(found[-1], _End) and found[-1].error:
            raise TrainingError(f"{name}: {found[-1].error}")
    return found


def _run_member(task: Callable[[Federation], _Result], member: _Member) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process ends it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # returns resources shared with the parent process
    take_one_thread()
    try:
        end = _End(task(member))
    except ShelfwiseError as error:
        end = _End(error=str(error))
    member.connection.send(end)


@dataclass(frozen=True, slots=True, eq=False)
class FreshTables:
    """The input of trainings on events."""

    root: Path
    settings: Settings
    snapshot: Snapshot
    work: Path
    """A folder that no other process uses."""
    built: float
    """Build time of the version, in seconds since 1970; see `working`."""
    derived: DerivedTables
    refreshed: RefreshResult
    erasures: int = 0
    """Number of erasures of shoppers before the tables were created: see
    `shelfwise.service.events.privacy.erasures`."""

    @property
    def facts(self) -> EventFacts:
        """Facts about the events, for model cards."""
        done = self.refreshed
        return {
            "events": done.events,
            "events from": done.window.first.isoformat(timespec="seconds"),
            "events until": done.window.last.isoformat(timespec="seconds"),
            "rejected events": sum(done.rejected.values()),
            "sessions": done.sessions,
            "sessions of bots left out": done.flagged_sessions,
        }


@contextmanager
def fresh_tables(root: Path, settings: Settings, progress: Progress) -> Iterator[FreshTables]:
    """Refreshes the derived tables of an index directory, once for all trainings on them.

    Raises StoreMissingError if nothing is published or there are no events, StoreError if they cannot be read,
    StoreForeignError or StoreDamagedError for a directory that cannot serve, StoreLockedError if another program trains
    for it.
    """
    with closing(EventLog.open(root, settings, make=False)) as log, working(root, settings) as (snapshot, work, built):
        progress.begin("events", None, "")
        tables = DerivedTablesManager(root, log, settings.events)
        erased = erasures(log.folder)
        done = tables.refresh()
        progress.end(f"{done.events:,} events, {done.flagged_sessions:,} sessions of bots left out")
        yield FreshTables(root, settings, snapshot, work, built, open_derived(tables.folder), done, erased)


def earlier_than_lists(tables: FreshTables) -> Earlier:
    """Popularity, query memory and event facts of the tables from before the lists of a training."""
    derived, products = tables.derived, catalog(tables.root)

    def popular(end: datetime) -> Popularity:
        return Popularity.of_scores(popularity_scores(derived.popularity_before(end)))

    return Earlier(
        popular, lambda lists, end: memory_of(derived.memory_of(lists, end, products), products), tables.facts
    )


def ranker_from_tables(
    tables: FreshTables,
    options: ClickRankerOptions,
    progress: Progress,
    *,
    before_judging: Callable[[], None] = lambda: None,
) -> ClickTraining:
    """Trains a ranker on events; it serves if it is better. Raises the errors of `click_ranker`."""
    earlier = earlier_than_lists(tables)
    if options.federation is not None:
        earlier = replace(earlier, events={**earlier.events, STORES: options.federation.stores})
    return click_ranker(
        tables.snapshot,
        tables.derived.lists(),
        tables.work,
        tables.root,
        replace(options, erasures=tables.erasures),
        tables.built,
        progress,
        acts=tables.derived.acts(),
        earlier=earlier,
        before_judging=before_judging,
    )


@contextmanager
def working(root: Path, settings: Settings | None = None) -> Iterator[tuple[Snapshot, Path, float]]:
    """The serving version, a folder that no one else uses, and the build time of the version in seconds since 1970:
    product ages are those at the build, so that a run resumed later uses the same features."""
    with serving_snapshot(root, settings) as snapshot:
        work = root / TRAINING_FOLDER
        work.mkdir(exist_ok=True)
        with hold_lock(work, "training"):
            yield snapshot, work, snapshot.built
