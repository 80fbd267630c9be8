"""A small store and shoppers under each click model, for the tests of what is fitted to them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np

from rerank.click_models.simulation import (
    BrowsingShopper,
    Conditions,
    DependentShopper,
    PositionShopper,
    SatisfiedShopper,
    SimulatedShopper,
    SimulatedStore,
    Simulation,
    falling_examination,
    falling_gamma,
    graded_store,
    simulate,
)

DEPTH = 6
SESSIONS = 40_000
SHOPPERS: Mapping[str, SimulatedShopper] = {
    "pbm": PositionShopper(falling_examination(1.0, DEPTH)),
    "dcm": DependentShopper(np.linspace(0.8, 0.4, DEPTH)),
    "sdbn": SatisfiedShopper(),
    "ubm": BrowsingShopper(falling_gamma(0.7, DEPTH)),
}


@cache
def small_store() -> SimulatedStore:
    random = np.random.default_rng(5)
    grades = {f"q{row:02}": {f"p{column}": float(random.integers(4)) for column in range(8)} for row in range(20)}
    return graded_store(grades, seed=5)[0]


@cache
def simulated(model: str) -> Simulation:
    return simulate(small_store(), SHOPPERS[model], SESSIONS, Conditions(depth=DEPTH, exploration=0.1), seed=11)
