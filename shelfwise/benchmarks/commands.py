"""Commands that measure an index: `evaluate`, and `bench latency`, `recall`, `quality` and the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from shelfwise.benchmarks.latency import (
    measure_latency,
    measure_recall,
    measure_runtimes,
    opening_seconds,
    terms_per_second,
    title_queries,
)
from shelfwise.benchmarks.load import HttpReport, measure_http, serve_index
from shelfwise.benchmarks.quality import (
    AbsentFigures,
    IntentFigures,
    Run,
    RunChange,
    compare_runs,
    measure,
    measure_absent,
    measure_intent,
    read_intent_cases,
    read_run,
    run_stage,
    write_run,
)
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.index.fusion import DEFAULT
from shelfwise.retrieval.index.vectors import VECTORS_FILE
from shelfwise.retrieval.judgments import read_judgments
from shelfwise.retrieval.memory import process_memory
from shelfwise.retrieval.store.files import load_array
from shelfwise.retrieval.store.manifest import VECTORS_FOLDER
from shelfwise.service.cli.options import Index, JudgmentsFile, QueriesFile, command
from shelfwise.service.cli.output import TerminalProgress, emit, say, show_notices, show_rows
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
    merge: Annotated[str, typer.Option(help="Method of merging words and vectors: per-word or rrf.")] = DEFAULT,
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
        show_notices((*engine.notices, *judged.notices))
        products = {product for each in judged.grades.values() for product in each}
        if absent := [product for product in products if engine.snapshot.products.row_of(product) is None]:
            # They can only lower the figures.
            share = f"{len(absent):,} of {len(products):,} judged products"
            show_notices((f"{share} are not in the index, such as {min(absent)}",))
        for stage in chosen:
            progress.begin(stage, len(queries), "queries")
            runs[stage] = run_stage(engine, queries, stage, merge=merge, tie_break=tie_break, advance=progress.advance)
            progress.end(f"{len(queries):,} queries")
    for stage, run in runs.items() if run_file else ():
        write_run(run, _run_path(run_file, stage, alone=alone), stage)
    changes = {stage: compare_runs(runs[stage], other, judged) for stage, other in others.items()}
    measures = {stage: measure(run, judged) for stage, run in runs.items()}
    document = {"stages": measures, "changes": changes} if changes else measures
    emit(measures, show_measures, len(queries), changes, document=document)


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
            stages[stage] = asdict(measure_latency(engine, stage, queries, threads=threads, facets=facet or ()))
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


# The tables that the commands print.


def show_measures(measures: Mapping[str, Mapping[str, float]], queries: int, changes: Mapping[str, RunChange]) -> None:
    """Stages by measures; also the changes from other runs, if any."""
    names = list(next(iter(measures.values())))
    rows = [(stage, *(f"{values[name]:.4f}" for name in names)) for stage, values in measures.items()]
    show_rows(["stage", *names], rows, title=f"{queries:,} queries")
    for stage, change in changes.items():
        counts = f"{change.higher:,} queries higher, {change.lower:,} lower"
        say(f"{stage}: nDCG@10 {change.ndcg}, 95% by bootstrap; {counts}")


def show_latency(result: Mapping[str, Any]) -> None:
    """Percentiles and throughput of each stage, then the seconds to open, and memory: of the process's own when opened,
    and with the mapped files after all searches."""
    title = f"{result['products']:,} products, {result['searches']:,} searches, {result['threads']} threads"
    rows = []
    for stage, latency in result["stages"].items():
        parts = ", ".join(f"{part} {spent:.2f}" for part, spent in latency["stages"].items())
        figures = (f"{latency[name]:.2f}" for name in ("p50", "p90", "p99"))
        rows.append((stage, *figures, f"{latency['per_second']:.0f}", parts))
    show_rows(("stage", "p50 ms", "p90 ms", "p99 ms", "a second", "median ms by part"), rows, title=title)
    memory = " / ".join(f"{size / 1e6:,.0f}" for size in result["memory"].values())
    say(
        f"import shelfwise {result['import_seconds']:.3f} s, opening {result['open_seconds']:.3f} s; "
        f"MB when opened / with mapped files {memory}"
    )


def show_recall(result: Mapping[str, Any]) -> None:
    """Recall by selectivity of the filter."""
    title = f"{result['vectors']:,} vectors, {result['index']} index"
    rows = []
    for each in result["recall"]:
        spent = (f"{each['milliseconds']:.2f}", f"{each['exact_milliseconds']:.2f}")
        rows.append((f"{each['share']:.2%}", each["allowed"], each["recall"], *spent))
    show_rows(("filter keeps", "products", "recall@100", "ms", "ms of a full scan"), rows, title=title)


def show_throughput(result: Mapping[str, Any]) -> None:
    """Titles analysed per second, then runtimes by speed and similarity to the first."""
    rows = []
    for each in result["runtimes"]:
        spent = (f"{each['query_p50']:.2f}", f"{each['query_p99']:.2f}")
        rows.append((each["runtime"], f"{each['products_per_second']:.0f}", *spent, f"{each['cosine']:.5f}"))
    say(f"{result['titles']:,} titles analysed, {result['terms_per_second']:,.0f} a second on one core")
    show_rows(("runtime", "products a second", "query p50 ms", "p99 ms", "cosine with torch"), rows)


def show_intent(figures: Mapping[str, IntentFigures], cases: int, absent: AbsentFigures, failures: bool) -> None:
    """Stages by P@1 and P@10 with their intervals; types that the store does not sell; optionally the failures of the
    last stage."""
    rows = []
    for stage, stage_figures in figures.items():
        cells = (
            text
            for each in (stage_figures.first, stage_figures.ten)
            for text in (f"{each.mean:.3f}", f"{each.low:.3f}-{each.high:.3f}")
        )
        rows.append((stage, *cells, f"{stage_figures.accessories:.3f}"))
    show_rows(("stage", "P@1", "95%", "P@10", "95%", "accessories"), rows, title=f"{cases:,} cases")
    if absent.cases:
        having = f"{absent.with_hits:,} of {absent.cases:,} queries for a kind that the store does not sell have hits"
        say(f"{having}; {absent.unsaid:,} of them do not say that these are only the nearest")
    for failure in list(figures.values())[-1].failures if failures else ():
        say(f"{failure.query}: {failure.precision:.0%}; {' | '.join(title[:50] for title in failure.titles)}")


def show_http(report: HttpReport) -> None:
    """A row for each load."""
    title = f"{report.products:,} products; {report.capacity:.0f} searches a second at most"
    rows = []
    for load in report.loads:
        statuses = ", ".join(f"{status}: {count:,}" for status, count in load.statuses.items())
        refused = "" if load.refused_p99 is None else f"{load.refused_p99:.1f}"
        rows.append(
            (load.kind, f"{load.rate:.0f}", load.requests, statuses, f"{load.p50:.1f}", f"{load.p99:.1f}", refused)
        )
    names = "", "a second", "requests", "answers", "p50 ms", "p99 ms", "refused within, p99 ms"
    show_rows(names, rows, title=title)
