"""Training: `learn`, and `train ranker`, `towers`, `users`, `expansions`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.text import Text
from typer import Option

from shelfwise.rerank.model_store import AddResult
from shelfwise.rerank.teacher import DEFAULT_TEACHER
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.value_texts import printable, seconds_text
from shelfwise.service.cli import output
from shelfwise.service.cli.models import ranker_document, show_training
from shelfwise.service.cli.options import (
    Index,
    PublishedIndex,
    Runtime,
    SettingsFile,
    Teacher,
    TowerTrainingOptions,
    check_index,
    command,
)
from shelfwise.service.cli.output import TerminalProgress, emit, say, show_notices, show_rows
from shelfwise.service.engine.versions import has_static_encoder
from shelfwise.service.settings import cache_folder, load_settings

# Modules that load torch, which takes seconds, are imported where they are used, after an index has been checked.

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shelfwise.rerank.ranker.spec import AddedRanker
    from shelfwise.service.reports.training import LearnReport, Stage
    from shelfwise.service.training.click_dataset import ClickRankerOptions
    from shelfwise.service.training.text_towers import TextTowersResult


@dataclass(frozen=True, slots=True)
class ClickTrainingOptions:
    """Training options of a ranker."""

    queries: Annotated[
        int, Option(help="Number of queries to generate, or whose clicks to learn from.", min=200, max=1_000_000)
    ] = 20_000
    epochs: Annotated[int, Option(help="Maximum number of epochs; it stops early.", min=1, max=100)] = 6
    seed: Annotated[int, Option(help="Seed of the queries and the initial weights.", min=0, max=1_000_000)] = 0

    def from_clicks(self, epsilon: float | None = None) -> ClickRankerOptions:
        """Options of training on clicks, where `epsilon` is the privacy budget of private training."""
        from shelfwise.rerank.training.click_training import ClickOptions, PrivacyOptions
        from shelfwise.service.training.click_dataset import ClickRankerOptions

        plain = ClickOptions(seed=self.seed, private=PrivacyOptions(epsilon) if epsilon is not None else None)
        return ClickRankerOptions(replace(plain, loop=replace(plain.loop, epochs=self.epochs)), self.queries)


@dataclass(frozen=True, slots=True)
class FederatedOptions:
    """The stores that train one ranker together."""

    federated: Annotated[
        list[Path] | None,
        Option(
            help="Also train on the clicks of another index directory, without moving its events: weights are "
            "averaged. Repeatable.",
            metavar="INDEX",
        ),
    ] = None
    rounds: Annotated[
        int, Option(help="With --federated, number of times that weights are averaged.", min=1, max=200)
    ] = 20


@command("train ranker store")
def ranker(
    index: Index,
    how: ClickTrainingOptions,
    others: FederatedOptions,
    teacher: Teacher = DEFAULT_TEACHER,
    from_catalog: Annotated[
        bool, Option("--from-catalog", help="Learn from a teacher, on queries generated from the catalog.")
    ] = False,
    judgments: Annotated[list[Path] | None, Option(help="Learn from a file of judged queries. Repeatable.")] = None,
    private: Annotated[
        float | None,
        Option(
            help="Add noise to training on clicks, so that the weights are differentially private by shopper with this "
            "epsilon.",
            metavar="EPSILON",
            min=0.01,
        ),
    ] = None,
    settings: SettingsFile = None,
) -> None:
    """Train a ranker on clicks, a teacher or judgments. It serves if it is better than the serving ranker. An
    interrupted training resumes."""
    if from_catalog and judgments:
        raise SettingError("--from-catalog and --judgments exclude each other; give one of them")
    if private is not None and (from_catalog or judgments):
        raise SettingError("--private needs training on clicks; leave it out, or --from-catalog and --judgments")
    federated = others.federated or []
    if federated and (from_catalog or judgments or private is not None):
        raise SettingError("--federated needs training on clicks; leave out --from-catalog, --judgments and --private")
    for each in (index, *federated):
        check_index(each)
    from shelfwise.rerank.training.distillation import DistilOptions
    from shelfwise.rerank.training.trainer import LoopOptions
    from shelfwise.service.training.ranker_dataset import CatalogOptions
    from shelfwise.service.training.text_towers import judged_queries
    from shelfwise.service.training.training_session import (
        train_federated_rankers,
        train_from_catalog,
        train_from_clicks,
        train_from_judgments,
    )

    distillation = DistilOptions(LoopOptions(epochs=how.epochs), seed=how.seed)
    with TerminalProgress() as progress:
        if federated:
            stores = [index, *federated]
            rankers = train_federated_rankers(
                stores, load_settings(settings), how.from_clicks(), others.rounds, progress
            )
            return _emit_by_store(stores, rankers)
        if from_catalog:
            catalog = CatalogOptions(how.queries, teacher=teacher, cache=cache_folder(), seed=how.seed)
            added = train_from_catalog(index, catalog, distillation, progress)
        elif judgments:
            judged = [query for path in judgments for query in judged_queries(path, progress)]
            added = train_from_judgments(index, judged, distillation, progress)
        else:
            added = train_from_clicks(index, load_settings(settings), how.from_clicks(private), progress).added
    return emit(added, show_training, index, document=ranker_document(added))


def _emit_by_store(stores: Sequence[Path], rankers: Sequence[AddedRanker]) -> None:
    """Prints the results of a federated training for each store."""

    def show_all(trained: Sequence[AddedRanker]) -> None:
        for index, each in zip(stores, trained, strict=True):
            say(f"\n{index}")
            show_training(each, index)

    documents = [{"index": str(index), **ranker_document(each)} for index, each in zip(stores, rankers, strict=True)]
    emit(rankers, show_all, document=documents)


@command("train towers store --judgments judgments.tsv")
def towers(
    index: PublishedIndex,
    how: TowerTrainingOptions,
    judgments: Annotated[
        list[Path] | None, Option(help="A file of judged queries; by default, learn from events. Repeatable.")
    ] = None,
    validation: Annotated[
        Path | None, Option(help="Judged queries for validation; by default a tenth of the others.")
    ] = None,
    publish: Annotated[
        bool, Option("--publish/--no-publish", help="Let it serve if it is better, or only write the folder.")
    ] = True,
    runtime: Runtime = "auto",
    settings: SettingsFile = None,
) -> None:
    """Fine-tune the encoder of an index on judged queries or on clicks. The catalog is encoded with it, and it serves
    if it is better on a fifth of the queries. An interrupted training resumes."""
    from shelfwise.service.training.text_towers import TextTowersRequest, train_text_towers

    request = TextTowersRequest(
        judgments or (),
        validation,
        encoder=how.encoder,
        out=how.out,
        cache=cache_folder(),
        publish=publish,
        runtime=runtime,
        options=how.options(),
        tune=how.tune,
    )
    with TerminalProgress() as progress:
        done = train_text_towers(index, load_settings(settings), request, progress)
    document = {"folder": str(done.folder), "towers": done.spec, "published": done.published}
    emit(done, _show_towers, index, document=document)


def _show_towers(result: TextTowersResult, index: Path) -> None:
    spec, published = result.spec, result.published
    rows: list[tuple[str | float | None, ...]] = [
        (f"{epoch.number}", epoch.loss, epoch.validation, "kept" if epoch.number == spec.best else "")
        for epoch in spec.curve
    ]
    mean = f", the mean of {spec.averaged} parts" if spec.averaged > 1 else ""
    rows.append(("", None, spec.validation, f"{spec.share:.0%} of the trained weights{mean}"))
    show_rows(("part", "loss", "nDCG@10", ""), rows)
    if published is not None and published.report is not None:
        orders = published.report.comparisons
        names = f"{orders[0].queries:,} test queries" if orders else "", "before", "after"
        show_rows(names, [(each.measure, each.served, each.challenger) for each in orders])
    show_notices((*([spec.stopped] if spec.stopped else []), *spec.notices))
    say(f"\nWritten to {result.folder}: trained from {spec.base} on {spec.source}.")
    if published is not None and published.serves:
        say(f"{published.version} is published and serves, in {published.runtime}.")
        say(f"Models trained on the previous vectors no longer serve: shelfwise learn {index}")
        return
    if published is not None and published.report is not None:
        say(f"It does not serve: {'; '.join(published.report.rejection_reasons)}")
    say(f"To use it: shelfwise rebuild {index} --encoder {result.folder}")


@command("train users store")
def users(
    index: PublishedIndex,
    epochs: Annotated[int, Option(help="Maximum number of epochs; it stops early.", min=1, max=1_000)] = 12,
    batch: Annotated[int, Option(help="Windows of 50 acts per step.", min=2, max=4_096)] = 64,
    learning_rate: Annotated[float, Option(help="The highest.", min=1e-6, max=0.1)] = 1e-3,
    seed: Annotated[int, Option(help="Seed of the initial weights.", min=0, max=1_000_000)] = 0,
    settings: SettingsFile = None,
) -> None:
    """Train the user tower, which recommends products, on shoppers' next acts. It serves if it is better than the
    serving one. An interrupted training resumes."""
    from shelfwise.rerank.user_tower.user_tower_training import UserTowerOptions
    from shelfwise.service.training.user_tower import train_users

    options = UserTowerOptions(epochs=epochs, batch=batch, learning_rate=learning_rate, seed=seed)
    with TerminalProgress() as progress:
        trained = train_users(index, load_settings(settings), options, progress)
    tower = trained.tower
    document = {"tower": tower.name, "serves": trained.serves, "report": tower.report, "spec": tower.spec}
    emit(AddResult(tower, trained.serves), show_training, index, document=document)


@command("train expansions store --judgments judgments.tsv")
def expansions(
    index: PublishedIndex,
    judgments: Annotated[
        list[Path] | None, Option(help="A file of judged queries; by default, learn from events. Repeatable.")
    ] = None,
    settings: SettingsFile = None,
) -> None:
    """Learn which product words match a query word, from judged queries or clicks. The table serves if it improves
    searches on a fifth of the queries."""
    from shelfwise.service.training.expansions import train_expansions
    from shelfwise.service.training.text_towers import judged_queries

    with TerminalProgress() as progress:
        judged = [query for path in judgments for query in judged_queries(path, progress)] if judgments else None
        added = train_expansions(index, load_settings(settings), judged, progress)
    model = added.model
    document = {"expansion": model.name, "serves": added.serves, "spec": model.spec, "report": model.report}
    emit(added, show_training, index, document=document)


@command("learn store --if-new 5000")
def learn(
    index: Index,
    how: ClickTrainingOptions,
    if_new: Annotated[int, Option("--if-new", help="Minimum number of new events since the last time.", min=0)] = 0,
    towers: Annotated[
        bool | None,
        Option(
            "--towers/--no-towers",
            help="Train the encoder first, and encode all products again if it is better; by default only a static "
            "encoder, which takes minutes.",
        ),
    ] = None,
    settings: SettingsFile = None,
) -> None:
    """Train on shoppers' events: clean them, train the ranker and the user tower, evaluate both, and publish the better
    ones. A report describes each step; an interrupted run resumes."""
    if not if_new:
        check_index(index)
    from shelfwise.rerank.user_tower.user_tower_training import UserTowerOptions
    from shelfwise.service.training import learn as learning

    loaded = load_settings(settings)
    if if_new:
        new = learning.new_events(learning.stored_days(index, loaded), learning.last_days(index))
        if new < if_new:
            waiting = {"decision": "not enough new events", "new_events": new, "needed": if_new}
            text = f"Nothing to learn yet: {new:,} new events since the last run, {if_new:,} are needed."
            emit(waiting, lambda _: say(text))
            return
    options = learning.LearnOptions(how.from_clicks(), UserTowerOptions(seed=how.seed))
    if has_static_encoder(index) if towers is None else towers:
        from shelfwise.rerank.text_towers.task import TextTowerOptions
        from shelfwise.service.training.text_towers import TextTowersRequest

        request = TextTowersRequest(cache=cache_folder(), options=TextTowerOptions(seed=how.seed))
        options = replace(options, towers=request)
    reports: list[LearnReport] = []
    try:
        with TerminalProgress() as progress:
            learning.learn(index, loaded, options, progress, reports.append)
    finally:
        for report in reports:
            emit(report, show_learned, learning.report_path(index), index)
            show_notices(map(printable, () if output.json_output.get() else report.notices))


def show_learned(report: LearnReport, file: Path, index: Path) -> None:
    """Prints a short form of the report."""
    for sentence in report.summary:
        say(printable(sentence))
    show_rows(("step", "time", "summary"), map(_stage_row, report.stages))
    examples = ((each.query, _lines(each.before), _lines(each.after)) for each in report.examples)
    show_rows(("query", "first hits before", "with the new ranker"), examples)
    if report.removed:
        say(f"Removed the oldest models: {', '.join(report.removed)}")
    if report.decision == "serves" and report.against.startswith("ranker-"):
        say(f"{report.against} is kept; to go back to it: shelfwise models rollback {index}")
    say(f"Full report: {file}")


def _lines(texts: Sequence[str]) -> Text:
    return Text("\n".join(map(printable, texts)))


def _stage_row(stage: Stage) -> tuple[str | Text, ...]:
    """A stage with the summaries of its steps, one line each, or its outcome."""
    lines = [f"{'' if step.name == stage.name else f'{step.name}: '}{step.did}" for step in stage.steps if step.did]
    if not lines or stage.outcome == "stopped here":
        lines.append(stage.outcome.value)
    return stage.name, seconds_text(stage.seconds) if stage.steps else "", _lines(lines)
