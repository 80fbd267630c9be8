"""One training from its start to its verdict, on the version of an index that serves now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from rerank.ranker.spec import AddedRanker
from rerank.sessions.bots import score_sessions
from rerank.sessions.partitions import ScoreSessions
from rerank.sessions.refresh import RefreshResult
from rerank.sessions.tables import DerivedTables, open_derived
from rerank.text_towers.dataset import JudgedQuery
from rerank.training.distillation import DistilOptions
from retrieval.progress import Progress
from retrieval.store.lock import hold_lock
from service.engine.snapshot import Snapshot, serving_snapshot
from service.events.event_log import EventLog
from service.events.privacy import erasures
from service.events.signals import Popularity
from service.settings import Settings
from service.training.click_dataset import ClickRankerOptions, ClickTraining, Earlier, EventFacts
from service.training.derived_tables import DerivedTablesManager, catalog, memory_of, popularity_scores
from service.training.ranker_dataset import CatalogOptions, score_lists
from service.training.ranker_from_clicks import click_ranker
from service.training.ranker_from_lists import distil_ranker, grade_ranker

TRAINING_FOLDER = "training"
TEACHER_SCORES = "teacher-scores"


def train_from_catalog(root: Path, catalog: CatalogOptions, options: DistilOptions, progress: Progress) -> AddedRanker:
    """Distils a ranker for an index directory on queries made from its catalog.

    Its folder `training` keeps what is costly: the teacher's scores, for the next time, and a run that was interrupted.
    Raises StoreMissingError, StoreForeignError or StoreDamagedError for a directory that cannot serve, StoreLockedError
    where another program trains for it, TrainingError where there is too little to learn from, EncoderError where a
    model cannot be had.
    """
    with working(root) as (snapshot, work, built):
        scored = score_lists(snapshot, catalog, work / TEACHER_SCORES, built, progress)
        return distil_ranker(snapshot, scored, work, root, options, progress)


def train_from_judgments(
    root: Path, judged: Sequence[JudgedQuery], options: DistilOptions, progress: Progress
) -> AddedRanker:
    """Trains a ranker for an index directory on judged queries; raises what `train_from_catalog` does."""
    with working(root) as (snapshot, work, _):
        return grade_ranker(snapshot, judged, work, root, options, progress)


def train_from_clicks(root: Path, settings: Settings, options: ClickRankerOptions, progress: Progress) -> ClickTraining:
    """Trains a ranker for an index directory on what its shoppers did; raises what `fresh_tables` and
    `ranker_from_tables` do."""
    with fresh_tables(root, settings, progress) as tables:
        return ranker_from_tables(tables, options, progress)


@dataclass(frozen=True, slots=True, eq=False)
class FreshTables:
    """What any training on shoppers' events works with."""

    root: Path
    settings: Settings
    snapshot: Snapshot
    work: Path
    """A folder that no other process uses."""
    built: float
    """When the version was built; see `working`."""
    derived: DerivedTables
    refreshed: RefreshResult
    erasures: int = 0
    """Of shoppers, before the tables were made: see `service.events.privacy.erasures`."""

    @property
    def facts(self) -> EventFacts:
        """What the events are, for the cards of models."""
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
def fresh_tables(
    root: Path, settings: Settings, progress: Progress, score_sessions: ScoreSessions = score_sessions
) -> Iterator[FreshTables]:
    """Brings the tables made of an index directory's events up to date, once for all that is trained on them.
    `score_sessions` tells bots from shoppers.

    Raises StoreMissingError where nothing is published or there are no events, StoreError where they cannot be read,
    StoreForeignError or StoreDamagedError for a directory that cannot serve, StoreLockedError where another program
    trains for it.
    """
    with closing(EventLog.open(root, settings, make=False)) as log, working(root, settings) as (snapshot, work, built):
        progress.begin("events", None, "")
        tables = DerivedTablesManager(root, log, settings.events, score_sessions=score_sessions)
        erased = erasures(log.folder)
        done = tables.refresh()
        progress.end(f"{done.events:,} events, {done.flagged_sessions:,} sessions of bots left out")
        yield FreshTables(root, settings, snapshot, work, built, open_derived(tables.folder), done, erased)


def earlier_than_lists(tables: FreshTables) -> Earlier:
    """What the tables tell of the time before the lists of a training."""
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
    """Trains a ranker on what shoppers did, and lets it serve where it is better; raises what `click_ranker` does."""
    return click_ranker(
        tables.snapshot,
        tables.derived.lists(),
        tables.work,
        tables.root,
        replace(options, erasures=tables.erasures),
        tables.built,
        progress,
        acts=tables.derived.acts(),
        earlier=earlier_than_lists(tables),
        before_judging=before_judging,
    )


@contextmanager
def working(root: Path, settings: Settings | None = None) -> Iterator[tuple[Snapshot, Path, float]]:
    """The version that serves, a folder that nobody else works in, and when the version was built, in seconds since
    1970: a product's age is that at the build, so that a run that goes on tomorrow learns from the same features."""
    with serving_snapshot(root, settings) as snapshot:
        work = root / TRAINING_FOLDER
        work.mkdir(exist_ok=True)
        with hold_lock(work, "training"):
            yield snapshot, work, snapshot.built
