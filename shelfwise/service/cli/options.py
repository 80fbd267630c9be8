"""Commands from functions: shared arguments and options, and options from the fields of dataclasses."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_type_hints

from typer import Argument, Option

from shelfwise.indexer.feeds.mapping import FeedMapping, load_mapping, parse_map_flags
from shelfwise.retrieval.errors import SettingError, StoreMissingError
from shelfwise.retrieval.store.manifest import MARKER
from shelfwise.service.cli.output import json_output

if TYPE_CHECKING:
    from shelfwise.rerank.text_towers.task import TextTowerOptions


Backend = Literal["embedded", "elasticsearch"]


def check_index(index: Path) -> None:
    """Raises StoreMissingError or StoreForeignError for a folder that is not an index."""
    from shelfwise.retrieval.store.versions import Store

    Store(index).check_ours()


Index = Annotated[Path, Argument(help="An index directory, created by: shelfwise rebuild", metavar="INDEX")]
PublishedIndex = Annotated[Index, check_index]
"""An index that a command checks first."""
Feeds = Annotated[
    list[str], Argument(help="Feeds as exported by a shop, plain, gzip or zstd; - for standard input.", metavar="FEED")
]
OneFeed = Annotated[Path, Argument(help="A feed in JSON lines, plain, gzip or zstd.", metavar="FEED")]
JudgmentsFile = Annotated[Path, Argument(help="Tab-separated: query, product_id, grade.", metavar="JUDGMENTS.tsv")]
QueriesFile = Annotated[
    Path | None, Option("--judgments", help="Use the queries of this file; by default parts of titles.")
]
By = Annotated[str, Option("--by", help="Author of the change for the history; may be a pseudonym.", metavar="NAME")]
SettingsFile = Annotated[
    Path | None, Option("--settings", help="A TOML file; by default shelfwise.toml, if there is one.")
]
Workers = Annotated[
    int | None, Option("--workers", help="Processes that read and check; by default one per core.", min=1)
]
Filter = Annotated[str, Option("--filter", help="Only products that match this expression.")]
HtmlFile = Annotated[Path | None, Option("--html", help="Also write the report as one HTML page.")]
_Json = Annotated[bool, Option("--json", help="Print one JSON document and nothing else.")]


@dataclass(frozen=True, slots=True)
class FeedFormat:
    """Options for reading feeds."""

    format: Annotated[str, Option(help="Format of the feeds; detected by default.")] = ""
    mapping: Annotated[Path | None, Option(help="A JSON or TOML file that maps feed fields to product fields.")] = None
    map: Annotated[list[str] | None, Option(help="Mapping of one field: title=product_name. Repeatable.")] = None

    def fields(self) -> FeedMapping:
        """The mapping by the file and the flags; raises FeedError if it is invalid."""
        return parse_map_flags(self.map or (), load_mapping(self.mapping) if self.mapping else FeedMapping())


def command(example: str, *, json: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a command from a function. Parameters that are dataclasses become options, one for each field, and a
    `PublishedIndex` is checked. Unless `json` is off, --json is added, which `emit` reads. `example` ends the help."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        kinds = get_type_hints(function, include_extras=True)
        parameters: list[inspect.Parameter] = []
        packed: dict[str, tuple[type[Any], list[str]]] = {}
        for name, each in inspect.signature(function).parameters.items():
            if is_dataclass(kinds[name]):
                options = options_of(kinds[name])
                packed[name] = (kinds[name], [option.name for option in options])
                parameters += options
            else:
                parameters.append(_keyword(name, kinds[name], each.default))
        if json:
            parameters.append(_keyword("as_json", _Json, False))
        checked = [name for name, kind in kinds.items() if check_index in get_args(kind)]
        defaults = {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}

        @wraps(function)
        def run(*positional: Any, **keywords: Any) -> None:  # noqa: ANN401 - the function's own
            values = defaults | dict(zip((each.name for each in parameters), positional, strict=False)) | keywords
            for name, (kind, names) in packed.items():
                values[name] = kind(**{each: values.pop(each) for each in names})
            token = json_output.set(values.pop("as_json", False))
            try:
                for name in checked:
                    check_index(values[name])
                function(**values)
            except StoreMissingError as error:
                given = [each for value in values.values() for each in (value if isinstance(value, list) else [value])]
                paths = (each for each in given if isinstance(each, str | Path))
                index = next((each for each in paths if (Path(each) / MARKER).is_file()), None)
                if index is None or index == values.get("index"):
                    raise
                message = f"{values.get('index')} is not an index, but {index} is: the index is the first argument"
                raise StoreMissingError(message) from error
            finally:
                json_output.reset(token)

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        run.example = example  # type: ignore[attr-defined]
        return run

    return decorate


def options_of(kind: type[Any]) -> list[inspect.Parameter]:
    """A parameter for each field of a frozen dataclass, whose annotations contain typer options."""
    kinds = get_type_hints(kind, include_extras=True)
    none = inspect.Parameter.empty
    return [
        _keyword(each.name, kinds[each.name], none if each.default is MISSING else each.default)
        for each in fields(kind)
    ]


def _keyword(name: str, kind: object, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


Teacher = Annotated[str, Option("--teacher", help="Name or folder of a cross-encoder.")]
_RUNTIMES = "auto, torch, torch-bf16, onnx-fp32 or onnx-int8; for a table static-fp32 or static-int8."
Runtime = Annotated[str, Option("--runtime", help=_RUNTIMES)]
_share = partial(Option, min=0, max=1)
_up_to_a_million = partial(Option, min=0, max=1_000_000)


@dataclass(frozen=True, slots=True)
class TowerTrainingOptions:
    """Training options of text towers."""

    encoder: Annotated[str, Option(help="Model to start from; by default that of the index.")] = ""
    tune: Annotated[
        int, Option(help="Runs that tune learning rate, temperature, margin and negatives first.", min=0, max=1_000)
    ] = 0
    out: Annotated[Path | None, Option(help="A new folder; by default one under the index's training/towers.")] = None
    loss: Annotated[Literal["softmax", "pointwise"], Option(help="Loss function.")] = "softmax"
    epochs: Annotated[
        int | None, Option(help="Maximum; it stops early. By default 3, and 5 for a static encoder.", min=1, max=100)
    ] = None
    batch: Annotated[
        int | None, Option(help="Positives a step; by default 128, up to 512 for a static encoder.", min=2, max=65_536)
    ] = None
    learning_rate: Annotated[
        float | None, Option(help="Maximum; by default 1e-4, and 2e-3 for a static encoder.", min=1e-7, max=1e-1)
    ] = None
    temperature: Annotated[float, Option(help="Divisor of cosines.", min=0.005, max=1)] = 0.05
    margin: Annotated[float, _share(help="Margin by which a positive's cosine must exceed the others.")] = 0.0
    negatives: Annotated[int, Option(help="Hard negatives of each positive.", min=0, max=16)] = 1
    ranks: Annotated[str, Option(help="Ranks of both retrievers for negatives, as FIRST-LAST.")] = "101-500"
    rounds: Annotated[int, Option(help="Parts of the training, each with newly mined negatives.", min=1, max=100)] = 2
    max_length: Annotated[int, Option(help="Maximum number of tokens of a text.", min=8, max=512)] = 64
    lora: Annotated[
        int | None, Option(help="Train adapters of this rank instead of the model's own weights.", min=1, max=1024)
    ] = None
    typos: Annotated[float, _share(help="Share of queries that get a typing error.")] = 0.0
    units: Annotated[float, _share(help="Share of queries whose units are respelled.")] = 0.0
    brands: Annotated[float, _share(help="Share of queries whose brand is removed.")] = 0.0
    drop_fields: Annotated[float, _share(help="Share of positives read without some fields.")] = 0.0
    unlike: Annotated[float, _share(help="Share of positives read without the query's words.")] = 0.0
    fgm: Annotated[
        float, Option(help="Adversarial training: step of embeddings along the gradient.", min=0, max=100)
    ] = 0.0
    mixing: Annotated[bool, Option("--mixing/--no-mixing", help="Mix trained and old weights at the best ratio.")] = (
        True
    )
    averaging: Annotated[bool, Option("--averaging", help="Use the mean weights of several parts if it is better.")] = (
        False
    )
    matryoshka: Annotated[
        str, Option(help="Train the first columns of vectors to suffice alone, as 128,64; see rebuild --dimension.")
    ] = ""
    precision: Annotated[Literal["auto", "fp32", "bf16"], Option(help="auto is bf16 on a GPU that has it.")] = "auto"
    cached: Annotated[
        bool,
        Option(
            "--cached-gradients/--whole-batches",
            help="Few texts in memory at a time, for any batch size; or whole batches, a quarter faster.",
        ),
    ] = True
    seed: Annotated[int, _up_to_a_million(help="Seed of the batches.")] = 0

    def options(self) -> TextTowerOptions:
        """The training options. Raises SettingError for invalid ranks or dimensions, or a margin without effect."""
        from shelfwise.rerank.text_towers.dataset import AugmentOptions
        from shelfwise.rerank.text_towers.task import NegativeOptions, TextTowerOptions
        from shelfwise.rerank.text_towers.tower_loss import LossOptions

        if self.margin and self.loss == "pointwise":
            raise SettingError(
                f"--margin {self.margin:g} with --loss pointwise, which has no margin: leave out one of the two"
            )
        return TextTowerOptions(
            epochs=self.epochs or 0,
            batch=self.batch or 0,
            learning_rate=self.learning_rate or 0.0,
            rounds=self.rounds,
            max_length=self.max_length,
            precision=self.precision,
            lora=self.lora,
            fgm=self.fgm,
            mix=self.mixing,
            average=self.averaging,
            augment=AugmentOptions(self.typos, self.units, self.brands, self.drop_fields, self.unlike),
            loss=LossOptions(
                self.loss,
                self.temperature,
                self.margin,
                dimensions=parse_dimensions(self.matryoshka),
                cached=self.cached,
            ),
            negatives=NegativeOptions(self.negatives, *parse_ranks(self.ranks)),
            seed=self.seed,
        )


def parse_ranks(text: str) -> tuple[int, int]:
    """FIRST-LAST as numbers; raises SettingError for anything else."""
    first, _, last = text.partition("-")
    if first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) <= 10_000:
        return int(first), int(last)
    raise SettingError(
        f"--ranks: {text[:40]!r} is not a range of ranks; write two numbers of 1 to 10000, such as 101-500"
    )


def parse_dimensions(text: str) -> tuple[int, ...]:
    """The numbers of a comma-separated list, greatest first; raises SettingError for anything else."""
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if not all(part.isdecimal() and 1 <= int(part) <= 10_000 for part in parts):
        raise SettingError(f"--matryoshka: {text[:40]!r} is not a list of dimensions; write numbers, such as 128,64")
    return tuple(sorted({int(part) for part in parts}, reverse=True))
