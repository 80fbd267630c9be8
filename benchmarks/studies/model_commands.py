"""The commands that measure rankers, towers and recommendations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieval.errors import SettingError
from service.cli.options import (
    IndexArgument,
    JsonOption,
    SettingsOption,
    TowerTeacherOption,
    cache_folder,
    takes_tower_options,
)
from service.cli.training import CatalogOption, EncoderOption, OutOption, SyntheticOption, TuneOption

if TYPE_CHECKING:
    from rerank.text_towers.options import TextTowerOptions


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

    from benchmarks.studies.rankers import PARTS, compare_orders, part_of, score_systems
    from benchmarks.tables import show_orders
    from rerank.model_store import ServingModel
    from rerank.ranker.onnx import OnnxRanker
    from rerank.ranker.spec import RANKERS, ranker_store
    from rerank.teacher.teacher import open_teacher
    from retrieval.judgments import read_judgments
    from service.cli.output import ProgressLines, show_notices, write_json
    from service.engine.engine import SearchEngine
    from service.engine.hot_reload import read_popularity
    from service.engine.models import encoding_of
    from service.training.ranker_dataset import candidate_lists
    from service.training.training_session import TEACHER_SCORES, TRAINING_FOLDER

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
        serving = ServingModel(RANKERS.open(folder)) if folder else ranker_store(index).serving(encoding_of(snapshot))
        served = OnnxRanker(serving.model) if serving.model else None
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


def ranker_speed(
    index: IndexArgument,
    teacher: Annotated[str, typer.Option(help="A cross-encoder's name or folder; without, none is timed.")] = "",
    queries: Annotated[int, typer.Option(help="Made of words of titles.", min=20, max=10_000)] = 400,
    as_json: JsonOption = False,
) -> None:
    """Time the last stage over 100 candidates: features head, cross-attention, a shopper's history, a teacher."""
    import msgspec

    from benchmarks.latency import title_queries
    from benchmarks.studies.ranker_speed import measure_ranker_speed, show_ranker_speed
    from rerank.teacher.teacher import open_teacher
    from service.cli.output import ProgressLines, write_json
    from service.engine.engine import SearchEngine

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

    from benchmarks.studies.ranker_speed import measure_pruning, show_pruning, with_layer
    from retrieval.judgments import read_judgments
    from service.cli.output import ProgressLines, write_json
    from service.engine.engine import SearchEngine

    judged = read_judgments(judgments)
    with SearchEngine.open(index, follow=False) as engine, ProgressLines() as progress:
        found = with_layer(index, engine.snapshot, name)
        report = measure_pruning(index, engine.snapshot, judged, found, progress)
    write_json(msgspec.json.encode(report)) if as_json else show_pruning(report)


_TEACHER = "cross-encoder/ms-marco-MiniLM-L-12-v2"
RANKER_EXAMPLES = (
    (ranker, f"Example: shelfwise bench ranker store judgments.tsv --teacher {_TEACHER}"),
    (ranker_pruning, "Example: shelfwise bench ranker-pruning store judgments.tsv"),
    (ranker_speed, f"Example: shelfwise bench ranker-speed store --teacher {_TEACHER}"),
)


# The command that measures trained towers: `shelfwise bench towers`.


@takes_tower_options
def towers(
    index: IndexArgument,
    judgments: Annotated[Path, typer.Argument(help="A judgments file.", metavar="JUDGMENTS")],
    encoder: EncoderOption = "",
    from_catalog: CatalogOption = 0,
    *,
    synthetic: SyntheticOption = 0,
    tune: TuneOption = 0,
    teacher: TowerTeacherOption = "",
    runtimes: Annotated[
        str, typer.Option("--runtime", help="Of what was trained; several are separated by commas.")
    ] = "auto",
    out: OutOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
    options: Callable[[], TextTowerOptions],
) -> None:
    """Train the encoder on four fifths of the judged queries, and measure it on the others over the whole catalog.

    The index stays as it is; the trained towers stay where they were written.
    """
    import msgspec

    from benchmarks.studies.text_towers import measure_towers, show_towers
    from retrieval.judgments import read_judgments
    from service.cli.output import ProgressLines, write_json
    from service.settings import load_settings
    from service.training.text_towers import TextTowersRequest

    request = TextTowersRequest(
        catalog=from_catalog,
        synthetic=synthetic,
        encoder=encoder,
        teacher=teacher,
        out=out,
        cache=cache_folder(),
        options=options(),
        tune=tune,
    )
    named, loaded = [each.strip() for each in runtimes.split(",")], load_settings(settings)
    with ProgressLines() as progress:
        report = measure_towers(index, loaded, read_judgments(judgments), request, named, progress)
    write_json(msgspec.json.encode(report)) if as_json else show_towers(report)


TOWER_EXAMPLES = ((towers, "Example: shelfwise bench towers store judgments.tsv --runtime onnx-int8,onnx-fp32"),)


def recommend_speed(
    index: IndexArgument,
    histories: Annotated[int, typer.Option(help="How many, of 50 acts each.", min=20, max=100_000)] = 400,
    seed: Annotated[int, typer.Option(help="Another one draws other histories.", min=0)] = 1,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Time a shopper's vector and a whole answer, by the user tower that serves."""
    import msgspec

    from benchmarks.studies.recommend_speed import measure_recommend_speed, show_recommend_speed
    from service.cli.output import ProgressLines, write_json
    from service.engine.engine import SearchEngine
    from service.settings import load_settings

    with (
        SearchEngine.open(index, settings=load_settings(settings), follow=False) as engine,
        ProgressLines() as progress,
    ):
        progress.begin("timing", None, "histories")
        report = measure_recommend_speed(engine, histories, seed, progress.advance)
        progress.end(f"{report.histories:,} histories")
    write_json(msgspec.json.encode(report)) if as_json else show_recommend_speed(report)


RECOMMEND_EXAMPLES = ((recommend_speed, "Example: shelfwise bench recommend-speed store"),)
