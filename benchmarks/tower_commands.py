"""The command that measures trained towers: `shelfwise bench towers`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.options import IndexArgument, JsonOption, cache_folder
from service.tower_commands import (
    BatchOption,
    CachedOption,
    CatalogOption,
    DropOption,
    EncoderOption,
    EpochsOption,
    FgmOption,
    LayersOption,
    LengthOption,
    LoraOption,
    LossOption,
    MarginOption,
    NearMissesOption,
    NegativesOption,
    PrecisionOption,
    RanksOption,
    RateOption,
    RoundsOption,
    SeedOption,
    TemperatureOption,
    TyposOption,
    UnlikeOption,
)


def towers(
    index: IndexArgument,
    judgments: Annotated[Path, typer.Argument(help="A judgments file.", metavar="JUDGMENTS")],
    encoder: EncoderOption = "",
    from_catalog: CatalogOption = 0,
    loss: LossOption = "softmax",
    epochs: EpochsOption = 3,
    batch: BatchOption = 128,
    learning_rate: RateOption = 1e-4,
    *,
    temperature: TemperatureOption = 0.05,
    margin: MarginOption = 0.0,
    negatives: NegativesOption = 1,
    ranks: RanksOption = "101-500",
    near_misses: NearMissesOption = 0.0,
    rounds: RoundsOption = 2,
    max_length: LengthOption = 64,
    layers: LayersOption = None,
    lora: LoraOption = None,
    typos: TyposOption = 0.0,
    drop_fields: DropOption = 0.0,
    unlike: UnlikeOption = 0.0,
    fgm: FgmOption = 0.0,
    precision: PrecisionOption = "auto",
    cached: CachedOption = True,
    runtimes: Annotated[
        str, typer.Option("--runtime", help="Of what was trained; several are separated by commas.")
    ] = "auto",
    seed: SeedOption = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="A new folder; by default one under the index's training/towers.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train the encoder on four fifths of the judged queries, and measure it on the others over the whole catalog.

    The index stays as it is; the trained towers stay where they were written.
    """
    import msgspec

    from benchmarks.towers import measure_towers, show_towers
    from retrieval.judgments import read_judgments
    from service.terminal import ProgressLines, write_json
    from service.tower_commands import tower_options
    from service.training.towers import TowersRequest

    options = tower_options(
        loss=loss,
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        temperature=temperature,
        margin=margin,
        negatives=negatives,
        ranks=ranks,
        near_misses=near_misses,
        rounds=rounds,
        max_length=max_length,
        layers=layers,
        lora=lora,
        augment=(typos, drop_fields, unlike),
        fgm=fgm,
        precision=precision,
        cached=cached,
        seed=seed,
    )
    request = TowersRequest(catalog=from_catalog, encoder=encoder, out=out, cache=cache_folder(), options=options)
    with ProgressLines() as progress:
        report = measure_towers(index, read_judgments(judgments), request, runtimes.split(","), progress)
    write_json(msgspec.json.encode(report)) if as_json else show_towers(report)


EXAMPLES = ((towers, "Example: shelfwise bench towers store judgments.tsv --runtime onnx-int8,onnx-fp32"),)
