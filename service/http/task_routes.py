"""Work that takes longer than a request: asked for, answered with the id of a task, and looked after by that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Path, Response

from service.http.answers import RESPONSES, encoded, json_response
from service.http.bodies import ForgetBody, LearnBody, RebuildBody
from service.http.context import Context, Contextual, MayAdminister
from service.tasks.book import Task
from service.tasks.jobs import feed_paths

router = APIRouter(prefix="/v1", tags=["tasks"], responses=RESPONSES)


@router.get("/tasks", response_model=list[Task], summary="The last tasks")
async def tasks(context: Contextual, _permit: MayAdminister) -> Response:
    """Newest first."""
    return json_response(await context.workers.run(context.tasks.book.list))


@router.get("/tasks/{task_id}", response_model=Task, summary="One task")
async def task(context: Contextual, _permit: MayAdminister, task_id: str = Path(max_length=100)) -> Response:
    """How far it is, and what came of it."""
    return json_response(await context.workers.run(lambda: context.tasks.book.get(task_id)))


@router.post("/rebuild", status_code=202, response_model=Task, summary="Rebuild the index from feeds")
async def rebuild(context: Contextual, _permit: MayAdminister, body: RebuildBody) -> Response:
    """Reads feeds of the folder that service.feeds names; the version is taken up when it is published."""
    feed_paths(body.feeds, context.tasks.feeds)
    return await _taken(context, "rebuild", body.model_dump(exclude_defaults=True))


@router.post("/events/refresh", status_code=202, response_model=Task, summary="Make tables of new events")
async def refresh(context: Contextual, _permit: MayAdminister) -> Response:
    """As shelfwise events refresh does."""
    return await _taken(context, "refresh", {})


@router.post("/learn", status_code=202, response_model=Task, summary="Learn from what shoppers did")
async def learn(context: Contextual, _permit: MayAdminister, body: LearnBody) -> Response:
    """As shelfwise learn does: a ranker that is better than the one that serves is taken up when it is published."""
    return await _taken(context, "learn", body.model_dump(exclude_none=True))


@router.post("/events/forget", status_code=202, response_model=Task, summary="Forget a shopper")
async def forget(context: Contextual, _permit: MayAdminister, body: ForgetBody) -> Response:
    """Out of every file, and proved: the task's result says what was removed, and that nothing is left. The name is
    written nowhere."""
    pseudonyms = await context.workers.run(lambda: context.engine.pseudonyms_of(body.shopper))
    return await _taken(context, "forget", {"pseudonyms": pseudonyms})


async def _taken(context: Context, kind: str, arguments: Mapping[str, Any]) -> Response:
    made = await context.workers.run(lambda: context.tasks.add(kind, arguments))
    headers = {"Location": f"/v1/tasks/{made.id}", "Cache-Control": "no-store"}
    return Response(encoded(made), 202, headers, "application/json")
