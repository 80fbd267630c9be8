"""The commands that measure how data comes in: reading, rebuilding, live changes, defects, faults."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from service.options import IndexArgument, JsonOption, WorkersOption, cache_folder

if TYPE_CHECKING:
    from indexer.build import RebuildOptions

FeedArgument = Annotated[Path, typer.Argument(help="A feed in JSON lines, plain, gzip or zstd.", metavar="FEED")]


def reading(
    feed: FeedArgument,
    rows: Annotated[str, typer.Option(help="Sizes to check, separated by commas.")] = "100000,2000000",
    as_json: JsonOption = False,
) -> None:
    """Time reading and checking a feed grown to several sizes, and the memory that it takes."""
    import msgspec

    from benchmarks.data_tables import show_reading
    from benchmarks.reading import measure_reading
    from service.terminal import ProgressLines, write_json

    measured = []
    with TemporaryDirectory() as folder, ProgressLines() as progress:
        for count in map(int, rows.split(",")):
            progress.begin(f"{count:,} rows", None, "")
            measured.append(measure_reading(feed, Path(folder), count))
            progress.end(f"{measured[-1].rows_per_second:,.0f} rows a second")
    document = [asdict(each) | {"rows_per_second": each.rows_per_second} for each in measured]
    write_json(msgspec.json.encode(document)) if as_json else show_reading(measured)


def incremental(
    feed: FeedArgument,
    share: Annotated[float, typer.Option(help="How many of the products change.", min=0, max=1)] = 0.01,
    encoder: Annotated[str, typer.Option(help="A model's name or folder.")] = "all-MiniLM-L6-v2",
    workers: WorkersOption = None,
    without_states: Annotated[
        bool, typer.Option("--without-states", help="Build once more without token states, to see what they take.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Time a rebuild after a few products changed, against the build from nothing."""
    import msgspec

    from benchmarks.data_tables import show_rebuilds
    from benchmarks.incremental import measure_rebuilds
    from indexer.build import RebuildOptions
    from service.terminal import ProgressLines, write_json

    def options(path: Path) -> RebuildOptions:
        return RebuildOptions((str(path),), cache_folder(), encoder=encoder, workers=workers)

    measured = []
    with TemporaryDirectory() as folder, ProgressLines() as progress:
        progress.begin("builds", 3 + without_states, "builds")
        for build in measure_rebuilds(feed, Path(folder), options, share, without_states=without_states):
            measured.append(build)
            progress.advance(1)
        progress.end(f"{measured[2].seconds / measured[0].seconds:.2%} of the build from nothing")
    write_json(msgspec.json.encode([asdict(each) for each in measured])) if as_json else show_rebuilds(measured)


def freshness(
    index: IndexArgument,
    changes: Annotated[int, typer.Option(help="How many prices to change.", min=10)] = 500,
    rate: Annotated[float, typer.Option(help="Searches a second that run beside.", min=1)] = 50.0,
    as_json: JsonOption = False,
) -> None:
    """Time live changes of prices until a search finds them, while searches run. Works on a copy of the index."""
    import shutil

    import msgspec

    from benchmarks.data_tables import show_freshness
    from benchmarks.freshness import measure_freshness
    from benchmarks.latency import title_queries
    from service.engine import SearchEngine
    from service.terminal import ProgressLines, write_json

    with TemporaryDirectory() as folder, ProgressLines() as progress:
        progress.begin("changes", None, "")
        copied = Path(shutil.copytree(index, Path(folder) / "index"))
        with SearchEngine.open(copied, follow=False) as engine:
            queries = title_queries(engine, 500)
        measured = measure_freshness(copied, queries, changes, rate)
        progress.end(f"{changes:,} prices")
    write_json(msgspec.json.encode(asdict(measured))) if as_json else show_freshness(measured)


def defects(
    products: Annotated[int, typer.Option(help="Rows of the feed.", min=1_000)] = 2_000,
    seed: Annotated[int, typer.Option(help="Another seed plants them elsewhere.")] = 7,
    as_json: JsonOption = False,
) -> None:
    """Plant many kinds of defect in one half of a feed, and count which of them the checker tells."""
    import msgspec

    from benchmarks.data_tables import show_defects
    from benchmarks.defects import defects as planted_defects
    from service.terminal import write_json

    with TemporaryDirectory() as folder:
        score = planted_defects(Path(folder), seed=seed, products=products)
    write_json(msgspec.json.encode(score)) if as_json else show_defects(score)


def faults(
    rounds: Annotated[int, typer.Option(help="Pieces of work, each hurt in its own way.", min=1)] = 1_000,
    seed: Annotated[int, typer.Option(help="Of the first round; round n is drawn by the seed n further on.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Kill processes, fill the disk, harm files, and check what is served after each. Exit code 1 on a failure."""
    import msgspec

    from benchmarks.data_tables import show_faults
    from benchmarks.faults import run_faults
    from service.terminal import ProgressLines, write_json

    with TemporaryDirectory() as folder, ProgressLines() as progress:
        progress.begin("faults", rounds, "rounds")
        report = run_faults(Path(folder), rounds, seed, lambda: progress.advance(1))
        progress.end(f"{rounds:,} rounds, {len(report.failures):,} failures")
    write_json(msgspec.json.encode(report)) if as_json else show_faults(report)
    if report.failures:
        raise typer.Exit(1)


EXAMPLES = (
    (reading, "Example: shelfwise bench reading products.jsonl.gz --rows 100000,2000000"),
    (incremental, "Example: shelfwise bench incremental products.jsonl.gz --share 0.01"),
    (freshness, "Example: shelfwise bench freshness store"),
    (defects, "Example: shelfwise bench defects --products 2000"),
    (faults, "Example: shelfwise bench faults --rounds 1000 --seed 0"),
)
