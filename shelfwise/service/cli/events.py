"""Shoppers' events: `events import`, `refresh`, `report`, `export`, `forget`, `expire`, `rotate-key`, `move`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.text import Text
from typer import Argument, Option

from shelfwise.indexer.events.event_mapping import EventMapping, load_event_mapping
from shelfwise.indexer.events.importer import ImportOptions, ImportReport, import_events
from shelfwise.rerank.sessions.cleaning import RejectReason
from shelfwise.rerank.sessions.refresh import RefreshResult
from shelfwise.retrieval.errors import FeedError, SettingError
from shelfwise.retrieval.events.privacy import utc_now
from shelfwise.retrieval.events.store import EventExport, EventStore, export_events
from shelfwise.retrieval.store.manifest import CURRENT
from shelfwise.retrieval.value_texts import printable
from shelfwise.service.cli.options import Backend, Index, SettingsFile, Workers, command
from shelfwise.service.cli.output import (
    Column,
    TerminalProgress,
    count_text,
    counts_text,
    emit,
    say,
    show_notices,
    show_objects,
    show_pairs,
    show_rows,
)
from shelfwise.service.events.event_log import (
    EventLog,
    MoveResult,
    is_in_cluster,
    move_events,
    open_store,
    other_stores,
    rejects_path,
)
from shelfwise.service.events.privacy import ErasureReport, erase_pseudonyms
from shelfwise.service.events.privacy import expire as run_expire
from shelfwise.service.reports.event_report import EventReport, stored_report
from shelfwise.service.reports.exposure_report import ExposureReport, exposure_report
from shelfwise.service.settings import Settings, load_settings
from shelfwise.service.sponsored.ledger import Ledger
from shelfwise.service.training.derived_tables import DerivedTablesManager


@command("events import store log.jsonl.gz --mapping ubi.toml")
def import_logs(
    index: Index,
    logs: Annotated[
        list[str],
        Argument(
            help="Logs as UBI JSON, JSON lines, CSV or Parquet; plain, gzip or zstd; - for standard input.",
            metavar="LOG",
        ),
    ],
    mapping: Annotated[str, Option(help="Mapping file for the log's columns, or retrotech, online_retail.")] = "",
    log_format: Annotated[str, Option("--format", help="Format of the logs; detected by default.")] = "",
    workers: Workers = None,
    settings: SettingsFile = None,
) -> None:
    """Import the events of logs into the event store. Run again, it imports only new events."""
    fields = load_event_mapping(mapping) if mapping else EventMapping()
    options = ImportOptions(fields, log_format, workers=workers)
    with EventLog.open(index, load_settings(settings), make=True) as log, TerminalProgress() as progress:
        rejects = rejects_path(log.folder, utc_now())
        report = import_events(logs, log.store, log.intake, options, rejected=rejects, progress=progress)
    emit(report, _show_import, rejects)
    if report.failure:
        raise FeedError(report.failure)


@command("events refresh store")
def refresh(
    index: Index,
    days: Annotated[int | None, Option(help="Days that the tables cover; by default 180.", min=1, max=36_500)] = None,
    settings: SettingsFile = None,
) -> None:
    """Clean new events, detect bots, and update the derived tables; without events, relations from texts."""
    loaded = load_settings(settings)
    with _upkeep(index, loaded, make=(index / CURRENT).is_file()) as (log, others, tables):
        left = sum(store.count() for store in others)
        if left:
            show_notices((f"{left:,} events are in the other event store; to move them here: shelfwise events move",))
        kept_days = loaded.events.retention_days
        removed = run_expire(log, kept_days, others) if kept_days is not None else 0
        if removed:
            show_notices((f"{removed:,} events were removed: older than events.retention_days, {kept_days}",))
        result = tables.refresh(days, purge=removed > 0)
    emit(result, _show_refresh, tables)


@command("events report store")
def report(index: Index) -> None:
    """Report events by kind, clicks by position, bots and fraud, rejected rows and events. Queries, products and
    revenue are on the admin page."""
    emit(stored_report(index), show_report)


@command("events exposure store --by brand")
def exposure(
    index: Index, by: Annotated[str, Option(help="A field, such as brand, category or attributes.seller.")] = "brand"
) -> None:
    """Show how impressions, clicks and revenue are shared among groups of products, compared with merit by clicks."""
    emit(exposure_report(index, by), show_exposure)


@command("events export store --out events-parquet")
def export(
    index: Index,
    folder: Annotated[Path, Option("--out", help="Folder of the files.")] = Path("events-export"),
    settings: SettingsFile = None,
) -> None:
    """Write all events as Parquet, one file per month, with pseudonyms of shoppers."""
    with EventLog.open(index, load_settings(settings), make=False) as log, TerminalProgress() as progress:
        progress.begin("export", log.store.count(), "events")
        export = export_events(log.store, folder, progress.advance)
        progress.end(f"{sum(export.files.values()):,} events, {export.bytes / 1e6:,.1f} MB")
    emit(export, _show_export, folder)


@command("events forget store u1042")
def forget(
    index: Index,
    shopper: Annotated[str, Argument(help="Id of the shopper in the store's events.", metavar="USER")] = "",
    pseudonyms: Annotated[
        list[str] | None, Option("--pseudonym", help="A pseudonym of the shopper, instead of the id. Repeatable.")
    ] = None,
    settings: SettingsFile = None,
) -> None:
    """Erase a shopper from the event store and from every derived table, and verify that nothing is left."""
    if bool(shopper) == bool(pseudonyms):
        raise typer.BadParameter("name the shopper", param_hint="USER")
    with _upkeep(index, load_settings(settings)) as (log, others, tables):
        names = pseudonyms or log.intake.pseudonyms.all_pseudonyms(shopper)
        ledger = Ledger(index)
        ledger.forget(names)
        done = erase_pseudonyms(
            log, names, tables.purge, lambda some: tables.rows_of(some) + ledger.holds(some), others
        )
    emit(done, _show_erasure)
    if not done.is_complete:
        raise typer.Exit(1)


@command("events rotate-key store", json=False)
def rotate_key(index: Index, settings: SettingsFile = None) -> None:
    """Create a new key for pseudonyms, so that a shopper's future events are not linked to earlier ones."""
    with EventLog.open(index, load_settings(settings), make=False) as log:
        pseudonyms = log.intake.pseudonyms
        name = pseudonyms.rotate()
    *old, _ = pseudonyms.names
    note = f"; {', '.join(old)} stay{'s' if len(old) == 1 else ''} until the events under older keys are removed"
    say(f"New pseudonyms use the key {name}{note}. Back up {pseudonyms.path}.")


@command("events move store --to elasticsearch")
def move(
    index: Index,
    target: Annotated[Backend, Option("--to", help="Where the events are stored from then on.")],
    settings: SettingsFile = None,
) -> None:
    """Move all events between this machine and the cluster. No process may record events meanwhile."""
    loaded = load_settings(settings)
    is_clustered = target == "elasticsearch"
    if is_in_cluster(index, loaded) != is_clustered:
        raise SettingError(
            f"events must be stored where the index is searched, which is not {target}; first run "
            f"shelfwise rebuild {index} --backend {target}"
        )
    with (
        closing(open_store(index, loaded, is_clustered=not is_clustered)) as source,
        closing(open_store(index, loaded, is_clustered=is_clustered)) as moved_to,
        TerminalProgress() as progress,
    ):
        progress.begin("move", source.count(), "events")
        moved = move_events(source, moved_to, progress.advance)
        progress.end(f"{moved.moved:,} events")
    emit(moved, _show_move, target)


@contextmanager
def _upkeep(
    index: Path, settings: Settings, *, make: bool = False
) -> Iterator[tuple[EventLog, tuple[EventStore, ...], DerivedTablesManager]]:
    """The events of an index, other stores that may have some, and their tables, with progress on the terminal."""
    with (
        EventLog.open(index, settings, make=make) as log,
        other_stores(index, settings) as others,
        TerminalProgress() as progress,
    ):
        yield log, others, DerivedTablesManager(index, log, settings.events, progress=progress)


def _show_import(report: ImportReport, rejects: Path) -> None:
    span = f"{report.first:%Y-%m-%d %H:%M} to {report.last:%Y-%m-%d %H:%M} UTC" if report.first and report.last else ""
    numbers = {"products": report.products, "shoppers": report.shoppers, "sessions": report.sessions}
    different = {name: "very many" if count is None else f"{count:,}" for name, count in numbers.items()}
    pairs: list[tuple[str, str | Text]] = [
        ("rows", f"{report.rows:,} in {report.seconds:.1f} s, {report.rows_per_second:,.0f} a second"),
        ("events", f"{report.added:,} new, {report.repeated:,} already there"),
        ("kinds", counts_text(report.events)),
        ("time", span),
        ("different", ", ".join(f"{name}: {count}" for name, count in different.items())),
        ("excluded", counts_text(report.skipped)),
        ("rejected", f"{report.rejected_count:,}{f', see {rejects}' if report.rejected_count else ''}"),
    ]
    for reason, each in report.rejected.items():
        pairs.append(("", f"{each.count:,} x {reason}"))
        for example in each.examples[:2]:
            text = printable(f"  {Path(example.file).name} line {example.line:,}: {example.detail}")
            pairs.append(("", Text(text, style="dim", overflow="ellipsis")))
    show_pairs((*pairs, *(("note", note) for note in report.notes)))


_SUSPECTS = 5


def show_report(report: EventReport) -> None:
    """Prints the report's tables, without empty ones."""
    kinds = "events", "used", "in flagged sessions", "rejected"
    show_rows(kinds, map(astuple, report.kinds), empty="There are no events in this window: shelfwise events import")
    flagged = f"{report.flagged_sessions:,} of {report.sessions:,} sessions"
    say(f"{flagged} are flagged as bots or fraud, with {report.flagged_clicks:,} clicks")
    heads = "position", "shown", "clicks", "click rate", "examination", "click rate of examined"
    show_rows(heads, map(astuple, report.positions), empty="No position was shown 100 times in answers to searches.")
    show_rows(("flagged because", "sessions", "clicks", "shoppers"), map(astuple, report.reasons))
    show_rows(("suspect", "score", "sessions", "clicks", "first", "last"), map(astuple, report.suspects[:_SUSPECTS]))
    show_rows(("rejected by imports", "count", "first"), map(astuple, report.rejected_rows))
    show_rows(("rejected by cleaning", "count", "first"), map(astuple, report.rejected_events))


def _show_refresh(result: RefreshResult, tables: DerivedTablesManager) -> None:
    window = result.window
    days = count_text(tables.earlier_days, "earlier day")
    earlier = f"events of {days} are not used; for a longer window: --days N" if tables.earlier_days else ""
    later = f"{tables.later_days:,} later days with events are too few for another window" if tables.later_days else ""
    show_pairs(
        (
            ("window", f"{window.first:%Y-%m-%d} to {window.last:%Y-%m-%d %H:%M} UTC"),
            ("earlier", earlier),
            ("later", later),
            ("days", f"{result.days_made:,} cleaned, {result.days_kept:,} unchanged"),
            ("events", f"{result.events:,} in {result.sessions:,} sessions"),
            ("bots", f"{result.flagged_sessions:,} sessions with {result.flagged_clicks:,} clicks are excluded"),
            ("refunds", f"{tables.refunds:,} charged clicks on sponsored hits are fraud" if tables.refunds else ""),
            ("rejected", counts_text(result.rejected) or "none"),
            ("", _SHARED_ADDRESS if result.rejected.get(RejectReason.SURPLUS, 0) > result.events / 10 else ""),
            ("clocks", f"{result.corrected:,} events with corrected times" if result.corrected else ""),
            ("tables", counts_text(result.tables)),
            ("labels", _weights_text(tables.label_weights())),
            ("seconds", f"{result.seconds:.1f}"),
        )
    )


_SHARED_ADDRESS = "many events come from few addresses; behind a proxy, name it in service.trusted_proxies"


def _weights_text(weights: pl.DataFrame) -> str:
    """The weights as shares of their sum."""
    values = weights["weight"].to_list()
    purchases = weights["purchases"][0]
    total = sum(values) or 1.0
    shares = ", ".join(f"{name} {value / total:.0%}" for name, value in zip(weights["signal"], values, strict=True))
    if weights["fitted"].all():
        return f"{shares}: fitted to {purchases:,} later purchases"
    return f"{shares}: a convention; {purchases:,} later purchases are too few to fit them"


def show_exposure(report: ExposureReport) -> None:
    """Prints a line for each group, and the measures over all groups."""
    columns: dict[str, Column] = {
        report.by: "group",
        "shown": "impressions",
        "clicks": "clicks",
        "revenue": lambda row: f"{row.revenue:,.0f}",
        "exposure": lambda row: f"{row.exposure:.1%}",
        "merit": lambda row: f"{row.target:.1%}",
        "ratio": lambda row: f"{row.ratio:.2f}",
    }
    show_objects(report.groups, columns)
    show_pairs(
        (
            ("window", f"{report.first:%Y-%m-%d} to {report.last:%Y-%m-%d}, {report.lists:,} lists"),
            ("distance", f"{report.distance:.4f} between the groups' shares and those by merit (AWRF, 0 to 1)"),
            ("examination", ", ".join(f"{each:.2f}" for each in report.examination[:10])),
        )
    )


def _show_export(export: EventExport, folder: Path) -> None:
    if export.files:
        show_pairs((str(folder / name), f"{count:,} events") for name, count in export.files.items())
    else:
        say("There are no events to export.")


def _show_erasure(report: ErasureReport) -> None:
    files = ", ".join(report.found_in) if report.found_in else "not in any of them"
    rest = f"{count_text(report.remaining_events, 'event')}, {count_text(report.remaining_rows, 'value')} in tables"
    show_pairs(
        (
            ("removed", f"{count_text(report.events, 'event')}, {count_text(report.rejected_rows, 'rejected row')}"),
            ("left", rest),
            ("searched", f"{report.files:,} files after the removal; the shopper was {files}"),
        )
    )
    if not report.events:
        say("No events of this shopper were found; check that the id is spelled as in the log.")
    if report.is_complete:
        say("No data of this shopper is left.", style="green")
    else:
        say("Some data is left; stop the processes that use these events, and try again.", style="bold red")


def _show_move(move: MoveResult, target: str) -> None:
    already = f", {move.repeated:,} were already there" if move.repeated else ""
    say(f"{move.moved:,} events were moved to {target}{already}.")
