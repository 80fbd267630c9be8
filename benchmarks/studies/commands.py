"""The commands that measure data, the service, events, suggestions and synonyms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.tables import plain_table
from service.cli.options import IndexArgument, JsonOption, WorkersOption, cache_folder
from service.cli.output import out

if TYPE_CHECKING:
    from benchmarks.changes import Build, Freshness
    from benchmarks.studies.defects import DefectScore
    from benchmarks.studies.reading import Reading
    from benchmarks.studies.suggestions import Proposed, SuggestLatency, TypoFigures
    from indexer.build import RebuildOptions


# The commands that measure how data comes in: reading, rebuilding, live changes, defects, faults.

FeedArgument = Annotated[Path, typer.Argument(help="A feed in JSON lines, plain, gzip or zstd.", metavar="FEED")]


def reading(
    feed: FeedArgument,
    rows: Annotated[str, typer.Option(help="Sizes to check, separated by commas.")] = "100000,2000000",
    as_json: JsonOption = False,
) -> None:
    """Time reading and checking a feed grown to several sizes, and the memory that it takes."""
    import msgspec

    from benchmarks.studies.reading import measure_reading
    from service.cli.output import ProgressLines, write_json

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

    from benchmarks.changes import measure_rebuilds
    from indexer.build import RebuildOptions
    from service.cli.output import ProgressLines, write_json

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

    from benchmarks.changes import measure_freshness
    from benchmarks.latency import title_queries
    from service.cli.output import ProgressLines, write_json
    from service.engine.engine import SearchEngine

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

    from benchmarks.studies.defects import defects as planted_defects
    from service.cli.output import write_json

    with TemporaryDirectory() as folder:
        score = planted_defects(Path(folder), seed=seed, products=products)
    write_json(msgspec.json.encode(score)) if as_json else show_defects(score)


DATA_EXAMPLES = (
    (reading, "Example: shelfwise bench reading products.jsonl.gz --rows 100000,2000000"),
    (incremental, "Example: shelfwise bench incremental products.jsonl.gz --share 0.01"),
    (freshness, "Example: shelfwise bench freshness store"),
    (defects, "Example: shelfwise bench defects --products 2000"),
)


# The tables of the commands that measure how data comes in.


def show_reading(measured: Sequence[Reading]) -> None:
    """Sizes by speed and memory."""
    table = plain_table(
        ["rows", "MB", "seconds", "rows a second", "processor us a row", "peak MB", "a worker's MB"], ""
    )
    for each in measured:
        spent = f"{each.processor_seconds / each.rows * 1e6:.0f}"
        memory = (f"{each.peak_megabytes:.0f}", f"{each.worker_megabytes:.0f}")
        speed = (f"{each.seconds:.1f}", f"{each.rows_per_second:,.0f}")
        table.add_row(f"{each.rows:,}", f"{each.bytes / 1e6:,.0f}", *speed, spent, *memory)
    out.print(table)


def show_rebuilds(measured: Sequence[Build]) -> None:
    """Builds by time, as shares of the first."""
    table = plain_table(["rebuild", "products", "encoded", "seconds", "of the first", "seconds by phase"], "")
    for each in measured:
        phases = ", ".join(f"{phase} {spent:.1f}" for phase, spent in each.phases.items())
        share = f"{each.seconds / measured[0].seconds:.2%}"
        table.add_row(each.label, f"{each.products:,}", f"{each.encoded:,}", f"{each.seconds:.1f}", share, phases)
    out.print(table)


def show_freshness(measured: Freshness) -> None:
    """Where a change is found, by how long it took."""
    title = (
        f"{measured.changes:,} prices changed beside {measured.searches_per_second:.0f} searches a second "
        f"(p99 {measured.search_p99:.1f} ms)"
    )
    table = plain_table(["found by", "p50 ms", "p99 ms", "longest ms"], title)
    table.add_row("the engine that took it", *(f"{each:.1f}" for each in measured.here))
    table.add_row("an engine of another process", *(f"{each:.1f}" for each in measured.elsewhere))
    out.print(table)


def show_defects(score: DefectScore) -> None:
    """How many kinds were told, which were not, and what was said of clean rows."""
    out.print(f"{score.found} of {score.kinds} planted kinds of defect are told, in a feed of {score.rows:,} rows")
    out.print(f"missed: {', '.join(score.missed) or 'none'}")
    out.print(f"said of the clean half: {', '.join(score.false_findings) or 'nothing'}")


# The commands that measure the HTTP service: `shelfwise bench http` and `shelfwise bench soak`.

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

    from benchmarks.latency import title_queries
    from benchmarks.load import measure_http, served
    from benchmarks.studies.soak import show_http
    from retrieval.judgments import read_judgments
    from service.cli.output import ProgressLines, write_json
    from service.engine.engine import SearchEngine

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

    from benchmarks.changes import json_rows
    from benchmarks.studies.soak import Rates, show_soak
    from benchmarks.studies.soak import soak as soaked
    from indexer.build import RebuildOptions
    from service.cli.output import ProgressLines, write_json

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


HTTP_EXAMPLES = (
    (http, "Example: shelfwise bench http store --judgments judgments.tsv"),
    (soak, "Example: shelfwise bench soak products.jsonl.gz --minutes 60"),
)


# The commands that measure what becomes of shoppers' events: importing, recording, faults, fraud, click models.


def event_import(
    events: Annotated[int, typer.Option(help="How many events the log has.", min=1_000)] = 1_000_000,
    as_json: JsonOption = False,
) -> None:
    """Time importing a log into a new store, as JSON lines and as CSV, with its memory and its disk."""
    import msgspec

    from benchmarks.studies.events import measure_events_import, show_events_import
    from service.cli.output import ProgressLines, write_json

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

    from benchmarks.studies.events import measure_event_writes, show_event_writes
    from service.cli.output import ProgressLines, write_json

    with TemporaryDirectory(dir=".") as folder, ProgressLines() as progress:
        progress.begin("writes", None, "")
        measured = measure_event_writes(Path(folder), writers, events)
        progress.end(f"{measured[1].per_second:,.0f} events a second")
    write_json(msgspec.json.encode(measured)) if as_json else show_event_writes(measured)


def event_refresh(
    events: Annotated[int, typer.Option(help="How many events the log has.", min=10_000)] = 1_000_000,
    as_json: JsonOption = False,
) -> None:
    """Time making the derived tables from nothing and after one more day, and check that both give the same."""
    import msgspec

    from benchmarks.studies.events import measure_event_refresh, show_event_refresh
    from service.cli.output import ProgressLines, write_json

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

    from benchmarks.studies.fraud import MIXTURES, SIZES, fraud_tables, measure_fraud
    from service.cli.output import ProgressLines, write_json

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

    from benchmarks.studies.click_models import SHOPPERS, measure_click_models, show_click_models
    from service.cli.output import ProgressLines, write_json

    with ProgressLines() as progress:
        progress.begin("click models", len(SHOPPERS), "logs")
        report = measure_click_models(sessions, done=lambda: progress.advance(1))
        progress.end(f"{sessions:,} sessions each")
    write_json(msgspec.json.encode(report)) if as_json else show_click_models(report)


EVENT_EXAMPLES = (
    (event_import, "Example: shelfwise bench event-import --events 100000"),
    (event_writes, "Example: shelfwise bench event-writes --writers 8"),
    (event_refresh, "Example: shelfwise bench event-refresh --events 100000"),
    (fraud, "Example: shelfwise bench fraud --seeds 1,2"),
    (click_models, "Example: shelfwise bench click-models --sessions 100000"),
)


# `shelfwise bench suggest`: suggestions while queries are typed, and typos corrected.


def suggest(
    index: IndexArgument,
    judgments: Annotated[Path | None, typer.Option(help="Type the queries of this file; else parts of titles.")] = None,
    count: Annotated[int, typer.Option(help="How many letters are typed, at most.", min=100)] = 10_000,
    words: Annotated[int, typer.Option(help="How many words are misspelled in each way.", min=10)] = 2_000,
    seed: Annotated[int, typer.Option(help="Another seed makes other typos.")] = 7,
    as_json: JsonOption = False,
) -> None:
    """Time a suggestion after each letter of typed queries, and correct typos planted in titles that are held out."""
    import msgspec

    from benchmarks.latency import title_queries
    from benchmarks.studies.suggestions import measure_keystrokes, measure_typos
    from retrieval.judgments import read_judgments
    from service.cli.output import ProgressLines, write_json
    from service.engine.engine import SearchEngine

    with SearchEngine.open(index, follow=False) as engine, ProgressLines() as progress:
        queries = list(read_judgments(judgments).grades) if judgments else title_queries(engine, count)
        progress.begin("suggest", None, "")
        latency = measure_keystrokes(engine.suggest, queries, count)
        progress.end(f"{latency.keystrokes:,} letters")
        progress.begin("correct", None, "")
        typos = measure_typos(engine.snapshot.products, words, seed)
        progress.end(f"{sum(each.words for each in typos):,} words")
        products = engine.manifest.products
    if as_json:
        told = [{**asdict(each), "recall": each.recall, "precision": each.precision} for each in typos]
        write_json(msgspec.json.encode({"products": products, "suggest": asdict(latency), "typos": told}))
    else:
        _show(products, latency, typos)


def _show(products: int, latency: SuggestLatency, typos: list[TypoFigures]) -> None:
    out.print(
        f"{products:,} products, {latency.keystrokes:,} letters typed: p50 {latency.p50:.2f} ms, "
        f"p99 {latency.p99:.2f} ms, most {latency.most:.1f} ms",
        highlight=False,
    )
    table = plain_table(["words", "count", "right", "wrong", "unasked right", "unasked wrong"], "corrected")
    for each in typos:
        shares = (each.right, each.wrong, each.sure_right, each.sure_wrong)
        right, wrong, sure_right, sure_wrong = (f"{count / max(each.words, 1):.1%}" for count in shares)
        table.add_row(each.kind, f"{each.words:,}", right, wrong, sure_right, sure_wrong)
    out.print(table)


SUGGEST_EXAMPLES = ((suggest, "Example: shelfwise bench suggest store --judgments judgments.tsv"),)


# `shelfwise bench synonyms`: what is proposed on the demo store, beside what is planted there.


def synonyms(
    demo: Annotated[Path, typer.Argument(help="A folder that shelfwise demo made.", metavar="DEMO")],
    as_json: JsonOption = False,
) -> None:
    """Compare the synonyms that shoppers' queries propose with those that the demo store's grammar has.

    A proposal is right where both sides are names of one type of product. Planted are the names that no title has, as
    far as enough shoppers searched for them; found are those that a right proposal leads from.
    """
    import msgspec

    from benchmarks.studies.suggestions import judged
    from rerank.sessions.tables import open_derived
    from retrieval.store.manifest import EVENTS_FOLDER
    from service.cli.output import write_json
    from service.curation.synonym_mining import synonym_proposals
    from service.curation.synonyms import serving_words
    from service.events.event_log import DERIVED_FOLDER

    index = demo / "index"
    derived = open_derived(index / EVENTS_FOLDER / DERIVED_FOLDER)
    found = judged(synonym_proposals(derived, serving_words(index)), derived.queries["query"].to_list())
    if as_json:
        write_json(msgspec.json.encode(asdict(found) | {"precision": found.precision, "recall": found.recall}))
    else:
        _show_synonyms(found)


def _show_synonyms(found: Proposed) -> None:
    from rich.text import Text

    from service.cli.output import shown

    at = ", ".join(f"{share:.0%} of the first {size}" for size, share in found.precision_at.items())
    out.print(
        f"{found.proposals:,} proposals, {found.right:,} right: precision {found.precision:.1%} ({at})\n"
        f"{found.planted:,} planted, {found.found:,} found: recall {found.recall:.1%}",
        highlight=False,
        soft_wrap=True,
    )
    if found.wrong:
        out.print("Not names of one type:")
        out.print(Text("\n".join(f"  {shown(line)}" for line in found.wrong)))


SYNONYM_EXAMPLES = ((synonyms, "Example: shelfwise bench synonyms demo-store"),)
