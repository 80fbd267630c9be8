"""The rankers that an experiment compares: whether they can serve, and what is told where one cannot.

While one of them cannot, nobody takes part in the experiment, of none of its variants: shoppers who are answered
otherwise than their lot says would make the variants look alike.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.errors import ExperimentError, RankerError
from service.experiments.experiment import Experiment

if TYPE_CHECKING:
    from service.engine import SearchEngine
    from service.experiments.served import ServedExperiments

Problem = Callable[[str], str]
"""Why a ranker of this name cannot serve, of an empty name the one that serves; empty where it can. An engine's is
`SearchEngine.ranker_problem`."""


def unserved(experiment: Experiment, problem: Problem) -> str:
    """Why an experiment cannot be answered as it says now; empty where it can, as one without rankers always can."""
    if "ranker" not in experiment.touches:
        return ""
    options = [variant.options for variant in experiment.variants]
    # A variant that names none has the one that serves: without it, it would be as one that says "off".
    names = dict.fromkeys(each.ranker or "" for each in options if each.stage != "merged")
    return next(filter(None, map(problem, names)), "")


def check_rankers(experiment: Experiment, problem: Problem) -> None:
    """Raises ExperimentError where one of the rankers cannot serve."""
    why = unserved(experiment, problem)
    if why:
        raise ExperimentError(f"experiment {experiment.id!r}: ranker: {why}", field="ranker")


def notices(engine: SearchEngine, served: ServedExperiments) -> tuple[str, ...]:
    """What is wrong with the experiments of a service: why they are not the newest, and which ones nobody takes part
    in."""
    running = [each.experiment for each in served.running().experiments]
    paused = [(each.id, why) for each in running if (why := unserved(each, engine.ranker_problem))]
    return (*served.notices, *(f"nobody takes part in the experiment {name}: {why}" for name, why in paused))


def stored_problem(index: Path) -> Problem:
    """Of an index directory that is not opened."""
    from rerank.ranker.pointer import NO_RANKER
    from rerank.ranker.registry import RankerRegistry
    from service.version_list import stored_encoding

    registry, encoding = RankerRegistry(index), stored_encoding(index)

    def problem(name: str) -> str:
        try:
            if name and name != NO_RANKER:
                registry.servable(name, encoding)
        except RankerError as error:
            return str(error)
        return "" if name or registry.serving(encoding).ranker else "no ranker serves"

    return problem
