"""Experiments and reports as plain values that JSON has, for the commands and the HTTP API alike."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from service.experiments.experiment_json import experiment_document
from service.experiments.stored import StoredExperiment

if TYPE_CHECKING:
    from service.experiments.report import ExperimentReport

Document = dict[str, Any]


def stored_document(stored: StoredExperiment, now: datetime) -> Document:
    """An experiment, and what became of it."""
    told = {"begins": stored.begins, "over": stored.over, "put": stored.put, "who": stored.who}
    made: Document = msgspec.to_builtins(told)
    return {
        "experiment": experiment_document(stored.experiment),
        "state": stored.state(now),
        **made,
        "stopped_by": stored.stopper,
    }


def report_document(report: ExperimentReport) -> Document:
    """A report; the experiment as it was put."""
    made: Document = msgspec.to_builtins(report)
    return made | {"experiment": experiment_document(report.experiment)}
