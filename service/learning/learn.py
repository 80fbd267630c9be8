"""One run from the store of events to a ranker with a verdict, and the report that it leaves.

STORE/training/
  learn.html, learn.json   the report on the last run, also on one that was refused
  learned.json             what the last run that came to its end has learned from

They are written last, each whole or not at all. A run that is killed leaves those of the one before; the next one goes
on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rerank.behaviour.refresh import Refreshed
from rerank.shoppers.training import ShopperTowerOptions
from rerank.towers.sources import from_labels
from retrieval.errors import EncoderError, RankerError, ShelfwiseError, StoreError, StoreMissingError
from retrieval.events.intake import utc_now
from retrieval.manifest import write_durably
from service.learning import summary
from service.learning.beside import leave_encoder, train_encoder, train_shoppers
from service.learning.findings import findings
from service.learning.page import html
from service.learning.remembered import Learned, remember, stored_days
from service.learning.report import Decision, EventsRead, LearnReport, Recommends, TextTowers
from service.learning.steps import Outcome, RecordedSteps
from service.settings import Settings
from service.training.click_material import ClickTraining, FromClicks
from service.training.from_catalog import Progress
from service.training.shopper_acts import shopper_acts
from service.training.training import TRAINING_FOLDER, fresh_tables, ranker_from_tables

if TYPE_CHECKING:
    from service.training.towers import TowersRequest

PAGE_FILE, REPORT_FILE = "learn.html", "learn.json"


@dataclass(frozen=True, slots=True)
class LearnOptions:
    """How to train each of what a run trains."""

    ranker: FromClicks
    shoppers: ShopperTowerOptions
    towers: TowersRequest | None = None
    """None leaves the encoder as it is."""


@dataclass(slots=True, eq=False)
class _Run:
    """A run, while it lasts."""

    steps: RecordedSteps
    started: datetime
    began: float
    refreshed: Refreshed | None = None
    """Once the tables are up to date."""
    shoppers: Recommends | None = None
    towers: TextTowers | None = None

    @property
    def events(self) -> EventsRead | None:
        return EventsRead.of(self.refreshed) if self.refreshed else None

    def trained(self, root: Path, settings: Settings, options: LearnOptions) -> ClickTraining:
        """The encoder first, where that is asked for, as the others read its vectors; then they, on tables that are
        brought up to date once; all of them are read at once, as others may replace them meanwhile."""
        if options.towers is not None:
            self.towers = train_encoder(root, settings, options.towers, self.steps)
        with fresh_tables(root, settings, self.steps) as tables:
            self.refreshed = tables.refreshed
            acts = shopper_acts(tables.derived.acts(), tables.snapshot.products.row_of)
            if options.towers is None:
                self.towers = leave_encoder(root, len(from_labels(tables.derived.labels)), self.steps)

            def beside() -> None:
                self.shoppers = train_shoppers(tables, acts, options.shoppers, self.steps)

            return ranker_from_tables(tables, options.ranker, self.steps, before_judging=beside)

    def succeeded(self, done: ClickTraining) -> LearnReport:
        added, found = done.added, findings(done)
        made = added.ranker.report
        decision = _decision(done)
        verdict = made.verdict
        return LearnReport(
            started=self.started,
            seconds=time.perf_counter() - self.began,
            decision=decision,
            summary=(
                *summary.told(decision, added.ranker.name, made.against, found, self.events),
                *summary.recommending(self.shoppers),
                *summary.encoding(self.towers),
            ),
            reasons=verdict.reasons if verdict else (),
            ranker=added.ranker.name,
            against=made.against,
            notices=added.notices,
            removed=added.removed,
            stages=self.steps.stages(is_over=True),
            events=self.events,
            findings=found,
            shoppers=self.shoppers,
            towers=self.towers,
        )

    def refused(self, error: ShelfwiseError) -> LearnReport:
        stages = self.steps.stages(is_over=False)
        stopped = next(stage.name for stage in stages if stage.outcome is Outcome.STOPPED)
        return LearnReport(
            started=self.started,
            seconds=time.perf_counter() - self.began,
            decision=Decision.REFUSED,
            summary=(
                *summary.refused(str(error), stopped),
                *summary.recommending(self.shoppers),
                *summary.encoding(self.towers),
            ),
            reasons=(str(error),),
            ranker="",
            against="",
            notices=(),
            removed=(),
            stages=stages,
            events=self.events,
            findings=None,
            shoppers=self.shoppers,
            towers=self.towers,
        )


def learn(
    root: Path,
    settings: Settings,
    options: LearnOptions,
    progress: Progress,
    reported: Callable[[LearnReport], None] = lambda _: None,
    clock: Callable[[], datetime] = utc_now,
) -> LearnReport:
    """Trains on the events of an index directory: the ranker, as `service.training.training.train_from_clicks` does,
    what recommends, and the encoder where that is asked for. Writes the report, of which `reported` is told.

    Raises what that does. Where the ranker's training is refused (TrainingError, StoreMissingError, a ranker or an
    encoder that cannot be used) the report is written first, with the step at which it stopped, and learned.json stays
    as it was.
    """
    days = stored_days(root, settings)
    run = _Run(RecordedSteps(progress), clock(), time.perf_counter())
    try:
        done = run.trained(root, settings, options)
    except (RankerError, EncoderError, StoreMissingError) as error:
        _write(root, run.refused(error), reported)
        raise
    report = run.succeeded(done)
    _write(root, report, reported)
    tower = run.shoppers.tower if run.shoppers else ""
    remember(root, Learned(time=run.started, days=days, ranker=report.ranker, serves=done.added.serves, tower=tower))
    return report


def page_path(root: Path) -> Path:
    """Where the page about an index directory's last run is."""
    return root / TRAINING_FOLDER / PAGE_FILE


def _decision(done: ClickTraining) -> Decision:
    if done.added.serves:
        return Decision.SERVES
    return Decision.ASIDE if done.added.ranker.report.aside else Decision.SWITCHED_OFF


def _write(root: Path, report: LearnReport, reported: Callable[[LearnReport], None]) -> None:
    folder, page = root / TRAINING_FOLDER, html(report).encode()
    try:
        folder.mkdir(exist_ok=True)
        write_durably(folder / REPORT_FILE, report.to_json())
        write_durably(folder / PAGE_FILE, page)
    except OSError as error:
        raise StoreError(f"{folder} cannot be written ({error.strerror}); see to the disk and to its rights") from error
    reported(report)
