"""The commands that measure rankers, towers and recommendations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rerank.teacher.pairs import DEFAULT_TEACHER
from retrieval.errors import SettingError
from service.cli.options import (
    BatchOption,
    EpochsOption,
    IndexArgument,
    JsonOption,
    LengthOption,
    RateOption,
    SeedOption,
    SettingsOption,
    TeacherOption,
    TemperatureOption,
    TowerTeacherOption,
    cache_folder,
    takes_tower_options,
)
from service.cli.training import CatalogOption, EncoderOption, OutOption, SyntheticOption, TuneOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.studies.purchases import PurchaseSet, Way
    from benchmarks.studies.recommend import Catalog, RecommendReport, SimilarReport, ViewPart
    from rerank.text_towers.options import TowerOptions
    from service.engine.snapshot import Snapshot
    from service.settings import Settings


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
    from rerank.model_store import RankerRegistry, Serving, opened_ranker
    from rerank.ranker.onnx import OnnxRanker
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

    from benchmarks.studies.rankers import FineTunedTeacher, LearningOptions, measure_learning, show_learning
    from rerank.teacher.teacher import open_teacher
    from retrieval.judgments import read_judgments
    from service.cli.output import ProgressLines, write_json
    from service.engine.engine import SearchEngine
    from service.training.ranker_dataset import CatalogOptions
    from service.training.training_session import TEACHER_SCORES, TRAINING_FOLDER

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

    from benchmarks.studies.ranker_clicks import SessionOptions, measure_sessions, show_sessions
    from rerank.sessions.tables import open_derived
    from service.cli.output import ProgressLines, write_json
    from service.engine.engine import SearchEngine
    from service.events.derived_tables import DerivedTables
    from service.events.event_log import EventLog
    from service.settings import load_settings

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
    (ranker_learning, "Example: shelfwise bench ranker-learning store judgments.tsv"),
    (ranker_pruning, "Example: shelfwise bench ranker-pruning store judgments.tsv"),
    (ranker_speed, f"Example: shelfwise bench ranker-speed store --teacher {_TEACHER}"),
    (ranker_sessions, "Example: shelfwise bench ranker-sessions store"),
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
    options: Callable[[], TowerOptions],
) -> None:
    """Train the encoder on four fifths of the judged queries, and measure it on the others over the whole catalog.

    The index stays as it is; the trained towers stay where they were written.
    """
    import msgspec

    from benchmarks.studies.text_towers import measure_towers, show_towers
    from retrieval.judgments import read_judgments
    from service.cli.output import ProgressLines, write_json
    from service.settings import load_settings
    from service.training.text_towers import TowersRequest

    request = TowersRequest(
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


def tower_ways(
    index: IndexArgument,
    judgments: Annotated[Path, typer.Argument(help="A judgments file.", metavar="JUDGMENTS")],
    ways: Annotated[
        str, typer.Option("--ways", help="Those to measure beside the plain one, with commas; by default all.")
    ] = "",
    share: Annotated[
        float, typer.Option("--share", help="Of the queries that may train; the rest measures.", min=0.01, max=0.95)
    ] = 0.3,
    encoder: EncoderOption = "",
    epochs: EpochsOption = 2,
    batch: BatchOption = 128,
    *,
    learning_rate: RateOption = 1e-4,
    temperature: TemperatureOption = 0.05,
    max_length: LengthOption = 32,
    teacher: TowerTeacherOption = "",
    runtime: Annotated[str, typer.Option("--runtime", help="Of what was trained.")] = "auto",
    seed: SeedOption = 0,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the encoder in one way after the other, with the same queries and time, and measure what each gives."""
    import msgspec

    from benchmarks.studies.text_towers import measure_ways, show_ways, ways_of
    from rerank.text_towers.losses import LossOptions
    from rerank.text_towers.options import TowerOptions
    from retrieval.judgments import read_judgments
    from service.cli.output import ProgressLines, write_json
    from service.settings import load_settings
    from service.training.text_towers import TowersRequest

    options = TowerOptions(
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        max_length=max_length,
        # Of what takes time beside the steps, little.
        parts=1,
        rounds=1,
        pool=2_000,
        mix=False,
        loss=LossOptions(temperature=temperature, cached=False),
        seed=seed,
    )
    request = TowersRequest(encoder=encoder, teacher=teacher, cache=cache_folder(), options=options)
    names = [each.strip() for each in ways.split(",")] if ways else ways_of(teacher)
    loaded = load_settings(settings)
    with ProgressLines() as progress:
        report = measure_ways(index, loaded, read_judgments(judgments), request, share, names, runtime, progress)
    write_json(msgspec.json.encode(report)) if as_json else show_ways(report)


TOWER_EXAMPLES = (
    (towers, "Example: shelfwise bench towers store judgments.tsv --runtime onnx-int8,onnx-fp32"),
    (tower_ways, "Example: shelfwise bench tower-ways store judgments.tsv --ways pointwise,lora,fgm"),
)


# `shelfwise bench recommend`: the next product of each shopper, ours beside what a store could choose today.


class Seen(StrEnum):
    """What becomes of products that the shopper has bought."""

    HIDE = "hide"
    SHOW = "show"


def recommend(
    index: IndexArgument,
    lines: Annotated[
        list[Path] | None,
        typer.Option(
            "--lines", help="Two files of histories and the next purchase: that which tunes, that which judges."
        ),
    ] = None,
    days: Annotated[int, typer.Option(help="Judge on the last days of the index's events.", min=1, max=3_650)] = 30,
    seen: Annotated[
        Seen, typer.Option(help="Whether products that the shopper has bought are candidates.")
    ] = Seen.HIDE,
    only: Annotated[list[str] | None, typer.Option("--way", help="Only this way, by its name. Repeatable.")] = None,
    *,
    least_shoppers: Annotated[
        int | None,
        typer.Option(
            "--least-shoppers",
            help="The tower knows products and pairs that so many chose; by default events.minimum_shoppers.",
            min=1,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Another seed starts the trainings from other numbers.", min=0, max=1_000_000)
    ] = 1,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Foretell each shopper's next purchase over the whole catalog: HR@10 and NDCG@10 by way, shopper and product.

    Popularity, item-kNN, EASE, BPR and SASRec learn from the same purchases as our ways; SASRec needs the extra
    `bench`.
    """
    import msgspec

    from benchmarks.studies.recommend import measure_recommending
    from service.cli.output import ProgressLines, write_json
    from service.engine.snapshot import serving_snapshot
    from service.settings import load_settings

    hide = seen is Seen.HIDE
    told = load_settings(settings)
    least = least_shoppers or told.events.minimum_shoppers
    ways = _ways(only or [], timed=not lines, hide_seen=hide, least_shoppers=least)
    if lines and len(lines) != 2:
        raise SettingError(f"--lines: {len(lines)} files; give two, that which tunes and that which judges")
    with serving_snapshot(index, told) as snapshot, ProgressLines() as progress:
        progress.begin("purchases", None, "")
        bought = _from_lines(lines, snapshot) if lines else _from_events(index, snapshot, days, told)
        progress.end(f"{len(bought.judging.training.products):,}")
        report = measure_recommending(bought, _catalog(snapshot), ways, hide_seen=hide, seed=seed, progress=progress)
    write_json(msgspec.json.encode(report)) if as_json else show_recommending(report)


def _ways(only: Sequence[str], *, timed: bool, hide_seen: bool, least_shoppers: int) -> list[Way]:
    """Theirs, then ours; all, or those of these names."""
    from benchmarks.studies.baselines import SASREC, baselines, check_installed, choose_sasrec
    from benchmarks.studies.purchases import Way
    from benchmarks.studies.recommend import our_ways

    every = [
        *baselines(timed=timed, hide_seen=hide_seen),
        Way(SASREC, choose_sasrec),
        *our_ways(least_shoppers=least_shoppers),
    ]
    names = [way.name for way in every]
    if unknown := [name for name in only if name not in names]:
        raise SettingError(f"--way: {unknown[0]!r} is none, it can be {', '.join(names)}")
    if SASREC in (only or names):
        check_installed()
    return [way for way in every if not only or way.name in only]


def _from_lines(lines: list[Path], snapshot: Snapshot) -> PurchaseSet:
    from benchmarks.studies.purchases import divided_by_file, read_lines

    tuning, judging = map(read_lines, lines)
    return divided_by_file(tuning, judging, snapshot.products.row_of)


def _from_events(index: Path, snapshot: Snapshot, days: int, settings: Settings) -> PurchaseSet:
    from benchmarks.studies.purchases import divided_by_time, purchases_of_events
    from service.events.event_log import EventLog

    with EventLog.open(index, settings, make=False) as log:
        held = log.store.days()
        events = log.store.read(min(held, default=0), max(held, default=0))
        return divided_by_time(purchases_of_events(events, snapshot.products.row_of), days)


def _catalog(snapshot: Snapshot) -> Catalog:
    import numpy as np

    from benchmarks.studies.recommend import Catalog

    rows = np.arange(len(snapshot.products))
    paths = [snapshot.products[row].category for row in rows.tolist()]
    numbers = {path: number for number, path in enumerate(sorted({path for path in paths if path}))}
    categories = np.array([numbers.get(path, -1) for path in paths], np.int64)
    return Catalog(snapshot.vectors.gather(rows), categories if numbers else None)


def show_recommending(report: RecommendReport) -> None:
    """All ways on everything, then the slices, then what was chosen."""
    from benchmarks.studies.recommend import EVERYTHING
    from benchmarks.tables import difference_cells, plain_table
    from service.cli.output import out, show_notices

    seen = "left out" if report.hide_seen else "candidates, too"
    out.print(
        f"{report.products:,} products; {report.purchases:,} purchases of {report.shoppers:,} shoppers, "
        f"{report.divided}; what a shopper has bought is {seen}",
        highlight=False,
        soft_wrap=True,
    )
    whole = report.slices[EVERYTHING]
    last = list(whole.figures)[-1]
    columns = ["", "HR@10", "from", "to", "NDCG@10", "from", "to", f"{last} above it", "from", "to", "s"]
    table = plain_table(columns, f"{whole.cases:,} purchases of {whole.shoppers:,} shoppers; 95% by bootstrap")
    for name, each in whole.figures.items():
        reached = [f"{end:.4f}" for part in (each.hit_rate, each.ndcg) for end in (part.mean, part.low, part.high)]
        table.add_row(name, *reached, *difference_cells(each.from_last), f"{report.ways[name].seconds:.0f}")
    out.print(table)
    table = plain_table(["HR@10 / NDCG@10", *whole.figures], "")
    for part, those in report.slices.items():
        cells = (f"{each.hit_rate.mean:.4f} / {each.ndcg.mean:.4f}" for each in those.figures.values())
        table.add_row(f"{part} ({those.cases:,})", *cells)
    out.print(table)
    for name, way in report.ways.items():
        if way.options:
            out.print(f"{name}: {way.options}", highlight=False, soft_wrap=True)
    show_notices(tuple(f"{name} is left out: {why}" for name, why in report.left_out.items()))


def recommend_speed(
    index: IndexArgument,
    histories: Annotated[int, typer.Option(help="How many, of 50 acts each.", min=20, max=100_000)] = 400,
    seed: Annotated[int, typer.Option(help="Another one draws other histories.", min=0)] = 1,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Time a shopper's vector and a whole answer, by the shopper tower that serves."""
    import msgspec

    from benchmarks.studies.recommend import measure_recommend_speed, show_recommend_speed
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


RECOMMEND_EXAMPLES = (
    (recommend, "Example: shelfwise bench recommend store --days 30 --seen hide"),
    (recommend_speed, "Example: shelfwise bench recommend-speed store"),
)


def similar(
    index: IndexArgument,
    days: Annotated[int, typer.Option(help="Judge on the last days of the tables of events.", min=1, max=3_650)] = 7,
    lines: Annotated[
        list[Path] | None,
        typer.Option("--lines", help="Instead: two files of histories and the next purchase, one tunes, one judges."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Foretell what a shopper looks at after a product: recall@10 and nDCG@10 of texts, co-views and their mixture.

    Co-views are of what came before the days that judge; as many days before these try other weights.
    """
    import msgspec

    from benchmarks.studies.recommend import measure_similar
    from service.cli.output import ProgressLines, write_json
    from service.engine.recommend import WEIGHT
    from service.engine.snapshot import serving_snapshot

    if lines and len(lines) != 2:
        raise SettingError(f"--lines: {len(lines)} files; give two, that which tunes and that which judges")
    with serving_snapshot(index) as snapshot, ProgressLines() as progress:
        progress.begin("views", None, "")
        tuning, judging = _similar_from_lines(lines, snapshot) if lines else _similar_from_events(index, snapshot, days)
        progress.end(f"{len(judging.views.products):,}")
        progress.begin("similar", None, "")
        report = measure_similar(snapshot, tuning, judging, WEIGHT)
        progress.end(f"{report.known:,} products with co-views")
    write_json(msgspec.json.encode(report)) if as_json else show_similar(report)


def _similar_from_lines(lines: list[Path], snapshot: Snapshot) -> tuple[ViewPart, ViewPart]:
    from benchmarks.studies.purchases import read_lines
    from benchmarks.studies.recommend import split_lines

    tuning, judging = map(read_lines, lines)
    return split_lines(snapshot, tuning, judging)


def _similar_from_events(index: Path, snapshot: Snapshot, days: int) -> tuple[ViewPart, ViewPart]:
    from benchmarks.studies.recommend import split_views
    from rerank.sessions.tables import open_derived
    from retrieval.store.manifest import EVENTS_FOLDER
    from service.events.event_log import DERIVED_FOLDER

    derived = open_derived(index / EVENTS_FOLDER / DERIVED_FOLDER)
    return split_views(derived, days, lambda name: snapshot.products.row_of(name) is not None)


def show_similar(report: SimilarReport) -> None:
    """All ways on all views and on those after products with co-views, then the weights that were tried."""
    from benchmarks.tables import difference_cells, plain_table
    from service.cli.output import out

    out.print(
        f"{report.products:,} products, {report.known:,} of them with co-views; co-views count {report.weight:g} "
        "deviations of the cosine",
        highlight=False,
        soft_wrap=True,
    )
    columns = ["", "recall@10", "from", "to", "nDCG@10", "from", "to", "mixed above it", "from", "to"]
    for name, part in report.slices.items():
        table = plain_table(columns, f"{name}: {part.views:,} of {part.shoppers:,} shoppers; 95% by bootstrap")
        for way, each in part.figures.items():
            reached = [f"{end:.4f}" for told in (each.recall, each.ndcg) for end in (told.mean, told.low, told.high)]
            table.add_row(way, *reached, *difference_cells(each.mixed_above))
        out.print(table)
    table = plain_table(
        ["weight", *(f"{weight:g}" for weight in report.tuning)], f"{report.tuning_views:,} views before"
    )
    table.add_row("nDCG@10", *(f"{reached:.4f}" for reached in report.tuning.values()))
    out.print(table)


SIMILAR_EXAMPLES = ((similar, "Example: shelfwise bench similar store --days 7"),)
