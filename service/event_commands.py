"""The commands that work with what shoppers did: `shelfwise events import, refresh, report, export`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieval.errors import FeedError, StoreError
from retrieval.manifest import write_durably
from service.options import JsonOption, SettingsOption, WorkersOption

if TYPE_CHECKING:
    from retrieval.events.store import EventStore
    from service.derived_tables import DerivedTables
    from service.event_log import EventLog
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

    from indexer.events.aside import remove_unfinished
    from indexer.events.importing import ImportOptions, import_events
    from indexer.events.mapping import EventMapping
    from indexer.events.mapping_files import load_event_mapping
    from retrieval.events.intake import utc_now
    from service.event_log import ASIDE_FOLDER, aside_path
    from service.event_views import BytesRead, show_import
    from service.terminal import ProgressLines, write_json

    fields = load_event_mapping(mapping) if mapping else EventMapping()
    options = ImportOptions(fields, log_format, workers=workers)
    with opened(index, loaded_settings(settings), make=True) as log, ProgressLines() as lines:
        remove_unfinished(log.folder / ASIDE_FOLDER)
        aside = aside_path(log.folder, utc_now())
        with BytesRead(lines) as progress:
            report = import_events(logs, log.store, log.intake, options, aside=aside, progress=progress)
    write_json(msgspec.json.encode(report)) if as_json else show_import(report, aside)
    if report.why_useless:
        raise FeedError(report.why_useless)


@events.command(epilog="Example: shelfwise events refresh --index store")
def refresh(
    index: IndexDirectory = Path("store"),
    days: Annotated[
        int | None, typer.Option(help="How far back the tables go; by default 180.", min=1, max=36_500)
    ] = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Clean new events, find robots, and bring the tables that are made of events up to date."""
    import msgspec

    from service.event_views import show_refresh
    from service.retention import expire as expired
    from service.terminal import show_notices, write_json

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
    from service.event_report.page import html
    from service.event_report.stored import stored_report
    from service.event_report.view import show_report
    from service.terminal import write_json

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

    from retrieval.events.export import export_events
    from service.event_views import show_export
    from service.terminal import ProgressLines, write_json

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
    from service.event_log import EventLog

    return EventLog.open(index, settings, make=make)


@contextmanager
def upkeep(index: Path, settings: Settings) -> Iterator[tuple[EventLog, tuple[EventStore, ...], DerivedTables]]:
    """The events of an index directory, other stores that may hold some, and their tables, whose steps are drawn."""
    from service.derived_tables import DerivedTables
    from service.event_log import other_stores
    from service.event_views import StepsDone
    from service.terminal import ProgressLines

    with (
        opened(index, settings) as log,
        other_stores(index, settings) as others,
        ProgressLines() as lines,
        StepsDone(lines) as progress,
    ):
        yield log, others, DerivedTables(index, log, settings.events, progress=progress)


def loaded_settings(path: Path | None) -> Settings:
    """The settings of a file, or of where they are looked for."""
    from service.settings import load_settings

    return load_settings(path)
