"""The commands that work with what shoppers did: `shelfwise events import, refresh, report, export`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieval.errors import FeedError, SettingError, StoreError
from retrieval.store.files import write_durably
from service.cli.options import Backend, JsonOption, SettingsOption, WorkersOption

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

    from indexer.events.importer import ImportReport
    from rerank.sessions.refresh import RefreshResult
    from retrieval.events.privacy import Pseudonyms
    from retrieval.events.store import EventExport, EventStore
    from service.events.derived_tables import DerivedTablesManager
    from service.events.event_log import EventLog, MoveResult
    from service.events.privacy import ErasureReport, ExpiryReport
    from service.settings import Settings


events = typer.Typer(
    name="events",
    help="What shoppers did: import logs of it, make tables of it, report it, forget a shopper.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

IndexDirectory = Annotated[Path, typer.Option("--index", help="The index directory whose store this is about.")]


@events.command("import", epilog="Example: shelfwise events import log.jsonl.gz --index store --mapping ubi.toml")
def import_logs(
    logs: Annotated[
        list[str],
        typer.Argument(
            help="Logs as UBI's JSON, JSON lines, CSV or Parquet, plain, gzip or zstd; - is standard input.",
            metavar="LOG...",
        ),
    ],
    index: IndexDirectory = Path("store"),
    mapping: Annotated[
        str,
        typer.Option("--mapping", help="A file that names the log's columns; or retrotech, online_retail."),
    ] = "",
    log_format: Annotated[str, typer.Option("--format", help="The logs' format; by default it is recognised.")] = "",
    workers: WorkersOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the events of logs into the store of events; run again, it takes only what is new."""
    import msgspec

    from indexer.events.importer import ImportOptions, import_events
    from indexer.events.mapping import EventMapping, load_event_mapping
    from indexer.rejects import remove_unfinished
    from retrieval.events.privacy import utc_now
    from service.cli.output import ProgressLines, write_json
    from service.events.event_log import REJECTS_FOLDER, rejects_path

    fields = load_event_mapping(mapping) if mapping else EventMapping()
    options = ImportOptions(fields, log_format, workers=workers)
    with opened(index, loaded_settings(settings), make=True) as log, ProgressLines() as progress:
        remove_unfinished(log.folder / REJECTS_FOLDER)
        aside = rejects_path(log.folder, utc_now())
        report = import_events(logs, log.store, log.intake, options, rejected=aside, progress=progress)
    write_json(msgspec.json.encode(report)) if as_json else show_import(report, aside)
    if report.failure:
        raise FeedError(report.failure)


@events.command(epilog="Example: shelfwise events refresh --index store")
def refresh(
    index: IndexDirectory = Path("store"),
    days: Annotated[
        int | None, typer.Option(help="How far back the tables go; by default 180.", min=1, max=36_500)
    ] = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Clean new events, find bots, and bring the tables that are made of events up to date."""
    import msgspec

    from service.cli.output import show_notices, write_json
    from service.events.privacy import expire as expired

    loaded = loaded_settings(settings)
    with upkeep(index, loaded) as (log, others, tables):
        show_notices(notices(others))
        kept_days = loaded.events.retention_days
        gone = expired(log, kept_days, others).events if kept_days is not None else 0
        if gone:
            show_notices((f"{gone:,} events were removed: they were older than events.retention_days, {kept_days}",))
        done = tables.refresh(days, purge=gone > 0)
    write_json(msgspec.json.encode(done)) if as_json else show_refresh(done, tables.label_weights())


@events.command(epilog="Example: shelfwise events report --index store --html report.html")
def report(
    index: IndexDirectory = Path("store"),
    page: Annotated[Path | None, typer.Option("--html", help="Also write the report as one HTML page.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Report what shoppers did: funnel, clicks by position, queries, products, fraud, what was set aside."""
    from service.cli.output import write_json
    from service.reports.event_page import html, show_report
    from service.reports.events import stored_report

    made = stored_report(index)
    if page:
        try:
            write_durably(page, html(made).encode())
        except OSError as error:
            raise StoreError(f"{page} cannot be written ({error.strerror}); see to its folder") from error
    write_json(made.to_json()) if as_json else show_report(made)


@events.command(epilog="Example: shelfwise events export --index store --out events-parquet")
def export(
    index: IndexDirectory = Path("store"),
    folder: Annotated[Path, typer.Option("--out", help="Where the files are written.")] = Path("events-export"),
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write all events as Parquet, a file for each month, with pseudonyms in place of shoppers."""
    import msgspec

    from retrieval.events.store import export_events
    from service.cli.output import ProgressLines, write_json

    with opened(index, loaded_settings(settings)) as log, ProgressLines() as progress:
        progress.begin("export", log.store.count(), "events")
        exported = export_events(log.store, folder, progress.advance)
        progress.end(f"{sum(exported.files.values()):,} events, {exported.bytes / 1e6:,.1f} MB")
    write_json(msgspec.json.encode(exported)) if as_json else show_export(exported, folder)


def notices(others: Sequence[EventStore]) -> tuple[str, ...]:
    """What a user should know of events that are kept elsewhere."""
    left = sum(store.count() for store in others)
    if not left:
        return ()
    return (f"{left:,} events are still where they were kept before: shelfwise events move brings them here",)


def opened(index: Path, settings: Settings, *, make: bool = False) -> EventLog:
    """The events of an index directory; see `EventLog.open`."""
    from service.events.event_log import EventLog

    return EventLog.open(index, settings, make=make)


@contextmanager
def upkeep(index: Path, settings: Settings) -> Iterator[tuple[EventLog, tuple[EventStore, ...], DerivedTablesManager]]:
    """The events of an index directory, other stores that may hold some, and their tables, whose steps are drawn."""
    from service.cli.output import ProgressLines
    from service.events.derived_tables import DerivedTablesManager
    from service.events.event_log import other_stores

    with (
        opened(index, settings) as log,
        other_stores(index, settings) as others,
        ProgressLines() as progress,
    ):
        yield log, others, DerivedTablesManager(index, log, settings.events, progress=progress)


def loaded_settings(path: Path | None) -> Settings:
    """The settings of a file, or of where they are looked for."""
    from service.settings import load_settings

    return load_settings(path)


# What the commands for events show in a terminal.


def show_import(report: ImportReport, aside: Path) -> None:
    """What became of the rows of logs."""
    from rich.text import Text

    from service.cli.output import out, shown

    table = _grid()
    table.add_row("rows", f"{report.rows:,} in {report.seconds:.1f} s, {report.rows_per_second:,.0f} a second")
    table.add_row("events", f"{report.added:,} new, {report.repeated:,} that were there already")
    if report.events:
        table.add_row("kinds", _counted(report.events))
    if report.first and report.last:
        table.add_row("time", f"{report.first:%Y-%m-%d %H:%M} to {report.last:%Y-%m-%d %H:%M} UTC")
    different = {"products": report.products, "shoppers": report.shoppers, "sessions": report.sessions}
    table.add_row("different", ", ".join(f"{name}: {_many(count)}" for name, count in different.items()))
    if report.skipped:
        table.add_row("left out", _counted(report.skipped))
    table.add_row("set aside", f"{report.rejected_count:,}{f', see {aside}' if report.rejected_count else ''}")
    for reason, each in report.rejected.items():
        table.add_row("", shown(f"{each.count:,} x {reason}"))
        for example in each.examples[:2]:
            place = f"{Path(example.file).name} line {example.line:,}"
            table.add_row("", Text(shown(f"  {place}: {example.detail}"), style="dim", overflow="ellipsis"))
    for note in report.notes:
        table.add_row("note", shown(note))
    out.print(table)


def show_refresh(done: RefreshResult, weights: pl.DataFrame) -> None:
    """What a refresh did, and what the acts of shoppers count for in the labels."""
    from service.cli.output import out

    table = _grid()
    window = done.window
    table.add_row("window", f"{window.first:%Y-%m-%d} to {window.last:%Y-%m-%d %H:%M} UTC")
    table.add_row("days", f"{done.days_made:,} cleaned, {done.days_kept:,} as they were")
    table.add_row("events", f"{done.events:,} in {done.sessions:,} sessions")
    table.add_row("bots", f"{done.flagged_sessions:,} sessions with {done.flagged_clicks:,} clicks are left out")
    table.add_row("rejected", _counted(done.rejected) or "none")
    if done.corrected:
        table.add_row("clocks", f"{done.corrected:,} events had their times put right")
    table.add_row("tables", _counted(done.tables))
    table.add_row("labels", _weighed(weights))
    table.add_row("seconds", f"{done.seconds:.1f}")
    out.print(table)


def _weighed(weights: pl.DataFrame) -> str:
    """The weights, as shares of their sum."""
    values = weights["weight"].to_list()
    whole = sum(values) or 1.0
    told = ", ".join(f"{name} {value / whole:.0%}" for name, value in zip(weights["signal"], values, strict=True))
    if weights["fitted"].all():
        return f"{told}: fitted to {weights['purchases'][0]:,} later purchases"
    return f"{told}: a convention, since {weights['purchases'][0]:,} later purchases are too few to fit to"


def show_export(exported: EventExport, folder: Path) -> None:
    """The files that were written."""
    from service.cli.output import out

    table = _grid()
    for name, count in exported.files.items():
        table.add_row(str(folder / name), f"{count:,} events")
    out.print(table if exported.files else "There are no events to export.")


def show_forgotten(done: ErasureReport) -> None:
    """What was removed of a shopper, and whether anything is left."""
    from rich.text import Text

    from service.cli.output import out

    table = _grid()
    table.add_row("removed", f"{done.events:,} events, {done.rejected_rows:,} rejected rows")
    table.add_row("left", f"{done.remaining_events:,} events, {done.remaining_rows:,} values in tables")
    found = ", ".join(done.found_in) if done.found_in else "in none of them"
    table.add_row("searched", f"{done.files:,} files; the shopper is {found}")
    out.print(table)
    if not done.events:
        out.print("No events of this shopper were found; is the name spelled as in the log?")
    out.print(
        Text("Nothing of this shopper is left.", style="green")
        if done.is_complete
        else Text("Something is left: end what still reads or writes these events, and do it again.", style="bold red")
    )


def show_expired(done: ExpiryReport) -> None:
    """What went for its age."""
    from retrieval.events.stored import DAY_MS, moment
    from service.cli.output import out

    table = _grid()
    table.add_row("removed", f"{done.events:,} events from before {moment(done.before_day * DAY_MS):%Y-%m-%d}")
    if done.reject_files:
        table.add_row("", f"{done.reject_files:,} files of rejected rows")
    if done.keys:
        table.add_row("keys", f"{', '.join(done.keys)}: no pseudonym is under them any more")
    out.print(table)


def show_rotation(name: str, pseudonyms: Pseudonyms) -> None:
    """The key that is used from now on."""
    from service.cli.output import out

    *old, _ = pseudonyms.names
    kept = f"; {', '.join(old)} stay{'s' if len(old) == 1 else ''} until events under them are gone"
    out.print(f"Pseudonyms are made with {name} from now on{kept}. Back up {pseudonyms.path}.", soft_wrap=True)


def show_move(moved: MoveResult, target: str) -> None:
    """How many events were moved."""
    from service.cli.output import out

    already = f", {moved.repeated:,} were there already" if moved.repeated else ""
    out.print(f"{moved.moved:,} events were moved to {target}{already}.")


def _grid() -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    return table


def _counted(counts: Mapping[str, int]) -> str:
    from service.cli.output import shown

    return ", ".join(f"{shown(name)}: {count:,}" for name, count in counts.items())


def _many(count: int | None) -> str:
    return "very many" if count is None else f"{count:,}"


@events.command(epilog="Example: shelfwise events forget u1042 --index store")
def forget(
    shopper: Annotated[str, typer.Argument(help="The shopper, as the store's events name them.", metavar="USER")] = "",
    index: IndexDirectory = Path("store"),
    settings: SettingsOption = None,
    pseudonyms: Annotated[
        list[str] | None, typer.Option("--pseudonym", help="Instead of a name, what stands for it. Repeatable.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a shopper from the store of events and from every derived table, and prove that nothing is left."""
    import msgspec

    from service.cli.output import write_json
    from service.events.privacy import erase_pseudonyms

    if bool(shopper) == bool(pseudonyms):
        raise typer.BadParameter("name the shopper", param_hint="USER")
    loaded = loaded_settings(settings)
    with upkeep(index, loaded) as (log, others, tables):
        meant = pseudonyms or log.intake.pseudonyms.all_pseudonyms(shopper)
        done = erase_pseudonyms(log, meant, tables.purge, tables.rows_of, others)
    write_json(msgspec.json.encode(done)) if as_json else show_forgotten(done)
    if not done.is_complete:
        raise typer.Exit(1)


@events.command(epilog="Example: shelfwise events expire --index store --days 400")
def expire(
    index: IndexDirectory = Path("store"),
    days: Annotated[
        int | None, typer.Option(help="How old events may be; by default events.retention_days.", min=1, max=36_500)
    ] = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove events that are older than so many days, what was made of them, and keys that are not needed."""
    import msgspec

    from service.cli.output import write_json
    from service.events.privacy import expire as run

    loaded = loaded_settings(settings)
    days = days or loaded.events.retention_days
    if days is None:
        raise SettingError("say how old events may be, with --days or the setting events.retention_days")
    with upkeep(index, loaded) as (log, others, tables):
        done = run(log, days, others)
        if done.events:
            tables.purge()
    write_json(msgspec.json.encode(done)) if as_json else show_expired(done)


@events.command("rotate-key", epilog="Example: shelfwise events rotate-key --index store")
def rotate_key(index: IndexDirectory = Path("store"), settings: SettingsOption = None) -> None:
    """Make a new key for pseudonyms: what a shopper does from now on is not linked with what they did before."""
    with opened(index, loaded_settings(settings)) as log:
        show_rotation(log.intake.pseudonyms.rotate(), log.intake.pseudonyms)


@events.command(epilog="Example: shelfwise events move --index store --to elasticsearch")
def move(
    target: Annotated[Backend, typer.Option("--to", help="Where the events are kept from then on.")],
    index: IndexDirectory = Path("store"),
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move all events between this machine and the cluster; nothing may record events meanwhile."""
    import msgspec

    from service.cli.output import ProgressLines, write_json
    from service.events.event_log import is_in_cluster, move_events, open_store

    loaded = loaded_settings(settings)
    is_clustered = target is Backend.ELASTICSEARCH
    if is_in_cluster(index, loaded) != is_clustered:
        raise SettingError(
            f"events are recorded where the index is searched, which is not {target}: run first "
            f"shelfwise rebuild --index {index} --backend {target}"
        )
    with (
        closing(open_store(index, loaded, is_clustered=not is_clustered)) as source,
        closing(open_store(index, loaded, is_clustered=is_clustered)) as moved_to,
        ProgressLines() as progress,
    ):
        progress.begin("move", source.count(), "events")
        moved = move_events(source, moved_to, progress.advance)
        progress.end(f"{moved.moved:,} events")
    write_json(msgspec.json.encode(moved)) if as_json else show_move(moved, target)
