"""The event report as dataclasses, which define its JSON; docs/event-report.md describes it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import msgspec

from shelfwise.rerank.sessions.tables import read_manifest
from shelfwise.retrieval.errors import ShelfwiseError
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.events.event_log import DERIVED_FOLDER, reject_files
from shelfwise.service.events.report_inputs import (
    RejectedRows,
    RejectSummary,
    ReportInputs,
    read_inputs,
    summarize_events,
    summarize_rows,
)
from shelfwise.service.reports.event_bots import FraudReport, fraud_found
from shelfwise.service.reports.event_sections import (
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
from shelfwise.service.reports.exposure import ExposureLog, ExposureReport, measure_exposure, stored_products

SCHEMA = 1
EXPOSURE_BY = ("brand", "price", "age")


@dataclass(frozen=True, slots=True)
class EventReport:
    """All sections of the report; unless noted, flagged sessions are excluded."""

    first: datetime
    """Start of the window, which covers everything except rows rejected by imports."""
    last: datetime
    made: datetime
    """Time of the last refresh of the derived tables."""
    least_shoppers: int
    """Queries and products of fewer shoppers are not named."""
    traffic: Traffic
    funnel: Funnel
    positions: Positions
    queries: Queries
    products: Products
    exposure: tuple[ExposureReport, ...]
    """Exposure by brand, by price and by age; empty without a catalog."""
    fraud: FraudReport
    rejected: RejectSummary
    schema: int = SCHEMA

    @property
    def is_empty(self) -> bool:
        return self.traffic.events == 0

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2)


def build_report(
    inputs: ReportInputs,
    rejected_rows: tuple[RejectedRows, ...] = (),
    titles: Titles = no_titles,
    options: PositionOptions | None = None,
    catalog: Sequence[Product] = (),
) -> EventReport:
    """Builds the report; equal inputs give equal reports."""
    honest = inputs.honest
    window = inputs.window.first, inputs.window.last
    read = ExposureLog.of(honest, catalog, window, inputs.least_shoppers) if catalog else None
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
        exposure=tuple(measure_exposure(read, by) for by in EXPOSURE_BY) if read else (),
        fraud=fraud_found(inputs, titles),
        rejected=RejectSummary(rejected_rows, summarize_events(inputs.rejected)),
    )


def stored_report(index: Path) -> EventReport:
    """The report of an index directory's derived tables; raises StoreMissingError if there are none.

    Building takes seconds, so the last four reports are cached until the tables, rejected rows or the catalog change.
    """
    folder, store = index / EVENTS_FOLDER, Store(index)
    manifest = read_manifest(folder / DERIVED_FOLDER)
    version = ""
    with suppress(ShelfwiseError):
        version = store.current()
    rejected = tuple((path, path.stat().st_mtime_ns) for path in reject_files(folder))
    return _report(index, (manifest.folder, manifest.made, version, rejected))


@lru_cache(maxsize=4)
def _report(index: Path, _state: Hashable) -> EventReport:
    folder = index / EVENTS_FOLDER
    return build_report(
        read_inputs(folder / DERIVED_FOLDER),
        summarize_rows(reject_files(folder)),
        catalog_titles(Store(index)),
        catalog=stored_products(Store(index)),
    )
