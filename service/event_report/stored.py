"""The report on the tables that an index directory has."""

from __future__ import annotations

from pathlib import Path

from retrieval.published import Store
from retrieval.store_files import EVENTS_FOLDER
from service.event_log import DERIVED_FOLDER, aside_files
from service.event_report.inputs import read_inputs
from service.event_report.products import catalog_titles
from service.event_report.report import EventReport, build_report
from service.event_report.set_aside import rows_aside


def stored_report(index: Path) -> EventReport:
    """On what the last refresh made of the events; raises StoreMissingError where there was none."""
    folder = index / EVENTS_FOLDER
    return build_report(
        read_inputs(folder / DERIVED_FOLDER), rows_aside(aside_files(folder)), catalog_titles(Store(index))
    )
