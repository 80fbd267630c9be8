"""The commands that measure rankers: `shelfwise bench ranker`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from retrieval.errors import SettingError
from service.options import IndexArgument, JsonOption, cache_folder


def ranker(
    index: IndexArgument,
    judgments: Annotated[Path, typer.Argument(help="A judgments file.", metavar="JUDGMENTS")],
    teacher: Annotated[str, typer.Option(help="A cross-encoder's name or folder; without, none is measured.")] = "",
    part: Annotated[str, typer.Option(help="train, validation, test or all: a part of the queries.")] = "all",
    depth: Annotated[int, typer.Option(help="Candidates of each query.", min=10, max=1_000)] = 50,
    as_json: JsonOption = False,
) -> None:
    """Compare orders of the same candidates: merged, a teacher's, both mixed, and the ranker's that serves."""
    import msgspec

    from benchmarks.judgments import read_judgments
    from benchmarks.ranker_quality import PARTS, compare_orders, part_of, score_systems
    from benchmarks.tables import show_orders
    from rerank.ranker.onnx_ranker import OnnxRanker
    from rerank.ranker.registry import RankerRegistry
    from rerank.teacher.teacher import open_teacher
    from service.engine import SearchEngine
    from service.served_ranker import encoding_of
    from service.terminal import ProgressLines, show_notices, write_json
    from service.training.candidate_lists import candidate_lists
    from service.training.training import TRAINING_FOLDER

    if part not in PARTS:
        raise SettingError(f"--part: {part!r} is none, it can be {', '.join(PARTS)}")
    judged = read_judgments(judgments)
    queries = part_of(list(judged.grades), part)
    with SearchEngine.open(index, follow=False) as engine, ProgressLines() as progress:
        snapshot = engine.snapshot
        progress.begin("candidates", len(queries), "queries")
        lists = candidate_lists(snapshot, queries, 0.0, depth=depth, progress=progress.advance)
        progress.end(f"{len(lists.rows):,} of {len(queries):,} queries")
        serving = RankerRegistry(index).serving(encoding_of(snapshot))
        served = OnnxRanker(serving.ranker) if serving.ranker else None
        opened = open_teacher(teacher, cache=cache_folder()) if teacher else None
        kept = index / TRAINING_FOLDER / "teacher-scores"
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


_EXAMPLE = "shelfwise bench ranker store judgments.tsv --teacher cross-encoder/ms-marco-MiniLM-L-12-v2"
EXAMPLES = ((ranker, f"Example: {_EXAMPLE}"),)
