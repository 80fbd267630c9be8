"""Commands that measure an index: `evaluate`, and `bench latency`, `recall`, `quality` and the others."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from shelfwise.benchmarks.backends import measure_backends
from shelfwise.benchmarks.changes import measure_freshness, measure_rebuilds
from shelfwise.benchmarks.intent import (
    SynonymEffect,
    compare_intent,
    engine_with_synonyms,
    measure_absent,
    measure_intent,
    read_intent_cases,
)
from shelfwise.benchmarks.latency import (
    measure_latency,
    measure_recall,
    measure_runtimes,
    opening_seconds,
    searcher,
    terms_per_second,
    title_queries,
)
from shelfwise.benchmarks.load import measure_http, serve_index
from shelfwise.benchmarks.quality import Run, compare_runs, evaluate_stages, measure, read_run, run_stage, write_run
from shelfwise.benchmarks.scale import ScaleOptions, measure_scale, write_plots
from shelfwise.benchmarks.tables import (
    show_backends,
    show_freshness,
    show_http,
    show_intent,
    show_latency,
    show_measures,
    show_quality,
    show_rebuilds,
    show_recall,
    show_scale,
    show_throughput,
)
from shelfwise.indexer.build import RebuildOptions
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.index.fusion import METHODS
from shelfwise.retrieval.index.vectors import VECTORS_FILE
from shelfwise.retrieval.judgments import read_judgments
from shelfwise.retrieval.store.files import load_array
from shelfwise.retrieval.store.manifest import VECTORS_FOLDER
from shelfwise.retrieval.text.synonyms import Synonyms
from shelfwise.service.cli.options import Index, JudgmentsFile, OneFeed, QueriesFile, SettingsFile, Workers, command
from shelfwise.service.cli.output import TerminalProgress, emit, show_notices
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.request import STAGES
from shelfwise.service.settings import cache_folder, load_settings

Searches = Annotated[int, typer.Option("--count", help="Number of searches.", min=100)]
Threads = Annotated[int, typer.Option("--threads", help="Threads for searches per second.", min=1)]
Model = Annotated[str, typer.Option(help="Name or folder of a model.")]


@command("evaluate store judgments.tsv --stage bm25,dense,merged,ranked")
def evaluate(
    index: Index,
    judgments: JudgmentsFile,
    stages: Annotated[str, typer.Option("--stage", help="Stages to compare, comma-separated.")] = "ranked",
    run_file: Annotated[Path | None, typer.Option("--run", help="Also write the ranking in TREC's run format.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="Compare with rankings that --run wrote for the same judgments and stages.")
    ] = None,
    tie_break: Annotated[str, typer.Option(help="Order of equally relevant hits, such as -rating,price.")] = "",
) -> None:
    """Measure the ranking against judgments: nDCG@10, recall@100, MRR, precision, recall and F1 at 10."""
    chosen = [stage.strip() for stage in stages.split(",")]
    if unknown := [stage for stage in chosen if stage not in STAGES]:
        raise SettingError(f"--stage: {unknown[0]!r} is not a stage; it can be {', '.join(STAGES)}")
    judged = read_judgments(judgments)
    queries = list(judged.grades)
    runs: dict[str, Run] = {}
    alone = len(chosen) == 1
    others = {stage: read_run(_run_path(against, stage, alone=alone), judged) for stage in chosen if against}
    with SearchEngine.open(index, follow=False) as engine, TerminalProgress() as progress:
        show_notices((*engine.notices, *judged.notices, *_missing(engine, judged.grades)))
        for stage in chosen:
            progress.begin(stage, len(queries), "queries")
            runs[stage] = run_stage(engine, queries, stage, tie_break=tie_break, advance=progress.advance)
            progress.end(f"{len(queries):,} queries")
    for stage, run in runs.items() if run_file else ():
        write_run(run, _run_path(run_file, stage, alone=alone), stage)
    changes = {stage: compare_runs(runs[stage], other, judged) for stage, other in others.items()}
    measures = evaluate_stages(runs, judged)
    document = {"stages": measures, "changes": changes} if changes else measures
    emit(measures, show_measures, len(queries), changes, document=document)


def _missing(engine: SearchEngine, grades: Mapping[str, Mapping[str, float]]) -> Sequence[str]:
    """A warning if judged products are not in the index: they can only lower the figures."""
    judged = {product for each in grades.values() for product in each}
    absent = [product for product in judged if engine.snapshot.products.row_of(product) is None]
    if not absent:
        return ()
    return (f"{len(absent):,} of {len(judged):,} judged products are not in the index, such as {min(absent)}",)


def _run_path(path: Path | None, stage: str, *, alone: bool) -> Path:
    """The file of a stage: the given name if there is one stage only, else with the stage in it."""
    path = path or Path("run.txt")
    return path if alone else path.with_name(f"{path.stem}.{stage}{path.suffix}")


def sample_queries(engine: SearchEngine, judgments: Path | None, count: int) -> list[str]:
    """`count` queries: those of a judgments file, repeated if needed, or parts of titles."""
    if judgments is None:
        return title_queries(engine, count)
    queries = list(read_judgments(judgments).grades)
    return (queries * (count // len(queries) + 1))[:count]


@command("bench latency store --judgments judgments.tsv")
def latency(
    index: Index,
    judgments: QueriesFile = None,
    count: Searches = 2_000,
    threads: Threads = 4,
    facet: Annotated[list[str] | None, typer.Option(help="A field to count in each search. Repeatable.")] = None,
) -> None:
    """Time searches from text to page: percentiles one after the other, and searches a second from threads."""
    with SearchEngine.open(index, follow=False) as engine, TerminalProgress() as progress:
        queries = sample_queries(engine, judgments, count)
        stages = {}
        for stage in engine.stages:
            progress.begin(stage, None, "")
            measured = measure_latency(searcher(engine, stage, facets=facet or ()), queries, threads=threads)
            stages[stage] = asdict(measured)
            progress.end(f"{2 * len(queries):,} searches")
        products = engine.manifest.products
    imported, opened = opening_seconds(index)
    report = {
        "products": products,
        "searches": len(queries),
        "threads": threads,
        "import_seconds": imported,
        "open_seconds": opened,
        "stages": stages,
    }
    emit(report, show_latency)


@command("bench recall store")
def recall(
    index: Index,
    judgments: QueriesFile = None,
    count: Annotated[int, typer.Option(help="Number of queries.", min=10)] = 300,
) -> None:
    """Compare the vector index with a scan of everything: recall@100 plain and under filters of any width."""
    with SearchEngine.open(index, follow=False) as engine:
        snapshot = engine.snapshot
        texts = sample_queries(engine, judgments, count)
        vectors = load_array(index / "versions" / engine.manifest.version / VECTORS_FOLDER / VECTORS_FILE)
        measured = measure_recall(snapshot.vectors, vectors, snapshot.encoder.encode_queries(texts))
        report = {
            "vectors": snapshot.vectors.size,
            "index": engine.manifest.vectors,
            "recall": [asdict(each) for each in measured],
        }
    emit(report, show_recall)


@command("bench throughput store")
def throughput(
    index: Index,
    count: Annotated[int, typer.Option(help="Number of the index's products to encode.", min=100)] = 2_000,
    model: Model = "all-MiniLM-L6-v2",
) -> None:
    """Time text analysis and every runtime of the encoder over an index's own products."""
    with SearchEngine.open(index, follow=False) as engine:
        products = engine.snapshot.products
        titles = [products[row].title for row in range(len(products))]
    rate = terms_per_second(titles)
    runtimes = measure_runtimes(model, titles[:: max(1, len(titles) // count)][:count], cache_folder())
    report = {"titles": len(titles), "terms_per_second": rate, "runtimes": [asdict(each) for each in runtimes]}
    emit(report, show_throughput)


@command("bench quality icecat=icecat/judgments.tsv hd=hd/judgments.tsv")
def quality(
    sets: Annotated[list[str], typer.Argument(help="Judged sets, each as INDEX=JUDGMENTS.tsv.", metavar="INDEX=FILE")],
) -> None:
    """Compare both retrievers and every method of merging them, over all judged sets together."""
    methods = {"bm25": ("bm25", next(iter(METHODS))), "dense": ("dense", next(iter(METHODS)))}
    methods |= {f"merged {name}": ("merged", name) for name in METHODS}
    results: dict[str, dict[str, dict[str, float]]] = {}
    with TerminalProgress() as progress:
        for each in sets:
            directory, _, file = each.rpartition("=")
            if not directory:
                raise SettingError(f"{each!r}: name the index and its judgments as INDEX=JUDGMENTS.tsv")
            judged = read_judgments(Path(file))
            show_notices(f"{file}: {each}" for each in judged.notices)
            queries = list(judged.grades)
            results[directory] = {}
            with SearchEngine.open(directory, follow=False) as engine:
                for label, (stage, merge) in methods.items():
                    progress.begin(f"{directory} {label}", len(queries), "queries")
                    run = run_stage(engine, queries, stage, merge=merge, advance=progress.advance)
                    results[directory][label] = measure(run, judged)
                    progress.end(f"nDCG@10 {results[directory][label]['nDCG@10']:.4f}")
    emit(results, show_quality)


@command("bench intent store cases.tsv --part report")
def intent(
    index: Index,
    cases: Annotated[Path, typer.Argument(help="Cases: query, good, accessory, filter, part.", metavar="CASES.tsv")],
    part: Annotated[str, typer.Option(help="Part of the cases: choose or report; by default all.")] = "",
    failures: Annotated[bool, typer.Option("--failures", help="List the cases that fail in the last stage.")] = False,
    synonyms: Annotated[Path | None, typer.Option(help="Also measure the effect of the synonyms of a file.")] = None,
) -> None:
    """Measure whether queries that name a kind of product find that kind: P@1 and P@10 by stage, with intervals.

    `good` and `accessory` are regular expressions of titles, `filter` a condition that good products pass, too.
    """
    added = Synonyms.load(synonyms) if synonyms else None
    chosen = read_intent_cases(cases, part)
    with SearchEngine.open(index, follow=False) as engine, TerminalProgress() as progress:
        show_notices(engine.notices)
        progress.begin("intent", len(chosen), "cases")
        figures, counted = measure_intent(engine, chosen, engine.stages, progress.advance)
        progress.end(f"{counted:,} of {len(chosen):,} cases have products of their kind")
        absent = measure_absent(engine, chosen)
    effects: dict[str, SynonymEffect] = {}
    if added:
        with engine_with_synonyms(index, added) as engine, TerminalProgress() as progress:
            progress.begin("synonyms", len(chosen), "cases")
            others, _ = measure_intent(engine, chosen, engine.stages, progress.advance)
            progress.end(f"{len(added.rules):,} phrases with synonyms")
        effects = {stage: compare_intent(others[stage], without) for stage, without in figures.items()}
    document = {"stages": figures, "absent": absent, "synonyms": effects}
    emit(figures, show_intent, counted, absent, failures, effects, document=document)


@command("bench backends store --judgments judgments.tsv")
def backends(
    index: Index,
    judgments: QueriesFile = None,
    count: Searches = 1_000,
    threads: Threads = 4,
    settings: SettingsFile = None,
) -> None:
    """Measure an embedded index and copies of it in Elasticsearch: time to fill, bytes, speed, recall, same answers.

    The cluster is the one that the settings name; what is made in it is removed again.
    """
    with SearchEngine.open(index, follow=False) as engine:
        queries = sample_queries(engine, judgments, count)
    with TemporaryDirectory() as folder, TerminalProgress() as progress:
        report = measure_backends(index, Path(folder), load_settings(settings), queries, threads, progress)
    emit(report, show_backends)


_QUERIES = 500


@command("bench http store --judgments judgments.tsv")
def http(
    index: Index,
    judgments: QueriesFile = None,
    rate: Annotated[float, typer.Option(help="Requests per second.", min=1, max=10_000)] = 40.0,
    seconds: Annotated[float, typer.Option(help="Seconds of each load.", min=1, max=3_600)] = 30.0,
    workers: Annotated[int, typer.Option(help="Worker processes of the service.", min=1, max=256)] = 1,
) -> None:
    """Serve an index, and measure how searches and suggestions are answered at a rate, and when there are too many."""
    with SearchEngine.open(index, follow=False) as engine:
        queries = sample_queries(engine, judgments, _QUERIES)
    with serve_index(index, workers=workers) as server, TerminalProgress() as progress:

        def advance(summary: str) -> None:
            progress.end(summary)
            progress.begin("load", None, "")

        progress.begin("load", None, "")
        report = measure_http(server.address, queries, rate=rate, seconds=seconds, advance=advance)
    emit(report, show_http)


@command("bench freshness store")
def freshness(
    index: Index,
    changes: Annotated[int, typer.Option(help="Number of prices to change.", min=10)] = 500,
    rate: Annotated[float, typer.Option(help="Searches per second that run meanwhile.", min=1)] = 50.0,
) -> None:
    """Time live changes of prices until a search finds them, while searches run. Works on a copy of the index."""
    with TemporaryDirectory() as folder, TerminalProgress() as progress:
        progress.begin("changes", None, "")
        copied = Path(shutil.copytree(index, Path(folder) / "index"))
        with SearchEngine.open(copied, follow=False) as engine:
            queries = title_queries(engine, _QUERIES)
        report = measure_freshness(copied, queries, changes, rate)
        progress.end(f"{changes:,} prices")
    emit(report, show_freshness)


@command("bench incremental products.jsonl.gz --share 0.01")
def incremental(
    feed: OneFeed,
    share: Annotated[float, typer.Option(help="Share of the products that change.", min=0, max=1)] = 0.01,
    encoder: Model = "all-MiniLM-L6-v2",
    workers: Workers = None,
) -> None:
    """Time a rebuild after a few products changed, against the build from nothing."""

    def options(path: Path) -> RebuildOptions:
        return RebuildOptions((str(path),), cache_folder(), encoder=encoder, workers=workers)

    builds = []
    with TemporaryDirectory() as folder, TerminalProgress() as progress:
        progress.begin("builds", 3, "builds")
        for build in measure_rebuilds(feed, Path(folder), options, share):
            builds.append(build)
            progress.advance(1)
        progress.end(f"{builds[2].seconds / builds[0].seconds:.2%} of the build from nothing")
    emit(builds, show_rebuilds)


_SIZES = [10_000, 30_000, 100_000]


@command("bench scale scale --encoder static/ --size 10000 --size 100000 --vectors 1000000")
def scale(
    folder: Annotated[Path, typer.Argument(help="Folder for all output and the figures so far.", metavar="FOLDER")],
    encoder: Annotated[str, typer.Option(help="Name or folder of a model; a static one takes a minute per million.")],
    size: Annotated[
        list[int] | None, typer.Option(help="Products of a catalog, 10000, 30000 and 100000 by default. Repeatable.")
    ] = None,
    records: Annotated[
        list[int] | None, typer.Option(help="Products of a catalog without descriptions and attributes. Repeatable.")
    ] = None,
    vectors: Annotated[list[int] | None, typer.Option(help="Vectors without products. Repeatable.")] = None,
    count: Searches = 1_000,
    threads: Threads = 4,
    workers: Workers = None,
    hour_price: Annotated[float, typer.Option(help="Price per core hour, to price searches.", min=0)] = 0.05,
) -> None:
    """Build and serve catalogs of several sizes: seconds by phase, bytes, memory, recall and speed; and what larger
    ones would take. A size that was measured is not measured again."""
    for number in (*(size or ()), *(records or ()), *(vectors or ())):
        if not _LEAST_SIZE <= number <= _MOST_SIZE:
            raise SettingError(f"a size is from {_LEAST_SIZE:,} to {_MOST_SIZE:,}, not {number:,}")
    sizes = size or ([] if records or vectors else _SIZES)
    options = ScaleOptions(
        folder, sizes, records or [], vectors or [], encoder, cache_folder(), count, threads, workers
    )
    with TerminalProgress() as progress:
        points = measure_scale(options, progress)
    emit(points, show_scale, write_plots(points, folder), hour_price)


_LEAST_SIZE, _MOST_SIZE = 1_000, 20_000_000
