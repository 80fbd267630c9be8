"""A run of `shelfwise learn`: the towers, the ranker and query expansion, with its record of earlier runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from shelfwise.rerank.expansions import expansion_store
from shelfwise.rerank.sessions.refresh import RefreshResult
from shelfwise.rerank.text_towers.dataset import from_labels
from shelfwise.rerank.user_tower.user_tower_training import UserTowerOptions
from shelfwise.retrieval.errors import (
    ClusterError,
    EncoderError,
    ModelError,
    ShelfwiseError,
    StoreDamagedError,
    StoreError,
    StoreForeignError,
    StoreMissingError,
    TrainingError,
)
from shelfwise.retrieval.events.privacy import utc_now
from shelfwise.retrieval.progress import Progress
from shelfwise.retrieval.store.files import read_json, write_durably
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.events.event_log import EventLog
from shelfwise.service.reports import training
from shelfwise.service.reports.training import (
    EXPANSIONS,
    SCHEMA,
    SHOPPERS,
    TOWERS,
    Days,
    LearnedModel,
    LearnReport,
    RecordedSteps,
    RunDecision,
    Stage,
    StageOutcome,
)
from shelfwise.service.settings import Settings
from shelfwise.service.training.click_dataset import ClickRankerOptions, ClickTraining
from shelfwise.service.training.expansions import BY_JUDGMENTS, expansions_from_tables
from shelfwise.service.training.training_session import TRAINING_FOLDER, FreshTables, fresh_tables, ranker_from_tables
from shelfwise.service.training.user_tower import ShopperActs, shopper_acts, tower_of_acts

if TYPE_CHECKING:
    from shelfwise.service.training.text_towers import TextTowersRequest


# The trainings of a run other than the ranker: the user tower, query expansion and, first and only on request, the
# encoder. If one fails, the reason is recorded and the run continues.


def train_shoppers(
    tables: FreshTables, acts: ShopperActs, options: UserTowerOptions, steps: RecordedSteps
) -> LearnedModel | None:
    """Trains the user tower, which serves if it is better; None if there is too little data, or if the serving tower
    cannot be read. A tower that an earlier run trained on the same acts is not trained again."""
    with steps.stage(SHOPPERS, (TrainingError, ModelError)):
        done = tower_of_acts(tables, acts, options, steps, again=False)
        steps.begin("decision", None, "")
        report = done.tower.report
        decision = "serves" if done.serves else f"is rejected: {'; '.join(report.rejection_reasons)}"
        measures = "; ".join(f"{name} {value:.4f}" for name, value in report.measures.items())
        shoppers = report.comparisons[0].queries
        earlier = "" if done.is_new else ", trained on the same acts in an earlier run,"
        steps.end(f"{done.tower.name}{earlier} {decision}. Of {shoppers:,} shoppers: {measures}")
        return LearnedModel(done.tower.name, done.serves, report.rejection_reasons, done.is_new)
    return None


def train_encoder(
    root: Path, settings: Settings, request: TextTowersRequest, steps: RecordedSteps
) -> LearnedModel | None:
    """Trains the encoder on clicks, and publishes it if it is better. None if there is too little data, if it is not
    better, or if it could not be written or published: the next run then continues with it.

    Raises the errors of `train_text_towers` about events and the index.
    """
    # Takes seconds to import, and is rarely needed.
    from shelfwise.service.training.text_towers import train_text_towers

    failures = (TrainingError, EncoderError, StoreError, ClusterError)
    with steps.stage(TOWERS, failures, (StoreMissingError, StoreForeignError, StoreDamagedError)):
        done = train_text_towers(root, settings, replace(request, publish=True), steps)
        published, use = done.published, f"shelfwise rebuild {root} --encoder {done.folder}"
        serves = published is not None and published.serves
        reasons = tuple(published.report.rejection_reasons) if published and published.report else ()
        if published is not None and serves:
            outcome = f"It serves as {published.version}; later trainings read its vectors"
        else:
            outcome = f"It is rejected: {'; '.join(reasons)}. To use it nevertheless: {use}"
        steps.begin("decision", None, "")
        steps.end(
            f"{done.folder}: nDCG@10 {done.spec.curve[0].validation:.4f} before and {done.spec.validation:.4f} after "
            f"training, on the validation queries. {outcome}"
        )
        return LearnedModel(str(done.folder), serves, reasons)
    return None


def learn_words(tables: FreshTables, steps: RecordedSteps) -> LearnedModel | None:
    """Trains query expansion, which serves if searches are better; None if there is too little data, or if a table
    trained on judgments serves."""
    with steps.stage(EXPANSIONS, (TrainingError, ModelError, StoreError, ClusterError)):
        serving = expansion_store(tables.root).serving(None).model
        if serving and serving.spec.trained_on.get("source") == BY_JUDGMENTS:
            steps.leave(StageOutcome.LEFT, f"{serving.name} serves, which was trained on {BY_JUDGMENTS}")
            return None
        added = expansions_from_tables(tables, steps)
        return LearnedModel(added.model.name, added.serves, added.model.report.rejection_reasons)
    return None


# STORE/training/
#   learn.json               the report on the last run, even a refused one
#
# Written last and atomically; a killed run leaves the report of the run before.

REPORT_FILE = "learn.json"


@dataclass(frozen=True, slots=True)
class LearnOptions:
    """The training options of each model."""

    ranker: ClickRankerOptions
    shoppers: UserTowerOptions
    towers: TextTowersRequest | None = None
    """Training of the encoder; None leaves it unchanged."""


@dataclass(slots=True, eq=False)
class _LearnRun:
    steps: RecordedSteps
    started: datetime
    began: float
    days: Days
    """Those of the report."""
    events: RefreshResult | None = None
    """Counts of events, once the tables are up to date."""
    learned: dict[str, LearnedModel | None] = field(default_factory=dict)

    def trained(self, root: Path, settings: Settings, options: LearnOptions) -> ClickTraining:
        """Trains the encoder first, since the others read its vectors. The tables are refreshed once and read at once,
        since other programs may replace them."""
        if options.towers is not None:
            self.learned[TOWERS] = train_encoder(root, settings, options.towers, self.steps)
        with fresh_tables(root, settings, self.steps) as tables:
            self.events = tables.refreshed
            acts = shopper_acts(tables.derived.acts(), tables.snapshot.products.row_of)
            if options.towers is None:
                queries = len(from_labels(tables.derived.labels))
                with self.steps.under(TOWERS):
                    self.steps.leave(
                        StageOutcome.LEFT,
                        f"{queries:,} queries labelled by clicks could train it. Since this encodes every product "
                        f"again, it is done only on request: shelfwise learn {root} --towers",
                    )

            def train_user_tower() -> None:
                self.learned[SHOPPERS] = train_shoppers(tables, acts, options.shoppers, self.steps)

            done = ranker_from_tables(tables, options.ranker, self.steps, before_judging=train_user_tower)
            # Evaluated with the serving ranker.
            self.learned[EXPANSIONS] = learn_words(tables, self.steps)
            return done

    def succeeded(self, done: ClickTraining) -> LearnReport:
        added = done.added
        made = added.model.report
        summary = training.summarize(added, done.off_policy)
        return replace(
            self._report(training.decision_of(added), summary, self.steps.stages(is_over=True)),
            reasons=made.decision.reasons if made.decision else (),
            ranker=added.model.name,
            against=made.against,
            notices=added.notices,
            removed=added.removed,
            report=made,
            examples=done.examples,
            off_policy=done.off_policy,
        )

    def refused(self, error: ShelfwiseError) -> LearnReport:
        stages = self.steps.stages(is_over=False)
        stopped = next(stage.name for stage in stages if stage.outcome is StageOutcome.STOPPED)
        summary = training.refusal_summary(str(error), stopped)
        return replace(self._report(RunDecision.REFUSED, summary, stages), reasons=(str(error),))

    def _report(self, decision: RunDecision, summary: Iterable[str], stages: tuple[Stage, ...]) -> LearnReport:
        return LearnReport(
            started=self.started,
            seconds=time.perf_counter() - self.began,
            decision=decision,
            summary=tuple(summary),
            stages=stages,
            days=self.days,
            events=self.events,
            learned={stage: model for stage, model in self.learned.items() if model is not None},
        )


def learn(
    root: Path,
    settings: Settings,
    options: LearnOptions,
    progress: Progress,
    reported: Callable[[LearnReport], None] = lambda _: None,
    clock: Callable[[], datetime] = utc_now,
) -> LearnReport:
    """Trains on the events of an index directory: the ranker, like `training_session.train_from_clicks`, the user
    tower, and the encoder on request. Writes the report, and calls `reported` with it.

    Raises the errors of these trainings. If the ranker's training is refused (TrainingError, StoreMissingError, an
    unusable ranker or encoder), the report is written first, with the step at which it stopped, and the days of the
    run before.
    """
    run = _LearnRun(RecordedSteps(progress), clock(), time.perf_counter(), stored_days(root, settings))
    try:
        done = run.trained(root, settings, options)
    except (ModelError, EncoderError, StoreMissingError) as error:
        run.days = {}
        # Without the days of an unreadable report, the next run with --if-new counts all events as new.
        with suppress(StoreError):
            run.days = last_days(root)
        _write(root, run.refused(error), reported)
        raise
    report = run.succeeded(done)
    _write(root, report, reported)
    return report


def report_path(root: Path) -> Path:
    """The path of the report on an index directory's last run."""
    return root / TRAINING_FOLDER / REPORT_FILE


def _write(root: Path, report: LearnReport, reported: Callable[[LearnReport], None]) -> None:
    folder = root / TRAINING_FOLDER
    try:
        folder.mkdir(exist_ok=True)
        write_durably(report_path(root), report.to_json())
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written ({error.strerror}); check the disk and its permissions"
        ) from error
    reported(report)


_MAX_BYTES = 4 << 20
_CURE = "run shelfwise learn without --if-new: it is written again"


class _LastRun(msgspec.Struct, frozen=True):
    schema: int
    days: Days = {}


def last_days(root: Path) -> Days:
    """The days of the report on an index directory's last run; empty if there is none.

    Raises StoreDamagedError if it cannot be read, StoreForeignError if a newer program wrote it.
    """
    path = report_path(root)
    if not path.exists():
        return {}
    try:
        last = read_json(path, _LastRun, _MAX_BYTES)
    except ValueError as error:
        raise StoreDamagedError(f"{path} {error}: {_CURE}") from error
    if last.schema != SCHEMA:
        raise StoreForeignError(f"{path} is of schema {last.schema}, this program reads {SCHEMA}: {_CURE}")
    return last.days


def stored_days(root: Path, settings: Settings) -> Days:
    """The events of an index directory by day; empty if none was ever recorded.

    Raises StoreMissingError if nothing is published, and the errors of `EventLog.open`.
    """
    Store(root).current()
    try:
        with EventLog.open(root, settings, make=False) as log:
            return {day: state.count for day, state in log.store.days().items()}
    except StoreMissingError:
        return {}


def new_events(now: Days, before: Days) -> int:
    """Number of events since the last completed run: for each day, those in excess of its earlier count."""
    return sum(max(0, count - before.get(day, 0)) for day, count in now.items())
