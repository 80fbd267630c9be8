"""The commands that measure rankers: `shelfwise bench ranker`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rerank.teacher.default import DEFAULT_TEACHER
from retrieval.errors import SettingError
from service.options import IndexArgument, JsonOption, SettingsOption, TeacherOption, cache_folder


def ranker(
    index: IndexArgument,
    judgments: Annotated[Path, typer.Argument(help="A judgments file.", metavar="JUDGMENTS")],
    teacher: Annotated[str, typer.Option(help="A cross-encoder's name or folder; without, none is measured.")] = "",
    part: Annotated[str, typer.Option(help="train, validation, test or all: a part of the queries.")] = "all",
    depth: Annotated[int, typer.Option(help="Candidates of each query.", min=10, max=1_000)] = 50,
    folder: Annotated[
        Path | None, typer.Option("--ranker", help="A ranker's folder, in place of the one that serves.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare orders of the same candidates: merged, a teacher's, both mixed, and the ranker's that serves."""
    import msgspec

    from benchmarks.ranker_quality import PARTS, compare_orders, part_of, score_systems
    from benchmarks.tables import show_orders
    from rerank.ranker.onnx_ranker import OnnxRanker
    from rerank.ranker.registry import RankerRegistry, Serving, opened_ranker
    from rerank.teacher.teacher import open_teacher
    from retrieval.judgments import read_judgments
    from service.engine import SearchEngine
    from service.popularity import read_popularity
    from service.served_ranker import encoding_of
    from service.terminal import ProgressLines, show_notices, write_json
    from service.training.candidate_lists import candidate_lists
    from service.training.training import TEACHER_SCORES, TRAINING_FOLDER

    if part not in PARTS:
        raise SettingError(f"--part: {part!r} is none, it can be {', '.join(PARTS)}")
    judged = read_judgments(judgments)
    queries = part_of(list(judged.grades), part)
    with SearchEngine.open(index, follow=False) as engine, ProgressLines() as progress:
        snapshot = engine.snapshot
        progress.begin("candidates", len(queries), "queries")
        popularity = read_popularity(index)
        lists = candidate_lists(snapshot, queries, 0.0, depth=depth, popularity=popularity, progress=progress.advance)
        progress.end(f"{len(lists.rows):,} of {len(queries):,} queries")
        serving = Serving(opened_ranker(folder)) if folder else RankerRegistry(index).serving(encoding_of(snapshot))
        served = OnnxRanker(serving.ranker) if serving.ranker else None
        opened = open_teacher(teacher, cache=cache_folder()) if teacher else None
        kept = index / TRAINING_FOLDER / TEACHER_SCORES
        progress.begin("scores", len(lists.rows), "candidates")
        systems = dict(score_systems(snapshot, lists, opened, served, kept, progress.advance))
        progress.end(f"{len(systems)} orders of the same candidates")
        measured = compare_orders(snapshot, judged, lists, systems)
    result = {
        "queries": len(queries),
        "depth": depth,
        "orders": {name: asdict(each) for name, each in measured.items()},
    }
    show_notices(serving.notices)
    write_json(msgspec.json.encode(result)) if as_json else show_orders(measured, len(queries))


def ranker_learning(
    index: IndexArgument,
    judgments: Annotated[Path, typer.Argument(help="A judgments file.", metavar="JUDGMENTS")],
    teacher: TeacherOption = DEFAULT_TEACHER,
    from_catalog: Annotated[
        bool, typer.Option("--from-catalog", help="Distil on made queries, and test on all that were judged.")
    ] = False,
    queries: Annotated[int, typer.Option(help="How many queries to make.", min=200, max=1_000_000)] = 20_000,
    *,
    fine_tune: Annotated[
        int, typer.Option(help="Epochs to fine-tune the teacher on the training grades for.", min=0, max=20)
    ] = 0,
    seeds: Annotated[int, typer.Option(help="Trainings of each kind.", min=1, max=100)] = 3,
    depth: Annotated[int, typer.Option(help="Candidates of each query.", min=10, max=1_000)] = 50,
    dimension: Annotated[
        int | None, typer.Option(help="Columns of token states, the first ones of those in the index.", min=1)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train rankers on some judged queries, or on made ones, and measure them on others: distilled, tuned on grades."""
    import msgspec

    from benchmarks.fine_tuned import FineTunedTeacher
    from benchmarks.ranker_learning import LearningOptions, measure_learning, show_learning
    from rerank.teacher.teacher import open_teacher
    from retrieval.judgments import read_judgments
    from service.engine import SearchEngine
    from service.terminal import ProgressLines, write_json
    from service.training.from_catalog import CatalogOptions
    from service.training.training import TEACHER_SCORES, TRAINING_FOLDER

    if fine_tune and from_catalog:
        raise typer.BadParameter("made queries have no grades to fine-tune on; leave out --from-catalog or --fine-tune")
    judged, cache, training = read_judgments(judgments), cache_folder(), index / TRAINING_FOLDER
    catalog = CatalogOptions(queries=queries, teacher=teacher, cache=cache) if from_catalog else None
    tuned = FineTunedTeacher(teacher, training / "fine-tuned-teachers", fine_tune, cache) if fine_tune else None
    options = LearningOptions(
        depth, seeds=seeds, dimension=dimension, catalog=catalog, fine_tuned=tuned, kept=training / TEACHER_SCORES
    )
    with SearchEngine.open(index, follow=False) as engine, ProgressLines() as progress:
        opened = open_teacher(teacher, cache=cache)
        report = measure_learning(engine.snapshot, judged, opened, options, progress)
    write_json(msgspec.json.encode(report)) if as_json else show_learning(report)


def ranker_sessions(
    index: IndexArgument,
    seeds: Annotated[int, typer.Option(help="Trainings of each kind.", min=1, max=100)] = 3,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train rankers on some of an index's own click sessions, and tell how well they foretell the clicks of others."""
    from contextlib import closing

    import msgspec

    from benchmarks.ranker_sessions import SessionOptions, measure_sessions, show_sessions
    from rerank.behaviour.derived import open_derived
    from service.derived_tables import DerivedTables
    from service.engine import SearchEngine
    from service.event_log import EventLog
    from service.settings import load_settings
    from service.terminal import ProgressLines, write_json

    read = load_settings(settings)
    with (
        closing(EventLog.open(index, read, make=False)) as log,
        SearchEngine.open(index, follow=False) as engine,
        ProgressLines() as progress,
    ):
        tables = DerivedTables(index, log, read.events)
        progress.begin("events", None, "")
        progress.end(f"{tables.refresh().events:,} events")
        events = open_derived(tables.folder).lists()
        report = measure_sessions(engine.snapshot, events, SessionOptions(seeds=seeds), progress)
    write_json(msgspec.json.encode(report)) if as_json else show_sessions(report)


def ranker_speed(
    index: IndexArgument,
    teacher: Annotated[str, typer.Option(help="A cross-encoder's name or folder; without, none is timed.")] = "",
    queries: Annotated[int, typer.Option(help="Made of words of titles.", min=20, max=10_000)] = 400,
    as_json: JsonOption = False,
) -> None:
    """Time the last stage over 100 candidates: features head, cross-attention, a shopper's history, a teacher."""
    import msgspec

    from benchmarks.latency import title_queries
    from benchmarks.ranker_speed import measure_ranker_speed, show_ranker_speed
    from rerank.teacher.teacher import open_teacher
    from service.engine import SearchEngine
    from service.terminal import ProgressLines, write_json

    with SearchEngine.open(index, follow=False) as engine, ProgressLines() as progress:
        opened = open_teacher(teacher, cache=cache_folder()) if teacher else None
        progress.begin("timing", queries, "queries")
        asked = title_queries(engine, queries)
        report = measure_ranker_speed(engine.snapshot, asked, opened, progress.advance)
        progress.end(f"{report.queries:,} queries with 100 candidates")
    write_json(msgspec.json.encode(report)) if as_json else show_ranker_speed(report)


def ranker_pruning(
    index: IndexArgument,
    judgments: Annotated[Path, typer.Argument(help="A judgments file.", metavar="JUDGMENTS")],
    name: Annotated[
        str, typer.Option("--ranker", help="By default the one that serves, or the newest with cross-attention.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Measure smaller networks of a ranker on judged queries: what they lose, what they take, and how fast they are."""
    import msgspec

    from benchmarks.ranker_pruning import measure_pruning, show_pruning, with_layer
    from retrieval.judgments import read_judgments
    from service.engine import SearchEngine
    from service.terminal import ProgressLines, write_json

    judged = read_judgments(judgments)
    with SearchEngine.open(index, follow=False) as engine, ProgressLines() as progress:
        found = with_layer(index, engine.snapshot, name)
        report = measure_pruning(index, engine.snapshot, judged, found, progress)
    write_json(msgspec.json.encode(report)) if as_json else show_pruning(report)


_TEACHER = "cross-encoder/ms-marco-MiniLM-L-12-v2"
EXAMPLES = (
    (ranker, f"Example: shelfwise bench ranker store judgments.tsv --teacher {_TEACHER}"),
    (ranker_learning, "Example: shelfwise bench ranker-learning store judgments.tsv"),
    (ranker_pruning, "Example: shelfwise bench ranker-pruning store judgments.tsv"),
    (ranker_speed, f"Example: shelfwise bench ranker-speed store --teacher {_TEACHER}"),
    (ranker_sessions, "Example: shelfwise bench ranker-sessions store"),
)
