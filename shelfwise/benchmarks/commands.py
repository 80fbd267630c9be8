"""Commands that measure an index: `evaluate`, and `bench latency`, `recall`, `quality` and the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from shelfwise.benchmarks.intent import measure_absent, measure_intent, read_intent_cases
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
from shelfwise.benchmarks.tables import (
    show_http,
    show_intent,
    show_latency,
    show_measures,
    show_quality,
    show_recall,
    show_throughput,
)
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.index.fusion import METHODS
from shelfwise.retrieval.index.vectors import VECTORS_FILE
from shelfwise.retrieval.judgments import read_judgments
from shelfwise.retrieval.memory import process_memory
from shelfwise.retrieval.store.files import load_array
from shelfwise.retrieval.store.manifest import VECTORS_FOLDER
from shelfwise.service.cli.options import Index, JudgmentsFile, QueriesFile, command
from shelfwise.service.cli.output import TerminalProgress, emit, show_notices
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.request import STAGES
from shelfwise.service.settings import cache_folder

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
        opened = process_memory()
        queries = sample_queries(engine, judgments, count)
        stages = {}
        for stage in engine.stages:
            progress.begin(stage, None, "")
            measured = measure_latency(searcher(engine, stage, facets=facet or ()), queries, threads=threads)
            stages[stage] = asdict(measured)
            progress.end(f"{2 * len(queries):,} searches")
        products = engine.manifest.products
        memory = {"opened": opened, "resident": process_memory("VmRSS")}
    imported, seconds = opening_seconds(index)
    report = {
        "products": products,
        "searches": len(queries),
        "threads": threads,
        "import_seconds": imported,
        "open_seconds": seconds,
        "memory": memory,
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
) -> None:
    """Measure whether queries that name a kind of product find that kind: P@1 and P@10 by stage, with intervals.

    `good` and `accessory` are regular expressions of titles, `filter` a condition that good products pass, too.
    """
    chosen = read_intent_cases(cases, part)
    with SearchEngine.open(index, follow=False) as engine, TerminalProgress() as progress:
        show_notices(engine.notices)
        progress.begin("intent", len(chosen), "cases")
        figures, counted = measure_intent(engine, chosen, engine.stages, progress.advance)
        progress.end(f"{counted:,} of {len(chosen):,} cases have products of their kind")
        absent = measure_absent(engine, chosen)
    document = {"stages": figures, "absent": absent}
    emit(figures, show_intent, counted, absent, failures, document=document)


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
