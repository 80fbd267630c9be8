"""How long the derived tables take: made from nothing, after one more day, and with nothing new."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from benchmarks.events_import import made_log
from benchmarks.tables import plain_table
from indexer.events.importing import import_events
from rerank.behaviour.derived import open_derived
from rerank.behaviour.refresh import Refreshed, refresh
from retrieval.events.intake import Intake
from retrieval.events.masking import Masker
from retrieval.events.pseudonyms import Pseudonyms
from retrieval.events.sqlite import SqliteEvents
from retrieval.events.store import EventStore
from service.terminal import out

_DAYS = 30


@dataclass(frozen=True, slots=True)
class EventRefresh:
    """One refresh of the derived tables."""

    label: str
    events: int
    """Cleaned ones in the window."""
    seconds: float
    days_made: int
    days_kept: int


def measure_event_refresh(folder: Path, events: int = 1_000_000, seed: int = 17) -> list[EventRefresh]:
    """Refreshes a made log of 30 days: without its last day, with it, once more, and from nothing for comparison.

    Raises AssertionError where the tables that came step by step are not those from nothing.
    """
    log = made_log(events, seed, days=_DAYS)
    last = pl.col("time") >= log["time"].str.head(10).max()
    intake = Intake(Pseudonyms(folder / "keys.json"), Masker())
    with closing(SqliteEvents(folder)) as store:
        _take(log.filter(~last), store, intake, folder)
        measured = [_measured("from nothing, without the last day", store, folder / "steps")]
        _take(log.filter(last), store, intake, folder)
        measured.append(_measured("one more day", store, folder / "steps"))
        measured.append(_measured("nothing new", store, folder / "steps"))
        measured.append(_measured("from nothing", store, folder / "nothing"))
    _check_same(folder / "steps", folder / "nothing")
    return measured


def _take(log: pl.DataFrame, store: EventStore, intake: Intake, folder: Path) -> None:
    path = folder / "log.csv"
    log.write_csv(path)
    import_events([str(path)], store, intake, aside=folder / "aside.jsonl")


def _measured(label: str, store: EventStore, folder: Path) -> EventRefresh:
    done: Refreshed = refresh(store, folder, None, now=_after(store))
    return EventRefresh(label, done.events, done.seconds, done.days_made, done.days_kept)


def _after(store: EventStore) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=max(store.days()) + 1, milliseconds=-1)


def _check_same(steps: Path, nothing: Path) -> None:
    one, other = open_derived(steps), open_derived(nothing)
    differing = [name for name in one.manifest.tables if not one.table(name).equals(other.table(name))]
    if differing:
        raise AssertionError(f"{', '.join(differing)}: step by step they came out otherwise than from nothing")


def show_event_refresh(measured: list[EventRefresh]) -> None:
    """Refreshes by time, as shares of the one from nothing."""
    table = plain_table(["refresh", "events", "seconds", "of from nothing", "days made", "days kept"], "")
    for each in measured:
        share = f"{each.seconds / measured[-1].seconds:.0%}"
        counts = (f"{each.days_made:,}", f"{each.days_kept:,}")
        table.add_row(each.label, f"{each.events:,}", f"{each.seconds:.1f}", share, *counts)
    out.print(table)
