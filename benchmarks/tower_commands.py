"""The command that measures trained towers: `shelfwise bench towers`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.options import IndexArgument, JsonOption, SettingsOption, cache_folder
from service.tower_commands import CatalogOption, EncoderOption, OutOption, SyntheticOption, TuneOption
from service.tower_options import (
    BatchOption,
    EpochsOption,
    LengthOption,
    RateOption,
    SeedOption,
    TeacherOption,
    TemperatureOption,
    takes_tower_options,
)

if TYPE_CHECKING:
    from rerank.towers.options import TowerOptions


@takes_tower_options
def towers(
    index: IndexArgument,
    judgments: Annotated[Path, typer.Argument(help="A judgments file.", metavar="JUDGMENTS")],
    encoder: EncoderOption = "",
    from_catalog: CatalogOption = 0,
    *,
    synthetic: SyntheticOption = 0,
    tune: TuneOption = 0,
    teacher: TeacherOption = "",
    runtimes: Annotated[
        str, typer.Option("--runtime", help="Of what was trained; several are separated by commas.")
    ] = "auto",
    out: OutOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
    options: Callable[[], TowerOptions],
) -> None:
    """Train the encoder on four fifths of the judged queries, and measure it on the others over the whole catalog.

    The index stays as it is; the trained towers stay where they were written.
    """
    import msgspec

    from benchmarks.towers import measure_towers, show_towers
    from retrieval.judgments import read_judgments
    from service.settings import load_settings
    from service.terminal import ProgressLines, write_json
    from service.training.towers import TowersRequest

    request = TowersRequest(
        catalog=from_catalog,
        synthetic=synthetic,
        encoder=encoder,
        teacher=teacher,
        out=out,
        cache=cache_folder(),
        options=options(),
        tune=tune,
    )
    named, loaded = [each.strip() for each in runtimes.split(",")], load_settings(settings)
    with ProgressLines() as progress:
        report = measure_towers(index, loaded, read_judgments(judgments), request, named, progress)
    write_json(msgspec.json.encode(report)) if as_json else show_towers(report)


def tower_ways(
    index: IndexArgument,
    judgments: Annotated[Path, typer.Argument(help="A judgments file.", metavar="JUDGMENTS")],
    ways: Annotated[
        str, typer.Option("--ways", help="Those to measure beside the plain one, with commas; by default all.")
    ] = "",
    share: Annotated[
        float, typer.Option("--share", help="Of the queries that may train; the rest measures.", min=0.01, max=0.95)
    ] = 0.3,
    encoder: EncoderOption = "",
    epochs: EpochsOption = 2,
    batch: BatchOption = 128,
    *,
    learning_rate: RateOption = 1e-4,
    temperature: TemperatureOption = 0.05,
    max_length: LengthOption = 32,
    teacher: TeacherOption = "",
    runtime: Annotated[str, typer.Option("--runtime", help="Of what was trained.")] = "auto",
    seed: SeedOption = 0,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the encoder in one way after the other, with the same queries and time, and measure what each gives."""
    import msgspec

    from benchmarks.tower_ways import measure_ways, show_ways, ways_of
    from rerank.towers.losses import LossOptions
    from rerank.towers.options import TowerOptions
    from retrieval.judgments import read_judgments
    from service.settings import load_settings
    from service.terminal import ProgressLines, write_json
    from service.training.towers import TowersRequest

    options = TowerOptions(
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        max_length=max_length,
        # Of what takes time beside the steps, little.
        parts=1,
        rounds=1,
        pool=2_000,
        mix=False,
        loss=LossOptions(temperature=temperature, cached=False),
        seed=seed,
    )
    request = TowersRequest(encoder=encoder, teacher=teacher, cache=cache_folder(), options=options)
    names = [each.strip() for each in ways.split(",")] if ways else ways_of(teacher)
    loaded = load_settings(settings)
    with ProgressLines() as progress:
        report = measure_ways(index, loaded, read_judgments(judgments), request, share, names, runtime, progress)
    write_json(msgspec.json.encode(report)) if as_json else show_ways(report)


EXAMPLES = (
    (towers, "Example: shelfwise bench towers store judgments.tsv --runtime onnx-int8,onnx-fp32"),
    (tower_ways, "Example: shelfwise bench tower-ways store judgments.tsv --ways pointwise,lora,fgm"),
)
