"""The commands that train: `shelfwise train`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rerank.teacher.pairs import DEFAULT_TEACHER
from service.cli.options import (
    IndexOption,
    JsonOption,
    SettingsOption,
    TeacherOption,
    TowerTeacherOption,
    add_commands,
    cache_folder,
    check_index,
    takes_tower_options,
)

if TYPE_CHECKING:
    from rerank.text_towers.options import TextTowerOptions
    from service.reports.training import LearnReport
    from service.training.click_dataset import ClickRankerOptions
    from service.training.learn import LearnOptions
    from service.training.text_towers import TextTowersResult
    from service.training.text_towers_promotion import EncoderReport


EncoderOption = Annotated[str, typer.Option("--encoder", help="A model to begin with; by default the index's own.")]
CatalogOption = Annotated[
    int,
    typer.Option(
        "--from-catalog", help="Learn from so many queries made from the catalog's own products.", min=0, max=1_000_000
    ),
]
SyntheticOption = Annotated[
    int,
    typer.Option(
        "--synthetic",
        help="Learn from so many queries made from products that nobody has searched, beside the others.",
        min=0,
        max=1_000_000,
    ),
]
ParaphrasesOption = Annotated[
    bool,
    typer.Option(
        "--paraphrases",
        help="Of clicks: queries of few positives learn what answers those that shoppers replaced them by.",
    ),
]
TuneOption = Annotated[
    int,
    typer.Option(
        "--tune",
        help="Look for learning rate, temperature, margin and negatives first, by so many short trainings.",
        min=0,
        max=1_000,
    ),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="A new folder; by default one under the index's training/towers.")
]


@takes_tower_options
def towers(
    index: IndexOption = Path("store"),
    judgments: Annotated[
        list[Path] | None,
        typer.Option(help="A file of judged queries; by default it learns from what shoppers did. Repeatable."),
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="Judged queries that choose; by default a tenth of the others.")
    ] = None,
    encoder: EncoderOption = "",
    from_catalog: CatalogOption = 0,
    *,
    paraphrases: ParaphrasesOption = False,
    synthetic: SyntheticOption = 0,
    tune: TuneOption = 0,
    teacher: TowerTeacherOption = "",
    out: OutOption = None,
    aside: Annotated[
        bool, typer.Option("--aside", help="Only write the folder: nothing that serves is looked at or changed.")
    ] = False,
    runtime: Annotated[
        str, typer.Option(help="What it serves in: auto, torch, torch-bf16, onnx-fp32 or onnx-int8.")
    ] = "auto",
    settings: SettingsOption = None,
    as_json: JsonOption = False,
    options: Callable[[], TextTowerOptions],
) -> None:
    """Train the encoder of an index on judged queries or on clicks, and let it serve if it is better: the catalog is
    encoded by it, and a fifth of the queries judge. What was interrupted goes on where it was."""
    check_index(index)
    import msgspec

    from service.cli.output import ProgressLines, write_json
    from service.settings import load_settings
    from service.training.text_towers import TextTowersRequest, train_text_towers

    request = TextTowersRequest(
        judgments or (),
        from_catalog,
        validation,
        paraphrases=paraphrases,
        synthetic=synthetic,
        encoder=encoder,
        teacher=teacher,
        out=out,
        cache=cache_folder(),
        publish=not aside,
        runtime=runtime,
        options=options(),
        tune=tune,
    )
    with ProgressLines() as progress:
        done = train_text_towers(index, load_settings(settings), request, progress)
    document = {"folder": str(done.folder), "towers": done.spec, "published": done.published}
    write_json(msgspec.json.encode(document)) if as_json else _show(done, index)


def _show(done: TextTowersResult, index: Path) -> None:
    from rich.text import Text

    from service.cli.output import out, plain_table, show_notices

    spec = done.spec
    table = plain_table("part", "loss", "nDCG@10", "", right={"part", "loss", "nDCG@10"})
    for epoch in spec.curve:
        lost = "" if epoch.loss is None else f"{epoch.loss:.4f}"
        table.add_row(f"{epoch.number}", lost, f"{epoch.validation:.4f}", "kept" if epoch.number == spec.best else "")
    of = f", the mean of {spec.averaged} parts" if spec.averaged > 1 else ""
    table.add_row("", "", f"{spec.validation:.4f}", f"{spec.share:.0%} of what was learned{of}")
    if spec.layers is not None:
        fewer = max(epoch.validation for epoch in spec.pruning)
        table.add_row("", "", f"{fewer:.4f}", f"layers: {spec.layers}, taught by all")
    out.print(table)
    if done.published is not None and done.published.report is not None:
        _show_report(done.published.report)
    show_notices((*([spec.stopped] if spec.stopped else []), *spec.notices))
    out.print(Text(f"\nWritten to {done.folder}: trained from {spec.base} on {spec.source}."), soft_wrap=True)
    if done.whole is not None:
        out.print(Text(f"With all layers: {done.whole}"), soft_wrap=True)
    if done.published is not None and done.published.serves:
        out.print(Text(f"{done.published.version} is published and serves, in {done.published.runtime}."))
        again = f"What was trained on the vectors before serves no more: shelfwise learn --index {index}"
        out.print(Text(again), soft_wrap=True)
        return
    if done.published is not None and done.published.report is not None:
        out.print(Text(f"It does not serve: {'; '.join(done.published.report.rejection_reasons)}"), soft_wrap=True)
    use = f"To use it: shelfwise rebuild --index {index} --encoder {done.folder}"
    out.print(Text(use), soft_wrap=True)


def _show_report(report: EncoderReport) -> None:
    from service.cli.output import out, plain_table

    if not report.orders:
        return
    right = {"nDCG@10 before", "after"}
    table = plain_table(f"{report.queries:,} queries that judge", "nDCG@10 before", "after", right=right)
    for order in report.orders:
        table.add_row(order.name, f"{order.before:.4f}", "" if order.after is None else f"{order.after:.4f}")
    out.print(table)


TOWER_EXAMPLES = ((towers, "Example: shelfwise train towers --index store --judgments judgments.tsv"),)


# The command that trains the user tower: `shelfwise train users`.


def users(
    index: IndexOption = Path("store"),
    epochs: Annotated[int, typer.Option(help="The most epochs; it stops early.", min=1, max=1_000)] = 12,
    batch: Annotated[int, typer.Option(help="Windows of 50 acts a step.", min=2, max=4_096)] = 64,
    learning_rate: Annotated[float, typer.Option(help="At its height.", min=1e-6, max=0.1)] = 1e-3,
    seed: Annotated[int, typer.Option(help="Another one makes other weights.", min=0, max=1_000_000)] = 0,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train what recommends: from what shoppers did to what each did next. It serves if it is better than what does;
    what was interrupted goes on where it was."""
    check_index(index)
    import msgspec

    from rerank.user_tower.training import UserTowerOptions
    from service.cli.models import show_judged
    from service.cli.output import ProgressLines, write_json
    from service.settings import load_settings
    from service.training.user_tower import train_users

    options = UserTowerOptions(epochs=epochs, batch=batch, learning_rate=learning_rate, seed=seed)
    with ProgressLines() as progress:
        trained = train_users(index, load_settings(settings), options, progress)
    tower = trained.tower
    document = {"tower": tower.name, "serves": trained.serves, "report": tower.report, "spec": tower.spec}
    write_json(msgspec.json.encode(document)) if as_json else show_judged(tower, serves=trained.serves)


USER_TOWER_EXAMPLES = ((users, "Example: shelfwise train users --index store"),)


ClickMethodName = Literal["debiased", "propensity", "tower", "naive"]
"""The names in `rerank.training.click_training`, which is heavy to import."""

train = typer.Typer(
    name="train",
    help="Train the ranker of an index, its encoder, or what recommends: on what shoppers did, judgments, the catalog.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


add_commands(train, (*TOWER_EXAMPLES, *USER_TOWER_EXAMPLES))


@train.command(epilog="Example: shelfwise train ranker --index store")
def ranker(
    index: IndexOption = Path("store"),
    from_catalog: Annotated[
        bool,
        typer.Option("--from-catalog", help="Learn from a teacher, on queries made from the catalog, not from clicks."),
    ] = False,
    method: Annotated[
        ClickMethodName, typer.Option(help="For clicks: how the position of a clicked product is treated.")
    ] = "debiased",
    teacher: TeacherOption = DEFAULT_TEACHER,
    runtime: Annotated[
        str, typer.Option(help="Of the teacher: auto, torch, torch-bf16, onnx-fp32 or onnx-int8.")
    ] = "auto",
    queries: Annotated[
        int, typer.Option(help="How many queries to make, or to learn from the clicks of.", min=200, max=1_000_000)
    ] = 20_000,
    epochs: Annotated[int, typer.Option(help="The most epochs; it stops early.", min=1, max=100)] = 6,
    settings: SettingsOption = None,
    seed: Annotated[int, typer.Option(help="Another one makes other queries and weights.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Train a ranker, and let it serve if it is better than what does; what was interrupted goes on where it was."""
    check_index(index)
    import msgspec

    from rerank.training.distillation import DistilOptions
    from rerank.training.trainer import LoopOptions
    from service.cli.models import show_trained
    from service.cli.output import ProgressLines, write_json
    from service.settings import load_settings
    from service.training.ranker_dataset import CatalogOptions
    from service.training.training_session import train_from_catalog, train_from_clicks

    catalog = CatalogOptions(queries=queries, teacher=teacher, runtime=runtime, cache=cache_folder(), seed=seed)
    with ProgressLines() as progress:
        if from_catalog:
            added = train_from_catalog(index, catalog, DistilOptions(LoopOptions(epochs=epochs), seed=seed), progress)
        else:
            clicks = click_options(method, queries, epochs, seed)
            added = train_from_clicks(index, load_settings(settings), clicks, progress).added
    document = {"ranker": added.model.name, "serves": added.serves, "report": added.model.report}
    document |= {"removed": added.removed, "notices": added.notices}
    write_json(msgspec.json.encode(document)) if as_json else show_trained(added, index)


@train.command(epilog="Example: shelfwise train default first-store second-store --out default-ranker")
def default(
    indexes: Annotated[list[Path], typer.Argument(help="Index directories of different stores.", metavar="INDEX...")],
    out: Annotated[Path, typer.Option(help="A new folder for the ranker.")],
    teacher: TeacherOption = DEFAULT_TEACHER,
    runtime: Annotated[
        str, typer.Option(help="Of the teacher: auto, torch, torch-bf16, onnx-fp32 or onnx-int8.")
    ] = "auto",
    queries: Annotated[int, typer.Option(help="How many to make of each catalog.", min=200, max=1_000_000)] = 4_000,
    epochs: Annotated[int, typer.Option(help="The most epochs; it stops early.", min=1, max=100)] = 6,
    seed: Annotated[int, typer.Option(help="Another one makes other queries and weights.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Train one ranker on the catalogs of several stores, for stores that have none of their own: how the one that
    comes with the program was made."""
    import msgspec

    from rerank.training.distillation import DistilOptions
    from rerank.training.trainer import LoopOptions
    from service.cli.models import show_default
    from service.cli.output import ProgressLines, write_json
    from service.training.default_ranker import DefaultOptions, train_default
    from service.training.ranker_dataset import CatalogOptions

    options = DefaultOptions(
        CatalogOptions(queries=queries, teacher=teacher, runtime=runtime, cache=cache_folder(), seed=seed),
        DistilOptions(LoopOptions(epochs=epochs), seed=seed),
    )
    with ProgressLines() as progress:
        report = train_default(indexes, out, options, progress)
    write_json(msgspec.json.encode(report)) if as_json else show_default(report, out)


def click_options(method: ClickMethodName, queries: int, epochs: int, seed: int) -> ClickRankerOptions:
    """How to learn from clicks, as the options of a command say."""
    from rerank.training.click_training import ClickOptions
    from service.training.click_dataset import ClickRankerOptions

    plain = ClickOptions(seed=seed)
    return ClickRankerOptions(method, replace(plain, loop=replace(plain.loop, epochs=epochs)), queries)


# `shelfwise learn`: from the store of events to a ranker with a verdict, in one command that may run every night.


def learn(
    index: IndexOption = Path("store"),
    if_new: Annotated[
        int, typer.Option("--if-new", help="Only if so many events came since the last time.", min=0)
    ] = 0,
    method: Annotated[
        ClickMethodName, typer.Option(help="How the position of a clicked product is treated.")
    ] = "debiased",
    queries: Annotated[
        int, typer.Option(help="How many queries to learn from the clicks of.", min=200, max=1_000_000)
    ] = 20_000,
    epochs: Annotated[int, typer.Option(help="The most epochs; it stops early.", min=1, max=100)] = 6,
    seed: Annotated[int, typer.Option(help="Another one makes other weights.", min=0, max=1_000_000)] = 0,
    *,
    towers: Annotated[
        bool,
        typer.Option("--towers", help="Train the encoder first, and encode all products anew where it is better."),
    ] = False,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn from what shoppers did: clean the events, train the ranker on them and what recommends, judge both, and
    publish what is better. A report says what each step did; what was interrupted goes on where it was."""
    if not if_new:
        check_index(index)
    import msgspec

    from service.cli.output import ProgressLines, write_json
    from service.reports.training_page import show_learned, show_waiting
    from service.settings import load_settings
    from service.training.learn import learn as run
    from service.training.learn import new_events, page_path, read_record, stored_days

    loaded = load_settings(settings)
    if if_new and (new := new_events(stored_days(index, loaded), read_record(index))) < if_new:
        waiting = {"decision": "not enough new events", "new_events": new, "needed": if_new}
        write_json(msgspec.json.encode(waiting)) if as_json else show_waiting(new, if_new)
        return
    reports: list[LearnReport] = []
    try:
        with ProgressLines() as progress:
            run(
                index,
                loaded,
                _options(click_options(method, queries, epochs, seed), seed, towers),
                progress,
                reports.append,
            )
    finally:
        for report in reports:
            write_json(report.to_json()) if as_json else show_learned(report, page_path(index), index)


def _options(ranker: ClickRankerOptions, seed: int, towers: bool) -> LearnOptions:
    from rerank.user_tower.training import UserTowerOptions
    from service.training.learn import LearnOptions

    options = LearnOptions(ranker, UserTowerOptions(seed=seed))
    if not towers:
        return options
    from rerank.text_towers.options import TextTowerOptions
    from service.training.text_towers import TextTowersRequest

    return replace(options, towers=TextTowersRequest(cache=cache_folder(), options=TextTowerOptions(seed=seed)))


LEARN_EXAMPLES = ((learn, "Example: shelfwise learn --index store --if-new 5000"),)
