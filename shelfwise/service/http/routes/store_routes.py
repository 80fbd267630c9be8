"""Routes of administration: versions, models, reports, settings, keys and tasks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import Annotated, Any

from fastapi import Path, Query, Request, Response

from shelfwise.rerank.expansions import expansion_store
from shelfwise.rerank.model_card import read_card
from shelfwise.rerank.model_store import list_models
from shelfwise.rerank.ranker.spec import RANKERS, ranker_store
from shelfwise.rerank.user_tower.files import user_tower_store
from shelfwise.retrieval.errors import UnknownProductError
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.curation.switches import SwitchedPart
from shelfwise.service.engine.served_models import encoding_of, model_store_of
from shelfwise.service.engine.snapshot import cluster_versions
from shelfwise.service.engine.versions import Rollback, VersionInfo, list_versions, roll_back
from shelfwise.service.http.auth import Permit, Scope, StoredKey, combine_filters, matches_index, new_key
from shelfwise.service.http.context import (
    Contextual,
    Indexes,
    MayAdminister,
    MayAdministerAny,
    MayAdministerService,
    MaySearchAny,
    RequestIndexes,
    ServiceContext,
    WorkerRouter,
)
from shelfwise.service.http.errors import RequestError
from shelfwise.service.http.routes.curation_routes import RevisionResponse
from shelfwise.service.http.schemas import (
    RESPONSES,
    AliasBody,
    ForgetBody,
    KeyBody,
    RebuildBody,
    RequestBody,
    RollbackBody,
    TaskBody,
    encode,
    json_response,
    struct_response,
    tagged_response,
)
from shelfwise.service.http.tasks import CANCELLABLE, Task, feed_paths
from shelfwise.service.reports.analytics import Analytics, analytics
from shelfwise.service.reports.event_report import EventReport, stored_report
from shelfwise.service.settings import SettingDescription, SettingSections, SettingSource

store_router = WorkerRouter(prefix="/v1", tags=["store"], responses=RESPONSES)
index_router = WorkerRouter(prefix="/v1/indexes", tags=["indexes"], responses=RESPONSES)
alias_router = WorkerRouter(prefix="/v1/aliases", tags=["indexes"], responses=RESPONSES)
key_router = WorkerRouter(prefix="/v1/keys", tags=["keys"], responses=RESPONSES)
task_router = WorkerRouter(prefix="/v1", tags=["tasks"], responses=RESPONSES)

Document = dict[str, Any]
AliasName = Annotated[str, Path(max_length=100)]


@store_router.get(
    "/versions",
    response_model=None,
    responses={200: struct_response(list[VersionInfo])},
    summary="The published versions",
)
def versions(context: Contextual, _permit: MayAdminister) -> list[VersionInfo]:
    """The content and changes of each version, oldest first, and the name of the serving version."""
    return list_versions(Store(context.engine.root))


@store_router.post(
    "/versions/rollback",
    response_model=None,
    responses={200: struct_response(Rollback)},
    summary="Serve an earlier version",
)
def rollback_version(context: Contextual, _permit: MayAdminister, body: RollbackBody) -> Rollback:
    """Serves the named version, or the newest complete one before the current; 409 during a rebuild."""
    store = Store(context.engine.root)
    with store.lock("rollback"), cluster_versions(store) as cluster:
        rollback = roll_back(store, body.name, cluster)
    context.engine.refresh()
    return rollback


@store_router.get("/models", summary="The rankers, user towers and expansions")
def models(context: Contextual, _permit: MayAdminister) -> Document:
    """The evaluation of each model, and the names of the serving models."""
    root, encoding = context.engine.root, encoding_of(context.engine.snapshot)
    rankers: Document = list_models(ranker_store(root), encoding).to_document("rankers")
    towers, expansions = (list_models(each(root), encoding) for each in (user_tower_store, expansion_store))
    others = {"user_towers": towers.to_document("towers"), "expansions": expansions.to_document("expansions")}
    return rankers | others


@store_router.get("/models/{name}/card", summary="The card of a model")
def model_card(context: Contextual, _permit: MayAdminister, name: Annotated[str, Path(max_length=100)]) -> Document:
    """The data, options, measures and limits of a model, as Markdown."""
    model = model_store_of(context.engine.root, name).open(name, encoding_of(context.engine.snapshot))
    return {"name": model.name, "card": read_card(model.folder)}


@store_router.post("/models/rollback", summary="Serve an earlier ranker, user tower or expansion")
def rollback_model(context: Contextual, _permit: MayAdminister, body: RollbackBody) -> Document:
    """Serves the named model, or the newest usable ranker before the current one."""
    models = model_store_of(context.engine.root, body.name)
    rollback = models.rollback(body.name, encoding_of(context.engine.snapshot))
    context.engine.reload_if_changed()
    document: Document = {"before": rollback.previous, models.family.noun: rollback.model.name}
    return document | ({"passed_over": rollback.passed_over} if models.family is RANKERS else {})


@store_router.get("/reports/events", summary="Report of shoppers' events")
def events_report(context: Contextual, _permit: MayAdminister) -> EventReport:
    """The report on the tables of the last `shelfwise events refresh`."""
    return stored_report(context.engine.root)


@store_router.get("/reports/analytics", summary="Analytics of a range of days")
def analytics_report(
    context: Contextual,
    _permit: MayAdminister,
    first: Annotated[date | None, Query(alias="from", description="By default 30 days before the last day.")] = None,
    last: Annotated[date | None, Query(alias="to", description="By default the last day of the tables.")] = None,
) -> Analytics:
    """Searches, queries, products and revenue, compared with as many days before, from the tables of the last
    `shelfwise events refresh`. Days are in UTC."""

    def find(product_id: str) -> Product | None:
        with suppress(UnknownProductError):
            return context.engine.product(product_id)
        return None

    return analytics(context.engine.root, find, first, last)


@store_router.get(
    "/settings", response_model=dict[str, dict[str, SettingDescription]], summary="The settings of the service"
)
async def settings(request: Request, _permit: MayAdministerService) -> Response:
    """The value, default and source of each setting, as read at start. Secrets are not shown."""
    sections: SettingSections = request.app.state.settings
    return tagged_response(request, encode(sections))


class SwitchBody(RequestBody):
    """Whether a part of the service is on."""

    on: bool


@store_router.put("/switches/{part}", summary="Switch uploads of feeds or sponsored hits on or off")
def switch(
    request: Request, context: Contextual, permit: MayAdminister, part: SwitchedPart, body: SwitchBody
) -> RevisionResponse:
    """Durable, for all workers. 409 if a setting decides. The history records the key's id."""
    setting: SettingDescription = request.app.state.settings["service"]["feeds"]
    if part is SwitchedPart.FEEDS and setting.source is not SettingSource.DEFAULT:
        message = "the setting service.feeds decides this: change it, or remove it to use the switch"
        raise RequestError(409, message, code="decided_by_setting")
    return RevisionResponse(context.engine.switches.put(part, on=body.on, who=permit.id))


@dataclass(frozen=True, slots=True)
class IndexResponse:
    """An index of the service."""

    name: str
    products: int
    """Number of products visible to the key."""
    version: str
    encoder: str
    aliases: tuple[str, ...]
    notices: int
    """Number of problems that do not stop searches."""


@index_router.get("", summary="The indexes")
def list_indexes(indexes: Indexes, permit: MaySearchAny) -> list[IndexResponse]:
    """The indexes that the key may use, by name, without those that cannot be opened now."""
    aliases = _visible_aliases(indexes, permit)
    return [_to_index(each, permit, aliases) for each in indexes.visible(permit)]


def _to_index(context: ServiceContext, permit: Permit, aliases: Mapping[str, str]) -> IndexResponse:
    manifest = context.engine.manifest
    products = context.engine.ids(filters=combine_filters(permit.filters)).total
    own = tuple(sorted(alias for alias, name in aliases.items() if name == context.name))
    return IndexResponse(context.name, products, manifest.version, manifest.encoder_name, own, len(context.notices))


def _visible_aliases(indexes: RequestIndexes, permit: Permit) -> Mapping[str, str]:
    aliases = indexes.registry.aliases
    return {each: name for each, name in (aliases.all() if aliases else {}).items() if permit.sees(each, name)}


@alias_router.get("", summary="The aliases")
def list_aliases(indexes: Indexes, permit: MayAdministerAny) -> dict[str, str]:
    """The name of the index of each alias that the key may use."""
    return dict(_visible_aliases(indexes, permit))


@alias_router.put("/{alias}", summary="Set an alias")
def set_alias(indexes: Indexes, permit: MayAdministerAny, alias: AliasName, body: AliasBody) -> AliasBody:
    """Requests under the alias use the index from now on; requests in progress keep the index that they have."""
    indexes.set_alias(permit, alias, body.index)
    return body


@alias_router.delete("/{alias}", summary="Delete an alias")
def delete_alias(indexes: Indexes, permit: MayAdministerAny, alias: AliasName) -> AliasBody:
    """Only the alias is deleted; its index stays."""
    name = _visible_aliases(indexes, permit).get(alias)
    if name is None or indexes.registry.aliases is None:
        raise RequestError(404, f"there is no alias {alias[:100]!r}", field="alias")
    indexes.registry.aliases.delete(alias)
    return AliasBody(index=name)


@dataclass(frozen=True, slots=True)
class KeyResponse:
    """A key without its secret."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    indexes: tuple[str, ...]
    """The indexes that it is limited to; empty for all."""
    filters: str
    requests_per_minute: int | None
    created: datetime
    expires: datetime | None
    secured: bool
    """Whether it may be the parent of secured API keys of the InstantSearch protocol."""
    current: bool
    """Whether the request was sent with this key."""
    of_page: bool
    """Whether it is the store page's own key; withdrawing it gives the page another one."""


@dataclass(frozen=True, slots=True)
class CreatedKey(KeyResponse):
    """A new key with its secret, which is sent only in this response."""

    key: str


@key_router.get("", response_model=list[KeyResponse], summary="The API keys")
def keys(indexes: Indexes, permit: MayAdministerService) -> list[KeyResponse]:
    """All keys, oldest first, including expired ones."""
    entries = sorted(indexes.shared.keys.keys().values(), key=lambda each: each.created)
    return [KeyResponse(**_key_facts(each, permit.id)) for each in entries]


@key_router.post("", status_code=201, response_model=CreatedKey, summary="Create an API key")
def create_key(indexes: Indexes, permit: MayAdministerService, body: KeyBody) -> Response:
    """The service accepts the key at once. From the first one on, each request needs a key; the store
    page gets its own."""
    now = datetime.now(UTC)
    if body.expires is not None and body.expires <= now:
        raise RequestError(400, "expires is in the past; give a future time", field="expires")
    for each in indexes.registry.opened:
        if not body.indexes or any(matches_index(pattern, each.name) for pattern in body.indexes):
            each.engine.visible(body.filters)
    key, entry = new_key(
        body.name,
        tuple(dict.fromkeys(body.scopes)),
        now=now,
        expires=body.expires,
        filters=body.filters,
        requests_per_minute=body.requests_per_minute,
        indexes=tuple(dict.fromkeys(body.indexes)),
    )
    entry = indexes.shared.keys.as_parent(key, entry) if body.secured else entry
    indexes.shared.keys.add(entry)
    return json_response(CreatedKey(**_key_facts(entry, permit.id), key=key), 201)


@key_router.delete("/{key_id}", summary="Withdraw an API key")
def withdraw_key(indexes: Indexes, permit: MayAdministerService, key_id: str = Path(max_length=100)) -> KeyResponse:
    """The key is invalid within a second, as are keys narrowed from it. The last admin key cannot be withdrawn."""
    if indexes.shared.keys.keys().get(key_id) is None:
        raise RequestError(404, f"there is no key {key_id!r}", code="unknown_key")
    return KeyResponse(**_key_facts(indexes.shared.keys.withdraw(key_id, keeps_admin=True), permit.id))


def _key_facts(entry: StoredKey, current: str) -> dict[str, Any]:
    names = (each.name for each in fields(KeyResponse) if each.name not in ("current", "of_page"))
    own = {"current": entry.id == current, "of_page": bool(entry.page_key)}
    return {name: getattr(entry, name) for name in names} | own


@task_router.get("/tasks", response_model=list[Task], summary="The last tasks")
def tasks(context: Contextual, _permit: MayAdminister) -> tuple[Task, ...]:
    """The tasks, newest first."""
    return context.tasks.queue.list()


@task_router.get("/tasks/{task_id}", summary="One task")
def task(context: Contextual, _permit: MayAdminister, task_id: str = Path(max_length=100)) -> Task:
    """The state and the result of a task."""
    return context.tasks.queue.get(task_id)


@task_router.post("/tasks/{task_id}/cancel", summary="Cancel a task")
def cancel_task(context: Contextual, _permit: MayAdminister, task_id: str = Path(max_length=100)) -> Task:
    """Cancels a rebuild, a refresh or learning. What serves is unchanged, and the next such task continues the work."""
    queue = context.tasks.queue
    task = queue.get(task_id)
    if task.kind not in CANCELLABLE:
        raise RequestError(409, f"a task of kind {task.kind} cannot be cancelled")
    if not queue.cancel(task_id):
        raise RequestError(409, f"the task has ended: it is {queue.get(task_id).state}")
    return queue.get(task_id)


@task_router.post("/tasks", status_code=202, response_model=Task, summary="Start a task")
def start_task(context: Contextual, _permit: MayAdminister, body: TaskBody) -> Response:
    """Rebuilds the index from feeds of the folder of feeds, refreshes the derived tables, trains a ranker on events, or
    erases a shopper from every file; the new version or ranker serves as soon as it is published."""
    arguments = body.model_dump(exclude_defaults=True, exclude={"kind"})
    if isinstance(body, RebuildBody):
        feed_paths(body.feeds, context.feeds())
    if isinstance(body, ForgetBody):
        arguments = {"pseudonyms": context.engine.recorder.pseudonyms_of(body.shopper)}
    task = context.tasks.add(body.kind, arguments)
    response = json_response(task, 202)
    response.headers["Location"] = f"{context.path}/tasks/{task.id}"
    return response
