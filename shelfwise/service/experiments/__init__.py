"""Experiments: random assignment of searches to variants, and the analysis of shoppers' behaviour."""

from shelfwise.service.experiments.experiment import Experiment, Goal, Mode, Unit, Variant, VariantOptions
from shelfwise.service.experiments.store import ExperimentStore, StoredExperiment

__all__ = ["Experiment", "ExperimentStore", "Goal", "Mode", "StoredExperiment", "Unit", "Variant", "VariantOptions"]
