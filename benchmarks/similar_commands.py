"""`shelfwise bench similar`: what a shopper looks at after a product, by texts, by co-views, and by both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieval.errors import SettingError
from service.options import IndexArgument, JsonOption

if TYPE_CHECKING:
    from benchmarks.next_views import SimilarReport, ViewPart
    from service.snapshot import Snapshot


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

    from benchmarks.next_views import measure_similar
    from service.similar import WEIGHT
    from service.snapshot import serving_snapshot
    from service.terminal import ProgressLines, write_json

    if lines and len(lines) != 2:
        raise SettingError(f"--lines: {len(lines)} files; give two, that which tunes and that which judges")
    with serving_snapshot(index) as snapshot, ProgressLines() as progress:
        progress.begin("views", None, "")
        tuning, judging = _from_lines(lines, snapshot) if lines else _from_events(index, snapshot, days)
        progress.end(f"{len(judging.views.products):,}")
        progress.begin("similar", None, "")
        report = measure_similar(snapshot, tuning, judging, WEIGHT)
        progress.end(f"{report.known:,} products with co-views")
    write_json(msgspec.json.encode(report)) if as_json else show_similar(report)


def _from_lines(lines: list[Path], snapshot: Snapshot) -> tuple[ViewPart, ViewPart]:
    from benchmarks.next_view_lines import split_lines
    from benchmarks.purchase_lines import read_lines

    tuning, judging = map(read_lines, lines)
    return split_lines(snapshot, tuning, judging)


def _from_events(index: Path, snapshot: Snapshot, days: int) -> tuple[ViewPart, ViewPart]:
    from benchmarks.next_views import split_views
    from rerank.behaviour.derived import open_derived
    from retrieval.store_files import EVENTS_FOLDER
    from service.event_log import DERIVED_FOLDER

    derived = open_derived(index / EVENTS_FOLDER / DERIVED_FOLDER)
    return split_views(derived, days, lambda name: snapshot.products.row_of(name) is not None)


def show_similar(report: SimilarReport) -> None:
    """All ways on all views and on those after products with co-views, then the weights that were tried."""
    from benchmarks.tables import difference_cells, plain_table
    from service.terminal import out

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


EXAMPLES = ((similar, "Example: shelfwise bench similar store --days 7"),)
