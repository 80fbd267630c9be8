"""`shelfwise bench recommend`: the next product of each shopper, ours beside what a store could choose today."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieval.errors import SettingError
from service.options import IndexArgument, JsonOption, SettingsOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.next_ways import Way
    from benchmarks.purchases import PurchaseSet
    from benchmarks.recommending import Catalog, RecommendReport
    from service.settings import Settings
    from service.snapshot import Snapshot


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

    from benchmarks.recommending import measure_recommending
    from service.settings import load_settings
    from service.snapshot import serving_snapshot
    from service.terminal import ProgressLines, write_json

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
    from benchmarks.next_baselines import baselines
    from benchmarks.next_ours import our_ways
    from benchmarks.next_sasrec import SASREC, check_installed, choose_sasrec
    from benchmarks.next_ways import Way

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
    from benchmarks.purchase_lines import divided_by_file, read_lines

    tuning, judging = map(read_lines, lines)
    return divided_by_file(tuning, judging, snapshot.products.row_of)


def _from_events(index: Path, snapshot: Snapshot, days: int, settings: Settings) -> PurchaseSet:
    from benchmarks.purchases import divided_by_time, purchases_of_events
    from service.event_log import EventLog

    with EventLog.open(index, settings, make=False) as log:
        held = log.store.days()
        events = log.store.read(min(held, default=0), max(held, default=0))
        return divided_by_time(purchases_of_events(events, snapshot.products.row_of), days)


def _catalog(snapshot: Snapshot) -> Catalog:
    import numpy as np

    from benchmarks.recommending import Catalog

    rows = np.arange(len(snapshot.products))
    paths = [snapshot.products[row].category for row in rows.tolist()]
    numbers = {path: number for number, path in enumerate(sorted({path for path in paths if path}))}
    categories = np.array([numbers.get(path, -1) for path in paths], np.int64)
    return Catalog(snapshot.vectors.gather(rows), categories if numbers else None)


def show_recommending(report: RecommendReport) -> None:
    """All ways on everything, then the slices, then what was chosen."""
    from benchmarks.recommending import EVERYTHING
    from benchmarks.tables import difference_cells, plain_table
    from service.terminal import out, show_notices

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

    from benchmarks.recommend_speed import measure_recommend_speed, show_recommend_speed
    from service.engine import SearchEngine
    from service.settings import load_settings
    from service.terminal import ProgressLines, write_json

    with (
        SearchEngine.open(index, settings=load_settings(settings), follow=False) as engine,
        ProgressLines() as progress,
    ):
        progress.begin("timing", None, "histories")
        report = measure_recommend_speed(engine, histories, seed, progress.advance)
        progress.end(f"{report.histories:,} histories")
    write_json(msgspec.json.encode(report)) if as_json else show_recommend_speed(report)


EXAMPLES = (
    (recommend, "Example: shelfwise bench recommend store --days 30 --seen hide"),
    (recommend_speed, "Example: shelfwise bench recommend-speed store"),
)
