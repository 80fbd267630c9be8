"""The report on an experiment of an index directory, on what the last refresh made of the events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from retrieval.store_files import EVENTS_FOLDER
from service.event_log import DERIVED_FOLDER
from service.event_report.inputs import ReportInputs, read_inputs
from service.experiments.analysis import Analysis, draft_analysis, split_analysis
from service.experiments.experiment import Experiment, Mode
from service.experiments.intervals import ALPHA
from service.experiments.outcomes import draft_outcomes, split_outcomes
from service.experiments.store import ExperimentStore
from service.experiments.stored import StoredExperiment
from service.experiments.verdict import Course


@dataclass(frozen=True, slots=True)
class ExperimentReport:
    """An experiment, and all that is known of it."""

    experiment: Experiment
    state: str
    begins: datetime
    over: datetime | None
    made: datetime
    """When the tables were made that it is read from; nothing later is in it."""
    first: datetime
    last: datetime
    """Events from then to then are looked at."""
    analysis: Analysis
    notices: tuple[str, ...] = ()


def stored_report(index: Path, experiment_id: str, now: datetime) -> ExperimentReport:
    """The report; raises ExperimentError where there is no such experiment, StoreMissingError where no tables were made
    of the events yet."""
    store = ExperimentStore(index)
    stored = store.get(experiment_id)
    return experiment_report(stored, store.read().key, read_inputs(index / EVENTS_FOLDER / DERIVED_FOLDER), now)


def experiment_report(stored: StoredExperiment, key: bytes, inputs: ReportInputs, now: datetime) -> ExperimentReport:
    """The report of an experiment from cleaned events, robots' left out."""
    experiment, window = stored.experiment, inputs.window
    course = _course(stored, min(window.last, now), experiment)
    if experiment.mode == Mode.INTERLEAVE:
        analysis = draft_analysis(experiment, draft_outcomes(inputs.honest, experiment, key), course)
    else:
        found = split_outcomes(inputs.honest, inputs.visits.select("visit", "session"), experiment, key)
        analysis = split_analysis(experiment, found, course)
    notices = []
    if stored.begins < window.first:
        notices.append(f"it began before {window.first:%Y-%m-%d}, where the tables begin: refresh with more --days")
    return ExperimentReport(
        experiment,
        stored.state(now),
        stored.begins,
        stored.over,
        inputs.made,
        window.first,
        window.last,
        analysis,
        tuple(notices),
    )


def _course(stored: StoredExperiment, until: datetime, experiment: Experiment) -> Course:
    begins = stored.begins
    alpha = ALPHA / (len(experiment.variants) - 1)
    return Course(begins, max(until, begins), stored.over, experiment.planned, alpha)
