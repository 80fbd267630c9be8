"""The commands that measure the HTTP service: `shelfwise bench http` and `shelfwise bench soak`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from benchmarks.data_commands import FeedArgument
from service.options import IndexArgument, JsonOption, cache_folder

_QUERIES = 500
_WORDS = 4
"""Of a title, where queries are made of titles."""


def http(
    index: IndexArgument,
    judgments: Annotated[
        Path | None, typer.Option(help="A judgments file, for its queries; by default they are made of titles.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Requests a second.", min=1, max=10_000)] = 40.0,
    seconds: Annotated[float, typer.Option(help="Of each load.", min=1, max=3_600)] = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Serve an index, and measure how searches and suggestions are answered at a rate, and when there are too many."""
    import msgspec

    from benchmarks.http_load import measure_http
    from benchmarks.http_server import served
    from benchmarks.http_view import show_http
    from benchmarks.latency import title_queries
    from retrieval.judgments import read_judgments
    from service.engine import SearchEngine
    from service.terminal import ProgressLines, write_json

    if judgments is not None:
        queries = list(read_judgments(judgments).grades)[:_QUERIES]
    else:
        with SearchEngine.open(index, follow=False) as engine:
            queries = title_queries(engine, _QUERIES)
    with served(index) as server, ProgressLines() as progress:

        def advance(told: str) -> None:
            progress.end(told)
            progress.begin("load", None, "")

        progress.begin("load", None, "")
        report = measure_http(server.address, queries, rate=rate, seconds=seconds, advance=advance)
    write_json(msgspec.json.encode(report)) if as_json else show_http(report)


def soak(
    feed: FeedArgument,
    minutes: Annotated[float, typer.Option(help="How long.", min=0.1, max=10_000)] = 60.0,
    swap_minutes: Annotated[float, typer.Option(help="From one rebuild to the next.", min=0.05)] = 5.0,
    rate: Annotated[float, typer.Option(help="Searches a second.", min=1, max=1_000)] = 20.0,
    encoder: Annotated[str, typer.Option(help="A model's name or folder.")] = "all-MiniLM-L6-v2",
    as_json: JsonOption = False,
) -> None:
    """Serve a feed for an hour under searches, suggestions, live changes, events and rebuilds, and kill it at the end.

    Exit code 1 where a request failed, a page was of two versions, or anything acknowledged is not there.
    """
    import msgspec

    from benchmarks.http_view import show_soak
    from benchmarks.reading import json_rows
    from benchmarks.soak import soak as soaked
    from benchmarks.soak_load import Rates
    from indexer.build import RebuildOptions
    from service.terminal import ProgressLines, write_json

    rows = list(json_rows(feed))
    queries = [" ".join(str(row["title"]).split()[:_WORDS]) for row in rows[:: len(rows) // _QUERIES + 1]]
    with TemporaryDirectory() as folder, ProgressLines() as progress:
        progress.begin("soak", round(minutes * 60), "seconds")
        report = soaked(
            rows,
            Path(folder),
            lambda path: RebuildOptions((str(path),), cache_folder(), encoder=encoder),
            queries,
            minutes=minutes,
            swap_minutes=swap_minutes,
            rates=Rates(searches=rate),
            advance=progress.advance,
        )
        progress.end(f"{report.swaps} rebuilds, {report.changes:,} changes, {report.events:,} events")
    write_json(msgspec.json.encode(report)) if as_json else show_soak(report)
    if not report.is_sound:
        raise typer.Exit(1)


EXAMPLES = (
    (http, "Example: shelfwise bench http store --judgments judgments.tsv"),
    (soak, "Example: shelfwise bench soak products.jsonl.gz --minutes 60"),
)
