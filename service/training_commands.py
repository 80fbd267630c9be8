"""The commands that train: `shelfwise train`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rerank.teacher.default import DEFAULT_TEACHER
from service import shopper_commands, tower_commands
from service.options import (
    IndexOption,
    JsonOption,
    SettingsOption,
    TeacherOption,
    add_commands,
    cache_folder,
    check_index,
)

if TYPE_CHECKING:
    from service.training.click_material import FromClicks

ClickWay = Literal["debiased", "propensity", "tower", "naive"]
"""The names in `rerank.training.click_training`, which is heavy to import."""

train = typer.Typer(
    name="train",
    help="Train the ranker of an index, its encoder, or what recommends: on what shoppers did, judgments, the catalog.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


add_commands(train, (*tower_commands.EXAMPLES, *shopper_commands.EXAMPLES))


@train.command(epilog="Example: shelfwise train ranker --index store")
def ranker(
    index: IndexOption = Path("store"),
    from_catalog: Annotated[
        bool,
        typer.Option("--from-catalog", help="Learn from a teacher, on queries made from the catalog, not from clicks."),
    ] = False,
    way: Annotated[
        ClickWay, typer.Option(help="Of learning from clicks: what is made of the place that a product stood at.")
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
    from rerank.training.loop import LoopOptions
    from service.model_views import show_trained
    from service.settings import load_settings
    from service.terminal import ProgressLines, write_json
    from service.training.from_catalog import CatalogOptions
    from service.training.training import train_from_catalog, train_from_clicks

    catalog = CatalogOptions(queries=queries, teacher=teacher, runtime=runtime, cache=cache_folder(), seed=seed)
    with ProgressLines() as progress:
        if from_catalog:
            added = train_from_catalog(index, catalog, DistilOptions(LoopOptions(epochs=epochs), seed=seed), progress)
        else:
            clicks = click_options(way, queries, epochs, seed)
            added = train_from_clicks(index, load_settings(settings), clicks, progress).added
    document = {"ranker": added.ranker.name, "serves": added.serves, "report": added.ranker.report}
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
    from rerank.training.loop import LoopOptions
    from service.model_views import show_default
    from service.terminal import ProgressLines, write_json
    from service.training.default_ranker import DefaultOptions, train_default
    from service.training.from_catalog import CatalogOptions

    options = DefaultOptions(
        CatalogOptions(queries=queries, teacher=teacher, runtime=runtime, cache=cache_folder(), seed=seed),
        DistilOptions(LoopOptions(epochs=epochs), seed=seed),
    )
    with ProgressLines() as progress:
        report = train_default(indexes, out, options, progress)
    write_json(msgspec.json.encode(report)) if as_json else show_default(report, out)


def click_options(way: ClickWay, queries: int, epochs: int, seed: int) -> FromClicks:
    """How to learn from clicks, as the options of a command say."""
    from rerank.training.click_training import ClickOptions
    from service.training.click_material import FromClicks

    plain = ClickOptions(seed=seed)
    return FromClicks(way, replace(plain, loop=replace(plain.loop, epochs=epochs)), queries)
