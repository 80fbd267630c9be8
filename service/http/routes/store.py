"""The index over HTTP: versions, models, which of them serve, what shoppers did; settings; tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec
from fastapi import APIRouter, Path, Request, Response

from rerank.model_store import RankerRegistry, list_rankers
from rerank.user_tower.files import TOWER_NAME, TowerRegistry, list_towers
from retrieval.store.versions import Store
from service.engine.models import encoding_of
from service.engine.snapshot import cluster_versions
from service.engine.versions import list_versions, roll_back
from service.http.context import Contextual, MayAdminister, ServiceContext
from service.http.errors import RequestError
from service.http.schemas import (
    RESPONSES,
    ForgetBody,
    LearnBody,
    RebuildBody,
    RollbackBody,
    encode,
    json_response,
    tagged_response,
)
from service.http.tasks import Task, feed_paths
from service.reports.events import stored_report
from service.settings import SettingDescription, SettingSections

store_router = APIRouter(prefix="/v1", tags=["store"], responses=RESPONSES)

Document = dict[str, Any]


@store_router.get("/versions", response_model=list[Document], summary="The published versions")
async def versions(context: Contextual, _permit: MayAdminister) -> Response:
    """Oldest first: what each holds, what it changed, and which one serves."""
    return json_response(await context.threads.run(lambda: list_versions(Store(context.engine.root))))


@store_router.post("/versions/rollback", response_model=Document, summary="Let an earlier version serve")
async def rollback_version(context: Contextual, _permit: MayAdminister, body: RollbackBody) -> Response:
    """The one that is named, or the newest whole one before; 409 while a rebuild is at work."""

    def rolled_back() -> object:
        store = Store(context.engine.root)
        with store.lock("rollback"), cluster_versions(store) as cluster:
            done = roll_back(store, body.name, cluster)
        context.engine.refresh()
        return done

    return json_response(await context.threads.run(rolled_back))


@store_router.get("/models", response_model=Document, summary="The rankers and user towers")
async def models(context: Contextual, _permit: MayAdminister) -> Response:
    """How each was judged, and which one serves."""

    def listed() -> Document:
        snapshot, root = context.engine.snapshot, context.engine.root
        rankers: Document = msgspec.to_builtins(list_rankers(RankerRegistry(root), encoding_of(snapshot)))
        manifest = snapshot.manifest
        return rankers | {"user_towers": list_towers(TowerRegistry(root), manifest.encoder, manifest.dimension)}

    return json_response(await context.threads.run(listed))


@store_router.post("/models/rollback", response_model=Document, summary="Let an earlier ranker or user tower serve")
async def rollback_model(context: Contextual, _permit: MayAdminister, body: RollbackBody) -> Response:
    """The one that is named, or the newest ranker before the one that serves that can."""

    def rolled_back() -> Document:
        if TOWER_NAME.fullmatch(body.name):
            manifest = context.engine.snapshot.manifest
            towers = TowerRegistry(context.engine.root)
            gone_back = towers.rollback(body.name, manifest.encoder, manifest.dimension)
            context.engine.reload_if_changed()
            return {"before": gone_back.before, "tower": gone_back.tower.name}
        registry = RankerRegistry(context.engine.root)
        done = registry.rollback(body.name, encoding_of(context.engine.snapshot))
        context.engine.reload_if_changed()
        return {"before": done.before, "ranker": done.ranker.name, "passed_over": done.passed_over}

    return json_response(await context.threads.run(rolled_back))


@store_router.get("/reports/events", response_model=Document, summary="What shoppers did")
async def events_report(context: Contextual, _permit: MayAdminister) -> Response:
    """The report on the tables that were last made of events: shelfwise events refresh makes them."""
    return json_response(await context.threads.run(lambda: stored_report(context.engine.root)))


# The settings that this process serves with, to look at: they are changed where they are read.

_EXAMPLE = {
    "service": {
        "port": {
            "value": 8081,
            "default": 8080,
            "source": "environment",
            "is_secret": False,
            "variable": "SHELFWISE_SERVICE__PORT",
            "description": "the port; 0 takes a free one",
        },
    },
    "elasticsearch": {
        "url": {
            "value": ["https://***@search-1.example:9200"],
            "default": [],
            "source": "file",
            "is_secret": False,
            "variable": "SHELFWISE_ELASTICSEARCH__URL",
            "description": "where the cluster is",
        },
    },
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    **RESPONSES,
    200: {"description": "Each section and its settings.", "content": {"application/json": {"example": _EXAMPLE}}},
    304: {"description": "They are as the client has them."},
}

settings_router = APIRouter(prefix="/v1/settings", tags=["store"])


@settings_router.get(
    "",
    response_model=dict[str, dict[str, SettingDescription]],
    responses=_RESPONSES,
    summary="The settings it serves with",
)
async def settings(request: Request, _permit: MayAdminister) -> Response:
    """What each is, its default and who says so; no password and no key. They are read when the service starts."""
    shown: SettingSections = request.app.state.settings
    return tagged_response(request, shown)


@settings_router.api_route("", methods=["PUT", "PATCH", "POST", "DELETE"], response_model=None, include_in_schema=False)
async def change(_permit: MayAdminister) -> NoReturn:
    """Raises RequestError: nothing is changed here."""
    raise RequestError(
        405,
        "settings are read when the service starts: change shelfwise.toml, or the environment, and start it again; "
        "GET shows what each of them is called there",
        allow="GET",
    )


# Work that takes longer than a request: asked for, answered with the id of a task, and looked after by that.

task_router = APIRouter(prefix="/v1", tags=["tasks"], responses=RESPONSES)


@task_router.get("/tasks", response_model=list[Task], summary="The last tasks")
async def tasks(context: Contextual, _permit: MayAdminister) -> Response:
    """Newest first."""
    return json_response(await context.threads.run(context.tasks.queue.list))


@task_router.get("/tasks/{task_id}", response_model=Task, summary="One task")
async def task(context: Contextual, _permit: MayAdminister, task_id: str = Path(max_length=100)) -> Response:
    """How far it is, and what came of it."""
    return json_response(await context.threads.run(lambda: context.tasks.queue.get(task_id)))


@task_router.post("/rebuild", status_code=202, response_model=Task, summary="Rebuild the index from feeds")
async def rebuild(context: Contextual, _permit: MayAdminister, body: RebuildBody) -> Response:
    """Reads feeds of the folder that service.feeds names; the version is taken up when it is published."""
    feed_paths(body.feeds, context.tasks.feeds)
    return await _add_task(context, "rebuild", body.model_dump(exclude_defaults=True))


@task_router.post("/events/refresh", status_code=202, response_model=Task, summary="Make tables of new events")
async def refresh(context: Contextual, _permit: MayAdminister) -> Response:
    """As shelfwise events refresh does."""
    return await _add_task(context, "refresh", {})


@task_router.post("/learn", status_code=202, response_model=Task, summary="Learn from what shoppers did")
async def learn(context: Contextual, _permit: MayAdminister, body: LearnBody) -> Response:
    """As shelfwise learn does: a ranker that is better than the one that serves is taken up when it is published."""
    return await _add_task(context, "learn", body.model_dump(exclude_none=True))


@task_router.post("/events/forget", status_code=202, response_model=Task, summary="Forget a shopper")
async def forget(context: Contextual, _permit: MayAdminister, body: ForgetBody) -> Response:
    """Out of every file, and proved: the task's result says what was removed, and that nothing is left. The name is
    written nowhere."""
    pseudonyms = await context.threads.run(lambda: context.engine.pseudonyms_of(body.shopper))
    return await _add_task(context, "forget", {"pseudonyms": pseudonyms})


async def _add_task(context: ServiceContext, kind: str, arguments: Mapping[str, Any]) -> Response:
    made = await context.threads.run(lambda: context.tasks.add(kind, arguments))
    headers = {"Location": f"/v1/tasks/{made.id}", "Cache-Control": "no-store"}
    return Response(encode(made), 202, headers, "application/json")
