"""The command that measures backends beside each other: `shelfwise bench backends`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from service.options import IndexArgument, JsonOption, SettingsOption


def backends(
    index: IndexArgument,
    judgments: Annotated[Path | None, typer.Option(help="Take the queries of this file; else parts of titles.")] = None,
    count: Annotated[int, typer.Option(help="How many searches.", min=100)] = 1_000,
    threads: Annotated[int, typer.Option(help="Threads for searches a second.", min=1)] = 4,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure an embedded index and copies of it in Elasticsearch: time to fill, bytes, speed, recall, same answers.

    The cluster is the one that the settings name; what is made in it is removed again.
    """
    import msgspec

    from benchmarks.backends import measure_backends
    from benchmarks.latency import title_queries
    from benchmarks.tables import show_backends
    from retrieval.judgments import read_judgments
    from service.engine import SearchEngine
    from service.settings import load_settings
    from service.terminal import ProgressLines, write_json

    loaded = load_settings(settings)
    if judgments:
        found = list(read_judgments(judgments).grades)
        queries = (found * (count // len(found) + 1))[:count]
    else:
        with SearchEngine.open(index, follow=False) as engine:
            queries = title_queries(engine, count)
    with TemporaryDirectory() as folder, ProgressLines() as progress:
        report = measure_backends(index, Path(folder), loaded, queries, threads, progress)
    write_json(msgspec.json.encode(report)) if as_json else show_backends(report)


EXAMPLES = ((backends, "Example: shelfwise bench backends store --judgments judgments.tsv"),)
