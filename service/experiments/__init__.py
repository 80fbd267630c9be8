"""Experiments: searches answered in two or more ways, by lot, and what shoppers made of each."""

from service.experiments.experiment import Experiment, Goal, Mode, Options, Unit, Variant
from service.experiments.store import ExperimentStore, StoredExperiment

__all__ = ["Experiment", "ExperimentStore", "Goal", "Mode", "Options", "StoredExperiment", "Unit", "Variant"]
