"""Arguments and options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from indexer.mapping import FeedMapping
    from service.engine import SearchEngine


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
    from retrieval.published import Store

    Store(index).check_ours()


def add_commands(app: typer.Typer, commands: Sequence[tuple[Callable[..., None], str]]) -> None:
    """Makes commands part of a program, each with the example that its help ends with."""
    for command, example in commands:
        app.command(epilog=example)(command)


def opened_engine(index: Path) -> SearchEngine:
    """The engine of an index; what is wrong with it is shown."""
    from service.engine import SearchEngine
    from service.terminal import show_notices

    engine = SearchEngine.open(index)
    show_notices(engine.notices)
    return engine


def feed_mapping(mapping: Path | None, maps: list[str] | None) -> FeedMapping:
    """The mapping that a file and flags make; raises FeedError for one that cannot be used."""
    from indexer.mapping import FeedMapping, load_mapping, parse_map_flags

    return parse_map_flags(maps or (), load_mapping(mapping) if mapping else FeedMapping())


def cache_folder() -> Path:
    """Where exported models are kept: $XDG_CACHE_HOME/shelfwise, or ~/.cache/shelfwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shelfwise"
