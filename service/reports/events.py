"""The report of what shoppers did, as a value; its JSON is its schema. docs/event-report.md says how to read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec

from retrieval.store.manifest import EVENTS_FOLDER
from retrieval.store.versions import Store
from service.events.event_log import DERIVED_FOLDER, reject_files
from service.reports.event_bots import FraudReport, fraud_found
from service.reports.event_inputs import (
    RejectedRows,
    RejectSummary,
    ReportInputs,
    read_inputs,
    summarize_events,
    summarize_rows,
)
from service.reports.event_sections import (
    Funnel,
    PositionOptions,
    Positions,
    Products,
    Queries,
    Titles,
    Traffic,
    catalog_titles,
    funnel,
    no_titles,
    positions,
    products,
    queries,
    traffic,
)

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class EventReport:
    """All of it. Unless said otherwise it is about sessions that are not flagged."""

    first: datetime
    """The window: no event outside it has a part in anything here, but what an import rejected."""
    last: datetime
    made: datetime
    """When the derived tables were made, that it is about."""
    least_shoppers: int
    """Queries and products of fewer shoppers are not named."""
    traffic: Traffic
    funnel: Funnel
    positions: Positions
    queries: Queries
    products: Products
    fraud: FraudReport
    rejected: RejectSummary
    schema: int = field(default=SCHEMA)

    @property
    def is_empty(self) -> bool:
        """Whether there is no event in the window."""
        return self.traffic.events == 0

    def to_json(self) -> bytes:
        """One JSON document."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)


def build_report(
    inputs: ReportInputs,
    rows_aside: tuple[RejectedRows, ...] = (),
    titles: Titles = no_titles,
    options: PositionOptions | None = None,
) -> EventReport:
    """The report on tables and their events, and on rows that an import rejected; the same give the same report."""
    honest = inputs.honest
    return EventReport(
        first=inputs.window.first,
        last=inputs.window.last,
        made=inputs.made,
        least_shoppers=inputs.least_shoppers,
        traffic=traffic(inputs),
        funnel=funnel(honest),
        positions=positions(honest, options or PositionOptions()),
        queries=queries(inputs.queries, inputs.reformulations),
        products=products(inputs.popularity, titles),
        fraud=fraud_found(inputs, titles),
        rejected=RejectSummary(rows_aside, summarize_events(inputs.rejected)),
    )


# The report on the tables that an index directory has.


def stored_report(index: Path) -> EventReport:
    """On what the last refresh made of the events; raises StoreMissingError where there was none."""
    folder = index / EVENTS_FOLDER
    return build_report(
        read_inputs(folder / DERIVED_FOLDER), summarize_rows(reject_files(folder)), catalog_titles(Store(index))
    )
