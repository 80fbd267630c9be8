"""Experiments over HTTP: put, stopped, and what came of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Response

from service.experiments.documents import report_document, stored_document
from service.experiments.experiment_json import experiment_of
from service.experiments.rankers import check_rankers, notices
from service.http.answers import RESPONSES, json_response
from service.http.context import Contextual, MayAdminister

router = APIRouter(prefix="/v1/experiments", tags=["experiments"], responses=RESPONSES)

Document = dict[str, Any]
"""An experiment, as docs/experiments.md writes them."""
ExperimentId = Annotated[str, Path(min_length=1, max_length=200)]


@dataclass(frozen=True, slots=True)
class ExperimentsAnswer:
    """All experiments of a store."""

    experiments: tuple[Document, ...]
    """Each with its state, and when it began and ended."""
    notices: tuple[str, ...]
    """Why searches do not take part as they should."""


@dataclass(frozen=True, slots=True)
class ChangedExperiment:
    """An experiment that is kept, durably."""

    changed: bool
    """False where it was so already."""


@router.get("", response_model=ExperimentsAnswer, summary="All experiments")
async def experiments(context: Contextual, _permit: MayAdminister) -> Response:
    """In the order of their ids."""

    def read() -> ExperimentsAnswer:
        now, served = datetime.now(UTC), context.experiments
        listed = tuple(stored_document(each, now) for each in served.store.read().experiments)
        return ExperimentsAnswer(listed, notices(context.engine, served))

    return json_response(await context.workers.run(read))


@router.put("", response_model=ChangedExperiment, summary="Add an experiment")
async def put(
    context: Contextual,
    permit: MayAdminister,
    experiment: Annotated[
        Document,
        Body(
            examples=[
                {"id": "rrf", "variants": [{"name": "now"}, {"name": "rrf", "options": {"merge": "rrf"}}]},
            ]
        ),
    ],
) -> Response:
    """Or replace one of the same id that has not begun. Searches take part at once, or from `starts` on."""
    wanted = experiment_of(experiment)

    def kept() -> ChangedExperiment:
        check_rankers(wanted, context.engine.ranker_problem)
        changed = context.experiments.store.put(wanted, who=permit.id)
        context.experiments.look()
        return ChangedExperiment(changed)

    return json_response(await context.workers.run(kept))


@router.post("/{experiment_id}/stop", response_model=ChangedExperiment, summary="End an experiment")
async def stop(context: Contextual, permit: MayAdminister, experiment_id: ExperimentId) -> Response:
    """For good; its figures stay."""

    def stopped() -> ChangedExperiment:
        changed = context.experiments.store.stop(experiment_id, who=permit.id)
        context.experiments.look()
        return ChangedExperiment(changed)

    return json_response(await context.workers.run(stopped))


@router.get("/{experiment_id}/report", response_model=Document, summary="What came of an experiment")
async def report(context: Contextual, _permit: MayAdminister, experiment_id: ExperimentId) -> Response:
    """Each variant's figures, the differences with their intervals, and what they come to; from the tables that were
    last made of events: shelfwise events refresh makes them."""

    def read() -> Document:
        from service.experiments.report import stored_report

        return report_document(stored_report(context.engine.root, experiment_id, datetime.now(UTC)))

    return json_response(await context.workers.run(read))
