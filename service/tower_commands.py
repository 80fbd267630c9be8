"""The command that trains the encoder: `shelfwise train towers`; its options, which the benchmark has too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service.options import IndexOption, JsonOption, SettingsOption, cache_folder

if TYPE_CHECKING:
    from rerank.towers.options import TowerOptions
    from service.training.encoder_gate import EncoderReport
    from service.training.towers import WrittenTowers

Loss = Literal["softmax", "pointwise"]
Precision = Literal["auto", "fp32", "bf16"]
TeacherWay = Literal["none", "margin", "kl"]
"""The names in `rerank.towers`, which is heavy to import."""

LossOption = Annotated[Loss, typer.Option("--loss", help="What is learned of a batch.")]
EpochsOption = Annotated[int, typer.Option("--epochs", help="The most epochs; it stops early.", min=1, max=100)]
BatchOption = Annotated[int, typer.Option("--batch", help="Positives a step.", min=2, max=65_536)]
RateOption = Annotated[float, typer.Option("--learning-rate", help="At its height.", min=1e-7, max=1e-2)]
TemperatureOption = Annotated[
    float, typer.Option("--temperature", help="What cosines are divided by.", min=0.005, max=1)
]
MarginOption = Annotated[
    float,
    typer.Option("--margin", help="By how much a positive's cosine has to be above the others'.", min=0, max=1),
]
NegativesOption = Annotated[int, typer.Option("--negatives", help="Hard negatives of each positive.", min=0, max=16)]
RanksOption = Annotated[
    str, typer.Option("--ranks", help="Which ranks of both retrievers they are drawn from, as FIRST-LAST.")
]
NearMissesOption = Annotated[
    float,
    typer.Option(
        "--near-misses",
        help="The share of positives whose first hard negative is a near product of another size or type.",
        min=0,
        max=1,
    ),
]
RoundsOption = Annotated[int, typer.Option("--rounds", help="How often they are mined anew.", min=1, max=100)]
LengthOption = Annotated[
    int, typer.Option("--max-length", help="Tokens of a text that training reads.", min=8, max=512)
]
PrecisionOption = Annotated[
    Precision, typer.Option("--precision", help="Of the computing; auto is bf16 where the device is faster in it.")
]
TrainLayersOption = Annotated[
    int | None,
    typer.Option("--train-layers", help="Train so many of the upper layers; by default all, and embeddings.", min=1),
]
LayersOption = Annotated[
    int | None,
    typer.Option(
        "--layers", help="Keep so many layers of what was trained, taught by all: faster, and less good.", min=1
    ),
]
LoraOption = Annotated[
    int | None,
    typer.Option("--lora", help="Train adapters of this rank in place of the model's own weights.", min=1, max=1024),
]
TyposOption = Annotated[
    float, typer.Option("--typos", help="The share of queries that get a typing error.", min=0, max=1)
]
UnitsOption = Annotated[
    float, typer.Option("--units", help="The share of queries with units spelled in another way.", min=0, max=1)
]
BrandsOption = Annotated[
    float, typer.Option("--brands", help="The share of queries asked without their brand.", min=0, max=1)
]
DropOption = Annotated[
    float, typer.Option("--drop-fields", help="The share of positives read without some fields.", min=0, max=1)
]
UnlikeOption = Annotated[
    float, typer.Option("--unlike", help="The share of positives read without their query's words.", min=0, max=1)
]
FgmOption = Annotated[
    float,
    typer.Option("--fgm", help="Look at each batch again, embeddings moved so far up its gradient.", min=0, max=100),
]
MixingOption = Annotated[
    bool,
    typer.Option("--mixing/--no-mixing", help="Mix what was learned with the weights before, as is best."),
]
MatryoshkaOption = Annotated[
    str,
    typer.Option(
        "--matryoshka",
        help="Also train the first columns of vectors to do alone, such as 128,64; see rebuild --dimension.",
    ),
]
CachedOption = Annotated[
    bool,
    typer.Option(
        "--cached-gradients/--whole-batches",
        help="Few texts in memory at a time, for any batch; or all of a batch's, a quarter faster.",
    ),
]
TeacherOption = Annotated[
    str, typer.Option("--teacher", help="A cross-encoder whose scores are learned beside, if any.")
]
TeacherLossOption = Annotated[
    TeacherWay, typer.Option("--teacher-loss", help="How they are; margin where a teacher is named.")
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
SeedOption = Annotated[int, typer.Option("--seed", help="Another one draws other batches.", min=0, max=1_000_000)]


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
    loss: LossOption = "softmax",
    epochs: EpochsOption = 3,
    batch: BatchOption = 128,
    *,
    paraphrases: ParaphrasesOption = False,
    synthetic: SyntheticOption = 0,
    learning_rate: RateOption = 1e-4,
    temperature: TemperatureOption = 0.05,
    margin: MarginOption = 0.0,
    negatives: NegativesOption = 1,
    ranks: RanksOption = "101-500",
    near_misses: NearMissesOption = 0.0,
    rounds: RoundsOption = 2,
    max_length: LengthOption = 64,
    train_layers: TrainLayersOption = None,
    layers: LayersOption = None,
    lora: LoraOption = None,
    typos: TyposOption = 0.0,
    units: UnitsOption = 0.0,
    brands: BrandsOption = 0.0,
    drop_fields: DropOption = 0.0,
    unlike: UnlikeOption = 0.0,
    fgm: FgmOption = 0.0,
    mixing: MixingOption = True,
    matryoshka: MatryoshkaOption = "",
    precision: PrecisionOption = "auto",
    cached: CachedOption = True,
    teacher: TeacherOption = "",
    teacher_loss: TeacherLossOption = "none",
    seed: SeedOption = 0,
    tune: TuneOption = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="A new folder; by default one under the index's training/towers.")
    ] = None,
    aside: Annotated[
        bool, typer.Option("--aside", help="Only write the folder: nothing that serves is looked at or changed.")
    ] = False,
    runtime: Annotated[
        str, typer.Option(help="What it serves in: auto, torch, torch-bf16, onnx-fp32 or onnx-int8.")
    ] = "auto",
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the encoder of an index on judged queries or on clicks, and let it serve if it is better: the catalog is
    encoded by it, and a fifth of the queries judge. What was interrupted goes on where it was."""
    import msgspec

    from service.settings import load_settings
    from service.terminal import ProgressLines, write_json
    from service.training.towers import TowersRequest, train_text_towers

    options = tower_options(
        loss=loss,
        teacher=teacher,
        teacher_loss=teacher_loss,
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
        train_layers=train_layers,
        layers=layers,
        lora=lora,
        augment=(typos, units, brands, drop_fields, unlike),
        fgm=fgm,
        mixing=mixing,
        matryoshka=matryoshka,
        precision=precision,
        cached=cached,
        seed=seed,
    )
    request = TowersRequest(
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
        options=options,
        tune=tune,
    )
    with ProgressLines() as progress:
        done = train_text_towers(index, load_settings(settings), request, progress)
    document = {"folder": str(done.folder), "towers": done.spec, "published": done.published}
    write_json(msgspec.json.encode(document)) if as_json else _show(done, index)


def tower_options(
    *,
    loss: Loss,
    epochs: int,
    batch: int,
    learning_rate: float,
    temperature: float,
    margin: float,
    negatives: int,
    ranks: str,
    near_misses: float,
    rounds: int,
    max_length: int,
    train_layers: int | None,
    layers: int | None,
    lora: int | None,
    augment: tuple[float, float, float, float, float],
    fgm: float,
    mixing: bool,
    matryoshka: str,
    precision: Precision,
    cached: bool,
    teacher: str,
    teacher_loss: TeacherWay,
    seed: int,
) -> TowerOptions:
    """How to train, as the options of a command say; raises SettingError for ranks or dimensions that are none, and for
    near misses where there are no hard negatives."""
    from rerank.towers.augmentation import AugmentOptions
    from rerank.towers.losses import LossOptions
    from rerank.towers.negatives import NegativeOptions
    from rerank.towers.options import TowerOptions
    from retrieval.errors import SettingError

    way = "margin" if teacher and teacher_loss == "none" else teacher_loss
    if near_misses and not negatives:
        raise SettingError(
            f"--near-misses {near_misses:g} with --negatives 0: a near miss is a hard negative; name 1 or more of these"
        )
    return TowerOptions(
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        rounds=rounds,
        max_length=max_length,
        precision=precision,
        train_layers=train_layers,
        layers=layers,
        lora=lora,
        fgm=fgm,
        mix=mixing,
        augment=AugmentOptions(*augment),
        loss=LossOptions(
            loss, temperature, margin, teacher=way, dimensions=named_dimensions(matryoshka), cached=cached
        ),
        negatives=NegativeOptions(negatives, *rank_window(ranks), near_misses=near_misses),
        seed=seed,
    )


def rank_window(text: str) -> tuple[int, int]:
    """FIRST-LAST as numbers; raises SettingError for anything else."""
    from retrieval.errors import SettingError

    first, _, last = text.partition("-")
    if first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) <= 10_000:
        return int(first), int(last)
    raise SettingError(
        f"--ranks: {text[:40]!r} is no window of ranks; write two numbers of 1 to 10000, such as 101-500"
    )


def named_dimensions(text: str) -> tuple[int, ...]:
    """The numbers of a list with commas, greatest first; raises SettingError for anything else."""
    from retrieval.errors import SettingError

    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if not all(part.isdecimal() and 1 <= int(part) <= 10_000 for part in parts):
        raise SettingError(f"--matryoshka: {text[:40]!r} is no list of dimensions; write numbers, such as 128,64")
    return tuple(sorted({int(part) for part in parts}, reverse=True))


def _show(done: WrittenTowers, index: Path) -> None:
    from rich.text import Text

    from service.terminal import out, plain_table, show_notices

    spec = done.spec
    table = plain_table("part", "loss", "nDCG@10", "", right={"part", "loss", "nDCG@10"})
    for epoch in spec.curve:
        lost = "" if epoch.loss is None else f"{epoch.loss:.4f}"
        table.add_row(f"{epoch.number}", lost, f"{epoch.validation:.4f}", "kept" if epoch.number == spec.best else "")
    table.add_row("", "", f"{spec.validation:.4f}", f"{spec.share:.0%} of what was learned")
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
        out.print(Text(f"It does not serve: {'; '.join(done.published.report.aside)}"), soft_wrap=True)
    use = f"To use it: shelfwise rebuild --index {index} --encoder {done.folder}"
    out.print(Text(use), soft_wrap=True)


def _show_report(report: EncoderReport) -> None:
    from service.terminal import out, plain_table

    if not report.orders:
        return
    right = {"nDCG@10 before", "after"}
    table = plain_table(f"{report.queries:,} queries that judge", "nDCG@10 before", "after", right=right)
    for order in report.orders:
        table.add_row(order.name, f"{order.before:.4f}", "" if order.after is None else f"{order.after:.4f}")
    out.print(table)


EXAMPLES = ((towers, "Example: shelfwise train towers --index store --judgments judgments.tsv"),)
