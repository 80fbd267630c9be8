"""Routes of administration: versions, models, reports, settings and tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from fastapi import APIRouter, Path, Request, Response

from rerank.model_store import list_models
from rerank.ranker.spec import ranker_store
from rerank.user_tower.files import USER_TOWERS, user_tower_store
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
    json_response,
    tagged_response,
)
from service.http.tasks import Task, feed_paths
from service.reports.events import stored_report
from service.settings import SettingDescription, SettingSections

store_router = APIRouter(prefix="/v1", tags=["store"], responses=RESPONSES)
settings_router = APIRouter(prefix="/v1/settings", tags=["store"])
task_router = APIRouter(prefix="/v1", tags=["tasks"], responses=RESPONSES)

Document = dict[str, Any]
_SETTINGS_EXAMPLE = {
    "service": {
        "port": {
            "value": 8081,
            "default": 8080,
            "source": "environment",
            "is_secret": False,
            "variable": "SHELFWISE_SERVICE__PORT",
            "description": "the port; 0 takes a free one",
        }
    },
    "elasticsearch": {
        "url": {
            "value": ["https://***@search-1.example:9200"],
            "default": [],
            "source": "file",
            "is_secret": False,
            "variable": "SHELFWISE_ELASTICSEARCH__URL",
            "description": "addresses of the cluster",
        }
    },
}
_SETTINGS_RESPONSES: dict[int | str, dict[str, Any]] = {
    **RESPONSES,
    200: {"description": "The settings by section.", "content": {"application/json": {"example": _SETTINGS_EXAMPLE}}},
    304: {"description": "The client has the current settings."},
}


@store_router.get("/versions", response_model=list[Document], summary="The published versions")
async def versions(context: Contextual, _permit: MayAdminister) -> Response:
    """The content and the changes of each version, oldest first, and which one serves."""
    return await context.respond(lambda: list_versions(Store(context.engine.root)))


@store_router.post("/versions/rollback", response_model=Document, summary="Serve an earlier version")
async def rollback_version(context: Contextual, _permit: MayAdminister, body: RollbackBody) -> Response:
    """The named version, or the newest complete one before the current; 409 during a rebuild."""

    def run() -> object:
        store = Store(context.engine.root)
        with store.lock("rollback"), cluster_versions(store) as cluster:
            done = roll_back(store, body.name, cluster)
        context.engine.refresh()
        return done

    return await context.respond(run)


@store_router.get("/models", response_model=Document, summary="The rankers and user towers")
async def models(context: Contextual, _permit: MayAdminister) -> Response:
    """The evaluation of each model, and which one serves."""

    def run() -> Document:
        snapshot, root = context.engine.snapshot, context.engine.root
        encoding = encoding_of(snapshot)
        rankers: Document = list_models(ranker_store(root), encoding).to_document("rankers")
        return rankers | {"user_towers": list_models(user_tower_store(root), encoding).to_document("towers")}

    return await context.respond(run)


@store_router.post("/models/rollback", response_model=Document, summary="Serve an earlier ranker or user tower")
async def rollback_model(context: Contextual, _permit: MayAdminister, body: RollbackBody) -> Response:
    """The named model, or the newest usable ranker before the current one."""

    def run() -> Document:
        if USER_TOWERS.is_name(body.name):
            towers = user_tower_store(context.engine.root)
            rolled_back = towers.rollback(body.name, encoding_of(context.engine.snapshot))
            context.engine.reload_if_changed()
            return {"before": rolled_back.previous, "tower": rolled_back.model.name}
        registry = ranker_store(context.engine.root)
        done = registry.rollback(body.name, encoding_of(context.engine.snapshot))
        context.engine.reload_if_changed()
        return {"before": done.previous, "ranker": done.model.name, "passed_over": done.passed_over}

    return await context.respond(run)


@store_router.get("/reports/events", response_model=Document, summary="Report of shoppers' events")
async def events_report(context: Contextual, _permit: MayAdminister) -> Response:
    """The report on the tables that shelfwise events refresh made last."""
    return await context.respond(lambda: stored_report(context.engine.root))


@settings_router.get(
    "",
    response_model=dict[str, dict[str, SettingDescription]],
    responses=_SETTINGS_RESPONSES,
    summary="The settings of the service",
)
async def settings(request: Request, _permit: MayAdminister) -> Response:
    """The value, default and source of each setting, read at start. Secrets are not shown."""
    sections: SettingSections = request.app.state.settings
    return tagged_response(request, sections)


@settings_router.api_route("", methods=["PUT", "PATCH", "POST", "DELETE"], response_model=None, include_in_schema=False)
async def change(_permit: MayAdminister) -> NoReturn:
    """Raises RequestError (405)."""
    raise RequestError(
        405,
        "settings are read when the service starts: change shelfwise.toml, or the environment, and start it again; "
        "GET shows what each of them is called there",
        allow="GET",
    )


@task_router.get("/tasks", response_model=list[Task], summary="The last tasks")
async def tasks(context: Contextual, _permit: MayAdminister) -> Response:
    """The tasks, newest first."""
    return await context.respond(context.tasks.queue.list)


@task_router.get("/tasks/{task_id}", response_model=Task, summary="One task")
async def task(context: Contextual, _permit: MayAdminister, task_id: str = Path(max_length=100)) -> Response:
    """The state and the result of a task."""
    return await context.respond(lambda: context.tasks.queue.get(task_id))


@task_router.post("/rebuild", status_code=202, response_model=Task, summary="Rebuild the index from feeds")
async def rebuild(context: Contextual, _permit: MayAdminister, body: RebuildBody) -> Response:
    """Reads feeds of the folder that service.feeds names; the new version serves as soon as it is published."""
    feed_paths(body.feeds, context.tasks.feeds)
    return await _add_task(context, "rebuild", body.model_dump(exclude_defaults=True))


@task_router.post("/events/refresh", status_code=202, response_model=Task, summary="Make tables from new events")
async def refresh(context: Contextual, _permit: MayAdminister) -> Response:
    """Runs shelfwise events refresh."""
    return await _add_task(context, "refresh", {})


@task_router.post("/learn", status_code=202, response_model=Task, summary="Train a ranker on events")
async def learn(context: Contextual, _permit: MayAdminister, body: LearnBody) -> Response:
    """Runs shelfwise learn: a ranker that is better than the current one serves as soon as it is published."""
    return await _add_task(context, "learn", body.model_dump(exclude_none=True))


@task_router.post("/events/forget", status_code=202, response_model=Task, summary="Erase a shopper")
async def forget(context: Contextual, _permit: MayAdminister, body: ForgetBody) -> Response:
    """Erases the shopper from every file and verifies it: the result has the counts. The name is not stored."""
    pseudonyms = await context.threads.run(lambda: context.engine.pseudonyms_of(body.shopper))
    return await _add_task(context, "forget", {"pseudonyms": pseudonyms})


async def _add_task(context: ServiceContext, kind: str, arguments: Mapping[str, Any]) -> Response:
    added = await context.threads.run(lambda: context.tasks.add(kind, arguments))
    response = json_response(added, 202)
    response.headers["Location"] = f"/v1/tasks/{added.id}"
    return response
