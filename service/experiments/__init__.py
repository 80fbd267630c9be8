"""Experiments: searches answered in two or more ways, by lot, and what shoppers made of each."""

from service.experiments.experiment import Experiment, Goal, Mode, Unit, Variant, VariantOptions
from service.experiments.store import ExperimentStore, StoredExperiment

__all__ = ["Experiment", "ExperimentStore", "Goal", "Mode", "StoredExperiment", "Unit", "Variant", "VariantOptions"]
