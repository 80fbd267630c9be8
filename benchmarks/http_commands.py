"""The command that measures the HTTP service: `shelfwise bench http`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.options import IndexArgument, JsonOption

_QUERIES = 500


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

    from benchmarks.http_load import measure_http, served
    from benchmarks.http_view import show_http
    from benchmarks.judgments import read_judgments
    from benchmarks.latency import title_queries
    from service.engine import SearchEngine
    from service.terminal import ProgressLines, write_json

    if judgments is not None:
        queries = list(read_judgments(judgments).grades)[:_QUERIES]
    else:
        with SearchEngine.open(index, follow=False) as engine:
            queries = title_queries(engine, _QUERIES)
    with served(index) as address, ProgressLines() as progress:

        def advance(told: str) -> None:
            progress.end(told)
            progress.begin("load", None, "")

        progress.begin("load", None, "")
        report = measure_http(address, queries, rate=rate, seconds=seconds, advance=advance)
    write_json(msgspec.json.encode(report)) if as_json else show_http(report)


EXAMPLES = ((http, "Example: shelfwise bench http store --judgments judgments.tsv"),)
