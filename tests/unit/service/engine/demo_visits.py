"""Visits of shoppers to the demo store, and the tables derived from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from shelfwise.retrieval.records import Event, EventKind
from shelfwise.service.events.event_log import EventLog
from shelfwise.service.settings import Settings
from shelfwise.service.training.derived_tables import DerivedTablesManager

MADE = datetime(2026, 11, 20, 12, tzinfo=UTC)


def visit(who: str, query: str, chosen: Sequence[str], begin: datetime) -> Iterator[Event]:
    """Events of a shopper who searches, sees only the chosen products, and clicks each of them."""
    plain = Event(EventKind.QUERY, query_id=f"{query}-{who}", shopper=f"shopper-{who}", session=f"s{who}")
    yield replace(plain, query=query, time=begin, results=len(chosen))
    for place, product in enumerate(chosen, 1):
        shown = replace(plain, product_id=product, position=place)
        yield replace(shown, kind=EventKind.IMPRESSION, time=begin + timedelta(seconds=1))
        yield replace(shown, kind=EventKind.CLICK, time=begin + timedelta(seconds=2 * place))


def refresh_tables(root: Path, events: Iterable[Event] = (), erased: Iterable[str] = ()) -> None:
    """Records events, erases shoppers, and refreshes the tables at the time MADE."""
    settings = Settings()
    with closing(EventLog.open(root, settings)) as log:
        log.record(list(events))
        tables = DerivedTablesManager(root, log, settings.events, clock=lambda: MADE)
        for shopper in erased:
            log.store.forget(log.intake.pseudonyms.all_pseudonyms(shopper))
        (tables.purge if erased else tables.refresh)()
