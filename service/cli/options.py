"""Arguments and options that several commands share."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial, wraps
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Literal, get_type_hints

import typer

if TYPE_CHECKING:
    from indexer.feeds.mapping import FeedMapping
    from rerank.text_towers.options import TextTowerOptions
    from service.engine.engine import SearchEngine


class Backend(StrEnum):
    """Where words are searched."""

    EMBEDDED = "embedded"
    ELASTICSEARCH = "elasticsearch"


class VectorsBackend(StrEnum):
    """Where vectors are searched."""

    FAISS = "faiss"
    ELASTICSEARCH = "elasticsearch"


IndexOption = Annotated[Path, typer.Option("--index", help="The index directory.")]
IndexArgument = Annotated[Path, typer.Argument(help="An index directory, made by: shelfwise rebuild", metavar="DIR")]
TeacherOption = Annotated[str, typer.Option("--teacher", help="A cross-encoder's name or folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
ByOption = Annotated[
    str, typer.Option("--by", help="Who does it, written down beside the change; a pseudonym will do.", metavar="NAME")
]
FeedsArgument = Annotated[
    list[str],
    typer.Argument(help="Feeds as a shop exports them, plain, gzip or zstd; - is standard input.", metavar="FEED..."),
]
OptionalFeedsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        help="Feeds as a shop exports them, plain, gzip or zstd; - is standard input. "
        "Without one, the version that serves is moved to the backend, or encoded by the encoder.",
        metavar="[FEED...]",
    ),
]
BackendOption = Annotated[
    Backend | None,
    typer.Option("--backend", help="Where words are searched; by default as set, or as it is with the index."),
]
VectorsOption = Annotated[
    VectorsBackend | None,
    typer.Option("--vectors", help="Where vectors are searched; by default as set, or as it is with the index."),
]
SettingsOption = Annotated[
    Path | None, typer.Option("--settings", help="A TOML file; by default shelfwise.toml, if there is one.")
]
FormatOption = Annotated[str, typer.Option("--format", help="The feeds' format; by default it is recognised.")]
MappingOption = Annotated[
    Path | None, typer.Option("--mapping", help="A JSON or TOML file that names the feed's fields.")
]
MapOption = Annotated[list[str] | None, typer.Option("--map", help="One field: title=product_name. Repeatable.")]
RulesOption = Annotated[Path | None, typer.Option("--rules", help="A TOML file with quality rules of your own.")]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", help="Processes that read and check; by default one a core.", min=1)
]


def check_index(index: Path) -> None:
    """Raises StoreMissingError or StoreForeignError where no index is, before what takes long to load."""
    from retrieval.store.versions import Store

    Store(index).check_ours()


def add_commands(app: typer.Typer, commands: Sequence[tuple[Callable[..., None], str]]) -> None:
    """Makes commands part of a program, each with the example that its help ends with."""
    for command, example in commands:
        app.command(epilog=example)(command)


def opened_engine(index: Path) -> SearchEngine:
    """The engine of an index; what is wrong with it is shown."""
    from service.cli.output import show_notices
    from service.engine.engine import SearchEngine

    engine = SearchEngine.open(index)
    show_notices(engine.notices)
    return engine


def feed_mapping(mapping: Path | None, maps: list[str] | None) -> FeedMapping:
    """The mapping that a file and flags make; raises FeedError for one that cannot be used."""
    from indexer.feeds.mapping import FeedMapping, load_mapping, parse_map_flags

    return parse_map_flags(maps or (), load_mapping(mapping) if mapping else FeedMapping())


def cache_folder() -> Path:
    """Where exported models are kept: $XDG_CACHE_HOME/shelfwise, or ~/.cache/shelfwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shelfwise"


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
RoundsOption = Annotated[
    int,
    typer.Option(
        "--rounds", help="Parts of the training; each draws others, mined by the weights so far.", min=1, max=100
    ),
]
LengthOption = Annotated[
    int, typer.Option("--max-length", help="Tokens of a text that training reads.", min=8, max=512)
]
DropoutOption = Annotated[
    float | None,
    typer.Option("--dropout", help="The share of activations left out; by default the model's own.", min=0, max=0.9),
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
AveragingOption = Annotated[
    bool,
    typer.Option("--averaging", help="Keep the mean of several parts' weights, where it is better than each of them."),
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
TowerTeacherOption = Annotated[
    str, typer.Option("--teacher", help="A cross-encoder whose scores are learned beside, if any.")
]
TeacherLossOption = Annotated[
    TeacherWay, typer.Option("--teacher-loss", help="How they are; margin where a teacher is named.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="Another one draws other batches.", min=0, max=1_000_000)]


def tower_options(
    *,
    loss: LossOption = "softmax",
    epochs: EpochsOption = 3,
    batch: BatchOption = 128,
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
    dropout: DropoutOption = None,
    fgm: FgmOption = 0.0,
    mixing: MixingOption = True,
    averaging: AveragingOption = False,
    matryoshka: MatryoshkaOption = "",
    precision: PrecisionOption = "auto",
    cached: CachedOption = True,
    teacher: TowerTeacherOption = "",
    teacher_loss: TeacherLossOption = "none",
    seed: SeedOption = 0,
) -> TextTowerOptions:
    """How to train, as the options of a command say; raises SettingError for ranks or dimensions that are none, for a
    teacher or near misses where there are no hard negatives, and for a margin of the pointwise loss."""
    from rerank.text_towers.dataset import AugmentOptions
    from rerank.text_towers.losses import LossOptions
    from rerank.text_towers.negatives import NegativeOptions
    from rerank.text_towers.options import TextTowerOptions
    from retrieval.errors import SettingError

    way = "margin" if teacher and teacher_loss == "none" else teacher_loss
    if way != "none" and not teacher:
        raise SettingError(f"--teacher-loss {way} without a teacher: name a cross-encoder as --teacher")
    if way != "none" and not negatives:
        raise SettingError(
            "--teacher with --negatives 0: a teacher tells a positive from its hard negatives; name 1 or more of these"
        )
    if margin and loss == "pointwise":
        raise SettingError(f"--margin {margin:g} with --loss pointwise, which has none: leave out one of the two")
    if near_misses and not negatives:
        raise SettingError(
            f"--near-misses {near_misses:g} with --negatives 0: a near miss is a hard negative; name 1 or more of these"
        )
    return TextTowerOptions(
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        rounds=rounds,
        max_length=max_length,
        precision=precision,
        train_layers=train_layers,
        layers=layers,
        lora=lora,
        dropout=dropout,
        fgm=fgm,
        mix=mixing,
        average=averaging,
        augment=AugmentOptions(typos, units, brands, drop_fields, unlike),
        loss=LossOptions(
            loss, temperature, margin, teacher=way, dimensions=named_dimensions(matryoshka), cached=cached
        ),
        negatives=NegativeOptions(negatives, *rank_window(ranks), near_misses=near_misses),
        seed=seed,
    )


def takes_tower_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command all options of `tower_options`, behind its own; it is called with a function as `options`, which
    says what they say, and raises as `tower_options`: what that loads takes seconds."""
    own, shared = inspect.signature(command).parameters, inspect.signature(tower_options).parameters
    told = {name: kind for name, kind in command.__annotations__.items() if name != "options"}
    kinds = get_type_hints(SimpleNamespace(__annotations__=told), command.__globals__, include_extras=True)
    said = {name: kind for name, kind in tower_options.__annotations__.items() if name != "return"}
    kinds |= get_type_hints(SimpleNamespace(__annotations__=said), globals(), include_extras=True)
    merged = {**{name: each for name, each in own.items() if name != "options"}, **shared}

    @wraps(command)
    def called(**given: object) -> None:
        options = partial(tower_options, **{name: given[name] for name in shared})  # type: ignore[arg-type]
        command(**{name: each for name, each in given.items() if name in own}, options=options)

    keyword = inspect.Parameter.KEYWORD_ONLY
    called.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [each.replace(kind=keyword, annotation=kinds[name]) for name, each in merged.items()]
    )
    called.__annotations__ = kinds
    return called


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
