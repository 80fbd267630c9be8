"""The commands that measure what becomes of shoppers' events: importing, recording, faults, fraud, click models."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import typer

from service.options import IndexArgument, JsonOption

ClickModelName = Literal["pbm", "dcm", "sdbn", "ubm"]
"""The names in `rerank.clicks.models`, which is heavy to import."""


def event_import(
    events: Annotated[int, typer.Option(help="How many events the log has.", min=1_000)] = 1_000_000,
    as_json: JsonOption = False,
) -> None:
    """Time importing a log into a new store, as JSON lines and as CSV, with its memory and its disk."""
    import msgspec

    from benchmarks.events_import import measure_events_import, show_events_import
    from service.terminal import ProgressLines, write_json

    with TemporaryDirectory() as folder, ProgressLines() as progress:
        progress.begin("import", None, "")
        measured = measure_events_import(Path(folder), events)
        progress.end(f"{measured[0].events_per_second:,.0f} events a second")
    write_json(msgspec.json.encode([asdict(each) for each in measured])) if as_json else show_events_import(measured)


def event_writes(
    writers: Annotated[int, typer.Option(help="How many write at once.", min=1, max=256)] = 8,
    events: Annotated[int, typer.Option(help="How many events each of them writes.", min=10)] = 2_000,
    as_json: JsonOption = False,
) -> None:
    """Time single events, each durable before the next: threads, processes, and threads without group commit."""
    import msgspec

    from benchmarks.event_tables import show_event_writes
    from benchmarks.event_writes import measure_event_writes
    from service.terminal import ProgressLines, write_json

    with TemporaryDirectory(dir=".") as folder, ProgressLines() as progress:
        progress.begin("writes", None, "")
        measured = measure_event_writes(Path(folder), writers, events)
        progress.end(f"{measured[1].per_second:,.0f} events a second")
    write_json(msgspec.json.encode(measured)) if as_json else show_event_writes(measured)


def event_faults(
    rounds: Annotated[int, typer.Option(help="How often to kill the writers.", min=1)] = 200,
    as_json: JsonOption = False,
) -> None:
    """Kill processes while they write events, again and again, and look for events that are lost or doubled."""
    import msgspec

    from benchmarks.event_faults import measure_event_faults
    from benchmarks.event_tables import show_event_faults
    from service.terminal import ProgressLines, write_json

    with TemporaryDirectory(dir=".") as folder, ProgressLines() as progress:
        progress.begin("kills", rounds, "rounds")
        measured = measure_event_faults(Path(folder), rounds, advance=progress.advance)
        progress.end(f"{measured.acknowledged:,} events acknowledged")
    write_json(msgspec.json.encode(measured)) if as_json else show_event_faults(measured)
    if measured.lost or measured.doubled or measured.altered or measured.broken_days:
        raise typer.Exit(1)


def event_refresh(
    events: Annotated[int, typer.Option(help="How many events the log has.", min=10_000)] = 1_000_000,
    as_json: JsonOption = False,
) -> None:
    """Time making the derived tables from nothing and after one more day, and check that both give the same."""
    import msgspec

    from benchmarks.event_refresh import measure_event_refresh, show_event_refresh
    from service.terminal import ProgressLines, write_json

    with TemporaryDirectory() as folder, ProgressLines() as progress:
        progress.begin("refresh", None, "")
        measured = measure_event_refresh(Path(folder), events)
        progress.end(f"{measured[-1].seconds:.1f} s from nothing")
    write_json(msgspec.json.encode(measured)) if as_json else show_event_refresh(measured)


def fraud(
    seeds: Annotated[str, typer.Option(help="The stores to plant fraud in, by their seeds.")] = "1,2,3,4,5",
    as_json: JsonOption = False,
) -> None:
    """Plant fraud in demo stores of several sizes and mixtures, and count what is flagged of it and of the rest."""
    import msgspec

    from benchmarks.fraud import SIZES, fraud_tables, measure_fraud
    from benchmarks.fraud_mixtures import MIXTURES
    from service.terminal import ProgressLines, out, write_json

    numbers = [int(seed) for seed in seeds.split(",")]
    measured = []
    with ProgressLines() as progress:
        progress.begin("fraud", len(numbers) * len(SIZES) * len(MIXTURES), "logs")
        for each in measure_fraud(numbers):
            measured.append(each)
            progress.advance(1)
        progress.end(f"{len(measured)} logs")
    write_json(msgspec.json.encode(measured)) if as_json else out.print(*fraud_tables(measured))


def click_models(
    sessions: Annotated[int, typer.Option(help="Sessions of ten results.", min=1_000)] = 1_000_000,
    as_json: JsonOption = False,
) -> None:
    """Fit each click model to sessions simulated under it: time, planted parameters recovered, held-out likelihood."""
    import msgspec

    from benchmarks.click_models import SHOPPERS, measure_click_models, show_click_models
    from service.terminal import ProgressLines, write_json

    with ProgressLines() as progress:
        progress.begin("click models", len(SHOPPERS), "logs")
        report = measure_click_models(sessions, done=lambda: progress.advance(1))
        progress.end(f"{sessions:,} sessions each")
    write_json(msgspec.json.encode(report)) if as_json else show_click_models(report)


def click_labels(
    judgments: Annotated[Path, typer.Argument(help="Graded judgments: what the simulated shoppers go by.")],
    sessions: Annotated[int, typer.Option(help="Sessions of each log.", min=1_000)] = 300_000,
    seeds: Annotated[int, typer.Option(help="Logs at each strength of bias.", min=1)] = 3,
    model: Annotated[ClickModelName, typer.Option(help="The click model that labels are made with.")] = "ubm",
    as_json: JsonOption = False,
) -> None:
    """Make labels from simulated clicks at several strengths of position bias, against the grades and naive CTR."""
    import msgspec

    from benchmarks.click_labels import STRENGTHS, measure_click_labels, show_click_labels
    from retrieval.judgments import read_judgments
    from service.terminal import ProgressLines, write_json

    with ProgressLines() as progress:
        progress.begin("labels", len(STRENGTHS) * seeds, "logs")
        grades = read_judgments(judgments).grades
        report = measure_click_labels(grades, sessions, range(seeds), model, done=lambda: progress.advance(1))
        progress.end(f"{report.queries:,} queries")
    write_json(msgspec.json.encode(report)) if as_json else show_click_labels(report)


def ranker_clicks(
    index: IndexArgument,
    judgments: Annotated[Path, typer.Argument(help="Graded judgments: what the simulated shoppers go by.")],
    sessions: Annotated[int, typer.Option(help="Sessions of each log.", min=1_000)] = 100_000,
    seeds: Annotated[int, typer.Option(help="Logs at each strength of bias.", min=1)] = 3,
    folds: Annotated[int, typer.Option(help="Parts of the queries, each ranked by networks of the others.", min=2)] = 5,
    as_json: JsonOption = False,
) -> None:
    """Train the ranker on simulated clicks in every way, at several strengths of position bias, and on the grades."""
    import msgspec

    from benchmarks.judged_lists import judged_lists
    from benchmarks.ranker_clicks import BenchOptions, measure_ranker_clicks, show_ranker_clicks, trainings
    from retrieval.judgments import read_judgments
    from service.engine import SearchEngine
    from service.terminal import ProgressLines, write_json

    told = read_judgments(judgments)
    options = BenchOptions(sessions=sessions, seeds=seeds, folds=folds)
    with SearchEngine.open(index, follow=False) as engine, ProgressLines() as progress:
        progress.begin("candidates", len(told.grades), "queries")
        judged = judged_lists(engine.snapshot, told, progress=progress.advance)
        progress.end(f"{len(judged.gains):,} candidates")
        progress.begin("training", trainings(options), "networks")
        report = measure_ranker_clicks(judged, told, options, done=lambda: progress.advance(1))
        progress.end(f"{report.queries:,} queries")
    write_json(msgspec.json.encode(report)) if as_json else show_ranker_clicks(report)


EXAMPLES = (
    (event_import, "Example: shelfwise bench event-import --events 100000"),
    (event_writes, "Example: shelfwise bench event-writes --writers 8"),
    (event_faults, "Example: shelfwise bench event-faults --rounds 20"),
    (event_refresh, "Example: shelfwise bench event-refresh --events 100000"),
    (fraud, "Example: shelfwise bench fraud --seeds 1,2"),
    (click_models, "Example: shelfwise bench click-models --sessions 100000"),
    (click_labels, "Example: shelfwise bench click-labels judgments.tsv --sessions 50000 --seeds 1"),
    (ranker_clicks, "Example: shelfwise bench ranker-clicks store judgments.tsv --sessions 20000 --seeds 1"),
)
