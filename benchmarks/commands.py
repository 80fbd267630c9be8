"""The commands that measure: `shelfwise evaluate` and `shelfwise bench`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.studies import commands, model_commands
from retrieval.errors import SettingError
from service.cli.options import IndexArgument, JsonOption, SettingsOption, add_commands, cache_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.quality import Run
    from service.engine.engine import SearchEngine


# The command that measures backends beside each other: `shelfwise bench backends`.


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
    from service.cli.output import ProgressLines, write_json
    from service.engine.engine import SearchEngine
    from service.settings import load_settings

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


bench = typer.Typer(help="Measure: latency, recall, ways of merging, how data comes in.", no_args_is_help=True)
add_commands(bench, commands.DATA_EXAMPLES)
add_commands(bench, EXAMPLES)
add_commands(bench, commands.EVENT_EXAMPLES)
add_commands(bench, model_commands.RANKER_EXAMPLES)
add_commands(bench, commands.HTTP_EXAMPLES)
add_commands(bench, model_commands.RECOMMEND_EXAMPLES)
add_commands(bench, commands.SUGGEST_EXAMPLES)
add_commands(bench, commands.SYNONYM_EXAMPLES)
add_commands(bench, model_commands.TOWER_EXAMPLES)


def evaluate(
    index: IndexArgument,
    judgments: Annotated[
        Path, typer.Argument(help="Tab-separated: query, product_id, grade.", metavar="JUDGMENTS.tsv")
    ],
    stages: Annotated[str, typer.Option("--stage", help="Stages to compare, separated by commas.")] = "ranked",
    run_file: Annotated[Path | None, typer.Option("--run", help="Also write the ranking in TREC's run format.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the ranking against judgments: nDCG@10, recall@100, MRR, precision, recall and F1 at 10.

    Example: shelfwise evaluate store judgments.tsv --stage bm25,dense,merged,ranked
    """
    import msgspec

    from benchmarks.quality import evaluate_stages, run_stage, write_run
    from benchmarks.tables import show_measures
    from retrieval.judgments import read_judgments
    from service.cli.output import ProgressLines, show_notices, write_json
    from service.engine.candidates import STAGES
    from service.engine.engine import SearchEngine

    wanted = [stage.strip() for stage in stages.split(",")]
    if unknown := [stage for stage in wanted if stage not in STAGES]:
        raise SettingError(f"--stage: {unknown[0]!r} is no stage, it can be {', '.join(STAGES)}")
    judged = read_judgments(judgments)
    queries = list(judged.grades)
    runs: dict[str, Run] = {}
    with SearchEngine.open(index, follow=False) as engine, ProgressLines() as progress:
        show_notices((*engine.notices, *_missing(engine, judged.grades)))
        for stage in wanted:
            progress.begin(stage, len(queries), "queries")
            runs[stage] = run_stage(engine, queries, stage, advance=progress.advance)
            progress.end(f"{len(queries):,} queries")
    for stage, run in runs.items() if run_file else ():
        write_run(run, _run_path(run_file, stage, alone=len(runs) == 1), stage)
    measures = evaluate_stages(runs, judged)
    write_json(msgspec.json.encode(measures)) if as_json else show_measures(measures, len(queries))


@bench.command("latency", epilog="Example: shelfwise bench latency store --judgments judgments.tsv")
def bench_latency(
    index: IndexArgument,
    judgments: Annotated[Path | None, typer.Option(help="Take the queries of this file; else parts of titles.")] = None,
    count: Annotated[int, typer.Option(help="How many searches.", min=100)] = 2_000,
    threads: Annotated[int, typer.Option(help="Threads for searches a second.", min=1)] = 4,
    facet: Annotated[list[str] | None, typer.Option(help="A field to count in each search. Repeatable.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Time searches from text to page: percentiles one after the other, and searches a second from threads."""
    import msgspec

    from benchmarks.latency import measure_latency, opening_seconds, searcher, title_queries
    from benchmarks.tables import show_latency
    from service.cli.output import ProgressLines, write_json
    from service.engine.engine import SearchEngine

    with SearchEngine.open(index, follow=False) as engine, ProgressLines() as progress:
        queries = _repeated(_queries_of(judgments), count) if judgments else title_queries(engine, count)
        measured = {}
        for stage in engine.stages:
            progress.begin(stage, None, "")
            measured[stage] = measure_latency(searcher(engine, stage, facets=facet or ()), queries, threads=threads)
            progress.end(f"{2 * len(queries):,} searches")
        products = engine.manifest.products
    imported, opened = opening_seconds(index)
    result = {
        "products": products,
        "searches": len(queries),
        "threads": threads,
        "import_seconds": imported,
        "open_seconds": opened,
        "stages": {stage: asdict(latency) for stage, latency in measured.items()},
    }
    write_json(msgspec.json.encode(result)) if as_json else show_latency(result)


@bench.command("recall", epilog="Example: shelfwise bench recall store")
def bench_recall(
    index: IndexArgument,
    judgments: Annotated[Path | None, typer.Option(help="Take the queries of this file; else parts of titles.")] = None,
    count: Annotated[int, typer.Option(help="How many queries.", min=10)] = 300,
    as_json: JsonOption = False,
) -> None:
    """Compare the vector index with a scan of everything: recall@100 plain and under filters of any width."""
    import msgspec

    from benchmarks.latency import measure_recall, title_queries
    from benchmarks.tables import show_recall
    from retrieval.index.vectors import VECTORS_FILE
    from retrieval.store.files import load_array
    from retrieval.store.manifest import VECTORS_FOLDER
    from service.cli.output import write_json
    from service.engine.engine import SearchEngine

    with SearchEngine.open(index, follow=False) as engine:
        snapshot = engine.snapshot
        texts = _repeated(_queries_of(judgments), count) if judgments else title_queries(engine, count)
        folder = index / "versions" / engine.manifest.version / VECTORS_FOLDER
        vectors = load_array(folder / VECTORS_FILE)
        measured = list(measure_recall(snapshot.vectors, vectors, snapshot.encoder.encode_queries(texts)))
        result = {
            "vectors": snapshot.vectors.size,
            "index": engine.manifest.vectors,
            "recall": [asdict(each) for each in measured],
        }
    write_json(msgspec.json.encode(result)) if as_json else show_recall(result)


@bench.command("throughput", epilog="Example: shelfwise bench throughput store")
def bench_throughput(
    index: IndexArgument,
    count: Annotated[int, typer.Option(help="How many of the index's products to encode.", min=100)] = 2_000,
    model: Annotated[str, typer.Option(help="A model's name or folder.")] = "all-MiniLM-L6-v2",
    as_json: JsonOption = False,
) -> None:
    """Time text analysis and every runtime of the encoder over an index's own products."""
    import msgspec

    from benchmarks.latency import measure_runtimes, terms_per_second
    from benchmarks.tables import show_throughput
    from service.cli.output import write_json
    from service.engine.engine import SearchEngine

    with SearchEngine.open(index, follow=False) as engine:
        products = engine.snapshot.products
        titles = [products[row].title for row in range(len(products))]
    analysed = terms_per_second(titles)
    measured = measure_runtimes(model, titles[:: max(1, len(titles) // count)][:count], cache_folder())
    result = {"titles": len(titles), "terms_per_second": analysed, "runtimes": [asdict(each) for each in measured]}
    write_json(msgspec.json.encode(result)) if as_json else show_throughput(result)


@bench.command("quality", epilog="Example: shelfwise bench quality icecat=icecat/judgments.tsv hd=hd/judgments.tsv")
def bench_quality(
    sets: Annotated[list[str], typer.Argument(help="Dev sets, each as DIR=JUDGMENTS.tsv.", metavar="DIR=FILE...")],
    as_json: JsonOption = False,
) -> None:
    """Compare both retrievers and every way of merging them, over all dev sets together."""
    import msgspec

    from benchmarks.quality import measure, run_stage
    from benchmarks.tables import show_quality
    from retrieval.index.fusion import METHODS
    from retrieval.judgments import read_judgments
    from service.cli.output import ProgressLines, write_json
    from service.engine.engine import SearchEngine

    results: dict[str, dict[str, dict[str, float]]] = {}
    with ProgressLines() as progress:
        for each in sets:
            directory, _, file = each.rpartition("=")
            if not directory:
                raise SettingError(f"{each!r}: name the index and its judgments as DIR=JUDGMENTS.tsv")
            judged = read_judgments(Path(file))
            queries = list(judged.grades)
            ways = [("bm25", "bm25"), ("dense", "dense"), *((f"merged {name}", name) for name in METHODS)]
            results[directory] = {}
            with SearchEngine.open(directory, follow=False) as engine:
                for label, way in ways:
                    stage, merge = (way, next(iter(METHODS))) if way in {"bm25", "dense"} else ("merged", way)
                    progress.begin(f"{directory} {label}", len(queries), "queries")
                    run = run_stage(engine, queries, stage, merge=merge, advance=progress.advance)
                    results[directory][label] = measure(run, judged)
                    progress.end(f"nDCG@10 {results[directory][label]['nDCG@10']:.4f}")
    write_json(msgspec.json.encode(results)) if as_json else show_quality(results)


def _missing(engine: SearchEngine, grades: Mapping[str, Mapping[str, float]]) -> Sequence[str]:
    """A warning where judged products are not in the index: they can only lower the figures."""
    judged = {product for each in grades.values() for product in each}
    absent = [product for product in judged if engine.snapshot.products.row_of(product) is None]
    if not absent:
        return ()
    return (f"{len(absent):,} of {len(judged):,} judged products are not in the index, such as {min(absent)}",)


def _run_path(path: Path | None, stage: str, *, alone: bool) -> Path:
    """One file for a stage: its own name where there is one stage only, else with the stage in it."""
    path = path or Path("run.txt")
    return path if alone else path.with_name(f"{path.stem}.{stage}{path.suffix}")


def _queries_of(judgments: Path) -> list[str]:
    from retrieval.judgments import read_judgments

    return list(read_judgments(judgments).grades)


def _repeated(queries: list[str], count: int) -> list[str]:
    return (queries * (count // len(queries) + 1))[:count]
